"""The report: one page that opens offline and says in words whether a model is good enough."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.contracts import BASKETS, write_table
from components.model.bundle import (
    PrecomputedItems,
    read_bundle,
    read_manifest,
    write_bundle,
)
from components.model.manifest import (
    CartWeights,
    IndexStats,
    Manifest,
    SearchStats,
    SubstituteSearch,
)
from components.model.sensitive_goods import build_sensitive_goods
from components.model.variants import LEVELS
from components.ranking.queries import OFFLINE_FEATURES
from components.report import formats, formatting, tables
from components.report import ranking as report_ranking
from components.report.plots import project
from components.report.report import PNG_PLOTS, RunFiles, write_report
from components.weighting.choose import CANDIDATES, ORDERED_CANDIDATES, SEASONAL_CANDIDATES
from tests.factories import make_bundle
from tests.seen import Seen

FORMULA = "=cmd|' /C calc'!A0"
HOSTILE = "<script>alert(1)</script> \"quoted\" 'single' & $x^2$ 🍌 牛乳 http"


def metrics(mean: float | None) -> dict[str, Any]:
    around = {"mean": mean, "low": mean and mean - 0.01, "high": mean and mean + 0.01}
    names = dict.fromkeys(("ndcg", "hr", "recall", "mrr"), around)
    return {**names, "coverage": 0.62, "popularity_percentile": None}


def evaluation(champion: bool = True) -> dict[str, Any]:
    names = ["popularity", "cooccurrence", "cosine", *(["champion"] if champion else [])]
    task = {"model": metrics(0.31), **{name: metrics(0.22) for name in names}}
    task["cosine"] = metrics(None)
    recommended = {"product_id": "b", "label": "Butter", "score": 1.0, "support": 12, "lift": 2.5}
    cold = {**recommended, "label": HOSTILE, "support": 0, "lift": None}
    examples = [
        {"product_id": f"p{i}", "label": f"Example {i:02d}", "n_orders": 50 - i,
         "recommendations": [recommended] * 9 + [cold]} for i in range(50)
    ]  # fmt: skip
    examples[7]["label"] = HOSTILE
    difference = {"mean": 0.09, "low": 0.05, "high": 0.13}
    return {
        "k": 10, "split": "test", "n_queries": {"item": 100, "cart": 0}, "catalogue": 8,
        "tasks": {"item": task, "cart": task},
        "paired": {task: dict.fromkeys(names, difference) for task in ("item", "cart")},
        "ann_recall": None, "examples": examples, "cold": cold_products(),
        "kind_limits": [
            {"max_own_kind": None, "max_same_kind": None, "is_chosen": False, "ndcg": 0.2281,
             "excess": 0.1806, "own_kind_at_5": 0.4, "kinds_at_5": 3.3},
            {"max_own_kind": 1, "max_same_kind": 2, "is_chosen": True, "ndcg": 0.2179,
             "excess": 0.1681, "own_kind_at_5": 0.14, "kinds_at_5": 4.4},
        ],
    }  # fmt: skip


def verdict(passed: bool) -> dict[str, Any]:
    rule = {
        "name": "popularity", "title": "Better than bestsellers", "passed": passed,
        "observed": 0.02 if passed else -0.0041, "expected": 0.0,
        "by": 0.02 if passed else -0.0041, "why": "the new model lost to bestsellers",
    }  # fmt: skip
    coverage = {**rule, "name": "coverage", "title": "Wide enough", "passed": True, "by": None}
    return {"passed": passed, "rules": [rule, coverage]}


def around(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


NO_CHANGE = {"mean": 0.0, "low": 0.0, "high": 0.0}


def tricks() -> list[dict[str, Any]]:
    return [
        {"trick": "size_exponent", "value": 0.5, "used": False, "item": around(-0.03),
         "cart": around(-0.3)},
        {"trick": "size_exponent", "value": 0.75, "used": True, "item": around(0.02),
         "cart": around(-0.05)},
        {"trick": "window_days", "value": 90.0, "used": False, "item": NO_CHANGE,
         "cart": NO_CHANGE},
    ]  # fmt: skip


def cold_products() -> dict[str, Any]:
    steps = ("attribute_neighbours", "category_bestsellers", "bestsellers", "model")
    return {
        "n_queries": 120, "n_products": 30, "share": 0.1,
        "ndcg": {step: around(0.1) for step in steps},
        "paired": {"bestsellers": around(0.05), "category_bestsellers": around(-0.05),
                   "model": around(0.0)},
    }  # fmt: skip


def ranking() -> dict[str, Any]:
    """ranking.json where pages are re-ranked and carts do not listen to vectors."""
    forest = {"pays": True, "gain": around(0.02), "why": "it gains +0.02",
              "features": [["recent_sum", 0.4], ["a new one", 0.2]]}  # fmt: skip
    pages = {
        "weights": {"beta_single": 0.5, "page_cooccurrence": 4.0, "page_trend": 0.0},
        "parts": {"vectors": 0.2, "co-occurrence": 0.21, "neighbours": 0.19, "blend": 0.22},
        "forest": forest, "n_questions": 700,
    }  # fmt: skip
    carts = {
        "weights": {"vectors": 0.0, "cooccurrence": 0.5, "neighbours": 1.0, "cosine": 0.0},
        "parts": {"vectors, mean": 0.08, "vectors, max of softmax": 0.14,
                  "neighbours, sum": 0.195, "blend": 0.198},
        "forest": {"pays": False, "gain": None, "why": "3 hits are too few", "features": []},
        "n_questions": 600,
    }  # fmt: skip
    tasks = {"item": {**around(-0.002), "changed": 0.03}, "cart": {**around(0.0), "changed": 0.01}}
    rule = {"level": "but_one_word", "lift": None, "cosine": None, "pairs": 9000,
            "chosen": False, "tasks": tasks}  # fmt: skip
    variants = [
        rule, {**rule, "lift": 5.0, "pairs": 8000},
        {**rule, "level": "but_colours", "lift": 2.0, "cosine": 0.5, "pairs": 1234, "chosen": True,
         "excepted": 2},
        {**rule, "level": "none", "pairs": 0},
    ]  # fmt: skip
    exceptions = {"given": 3, "unknown": 1}
    return {
        "pages": pages, "carts": carts, "variants": variants, "exceptions": exceptions,
    }  # fmt: skip


def checks(table: str) -> dict[str, Any]:
    one = {
        "name": "x", "title": "Ids are there", "severity": "critical", "passed": True,
        "observed": 0, "expected": 0, "why": "", "remedy": "",
    }  # fmt: skip
    bad = {**one, "title": "Prices are sane", "severity": "warning", "passed": False,
           "observed": HOSTILE, "remedy": "Look at the dearest lines."}  # fmt: skip
    skipped = {"name": "y", "title": "Gaps in time", "reason": "no timestamps"}
    return {"table": table, "passed": True, "checks": [one, bad], "first_run": True,
            "sampled_share": 0.5, "skipped": [skipped]}  # fmt: skip


def best() -> dict[str, Any]:
    one = {"shard": 0, "beta_single": 0.75, "beta_cart": 0.25, "cpu_s": 8.1, "error": ""}
    trials = [
        {**one, "trial": 0, "state": "complete", "ndcg_item": 0.1, "ndcg_cart": 0.05,
         "config": {"epochs": 5, "window": 10}},
        {**one, "trial": 1, "state": "complete", "ndcg_item": 0.2, "ndcg_cart": 0.06,
         "config": {"epochs": 9, "window": 10}},
        {**one, "trial": 2, "state": "pruned", "ndcg_item": 0.01, "ndcg_cart": None,
         "config": {"epochs": 2, "window": 10}},
        {**one, "trial": 0, "shard": 1, "state": "failed", "ndcg_item": None, "ndcg_cart": None,
         "config": {"epochs": 7, "window": 10}, "error": "MemoryError: <all of it>"},
    ]  # fmt: skip
    return {"config": {"epochs": 9, "window": 10}, "beta_single": 0.75, "beta_cart": 0.25,
            "trials": trials}  # fmt: skip


def baskets(path: Path, n: int = 40) -> Path:
    rows = {
        "order_id": [str(i) for i in range(n)],
        "user_id": [None] * n,
        "ts": [None] * n,
        "items": [[f"p{i % 7}", "bread", "butter"][: 2 + i % 2] for i in range(n)],
        "positions": [None] * n,
        "weight": [1.0] * n,
        "split": ["train"] * n,
    }
    write_table(pa.table(rows, schema=pa.schema(list(BASKETS))), BASKETS, path)
    return path


FILES = (
    *("order_counts", "basket_counts", "line_checks", "basket_checks"),
    *("evaluation", "verdict", "tricks", "reading"),
)


def file_reading(name: str, **other: Any) -> dict[str, Any]:
    columns = {
        "product_id": {"theirs": ["SKU", HOSTILE]},
        "order_id": {"theirs": ["Order Number"]},
        "ts": {"theirs": ["Order Date"], "format": "%d/%m/%Y %H:%M", "is_certain": False,
               "evidence": "no day above 12 decides; day first, because it is usual"},
        "price": {"theirs": [FORMULA], "format": "decimal comma, thousands '.'",
                  "evidence": f"196 values like {HOSTILE}"},
    }  # fmt: skip
    known = {
        "name": name, "kind": "text", "encoding": "cp1254",
        "encoding_evidence": "Turkish letters: windows-1254", "compression": "gzip",
        "separator": ";", "quote": '"', "header_line": 3, "platform": "WooCommerce order export",
        "columns": columns, "unused": ["Phone", HOSTILE], "n_malformed": 2,
        "dropped": {"payment row": 5}, "notes": [f"Only completed orders count {HOSTILE}"],
    }  # fmt: skip
    return {**known, **other}


def reading() -> dict[str, Any]:
    """reading.json of 31 files that are alike and of one that is not."""
    files = [file_reading(f"2024-01-{day:02}.csv") for day in range(1, 32)]
    other = file_reading(
        "new.parquet", kind="parquet", encoding="", separator="", compression="", header_line=0,
        platform="", by_synonym=["order_id"], notes=[], n_malformed=0, dropped={},
        columns={"order_id": {"theirs": ["Invoice"]}, "product_id": {"theirs": ["StockCode"]},
                 "ts": {"theirs": ["Date"], "format": "excel"}},
    )  # fmt: skip
    orders = {
        "source": "orders", "timezone": "Asia/Tokyo", "files": [*files, other],
        "unreadable": {"price": {"n_values": 4, "examples": [FORMULA, HOSTILE]}},
        "notes": ["order_id: 80 values end in .0, as a spreadsheet writes them (1027.0)"],
    }  # fmt: skip
    products = {"source": "products", "files": [file_reading("products.csv", encoding="cp1252",
                encoding_is_certain=False, encoding_evidence=HOSTILE)]}  # fmt: skip
    return {"orders": orders, "products": products}


def run_files(folder: Path, **other: Any) -> RunFiles:
    """A whole run's files; `other` replaces the content of some."""
    made = {
        "order_counts": {"lines_read": 100, "lines_kept": 93, "lines_quarantined": 7, "products": 8,
                         "quarantined: cancellation": 5, f"quarantined: {HOSTILE}": 2},
        "basket_counts": {
            "lines": 93, "orders": 45, "removed: repeated product in an order": 3,
            "removed: single-product orders": 4, "removed: orders over the cap": 1, "size_cap": 9,
            "baskets": 40, "basket_items": 100, "baskets_train": 32, "baskets_validation": 4,
            "baskets_test": 4, "first_order": "2017-01-01T12:00:00Z",
            "last_order": "2017-12-31T12:00:00Z"},
        "line_checks": checks("order_lines"), "basket_checks": checks("baskets"),
        "evaluation": evaluation(), "verdict": verdict(True), "tricks": tricks(),
        "reading": reading(), **other,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    paths: dict[str, Any] = {name: folder / f"{name}.json" for name in made if name in FILES}
    for name, path in paths.items():
        path.write_text(json.dumps(made[name]))
    if "bundle" not in made:
        made["bundle"] = make_bundle(folder / "bundle", cold={HOSTILE: HOSTILE})
    paths["bundle"] = made["bundle"]
    paths["baskets"] = made.get("baskets") or baskets(folder / "baskets")
    parameters = {"orders": "orders.parquet", "seed": 1, "sweep_share": 0.1, "note": HOSTILE}
    return RunFiles(**paths, best=made.get("best", best()), parameters=parameters)


def render(folder: Path, **other: Any) -> str:
    write_report(run_files(folder, **other), folder / "report.html", folder / "plots")
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("report")
    render(made, bundle=measured_bundle(made / "bundle"))
    return made


def measured_bundle(folder: Path) -> Path:
    bundle = make_bundle(folder, cold={HOSTILE: HOSTILE})
    facts = IndexStats(m=32, ef_construction=400, ef=100, recall_at_10=0.98)
    search = SearchStats(exact_ms=2.5, index_ms=1.25, tried=facts)
    return with_manifest(
        bundle, index=facts, search=search, ranking=ranking(), substitutes=substitutes(False)
    )


def substitutes(by_index: bool) -> SubstituteSearch:
    facts = IndexStats(m=16, ef_construction=200, ef=50, recall_at_10=0.991)
    return SubstituteSearch(index=facts, exact_ms=60, index_ms=0.5, by_index=by_index)


def with_manifest(bundle: Path, **found: object) -> Path:
    manifest: Manifest = read_manifest(bundle).model_copy(update=found)
    (bundle / "bundle.json").write_text(manifest.model_dump_json())
    return bundle


@pytest.fixture(scope="module")
def bare_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a failed run without champion, dates, trials, index and what ranking measured."""
    made = tmp_path_factory.mktemp("bare")
    found = render(
        made, evaluation={**evaluation(champion=False), "cold": None}, verdict=verdict(False),
        basket_counts={"baskets": 40, "first_order": "", "last_order": ""},
        best={"config": {}, "beta_single": 0.75, "beta_cart": 0.25, "trials": []},
    )  # fmt: skip
    return Seen(found).text


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_a_passed_verdict_says_what_to_do(page: str) -> None:
    text = Seen(page).text
    assert "This model may be promoted" in text
    assert "give this version the alias “champion”" in text
    assert "Not good enough" not in text


def test_a_failed_verdict_names_rule_amount_and_remedy(bare_text: str) -> None:
    assert "Not good enough: “Better than bestsellers” does not hold" in bare_text
    found = "Found −0.0041 , needed 0: short by 0.0041. The new model lost to bestsellers."
    assert found in bare_text
    assert formatting.REMEDIES["popularity"] in bare_text
    assert "may be promoted" not in bare_text


def test_headline_numbers_are_in_plain_words(page: str) -> None:
    text = Seen(page).text
    assert "31 of 100 baskets held at least one of the 10 recommendations" in text
    assert "Bestsellers alone: 22." in text
    assert "62 of 100 products of the catalogue" in text


def test_the_cost_of_every_limit_of_kinds_is_shown(page: str) -> None:
    text = Seen(page).text
    assert "no limit no limit 0.228 0.181 40 % 3.3" in text
    assert "1 2 0.218 0.168 14 % 4.4" in text


def test_nothing_is_fetched_from_anywhere(page: str) -> None:
    seen = Seen(page)
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(seen.tags)
    assert "://" not in page
    assert "@import" not in page
    assert "url(" not in page.replace("url(#", "")
    assert not [value for name, value in seen.attributes if name == "src"]
    links = [value for name, value in seen.attributes if name in ("href", "xlink:href")]
    assert links
    assert all(link.startswith("#") for link in links)


def test_links_and_clips_lead_to_one_place_each(page: str) -> None:
    attributes = Seen(page).attributes
    ids = [value for name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for name, value in attributes if name in ("href", "xlink:href")}
    targets |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert targets <= set(ids)


def test_hostile_text_stays_text(page: str) -> None:
    seen = Seen(page)
    assert "script" not in seen.tags
    assert seen.text.count(HOSTILE) > 50
    assert "MemoryError: <all of it>" in seen.text


def test_every_example_is_there_most_bought_first(page: str) -> None:
    found = re.findall(r"Example (\d\d)", Seen(page).text)
    assert found == [f"{i:02d}" for i in range(50) if i != 7]
    assert Seen(page).text.count("Butter") >= 50 * 9


def test_everything_removed_is_counted(page: str) -> None:
    text = Seen(page).text
    for line in ("Quarantined: cancellation −5", "Removed: single-product orders −4",
                 "Removed: orders over the cap of 9 products −1",
                 "Removed: repeated product in an order −3"):  # fmt: skip
        assert line in text
    assert "1 January 2017 to 31 December 2017" in text


def test_failed_checks_come_first(page: str) -> None:
    text = Seen(page).text
    assert text.index("Prices are sane") < text.index("Ids are there")
    assert "What to do: Look at the dearest lines." in text
    assert "This is the first run" in text
    assert "1 not checked Check Reason Gaps in time No timestamps." in text
    assert "Checked on a sample of 50 % of the orders" in text


def test_the_picked_trial_is_explained(page: str) -> None:
    text = Seen(page).text
    assert "Trial 2 was picked : NDCG 0.200 on the product page (place 1 of 2 finished)" in text
    assert "Of the trials within 1 % of the best on the product page" in text
    assert "The same in all trials: window 10" in text


def test_pictures_are_kept_as_png(folder: Path) -> None:
    kept = sorted((folder / "plots").iterdir())
    assert [file.name for file in kept] == sorted(f"{name}.png" for name in PNG_PLOTS)
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in kept)


def test_nothing_half_written_is_left(folder: Path) -> None:
    assert not list(folder.glob(".*.part"))


def test_a_run_without_champion_dates_trials_or_index(bare_text: str) -> None:
    assert "There is no champion yet to compare with." in bare_text
    assert "orders without dates" in bare_text
    assert "exact; the catalogue is too small" in bare_text
    assert "0 settings were tried" in bare_text


def test_a_run_of_which_nearly_nothing_is_known(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {}
    text = Seen(
        render(
            tmp_path, evaluation=nothing, verdict={"passed": False}, order_counts=nothing,
            basket_counts=nothing, line_checks=nothing, basket_checks=nothing, best=nothing,
            tricks=[], reading=nothing,
            bundle=make_bundle(tmp_path / "tiny", pairs=[("a", "b")], categories={}, cold={}),
        )
    ).text  # fmt: skip
    assert "Not good enough" in text
    assert "This run kept no record of it." in text


def test_a_run_without_the_file_of_the_reading(tmp_path: Path) -> None:
    files = run_files(tmp_path)
    files.reading.unlink()
    write_report(files, tmp_path / "report.html", tmp_path / "plots")
    assert "kept no record of it" in (tmp_path / "report.html").read_text()


def section(page: str, name: str) -> str:
    """The text of a section."""
    (found,) = re.findall(rf'<section id="{name}">(.*?)</section>', page, re.DOTALL)
    return Seen(found).text


def test_choices_that_nothing_decided_come_first(page: str) -> None:
    text = section(page, "reading")
    doubt = "Time “Order Date” in 2024-01-01.csv and 30 more : No day above 12 decides; day first,"
    assert doubt in text
    assert "“05/03/2024 17:09” is 5 March 2024, 17:09." in text
    assert text.index(doubt) < text.index("31 files like 2024-01-01.csv") < text.index("Products")
    assert f"Letters in products.csv : Windows-1252: {HOSTILE}" in text


def test_files_that_were_read_alike_are_one_group(page: str) -> None:
    text = section(page, "reading")
    assert text.count("2024-01-") == 2  # the group, and its doubt
    assert "31 files like 2024-01-01.csv Text, letters in windows-1254 (Turkish letters" in text
    assert (
        "compressed with gzip, columns separated by semicolons, names of the columns in line 3"
        in text
    )
    assert "62 lines do not fit the columns; they are in quarantine." in text
    assert "155 rows were left out as no line of a sale: payment row." in text
    assert text.count("Only completed orders count") == 2  # of orders and of products


def test_the_mapping_is_shown_with_the_shop_s_names(page: str) -> None:
    text = section(page, "reading")
    assert "recognised by the header as: WooCommerce order export; 1 with columns" in text
    assert "Order “Order Number” text – Product “SKU”, “<script>" in text
    assert "Order “Invoice” text a usual name of it" in text
    assert "Excel's serial days: 45356.71493 is 5 March 2024, 17:09 –" in text
    assert "read as the clock of Asia/Tokyo." in text


def test_values_that_became_missing_are_shown(page: str) -> None:
    text = section(page, "reading")
    assert f"Price 4 4.0 % “{FORMULA}”, “{HOSTILE}”" in text
    assert "Order: 80 values end in .0" in text


def test_without_a_product_table_the_report_says_so(tmp_path: Path) -> None:
    text = section(render(tmp_path, reading={"orders": reading()["orders"]}), "reading")
    assert "There was no product table." in text


def test_days_of_the_report_are_the_shop_s() -> None:
    late = "2017-12-31T22:30:00Z"
    assert formatting.date(late) == "31\u00a0December\u00a02017"
    assert formatting.date(late, "Europe/Istanbul") == "1\u00a0January\u00a02018"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("%Y-%m-%d", "“2024-03-05” is 5 March 2024"),
        ("%b %d, %y %I:%M %p", "“Mar 05, 24 05:09 PM” is 5 March 2024, 17:09"),
        ("%Y-%m-%dT%H:%M:%S.%n%z", "“2024-03-05T17:09:30.000000000+0300” is 5 March 2024, 17:09"),
        ("%Y | %m | %d | %y", "“2024” is 5 March 2024 or “03” is 5 March 2024 or “05” is 5 March "
         "2024 or another spelling"),
        ("epoch_ms", "milliseconds since 1970: 1709658570000 is 5 March 2024, 17:09 UTC"),
        ("decimal comma", "decimal comma"),
    ],
)  # fmt: skip
def test_formats_are_described_by_an_example(pattern: str, said: str) -> None:
    assert formats.describe_format(pattern) == said


def test_the_index_is_described(page: str) -> None:
    text = Seen(page).text
    assert "HNSW, M 32, ef_construction 400, ef 100; finds 98" in text
    assert "Exact search takes 2.50 ms of CPU a page, an index, which finds 98.0% " in text
    assert "1.25 ms. The fastest way that finds enough is used." in text
    assert "Search for substitutes exact. Exact search takes 60.00 ms of CPU" in text


def test_search_among_companions_is_described(tmp_path: Path) -> None:
    search = SearchStats(exact_ms=3.7, companions_ms=0.12, companions_recall_at_10=0.996)
    bundle = with_manifest(
        make_bundle(tmp_path / "bundle"), among_companions=True, search=search,
        substitutes=substitutes(True),
    )  # fmt: skip
    text = Seen(render(tmp_path, bundle=bundle)).text
    assert "approximate: among companions, companions of companions" in text
    assert "bestsellers; finds 99.6 % of the exact ten best" in text
    assert "search among companions, which finds 99.6% of the exact ten best, 0.12 ms" in text
    assert "Search for substitutes approximate: HNSW, M 16, ef_construction 200, ef 50." in text
    assert "which finds 99.1% of the exact ten best at ef 50, 0.50 ms." in text


def test_tricks_are_shown_with_what_they_changed(page: str) -> None:
    text = Seen(page).text
    assert "exponent 0.75 +2.0 % +1.0 % to +3.0 % −5.0 % −6.0 % to −4.0 % used" in text
    assert "exponent 0.5 −3.0 % −4.0 % to −2.0 %" in text
    assert "Nothing changed: no order is that old, or some orders have no times." in text


def test_a_trick_of_time_says_that_there_are_no_times(bare_text: str) -> None:
    assert "only 90 days Not measured: the orders have no times. not used" in bare_text


def test_the_mix_is_explained(page: str) -> None:
    text = Seen(page).text
    assert "Alone they reach 0.200; the blend is 10.0 % above that." in text
    assert "The blend reaches 0.220, 4.8 % above the best part alone: “Counts alone”" in text
    assert "“Neighbours, summed” is the best" in text
    assert "The weight of the vectors is zero" in text
    assert "Alone they reach 0.140 at best (“Vectors, likeliest”)." in text


def test_vectors_that_carts_listen_to_are_no_zero() -> None:
    carts = {**ranking()["carts"], "weights": {"neighbours": 1.0, "vectors": 0.5}}
    said = " ".join(report_ranking.describe_blend(carts, "cart"))
    assert "zero" not in said
    assert "add to the blend" in said


def test_re_rankers_say_whether_they_ship_and_why(page: str) -> None:
    text = Seen(page).text
    assert "Product page: used Change in NDCG@10 less chance: +0.0200 +0.0100 to +0.0300" in text
    assert "Cart: not used 3 hits are too few." in text


def test_the_chosen_variants_stand_beside_the_strictest_of_each_kind(page: str) -> None:
    text = Seen(page).text
    assert "1 234 pairs are kept apart. Their names are the same but for numbers, colours" in text
    assert "Of 4 rules tried" in text
    assert "Of 3 exceptions, 2 applied" in text
    assert "They name 1 products that the model does not know" in text
    rows = report_ranking.variant_rows(ranking()["variants"])
    assert [row["pairs"] for row in rows] == [9000, 1234, 0]


def test_cold_products_are_compared_with_bestsellers(page: str) -> None:
    text = Seen(page).text
    assert "120 queries from the newest baskets were for 30 of them" in text
    assert "Bestsellers +0.0500 +0.0400 to +0.0600 better" in text
    assert "If the model knew the product +0.0000 −0.0100 to +0.0100 no clear difference" in text


def test_what_ranking_did_not_measure_is_said_to_be_missing(bare_text: str) -> None:
    assert bare_text.count("Not measured for this bundle.") == 2
    assert "Not measured in this run. New products get the recommendations of similar" in bare_text


def test_whatever_ranking_may_say_has_words() -> None:
    assert list(report_ranking.FEATURES) == list(OFFLINE_FEATURES)
    assert list(report_ranking.LEVELS) == list(LEVELS)
    every = [*CANDIDATES, *SEASONAL_CANDIDATES, *ORDERED_CANDIDATES]
    assert list(report_ranking.WEIGHTINGS) == every
    assert set(report_ranking.WEIGHTS["cart"]) == set(CartWeights.model_fields)


def test_a_difference_is_judged_by_its_interval() -> None:
    assert formatting.classify_difference({"mean": 0.1, "low": 0.05, "high": 0.2}) == "better"
    assert formatting.classify_difference({"mean": -0.1, "low": -0.2, "high": -0.05}) == "worse"
    assert (
        formatting.classify_difference({"mean": 0.1, "low": -0.05, "high": 0.2})
        == "no clear difference"
    )
    assert (
        formatting.classify_difference({"mean": 0.1, "low": None, "high": float("nan")})
        == "not known"
    )


def test_numbers_that_are_none_print_as_a_dash() -> None:
    printers = (
        formatting.count,
        formatting.decimal,
        formatting.signed_decimal,
        formatting.percent,
        formatting.per_100,
        formatting.as_text,
    )
    for printed in printers:
        assert printed(None) == printed(float("nan")) == formatting.NOTHING


def test_labels_of_several_products_are_told_apart() -> None:
    one = {"product_id": "1", "label": "Milk", "recommendations": [
        {"product_id": "2", "label": "Milk"}, {"product_id": "3", "label": "Tea"}]}  # fmt: skip
    assert tables.ambiguous_labels([one, one]) == {"Milk"}


def test_the_map_puts_products_of_one_direction_together() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(3)[np.repeat([0, 1, 2], 40)]
    at = project(centres * rng.uniform(1, 9, (120, 1)) + rng.normal(0, 0.05, (120, 3)))
    middles = np.array([at[i : i + 40].mean(axis=0) for i in (0, 40, 80)])
    nearest = np.linalg.norm(at[:, None] - middles, axis=2).argmin(axis=1)
    assert (nearest == np.repeat([0, 1, 2], 40)).mean() > 0.95
    assert np.abs(at).max() <= 1


@pytest.mark.parametrize("shape", [(1, 4), (2, 1), (3, 64)])
def test_the_map_of_very_few_products(shape: tuple[int, int]) -> None:
    at = project(np.ones(shape, np.float32))
    assert at.shape == (shape[0], 2)
    assert np.isfinite(at).all()


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0"), (0.0001, "< 0.1"), (0.042, "4.2"), (0.5, "50"), (0.994, "99"), (0.996, "99.6"),
        (0.9999, "> 99.9"), (1, "100"), (1.25, "125"),
    ],
)  # fmt: skip
def test_shares_are_not_rounded_to_nothing_or_everything(share: float, said: str) -> None:
    assert formatting.percent(share).replace("\u202f", " ") == f"{said} %"


def test_awkward_pairs_are_listed_first_with_their_names(tmp_path: Path) -> None:
    plain = read_bundle(make_bundle(tmp_path / "plain", [("cheese", f"{HOSTILE} wine")], cold={}))
    marked = replace(
        plain,
        sensitive=build_sensitive_goods(plain.products),
        precomputed=PrecomputedItems(np.array([[1], [0]], np.int32), np.ones((2, 1), np.float32)),
    )
    write_bundle(marked, tmp_path / "bundle")
    text = Seen(render(tmp_path / "run", bundle=tmp_path / "bundle")).text
    first, examples = text.index("Look at these first"), text.index("with their recommendations")
    section = text[first:examples]
    assert "Sensitive goods" in section
    assert "<Script>Alert(1)</Script>" in section
    assert "(alcohol) 1 1.00 0" in section
    assert "Seasons are not known" in section
