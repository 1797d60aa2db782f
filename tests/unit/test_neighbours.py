"""Neighbours against the textbook solution, and on baskets whose answer is obvious."""

import numpy as np
import pyarrow as pa
import pytest

from components.baskets.corpus import Corpus
from components.baskets.weighting import TrainingBaskets, decay_weights
from components.contracts import BASKETS, PRODUCTS, write_table
from components.embeddings.cooccurrence import count_head, count_pairs, write_pairs
from components.embeddings.item2vec import Vectors
from components.embeddings.model import write_vectors
from components.model.bundle import Neighbours
from components.model.manifest import Blend
from components.neighbours.model import fit_on_baskets, train_neighbours
from components.neighbours.ridge import NeighbourSettings, fit_neighbours
from components.ranking.blend import INITIAL_BLEND
from components.ranking.model import train_ranking
from components.results import read_json
from components.spark import spark_mapper, spark_session
from tests.factories import corpus_of


def fit(corpus, n_items, **settings):
    n_orders = np.bincount(corpus.items, minlength=n_items)
    return fit_neighbours(count_pairs(corpus, n_items), n_orders, NeighbourSettings(**settings))


def dense(neighbours, n_items):
    """Weights (asked, candidate)."""
    weights = np.zeros((n_items, n_items))
    for row in range(n_items):
        mine = slice(*neighbours.offsets[row : row + 2])
        weights[row, neighbours.rows[mine]] = neighbours.scales[row] * neighbours.weights[mine]
    return weights


def test_with_all_products_as_candidates_it_is_ease():
    """EASE's closed form (Steck 2019), which needs the catalogue squared."""
    rng = np.random.default_rng(3)
    n_items, ridge = 12, 4.0
    baskets = [rng.permutation(n_items)[: rng.integers(2, 6)] for _ in range(200)]
    together = np.zeros((n_items, n_items))
    for basket in baskets:
        together[np.ix_(basket, basket)] += 1
    inverse = np.linalg.inv(together + ridge * np.eye(n_items))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    found = dense(fit(corpus_of(*baskets), n_items, ridge=ridge), n_items)
    step = np.abs(expected).max(axis=1, keepdims=True) / 127
    assert (np.abs(found - expected) <= 0.51 * step + 1e-6).all()


def test_redundant_companions_count_once():
    """Cup and saucer are always together: with spoon they weigh as one product."""
    cup, saucer, spoon, tea = range(4)
    baskets = 50 * [(cup, saucer, spoon), (cup, saucer), (spoon, tea), (tea, spoon)]
    weights = dense(fit(corpus_of(*baskets), 4, ridge=1e-3), 4)
    chance = 50 / 100
    assert weights[cup, spoon] + weights[saucer, spoon] == pytest.approx(chance, rel=0.02)


def test_only_so_many_weights_are_kept_and_the_largest():
    rng = np.random.default_rng(1)
    corpus = corpus_of(*[rng.permutation(30)[:5] for _ in range(500)])
    every = dense(fit(corpus, 30, kept=400), 30)
    few = dense(fit(corpus, 30, kept=3), 30)
    assert (np.count_nonzero(few, axis=0) <= 3).all()
    for target in range(30):
        kept, lost = few[:, target] != 0, few[:, target] == 0
        assert np.abs(every[kept, target]).min() >= np.abs(every[lost, target]).max() - 1e-2


def large_baskets(n_items, n_baskets, size):
    """Orders most bought first, of which each product has companions of its own."""
    rng = np.random.default_rng(5)
    popular = 1 / np.arange(1, n_items + 1)
    places = np.arange(n_items)
    baskets = []
    for _ in range(n_baskets):
        near = np.exp(-np.abs(places - rng.integers(n_items)) / 5) + 0.1
        chances = popular * near
        baskets.append(rng.choice(n_items, size, replace=False, p=chances / chances.sum()))
    return corpus_of(*baskets)


def test_counts_of_the_head_change_nothing_where_all_pairs_are_known():
    """The head is looked up, the rest walked through: the same counts either way."""
    corpus, n_items = large_baskets(60, 400, 5), 60
    n_orders = np.bincount(corpus.items, minlength=n_items)
    pairs, settings = count_pairs(corpus, n_items), NeighbourSettings(ridge=5.0)
    walked = dense(fit_neighbours(pairs, n_orders, settings), n_items)
    for n_head in (1, 20, 60):
        head = count_head(corpus, n_items, n_head)
        found = dense(fit_neighbours(pairs, n_orders, settings, head), n_items)
        assert found == pytest.approx(walked, abs=np.abs(walked).max() / 127)


