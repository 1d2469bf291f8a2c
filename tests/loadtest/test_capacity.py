"""The capacity model must be right about what is known before it is believed about the rest."""

import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from loadtest.capacity.costs import Costs, load_costs, save_costs
from loadtest.capacity.day import CHUNK_MB, Day, Outage, PodLost, Service, simulate
from loadtest.capacity.measure import split
from loadtest.capacity.picture import draw_day
from loadtest.capacity.sizing import size_for
from loadtest.capacity.traffic import HOUR_S, S0, S1, Docking, Fleet, make_day
from loadtest.capacity.truth import compare_to_published, compare_to_run

# A tenth of the fleet on a tenth of the sites: the same day in a tenth of the time.
SMALL_FLEET = replace(S1, devices=2200, sites=16)


@pytest.fixture(scope="module")
def costs() -> Costs:
    return load_costs()


UNBOUND = Service()


def run_day(fleet: Fleet, service: Service = UNBOUND, *events: Outage | PodLost) -> Day:
    return simulate(
        make_day(fleet, seed=1),
        service,
        site_mb_s=fleet.site_mb_s,
        stream_mb_s=fleet.stream_mb_s,
        events=events,
    )


@pytest.mark.parametrize("fleet", [S0, S1], ids=lambda fleet: fleet.name)
def test_simulated_day_agrees_with_the_published_one(fleet: Fleet) -> None:
    day = run_day(fleet)

    assert [each for each in compare_to_published(fleet.name, day) if not each.is_within] == []


def test_every_clip_is_received_and_secured_and_no_byte_twice() -> None:
    clips_mb = [mb for docking in make_day(SMALL_FLEET, seed=1) for mb in docking.clips_mb]

    day = run_day(SMALL_FLEET)

    assert sorted(day.clips_mb) == sorted(clips_mb)
    assert len(day.secured_s) == len(clips_mb)
    assert sum(day.mb_by_minute.values()) == pytest.approx(sum(clips_mb))


def test_camera_sends_no_faster_than_its_port() -> None:
    day = simulate([Docking(0.0, 0, (250.0,))], Service(), site_mb_s=12.5, stream_mb_s=2.5)

    assert day.received_s == [pytest.approx(100.0)]


def test_docks_of_a_site_share_its_uplink() -> None:
    dockings = [Docking(0.0, 0, (125.0,)) for _ in range(10)]

    day = simulate(dockings, Service(), site_mb_s=12.5, stream_mb_s=12.5)

    assert max(day.received_s) == pytest.approx(100.0, rel=0.1)


def test_service_takes_no_more_than_it_can() -> None:
    quiet = run_day(SMALL_FLEET)

    day = run_day(SMALL_FLEET, Service(ingest_mb_s=30.0))

    assert quiet.peak_mb_s > 90.0
    assert day.peak_mb_s < 30.0 * 1.1


def test_lost_pod_costs_each_broken_upload_at_most_one_chunk() -> None:
    day = run_day(SMALL_FLEET, UNBOUND, PodLost(23.2 * HOUR_S, pods=2))

    assert day.breaks > 0
    assert 0 < day.repeated_mb <= day.breaks * CHUNK_MB


def test_nothing_is_received_while_the_service_is_away() -> None:
    away = Outage(22.5 * HOUR_S, 23.5 * HOUR_S)

    day = run_day(SMALL_FLEET, UNBOUND, away)

    assert sum(day.mb_by_minute.get(minute, 0.0) for minute in range(1351, 1410)) == 0
    assert len(day.secured_s) == len(day.clips_mb)


def test_slow_store_delays_receipts_more_than_uploads() -> None:
    quiet = run_day(SMALL_FLEET)
    tight = Service(store_mb_s=1.1 * quiet.peak_mb_s)

    day = run_day(SMALL_FLEET, tight)

    assert sum(day.received_s) < 1.2 * sum(quiet.received_s)
    assert max(day.read_back_s) > 10 * max(quiet.read_back_s)


def test_ten_times_the_fleet_needs_ten_times_the_rates(costs: Costs) -> None:
    day = run_day(SMALL_FLEET)

    one, ten = size_for(day, costs), size_for(day, costs, factor=10)

    assert ten.transactions_per_s == pytest.approx(10 * one.transactions_per_s)
    assert ten.docks == 10 * one.docks


def test_two_runs_tell_the_cost_of_bytes_from_the_cost_of_clips() -> None:
    per_gib, per_clip = 1.2, 0.002
    big = 2 * per_gib + 8 * per_clip
    small = 0.25 * per_gib + 1000 * per_clip

    assert split(big, small, (2, 8), (0.25, 1000)) == pytest.approx((per_gib, per_clip))


def test_measured_costs_survive_their_file(costs: Costs, tmp_path: Any) -> None:
    save_costs(costs, tmp_path / "costs.toml")

    assert load_costs(tmp_path / "costs.toml") == costs


def make_run(costs: Costs, **figures: float) -> dict[str, Any]:
    """A shift run of 300 docks as the model expects it, but for what is told otherwise."""
    knobs = {"devices": 300, "clip_bytes": 1024**2, "over_s": 240.0}
    empty = {
        "failed": 0,
        "clips_planned": 600,
        "bytes_planned": 1,
        "serve_cpu_s": 1.0,
        "sealed_p50_s": 1.0,
        "sealed_p99_s": 1.0,
    }
    series = [{"at": 0.0, "acknowledged_bytes": 0}, {"at": 10.0, "acknowledged_bytes": 1}]
    document = {
        "scenario": "shift",
        "knobs": knobs,
        "figures": empty,
        "series": {"docks": series},
    }
    modelled = {each.what: each.modelled for each in compare_to_run(document, costs, cores=2)}
    series[1]["acknowledged_bytes"] = modelled["peak MB/s over 10 s"] * 10e6
    agreed = {
        "bytes_planned": modelled["GB sent"] * 1e9,
        "serve_cpu_s": modelled["API CPU-s"],
        "sealed_p50_s": modelled["sealed p50, s"],
        "sealed_p99_s": modelled["sealed p99, s"],
    }
    return document | {"figures": empty | agreed | figures}


def test_run_that_costs_twice_what_was_measured_is_told(costs: Costs) -> None:
    agreed = make_run(costs)
    twice = make_run(costs, serve_cpu_s=2 * agreed["figures"]["serve_cpu_s"])

    checks = compare_to_run(twice, costs, cores=2)

    assert [each.what for each in checks if not each.is_within] == ["API CPU-s"]


def test_run_of_another_scenario_proves_nothing(costs: Costs) -> None:
    with pytest.raises(ValueError, match="not a shift run"):
        compare_to_run(make_run(costs) | {"scenario": "peak"}, costs, cores=2)


def test_picture_of_the_day_is_one_self_contained_svg() -> None:
    picture = draw_day("S1", run_day(SMALL_FLEET))

    assert ET.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own
    assert re.findall(r'(?:href|src)="', picture) == []
