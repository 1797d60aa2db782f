"""The report of online measures: one page that opens offline and says in words what was found."""

import os
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.contracts import ContractError
from components.online.agreement import MeasuredVersion, OnlineValue, measure_agreement
from components.online.events import open_events
from components.online.propensities import estimate_needed_lists
from components.online.settings import OnlineSettings
from components.registry.online import read_version_measures
from components.registry.registry import get_version, register
from components.report.experiment_chapters import say_lifts
from components.report.formatting import percent
from components.report.online import sort_parts, write_online_report
from components.report.online_chapters import measure_days, sum_small
from components.report.online_page import (
    Bounds,
    Day,
    Difference,
    ExperimentPart,
    HoldoutPart,
    Look,
    OnlinePage,
    Part,
    Place,
)
from components.report.online_plots import draw_days
from pipelines.home import Home
from pipelines.online import PRODUCT_TABLE, OnlineReport, find_products, report_online
from tests.archive import NOON, TODAY, write_archive
from tests.seen import Seen

HOSTILE = "<script>alert(1)</script> \"quoted\" 'single' & $x^2$ 🍌 牛乳 http"
LAST = datetime(2026, 11, 28, 22, tzinfo=UTC)
DAYS = [date(2026, 11, 1) + timedelta(i) for i in range(28)]


def around(mean: float, share: float = 0.1) -> Bounds:
    return Bounds(mean, mean * (1 - share), mean * (1 + share))


def measures(click_through: float) -> dict[str, Bounds]:
    return {
        "click_through": around(click_through),
        "add_rate": around(click_through / 3),
        "purchase_rate": around(click_through / 8, 0.2),
        "revenue_per_1000": around(900 * click_through, 0.3),
        "attach_rate": around(0.12),
        "average_order_value": around(48.2, 0.03),
        "coverage": Bounds(0.31, float("nan"), float("nan")),
        "fallback_share": around(0.02),
    }


def part(label: str, click_through: float, impressions: float = 100_000) -> Part:
    clicks = impressions * click_through
    counts = {
        "sessions": impressions / 8, "impressions": impressions,
        "clicks": clicks, "adds": clicks / 3, "purchases": clicks / 8,
    }  # fmt: skip
    return Part(label, counts, measures(click_through))


def difference(arm: str, measure: str, change: float, verdict: str) -> Difference:
    relative = Bounds(change, change - 0.04, change + 0.04)
    return Difference(arm, measure, 0.05, 0.05 * (1 + change), relative, verdict)


def looks(change: float) -> list[Look]:
    widths = [0.4 / (i + 1) ** 0.6 for i in range(len(DAYS))]
    return [
        Look(day, Bounds(change, change - width, change + width))
        for day, width in zip(DAYS, widths, strict=True)
    ]


def experiment(headline: str = "fresh is better", is_bad: bool = False) -> ExperimentPart:
    return ExperimentPart(
        name="spring", headline=headline, is_bad=is_bad,
        why="Its click-through rate is 12 % higher, and no guardrail is hurt.",
        arms=[("usual", "version 3", 10_020, 10_000), ("fresh", "version 4", 9_980, 10_000)],
        ratio_words="Sessions are split as planned.",
        differences=[difference("fresh", "click-through", 0.12, "better")],
        looks={"fresh": looks(0.12)}, main_measure="click-through",
        guardrails=[("Order value per session", "held", "+0.3 %, at worst −1.1 %.")],
    )  # fmt: skip


def holdout() -> HoldoutPart:
    return HoldoutPart(
        "none", "empty", 1_000, 19_000,
        [difference("fresh", "order value per session", 0.08, "more")],
        "Recommendations add 8 % to the order value",
    )  # fmt: skip


def agreements(n: int):
    versions = [
        MeasuredVersion(
            str(i), {"Excess NDCG, product page": i, "NDCG, product page": -i % 5},
            OnlineValue(i, i - 0.1, i + 0.1),
        )
        for i in range(n)
    ]  # fmt: skip
    return {"click_through": measure_agreement(versions)}


def full_page(**other: object) -> OnlinePage:
    old, new = "usual · version 3", "fresh · version 4"
    days = [
        Day(day, label, measures(rate * (1 + 0.1 * (i % 7 == 5))))
        for i, day in enumerate(DAYS)
        for label, rate in ((old, 0.05), (new, 0.056))
    ]
    places = [
        Place(
            i,
            9_000 - 700 * i,
            around(0.08 * 0.8**i),
            around(0.078, 0.05 + 0.03 * i),
            around(0.8**i),
        )
        for i in range(8)
    ]
    made = OnlinePage(
        made_at=LAST, first=LAST - timedelta(days=27), last=LAST,
        rule="A purchase counts for the last recommendation of the product within 24 hours.",
        counts={"Rows of events": 1_200_000, "Answers in the log": 66_000},
        cleaning=[("Sessions of robots", 1_234), ("Clicks before the list", 0)],
        total=part("All", 0.053, 200_000), groups=[part(old, 0.05), part(new, 0.056)],
        days=days, places=places, place_words="Measured by 4,000 random swaps of neighbours.",
        parts={
            "category": [
                part(f"Category {i}", 0.02 + 0.003 * i, 9_000 - 400 * i) for i in range(20)
            ],
            "context": [part("product_page", 0.05), part("cart", 0.06, 40_000)],
            "source": [part("model", 0.055), part(HOSTILE, 0.01, 100)],
        },
        experiments=[experiment()], holdouts=[holdout()], agreements=agreements(7),
    )  # fmt: skip
    return replace(made, **other)


