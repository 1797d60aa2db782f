"""What the workbench asks judges, and what it makes of their answers, without servers."""

from datetime import UTC, date, datetime

import pytest

from bento.store.judgements import Case, CaseLists, Judgement, Preference
from bento.workbench.errors import BadInput
from bento.workbench.judging.exchange import collect_cards, make_files, to_csv, to_json
from bento.workbench.judging.new_case import MAX_PAGES, parse_case
from bento.workbench.judging.page_views import count_views
from bento.workbench.judging.queue import build_queue
from bento.workbench.judging.recording import make_judgements
from bento.workbench.judging.results import CaseFiles, compare, compute_results
from bento.workbench.judging.saving import parse_judgement, parse_preference
from bento.workbench.judging.sheets import (
    JudgingPage,
    Sheet,
    ShownList,
    count_judged,
    find_next,
    index_judgements,
    order_lists,
)
from bento.workbench.versions import LoadedVersion
from components.evaluation.gate import GateSettings, judge
from components.events.open import open_sink
from components.events.recommendation import Recommendation
from components.judging.graded import compare_grades
from components.judging.lists import hash_list, rank_pages
from components.judging.page import read_page
from components.judging.read import Grades, compare_systems
from components.judging.sheet import Key
from components.model.bundle import read_bundle
from components.model.recommender import Recommender
from components.report.report import write_report
from tests.factories import CATEGORIES, COLD, PAIRS, make_bundle, random_bundle
from tests.unit.test_evaluation import GOOD, SERVING
from tests.unit.test_report import run_files, verdict

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PAGES = ("p0", "p1", "p2", "p3")
OTHER_PAIRS = (("tea", "sugar"), ("coffee", "milk"), *PAIRS[2:])


def make_case(pages=PAGES, k=2):
    return Case("c", "first", "", k, tuple(pages), NOW, "ann", NOW)


def judgement(page, content, judge="ann", grade=None, state=None, reason=None):
    state = state or ("later" if grade is None else "graded")
    return Judgement(page, content, judge, state, grade, reason, NOW)


def make_files_of(*judgements, preferences=(), pages=PAGES):
    """Version 7 shows `old` everywhere; version 8 too, but `new` on the first two pages."""
    shown = {
        "7": dict.fromkeys(pages, "old"),
        "8": {page: "new" if page in pages[:2] else "old" for page in pages},
    }
    products = {(page, one): (f"{one} 1", f"{one} 2") for page in pages for one in ("old", "new")}
    case = make_case(pages)
    return CaseFiles(case, CaseLists(shown, products), tuple(judgements), tuple(preferences))


# The queue


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    bundles = [
        read_bundle(make_bundle(folder / str(number), pairs, CATEGORIES, COLD), products=False)
        for number, pairs in enumerate((PAIRS, OTHER_PAIRS))
    ]
    return [LoadedVersion(str(number), bundle) for number, bundle in enumerate(bundles, 7)]


def test_pages_that_changed_and_are_bought_most_come_first(two):
    queue = build_queue(two, 1, {})
    assert [one.page for one in queue[:4]] == ["tea", "milk", "coffee", "sugar"]
    assert [one.n_changed for one in queue] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert queue[0].reasons[:2] == ["80 orders", "1 of 1 products differ"]
    assert "the same products" in queue[-1].reasons


def test_views_count_before_orders_once_there_are_enough(two):
    assert build_queue(two, 1, {"sugar": 999})[0].page == "tea"
    queue = build_queue(two, 1, {"sugar": 1_000, "unknown": 9})
    assert queue[0].page == "sugar"
    assert queue[0].reasons[0] == "1,000 views"


def test_one_version_has_a_queue_of_awkward_pages(two):
    queue = build_queue(two[:1], 1, {})
    assert {one.n_changed for one in queue} == {None}
    assert len(queue) == 8
    assert all(one.awkward["bestseller"] == 5 for one in queue)


