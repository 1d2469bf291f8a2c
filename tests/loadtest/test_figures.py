"""What the harness counts, plans and reports."""

import random
import re

import pytest

from loadtest.charts import Line, draw_chart
from loadtest.compare import compare_runs, load_run
from loadtest.docs_block import write_block
from loadtest.fleet import make_reels
from loadtest.footage import PATTERN_BYTES
from loadtest.judge import Heard, _find_invalid
from loadtest.pace import (
    arrive_and_send,
    arrive_then_send,
    day_of_shifts,
    outage,
    spread_sizes,
    steady,
)
from loadtest.reel import Reel
from loadtest.scenarios import SCENARIOS
from loadtest.table import make_rows
from loadtest.tally import Tally, describe


def test_footage_is_the_same_from_anywhere():
    reel = Reel("run", 3, 2 * PATTERN_BYTES + 5000)
    whole = b"".join(reel.blocks(0, reel.size_bytes))

    assert len(whole) == reel.size_bytes
    for start, stop in ((0, 40), (31, 33), (PATTERN_BYTES - 7, PATTERN_BYTES + 9), (5, 9_000_000)):
        assert b"".join(reel.blocks(start, stop)) == whole[start:stop]


def test_no_two_clips_share_a_stretch():
    first, second = (b"".join(Reel("run", n, 100_000).blocks(0, 100_000)) for n in (1, 2))

    assert not {first[i : i + 16] for i in range(0, 99_984, 16)} & {
        second[i : i + 16] for i in range(99_984)
    }


def test_first_wrong_byte_is_named():
    reel = Reel("run", 1, 20_000_000)
    stretch = bytearray(b"".join(reel.blocks(8_000_000, 9_000_000)))
    stretch[500_000] ^= 1

    assert reel.find_difference(8_000_000, bytes(stretch)) == 8_500_000


def test_stall_shows_in_response_times_though_not_in_service_times():
    tally = Tally()
    for index in range(100):
        tally.time("chunk", 0.001, 0.001 + max(0.0, 2.0 - 0.1 * index))

    assert describe(tally.service["chunk"])["p99_ms"] < 2
    assert describe(tally.response["chunk"])["p99_ms"] > 1800


def test_tallies_of_several_generators_add_up():
    whole, first, second = Tally(), Tally(), Tally()
    for index in range(1, 1001):
        for tally in (whole, first if index % 3 else second):
            tally.time("chunk", index / 1000, index / 1000)
            tally.count("requests")

    merged = Tally()
    merged.add(first.pack())
    merged.add(second.pack())

    assert merged.counts == whole.counts
    assert describe(merged.response["chunk"]) == describe(whole.response["chunk"])


@pytest.mark.parametrize(
    "pace",
    [
        arrive_then_send(arrive_over_s=10, pause_s=1, send_over_s=20),
        arrive_and_send(arrive_over_s=10, pause_s=1, send_over_s=20),
        outage(arrive_over_s=10, send_over_s=10, at_once=100, return_over_s=60),
        steady(over_s=60),
        day_of_shifts(over_s=240),
    ],
)
def test_plan_is_the_same_in_every_process(pace):
    plans = [pace(1000, random.Random("run/plan")) for _ in range(2)]

    assert plans[0] == plans[1]
    assert len(plans[0]) == 1000
    assert all(visit.sends_at >= visit.arrives_at >= 0 for visit in plans[0])


def test_herd_returns_in_one_instant():
    pace = outage(arrive_over_s=10, send_over_s=10, at_once=150, return_over_s=60)
    returns = sorted(visit.returns_at for visit in pace(1000, random.Random(1)))

    assert returns[149] == returns[0]
    assert 55 < returns[-1] - returns[0] <= 60


def test_day_has_its_peak_after_the_last_shift():
    plan = day_of_shifts(over_s=24.0)(20_000, random.Random(1))
    by_hour = [sum(hour <= visit.arrives_at < hour + 1 for visit in plan) for hour in range(24)]

    assert max(by_hour) == by_hour[23]
    assert by_hour[7] > 5 * by_hour[4]


