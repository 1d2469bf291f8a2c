"""`python -m ingest_service`: the same as the command `ingest`."""

from ingest_service.cli import main

if __name__ == "__main__":
    main()
