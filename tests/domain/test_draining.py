"""When what happens between the signal and the end of a process."""

import pytest

from ingest_service.domain.draining import Drain, DrainTimes, plan_drain
from ingest_service.errors import ShuttingDown


class Body:
    def __init__(self):
        self.reasons = []

    def interrupt(self, reason):
        self.reasons.append(reason)


@pytest.mark.parametrize("timeout_s", [1, 2, 4, 30, 300])
@pytest.mark.parametrize("notice_s", [0, 1, 20])
def test_each_step_of_the_end_has_its_time_before_the_deadline(timeout_s, notice_s):
    times = DrainTimes.plan(notice_s=notice_s, timeout_s=timeout_s)

    order = [times.refuse_at, times.close_at, times.cut_at, times.cancel_at, times.end_at]
    assert order == sorted(order)
    assert order[-1] == timeout_s
    assert times.close_at < times.cut_at < times.cancel_at < times.end_at
    assert 0 < times.server_patience_s < timeout_s


def test_several_processes_end_before_the_one_that_waits_for_them():
    alone = plan_drain(notice_s=0, timeout_s=30, workers=1)
    one_of_two = plan_drain(notice_s=0, timeout_s=30, workers=2)

    assert one_of_two.end_at < alone.end_at == 30


def test_a_body_that_comes_after_the_cut_is_cut_too():
    drain, early, gone, late, reason = Drain(), Body(), Body(), Body(), ShuttingDown()
    drain.enter(early)
    drain.enter(gone)
    drain.forget(gone)

    assert drain.cut(reason) == 1
    drain.enter(late)

    assert (early.reasons, gone.reasons, late.reasons) == ([reason], [], [reason])
