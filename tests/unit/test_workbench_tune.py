"""Settings that are tried: what they ask for, another discount on stored pages, their effect."""

import numpy as np
import pytest
from starlette.datastructures import QueryParams

from bento.workbench.errors import BadInput
from bento.workbench.tuning.discount import apply_discount, can_discount
from bento.workbench.tuning.effect import (
    answer_pages,
    compare_with_chance,
    draw_pages,
    measure_effect,
    measure_kept,
)
from bento.workbench.tuning.preview import preview_items, tune_selection
from bento.workbench.tuning.settings import Tuning, parse_tuning
from bento.workbench.versions import LoadedVersion
from bento.workbench.views.tune import make_rule, read_question
from components.model.bundle import (
    Pairs,
    PrecomputedItems,
    assemble_bundle,
    read_bundle,
    write_bundle,
)
from components.model.chance import Chance
from components.model.kinds import Kinds
from components.model.manifest import Manifest
from tests.factories import products_table

PRODUCTS = ("bananas", "nails", "hammer", "saw")
"""Bananas are in every second order, the others seldom; nails and hammer go together."""


def make_version(folder, trained):
    """The page of nails has, by gain: bananas .30, hammer .28, saw .05; chance earns bananas .10,
    the others hardly anything."""
    n = len(PRODUCTS)
    table = products_table(PRODUCTS, dict.fromkeys(PRODUCTS, "tools") | {"bananas": "fruit"}, {})
    n_orders = np.array([500, 60, 50, 40])
    shares = np.array([0.1, 0.001, 0.001, 0.001], np.float32)
    chance = Chance(
        shares=shares,
        others=np.array([1.0], np.float32),
        baskets=n_orders[:, None].astype(np.float32),
        excess=np.array([0.0, 0.2], np.float32),
    )
    gains = np.full((n, n - 1), -np.inf, np.float32)
    rows = np.full((n, n - 1), -1, np.int32)
    by_chance = chance.compute_gain(np.array([1]), np.array([[0, 2, 3]]))[0]
    scores = np.array([0.30, 0.28, 0.05], np.float32) - np.float32(trained) * by_chance
    order = np.argsort(-scores)
    rows[1], gains[1] = np.array([0, 2, 3])[order], scores[order]
    rows[[0, 2, 3]] = [[1, 2, 3], [1, 0, 3], [1, 2, 0]]
    gains[[0, 2, 3]] = [0.3, 0.2, 0.1]
    offsets = np.array([0, 0, 2, 2, 2])
    pairs = Pairs(
        offsets,
        np.array([0, 2], np.int32),
        np.array([6, 10], np.int32),
        np.array([0.1, 0.2], np.float32),
    )
    manifest = Manifest(
        created_at="", n_items=n, n_products=n, n_orders=1000, dims=2, popularity_discount=trained,
        max_own_kind=1,
    )  # fmt: skip
    vectors = np.ones((n, 2), np.float32)
    bundle = assemble_bundle(
        manifest, table, vectors, vectors, n_orders, pairs,
        precomputed=PrecomputedItems(rows, gains), chance=chance,
        kinds=Kinds(np.array([0, 1, 1, 1], np.int32)),
    )  # fmt: skip
    write_bundle(bundle, folder)
    return LoadedVersion("1", read_bundle(folder, products=False))


@pytest.fixture(scope="module")
def undiscounted(tmp_path_factory):
    return make_version(tmp_path_factory.mktemp("undiscounted") / "bundle", 0.0)


@pytest.fixture(scope="module")
def discounted(tmp_path_factory):
    return make_version(tmp_path_factory.mktemp("discounted") / "bundle", 1.0)


def page(recommender, product=1):
    rows, _ = recommender.items.rank_one(product, 3)
    return [PRODUCTS[row] for row in rows.tolist()]


class TestDiscount:
    def test_the_trained_discount_changes_nothing(self, discounted):
        own = discounted.selection.recommender
        assert apply_discount(own, 1.0) is own

    def test_without_a_discount_the_bestseller_comes_first(self, discounted):
        assert page(discounted.selection.recommender) == ["hammer", "bananas", "saw"]
        assert page(apply_discount(discounted.selection.recommender, 0.0))[0] == "bananas"

    def test_scores_are_those_of_a_model_trained_so(self, discounted, tmp_path):
        trained = make_version(tmp_path / "half", 0.5)
        tuned = apply_discount(discounted.selection.recommender, 0.5)
        rows, scores = tuned.items.rank_one(1, 3)
        expected_rows, expected = trained.selection.recommender.items.rank_one(1, 3)
        assert rows.tolist() == expected_rows.tolist()
        assert scores == pytest.approx(expected, abs=1e-6)

    def test_a_longer_list_than_the_stored_one_is_padded(self, discounted):
        tuned = apply_discount(discounted.selection.recommender, 0.0)
        rows, scores = tuned.items.rank(np.array([1], np.int32), 5)
        assert rows[0, 3:].tolist() == [-1, -1]
        assert np.isneginf(scores[0, 3:]).all()

    def test_carts_are_ranked_with_the_chosen_discount(self, discounted):
        tuned = apply_discount(discounted.selection.recommender, 0.25)
        assert tuned.carts.bundle.manifest.popularity_discount == 0.25

    def test_scores_of_the_blend_become_gains_first(self, undiscounted):
        # Trained without a discount or re-ranker, its scores are no gains.
        tuned = apply_discount(undiscounted.selection.recommender, 1.0)
        assert page(undiscounted.selection.recommender)[0] == "bananas"
        assert set(page(tuned)) == {"bananas", "hammer", "saw"}

    def test_a_bundle_without_chance_cannot_be_discounted(self, tmp_path):
        from tests.factories import make_bundle

        old = read_bundle(make_bundle(tmp_path / "old"), products=False)
        assert not can_discount(old)
        version = LoadedVersion("1", old)
        assert tune_selection(version, 0.5).recommender is version.selection.recommender


