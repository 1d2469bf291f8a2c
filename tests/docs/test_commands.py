"""Every command that the documents name is there, with the options they give it."""

import functools
import re
import shlex
from pathlib import Path
from typing import Final

import typer
from typer.core import TyperGroup

from ingest_service.cli import app
from tests.docs.documents import ROOT, find_blocks, list_documents, name_of, without_blocks

_CODE: Final = re.compile(r"`([^`\n]+)`")
_SHELLS: Final = ("sh", "bash", "console")
# What may stand before a command: a prompt, variables, how urgent it is, the folder of programs.
_COMMAND: Final = re.compile(
    r"^(?:\$ )?(?:[A-Z_]+=\S* +)*(?:nice(?: -n \d+)? +)?(?:\S*/)?(python|make|ingest) (.+)$"
)
_ENDS: Final = re.compile(r"\s(?:[|>#;]|&&|\|\||\.\.\.).*$|[;&)]+$")
_OPTION: Final = re.compile(r"--[a-z][a-z0-9-]*")
_WORD: Final = re.compile(r"[a-z][a-z-]*")
_TARGETS: Final = re.compile(r"^([a-z]+):", re.MULTILINE)


def list_commands(document: Path) -> list[tuple[str, list[str]]]:
    """Every program of ours that a document runs, and its arguments."""
    blocks = [block for shell in _SHELLS for block in find_blocks(document, shell)]
    lines = [
        *_CODE.findall(without_blocks(document)),
        *(line for block in blocks for line in block.replace("\\\n", " ").splitlines()),
    ]
    # The first line of a signed note is shown with its end, and begins with our name too.
    found = (_COMMAND.match(line.strip()) for line in lines if "\\n" not in line)
    return [(each[1], _split(each[2])) for each in found if each is not None]


def _split(text: str) -> list[str]:
    text = _ENDS.sub("", text)
    try:
        return shlex.split(text)
    except ValueError:  # a quotation that goes on in the next line
        return text.split()


def find_faults(program: str, arguments: list[str]) -> list[str]:
    """Return what is wrong with a command; nothing: it can be typed."""
    if program == "make":
        targets = _TARGETS.findall((ROOT / "Makefile").read_text())
        named = [word for word in arguments if _WORD.fullmatch(word)]
        return [f"make {word}" for word in named if word not in targets]
    if program == "python":
        return _find_faults_of_module(arguments)
    return _find_faults_of_ingest(arguments)


def _find_faults_of_module(arguments: list[str]) -> list[str]:
    name = arguments[1] if arguments[0] == "-m" and len(arguments) > 1 else ""
    if name.partition(".")[0] not in ("ingest_service", "loadtest", "tests", "schemas"):
        return []
    if name == "ingest_service":
        return _find_faults_of_ingest(arguments[2:])
    path = ROOT / name.replace(".", "/")
    starts = [start for start in (path / "__main__.py", path.with_suffix(".py")) if start.exists()]
    if not starts or 'if __name__ == "__main__"' not in starts[0].read_text():
        return [f"python -m {name}"]
    text = starts[0].read_text() + read_tools()
    named = {each for word in arguments for each in _OPTION.findall(word)}
    return [f"python -m {name} {each}" for each in named if f'"{each}"' not in text]


@functools.cache
def read_tools() -> str:
    """What may read a module's options: one beside it, or the one that it starts."""
    folders = ("loadtest", "ingest_service/dev")
    paths = [path for folder in folders for path in sorted((ROOT / folder).glob("**/*.py"))]
    return "\n".join(path.read_text() for path in paths)


read_commands = functools.cache(lambda: typer.main.get_command(app))


def _find_faults_of_ingest(arguments: list[str]) -> list[str]:
    command = read_commands()
    names = ["ingest"]
    for word in arguments:
        if not isinstance(command, TyperGroup) or word.startswith("-"):
            break
        names.append(word)
        inner = command.get_command(typer.Context(command), word)
        if inner is None:
            return [" ".join(names)]
        command = inner
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    given = [word.partition("=")[0] for word in arguments if _OPTION.match(word)]
    return [f"{' '.join(names)} {each}" for each in given if each not in {*known, "--help"}]


def test_every_command_that_is_named_can_be_typed():
    faults = {
        name_of(path): [fault for each in list_commands(path) for fault in find_faults(*each)]
        for path in list_documents()
    }

    assert {name: found for name, found in faults.items() if found} == {}


def test_commands_that_are_not_there_are_found():
    assert find_faults("make", ["yaer", "CLIPS=1"]) == ["make yaer"]
    assert find_faults("python", ["-m", "loadtest.century"]) == ["python -m loadtest.century"]
    assert find_faults("python", ["-m", "loadtest.year", "--clpis", "1"]) != []
    assert find_faults("ingest", ["dock", "downlaod"]) == ["ingest dock downlaod"]
    assert find_faults("ingest", ["serve", "--prot", "1"]) == ["ingest serve --prot"]
    assert find_faults("ingest", ["serve", "--help"]) == []


def test_commands_are_found_in_the_documents():
    found = {program for path in list_documents() for program, _ in list_commands(path)}

    assert found == {"make", "python", "ingest"}
