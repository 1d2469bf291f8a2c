import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from ingest_service.dock.display import BarDisplay, LineDisplay, open_display, printable
from ingest_service.dock.progress import Step

CLIP = Path("/bays/BWC-1/[bold]clip.mp4")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_bars():
    with open_display(Terminal()) as display:
        assert isinstance(display, BarDisplay)


def test_a_pipe_gets_lines():
    with open_display(io.StringIO()) as display:
        assert isinstance(display, LineDisplay)


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_every_stage_of_a_clip_can_be_shown(stream):
    with open_display(stream) as display:
        display.observe(Step(CLIP, "hashing", 5, 10))
        display.observe(Step(CLIP, "announced", 0, 10, "clip x"))
        display.observe(Step(CLIP, "sending", 5, 10))
        display.observe(Step(CLIP, "waiting", 5, 10, "busy [red]"))
        display.observe(Step(CLIP, "done", 10, 10, "secured"))

    assert "[bold]clip.mp4: secured" in stream.getvalue().replace("done: ", "")


def test_lines_tell_news_and_do_not_repeat_themselves():
    stream = io.StringIO()
    display = LineDisplay(Console(file=stream))

    for done_bytes in range(1_000):
        display.observe(Step(CLIP, "sending", done_bytes, 1_000))

    assert stream.getvalue().count("sending") == 1


def test_a_name_that_no_output_can_carry_is_made_printable():
    path = Path(os.fsdecode(b"caf\xe9\n\x1b[31m.mp4"))

    assert printable(path).encode("utf-8")
    assert printable(path).isprintable()
