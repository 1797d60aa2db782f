"""Which three products a demo shows, and that it shows something in the smallest shop."""

from dataclasses import replace

import numpy as np
import pytest

from components.model.bundle import Pairs, read_bundle
from components.model.kinds import Kinds
from pipelines.serving_check import build_selection
from pipelines.showcase import Page, Pair, pick_showcase
from tests.factories import make_bundle, products_table, write

BESTSELLERS = [f"bestseller {i}" for i in range(10)]
COMPANIONS = {hero: [f"{hero} {i}" for i in range(5)] for hero in ("tea", "paint", "rope")}
COMPANIONS["milk"] = BESTSELLERS[:5]
OWN = [one for hero in ("tea", "paint", "rope") for one in COMPANIONS[hero]]
IDS = [*BESTSELLERS, *COMPANIONS, *OWN]


@pytest.fixture
def shop(tmp_path):
    """Tea, paint and rope have companions of their own, milk has the bestsellers."""
    row_of = {id_: row for row, id_ in enumerate(IDS)}
    out_vectors = np.eye(len(IDS), dtype=np.float32)
    in_vectors = np.zeros_like(out_vectors)
    lists = [[row_of[one] for one in COMPANIONS.get(id_, [])] for id_ in IDS]
    for row, companions in enumerate(lists):
        in_vectors[row, companions] = range(60, 60 - 2 * len(companions), -2)
    n_orders = np.array([1_000] * 10 + [500, 500, 500, 900] + [200] * 15)
    table = products_table(IDS, {}, {})
    bundle = read_bundle(write(tmp_path / "shop", table, in_vectors, out_vectors, n_orders))
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    rows = np.concatenate(lists).astype(np.int32)
    pairs = Pairs(offsets, rows, np.full(len(rows), 120), np.full(len(rows), 0.1, np.float32))
    kinds = Kinds(np.arange(len(IDS), dtype=np.int32))
    return replace(bundle, pairs=pairs, kinds=kinds)


def pick(bundle, n=3):
    return [page.product_id for page in pick_showcase(build_selection(bundle), n)]


def test_three_pages_without_bestsellers_are_picked(shop):
    assert sorted(pick(shop)) == ["paint", "rope", "tea"]


def test_the_pairs_of_a_page_are_compared_with_chance(shop):
    page = pick_showcase(build_selection(shop), 1)[0]
    pair = page.pairs[0]
    assert page.name == "Tea, the good one"
    assert pair.name == "Tea 0, the good one"
    assert pair.n_together == 120
    assert pair.n_expected == pytest.approx(500 * 200 / shop.manifest.n_orders)
    assert pair.ratio == pytest.approx(120 / pair.n_expected)


def test_the_products_are_of_different_kinds(shop):
    row_of = {id_: row for row, id_ in enumerate(IDS)}
    codes = shop.kinds.codes.copy()
    codes[row_of["paint"]] = codes[row_of["tea"]]
    found = pick(replace(shop, kinds=Kinds(codes)))
    assert found[:2] == ["tea", "rope"]
    assert "paint" not in found


def test_a_page_that_shows_products_of_another_comes_later(shop):
    """Paint is bought with what tea is bought with."""
    rows = shop.pairs.rows.copy()
    rows[5:10] = rows[:5]
    in_vectors = shop.in_vectors.copy()
    in_vectors[11] = in_vectors[10]
    pairs = replace(shop.pairs, rows=rows)
    assert pick(replace(shop, pairs=pairs, in_vectors=in_vectors), 2) == ["tea", "rope"]


def test_a_small_shop_has_a_showcase_too(tmp_path):
    """No pair was counted, no kinds are known, and all are bestsellers."""
    found = pick(read_bundle(make_bundle(tmp_path / "small")))
    assert len(set(found)) == 3


def test_a_shop_of_two_products_has_two(tmp_path):
    two = read_bundle(make_bundle(tmp_path / "two", [("tea", "milk")], {}, {}))
    assert sorted(pick(two)) == ["milk", "tea"]


def pair(row, **changes):
    return replace(Pair(f"Companion {row}", row, row, 100, 20.0), **changes)


GOOD = Page("1", "Tea", 99, 99, 1_000, [pair(row) for row in range(20, 25)])


@pytest.mark.parametrize(
    "changes",
    [
        {"pairs": GOOD.pairs[:4]},
        {"name": "Tea #2"},
        {"name": "Tea · maker 7"},
        {"name": "Miscellaneous sales"},
        {"pairs": [*GOOD.pairs[:4], pair(30, name="Cups #2")]},
        {"pairs": [*GOOD.pairs[:3], pair(30, kind=20), pair(31, kind=20)]},
        {"pairs": [*GOOD.pairs[:4], pair(9)]},
        {"pairs": [*GOOD.pairs[:4], pair(30, n_together=19, n_expected=1.0)]},
        {"pairs": [*GOOD.pairs[:4], pair(30, n_expected=90.0)]},
    ],
)
def test_each_rule_counts(changes):
    assert replace(GOOD, **changes).count_kept_rules() == GOOD.count_kept_rules() - 1


def test_the_weakest_pair_decides_and_then_popularity():
    weak = replace(GOOD, pairs=[*GOOD.pairs[:4], pair(30, n_expected=40.0)])
    assert weak.score() < GOOD.score() < replace(GOOD, n_orders=2_000).score()
    assert replace(GOOD, pairs=[]).score() == 0