def test_sizes_have_the_mean_that_was_asked():
    draw, seeded = spread_sizes(1_000_000), random.Random(1)
    sizes = sorted(draw(seeded) for _ in range(20_000))

    assert sum(sizes) / len(sizes) == pytest.approx(1_000_000, rel=0.1)
    assert sizes[10_000] == pytest.approx(500_000, rel=0.1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_device_has_its_own_footage(name):
    scenario = SCENARIOS[name]
    reels = make_reels(name, scenario.knobs, "run")

    numbers = [reel.number for own in reels for reel in own]
    assert len(set(numbers)) == len(numbers) >= scenario.knobs.devices


def test_saturated_generator_makes_the_run_invalid():
    heard = Heard(ticks=[[{"cpu_share": 0.97}] * 20])

    assert "saturated" in _find_invalid(heard)[0]


@pytest.mark.parametrize("count", ["late", "dropped"])
def test_starts_that_did_not_happen_in_time_make_the_run_invalid(count):
    heard = Heard(ticks=[[{"cpu_share": 0.2}] * 20])
    heard.tally.count("starts", 100)
    heard.tally.count(count, 2)

    assert len(_find_invalid(heard)) == 1


def test_chart_needs_nothing_from_elsewhere():
    chart = draw_chart("Clips <&>", "clips", [Line("a", [(0, 0), (5, 7)]), Line("b", [])])

    assert "<script" not in chart
    assert re.findall(r"https?://[^\"]+", chart) == ["http://www.w3.org/2000/svg"]
    assert "Clips &lt;&amp;&gt;" in chart


def test_chart_keeps_the_highest_point():
    points = [(float(at), 1.0) for at in range(5000)]
    points[3333] = (3333.0, 1000.0)

    # The top of the plot: 44 units below the top of the picture.
    assert ",44.0" in draw_chart("t", "u", [Line("a", points)])


def test_comparison_says_what_got_worse():
    latency = {"response": {"chunk": {"p50_ms": 1.0, "p99_ms": 2.0}}}
    before = {"scenario": "fleet", "at": "1", "verdict": "met", "latency": latency}
    before["figures"] = {"mb_per_s": 100.0, "wall_s": 10.0}
    after = before | {"figures": {"mb_per_s": 50.0, "wall_s": 9.0}}

    table = compare_runs(before, after)

    assert list(table.columns[4].cells) == ["", "worse", "better", "", ""]


def test_other_json_is_no_run(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="not the JSON"):
        load_run(tmp_path / "x.json")


# --- the table of runs ---------------------------------------------------------------------


def make_run(*, wall_s=280.0, is_met=True, invalid=()):
    figures = {
        "secured": 21_999,
        "clips_planned": 22_000,
        "wall_s": wall_s,
        "mb_per_s": 1.07,
        "sealed_p50_s": 1.0,
        "sealed_p99_s": 2.0,
        "serve_cpu_ms_per_clip": 7.98,
        "service_rss_max_gib": 0.72,
        "others_cores": 0.07,
        "audit_lost": 1,
        "audit_wrong": 0,
        "audit_bad_receipts": 0,
    }
    goal = {"what": "from first start to last receipt", "figure": wall_s, "limit": 300}
    return {
        "scenario": "fleet",
        "at": "2026-11-23T08:03:24+00:00",
        "command": "python -m loadtest run fleet",
        "machine": "two cores",
        "knobs": {"devices": 22_000},
        "figures": figures,
        "counts": {"requests": 125_198, "retries": 30_234},
        "goals": [goal | {"kind": "at most", "unit": "s", "is_met": is_met}],
        "invalid": list(invalid),
    }


def test_the_table_of_runs_shows_what_was_lost_and_the_command():
    lines = make_rows([make_run()])

    assert "| 21,999 of 22,000 |" in lines[2]
    assert lines[2].endswith("| 1, 0, 0 |")
    assert lines[-1].startswith("- `python -m loadtest run fleet`, 2026-11-23, two cores: 1 of 1")


def test_a_goal_that_was_missed_is_named_under_the_table():
    lines = make_rows([make_run(wall_s=340.2, is_met=False)])

    assert "  - **missed**: from first start to last receipt: 340.20 s, at most 300" in lines


def test_a_run_that_proves_nothing_is_called_so():
    assert "  - **proves nothing**: late" in make_rows([make_run(invalid=["late"])])


def test_a_table_without_its_place_in_the_document_is_not_written(tmp_path):
    document = tmp_path / "performance.md"
    document.write_text("<!-- load:begin -->\nold\n")

    with pytest.raises(ValueError, match="has no"):
        write_block(document, "load", ["new"])
    assert document.read_text() == "<!-- load:begin -->\nold\n"
