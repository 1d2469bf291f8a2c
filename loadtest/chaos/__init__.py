"""Faults of every kind, by a seed, while docks upload; and a verdict that re-reads everything."""