def test_where_the_head_is_the_whole_catalogue_pairs_are_not_needed():
    corpus, n_items = large_baskets(60, 400, 5), 60
    n_orders = np.bincount(corpus.items, minlength=n_items)
    head, settings = count_head(corpus, n_items), NeighbourSettings(ridge=5.0)
    listed = fit_neighbours(count_pairs(corpus, n_items), n_orders, settings, head)
    found = fit_neighbours(None, n_orders, settings, head)
    for name, array in vars(listed).items():
        assert np.array_equal(array, vars(found)[name]), name


def test_within_the_head_the_most_similar_are_companions():
    corpus, n_items = large_baskets(60, 400, 5), 60
    n_orders = np.bincount(corpus.items, minlength=n_items)
    head = count_head(corpus, n_items)
    weights = dense(fit_neighbours(None, n_orders, NeighbourSettings(candidates=10), head), n_items)
    similar = head / np.sqrt(n_orders)[:, None]
    np.fill_diagonal(similar, 0)
    tenth = np.sort(similar, axis=0)[-10]
    assert 200 < np.count_nonzero(weights) <= 600
    assert (similar[weights != 0] >= np.broadcast_to(tenth, weights.shape)[weights != 0]).all()


def test_a_product_has_no_more_companions_than_orders():
    corpus = corpus_of(*25 * [tuple(range(1, 41))], *5 * [tuple(range(41))])
    weights = dense(fit(corpus, 41), 41)
    assert np.count_nonzero(weights[:, 0]) == 20
    assert np.count_nonzero(weights[:, 1]) == 30


def test_cut_lists_of_large_baskets_do_not_blow_weights_up():
    """Of eighty companions, fifteen are known: counts contradict each other."""
    corpus, n_items = large_baskets(80, 600, 30), 80
    n_orders = np.bincount(corpus.items, minlength=n_items)
    settings = NeighbourSettings(ridge=20.0)
    few = count_pairs(corpus, n_items, max_companions=15)
    weights = dense(fit_neighbours(few, n_orders, settings), n_items)
    assert np.isfinite(weights).all()
    assert np.abs(weights).max() < 1


def test_spark_counts_and_fits_the_same():
    corpus, n_items = large_baskets(3_000, 2_000, 6), 3_000
    n_orders = np.bincount(corpus.items, minlength=n_items)
    settings = NeighbourSettings(candidates=20)
    head = count_head(corpus, n_items, 100)
    pairs = count_pairs(corpus, n_items)
    expected = fit_neighbours(pairs, n_orders, settings, head)
    with spark_session("test") as session:
        mapper = spark_mapper(session)
        counted = count_pairs(corpus, n_items, mapper=mapper)
        found = fit_neighbours(counted, n_orders, settings, head, mapper)
    for ours, theirs in ((pairs, counted), (expected, found)):
        for name, array in vars(ours).items():
            assert np.array_equal(array, vars(theirs)[name]), name


@pytest.mark.parametrize(
    ("baskets", "n_items"),
    [
        pytest.param([(0, 1)], 3, id="a product sold with nothing"),
        pytest.param([], 2, id="no baskets"),
        pytest.param(20 * [(0, 1, 2)], 3, id="identical products"),
        pytest.param([(0, i) for i in range(1, 9)], 9, id="a product in every basket"),
        pytest.param([(2 * i, 2 * i + 1) for i in range(9)], 18, id="baskets that never repeat"),
    ],
)
def test_odd_baskets_give_finite_weights(baskets, n_items):
    weights = dense(fit(corpus_of(*baskets), n_items), n_items)
    assert np.isfinite(weights).all()
    assert not np.diag(weights).any()


