"""Children never outlive the one who started them, and only our own are ended."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ingest_service.dev.process import Child, StartFailed, end_leftover

SLEEPER = "import time; time.sleep(60)"


def make_child(folder: Path, *command: str) -> Child:
    return Child(
        "sleeper",
        command or (sys.executable, "-X", f"mark={folder}", "-c", SLEEPER),
        environment=dict(os.environ),
        log_file=folder / "sleeper.log",
        pid_file=folder / "sleeper.pid",
    )


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


def test_stop_ends_the_child_and_forgets_its_pid(tmp_path: Path) -> None:
    child = make_child(tmp_path)
    child.start()
    pid = child.pid
    assert pid is not None

    child.stop(grace_s=5)

    assert (is_running(pid), child.pid, (tmp_path / "sleeper.pid").exists()) == (False, None, False)


def test_child_that_ignores_the_stop_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    stubborn = (
        f"import signal; signal.signal(15, signal.SIG_IGN); print('set', flush=True); {SLEEPER}"
    )
    child = make_child(tmp_path, sys.executable, "-c", stubborn)
    child.start()
    while "set" not in child.last_lines():
        time.sleep(0.02)

    child.stop(grace_s=0.2)

    assert not child.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            import os, sys, time
            from pathlib import Path
            from ingest_service.dev.process import Child
            Child("sleeper", [sys.executable, "-c", {SLEEPER!r}], environment=dict(os.environ),
                  log_file=None, pid_file=Path({str(tmp_path / "sleeper.pid")!r})).start()
            time.sleep(60)
        """)],
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    pid_file = tmp_path / "sleeper.pid"
    while not pid_file.exists() or not pid_file.read_text(encoding="ascii"):
        time.sleep(0.02)
    child_pid = int(pid_file.read_text(encoding="ascii"))

    parent.kill()
    parent.wait()

    assert wait_until_gone(child_pid)


def test_leftover_of_an_earlier_run_is_ended(tmp_path: Path) -> None:
    child = make_child(tmp_path)
    child.start()
    pid = child.pid
    assert pid is not None

    end_leftover(
        tmp_path / "sleeper.pid", f"mark={tmp_path}", name="it", stop_signal=signal.SIGTERM
    )

    is_gone = not is_running(pid)
    child.kill()
    assert is_gone


def test_process_that_took_over_a_pid_is_left_alone(tmp_path: Path) -> None:
    child = make_child(tmp_path)
    child.start()

    end_leftover(
        tmp_path / "sleeper.pid", "mark=/somewhere/else", name="it", stop_signal=signal.SIGTERM
    )

    assert child.is_alive()
    child.kill()


def test_failure_shows_the_end_of_the_log(tmp_path: Path) -> None:
    child = make_child(tmp_path, sys.executable, "-c", "print('no such bucket')")
    child.start()
    while child.is_alive():
        time.sleep(0.02)

    assert "no such bucket" in child.failure("did not start")


def test_missing_program_is_a_clear_error(tmp_path: Path) -> None:
    child = make_child(tmp_path, str(tmp_path / "absent"))

    # With a launcher in between, the launcher starts and says so itself.
    try:
        child.start()
    except StartFailed as error:
        said = str(error)
    else:
        while child.is_alive():
            time.sleep(0.02)
        said = child.failure("did not start")

    assert "absent" in said
