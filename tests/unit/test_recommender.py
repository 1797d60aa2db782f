"""The ranking code, on bundles whose right answers are obvious."""

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from components.model import item_ranking
from components.model.bundle import Neighbours, Pairs, read_bundle
from components.model.item_ranking import COOCCURRENCE_SCALE
from components.model.manifest import CartWeights
from components.model.recommender import Recommender
from components.model.reranking import stack_below
from components.model.substitutes import ATTRIBUTE_WEIGHT
from components.model.text_similarity import Attributes
from components.model.top_k import rank_columns
from components.ranking.precompute import precompute_items
from tests.factories import (
    PAIRS,
    make_bundle,
    make_large_bundle,
    products_table,
    random_bundle,
    write,
)

IDS = [id_ for pair in PAIRS for id_ in pair]


@pytest.fixture(scope="module", params=["exact", "index"])
def recommender(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param) / "bundle"
    return Recommender(read_bundle(make_bundle(directory, with_index=request.param == "index")))


def ids_of(recommender, answer):
    return [recommender.bundle.product_ids[row] for row in answer.rows]


def ask(recommender, *items, k=3):
    return ids_of(recommender, recommender.recommend(items, k))


@pytest.mark.parametrize("pair", PAIRS)
def test_the_partner_comes_first(recommender, pair):
    one, other = pair
    assert ask(recommender, one)[0] == other
    assert ask(recommender, other)[0] == one


def test_the_rest_comes_by_popularity(recommender):
    assert ask(recommender, "pasta", k=100) == ["pesto", *IDS[:6]]


def test_a_cart_wants_what_any_of_its_products_wants(recommender):
    assert set(ask(recommender, "tea", "pasta", k=2)) == {"milk", "pesto"}
    assert set(ask(recommender, "tea", "bread", "coffee", k=3)) == {"milk", "butter", "sugar"}


def test_a_cart_with_both_of_a_pair_gets_something_else(recommender):
    assert set(ask(recommender, "tea", "milk", k=100)) == set(IDS[2:])


def test_never_what_was_asked_for_and_never_twice(recommender):
    for size in (1, 2, 3, 7, 8):
        for items in itertools.islice(itertools.combinations(IDS, size), 30):
            found = ask(recommender, *items, k=100)
            assert sorted(found) == sorted(set(IDS) - set(items))


def test_the_order_of_a_cart_does_not_matter(recommender):
    first, *others = (
        recommender.recommend(items, 5)
        for items in itertools.permutations(["tea", "sugar", "pasta"])
    )
    for other in others:
        np.testing.assert_array_equal(other.rows, first.rows)
        np.testing.assert_allclose(other.scores, first.scores, rtol=1e-6)


def test_repetition_does_not_matter(recommender):
    once, thrice = recommender.recommend(["tea"], 4), recommender.recommend(["tea"] * 3, 4)
    assert once.rows.tolist() == thrice.rows.tolist()
    assert once.scores.tolist() == thrice.scores.tolist()


def test_scores_fall(recommender):
    for items in (["tea"], ["tea", "pasta"], ["no such"]):
        assert (np.diff(recommender.recommend(items, 100).scores) <= 0).all()


def test_an_unknown_product_gets_bestsellers_and_is_named(recommender):
    answer = recommender.recommend(["no such", "nor such"], 3)
    assert answer.source == "bestsellers"
    assert answer.unknown == ["no such", "nor such"]
    assert ids_of(recommender, answer) == IDS[:3]


def test_an_unknown_product_does_not_disturb_a_known_one(recommender):
    answer = recommender.recommend(["no such", "tea"], 3)
    assert answer.source == "model"
    assert answer.unknown == ["no such"]
    assert ids_of(recommender, answer) == ask(recommender, "tea")


def test_a_cold_product_gets_what_goes_with_products_like_it(recommender):
    answer = recommender.recommend(["rye bread"], 3)
    assert (answer.source, answer.unknown) == ("attribute_neighbours", ["rye bread"])
    assert ids_of(recommender, answer)[0] == "butter"


def test_several_cold_products_are_one_question(recommender):
    answer = recommender.recommend(["rye bread", "mystery box"], 3)
    assert answer.source == "attribute_neighbours"
    assert answer.unknown == ["rye bread", "mystery box"]
    assert ids_of(recommender, answer)[0] == "butter"


@pytest.mark.parametrize("items", [[], ["new"]])
def test_a_brand_new_product_is_answered_by_its_attributes(recommender, items):
    new = Attributes("Fresh pasta", "dry goods", price=7.0)
    answer = recommender.recommend(items, 3, new)
    assert (answer.source, answer.unknown) == ("attribute_neighbours", items)
    assert ids_of(recommender, answer)[0] == "pesto"


