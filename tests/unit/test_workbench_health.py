"""Figures of the view Health: intervals as a chart, a canary's bounds, a service's own words."""

import re
from pathlib import Path

import pytest
import yaml

from bento.schemas.responses import Ready
from bento.store.rule_rows import Revision
from bento.workbench.health import canary
from bento.workbench.health.checks import parse_checks
from bento.workbench.health.databases import compare_database
from bento.workbench.health.online import chart_measures
from bento.workbench.health.services import ServiceState, hide_password, read_fallbacks
from bento.workbench.health.whiskers import Interval, draw
from bento.workbench.parts import Missing
from components.registry.online import OnlineMeasure, VersionMeasures
from components.registry.promotion import Move, find_previous

ANALYSIS = Path(__file__).parents[2] / "k8s" / "components" / "canary" / "analysis.yaml"


def test_whiskers_share_one_scale():
    drawn = draw([Interval("2", 5, 0, 10), Interval("1", 10, 10, 10)])
    assert [(one.lower, one.value, one.upper) for one in drawn.rows] == [
        (8.0, 120.0, 232.0),
        (232.0, 232.0, 232.0),
    ]
    assert drawn.zero is None


def test_a_difference_is_drawn_beside_zero():
    drawn = draw([Interval("B", 0.1, 0.05, 0.2)], zero=True)
    assert drawn.zero == 8.0
    assert drawn.rows[0].lower > drawn.zero


def test_values_without_intervals_and_all_alike_are_drawn_too():
    [row] = draw([Interval("1", 0.5, None, None)]).rows
    assert (row.lower, row.upper) == (None, None)
    assert 8 <= row.value <= 232
    assert draw([]).rows == []
    assert draw([Interval("1", 0, 0, 0)]).rows[0].value == pytest.approx(120, abs=1)


def test_measures_are_charted_in_the_order_of_words_versions_newest_first():
    click = OnlineMeasure(0.1, 0.05, 0.15)
    measures = [
        VersionMeasures("2", {}, {"own_measure": OnlineMeasure(3), "click_through": click}),
        VersionMeasures("1", {}, {"click_through": click}),
    ]
    found = chart_measures(measures, [])
    assert [one.words for one in found.charts] == ["Clicks per product seen", "own measure"]
    assert [row.interval.label for row in found.charts[0].whiskers.rows] == ["2", "1"]


def service(**database):
    details = {"database": database} if database else {}
    ready = Ready(status="ready", model_version="7", variant="default", details=details)
    return ServiceState("http://fbt:3000", ready=ready)


OWN = Revision("e", 5, 5)


@pytest.mark.parametrize(
    ("database", "own", "kind", "words"),
    [
        ({"state": "fresh", "revision": 5, "epoch": "e"}, OWN, "good", "the workbench's"),
        ({"state": "fresh", "revision": 5}, OWN, "good", "as the workbench's"),
        ({"state": "fresh", "revision": 4, "epoch": "e"}, OWN, "warn", "revision 4 of 5"),
        ({"state": "fresh", "revision": 6, "epoch": "e"}, OWN, "bad", "not the workbench's"),
        ({"state": "fresh", "revision": 5, "epoch": "f"}, OWN, "bad", "not the workbench's"),
        ({"state": "stale", "revision": 5, "seconds_since_contact": 9}, OWN, "bad", "for 9 s"),
        ({"state": "starting", "revision": None}, OWN, "warn", "not read yet"),
        ({"state": "fresh", "revision": 5}, Missing("database", "gone"), "", "revision 5"),
        ({}, OWN, "warn", "no database"),
    ],
)
def test_a_service_on_another_database_is_warned_of(database, own, kind, words):
    found = compare_database(service(**database), own)
    assert found.kind == kind
    assert words in found.text


def test_fallbacks_are_counted_by_version():
    text = """# TYPE fbt_recommend_requests_total counter
fbt_recommend_requests_total{model_version="7",source="model"} 3.0
fbt_recommend_requests_total{model_version="7",source="bestsellers"} 1.0
fbt_recommend_requests_total{model_version="8",source="model"} 0.0
fbt_recommend_requests_total{model_version="a \\"b\\", c",source="bestsellers"} 2e+00
"""
    found = read_fallbacks(text)
    assert found.keys() == {"7", 'a \\"b\\", c'}
    assert (found["7"].n_answers, found["7"].share) == (4, 0.25)
    assert read_fallbacks("") == {}


