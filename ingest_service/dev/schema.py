"""The ledger's schema as one text: what `schemas/ledger.sql` holds.

`python -m ingest_service.dev.schema` prints it, migrated into an empty Postgres just now.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.ledger.migrations import migrate

_HEADING: Final = "-- The ledger after all migrations. Made by `make schema`; a test compares it.\n"


def read_schema(postgres: EmbeddedPostgres, database: str) -> str:
    """Return a database's schema without what differs between runs or versions of pg_dump.

    Raises:
        StartFailed: pg_dump failed.
    """
    kept: list[str] = []
    for line in postgres.dump_schema(database).splitlines():
        if line.startswith(("--", "SET ", "SELECT pg_catalog.set_config", "\\")):
            continue
        if line or (kept and kept[-1]):
            kept.append(line)
    return _HEADING + "\n".join(kept).rstrip() + "\n"


def main() -> None:
    """Print the schema that all migrations make."""
    with tempfile.TemporaryDirectory(prefix="ingest-schema-") as folder:
        postgres = EmbeddedPostgres(Path(folder), is_durable=False)
        postgres.start()
        try:
            postgres.make_database()
            migrate(postgres.owner_dsn())
            sys.stdout.write(read_schema(postgres, "ingest"))
        finally:
            postgres.stop()


if __name__ == "__main__":
    main()