def test_what_was_bought_beats_what_is_written(recommender):
    answer = recommender.recommend(["tea"], 1, Attributes("Fresh pasta"))
    assert (answer.source, ids_of(recommender, answer)) == ("model", ["milk"])


def test_what_is_asked_beats_the_card_as_far_as_it_goes(recommender):
    answer = recommender.recommend(["rye bread"], 1, Attributes(name="Pasta", category="dry goods"))
    assert ids_of(recommender, answer) == ["pesto"]
    answer = recommender.recommend(["rye bread"], 1, Attributes(price=3.0))
    assert ids_of(recommender, answer) == ["butter"]


@pytest.mark.parametrize(
    "nothing",
    [None, Attributes(), Attributes("zzz", "?", "\x00", float("nan")), Attributes(category="")],
)
def test_attributes_that_say_nothing_get_bestsellers(recommender, nothing):
    answer = recommender.recommend(["new"], 2, nothing)
    assert (answer.source, ids_of(recommender, answer)) == ("bestsellers", IDS[:2])
    answer = recommender.similar_items("new", 2, nothing)
    assert (answer.source, ids_of(recommender, answer)) == ("bestsellers", IDS[:2])


def test_a_category_without_a_word_still_has_bestsellers(tmp_path):
    categories = {id_: "🍞" if id_ in ("bread", "butter") else "🛒" for id_ in IDS}
    bundle = make_bundle(tmp_path / "bundle", categories=categories)
    recommender = Recommender(read_bundle(bundle))
    answer = recommender.recommend([], 3, Attributes(category="🍞"))
    assert answer.source == "category_bestsellers"
    assert ids_of(recommender, answer) == ["bread", "butter"]


def test_a_catalogue_without_attributes_answers_all_the_same(tmp_path):
    table = products_table(IDS, {}, {"cold": None})
    for column in ("name", "category", "price"):
        empty = pa.nulls(table.num_rows, table.schema.field(column).type)
        table = table.set_column(table.column_names.index(column), column, empty)
    eye = np.eye(8, dtype=np.float32)
    write(tmp_path / "bundle", table, eye, eye, np.arange(8, 0, -1))
    recommender = Recommender(read_bundle(tmp_path / "bundle"))
    answer = recommender.recommend(["cold"], 2, Attributes("Tea", "drinks", "Best", 2.0))
    assert (answer.source, ids_of(recommender, answer)) == ("bestsellers", IDS[:2])


def test_similar_is_what_is_bought_in_the_same_company(tmp_path):
    """Tea and coffee go with milk and sugar, never with each other; bread goes with butter."""
    ids = ["tea", "coffee", "bread", "milk", "sugar", "butter"]
    company = np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0.1], [0, 0, 0]])
    out, n_orders = np.eye(6, 3, dtype=np.float32), np.arange(6, 0, -1)
    table = products_table(ids, {}, {"green tea": None})
    write(tmp_path / "bundle", table, company.astype(np.float32), out, n_orders)
    recommender = Recommender(read_bundle(tmp_path / "bundle"))
    answer = recommender.similar_items("tea", 100)
    assert (answer.source, answer.unknown) == ("model", [])
    assert ids_of(recommender, answer)[0] == "coffee"
    assert sorted(ids_of(recommender, answer)) == sorted(set(ids) - {"tea"})
    assert (np.diff(answer.scores) <= 0).all()
    assert 1.8 / 1.81 < answer.scores[0] < 1.8 / 1.81 + ATTRIBUTE_WEIGHT
    # Butter shares nobody's company, so that looks decide.
    looks_like = products_table(ids, {}, {}).set_column(
        1, "name", [["tea", "coffee", "bread", "full milk", "sugar", "full butter"]]
    )
    write(tmp_path / "looks", looks_like, company.astype(np.float32), out, n_orders)
    assert Recommender(read_bundle(tmp_path / "looks")).similar_items(
        "butter", 1
    ).rows.tolist() == [3]
    cold = recommender.similar_items("green tea", 2)
    assert (cold.source, cold.unknown) == ("attribute_neighbours", ["green tea"])
    assert ids_of(recommender, cold)[0] == "tea"
    new = recommender.similar_items(None, 1, Attributes("Coffee beans"))
    assert (ids_of(recommender, new), new.unknown) == (["coffee"], [])


