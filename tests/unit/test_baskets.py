"""Baskets: distinct products, in order, weighed and split, and every removal counted."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from components.baskets import corpus
from components.baskets.build import BasketsError, BasketSettings, build_baskets
from components.baskets.corpus import build_catalogue, encode, read_baskets
from components.contracts import BASKETS, ORDER_LINES, read_table, write_table

START = datetime(2024, 1, 1, tzinfo=UTC)


def lines_of(orders, ts=True, positions=False):
    """ORDER_LINES of [[product, …], …], one order a day."""
    rows = [
        {
            "order_id": f"o{day:04d}", "user_id": "u", "product_id": product,
            "ts": START + timedelta(days=day) if ts else None,
            "position": place if positions else None, "quantity": 1.0, "price": None,
        }
        for day, products in enumerate(orders)
        for place, product in enumerate(products)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema(list(ORDER_LINES)))


@pytest.fixture
def build(tmp_path):
    def call(table, **settings):
        write_table(table, ORDER_LINES, tmp_path / "lines.parquet")
        counts = build_baskets(
            tmp_path / "lines.parquet", tmp_path / "baskets", BasketSettings(**settings)
        )
        rows = sorted(
            read_table(tmp_path / "baskets", BASKETS).to_pylist(), key=lambda r: r["order_id"]
        )
        return counts, rows

    return call


def test_repeats_go_and_single_products_go_and_both_are_counted(build):
    orders = [["tea", "milk", "tea"]] * 10 + [["tea"]] * 3
    counts, rows = build(lines_of(orders))
    assert [row["items"] for row in rows] == [["milk", "tea"]] * 10
    assert counts["removed: repeated product in an order"] == 10
    assert counts["removed: single-product orders"] == 3
    assert counts["lines"] == counts["basket_items"] + 10 + 3


def test_time_splits_80_10_10_and_never_overlaps(build):
    counts, rows = build(lines_of([["a", "b"]] * 100))
    assert [counts[f"baskets_{s}"] for s in ("train", "validation", "test")] == [80, 10, 10]
    assert [row["split"] for row in rows] == ["train"] * 80 + ["validation"] * 10 + ["test"] * 10
    assert counts["first_order"] == "2024-01-01T00:00:00Z"


def test_without_timestamps_a_hash_splits_and_always_alike(build):
    table = lines_of([["a", "b"]] * 300, ts=False)
    counts, rows = build(table)
    assert 0.7 < counts["baskets_train"] / 300 < 0.9
    assert min(counts["baskets_validation"], counts["baskets_test"]) > 0
    assert counts["first_order"] == ""
    assert build(table)[1] == rows


def test_one_moment_for_all_orders_is_no_time_to_split_by(build):
    table = lines_of([["a", "b"]] * 300)
    moment = pa.array([START] * len(table), table.schema.field("ts").type)
    counts, _ = build(table.set_column(3, "ts", moment))
    assert min(counts["baskets_validation"], counts["baskets_test"]) > 0


def test_the_order_of_baskets_is_the_same_on_any_number_of_cores(build, tmp_path, monkeypatch):
    found = []
    for cores in (1, 5):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        monkeypatch.setenv("FBT_SPARK_MASTER", f"local[{cores}]")
        build(lines_of([["a", "b"]] * 300))
        found.append(read_table(tmp_path / "baskets", BASKETS)["order_id"].to_pylist())
    one, five = found
    assert one == five
    assert one != sorted(one)


def test_age_halves_the_weight(build):
    _, rows = build(lines_of([["a", "b"]] * 21), half_life_days=10)
    assert rows[-1]["weight"] == 1
    assert rows[10]["weight"] == pytest.approx(0.5)
    assert rows[0]["weight"] == pytest.approx(0.25)


def test_without_a_half_life_all_weigh_the_same(build):
    _, rows = build(lines_of([["a", "b"]] * 20))
    assert {row["weight"] for row in rows} == {1.0}


def test_positions_order_the_products_and_a_repeat_keeps_its_first_place(build):
    _, rows = build(lines_of([["tea", "milk", "tea", "bread"]] * 20, positions=True))
    assert rows[0]["items"] == ["tea", "milk", "bread"]
    assert rows[0]["positions"] == [0, 1, 3]


def test_a_basket_of_5000_is_over_the_cap(build):
    huge = [f"p{i}" for i in range(5000)]
    counts, rows = build(lines_of([["a", "b"]] * 50 + [huge] + [["a", "b"]] * 50))
    assert counts["removed: orders over the cap"] == 1
    assert max(len(row["items"]) for row in rows) == 2


@pytest.mark.parametrize(
    ("orders", "found"),
    [
        ([["a", "b"]], "1 orders made 1 baskets"),
        ([["a"]] * 50, "50 orders made 0 baskets.*50 orders have one product"),
    ],
    ids=["one order", "one product"],
)
def test_too_little_to_learn_from_is_refused_with_the_counts(build, orders, found):
    with pytest.raises(BasketsError, match=found):
        build(lines_of(orders))


def test_a_corpus_holds_what_the_baskets_hold(build, tmp_path):
    build(lines_of([["a", "b"], ["b", "c"]] * 50))
    baskets = read_baskets(tmp_path / "baskets")
    ids, n_orders = build_catalogue(baskets, min_orders=1)
    assert ids.to_pylist() == ["b", "a", "c"]
    assert n_orders.tolist() == [80, 40, 40]
    found = encode(baskets, ids, "train")
    assert len(found) == 80
    assert sorted({tuple(sorted(found[i].tolist())) for i in range(80)}) == [(0, 1), (0, 2)]


def test_a_corpus_encoded_in_pieces_is_the_same(build, tmp_path, monkeypatch):
    build(lines_of([["a", "b", "rare"], ["b", "c"], ["a", "c"]] + [["a", "b"], ["b", "c"]] * 50))
    baskets = read_baskets(tmp_path / "baskets")
    ids, _ = build_catalogue(baskets, min_orders=2)
    whole = encode(baskets, ids, "train")
    monkeypatch.setattr(corpus, "CHUNK", 7)
    pieces = encode(baskets, ids, "train")
    assert all((vars(pieces)[name] == array).all() for name, array in vars(whole).items())


def test_a_corpus_without_rare_products_may_have_empty_baskets(build, tmp_path):
    build(lines_of([["a", "b"]] * 79 + [["x", "y"]] + [["a", "b"]] * 20))
    baskets = read_baskets(tmp_path / "baskets")
    ids, _ = build_catalogue(baskets, min_orders=5)
    found = encode(baskets, ids, "train")
    assert len(found) == 80
    assert len(found.with_at_least(2)) == 79


def test_no_product_bought_often_enough(build, tmp_path):
    build(lines_of([["a", "b"]] * 20))
    with pytest.raises(ValueError, match=r"min_product_orders=1000.*has 16"):
        build_catalogue(read_baskets(tmp_path / "baskets"), min_orders=1000)


def test_a_day_of_the_shop_is_not_divided(build):
    """Two orders an hour for 100 days; in Tokyo, days begin at 15:00 UTC."""
    table = lines_of([["a", "b"]] * 4800)
    hours = [START + timedelta(hours=row // 4) for row in range(len(table))]
    table = table.set_column(3, "ts", pa.array(hours, table.schema.field("ts").type))
    for timezone, first_hour in (("UTC", 0), ("Asia/Tokyo", 15)):
        _, rows = build(table, timezone=timezone)
        by_split = {
            split: [row["ts"] for row in rows if row["split"] == split]
            for split in ("train", "validation", "test")
        }
        for split in ("validation", "test"):
            assert min(by_split[split]).hour == first_hour
        assert len(by_split["train"]) == pytest.approx(3840, abs=48)
