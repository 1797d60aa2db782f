"""Training on baskets whose right answer is obvious, and counting pairs by hand."""

import gc
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from components.baskets.corpus import Corpus
from components.contracts import BASKETS, write_table
from components.embeddings.cooccurrence import count_head, count_pairs, write_pairs
from components.embeddings.item2vec import (
    TrainSettings,
    draw_by_weight,
    scale_by_size,
    shuffle,
    shuffle_baskets,
    to_lists,
    train,
)
from components.embeddings.model import train_model
from components.model.bundle import Pairs
from tests.factories import corpus_of

QUICK = TrainSettings(vector_size=8, epochs=20, window=3, negative=5, learning_rate=0.1)


def as_python(corpus):
    return list(to_lists(corpus))


def corpus(*baskets: list[int], weights: list[float] | None = None) -> Corpus:
    offsets = np.concatenate([[0], np.cumsum([len(basket) for basket in baskets])]).astype(np.int64)
    items = np.array([item for basket in baskets for item in basket], np.int32)
    return Corpus(items, offsets, np.array(weights or [1] * len(baskets), np.float32))


# item2vec


def test_partners_have_the_largest_inner_product_of_in_and_out() -> None:
    pairs = [[0, 1], [2, 3], [4, 5], [6, 7]]
    vectors = train(corpus(*pairs * 200), 8, QUICK)
    scores = vectors.in_vectors @ vectors.out_vectors.T
    assert scores.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    # Bought together is not alike: a product never follows itself, so in·out of itself is low.
    assert (np.diag(scores) < scores.max(axis=1) - 1).all()


def test_rows_are_catalogue_rows_however_often_they_are_bought() -> None:
    # gensim would sort by count: here the last rows are bought most, and row 2 never.
    baskets = [[0, 1]] * 50 + [[3, 4]] * 300
    vectors = train(corpus(*baskets), 5, QUICK)
    scores = vectors.in_vectors @ vectors.out_vectors.T
    assert vectors.in_vectors.shape == vectors.out_vectors.shape == (5, 8)
    assert [scores[row].argmax() for row in (0, 1, 3, 4)] == [1, 0, 4, 3]
    assert np.isfinite(vectors.in_vectors).all()


def test_one_worker_and_one_seed_make_one_model() -> None:
    baskets = corpus(*[[0, 1, 2], [3, 4]] * 20)
    one, same, other = (
        train(baskets, 5, QUICK.model_copy(update={"seed": seed})) for seed in (1, 1, 2)
    )
    assert (one.in_vectors == same.in_vectors).all()
    assert (one.out_vectors == same.out_vectors).all()
    assert (one.in_vectors != other.in_vectors).any()


def test_ordered_training_learns_who_is_near() -> None:
    # Always the same six in the same order: without the order, none is nearer than another.
    settings = QUICK.model_copy(update={"window": 1, "ordered": True})
    baskets = corpus(*[[0, 1, 2, 3, 4, 5]] * 200)
    vectors = train(baskets, 6, settings)
    scores = vectors.in_vectors @ vectors.out_vectors.T
    near = np.argsort(-scores, axis=1)
    assert (near[0, 0], near[5, 0]) == (1, 4)
    assert [set(near[row, :2]) for row in (1, 2, 3, 4)] == [{0, 2}, {1, 3}, {2, 4}, {3, 5}]
    vectors = train(baskets, 6, QUICK.model_copy(update={"window": 1}))
    scores = vectors.in_vectors @ vectors.out_vectors.T
    assert np.ptp(scores[~np.eye(6, dtype=bool)]) < 1


def test_a_negative_exponent_and_products_never_bought_stay_finite() -> None:
    settings = QUICK.model_copy(update={"ns_exponent": -0.5, "epochs": 2})
    vectors = train(corpus(*[[0, 1]] * 20), 1000, settings)
    assert np.isfinite(vectors.out_vectors).all()


@pytest.mark.parametrize(
    "baskets",
    [corpus(), corpus([0]), corpus([], [0]), corpus([0, 1], weights=[0.0])],
    ids=["none", "one product", "empty", "weightless"],
)
def test_nothing_bought_together_is_refused(baskets: Corpus) -> None:
    with pytest.raises(ValueError, match="item2vec: none of the training baskets"):
        train(baskets, 2, QUICK)


@pytest.mark.parametrize("n_orders", [1, 3])
def test_the_smallest_catalogues_train(n_orders: int) -> None:
    vectors = train(corpus(*[[0, 1, 2]] * n_orders), 3, QUICK)
    assert vectors.in_vectors.shape == (3, 8)
    assert np.isfinite(vectors.in_vectors @ vectors.out_vectors.T).all()


