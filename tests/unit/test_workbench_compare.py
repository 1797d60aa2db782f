"""Comparing versions: places, overlaps, measures, blind sides, jobs."""

import threading

import numpy as np
import pytest

from bento.workbench.carts import parse_items
from bento.workbench.comparing.blind import BlindSides
from bento.workbench.comparing.jobs import Jobs
from bento.workbench.comparing.lists import find_moves
from bento.workbench.comparing.measures import list_measures
from bento.workbench.comparing.overall import K, compare_versions, measure_overlap
from bento.workbench.comparing.products import find_shared
from bento.workbench.errors import BadInput
from bento.workbench.versions import LoadedVersion
from components.model.bundle import read_bundle
from tests.factories import CATEGORIES, make_bundle


def ignore(done, total):
    pass


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Two versions: in the second, tea goes with sugar, and there is no pasta but rice."""
    folder = tmp_path_factory.mktemp("versions")
    others = [("coffee", "milk"), ("tea", "sugar"), ("bread", "butter"), ("rice", "pesto")]
    categories = {**CATEGORIES, "rice": "dry goods"}
    a = make_bundle(folder / "a")
    b = make_bundle(folder / "b", pairs=others, categories=categories)
    return [
        LoadedVersion(number, read_bundle(path, products=False))
        for number, path in (("1", a), ("2", b))
    ]


class TestMoves:
    def test_a_product_that_moved_says_how_far(self):
        moves = find_moves(["milk", "tea", "jam"], ["jam", "milk", "salt"])
        assert [move.sign for move in moves] == ["↑1", "+", "↓2"]

    def test_words_say_what_the_sign_shows(self):
        up, only, down = find_moves(["milk", "tea", "jam"], ["jam", "milk", "salt"])
        assert up.describe("the right list") == (
            "1 place higher than in the right list, where it is number 2"
        )
        assert only.describe("the right list") == "not in the right list"
        assert down.describe("the right list").startswith("2 places lower")

    def test_equal_lists_have_no_moves(self):
        assert {move.change for move in find_moves(["a", "b"], ["a", "b"])} == {"same"}

    def test_a_list_beside_nothing_is_all_new(self):
        assert [move.change for move in find_moves(["a"], [])] == ["only"]


class TestOverlap:
    def test_shared_products_are_counted_whatever_their_order(self):
        a = np.array([[1, 2, 3, 4]], np.uint64)
        assert measure_overlap(a, a[:, ::-1]).tolist() == [1.0]
        assert measure_overlap(a, np.array([[4, 9, 8, 1]], np.uint64)).tolist() == [0.5]

    def test_a_short_list_does_not_overlap_with_what_is_missing(self):
        a = np.array([[1, 2, 0, 0]], np.uint64)
        assert measure_overlap(a, np.array([[1, 0, 0, 0]], np.uint64)).tolist() == [0.5]

    def test_two_empty_lists_are_the_same(self):
        nothing = np.zeros((1, 4), np.uint64)
        assert measure_overlap(nothing, nothing).tolist() == [1.0]


class TestSharedProducts:
    def test_products_of_one_version_only_are_left_out(self, versions):
        shared = find_shared(*versions, 100)
        ids = [versions[0].selection.catalogue.product_id(row) for row in shared.rows_a.tolist()]
        assert ids == ["tea", "milk", "coffee", "sugar", "bread", "butter", "pesto"]
        other = [versions[1].selection.catalogue.product_id(row) for row in shared.rows_b.tolist()]
        assert other == ids

    def test_the_most_bought_come_first(self, versions):
        shared = find_shared(*versions, 2)
        assert shared.weights.tolist() == [80, 70]
        assert shared.n_shared == 7

    def test_views_come_before_orders(self, versions):
        shared = find_shared(*versions, 1, views={"pesto": 5, "tea": 1})
        assert versions[0].selection.catalogue.product_id(int(shared.rows_a[0])) == "pesto"
        assert shared.weights.tolist() == [5]


class TestOverall:
    def test_a_version_is_equal_to_itself(self, versions):
        found = compare_versions(versions[0], versions[0], 100, False, ignore)
        assert (found.n, found.overlap, found.identical, found.same_first) == (8, 1, 1, 1)
        assert found.changed == ()

    def test_changed_first_products_are_found(self, versions):
        found = compare_versions(*versions, 100, False, ignore)
        # Bread and butter alone keep each other.
        assert found.same_first == pytest.approx(2 / 7)
        assert sum(found.histogram) == found.n == 7

    def test_the_best_of_each_side_is_named(self, versions):
        found = compare_versions(*versions, 100, False, ignore)
        butter = next(one for one in found.changed if one.product_id == "butter")
        assert butter.first_a == "Pasta, the good one"
        assert butter.first_b == "Rice, the good one"

    def test_categories_have_all_products(self, versions):
        found = compare_versions(*versions, 100, False, ignore)
        assert sum(one.n_products for one in found.categories) == 7
        assert sum(one.weight for one in found.categories) == pytest.approx(1)

    def test_answers_as_served_are_those_of_the_service(self, versions):
        alone = compare_versions(*versions, 100, False, ignore)
        served = compare_versions(*versions, 100, True, ignore)
        assert served.overlap == pytest.approx(alone.overlap)

    def test_progress_ends_with_all_products(self, versions):
        seen = []
        compare_versions(*versions, 100, False, lambda *progress: seen.append(progress))
        assert seen[-1] == (7, 7)

    def test_versions_without_a_product_in_common_have_no_overlap(self, versions, tmp_path):
        other = make_bundle(tmp_path / "c", pairs=[("x", "y")], categories={}, cold={})
        strange = LoadedVersion("3", read_bundle(other, products=False))
        found = compare_versions(versions[0], strange, 100, False, ignore)
        assert (found.n, found.n_shared, found.histogram) == (0, 0, (0,) * (K + 1))


class TestMeasures:
    def test_differences_are_better_or_worse_by_the_direction(self):
        names = ("test.item.model.ndcg", "test.item.model.bestsellers_at_5")
        a, b = (
            {
                f"{name}.{end}": value + more
                for name in names
                for end, more in {"low": -0.01, "mean": 0, "high": 0.01}.items()
            }
            for value in (0.1, 0.2)
        )
        rows = {row.words: row for row in list_measures(a, b)}
        assert rows["NDCG@10"].difference == pytest.approx(0.1)
        assert rows["NDCG@10"].verdict == "better"
        assert rows["Bestsellers among five"].verdict == "worse"

    def test_a_difference_within_the_intervals_is_no_verdict(self):
        key = "test.item.model.ndcg"
        a = {f"{key}.mean": 0.10, f"{key}.low": 0.08, f"{key}.high": 0.12}
        b = {f"{key}.mean": 0.11, f"{key}.low": 0.09, f"{key}.high": 0.13}
        (row,) = list_measures(a, b)
        assert row.difference == pytest.approx(0.01)
        assert row.verdict == ""

    def test_without_intervals_there_is_no_verdict(self):
        key = "test.cart.model.coverage"
        (row,) = list_measures({key: 0.1}, {key: 0.9})
        assert row.verdict == ""

    def test_a_measure_of_one_version_has_no_difference(self):
        (row,) = list_measures({}, {"test.cart.model.coverage": 0.4})
        assert (row.a, row.b, row.difference, row.verdict) == (None, 0.4, None, "")

    def test_online_and_judged_measures_are_there_once_recorded(self):
        b = {"online.click_through": 0.04, "online.n_sessions": 9.0, "judged.grade": 2.1}
        rows = {row.group: row.words for row in list_measures({}, b)}
        assert rows == {"Online": "Click-through rate", "Judged": "Grade"}


class TestBlindSides:
    def test_sides_stay_when_the_page_is_loaded_again(self):
        sides = BlindSides()
        drawn = {sides.is_swapped("ann", ("7", "8"), ("tea",)) for _ in range(20)}
        assert len(drawn) == 1

    def test_the_order_of_the_versions_in_the_url_tells_nothing(self):
        sides = BlindSides()
        for product in map(str, range(50)):
            one = sides.is_swapped("ann", ("7", "8"), (product,))
            other = sides.is_swapped("ann", ("8", "7"), (product,))
            # The version on the left is the same.
            assert ("8" if one else "7") == ("7" if other else "8")

    def test_each_side_comes_about_as_often(self):
        sides = BlindSides()
        drawn = [sides.is_swapped("ann", ("7", "8"), (str(n),)) for n in range(1000)]
        assert 400 < sum(drawn) < 600

    def test_another_process_draws_anew(self):
        first, second = (
            [one.is_swapped("ann", ("7", "8"), (str(n),)) for n in range(64)]
            for one in (BlindSides(), BlindSides())
        )
        assert first != second

    def test_what_was_revealed_is_remembered_for_that_person_and_product(self):
        sides = BlindSides()
        sides.reveal("ann", ("7", "8"), ("tea",))
        assert sides.is_revealed("ann", ("8", "7"), ("tea",))
        assert not sides.is_revealed("bob", ("7", "8"), ("tea",))
        assert not sides.is_revealed("ann", ("7", "8"), ("milk",))


class TestJobs:
    def test_one_question_is_computed_once(self):
        jobs, calls = Jobs(), []

        def compute(report):
            calls.append(1)
            report(1, 1)
            return "done"

        first, second = jobs.start("key", compute), jobs.start("key", compute)
        assert first is second
        assert first.future.result(10) == "done"
        assert (len(calls), first.done, first.total) == (1, 1, 1)

    def test_a_failed_one_is_tried_again(self):
        jobs = Jobs()

        def fail(report):
            raise ValueError("no")

        assert jobs.start("key", fail).future.exception(10)
        assert jobs.start("key", lambda report: 1).future.result(10) == 1

    def test_old_results_are_dropped(self):
        jobs, waiting = Jobs(n_kept=1), threading.Event()
        jobs.start("a", lambda report: waiting.wait(10))
        kept = jobs.start("b", lambda report: 2)
        waiting.set()
        assert kept.future.result(10) == 2
        assert jobs.start("a", lambda report: 3).future.result(10) == 3


def test_items_are_separated_by_commas_or_given_one_by_one():
    assert parse_items(["tea, milk,,tea"]) == ["tea", "milk"]
    assert parse_items(["a,b", "c"]) == ["a,b", "c"]
    assert parse_items([]) == []
    with pytest.raises(BadInput, match="found 257 characters"):
        parse_items(["m" * 257])
    with pytest.raises(BadInput, match="found 51 products, expected 50 at most"):
        parse_items([",".join(map(str, range(51)))])