@pytest.mark.parametrize("odd", ["-1", "0", "8", "", "TEA", "tea ", "te\x00a", "🫖", "x" * 10_000])
def test_an_id_is_a_text_and_nothing_else(recommender, odd):
    assert recommender.recommend([odd], 1).unknown == [odd]


ODD_PAIRS = [
    ("007", "7"),
    ("-1", "1"),
    ('say "tea"', "it's"),
    ("茶", "🥛"),
    ("with space", " "),
    ("NaN", "null"),
    ("a,b;c", "a\tb"),
]


@pytest.mark.parametrize(("one", "other"), ODD_PAIRS)
def test_odd_ids_are_kept_apart(tmp_path, one, other):
    bundle = make_bundle(tmp_path / "bundle", pairs=ODD_PAIRS, cold={})
    assert ask(Recommender(read_bundle(bundle)), one, k=1) == [other]
    assert ask(Recommender(read_bundle(bundle)), other, k=1) == [one]


@pytest.mark.parametrize("with_index", [False, True])
@pytest.mark.parametrize("n_items", [1, 2, 3])
def test_the_smallest_catalogues_answer_with_what_they_have(tmp_path, n_items, with_index):
    ids = ["tea", "milk", "sugar"][:n_items]
    vectors = np.eye(n_items, 3, dtype=np.float32)
    n_orders = np.array([30, 20, 10])[:n_items]
    table = products_table(ids, {}, {})
    write(tmp_path / "bundle", table, vectors, vectors, n_orders, with_index=with_index)
    recommender = Recommender(read_bundle(tmp_path / "bundle"))
    for k in (1, 2, 100):
        assert ask(recommender, "tea", k=k) == ids[1 : k + 1]
        assert ask(recommender, *ids, k=k) == []
        assert ask(recommender, "no such", k=k) == ids[:k]


def test_ties_go_to_the_lower_column():
    scores = np.zeros((2, 50), np.float32)
    scores[1, 40:] = 1
    columns, _ = rank_columns(scores, 5)
    assert columns.tolist() == [[0, 1, 2, 3, 4], [40, 41, 42, 43, 44]]


def test_products_that_are_all_alike_come_in_the_same_order_every_time(tmp_path):
    ids = [f"p{row}" for row in range(50)]
    alike, n_orders = np.ones((50, 4), np.float32), np.full(50, 7)
    write(tmp_path / "bundle", products_table(ids, {}, {}), alike, alike, n_orders)
    for items in (["p3"], ["p3", "p0"]):
        answers = {
            tuple(ask(Recommender(read_bundle(tmp_path / "bundle")), *items, k=5)) for _ in range(5)
        }
        assert len(answers) == 1


def test_index_and_exact_search_agree(tmp_path):
    bundle = read_bundle(make_large_bundle(tmp_path / "bundle", n_items=2000, dims=16))
    assert bundle.manifest.index is not None
    by_index, exactly = Recommender(bundle), Recommender(bundle)
    exactly.items._index = None
    queries = [np.array([row], np.int32) for row in range(200)]
    found, scores = by_index.rank(queries, 10)
    wanted, wanted_scores = exactly.rank(queries, 10)
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, wanted, strict=True)])
    assert recall >= 0.95
    same = found == wanted
    np.testing.assert_allclose(scores[same], wanted_scores[same], rtol=1e-4)


def test_a_cart_listens_to_neighbours_as_far_as_it_is_told(tmp_path):
    """Tea and bread together speak for pesto, each half as loudly as tea alone for pasta."""
    ids, eye = ["tea", "bread", "pasta", "pesto", "salt"], np.eye(5, dtype=np.float32)
    neighbours = Neighbours(
        offsets=np.array([0, 2, 4, 4, 4, 4]),
        rows=np.array([2, 3, 3, 4], np.int32),
        weights=np.array([100, 60, 60, -127], np.int8),
        scales=np.full(5, 0.01, np.float32),
    )
    table, n_orders = products_table(ids, {}, {}), np.array([50, 40, 30, 20, 10])

    def answer(**weights):
        write(
            tmp_path / "bundle", table, eye, eye, n_orders,
            neighbours=neighbours, cart_weights=CartWeights(**weights),
        )  # fmt: skip
        return Recommender(read_bundle(tmp_path / "bundle")).recommend(["bread", "tea"], 3)

    only = answer(vectors=0, neighbours=1)
    assert only.rows.tolist() == [3, 2, 4]
    np.testing.assert_allclose(only.scores, [1.2, 1.0, -1.27], rtol=1e-6)
    assert answer(vectors=1).rows.tolist() == [2, 3, 4], "without a weight they are not heard"
    both = answer(vectors=1, neighbours=2)
    np.testing.assert_allclose(both.scores, 2 * only.scores, atol=1)
    assert (both.scores > 2 * only.scores).all()


