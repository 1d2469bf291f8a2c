"""Evidence ingest for body-worn cameras: from the dock to secured evidence."""
