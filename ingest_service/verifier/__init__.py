"""Offline checks of what the service gave out: no ledger, no vault, no network."""