def test_a_cart_counts_what_was_bought_with_all_of_it(tmp_path):
    bundle = read_bundle(make_bundle(tmp_path / "bundle"))
    pairs = Pairs(
        np.array([0, 2, 2, 3, 3, 3, 3, 3, 3]),
        np.array([5, 7, 7], np.int32),
        np.array([3, 2, 2], np.int32),
        np.array([0.3, 0.2, 0.2], np.float32),
    )
    weights = CartWeights(vectors=0, cooccurrence=0.5)
    manifest = bundle.manifest.model_copy(update={"cart_weights": weights})
    recommender = Recommender(replace(bundle, manifest=manifest, pairs=pairs))
    found = recommender.recommend(["tea", "coffee"], 3)
    assert found.rows.tolist() == [7, 5, 1], "pesto, butter, then by popularity"
    np.testing.assert_allclose(found.scores, [0.2, 0.15, 0], rtol=1e-6)


@pytest.mark.parametrize("with_index", [False, True])
def test_a_page_counts_what_was_bought_with_the_product(tmp_path, with_index):
    bundle = read_bundle(make_bundle(tmp_path / "bundle", with_index=with_index))
    pairs = Pairs(
        np.array([0, 2, 2, 2, 2, 2, 2, 2, 2]),
        np.array([7, 4], np.int32),
        np.array([3, 2], np.int32),
        np.array([0.3, 0.2], np.float32),
    )

    def answer(weight):
        manifest = bundle.manifest.model_copy(update={"page_cooccurrence": weight})
        return Recommender(replace(bundle, manifest=manifest, pairs=pairs)).recommend(["tea"], 4)

    plain, counted, loud = answer(0), answer(1), answer(9)
    assert plain.rows.tolist() == [1, 2, 3, 4]
    assert counted.rows.tolist() == [1, 4, 7, 2], "milk by the vectors, bread and pesto by counts"
    assert loud.rows.tolist()[:2] == [7, 4]
    assert counted.scores[0] == plain.scores[0]
    np.testing.assert_allclose(
        counted.scores[1] - plain.scores[3], np.log1p(0.2 / COOCCURRENCE_SCALE), rtol=1e-5
    )


def test_by_index_and_exactly_pages_are_the_same(tmp_path):
    bundle = read_bundle(make_large_bundle(tmp_path / "bundle", n_items=500, dims=8))
    rng = np.random.default_rng(5)
    pairs = Pairs(
        np.arange(0, 501 * 20, 20),
        np.concatenate([rng.permutation(500)[:20] for _ in range(500)]),
        np.ones(10_000, np.int32),
        rng.random(10_000).astype(np.float32) / 20,
    )
    manifest = bundle.manifest.model_copy(update={"page_cooccurrence": 1.0})
    bundle = replace(bundle, manifest=manifest, pairs=pairs)
    by_index, exactly = Recommender(bundle), Recommender(replace(bundle, index_path=None))
    assert by_index.items._index is not None
    assert exactly.items._index is None
    queries = [np.array([row], np.int32) for row in range(500)]
    found, scores = by_index.rank(queries, 10)
    wanted, wanted_scores = exactly.rank(queries, 10)
    assert np.mean(found == wanted) > 0.98
    np.testing.assert_allclose(scores[found == wanted], wanted_scores[found == wanted], rtol=1e-4)


def test_among_companions_pages_have_the_best_of_them_and_of_theirs(tmp_path, monkeypatch):
    for name, value in {"N_COMPANIONS": 3, "N_SECOND_COMPANIONS": 4, "MIN_BESTSELLERS": 5}.items():
        monkeypatch.setattr(item_ranking, name, value)
    bundle = read_bundle(make_large_bundle(tmp_path / "bundle", 300, dims=8, with_index=False))
    companions = np.random.default_rng(5).integers(300, size=(300, 6), dtype=np.int32)
    pairs = Pairs(
        np.arange(0, 301 * 6, 6),
        companions.ravel(),
        np.ones(1_800, np.int32),
        np.full(1_800, 0.01, np.float32),
    )
    facts = {"page_cooccurrence": 1.0, "among_companions": True}
    manifest = bundle.manifest.model_copy(update=facts)
    among = replace(bundle, manifest=manifest, pairs=pairs)
    exactly = replace(among, manifest=manifest.model_copy(update={"among_companions": False}))
    queries = [np.array([row], np.int32) for row in range(300)]
    found, scores = Recommender(among).rank(queries, 4)
    every, every_score = Recommender(exactly).rank(queries, 299)
    for row in range(300):
        theirs = companions[companions[row, :3], :4]
        looked_at = {*companions[row].tolist(), *theirs.ravel().tolist(), *range(5)}
        best = np.flatnonzero([one in looked_at for one in every[row].tolist()])[:4]
        assert found[row].tolist() == every[row, best].tolist()
        np.testing.assert_allclose(scores[row], every_score[row, best], rtol=1e-4)