class TestSettings:
    def parse(self, query):
        params = QueryParams(query)
        return parse_tuning(params, {one: params.getlist(one) for one in ("include", "exclude")})

    def test_what_is_left_empty_stays_as_it_is(self):
        tuning = self.parse("discount=&own=&ratio=&stock=")
        assert tuning.is_empty
        assert tuning.request_fields == {}

    def test_settings_become_fields_of_the_request(self):
        tuning = self.parse(
            "own=-1&diversity=.5&ratio=2&strict=1&exclude=toys&exclude=tea&low=1&stock=in"
        )
        assert tuning.request_fields == {
            "max_own_kind": -1,
            "diversity": 0.5,
            "price_ratio": 2,
            "strict": True,
            "filters": {
                "category": {"include": [], "exclude": ["toys", "tea"]},
                "price": {"min": 1, "max": None},
                "in_stock": True,
            },
        }
        assert tuning.ask(["tea"], 5).filters.price.min == 1

    def test_a_url_holds_all_of_the_state(self):
        query = "discount=0.5&own=3&same=2&strict=1&include=a&include=b%26c&high=9.5&stock=any"
        tuning = self.parse(query)
        again = self.parse(tuning.query())
        assert again == tuning

    def test_errors_name_the_field_and_what_was_found(self):
        with pytest.raises(BadInput, match="discount: found '7'"):
            self.parse("discount=7")
        with pytest.raises(BadInput, match="lowest price that is not above the highest"):
            self.parse("low=3&high=2")
        with pytest.raises(BadInput, match="same: found '0'"):
            self.parse("same=0")

    def test_a_rule_sets_what_rules_can_set(self):
        tuning = Tuning(discount=0.5, own=2, diversity=0.3, exclude=("toys",), stock="any")
        rule = make_rule(tuning, "category:tools", "fewer toys")
        assert rule.action == "set"
        assert rule.settings.given == {
            "max_own_kind": 2, "diversity": 0.3, "include_out_of_stock": True,
        }  # fmt: skip
        assert rule.when.key == ("category", "tools")
        assert rule.note == "fewer toys"

    def test_the_discount_is_a_parameter_of_runs_only(self):
        tuning = Tuning(discount=0.5, own=-1)
        assert tuning.run_parameters == {"popularity_discount": 0.5, "max_own_kind": -1}
        with pytest.raises(BadInput, match="none that a rule can set"):
            make_rule(Tuning(discount=0.5), "", "")

    def test_run_parameters_are_those_of_a_run(self):
        from pipelines.parameters import TrainingParameters

        names = Tuning(discount=0.5, own=1, same=2).run_parameters
        assert names.keys() <= TrainingParameters.model_fields.keys()
        TrainingParameters(orders="orders.csv", **names)


class TestEffect:
    def test_pages_are_drawn_once_and_often_bought_ones_oftener(self, discounted):
        bundle = discounted.bundle
        assert draw_pages(bundle, 2).tolist() == draw_pages(bundle, 2).tolist()
        assert len(draw_pages(bundle, 300)) == 4

    def test_pairs_are_compared_with_chance(self, discounted):
        # Nails: 60 baskets of 2 products; a hammer is the other one 0.06 times by chance.
        ratios = compare_with_chance(discounted.bundle, 1, [0, 2])
        assert ratios == pytest.approx([6 / 6, 10 / 0.06], rel=1e-3)
        assert len(compare_with_chance(discounted.bundle, 3, [0, 2])) == 0

    def test_a_lower_limit_of_the_own_kind_shows_fewer_of_it(self, discounted):
        rows = np.array([1, 2, 3])
        found = [
            answer_pages(discounted.selection, rows, tuning)
            for tuning in (Tuning(own=-1), Tuning())
        ]
        free, limited = (measure_effect(discounted.bundle, rows, one) for one in found)
        assert limited.own_kind <= free.own_kind
        assert free.n_pages == 3

    def test_what_stays_is_a_share_of_the_present(self):
        present = np.array([[1, 2, -1], [3, 4, -1]])
        assert measure_kept(present, np.array([[2, 9, 8], [4, 3, -1]])) == 0.75

    def test_nothing_tuned_is_the_present_answer(self, discounted):
        preview = preview_items(discounted, discounted.selection, Tuning(), ("nails",), 3)
        assert preview.is_same
        assert preview.n_changed == 0

    def test_what_a_filter_leaves_out_is_marked(self, discounted):
        tuning = Tuning(exclude=("fruit",))
        preview = preview_items(discounted, discounted.selection, tuning, ("nails",), 3)
        gone = [item.product_id for item, move in preview.present if move.change == "only"]
        assert gone == ["bananas"]
        assert [item.product_id for item, _ in preview.tuned] == ["hammer", "saw"]
        assert "filters" in preview.message


class TestQuestion:
    def test_pages_are_products_and_a_cart(self):
        asked = read_question(QueryParams("product=a,b&page=c&items=x,y&add=d"))
        assert asked.pages == (("x", "y"), ("a,b",), ("c",), ("d",))
        assert read_question(QueryParams(asked.query())).pages == asked.pages

    def test_too_many_pages_are_refused(self):
        with pytest.raises(BadInput, match="found 9 pages, expected 8"):
            read_question(QueryParams([("page", str(n)) for n in range(9)]))

    def test_a_removed_page_keeps_the_settings(self):
        asked = read_question(QueryParams("page=a&page=b&own=2"))
        assert asked.without(("a",)) == "/tune?page=b&own=2"
