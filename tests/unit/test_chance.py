"""The chance of every product, and answers from which it is taken off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.baskets.corpus import Corpus
from components.baskets.weighting import BasketWeighting
from components.embeddings.cooccurrence import count_pairs
from components.evaluation.excess import compute_chance
from components.evaluation.metrics import ideal_dcg
from components.model.bundle import Bundle, read_bundle
from components.model.chance import Chance
from components.model.features import COLUMN
from components.model.manifest import CartWeights
from components.model.recommender import Recommender
from components.model.reranking import Calibration, rerank
from components.model.tree_ensemble import TreeEnsemble
from components.model.variants import build_variants
from components.ranking.chance import BINS, build_chance
from components.ranking.gains import Gains
from components.ranking.reranker import calibrate
from tests.factories import corpus_of, make_bundle, make_labelled_queries, random_bundle

ONE_VOTE = BasketWeighting()


def build(corpus: Corpus, n_items: int, weighting: BasketWeighting = ONE_VOTE) -> Chance:
    counted = replace(
        corpus, weights=corpus.weights * (corpus.sizes - 1.0) ** (1 - weighting.size_exponent)
    )
    return build_chance(corpus, count_pairs(counted, n_items, reach=weighting.reach), weighting)


def draw_baskets(n: int, n_items: int, sizes: list[int]) -> list[list[int]]:
    """Lines that have nothing to do with each other."""
    rng = np.random.default_rng(0)
    return [sorted(rng.choice(n_items, sizes[i % len(sizes)], replace=False)) for i in range(n)]


# Counts


def test_in_baskets_of_two_a_share_of_them_is_expected() -> None:
    chance = build(corpus_of([0, 1], [0, 1], [0, 2], [1, 3]), 4)
    assert chance.shares == pytest.approx([3 / 8, 3 / 8, 1 / 8, 1 / 8])
    expected = chance.count_expected(np.array([0, 3]), np.array([1, 2]))
    assert expected == pytest.approx([3 * 3 / 8, 1 * 1 / 8])


def test_more_is_expected_in_larger_baskets() -> None:
    small = build(corpus_of(*[[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]] * 2), 4)
    large = build(corpus_of(*[[0, 1, 2, 3]] * 6), 4)
    assert small.shares == pytest.approx(large.shares)
    few, many = (one.count_expected(np.array([0]), np.array([1])) for one in (small, large))
    assert few == pytest.approx(6 * 0.25)
    assert many == pytest.approx(6 * (1 - 0.75**3))


def test_every_product_is_expected_beside_every_other() -> None:
    chance = build(corpus_of(*draw_baskets(50, 6, [2, 3])), 6)
    table = chance.count_expected(np.arange(6)[:, None], np.arange(6))
    one_by_one = [[chance.count_expected(np.array([i]), np.array([j]))[0] for j in range(6)]
                  for i in range(6)]  # fmt: skip
    np.testing.assert_allclose(table, one_by_one, rtol=1e-6)


def test_baskets_are_counted_in_bins_of_their_size() -> None:
    sizes = [1, 2, 3, 6, 7, 130]
    chance = build(corpus_of(*(range(size) for size in sizes)), 130)
    counted = dict(zip(BINS, chance.baskets[0].tolist(), strict=True))
    assert {first: n for first, n in counted.items() if n} == {1: 1, 2: 1, 5: 2, 97: 1}
    assert chance.others[BINS.index(5)] == 5.5
    assert chance.others[-1] == 129
    assert chance.baskets[129].sum() == 1
    assert chance.shares.sum() == pytest.approx(1)


# Gains


@pytest.mark.parametrize("size", [2, 4, 60])
def test_gain_by_chance_is_that_of_the_evaluation(size: int) -> None:
    chance = build(corpus_of(*draw_baskets(200, 80, [size])), 80)
    rows = np.array([[1, 2, 70], [3, 4, 5]])
    expected = compute_chance(chance.shares[rows], np.array(size - 1))
    expected = expected / ideal_dcg(np.array([size - 1]), 10)
    found = chance.compute_gain(np.array([0, 9], np.int32), rows, 10)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_basket_asks_for_each_of_its_products_alike() -> None:
    """One basket of two and one of four with product 0, which the latter asks for half as often."""
    chance = build(corpus_of([0, 1], [0, 1, 2, 3]), 4)
    by_size = compute_chance(chance.shares[1], np.array([1, 3])) / ideal_dcg(np.array([1, 3]), 10)
    expected = (by_size[0] / 2 + by_size[1] / 4) / (1 / 2 + 1 / 4)
    assert chance.compute_gain(np.array([0]), np.array([[1]]), 10)[0, 0] == pytest.approx(expected)


def test_products_without_baskets_gain_nothing_by_chance() -> None:
    chance = build(corpus_of([0], [1]), 3)
    assert chance.compute_gain(np.array([0, 2]), np.array([[1], [1]]), 10).tolist() == [[0], [0]]


# Excess


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sizes", [[2], [2, 3, 5, 9]])
def test_pairs_of_chance_have_no_excess_and_true_ones_do(exponent: float, sizes: list[int]) -> None:
    """38 products in baskets of chance, and two that nobody buys alone."""
    mixed = draw_baskets(6_000, 38, sizes) + [[38, 39]] * 100
    weighting = BasketWeighting(size_exponent=exponent)
    corpus = corpus_of(*mixed)
    pairs, chance = count_pairs(corpus, 40), build(corpus, 40, weighting)
    assert chance.excess.shape == pairs.rows.shape
    together = pairs.entries(38)
    assert pairs.rows[together].tolist() == [39]
    assert chance.excess[together] == pytest.approx(1, abs=0.01)
    others = np.delete(chance.excess, [together.start, pairs.entries(39).start])
    assert abs(others.mean()) < 0.15 * pairs.probability.mean()
    assert np.abs(others).max() < 0.06


def test_excess_of_near_products_is_beyond_their_share() -> None:
    corpus = corpus_of(*[[0, 1, 2, 3]] * 50)
    pairs = count_pairs(corpus, 4, reach=1)
    chance = build_chance(corpus, pairs, BasketWeighting(reach=1))
    np.testing.assert_allclose(chance.excess, pairs.probability - 0.25, rtol=1e-6)


# Re-ranking


ROWS = np.array([[0, 1, 2, 7]])
BLENDED = np.array([[4, 3, 2, 1]], np.float32)
ALIKE = np.zeros((1, 3), np.float32)


def rerank_alike(chance: list[float] | None) -> list[int]:
    taken_off = None if chance is None else np.array([chance], np.float32)
    return rerank(ROWS, BLENDED, ALIKE, 0.0, Calibration(), taken_off)[0][0].tolist()


def test_of_products_with_the_same_odds_bestsellers_fall_behind() -> None:
    assert rerank_alike([0.3, 0.1, 0.2]) == [1, 2, 0, 7]
    assert rerank_alike([0.0, 0.0, 0.0]) == rerank_alike(None) == [0, 1, 2, 7]


def test_a_bestseller_stays_where_its_odds_outweigh_its_chance() -> None:
    odds, chance = np.array([[2, 0, 0]], np.float32), np.array([[0.3, 0.1, 0.2]], np.float32)
    rows, scores = rerank(ROWS, BLENDED, odds, 0.0, Calibration(), chance)
    assert rows[0].tolist() == [0, 1, 2, 7]
    assert scores[0, :3].tolist() == pytest.approx([1 / (1 + np.exp(-2)) - 0.3, 0.4, 0.3])


def test_products_stay_behind_candidates_that_chance_puts_below_zero() -> None:
    scores = rerank(ROWS, BLENDED, ALIKE, 0.0, Calibration(1, -20), ALIKE + 0.9)[1]
    assert scores[0, :3].max() < 0
    assert scores[0, 3] < scores[0, 2]


def test_extreme_odds_overflow_nothing() -> None:
    odds = np.array([[-1e4, 1e4, 0]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        rows, scores = rerank(ROWS, BLENDED, odds, 0.0, Calibration())
    assert rows[0].tolist() == [1, 2, 0, 7]
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    "wanted", [Calibration(), Calibration(0.5, -2.0), Calibration(2.0, 1.0), Calibration(1.0, 12.0)]
)
def test_slope_and_intercept_are_found(wanted: Calibration) -> None:
    log_odds = np.random.default_rng(0).normal(-2, 1.5, (2, 50, 30)).astype(np.float32)
    gains = 1 / (1 + np.exp(-(wanted.slope * log_odds + wanted.intercept)))
    weight = np.array([1.0, 3.0])[:, None] * np.ones(50)
    folds = tuple(Gains(gains[i] * weight[i][:, None], weight[i]) for i in (0, 1))
    rows = np.tile(np.arange(30), (50, 1))
    queries = make_labelled_queries(log_odds[0, ..., None], rows, np.zeros((50, 30), bool))
    found = calibrate(log_odds, queries, (folds[0], folds[1]))
    assert [*found] == pytest.approx([*wanted], abs=1e-3)
    assert calibrate(-log_odds, queries, (folds[0], folds[1])) == Calibration()


# Answers


def with_chance(bundle: Bundle, excess: np.ndarray | None = None, discount: float = 0.0) -> Bundle:
    """Shares fall along the rows."""
    n_items = bundle.manifest.n_items
    shares = np.arange(n_items, 0, -1, dtype=np.float32)
    others, baskets = np.ones(1, np.float32), np.ones((n_items, 1), np.float32)
    excess = np.zeros(len(bundle.pairs.rows), np.float32) if excess is None else excess
    manifest = bundle.manifest.model_copy(update={"popularity_discount": discount})
    return replace(
        bundle, manifest=manifest, chance=Chance(shares / shares.sum(), others, baskets, excess)
    )


def make_stump(column: str, border: float, below: float, above: float) -> TreeEnsemble:
    """One tree with one split."""
    return TreeEnsemble(
        feature=np.array([[COLUMN[column], 0, 0]], np.int16),
        threshold=np.array([[border, np.inf, np.inf]]),
        left=np.array([[1, 1, 2]], np.int16),
        right=np.array([[2, 1, 2]], np.int16),
        value=np.array([[0, below, above]], np.float32),
    )


CART = np.array([0, 3], np.int32)


def test_in_carts_the_discount_puts_bestsellers_behind() -> None:
    bundle = replace(random_bundle(0), reranker=make_stump("n_asked", 0, 0, 0))
    without, full = (Recommender(with_chance(bundle, discount=one)) for one in (0.0, 1.0))
    rows = [row for row in range(12) if row not in CART]
    assert without.rank([CART], 10)[0][0].tolist() == rows
    assert full.rank([CART], 10)[0][0].tolist() == rows[::-1]


@pytest.mark.parametrize("seed", range(4))
def test_bundles_without_chance_order_carts_by_both_scores_standardised(seed: int) -> None:
    bundle = random_bundle(seed)
    bundle = replace(
        bundle, manifest=bundle.manifest.model_copy(update={"popularity_discount": 1.0})
    )
    popularity = np.log(bundle.n_orders / bundle.manifest.n_orders)
    border = float(np.float32(np.median(popularity)))
    plain, blended = Recommender(bundle).rank([CART], 10)
    predicted = np.where(popularity.astype(np.float32)[plain[0]] <= border, 1.0, -1.0)
    both = predicted / predicted.std() + 0.5 * blended[0] / blended[0].std()
    mixed = bundle.manifest.model_copy(update={"cart_mix": 0.5})
    reranked = replace(bundle, manifest=mixed, reranker=make_stump("log_popularity", border, 1, -1))
    rows, _ = Recommender(reranked).rank([CART], 10)
    assert rows[0].tolist() == plain[0][np.argsort(-both, kind="stable")].tolist()


def test_bundles_without_chance_take_nothing_off() -> None:
    recommender = Recommender(random_bundle(0))
    rows = np.array([[1, 2, -1]])
    assert not recommender.compute_chance_gain(np.array([0], np.int32), rows).any()
    assert not recommender.compute_chance_gain(None, rows).any()
    found, scores = recommender.items.find_candidates(np.array([0], np.int32), 3, 2)
    assert found[0, 3:].tolist() == [-1, -1]
    assert not np.isfinite(scores[0, 3:]).any()


def test_the_pair_most_beyond_chance_is_a_candidate_even_where_the_blend_puts_it_last() -> None:
    bundle = random_bundle(2, n_items=30)
    product = int(np.diff(bundle.pairs.offsets).argmax())
    asked = np.array([product], np.int32)
    rows, scores = (one[0] for one in Recommender(bundle).rank([asked], 29))
    companions = bundle.pairs.rows[bundle.pairs.entries(product)]
    last = int(rows[np.isin(rows, companions)][-1])
    excess = np.where(bundle.pairs.rows == last, 0.9, -0.1).astype(np.float32)
    known = with_chance(bundle, excess)
    found, found_scores = Recommender(known).items.find_candidates(asked, 1, 3)
    assert found[0].tolist() == [rows[0], last, -1, -1]
    assert found_scores[0, 1] == pytest.approx(float(scores[rows == last][0]), rel=1e-4)
    apart = replace(known, variants=build_variants(asked, np.array([last], np.int32), 30))
    assert last not in Recommender(apart).items.find_candidates(asked, 1, 3)[0]


def test_carts_find_the_pair_most_beyond_chance_too() -> None:
    """The blend of neighbours alone does not know it; the tree wants nothing else."""
    bundle = random_bundle(0, n_items=200)
    manifest = bundle.manifest.model_copy(update={"cart_weights": CartWeights(vectors=0)})
    bundle = replace(bundle, manifest=manifest, reranker=make_stump("excess_max", 0.5, 0.0, 1.0))
    without = Recommender(bundle)
    before = without.carts.find_candidates([CART])[0][0]
    wanted = next(row for row in bundle.pairs.concat(CART) if row not in before)
    excess = np.where(bundle.pairs.rows == wanted, 0.9, -0.1).astype(np.float32)
    recommender = Recommender(with_chance(bundle, excess))
    after, features = recommender.carts.find_candidates([CART])
    assert sorted(set(after[0]) - set(before)) == [wanted]
    excesses = features[0, after[0] == wanted, COLUMN["excess_max"]]
    assert excesses == pytest.approx([0.9])
    rows, scores = recommender.rank([CART], 100)
    assert rows[0, 0] == wanted
    assert len(set(rows[0])) == 100
    assert (np.diff(scores[0]) <= 0).all()
    assert wanted != without.rank([CART], 1)[0][0, 0]


def test_without_any_pair_there_are_candidates_all_the_same(tmp_path: Path) -> None:
    bundle = with_chance(read_bundle(make_bundle(tmp_path / "bundle")))
    found, _ = Recommender(bundle).items.find_candidates(np.array([0], np.int32), 3, 2)
    assert found[0].tolist() == [1, 2, 3, -1, -1]