@pytest.fixture
def trained(tmp_path):
    """240 carts of three, and vectors that are all alike."""
    ids = ["a", "b", "x", "c", "d", "y"]
    rows = []
    for i in range(240):
        split = "train" if i < 160 else "validation"
        items = ["a", "b", "x"] if i % 2 else ["c", "d", "y"]
        rows.append({"order_id": f"o{i}", "items": items, "weight": 1.0, "split": split})
    write_table(pa.Table.from_pylist(rows, pa.schema(list(BASKETS))), BASKETS, tmp_path / "baskets")
    alike, n_orders = np.ones((6, 2), np.float32), np.full(6, 80)
    betas = {"beta_single": 0.5, "beta_cart": 0.0}
    write_vectors(Vectors(alike, alike), pa.array(ids), n_orders, betas, tmp_path / "vectors")
    corpus = corpus_of(*80 * [(0, 1, 2), (3, 4, 5)])
    write_pairs(count_pairs(corpus, 6), tmp_path / "pairs")
    return tmp_path


def train_blend(folder, baskets="baskets"):
    products = pa.Table.from_pylist([{"product_id": "a"}], pa.schema(list(PRODUCTS)))
    write_table(products, PRODUCTS, folder / "products")
    steps = (folder / "vectors", folder / "pairs", folder / "made")
    train_neighbours(folder / baskets, folder / "vectors", folder / "made")
    target = folder / "ranking"
    found = train_ranking(folder / baskets, *steps, folder / "products", target, seed=1)
    return found, Blend(**read_json(target / "blend.json"))


def test_counts_get_weight_where_they_rank_better_than_the_vectors(trained):
    found, blend = train_blend(trained)
    for task in ("pages", "carts"):
        assert found[task]["parts"]["blend"] == pytest.approx(1.0)
    assert found["pages"]["parts"]["vectors"] < 0.9
    assert found["carts"]["parts"]["vectors, mean"] < 0.9
    assert blend.page_cooccurrence > 0
    assert blend.cart_weights.neighbours == 1.0


def test_without_validation_baskets_tuning_keeps_the_initial_blend(trained):
    rows = [{"order_id": i, "items": [i], "weight": 1.0, "split": "train"} for i in "abcdxy"]
    table = pa.Table.from_pylist(rows, pa.schema(list(BASKETS)))
    write_table(table, BASKETS, trained / "no carts")
    found, blend = train_blend(trained, "no carts")
    assert blend == INITIAL_BLEND
    assert not found["pages"]["forest"]["pays"]
    assert not found["carts"]["forest"]["pays"]


def test_fitted_neighbours_are_written_whole(tmp_path):
    """Always together: each product of a pair predicts the other, and no third."""
    rows = [
        {"order_id": f"o{i}", "items": ["ab", "cd"][i % 2], "weight": 1.0, "split": "train"}
        for i in range(80)
    ]
    rows = [{**row, "items": list(row["items"])} for row in rows]
    write_table(pa.Table.from_pylist(rows, pa.schema(list(BASKETS))), BASKETS, tmp_path / "baskets")
    alike, n_orders = np.ones((4, 2), np.float32), np.full(4, 40)
    betas = {"beta_single": 0.5, "beta_cart": 0.0}
    write_vectors(
        Vectors(alike, alike), pa.array(list("abcd")), n_orders, betas, tmp_path / "vectors"
    )
    found = train_neighbours(tmp_path / "baskets", tmp_path / "vectors", tmp_path / "made")
    weights = dense(Neighbours.load(tmp_path / "made"), 4)
    assert found["weights"] == 4
    assert np.argwhere(weights > 0).tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]


def test_large_and_old_baskets_count_less():
    """0 is bought with 1 in small baskets, with 2 in large ones; of late only with 1."""
    small, large = (0, 1), (0, 2, 3, 4, 5, 6, 7, 8, 9)
    corpus = corpus_of(*(40 * [small] + 40 * [large]))
    ages = np.repeat([0.0, 400.0], 40).astype(np.float32)
    weighed = Corpus(corpus.items, corpus.offsets, decay_weights(ages, 180))
    plain = NeighbourSettings(size_exponent=0)

    def compute_ratio(settings, given):
        weights = dense(fit_on_baskets(TrainingBaskets(given, None), 10, settings), 10)
        return weights[1, 0] / weights[2, 0]

    assert compute_ratio(NeighbourSettings(size_exponent=1), corpus) > compute_ratio(plain, corpus)
    assert compute_ratio(plain, weighed) > compute_ratio(plain, corpus)