def test_a_password_in_an_address_is_not_shown():
    assert hide_password("http://ada:secret@fbt:3000/") == "http://fbt:3000"


GOOD = {"requests": 500.0, "success": 1.0, "p99_s": 0.008, "fallbacks": 0.1}


def states(one, other, *lift):
    return {row.measure: row.state for row in canary.judge(one, other, *(lift or (None, None)))}


def test_an_equal_canary_holds_every_bound():
    found = states(GOOD, GOOD, -0.01, 0.02)
    assert set(found.values()) == {"held"}


@pytest.mark.parametrize(
    ("change", "measure"),
    [
        ({"success": 0.99}, "Answers without error"),
        ({"p99_s": 0.016}, "Latency, p99"),
        ({"fallbacks": 0.16}, "Share of fallbacks"),
    ],
)
def test_a_worse_canary_breaks_its_bound(change, measure):
    found = states({**GOOD, **change}, GOOD, -0.01, 0.02)
    assert [name for name, state in found.items() if state == "broken"] == [measure]


def test_a_slow_stable_version_excuses_no_slow_canary():
    slow = {**GOOD, "p99_s": 0.06}
    assert states(slow, slow)["Latency, p99"] == "broken"


def test_too_few_requests_judge_nothing():
    few = {**GOOD, "requests": 99.0, "success": 0.5}
    assert set(states(few, GOOD).values()) == {"open"}
    none = dict.fromkeys(GOOD)
    assert set(states(none, none).values()) == {"open"}


@pytest.mark.parametrize(
    ("bounds", "state"),
    [((-0.2, -0.06), "broken"), ((-0.2, 0.1), "open"), ((-0.04, 0.1), "held"), ((), "open")],
)
def test_the_bounds_of_clicks_judge_a_canary(bounds, state):
    assert states(GOOD, GOOD, *bounds)["Clicks per list"] == state


def test_bounds_are_those_of_the_canary_analysis():
    text = ANALYSIS.read_text()
    documents = list(yaml.safe_load_all(text))
    given = {one["name"]: one.get("value") for one in documents[0]["spec"]["args"]}
    assert float(given["min-success-rate"]) == canary.MIN_SUCCESS_RATE
    assert float(given["max-latency-ratio"]) == canary.MAX_LATENCY_RATIO
    assert float(given["max-latency"]) == canary.MAX_LATENCY_S
    assert float(given["max-fallback-growth"]) == canary.MAX_FALLBACK_GROWTH
    assert float(given["min-requests"]) == canary.MIN_REQUESTS
    assert float(given["event-margin"]) == canary.EVENT_MARGIN
    assert given["event"] == canary.EVENT
    assert float(re.search(r"\), (0\.\d+)\)\n", text)[1]) == canary.LATENCY_FLOOR_S


def test_checks_of_a_table_are_counted_and_drift_is_taken_out():
    def check(name, passed):
        return {
            "name": name, "title": name.title(), "severity": "warning", "passed": passed,
            "observed": 0.3, "expected": "at most 0.2", "remedy": "Look.", "examples": [],
        }  # fmt: skip

    found = parse_checks({
        "table": "baskets", "first_run": False,
        "checks": [check("rows", True), check("drift_sizes", False), check("drift_products", True)],
    })  # fmt: skip
    assert (found.table, found.n_passed) == ("Baskets", 2)
    assert [one.name for one in found.failed] == ["drift_sizes"]
    assert [one.name for one in found.drift] == ["drift_sizes", "drift_products"]


def test_a_roll_back_returns_to_the_champion_before():
    def moves(*steps):
        return [Move("", to, "", "ann", why) for to, why in reversed(steps)]

    assert find_previous([]) == ""
    assert find_previous(moves(("1", "promoted"))) == ""
    up = [("1", "promoted"), ("2", "promoted"), ("3", "promoted")]
    assert find_previous(moves(*up)) == "2"
    assert find_previous(moves(*up, ("2", "rolled back"))) == "1"
