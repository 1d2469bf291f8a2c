"""A year in the life of the service, and what must hold after it: `python -m loadtest.year`.

The year itself uses the service's own actions, so it lives beside them (`ingest_service/dev/year`);
here it is only started, in a process of its own. `--help` tells of the options.
"""

import subprocess
import sys


def main() -> int:
    """Start the year with this command's arguments; return its status."""
    command = [sys.executable, "-m", "ingest_service.dev.year", *sys.argv[1:]]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
