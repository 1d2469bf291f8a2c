"""Outsiders who attest what the log was: witnesses."""
