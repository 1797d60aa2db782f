"""Ids that passed through a spreadsheet."""

import duckdb
import pytest

from components.sources.ids import detect_id_damage


@pytest.fixture(scope="module")
def con():
    return duckdb.connect()


def detect(con, ids, products=None):
    con.execute("create or replace table shop as select unnest(?::varchar[]) as sku", [ids])
    con.execute(
        "create or replace table products as select unnest(?::varchar[]) as product_id",
        [products or []],
    )
    return detect_id_damage(con, "shop", '"sku"', known="products" if products else None)


def repair(con, ids, products=None):
    column = "sku"
    for found in detect(con, ids, products):
        column = found.sql(column)
    return [row[0] for row in con.execute(f"select {column} from shop").fetchall()]


@pytest.mark.parametrize(
    ("ids", "products", "repaired"),
    [
        (["1027.0", "3.0", None, ""], None, ["1027", "3", None, ""]),
        (["1027.0", "A7"], ["1027", "A7"], ["1027", "A7"]),
        (["1027.0", "1027", "B"], None, ["1027", "1027", "B"]),
        (["7", "19", "0123"], ["0007", "0019", "0123"], ["0007", "0019", "0123"]),
        (["7", "0007", "0019"], None, ["0007", "0007", "0019"]),
        (["1.23E+12", "X"], ["1234567890123", "9934567890123"], ["1234567890123", "X"]),
        (["1,23457E+12"], ["1234567890123", "1234467890123"], ["1234567890123"]),
    ],
)
def test_what_other_ids_prove_is_put_right(con, ids, products, repaired):
    assert repair(con, ids, products) == repaired
    assert all(found.is_proven for found in detect(con, ids, products))


@pytest.mark.parametrize(
    ("kind", "ids", "products"),
    [
        ("trailing_zero", ["1027.0", "A7"], None),
        ("trailing_zero", ["1027.0", "1028.0", "A7"], ["1027", "1028.0", "1028", "A7"]),
        ("exponent", ["1.23E+12"], None),
        ("exponent", ["1.23E+12"], ["1234567890123", "1232222222222"]),
        ("exponent", ["1.23E+12"], ["7"]),
        ("lost_zeros", ["7", "19"], ["0008", "0020"]),
        ("lost_zeros", ["7", "0019"], None),
    ],
)
def test_what_nothing_proves_is_reported_and_left(con, kind, ids, products):
    (found,) = detect(con, ids, products)
    assert (found.kind, found.is_proven) == (kind, False)
    assert found.examples
    assert set(found.examples) <= set(ids)
    assert repair(con, ids, products) == ids


@pytest.mark.parametrize(
    ("ids", "products"),
    [
        (["7", "19", "1027"], None),
        (["7", "19"], ["7", "19", "1027"]),
        (["1.0", "2.0"], ["1.0", "2.0"]),
        (["A-1", "it's"], ["A-1"]),
        (["1E5"], ["1E5"]),
        (["1E5"], ["100000"]),
        (["0007", "0019"], ["0007", "0019"]),
        ([], None),
        ([None, " "], ["1"]),
    ],
)
def test_sound_ids_are_no_damage(con, ids, products):
    assert detect(con, ids, products) == []


def test_each_exponent_is_judged_by_itself(con):
    ids = ["1.23E+12", "4.56E+12", "4.56E+12"]
    products = ["1234567890123", "4560000000001", "4560000000002"]
    proven, unclear = detect(con, ids, products)
    assert (proven.n_values, unclear.n_values) == (1, 2)
    assert repair(con, ids, products) == ["1234567890123", "4.56E+12", "4.56E+12"]
