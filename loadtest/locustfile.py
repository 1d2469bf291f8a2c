"""The docks of this load test as Locust users: with its web page, headless, or on many machines.

    locust -f loadtest/locustfile.py --service data/dev.json
    locust -f loadtest/locustfile.py --service data/dev.json --headless -u 500 -r 50 -t 60s
    locust -f loadtest/locustfile.py --service dev.json --master   (and --worker on each machine)

Each user is one dock on its own connection: it brings a clip, waits until the clip is released,
checks the receipt, rests, and brings the next. The behaviour is loadtest/dock.py, as in
`make load`; the user is a custom one on a plain socket, because Locust's FastHttpUser loses its
connections above about 1,000 users a process. Bytes, retries, resumes and receipts are summed over
all workers: at the end on the terminal, and meanwhile at /docks of the web page.

Locust is closed-loop and counts from when a request is sent; `make load` counts from when it was
meant to be sent. Use Locust for load from many machines, `make load` for the verdict.
"""

import itertools
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from locust import User, between, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtest.dock import NO_ANSWER, Ask, Connect, Dock, HangUp, Rest, Step, WaitUntil
from loadtest.faults import Shares, deal_temper
from loadtest.link import Answer, LinkBroken
from loadtest.own_stack import wire_of
from loadtest.pace import Visit
from loadtest.plain_link import PlainLink
from loadtest.receipt_check import ReceiptCheck
from loadtest.reel import Reel
from loadtest.tally import Tally

_TIMEOUT_S: Final = 120.0
_RUN: Final = f"locust-{secrets.token_hex(4)}"
_NOW: Final = Visit(0.0, 0.0)
_numbers: Final[Iterator[int]] = itertools.count()
_tally: Final = Tally()
# What workers have reported to the master so far; without workers, nothing.
_reported: Final[Counter[str]] = Counter()


def add_arguments(parser: LocustArgumentParser) -> None:
    """Add what docks need to know."""
    group = parser.add_argument_group("docks")
    group.add_argument(
        "--service",
        default="data/dev.json",
        env_var="INGEST_LOAD_SERVICE",
        help="dev.json of `ingest dev`, or a file with base_url, log_verifier_key and tokens",
    )
    group.add_argument("--clip-kib", type=int, default=256, help="size of a clip")
    group.add_argument("--tus-share", type=float, default=0.25, help="of docks that speak tus")
    group.add_argument("--cut-share", type=float, default=0.1, help="of clips cut and resumed")
    group.add_argument("--repeated-share", type=float, default=0.05, help="of clips sent twice")
    group.add_argument("--clock-share", type=float, default=0.1, help="of cameras with bad clocks")


class DockUser(User):
    """One dock with one camera after the other."""

    wait_time = between(0.5, 2.0)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        options: Any = environment.parsed_options
        facts = json.loads(Path(options.service).read_text())
        self._wire = wire_of(facts)
        self._check = ReceiptCheck(facts["log_verifier_key"])
        self._clip_bytes: int = options.clip_kib * 1024
        self._shares = Shares(
            options.tus_share, options.cut_share, options.repeated_share, options.clock_share
        )
        self._serial = f"BWC-L{secrets.token_hex(5)}"
        self._link: PlainLink | None = None

    def on_stop(self) -> None:
        """Hang up."""
        self._hang_up()

    def visit(self) -> None:
        """Bring one clip and see it released."""
        number, began = next(_numbers), time.perf_counter()
        seeded = random.Random(f"{_RUN}/{number}")
        dock = Dock(
            wire=self._wire,
            serial=self._serial,
            reels=[Reel(_RUN, number, self._clip_bytes)],
            temper=deal_temper(self._shares, seeded),
            plan=_NOW,
            tally=_tally,
            check=self._check,
            seeded=seeded,
            clock=lambda: time.perf_counter() - began,
        )
        steps = dock.visit()
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._do(step)
                except LinkBroken as broken:
                    self._hang_up()
                    step = steps.throw(broken)
                else:
                    step = steps.send(answer)
        except StopIteration:
            pass
        failures = [outcome.failure for outcome in dock.outcomes if outcome.failure]
        self._fire("clip secured", began, self._clip_bytes, failures[0] if failures else None)

    tasks = [visit]  # noqa: RUF012 - Locust's own; @task on it would not be typed

    def _do(self, step: Step) -> Answer:
        match step:
            case Ask():
                return self._ask(step)
            case Connect() if self._link is None:
                self._link = PlainLink(self._wire.host, self._wire.port, timeout_s=_TIMEOUT_S)
                _tally.count("connects")
            case HangUp():
                self._hang_up()
            case Rest(seconds):
                time.sleep(seconds)
            case Connect() | WaitUntil():
                pass
        return NO_ANSWER

    def _ask(self, ask: Ask) -> Answer:
        if self._link is None:
            message = "no connection"
            raise LinkBroken(message)
        if ask.cut_after is not None:
            self._link.send_in_part(
                ask.head, ask.body, body_bytes=ask.cut_after, is_rude=ask.is_rude
            )
            self._link = None
            return NO_ANSWER
        began = time.perf_counter()
        try:
            answer = self._link.ask(ask.head, ask.body)
        except LinkBroken as broken:
            self._fire(ask.name, began, 0, str(broken))
            raise
        is_refused = answer.status >= 400  # noqa: PLR2004 - HTTP's own line
        self._fire(ask.name, began, len(answer.body), str(answer.status) if is_refused else None)
        return answer

    def _fire(self, name: str, began: float, length_bytes: int, failure: str | None) -> None:
        self.environment.events.request.fire(
            request_type="dock",
            name=name,
            response_time=1000 * (time.perf_counter() - began),
            response_length=length_bytes,
            exception=None if failure is None else RuntimeError(failure),
            context={},
        )

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def report_counts(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001 - Locust's signature
    """Send what was counted since the last report."""
    data["docks"] = dict(_tally.counts)
    _tally.counts.clear()


def take_counts(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001 - Locust's signature
    """Add what a worker counted."""
    _reported.update(data.get("docks", {}))


def add_page(environment: Environment, **_others: object) -> None:
    """Show the sums at /docks of the web page."""
    if environment.web_ui is not None and environment.web_ui.app is not None:
        environment.web_ui.app.add_url_rule("/docks", "docks", lambda: dict(_sums()))


def tell_sums(environment: Environment, **_others: object) -> None:
    """Print the sums, and fail the command when a clip failed."""
    sums = _sums()
    if sums:
        print("docks:", ", ".join(f"{name} {sums[name]:,}" for name in sorted(sums)))
    if sums["failed"]:
        environment.process_exit_code = 1


def _sums() -> Counter[str]:
    return _reported + _tally.counts


events.init_command_line_parser.add_listener(add_arguments)  # type: ignore[no-untyped-call]  # Locust's
events.report_to_master.add_listener(report_counts)  # type: ignore[no-untyped-call]  # Locust's
events.worker_report.add_listener(take_counts)  # type: ignore[no-untyped-call]  # Locust's
events.init.add_listener(add_page)  # type: ignore[no-untyped-call]  # Locust's
events.quitting.add_listener(tell_sums)  # type: ignore[no-untyped-call]  # Locust's