def test_a_callback_per_epoch_may_stop_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def stop(n_done: int, _: object) -> None:
        seen.append(n_done)
        if n_done == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(corpus(*[[0, 1]] * 5), 2, QUICK, on_epoch=stop)
    assert seen == [1, 2]
    assert "epoch 2 of 20" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"learning_rate": 0}, {"ns_exponent": 2}, {"dimensions": 8}]
)
def test_settings_are_bounded_and_closed(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TrainSettings(**wrong)


# Shuffling and weights


def as_sets(baskets: Corpus) -> list[frozenset[int]]:
    return sorted(map(frozenset, as_python(baskets)), key=sorted)


def test_a_shuffle_keeps_baskets_and_changes_every_epoch() -> None:
    baskets = corpus(list(range(10)), [10, 11], [12], list(range(20, 50)))
    rng = np.random.default_rng(7)
    first, second = shuffle(baskets, rng), shuffle(baskets, rng)
    assert as_sets(first) == as_sets(second) == as_sets(baskets)
    assert as_python(first) != as_python(second)
    assert as_python(first) == as_python(shuffle(baskets, np.random.default_rng(7)))


def test_a_reordering_leaves_the_order_inside_baskets() -> None:
    baskets = corpus(*[list(range(i, i + 5)) for i in range(50)])
    found = as_python(shuffle_baskets(baskets, np.random.default_rng(0)))
    assert found != as_python(baskets)
    assert sorted(found) == as_python(baskets)


def test_every_order_of_a_basket_is_as_likely() -> None:
    many = shuffle(corpus(*[[0, 1, 2]] * 6_000), np.random.default_rng(0))
    _, counts = np.unique(np.array(as_python(many)), axis=0, return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 850
    assert counts.max() < 1150


def test_weights_are_chances_to_take_part() -> None:
    baskets = corpus(*[[0, 1]] * 2_000, weights=[1.0, 0.25] * 1_000)
    kept = draw_by_weight(baskets, np.random.default_rng(0))
    assert (kept.weights == 1).sum() == 1_000
    assert (kept.weights == 0.25).sum() == pytest.approx(250, abs=50)


def test_weights_above_one_repeat_a_basket() -> None:
    baskets = corpus(*[[0, 1], [2, 3]] * 1_000, weights=[2.0, 1.25] * 1_000)
    drawn = draw_by_weight(baskets, np.random.default_rng(0))
    assert (drawn.weights == 2).sum() == 2_000
    assert (drawn.weights == 1.25).sum() == pytest.approx(1_250, abs=50)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_the_size_exponent_weighs_pairs_and_keeps_the_cost(exponent: float) -> None:
    baskets = corpus([0, 1], [2, 3, 4, 5, 6], [7, 8, 9], weights=[1.0, 1.0, 0.5])
    found = scale_by_size(baskets, exponent)
    # What the windows give a pair, 1 / (n - 1), times the basket's weight.
    pair = found.weights / (found.sizes - 1)
    assert pair / pair[0] == pytest.approx([1, 4**-exponent, 0.5 * 2**-exponent])
    assert found.weights @ found.sizes == pytest.approx(baskets.weights @ baskets.sizes)


def test_a_low_size_exponent_favours_large_baskets() -> None:
    # Ten times as many small ones as large ones, which hold nine others for every product.
    baskets = corpus(*[[0, 1]] * 9_000, *[list(range(2, 12))] * 1_000)
    rng = np.random.default_rng(0)
    large = [
        (draw_by_weight(scale_by_size(baskets, exponent), rng).sizes == 10).mean()
        for exponent in (0.0, 1.0, 2.0)
    ]
    assert large == pytest.approx([9 / 18, 1 / 10, 1 / 82], abs=0.02)


def test_at_least_one_basket_takes_part() -> None:
    baskets = corpus([0, 1], [2, 3], weights=[1e-9, 1e-8])
    drawn = draw_by_weight(baskets, np.random.default_rng(0))
    assert as_python(drawn) == [[2, 3]]


# Co-occurrence


def test_pairs_are_counted_and_weighted_by_size() -> None:
    pairs = count_pairs(corpus([0, 1], [0, 1, 2], [0, 2], [3]), 4)
    assert pairs.offsets.tolist() == [0, 2, 4, 6, 6]
    assert pairs.rows.tolist() == [1, 2, 0, 2, 0, 1]
    assert pairs.support.tolist() == [2, 2, 2, 1, 2, 1]
    # Product 0: with 1 in a basket of two and in one of three, (1 + 1/2) / 3 baskets.
    assert pairs.probability == pytest.approx([1.5 / 3, 1.5 / 3, 0.75, 0.25, 0.75, 0.25])


def test_a_light_basket_has_a_small_share_and_full_support() -> None:
    pairs = count_pairs(corpus([0, 1], [0, 2], weights=[1.0, 0.25]), 3)
    assert pairs.rows[:2].tolist() == [1, 2]
    assert pairs.probability[:2] == pytest.approx([0.8, 0.2])
    assert pairs.support[:2].tolist() == [1, 1]


def test_only_the_strongest_pairs_are_kept_best_first() -> None:
    baskets = [[0, other] for other in range(1, 10) for _ in range(other)]
    pairs = count_pairs(corpus(*baskets), 10, max_companions=3)
    assert pairs.rows[: pairs.offsets[1]].tolist() == [9, 8, 7]
    assert (np.diff(pairs.probability[:3]) < 0).all()
    assert np.diff(pairs.offsets).max() == 3


def test_ties_go_to_the_product_bought_more() -> None:
    pairs = count_pairs(corpus(*[[0, other] for other in range(1, 9)]), 9, max_companions=4)
    assert pairs.rows[: pairs.offsets[1]].tolist() == [1, 2, 3, 4]


def test_the_table_is_that_of_plain_counting() -> None:
    rng = np.random.default_rng(0)
    baskets = [rng.permutation(30)[: rng.integers(1, 8)].tolist() for _ in range(200)]
    pairs = count_pairs(corpus(*baskets), 30)
    support = np.zeros((30, 30), int)
    for basket in baskets:
        for one in basket:
            support[one, [other for other in basket if other != one]] += 1
    product = np.repeat(np.arange(30), np.diff(pairs.offsets))
    assert (support[product, pairs.rows] == pairs.support).all()
    assert len(pairs.rows) == (support > 0).sum()
    sums = np.bincount(product, pairs.probability, minlength=30)
    assert sums[support.any(axis=1)] == pytest.approx(1)


def test_the_head_is_that_of_plain_counting() -> None:
    head = count_head(corpus([0, 1], [0, 1, 2], [0, 2, 3], [1]), 4, largest=3)
    assert head.tolist() == [[3, 2, 2], [2, 2, 1], [2, 1, 2]]


@pytest.mark.parametrize("baskets", [corpus(), corpus([0]), corpus([0], [1])])
def test_no_pairs_are_an_empty_table(baskets: Corpus) -> None:
    pairs = count_pairs(baskets, 2)
    assert pairs.offsets.tolist() == [0, 0, 0]
    assert len(pairs.rows) == len(pairs.support) == len(pairs.probability) == 0


def test_pairs_survive_a_round_trip(tmp_path: Path) -> None:
    pairs = count_pairs(corpus([0, 1], [0, 2]), 3)
    write_pairs(pairs, tmp_path / "pairs")
    found = Pairs.load(tmp_path / "pairs")
    assert all((vars(found)[name] == array).all() for name, array in vars(pairs).items())


# The step


def test_the_model_of_a_baskets_file(tmp_path: Path) -> None:
    items = [["tea", "milk"], ["coffee", "sugar"]] * 50 + [["tea", "milk"], ["rare", "tea"]]
    columns = {
        "order_id": [str(i) for i in range(len(items))],
        "user_id": pa.nulls(len(items), pa.string()),
        "ts": pa.nulls(len(items), pa.timestamp("us", tz="UTC")),
        "items": pa.array(items, pa.list_(pa.string())),
        "positions": pa.nulls(len(items), pa.list_(pa.int32())),
        "weight": np.ones(len(items), np.float32),
        "split": ["train"] * len(items),
    }
    write_table(pa.table(columns), BASKETS, tmp_path / "baskets.parquet")
    # KFP hands whole numbers over as floats.
    settings = {"vector_size": 8.0, "epochs": 20.0, "window": 3.0, "seed": 1}
    paths = tmp_path / "vectors", tmp_path / "cooccurrence"
    found = train_model(tmp_path / "baskets.parquet", settings, 5, *paths)
    ids = pq.read_table(paths[0] / "product_ids.parquet")["product_id"].to_pylist()
    assert ids == ["tea", "milk", "coffee", "sugar"]
    assert np.load(paths[0] / "n_orders.npy").tolist() == [52, 51, 50, 50]
    assert np.load(paths[0] / "in_vectors.npy").shape == (4, 8)
    assert found["catalogue"] == 4
    # No validation baskets: the betas are the usual ones.
    betas = json.loads((paths[0] / "betas.json").read_text())
    assert (betas["beta_single"], betas["beta_cart"]) == (0.75, 0.25)
    pairs = Pairs.load(paths[1])
    assert ids[pairs.rows[pairs.offsets[0]]] == "milk"


def test_training_leaves_the_collector_of_garbage_as_it_was():
    for was_on in (False, True):
        (gc.enable if was_on else gc.disable)()
        try:
            train(corpus_of(*[[0, 1], [1, 2]] * 5), 3, TrainSettings(epochs=2))
            assert gc.isenabled() is was_on
        finally:
            gc.enable()