def empty_page() -> OnlinePage:
    return OnlinePage(
        made_at=LAST, first=None, last=None, rule="", counts={}, cleaning=[],
        total=None,
    )  # fmt: skip


def render(tmp_path: Path, page: OnlinePage) -> Seen:
    write_online_report(page, tmp_path / "online.html")
    return Seen((tmp_path / "online.html").read_text())


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return render(tmp_path_factory.mktemp("online"), full_page())


def test_the_experiment_stands_on_top(seen):
    text = seen.text
    assert "spring: fresh is better" in text[: text.index("Events from")][-300:]
    assert "1 November 2026 to 28 November 2026" in text.replace("\xa0", " ")


def test_every_chapter_has_its_numbers(seen):
    text = seen.text.replace("\u202f", " ").replace("\xa0", " ")
    assert "5.3 %" in text  # click-through of all
    assert "200 000 10 600 5.3 %" in text  # funnel: seen, clicked, share
    assert "+12.0 % +8.0 % to +16.0 %" in text
    assert "Measured by 4,000 random swaps" in text
    assert "Recommendations add 8 % to the order value" in text
    assert "Sessions are split as planned." in text
    assert "Excess NDCG, product page predicts the click-through rate best" in text
    assert "Sessions of robots −1 234" in text
    assert "The other 5" in text  # categories beyond the first fifteen


def test_a_drawing_for_every_chapter(seen):
    labels = [value for name, value in seen.attributes if name == "aria-label"]
    assert len(labels) == 4 + 1 + 3 + 1
    assert all(seen.tags.count("svg") == len(labels) for _ in [0])


def test_the_page_needs_nothing_from_outside(seen):
    assert not {"script", "link", "img", "iframe", "object"} & set(seen.tags)
    for name, value in seen.attributes:
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#"), value
    assert any("default-src 'none'" in value for _, value in seen.attributes)


def test_texts_of_the_shop_are_escaped(seen):
    assert HOSTILE in seen.text


def test_ids_are_unique(seen):
    ids = [value for name, value in seen.attributes if name == "id"]
    assert len(set(ids)) == len(ids)


def test_links_have_targets(seen):
    ids = {value for name, value in seen.attributes if name == "id"}
    links = {v[1:] for name, v in seen.attributes if name == "href" and v.startswith("#")}
    assert links <= ids


def test_nothing_yet_is_said_in_words(tmp_path):
    text = render(tmp_path, empty_page()).text
    assert "No impressions yet" in text
    assert "POST /events" in text
    assert "No experiment ran" in text
    assert "No session was held out" in text
    assert "nan" not in text.lower().split()


def test_one_version_has_nothing_to_compare_with(tmp_path):
    page = full_page(groups=[part("default · version 3", 0.05)], experiments=[], holdouts=[])
    text = render(tmp_path, page).text
    assert "One version served" in text
    assert "No experiment ran" in text


def test_versions_without_an_experiment_are_not_called_comparable(tmp_path):
    text = render(tmp_path, full_page(experiments=[])).text
    assert "not assigned at random" in text


def test_few_versions_do_not_agree_or_disagree(tmp_path):
    assert "too few to tell" in render(tmp_path, full_page(agreements=agreements(3))).text


