"""Who may do what: reads the table, and shows it in docs/authorisation.md.

Run: python -m tests.api.authorisation --write
"""

import sys
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("authorisation.txt")
DOCUMENT = Path(__file__).parents[2] / "docs" / "authorisation.md"
ROLES = ("nobody", "station", "reader", "custodian", "discloser", "auditor", "operator")
RULES = {
    "public": "everybody is answered, and nothing is asked of anybody",
    "same": "nothing of it is of a borough or of a station",
    "hidden": "things of other boroughs, and uploads of other stations, do not exist: 404",
    "part": "shows and takes only what is of one's boroughs",
    "owner": "shows only what the same principal has made; a token without a limit sees all",
    "force": "is of the whole force: a token that is limited to boroughs is refused",
}
_BEGIN, _END = "<!-- table -->\n", "<!-- /table -->\n"


@dataclass(frozen=True, slots=True)
class Row:
    """What is promised of one route; admitted: the roles that are let in."""

    method: str
    path: str
    rule: str
    admitted: frozenset[str]


def read_rows() -> list[Row]:
    lines = [
        line.split() for line in TABLE.read_text().splitlines() if line and not line.startswith("#")
    ]
    assert lines[0] == ["method", "path", "rule", *ROLES]
    rows = []
    for method, path, rule, *cells in lines[1:]:
        assert rule in RULES, rule
        assert len(cells) == len(ROLES), (method, path)
        assert set(cells) <= {"x", "-"}, (method, path)
        admitted = frozenset(role for role, cell in zip(ROLES, cells, strict=True) if cell == "x")
        rows.append(Row(method, path, rule, admitted))
    return rows


def show_table() -> str:
    """Return the table as Markdown."""
    head = ["route", "rule", *ROLES]
    lines = [head, ["---", "---", *(":-:" for _ in ROLES)]]
    lines += [
        [
            f"`{row.method} {row.path.replace(':path', '')}`",
            row.rule,
            *("yes" if role in row.admitted else "" for role in ROLES),
        ]
        for row in read_rows()
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def fill(document: str) -> str:
    """Return the document with the table in its place."""
    before, rest = document.split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}{show_table()}{_END}{after}"


def main() -> None:
    filled = fill(DOCUMENT.read_text())
    if "--write" in sys.argv:
        DOCUMENT.write_text(filled)
    else:
        sys.stdout.write(filled)


if __name__ == "__main__":
    main()
