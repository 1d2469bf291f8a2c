"""A witness: what a second party runs, to cosign only one history of each log."""