def test_sensitive_goods_and_thin_evidence_are_named(tmp_path):
    pairs = (("baby bib", "marlboro cigarettes"), ("tea", "milk"))
    bundle = read_bundle(make_bundle(tmp_path / "b", pairs, {}, {}), products=False)
    queue = build_queue([LoadedVersion("1", bundle)], 5, {}, date(2026, 7, 1))
    bib = next(one for one in queue if one.page == "baby bib")
    assert bib.awkward["thin_evidence"] == 3
    assert bib.awkward["sensitive"] in (0, 1)


def test_views_are_those_of_product_pages(tmp_path):
    url = f"sqlite:///{tmp_path}/events.db"
    sink = open_sink(url)
    rows = [
        Recommendation(str(i), 0, "s", "recommend", context, "1", "default", None, 1.0, [asked],
                       ["x"], ["model"], [])
        for i, (context, asked) in enumerate(
            [("product_page", "tea"), ("product_page", "tea"), ("cart", "milk")])
    ]  # fmt: skip
    import json

    sink.write_recommendations(json.dumps(rows).encode(), len(rows))
    sink.close()
    assert count_views(url) == {"tea": 2}
    assert count_views("off") == count_views(None) == {}
    assert count_views("mysql://nowhere") == {}


# Lists


def test_a_list_is_known_by_its_products_in_their_order():
    assert hash_list(["a", "b"]) != hash_list(["b", "a"]) != hash_list(["a,b"])
    assert hash_list(("a", "b")) == hash_list(["a", "b"])
    assert len(hash_list(["\ud800", "☕"])) == 16


def test_pages_are_ranked_as_the_offline_gate_ranks(tmp_path):
    bundle = random_bundle(3)
    recommender = Recommender(bundle)
    ids = [f"p{row}" for row in range(12)]
    lists = rank_pages(recommender, [*ids, "unknown"], 4)
    for id_ in ids:
        rows = recommender.recommend([id_], 4).rows
        assert lists[id_] == tuple(f"p{row}" for row in rows)
    assert len(lists["unknown"]) == 4


def make_sheet(*n_lists):
    pages = [
        JudgingPage(
            number,
            {"product_id": f"p{number - 1}"},
            tuple(ShownList(f"list {i}", ()) for i in range(n)),
        )
        for number, n in enumerate(n_lists, 1)
    ]
    return Sheet(make_case(), ("7", "8"), tuple(pages))


def test_the_order_of_lists_is_drawn_by_judge_and_page():
    sheet = make_sheet(2, 2)
    orders = {
        judge: [[one.content for one in order_lists(sheet, page, judge)] for page in sheet.pages]
        for judge in map(str, range(200))
    }
    first = sum(order[0][0] == "list 0" for order in orders.values())
    assert 70 < first < 130
    assert 70 < sum(order[0] == order[1] for order in orders.values()) < 130
    assert orders["5"][0] == [one.content for one in order_lists(sheet, sheet.pages[0], "5")]


def test_the_next_page_is_an_open_one_and_pages_put_off_come_last():
    sheet = make_sheet(1, 1, 1, 1)
    own = index_judgements([judgement("p1", "list 0"), judgement("p2", "list 0", grade=0)])
    assert find_next(sheet, own, 1) == 4
    assert find_next(sheet, own, 4) == 1
    rest = index_judgements(
        [*own.values(), *(judgement(one, "list 0", grade=3) for one in ("p0", "p3"))]
    )
    assert find_next(sheet, rest, 4) == 2
    assert find_next(sheet, rest, 2) is None
    assert count_judged(sheet, rest) == 3


# Results


def grade_all(new=3, old=1, judge="ann"):
    return [
        *(judgement(page, "old", judge, old) for page in PAGES),
        *(judgement(page, "new", judge, new) for page in PAGES[:2]),
    ]