def test_many_at_once_are_ranked_as_one_by_one(recommender):
    queries = [np.array(q, np.int32) for q in ([0], [1, 2], [3], [4, 5, 6], [7], [0, 7])] * 40
    rows, scores = recommender.rank(queries, 5)
    for query, many_rows, many_scores in zip(queries[:6], rows, scores, strict=False):
        one_rows, one_scores = recommender.rank([query], 5)
        np.testing.assert_array_equal(one_rows[0], many_rows)
        np.testing.assert_allclose(one_scores[0], many_scores, rtol=1e-5)


def test_best_of_fills_up_what_is_missing():
    columns, best = rank_columns(np.array([[1.0, -np.inf, 3.0]], np.float32), 4)
    assert columns.tolist() == [[2, 0, -1, -1]]
    assert best.tolist() == [[3.0, 1.0, -np.inf, -np.inf]]


def test_the_latest_of_a_cart_is_heard_most_where_its_order_tells(tmp_path):
    """Tea speaks for pasta as loudly as bread for pesto."""
    ids, eye = ["tea", "bread", "pasta", "pesto"], np.eye(4, dtype=np.float32)
    neighbours = Neighbours(
        offsets=np.array([0, 1, 2, 2, 2]),
        rows=np.array([2, 3], np.int32),
        weights=np.array([100, 100], np.int8),
        scales=np.full(4, 0.01, np.float32),
    )
    write(
        tmp_path / "bundle", products_table(ids, {}, {}), eye, eye, np.array([40, 30, 20, 10]),
        neighbours=neighbours, cart_weights=CartWeights(vectors=0, neighbours=1), cart_recency=0.5,
    )  # fmt: skip
    recommender = Recommender(read_bundle(tmp_path / "bundle"))
    assert ask(recommender, "tea", "bread", k=2) == ["pesto", "pasta"]
    assert ask(recommender, "bread", "tea", k=2) == ["pasta", "pesto"]


def test_places_without_a_candidate_stay_empty_behind_re_ranked_ones():
    best = np.array([[0.1, 0.2], [0.3, -np.inf], [-np.inf, -np.inf]], np.float32)
    stacked = stack_below(best, np.array([[True, True, False], [True, False, False], [False] * 3]))
    np.testing.assert_array_equal(stacked[:, :2], best)
    assert stacked[0, 0] > stacked[0, 2] > stacked[0, 3]
    assert stacked[1, 0] > stacked[1, 2]
    np.testing.assert_allclose(stacked[:2, 2], [0.1, 0.3], atol=1e-5)
    assert not np.isfinite(stacked[[0, 1, 1, 2, 2, 2], [4, 3, 4, 2, 3, 4]]).any()


def test_scores_among_some_are_those_of_all(tmp_path):
    bundle = random_bundle(4, n_items=30)
    recommender = Recommender(bundle)
    rows, weights = np.array([3, 8, 11], np.int32), np.array([0.5, 0.3, 0.2], np.float32)
    every = recommender.cold_start.score_by_neighbours(rows, weights)
    some = np.array([0, 2, 7, 19, 28])
    np.testing.assert_allclose(
        recommender.cold_start.score_by_neighbours(rows, weights, some), every[some], rtol=1e-5
    )


def test_in_a_large_catalogue_cold_products_look_at_their_neighbours_pages(monkeypatch):
    bundle = random_bundle(4, n_items=30)
    paged = Recommender(replace(bundle, precomputed=precompute_items(Recommender(bundle), None)))
    looks = Attributes(category="a")
    whole = paged.cold_start.rank_companions([looks], 5)
    monkeypatch.setattr("components.model.cold_start.NEARBY_MIN_ITEMS", 0)
    source, rows, scores = paged.cold_start.rank_companions([looks], 5)
    assert source == whole[0] == "attribute_neighbours"
    assert rows.tolist() == whole[1].tolist()
    np.testing.assert_allclose(scores, whole[2], rtol=1e-5)
