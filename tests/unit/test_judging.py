"""Blind judging: what is drawn, what judges see, and what their grades say."""

import contextlib
import json
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from components.contracts import BASKETS, write_table
from components.judging.page import render_page, render_text
from components.judging.read import (
    Grade,
    Grades,
    compare_systems,
    compute_alpha,
    read_grades,
    read_key,
)
from components.judging.sheet import Sheet, System, draw_sheet
from pipelines.cli import main
from pipelines.judging import parse_peer
from tests.factories import make_bundle

N_PRODUCTS = 60


class Shift:
    """Shows the next rows, from `step` on."""

    def __init__(self, step):
        self.step = step

    def rank(self, queries, k):
        rows = [(query[0] + self.step + np.arange(k)) % N_PRODUCTS for query in queries]
        return np.array(rows, np.int64), np.ones((len(queries), k), np.float32)


def make_system(name, step, product_ids=None):
    ids = product_ids or [f"p{row}" for row in range(N_PRODUCTS)]
    return System(name, Shift(step), ids, np.arange(len(ids), 0, -1))


def describe(product_id):
    return {"name": f"the {product_id}", "category": "things", "price": 1.0}


SYSTEMS = [make_system("new", 1), make_system("old", 11), make_system("copy", 1)]


def draw(n=12, seed=0, systems=SYSTEMS):
    return draw_sheet(systems, describe, n, seed)


# The sheet


def test_each_system_shows_its_own_list():
    sheet, key = draw()
    for question in sheet.questions:
        shown = {one.label: [card.product_id for card in one.products] for one in question.lists}
        row = int(question.product.product_id[1:])
        for system, step in (("new", 1), ("old", 11)):
            label = key.labels[question.product.product_id][system]
            assert shown[label] == [f"p{(row + step + i) % N_PRODUCTS}" for i in range(5)]
        assert question.product.name == f"the p{row}"


def test_identical_lists_are_graded_once():
    sheet, key = draw()
    assert all([one.label for one in question.lists] == ["A", "B"] for question in sheet.questions)
    assert all(labels["new"] == labels["copy"] for labels in key.labels.values())


def test_systems_are_shuffled_for_each_product():
    _, key = draw(40)
    assert {labels["old"] for labels in key.labels.values()} == {"A", "B"}


def test_a_seed_gives_the_same_sheet_again_and_another_seed_another_one():
    assert draw() == draw()
    assert draw()[0].sheet_id != draw(seed=1)[0].sheet_id


def test_a_third_of_the_products_are_bestsellers_and_a_third_are_rarely_bought():
    n_orders = np.array([900] * 10 + [450] * 20 + [100] * 90)
    ids = [f"p{row}" for row in range(120)]
    systems = [System(name, Shift(step), ids, n_orders) for name, step in (("x", 1), ("y", 2))]
    rows = [int(one.product.product_id[1:]) for one in draw(12, systems=systems)[0].questions]
    assert np.histogram(rows, [0, 10, 30, 120])[0].tolist() == [4, 4, 4]


@pytest.mark.parametrize("n", [1, 2, 59, 60])
def test_every_number_of_products_can_be_drawn(n):
    sheet, _ = draw(n)
    assert len({one.product.product_id for one in sheet.questions}) == n


def test_only_products_of_all_systems_are_asked():
    few = make_system("few", 1, ["p3", "p59", "other"])
    sheet, _ = draw_sheet([SYSTEMS[1], few], describe, 2, seed=0, k=1)
    assert {one.product.product_id for one in sheet.questions} == {"p3", "p59"}
    with pytest.raises(ValueError, match=r"3 products are to be drawn.*have 2 in common"):
        draw_sheet([SYSTEMS[1], few], describe, 3, seed=0, k=1)


def test_one_system_is_refused_and_so_are_two_of_one_name():
    with pytest.raises(ValueError, match=r"systems to compare: 1 \(new\)"):
        draw(systems=SYSTEMS[:1])
    with pytest.raises(ValueError, match="new is named twice"):
        draw(systems=[SYSTEMS[0], SYSTEMS[0]])


