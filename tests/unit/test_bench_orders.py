"""Orders made up for benches: they keep the contracts, repeat, and hold something to learn."""

import numpy as np
import pyarrow.compute as pc

from components.baskets.corpus import build_catalogue, encode, read_baskets
from components.contracts import BASKETS, ORDER_LINES, read_table
from components.embeddings.cooccurrence import count_pairs
from tests.bench import orders
from tests.bench.orders import Shop, write_baskets, write_order_lines

SHOP = Shop(n_lines=20_000, n_products=400)


def test_baskets_and_lines_are_the_same_orders(tmp_path, monkeypatch):
    monkeypatch.setattr(orders, "CHUNK", 1_500)
    write_baskets(SHOP, tmp_path / "baskets")
    write_order_lines(SHOP, tmp_path / "lines")
    baskets, lines = (
        read_table(tmp_path / "baskets", BASKETS),
        read_table(tmp_path / "lines", ORDER_LINES),
    )
    assert len(list((tmp_path / "baskets").iterdir())) == 3
    assert pc.list_flatten(baskets["items"]).to_pylist() == lines["product_id"].to_pylist()
    sizes = pc.list_value_length(baskets["items"]).to_numpy()
    assert (
        np.repeat(baskets["order_id"].to_numpy(), sizes).tolist() == lines["order_id"].to_pylist()
    )
    assert len(baskets) == SHOP.n_orders
    assert abs(len(lines) / SHOP.n_lines - 1) < 0.1
    assert [s["values"] for s in pc.value_counts(baskets["split"]).to_pylist()] == [
        "train",
        "validation",
        "test",
    ]


def test_products_of_a_group_go_together_and_popularity_falls(tmp_path):
    write_baskets(SHOP, tmp_path / "baskets")
    baskets = read_baskets(tmp_path / "baskets")
    product_ids, n_orders = build_catalogue(baskets, 1)
    corpus = encode(baskets, product_ids, "train")
    assert (
        corpus.sizes == [len(set(basket)) for basket in map(corpus.__getitem__, range(len(corpus)))]
    ).all()
    assert n_orders[0] > 4 * n_orders[100]
    pairs = count_pairs(corpus, len(product_ids))
    expected = n_orders[pairs.rows] * np.repeat(n_orders, np.diff(pairs.offsets)) / len(corpus)
    # With a quarter of the shop in a product's group, its pairs are well above chance.
    assert np.quantile(pairs.support / expected, 0.9) > 2
