"""Evidence ingest for body-worn cameras: from the dock to secured evidence."""

from typing import Final

VERSION: Final = "0.1.0"