def test_judging_needs_no_arrow_which_a_service_lacks():
    code = "import components.judging.read, components.judging.page, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pyarrow", "scipy", "pipelines"} & set(done.stdout.split())


# What judges see


def test_the_page_works_offline_and_names_no_system():
    sheet, _ = draw_sheet(SYSTEMS, lambda id_: {"name": f"</script><b>{id_}"}, 6, seed=0)
    page = render_page(sheet)
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("</script>") == 2
    content = re.search(r'id="content">(.*?)</script>', page, re.S)
    assert content
    assert json.loads(content[1])["sheet"] == json.loads(sheet.model_dump_json())
    assert not any(system.name in content[1] for system in SYSTEMS)


def test_the_text_holds_every_list_and_a_form_to_fill_in(tmp_path):
    sheet, key = draw(3)
    lists, form = render_text(sheet).split("Grades file:")
    assert lists.count("the p") == 3 * (1 + 2 * 5)
    file = tmp_path / "ann.json"
    file.write_text(form.replace("null", "2"))
    result = compare_systems(key, [read_grades(file)])
    assert [one.mean.mean for one in result.systems] == [2, 2, 2]
    assert result.judges[0].judge == "ann"


# What grades say


def grade_all(key, by_system, judge="ann", without=()):
    """Every list of a system with the same grade."""
    grades = {
        (product_id, label): by_system[system]
        for product_id, labels in key.labels.items()
        for system, label in labels.items()
        if product_id not in without
    }
    rows = tuple(
        Grade(product_id=product_id, label=label, grade=grade)
        for (product_id, label), grade in grades.items()
    )
    return Grades(sheet_id=key.sheet_id, seed=key.seed, judge=judge, grades=rows)


def test_known_grades_have_known_means():
    _, key = draw()
    result = compare_systems(key, [grade_all(key, {"new": 3, "copy": 3, "old": 1})])
    new, old, copy = result.systems
    assert (new.mean.mean, new.mean.low, new.mean.high) == (3, 3, 3)
    assert (new.best.mean, old.best.mean, copy.best.mean) == (0.5, 0, 0.5)
    assert (new.worst.mean, old.worst.mean) == (0, 1)
    assert new.difference is None
    assert old.difference is not None
    assert old.difference.high == -2
    assert result.judges[0].mean == 2
    assert result.n_pages == 12


def test_intervals_hold_the_mean_of_mixed_grades():
    _, key = draw(20)
    grades = grade_all(key, {"new": 3, "copy": 3, "old": 0}).grades
    half = [one.model_copy(update={"grade": 0}) for one in grades[:20]]
    mixed = grade_all(key, {"new": 3, "copy": 3, "old": 0}).model_copy(
        update={"grades": (*half, *grades[20:])}
    )
    mean = compare_systems(key, [mixed]).systems[0].mean
    assert mean.mean == 1.5
    assert 0.7 < mean.low < 1.4 < 1.6 < mean.high < 2.3


def test_missing_grades_are_counted_and_their_pages_are_not():
    _, key = draw()
    product_id, labels = next(iter(key.labels.items()))
    whole = grade_all(key, {"new": 3, "copy": 3, "old": 1})
    partly = tuple(
        one for one in whole.grades if (one.product_id, one.label) != (product_id, labels["new"])
    )
    result = compare_systems(key, [whole.model_copy(update={"grades": partly})])
    assert result.n_pages == 11
    assert (result.judges[0].n_graded, result.judges[0].n_missing) == (23, 1)


