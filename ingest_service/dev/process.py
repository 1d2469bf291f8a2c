"""Child processes that never outlive the one who started them."""

import os
import platform
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_IS_LINUX: Final = platform.system() == "Linux"
_POLL_S: Final = 0.02
_KILL_WAIT_S: Final = 5.0
_LOG_TAIL_BYTES: Final = 16 * 1024
_LOG_BYTES_MAX: Final = 16 * 1024 * 1024


class StartFailed(Exception):
    """Something that was to be started did not start; the message says what and what to do."""


@dataclass(slots=True)
class Child:
    """A server run as a child process, writing to a log file.

    On Linux the kernel sends it `death_signal` if this process dies without stopping it; the
    signal is tied to the *thread* that called `start`, so call it in the main thread.

    name          for messages
    command       program and arguments
    environment   the whole environment of the child
    log_file      appended to; None = the output goes where ours goes
    pid_file      where its pid is kept, so that a later run can end what outlived a kill
    is_unprivileged
                  run it as user nobody if we are root (Postgres refuses to run as root)
    stop_signal   asks for an orderly end
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_file: Path | None
    pid_file: Path
    is_unprivileged: bool = False
    stop_signal: signal.Signals = signal.SIGTERM
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        """The child's process id, or None while it does not run."""
        return self._process.pid if self._process is not None and self.is_alive() else None

    def start(self) -> None:
        """Start the child; it has its own session, so a Ctrl-C on the terminal reaches only us.

        Raises:
            StartFailed: the program is missing or may not be run.
        """
        command = [
            *launch_prefix(self.stop_signal, is_unprivileged=self.is_unprivileged),
            *self.command,
        ]
        try:
            if self.log_file is None:
                self._process = self._spawn(command, None)
            else:
                _shorten(self.log_file)
                with self.log_file.open("ab") as log:
                    self._process = self._spawn(command, log.fileno())
        except OSError as error:
            message = f"{self.name} could not be started: {error}"
            raise StartFailed(message) from error
        self.pid_file.write_text(f"{self._process.pid}\n", encoding="ascii")

    def is_alive(self) -> bool:
        """Tell whether the child runs."""
        return self._process is not None and self._process.poll() is None

    def returncode(self) -> int | None:
        """Return how the child ended (negative: by that signal), None if it runs or never ran."""
        return None if self._process is None else self._process.poll()

    def stop(self, *, grace_s: float) -> None:
        """End the child in good order; after `grace_s` seconds end it the hard way."""
        if self._process is None:
            return
        if self.is_alive():
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._ended()

    def kill(self) -> None:
        """End the child at once, as a crash would (SIGKILL)."""
        if self._process is None:
            return
        self._process.kill()
        self._ended()

    def ending(self) -> str:
        """Say how the child ended: by which signal or with which status."""
        code = self.returncode()
        if code is None:
            return "has not ended"
        if code < 0:
            return f"ended by {signal.Signals(-code).name}"
        return f"ended with status {code}"

    def failure(self, what: str) -> str:
        """Return a message that says what went wrong, with the last lines of the child's log."""
        ended = "" if self.returncode() is None else f" (it {self.ending()})"
        if self.log_file is None:
            return f"{self.name} {what}{ended}"
        return f"{self.name} {what}{ended}. The end of {self.log_file}:\n{self.last_lines()}"

    def last_lines(self, count: int = 12) -> str:
        """Return the end of the child's log."""
        if self.log_file is None or not self.log_file.exists():
            return ""
        with self.log_file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _LOG_TAIL_BYTES))
            text = log.read().decode("utf-8", errors="replace")
        return "\n".join(f"  | {line}" for line in text.splitlines()[-count:])

    def _spawn(self, command: list[str], output: int | None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - programs of our own environment, no shell
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def _ended(self) -> None:
        if self._process is not None:
            self._process.wait()
        self._process = None
        self.pid_file.unlink(missing_ok=True)


def launch_prefix(death_signal: signal.Signals, *, is_unprivileged: bool) -> list[str]:
    """Return the words before a command that tie it to us and, for root, drop our rights.

    As root an unprivileged child becomes user nobody. It keeps the one right to pass folders
    that only root may enter, since the environment or the data may live below such a one.

    Raises:
        StartFailed: we are root and `setpriv` (package util-linux) is missing.
    """
    setpriv = shutil.which("setpriv") if _IS_LINUX else None
    must_drop = is_unprivileged and is_root()
    if setpriv is None:
        if must_drop:
            message = (
                "Postgres does not run as root, and 'setpriv' to run it as another user is "
                "missing: install util-linux, or start this as an ordinary user"
            )
            raise StartFailed(message)
        return []
    prefix = [setpriv, "--pdeathsig", death_signal.name.removeprefix("SIG")]
    if must_drop:
        prefix += ["--reuid=nobody", f"--regid={pwd.getpwnam('nobody').pw_gid}", "--clear-groups"]
        if _may_keep_dac_override():
            prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [*prefix, "--"]


def is_root() -> bool:
    """Tell whether this process is root."""
    return os.geteuid() == 0


def end_leftover(
    pid_file: Path, marker: str, *, name: str, stop_signal: signal.Signals, grace_s: float = 10
) -> None:
    """End the child of an earlier run that was killed before it could stop it.

    Only a process whose command line names `marker` (its data folder) is touched: the pid may
    belong to somebody else by now. It has `grace_s` seconds to end in good order.

    Raises:
        StartFailed: the process is not ours to end, or does not end.
    """
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return
    # The kernel told it to stop when its parent died, so it may be on its way out already.
    for step, wait_s in ((stop_signal, grace_s), (signal.SIGKILL, _KILL_WAIT_S)):
        if _is_running(pid, marker):
            _tell(pid, step, name)
        deadline = time.monotonic() + wait_s
        while is_up := _is_running(pid, marker):
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        if not is_up:
            pid_file.unlink(missing_ok=True)
            return
    message = f"{name} of an earlier run (process {pid}) does not end; end it, then start again"
    raise StartFailed(message)


def _tell(pid: int, step: signal.Signals, name: str) -> None:
    try:
        os.kill(pid, step)
    except ProcessLookupError:
        return
    except PermissionError as error:
        message = (
            f"{name} of an earlier run is still up as another user's process {pid}; "
            "stop it as that user"
        )
        raise StartFailed(message) from error


def _is_running(pid: int, marker: str) -> bool:
    # For a moment at its start a process shows no command line: look twice before calling it gone.
    shown = _command_line(pid)
    if not shown:
        time.sleep(_POLL_S)
        shown = _command_line(pid)
    return marker in shown


def _command_line(pid: int) -> str:
    if _IS_LINUX:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", errors="replace")
        except OSError:
            return ""
    listed = subprocess.run(  # noqa: S603 - a number is the only argument
        ["/bin/ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return listed.stdout


def _shorten(log_file: Path) -> None:
    # A log that has grown large over many runs starts anew; the one before is kept.
    if log_file.exists() and log_file.stat().st_size > _LOG_BYTES_MAX:
        log_file.replace(log_file.with_name(f"{log_file.name}.old"))


def _may_keep_dac_override() -> bool:
    # A container may have taken the capability from root; asking for it would then fail.
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    bounding = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    bits = int(bounding.split()[1], 16) & int(effective.split()[1], 16)
    return bool(bits & 0b10)  # CAP_DAC_OVERRIDE is bit 1