def test_a_broken_sample_ratio_is_bad_news(tmp_path):
    broken = replace(
        experiment("cannot be read", is_bad=True), ratio_words="Sessions are not split as planned."
    )
    write_online_report(full_page(experiments=[broken]), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert '<div class="verdict bad">' in page
    assert "not split as planned" in page


def test_unknown_positions_and_places_are_said(tmp_path):
    text = render(tmp_path, full_page(places=[], parts={})).text
    assert "No event says at which place" in text
    assert "Nothing to show" in text


# ---------------------------------------------------------------- from events


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Of its own, with one version."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    metrics = {"test.item.model.ndcg.mean": 0.1, "test.cart.model.excess.mean": 0.2}
    return register({"bundle": bundle}, {}, metrics, {"fbt.verdict": "passed"})


LATER = NOON + timedelta(days=3)
"""Every session's window is over."""


def report_on(root, tmp_path, show=lambda _: None, now=LATER, **other) -> Seen:
    page = tmp_path / "online.html"
    report_online(OnlineReport(root, page, now=now, **other), show)
    return Seen(page.read_text())


def test_events_become_a_page_and_measures_of_their_version(tmp_path, registry):
    archive = write_archive(tmp_path / "online", n=200)
    text = report_on(archive, tmp_path, record=True).text.replace("\u202f", " ")
    assert "25 % of the products seen were clicked" in text
    assert "400 100 25 %" in text  # seen, clicked, share
    assert "no neighbours were swapped at random" in text
    assert "1 version with both" in text
    version = get_version(registry)
    assert version.tags["fbt.online_click_through"].startswith("0.25 (")
    assert version.tags["fbt.online_sessions"] == "200"
    assert version.tags["fbt.online_window"] == "2026-11-29 to 2026-11-29"
    [measured] = read_version_measures()
    assert measured.offline == {"NDCG, product page": 0.1, "excess NDCG, cart": 0.2}
    value, lower, upper = measured.online["click_through"]
    assert lower < value == 0.25 < upper


def test_an_experiment_is_read_from_its_file(tmp_path, registry):
    days = [TODAY - timedelta(days=i) for i in range(3)]
    archive = write_archive(
        tmp_path / "online", days, n=400, arms=("usual", "fresh"), experiment="spring"
    )
    file = tmp_path / "spring.json"
    file.write_text('{"name": "spring", "arms": [{"name": "usual"}, {"name": "fresh"}]}')
    text = report_on(archive, tmp_path, experiments=[file]).text
    assert "spring:" in text
    assert "sample ratio is as planned" in text
    assert "No session was held out" in text
    unread = report_on(archive, tmp_path).text
    assert "spring: its file was not given" in unread


def write_experiment(folder: Path, *arms: str) -> Path:
    file = folder / "spring.json"
    file.write_text(f'{{"name": "spring", "arms": [{", ".join(arms)}]}}')
    return file


USUAL, FRESH = '{"name": "usual"}', '{"name": "fresh"}'
NONE = '{"name": "none", "holdout": "empty"}'


def test_open_windows_are_said_on_the_page_and_the_command_line(tmp_path, registry):
    archive = write_archive(
        tmp_path / "online", n=90, arms=("usual", "fresh", "none"), experiment="spring"
    )
    files, said = [write_experiment(tmp_path, USUAL, FRESH, NONE)], []
    soon = NOON + timedelta(hours=3)
    seen = report_on(archive, tmp_path, said.append, soon, experiments=files, record=True)
    text = seen.text.replace("\xa0", " ")
    # The second sessions of the three arms begin within six minutes after noon.
    assert text.count("spring: readable from 30 November 2026, 12:05 UTC") >= 3
    assert "90 sessions are not over" in text
    assert "Events of 29 November 2026, UTC." in text
    [warning] = [one for one in said if one.startswith("warning")]
    assert "90 sessions are not over" in warning
    assert "until 30 November 2026, 13:29 UTC" in warning.replace("\xa0", " ")
    assert "Record them again then" in warning
    said.clear()
    over = report_on(archive, tmp_path, said.append, experiments=files).text
    assert "not over" not in over
    assert not [one for one in said if one.startswith("warning")]


def test_the_window_counts_for_experiments_too(tmp_path, registry):
    archive = write_archive(
        tmp_path / "online", n=90, arms=("usual", "fresh", "none"), experiment="spring"
    )
    files, soon = [write_experiment(tmp_path, USUAL, FRESH, NONE)], NOON + timedelta(hours=3)
    text = report_on(
        archive, tmp_path, now=soon, experiments=files, settings=OnlineSettings(window_h=1)
    ).text
    assert "readable from" not in text
    assert "sample ratio is as planned" in text
    assert "30 sessions of the arm none got no recommendations" in text
    assert "as fbt experiment read says it: " in text


def test_the_control_comes_first(tmp_path, registry):
    archive = write_archive(tmp_path / "online", n=90, arms=("fresh", "usual"), experiment="spring")
    text = report_on(archive, tmp_path, experiments=[write_experiment(tmp_path, USUAL, FRESH)]).text
    assert text.index("usual · version 1") < text.index("fresh · version 1")


def test_too_few_versions_to_agree_are_said_once(tmp_path):
    few = dict.fromkeys(("click_through", "purchase_rate"), agreements(1)["click_through"])
    assert render(tmp_path, full_page(agreements=few)).text.count("1 version with both") == 1


def test_small_categories_are_one_row_at_the_end():
    few = [part("tea", 0.5, 60), part("salt", 0.25, 20)]
    [milk, rest] = sort_parts(sum_small([*few, part("milk", 0.1, 100)], "categories"))
    assert (milk.label, rest.label) == ("milk", "Others: 2 categories")
    assert rest.counts["impressions"] == 80
    assert rest.measures["click_through"].mean == pytest.approx(35 / 80)
    assert sum_small([few[0], milk], "categories") == [few[0], milk]


def test_what_arms_add_is_said_for_each():
    spend = "order value per session"
    unclear = difference("usual", spend, 0.02, "not clear yet")
    more = difference("fresh", spend, 0.168, "more")
    orders = difference("usual", "orders per session", 0.3, "more")
    assert say_lifts([unclear, orders]).endswith("is not clear yet")
    text = say_lifts([unclear, orders, more]).replace("\u202f", " ")
    assert text == (
        "recommendations of fresh add 16.8 % to the order value per session; "
        "of usual it is not clear yet"
    )


def draw_ticks(days: list[date], rate: float) -> tuple[list[str], list[str]]:
    """Of the time and of the rate."""
    shown = [Day(day, "a", {"click_through": around(rate)}) for day in days]
    figure = draw_days(shown, ["a"], "click_through", percent)
    figure.canvas.draw()
    [axes] = figure.axes
    return tuple(
        [one.get_text() for one in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)
    )


def test_ticks_of_time_are_days():
    assert draw_ticks(DAYS[:1], 0.05)[0] == ["1 Nov"]
    assert draw_ticks(DAYS[:3], 0.05)[0] == ["1 Nov", "2 Nov", "3 Nov"]
    assert draw_ticks(DAYS, 0.05)[0] == ["1 Nov", "6 Nov", "11 Nov", "16 Nov", "21 Nov", "26 Nov"]


@pytest.mark.parametrize("rate", [0.5, 0.05, 0.0013, 0.0003])
def test_ticks_of_rates_differ(rate):
    ticks = draw_ticks(DAYS[:3], rate)[1]
    assert len(set(ticks)) == len(ticks) > 2


def test_unsure_places_are_shown_and_said_how_many_lists_they_need(tmp_path):
    rows = [
        {"position": i, "lower": 1.0, "upper": ratio, "n_swapped": n, "n_unswapped": n}
        for i, ratio, n in ((0, 1.0, 0), (1, 2.0, 30), (2, 4.0, 20))
    ]
    assert estimate_needed_lists(pa.Table.from_pylist(rows)) == pytest.approx({1: 100, 2: 400})
    places = [
        Place(0, 900, around(0.1), around(0.1), around(1)),
        Place(1, 900, around(0.05), None, Bounds(0.59, 0.39, 0.89)),
        Place(2, 900, around(0.04), None, None),
    ]
    text = render(tmp_path, full_page(places=places)).text.replace("\u202f", " ")
    assert "59 % unsure 39 %–89 %" in text
    assert "3 900 4.0 % – –" in text


def test_a_thin_day_is_no_point_of_a_line(tmp_path):
    days = [TODAY - timedelta(days=n) for n in (3, 2)]
    write_archive(tmp_path, days, n=40)
    write_archive(tmp_path, [TODAY - timedelta(days=1)], n=2)
    with open_events(tmp_path) as online:
        assert sorted(one.day for one in measure_days(online)) == days


def test_arms_of_two_experiments_stay_apart(tmp_path, registry):
    write_archive(tmp_path / "online", n=40, arms=("usual", "fresh"), experiment="spring")
    days = [TODAY - timedelta(days=1)]
    write_archive(tmp_path / "online", days, n=40, arms=("usual",), experiment="autumn")
    text = report_on(tmp_path / "online", tmp_path).text
    for name in ("autumn: usual", "spring: usual", "spring: fresh"):
        assert f"{name} · version 1" in text


def test_another_table_than_a_runs_products_is_explained(tmp_path, registry):
    archive = write_archive(tmp_path / "online", n=8)
    other = tmp_path / "products.parquet"
    pq.write_table(pa.table({"product_id": ["milk"], "name": ["Milk"]}), other)
    with pytest.raises(ContractError, match=r"expected the product table of a run, runs/RUN/"):
        report_on(archive, tmp_path, products=other)


def test_the_newest_runs_products_are_found(tmp_path):
    home = Home(tmp_path)
    assert find_products(home) is None
    for run, moment in (("b", 100), ("a", 200)):
        table = tmp_path / PRODUCT_TABLE.replace("RUN", run)
        table.mkdir(parents=True)
        os.utime(table, (moment, moment))
    assert find_products(home) == tmp_path / PRODUCT_TABLE.replace("RUN", "a")


def test_no_archive_is_a_page_that_says_so(tmp_path, registry):
    assert "No impressions yet" in report_on(tmp_path / "online", tmp_path).text


def test_without_a_registry_the_report_does_without_offline_measures(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    archive = write_archive(tmp_path / "online", n=8)
    assert "No version has both" in report_on(archive, tmp_path).text