def test_judges_who_agree_have_an_alpha_of_1():
    _, key = draw()
    grades = {"new": 3, "copy": 3, "old": 1}
    judges = [grade_all(key, grades, judge) for judge in ("ann", "ben")]
    result = compare_systems(key, judges)
    assert result.alpha == 1
    assert result.n_compared == result.n_pages == 24
    opposite = grade_all(key, {"new": 1, "copy": 1, "old": 3}, "cem")
    against = compare_systems(key, [judges[0], opposite]).alpha
    assert against is not None
    assert against < 0
    assert compare_systems(key, judges[:1]).alpha is None


def test_alpha_is_that_of_krippendorffs_example():
    """Four observers, section C of the paper: ordinal .815."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
    units = [[grade for grade in unit if grade] for unit in zip(*observers, strict=True)]
    alpha = compute_alpha([unit for unit in units if len(unit) > 1])
    assert alpha == pytest.approx(0.815, abs=0.0005)
    assert compute_alpha([[2, 2], [2, 2]]) is None


def save(content, path):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"sheet_id": "other"}, "are of sheet other"),
        ({"seed": 7}, "seed 7"),
        ({"grades": []}, "no product of sheet"),
        ({"grades": [{"product_id": "p0", "label": "Z", "grade": 1}]}, "list 'Z' of product 'p0'"),
        ({"grades": [{"product_id": "?", "label": "A", "grade": 1}]}, "a product of the sheet"),
        ({"grades": [{"product_id": "p0", "label": "A", "grade": 1}] * 2}, "twice"),
        ({"grades": [{"product_id": "p0", "label": "A", "grade": 4}]}, "grades.0.grade.*found 4"),
        ({"grades": [{"product_id": "p0", "label": "A", "grade": True}]}, "found True"),
        ({"grade": []}, "grade: Extra inputs"),
    ],
)
def test_grades_that_cannot_be_are_refused(change, error, tmp_path):
    _, key = draw(N_PRODUCTS)
    plain = {"sheet_id": key.sheet_id, "seed": key.seed, "judge": "ann", "grades": []}
    with pytest.raises(ValueError, match=error):
        compare_systems(key, [read_grades(save(plain | change, tmp_path / "x.json"))])


def test_damaged_and_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        read_grades(save('{"sheet_id": ', tmp_path / "x.json"))
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        read_grades(tmp_path / "x.json")
    with pytest.raises(ValueError, match=r"x\.json holds no grades"):
        read_grades(save([1], tmp_path / "x.json"))
    with pytest.raises(ValueError, match=r"key\.json is no file"):
        read_key(tmp_path / "key.json")


def test_a_key_without_a_system_is_refused(tmp_path):
    content = draw()[1].model_dump()
    del next(iter(content["labels"].values()))["old"]
    with pytest.raises(ValueError, match=r"has labels of \['copy', 'new'\]"):
        read_key(save(content, tmp_path / "key.json"))


def test_a_judge_without_grades_is_listed():
    _, key = draw()
    grades = grade_all(key, {"new": 3, "copy": 3, "old": 1})
    nobody = grades.model_copy(update={"judge": "ben", "grades": ()})
    judges = compare_systems(key, [grades, nobody]).judges
    assert (judges[1].mean, judges[1].n_missing) == (None, 24)


def test_two_files_of_one_judge_are_refused():
    _, key = draw()
    grades = grade_all(key, {"new": 3, "copy": 3, "old": 1})
    with pytest.raises(ValueError, match="several files are by ann"):
        compare_systems(key, [grades, grades])


# The command


@pytest.fixture
def judge(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FBT_HOME", str(tmp_path / "home"))

    def run(*arguments):
        with contextlib.suppress(SystemExit):
            main(["judge", *map(str, arguments)])
        return capsys.readouterr()

    return run


OTHER_PAIRS = (("tea", "sugar"), ("coffee", "milk"), ("bread", "pesto"), ("pasta", "butter"))


def test_two_bundles_are_judged_by_two_judges(judge, tmp_path):
    bundles = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", OTHER_PAIRS)
    folder = tmp_path / "judging"
    asked = judge("--bundles", *bundles, "--products", 8, "--to", folder, "--text", tmp_path / "t")
    assert str(folder / "page.html") in asked.out
    assert "tea" in (folder / "page.html").read_text()
    assert "tea" in (tmp_path / "t").read_text()
    key = read_key(folder / "key.json")
    assert key.systems == tuple(map(str, bundles))
    grades = dict(zip(key.systems, (3, 1), strict=True))
    files = [
        save(grade_all(key, grades, judge).model_dump(), folder / f"{judge}.json")
        for judge in ("ann", "ben")
    ]
    found = judge("--read", *files, "--json", tmp_path / "result.json").out
    assert re.search(rf"{bundles[0]} +3\.00 +3\.00 … 3\.00 +100%", found)
    assert re.search(rf"{bundles[1]} .*-2\.00", found)
    assert "alpha 1.00" in found
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["systems"][0]["best"] == {"mean": 1, "low": 1, "high": 1}


def test_a_bundle_is_judged_beside_a_peer(judge, tmp_path):
    bundle = make_bundle(tmp_path / "a")
    rows = [
        {"order_id": str(i), "items": items, "weight": 1.0, "split": "train"}
        for i, items in enumerate([["tea", "sugar"], ["coffee", "milk"]] * 6)
    ]
    baskets = tmp_path / "baskets"
    write_table(pa.Table.from_pylist(rows, pa.schema(list(BASKETS))), BASKETS, baskets)
    arguments = ("--bundles", bundle, "--products", 4, "--to", tmp_path, "--k", 1)
    judge(*arguments, "--peers", "cosine:shrink=20", "Jaccard", "--baskets", baskets)
    key = read_key(tmp_path / "key.json")
    assert key.systems == (str(bundle), "cosine (lean=0.5, shrink=20)", "Jaccard (shrink=0)")
    assert set(key.labels) == {"tea", "sugar", "coffee", "milk"}
    assert all(len(set(labels.values())) == 2 for labels in key.labels.values())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--bundles {a}", "systems to compare: 1"),
        ("--bundles {a} {a}", "named twice"),
        ("--bundles {a} {a}/x", "holds no bundle.json"),
        ("--bundles {a} {b} --products 9", "9 products are to be drawn"),
        ("--bundles {a} {b} --baskets x", "name some with --peers"),
        ("--bundles {a} --peers cosine", "give --orders or --baskets"),
        ("--bundles {a} --peers telepathy --orders x", "expected one of 'popularity'"),
        ("--bundles {a} --peers cosine:depth=3 --orders x", "no setting 'depth'"),
        ("--bundles {a} --peers cosine:lean=much --orders x", "expected a value like 0.5"),
        ("--read x --bundles {a}", "--read takes no --bundles"),
        ("--read x.json", "x.json is no file"),
        ("--json x", "belong to --read"),
    ],
)
def test_a_wrong_call_is_explained(arguments, error, judge, tmp_path):
    a, b = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b")
    assert error in judge(*arguments.format(a=a, b=b).split()).err


def test_the_key_of_another_sheet_is_not_overwritten(judge, tmp_path):
    bundles = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", OTHER_PAIRS)
    arguments = ("--bundles", *bundles, "--products", 3, "--to", tmp_path / "judging", "--seed")
    assert not judge(*arguments, 0).err
    assert not judge(*arguments, 0, "--text", tmp_path / "sheet.json").err
    sheet = Sheet.model_validate_json((tmp_path / "sheet.json").read_text())
    assert sheet.sheet_id == read_key(tmp_path / "judging" / "key.json").sheet_id
    assert "belongs to another sheet" in judge(*arguments, 1).err


def test_settings_of_peers_keep_their_type():
    assert parse_peer("EASE")[1] == {"ridge": 200}
    assert parse_peer("gensim defaults:shuffled=True")[1] == {"shuffled": True}
    assert parse_peer("Co-occurrence, tuned:exponent=0.5")[1] == {"exponent": 0.5, "shrink": 0.0}
