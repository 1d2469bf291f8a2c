"""Tables that a script keeps in a document: between two markers, which stay."""

from collections.abc import Sequence
from pathlib import Path


def write_block(path: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what is between `<!-- name:begin -->` and `<!-- name:end -->`.

    Raises:
        ValueError: the markers are not there; nothing was written.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, has_begin, rest = path.read_text().partition(begin)
    _, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        message = f"{path} has no {begin} ... {end}"
        raise ValueError(message)
    table = "\n".join(lines)
    path.write_text(f"{before}{begin}\n{table}\n{end}{after}")
