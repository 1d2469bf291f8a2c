"""Outsiders who attest what the log was: witnesses and a time authority."""
