"""Exit 0 if another interpreter of this very version (3.11, say) needs a seventh less CPU, else 1.

is_quicker.py PYTHON
"""

import subprocess
import sys

SAMPLE = """
import sys, time

def work():
    known = {}
    for number in range(20_000):
        known[number % 1000] = [str(number), (number,)]
    return len(known)

times = []
for _ in range(15):
    started = time.process_time()
    work()
    times.append(time.process_time() - started)
print(*sys.version_info[:2], min(times))
"""


def measure(python: str) -> tuple[tuple[str, str], float]:
    """Return (version, CPU-seconds) of the sample."""
    told = subprocess.run(  # noqa: S603 - two interpreters, ours
        [python, "-c", SAMPLE], capture_output=True, check=True, text=True
    )
    major, minor, seconds = told.stdout.split()
    return (major, minor), float(seconds)


def main() -> int:
    """Compare."""
    try:
        # In turns: a machine that others use is at times half as quick, for a second or so.
        turns = [(measure(sys.executable), measure(sys.argv[1])) for _ in range(8)]
    except (OSError, ValueError, subprocess.CalledProcessError):
        return 1
    (version, _), (other_version, _) = turns[0]
    seconds = min(mine for (_, mine), _ in turns)
    other_seconds = min(theirs for _, (_, theirs) in turns)
    return 0 if other_version == version and other_seconds < 0.85 * seconds else 1


sys.exit(main())
