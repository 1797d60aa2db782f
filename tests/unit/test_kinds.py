"""Different kinds among the first five, and what a kind is."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from components.bundle.kinds import find_kinds
from components.evaluation.champion import Champion
from components.evaluation.excess import compute_shares
from components.evaluation.kind_limits import measure_limits
from components.evaluation.measures import CatalogueFacts
from components.evaluation.tasks import Queries
from components.model.bundle import read_bundle
from components.model.kind_limits import NO_LIMITS, KindLimits
from components.model.kinds import Kinds, append_others
from components.model.recommender import Recommender
from components.model.variants import build_variants
from tests.factories import corpus_of, make_bundle, products_table

DEFAULT = KindLimits(max_own_kind=1, max_same_kind=2)


def order(codes, own_kinds=(), limits=DEFAULT):
    """Codes in the order in which products of these kinds are shown."""
    kinds = Kinds(np.array(codes, np.int32))
    first = kinds.find_first(range(len(codes)), own_kinds, limits)
    return [codes[place] for place in append_others(first, len(codes))]


def test_one_of_the_kind_asked_for_and_two_of_any_kind_come_first():
    soda, chips, dip = 0, 1, 2
    ranking = [soda, soda, soda, chips, chips, chips, dip, dip, soda]
    shown = order(ranking, own_kinds=[soda])
    assert shown == [soda, chips, chips, dip, dip, soda, soda, chips, soda]


def test_an_answer_that_fits_stays():
    ranking = [0, 1, 1, 2, 3, 3, 3, 3]
    assert order(ranking, own_kinds=[0]) == ranking
    assert order([], own_kinds=[0]) == []


def test_what_does_not_fit_fills_up_in_its_order():
    assert order([0, 0, 0, 1], own_kinds=[0]) == [0, 1, 0, 0]
    assert order([0, 0, 0], own_kinds=[0]) == [0, 0, 0]


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        (NO_LIMITS, [0, 1, 1, 1, 1, 2]),
        (KindLimits(max_own_kind=0), [1, 1, 1, 1, 2, 0]),
        (KindLimits(max_own_kind=0, max_same_kind=1), [1, 2, 0, 1, 1, 1]),
        (KindLimits(max_same_kind=1), [0, 1, 2, 1, 1, 1]),
        (KindLimits(max_own_kind=7, max_same_kind=100), [0, 1, 1, 1, 1, 2]),
    ],
)
def test_limits_can_be_lifted_zero_or_larger_than_what_is_shown(limits, shown):
    assert order([0, 1, 1, 1, 1, 2], own_kinds=[0], limits=limits) == shown


def test_every_kind_of_a_cart_has_a_place():
    assert order([0, 1, 0, 1, 2, 3, 4], own_kinds=[0, 1]) == [0, 1, 2, 3, 4, 0, 1]


def test_products_added_later_are_kinds_of_their_own():
    kinds = Kinds(np.zeros(2, np.int32))
    assert len({kinds.get(row) for row in (0, 1, 2, 3)}) == 3


DRINKS = [("cola", "lemonade"), ("water", "juice"), ("chips", "dip"), ("nuts", "bread")]
DRINK = ("cola", "lemonade", "water", "juice")
SHELVES = dict.fromkeys(DRINK, "drinks") | {id_: id_ for id_ in ("chips", "dip", "nuts", "bread")}


@pytest.fixture
def shop(tmp_path):
    """With cola its lemonade is bought, then what sells best: water and juice."""
    bundle = read_bundle(make_bundle(tmp_path / "shop", DRINKS, SHELVES, {}))
    kinds = Kinds(np.array([0, 0, 0, 0, 1, 2, 3, 4], np.int32))
    return replace(bundle, kinds=kinds)


def limit(bundle, **limits):
    return Recommender(replace(bundle, manifest=bundle.manifest.model_copy(update=limits)))


def recommend(recommender, ids, k):
    found = recommender.recommend(ids, k).rows
    return [recommender.bundle.product_ids[row] for row in found]


def test_a_drink_is_not_answered_by_drinks(shop):
    free, limited = Recommender(shop), limit(shop, max_own_kind=1, max_same_kind=2)
    assert recommend(free, ["cola"], 5) == ["lemonade", "water", "juice", "chips", "dip"]
    assert recommend(limited, ["cola"], 5) == ["lemonade", "chips", "dip", "nuts", "bread"]
    everything = ["lemonade", "chips", "dip", "nuts", "bread", "water", "juice"]
    assert recommend(limited, ["cola"], 7) == everything
    assert recommend(limited, ["cola"], 1) == ["lemonade"]


def test_limits_are_of_the_first_places_of_carts_too(shop):
    limited = limit(shop, max_own_kind=0, max_same_kind=2)
    assert set(recommend(limited, ["cola", "bread"], 3)) == {"chips", "dip", "nuts"}


def test_candidates_for_training_and_substitutes_are_of_any_kind(shop):
    limited = limit(shop, max_own_kind=0, max_same_kind=1)
    cola = [np.zeros(1, np.int32)]
    np.testing.assert_array_equal(
        limited.rank_unlimited(cola, 5)[0], Recommender(shop).rank(cola, 5)[0]
    )
    expected = Recommender(shop).similar_items("cola", 5).rows
    np.testing.assert_array_equal(limited.similar_items("cola", 5).rows, expected)


def test_an_old_bundle_has_no_kinds_and_no_limits(shop):
    limited = limit(replace(shop, kinds=None), max_own_kind=0, max_same_kind=1)
    assert recommend(limited, ["cola"], 3) == ["lemonade", "water", "juice"]


def test_the_cost_of_each_setting_is_measured(shop):
    limited = limit(shop, max_own_kind=1, max_same_kind=2)
    # Cola with water, which is its third drink, or with chips.
    baskets = corpus_of(*[[0, 2], [0, 4]] * 20)
    queries = Queries(
        [np.zeros(1, np.int32)] * 40, corpus_of(*[[2], [4]] * 20), np.arange(len(baskets))
    )
    facts = CatalogueFacts(compute_shares(baskets, 8), shop.kinds.codes)
    rows = measure_limits(limited, queries, facts, 10)
    found = {(one["max_own_kind"], one["max_same_kind"]): one for one in rows}
    assert [key for key, one in found.items() if one["is_chosen"]] == [(1, 2)]
    shares = {key: one["own_kind_at_5"] for key, one in found.items()}
    expected = {(None, None): 0.6, (1, None): 0.2, (1, 2): 0.2, (0, 2): 0.2, (1, 1): 0.2}
    assert shares == pytest.approx(expected)  # without drinks four products are left
    assert [found[key]["kinds_at_5"] for key in ((None, None), (1, 2))] == [3, 5]
    free, kept = found[None, None], found[1, 2]
    discounts = {place: 1 / np.log2(place + 1) for place in range(1, 8)}
    assert free["ndcg"] == pytest.approx((discounts[2] + discounts[4]) / 2)
    assert kept["ndcg"] == pytest.approx((discounts[6] + discounts[2]) / 2)
    assert measure_limits(Recommender(replace(shop, kinds=None)), queries, facts, 10) == []


def test_limits_of_ones_own_are_measured_too(shop):
    limited = limit(shop, max_own_kind=3, max_same_kind=4)
    queries = Queries([np.zeros(1, np.int32)], corpus_of([4]), np.arange(1))
    facts = CatalogueFacts(np.full(8, 0.1), shop.kinds.codes)
    *_, own = measure_limits(limited, queries, facts, 10)
    assert (own["max_own_kind"], own["max_same_kind"], own["is_chosen"]) == (3, 4, True)


GROUPS = ("lunch bag", "cake tin", "mug")
PATTERNS = ("spotty", "striped", "woodland", "leafy", "starry")


def gifts(**columns):
    """Every kind in every pattern, kind by kind; products of a kind have similar vectors."""
    names = [f"{pattern} {kind} {i}" for kind in GROUPS for i, pattern in enumerate(PATTERNS)]
    table = products_table([f"p{i}" for i in range(len(names))], {}, {})
    for column, values in ({"name": names} | columns).items():
        place = table.schema.get_field_index(column)
        field = table.schema.field(column)
        table = table.set_column(place, field, pa.array(values, field.type))
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(3, 8), len(PATTERNS), axis=0) + rng.normal(0, 0.1, (len(names), 8))
    return table, vectors.astype(np.float32)


def kinds_of(variants=None, **columns):
    return find_kinds(*gifts(**columns), variants).codes.tolist()


BY_KIND = [0] * 5 + [1] * 5 + [2] * 5


def partition(codes):
    """Kinds numbered as they appear."""
    return [list(dict.fromkeys(codes)).index(code) for code in codes]


def test_categories_are_kinds():
    assert partition(kinds_of(category=list("ababababababaab"))) == [
        *(0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1)
    ]


def test_a_path_of_categories_is_one_kind():
    paths = ["Food > Dairy > Milk", "Food > Dairy > Cheese", "Food > Bread"] * 5
    assert partition(kinds_of(category=paths)) == [0, 1, 2] * 5


@pytest.mark.parametrize(
    "categories",
    [[None] * 15, ["gifts"] * 15, [f"only p{i}" for i in range(15)], [" "] * 15],
    ids=["none", "one for all", "one each", "blank"],
)
def test_useless_categories_leave_it_to_the_names(categories):
    assert partition(kinds_of(category=categories)) == BY_KIND


def test_products_without_category_go_by_their_names():
    known = ["bags", "bags", "bags", "bags", "bags"]
    assert partition(kinds_of(category=known + [None] * 5 + ["mugs"] * 5)) == BY_KIND


def test_without_names_and_categories_kinds_are_unknown():
    assert find_kinds(*gifts(name=[None] * 15), None) is None
    assert find_kinds(*gifts(name=["12 34"] + ["?"] * 14), None) is None


def test_variants_are_of_one_kind():
    one, other = np.array([0, 5], np.int32), np.array([14, 6], np.int32)
    codes = kinds_of(build_variants(one, other, 15), name=[None] * 15)
    assert codes[0] == codes[14]
    assert codes[5] == codes[6]
    assert len(set(codes)) == 13


def test_products_without_vectors_join_by_name():
    table, vectors = gifts()
    assert partition(find_kinds(table, vectors[:14], None).codes.tolist()) == BY_KIND


@pytest.mark.parametrize("n", [0, 1])
def test_a_table_may_be_almost_empty(n):
    table, vectors = gifts()
    assert find_kinds(table.slice(0, n), vectors[:n], None) is None


def test_a_champion_is_judged_under_the_same_limits(shop):
    ids = [*shop.product_ids[:6], "new", "newer"]
    limits = KindLimits(max_own_kind=1, max_same_kind=2)
    cola = [np.zeros(1, np.int32)]
    free = Champion(shop, ids).rank(cola, 7)[0][0].tolist()
    assert free == [1, 2, 3, 4, 5, -1, -1]
    limited = Champion(shop, ids, shop.kinds, limits).rank(cola, 7)[0][0].tolist()
    assert limited == [1, 4, 5, -1, -1, 2, 3]  # nuts and bread left the catalogue
