"""`ingest settings-table`: every knob, as the table that the README shows."""

import types
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from ingest_service.cli.startup import EXIT_FAILED, complain
from ingest_service.settings import PREFIX, Settings

BEGIN: Final = "<!-- settings:begin -->"
END: Final = "<!-- settings:end -->"
_MIB: Final = 1024 * 1024
# As `annotated_types` names them, which pydantic keeps in a field's metadata.
_BOUNDS: Final = (
    ("ge", "at least {}"),
    ("gt", "above {}"),
    ("le", "at most {}"),
    ("min_length", "{} characters or more"),
)
_HEAD: Final = "| variable | default | bounds | what for |\n|---|---|---|---|\n"


def settings_table(
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Put the table between the markers of this file."),
    ] = None,
) -> None:
    """Print every INGEST_* variable as a Markdown table.

    The table in the README is this one. Example:

        ingest settings-table --write README.md
    """
    if write is None:
        typer.echo(make_settings_table(), nl=False)
        return
    try:
        text = write.read_text(encoding="utf-8")
        write.write_text(replace_table(text), encoding="utf-8")
    except (OSError, ValueError) as error:
        complain(f"{write}: {error}")
        raise typer.Exit(EXIT_FAILED) from error


def replace_table(text: str) -> str:
    """Return a document with the present table between its markers.

    Raises:
        ValueError: the markers are not there, once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        message = f"it needs one line {BEGIN!r} and, after it, one line {END!r}"
        raise ValueError(message)
    return f"{before}{BEGIN}\n{make_settings_table()}{END}{after}"


def make_settings_table() -> str:
    """Return one row for each setting, in the order in which they are written."""
    rows = [_make_row(name, field) for name, field in Settings.model_fields.items()]
    return _HEAD + "".join(rows)


def _make_row(name: str, field: FieldInfo) -> str:
    cells = (
        f"`{PREFIX}{name.upper()}`",
        _show_default(name, field),
        _show_bounds(field),
        field.description or "",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _show_default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    if field.default is None:
        return "unset"
    return f"`{field.default}`{_explain_bytes(name, field.default)}"


def _explain_bytes(name: str, value: object) -> str:
    if "bytes" not in name or not isinstance(value, int) or value % _MIB:
        return ""
    mib = value // _MIB
    return f" ({mib // 1024} GiB)" if mib % 1024 == 0 else f" ({mib} MiB)"


def _show_bounds(field: FieldInfo) -> str:
    choices = _list_choices(field.annotation)
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    shown: list[str] = []
    for bound in field.metadata:
        found = [
            words.format(getattr(bound, name)) for name, words in _BOUNDS if hasattr(bound, name)
        ]
        if not found:
            # A constraint that is not shown would be a lie by omission.
            message = f"no words for {bound!r}"
            raise ValueError(message)
        shown += found
    return ", ".join(shown)


def _list_choices(annotation: Any) -> tuple[object, ...]:  # noqa: ANN401 - a type as pydantic has it
    origin = get_origin(annotation)
    if origin is Literal:
        return get_args(annotation)
    if origin in {Union, types.UnionType}:
        for member in get_args(annotation):
            if choices := _list_choices(member):
                return choices
    return ()
