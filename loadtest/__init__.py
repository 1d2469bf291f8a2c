"""Load, cost and capacity: the judge, not the judged."""