def test_a_version_is_measured_by_the_lists_that_it_shows():
    result = compute_results(make_files_of(*grade_all()), ["7", "8"])
    seven, eight = result.compared.systems
    assert (seven.mean.mean, eight.mean.mean) == (1, 2)
    assert (eight.best.mean, seven.best.mean) == (0.75, 0.25)
    assert eight.difference.mean == 1
    assert result.alone["8"].systems[0].mean.mean == 2


def test_results_are_those_of_the_command_on_the_exported_files():
    files = make_files_of(*grade_all(), *grade_all(new=2, judge="ben"))
    texts = make_files(files, ["7", "8"], {})
    key = Key.model_validate_json(texts["key.json"])
    grades = [Grades.model_validate_json(texts[f"grades-{number}.json"]) for number in (1, 2)]
    exported = compare_systems(key, grades)
    assert exported.systems == compare(files, ["7", "8"]).systems
    assert set(key.labels["p0"].values()) == {"A", "B"}
    assert set(key.labels["p3"].values()) == {"A"}


def test_the_exported_page_holds_the_sheet(tmp_path):
    files = make_files_of(*grade_all())
    cards = {"new 1": {"product_id": "new 1", "name": "</script><b>"}}
    (tmp_path / "page.html").write_text(make_files(files, ["7", "8"], cards)["page.html"])
    sheet = read_page(tmp_path / "page.html")
    assert collect_cards(sheet)["new 1"].name == "</script><b>"
    with pytest.raises(ValueError, match="is no sheet"):
        read_page(tmp_path / "other.html")


def test_pages_without_all_grades_count_for_no_comparison_but_for_their_version():
    files = make_files_of(*grade_all()[:4], judgement("p0", "new", state="unrateable"))
    result = compute_results(files, ["7", "8"])
    assert result.compared.n_pages == 2
    assert result.alone["7"].n_pages == 4
    assert result.unrateable == {"7": 0, "8": 1}
    assert compute_results(make_files_of(), ["7", "8"]).compared is None


def test_reasons_and_disputes_are_counted():
    files = make_files_of(
        judgement("p0", "new", "ann", 3, reason="random"),
        judgement("p0", "new", "ben", 0, reason="random"),
        judgement("p1", "old", "ann", 1),
        judgement("p1", "old", "ben", 2, reason="bestseller"),
        judgement("p2", "old", "ann", 1),
    )
    result = compute_results(files, ["7", "8"])
    assert result.reasons == {"7": {"bestseller": 1}, "8": {"random": 2}}
    assert [(one.page, one.spread, one.systems) for one in result.disputes] == [
        ("p0", 3, ("8",)), ("p1", 1, ("7",)),
    ]  # fmt: skip


def test_preferences_have_a_share_in_which_equal_ones_count_half():
    chosen = [("p0", "new"), ("p1", "")]
    preferences = [Preference(page, "new", "old", "ann", one, NOW) for page, one in chosen]
    (found,) = compute_results(make_files_of(preferences=preferences), ["7", "8"]).preferences
    assert (found.first, found.second, found.share.mean) == ("7", "8", 0.75)
    assert (found.n_choices, found.n_equal) == (2, 1)
    assert found.share.low <= 0.75 <= found.share.high


def test_exports_name_the_systems_of_a_list_and_disarm_formulas():
    files = make_files_of(judgement("p2", "old", "=cmd()", 2))
    assert to_json(files)["judgements"][0]["systems"] == ["7", "8"]
    assert "'=cmd()" in to_csv(files)


# What is refused


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"name": "x", "n": "1.5"}, "pages: found '1.5'"),
        ({"name": "x", "n": "٣"}, "pages: found"),
        ({"name": "x", "k": "21"}, "products a list"),
        ({"name": "x", "seed": "-1"}, "seed"),
        ({"name": "x", "source": "ids", "ids": "\n".join(map(str, range(MAX_PAGES + 1)))}, "501"),
    ],
)
def test_numbers_of_a_case_are_checked(form, message):
    with pytest.raises(BadInput, match=message):
        parse_case(form)


def test_ids_are_split_at_lines_and_commas_but_not_at_blanks():
    new = parse_case({"name": " a  b\0 ", "source": "ids", "ids": "rye bread, tea\r\n\ntea;x"})
    assert (new.name, new.ids) == ("a b", ("rye bread", "tea", "x"))


def test_what_judges_send_is_checked():
    for form in ({"grade": "5"}, {"grade": "3", "reason": "x"}, {"grade": "1", "page": "x" * 300}):
        with pytest.raises(BadInput):
            parse_judgement(form, "c", "ann")
    with pytest.raises(BadInput, match="one of two lists"):
        parse_preference({"first": "a", "second": "a", "preferred": ""}, "c", "ann")


# The next run


def test_a_new_model_is_measured_by_its_lists_that_were_graded():
    files = make_files_of(*grade_all(), *grade_all(new=2, old=1, judge="ben"))
    judged = make_judgements(files, "7", compare(files, ["7"]))
    assert judged.n_judges == 2
    new = {"p0": "new", "p1": "unseen", "p2": "old", "p3": "old"}
    found = compare_grades(judged, new)
    assert found["model"] | {"low": 0, "high": 0} == {
        "mean": pytest.approx((2.5 + 1 + 1) / 3), "low": 0, "high": 0, "n_pages": 3,
    }  # fmt: skip
    assert found["champion"]["mean"] == 1
    assert found["difference"]["n_pages"] == 3
    nothing = compare_grades(judged, dict.fromkeys(PAGES, "unseen"))
    assert nothing["model"] == {"mean": None, "low": None, "high": None, "n_pages": 0}


def judged_with(mean, n_pages, difference=0.0):
    bounds = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n_pages": n_pages}
    gap = {"mean": difference, "low": difference - 0.1, "high": difference + 0.1}
    return {
        "case": "first", "k": 5, "judged_at": "2026-01-02T00:00:00+00:00", "n_judges": 2,
        "alpha": 0.7, "n_pages": 40, "model": bounds, "champion": {**bounds, "n_pages": 40},
        "difference": {**gap, "n_pages": n_pages},
    }  # fmt: skip


def list_rules(judged, least=0.0):
    found = judge(GOOD, SERVING, GateSettings(min_judged_grade=least), judged)
    return {rule["name"]: rule for rule in found["rules"]}, found


def test_without_a_threshold_grades_are_a_warning_at_most():
    rules, found = list_rules(judged_with(0.5, 30, difference=-0.8))
    assert "judged_grade" not in rules
    assert found["passed"]
    assert "the model's -0.80 against" in found["warnings"][0]
    assert list_rules(judged_with(0.5, 30, difference=-0.05))[1]["warnings"] == []
    assert list_rules(None)[1]["warnings"] == []


def test_with_a_threshold_low_grades_fail_the_gate():
    rule = list_rules(judged_with(1.5, 30), least=2.0)[0]["judged_grade"]
    assert not rule["passed"]
    assert "1.50 of 3 to 30 of its 40 lists in case 'first'" in rule["why"]
    assert list_rules(judged_with(2.5, 30), least=2.0)[0]["judged_grade"]["passed"]


@pytest.mark.parametrize("judged", [None, judged_with(0.1, 9)])
def test_too_few_grades_refuse_no_model(judged):
    rule = list_rules(judged, least=2.0)[0]["judged_grade"]
    assert rule["passed"]
    assert "judge it before it is promoted" in rule["why"]


def test_the_report_shows_what_people_think(tmp_path):
    found = {**verdict(True), "judged": judged_with(1.5, 30), "warnings": ["people like it less"]}
    write_report(run_files(tmp_path, verdict=found), tmp_path / "report.html", tmp_path / "plots")
    page = (tmp_path / "report.html").read_text()
    assert "What people think" in page
    assert "People like it less." in page
    assert "30 of 40 pages (75" in page
