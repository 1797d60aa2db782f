"""What rules earn, on few lists with an obvious answer."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.contracts import RECOMMENDATIONS
from components.online.measures import measure
from components.online.rule_earnings import sum_rule_earnings
from tests.unit.test_online_metrics import Shop

PIN, BOOST = "a" * 32, "b" * 32


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def read_earnings(online):
    return {row.pop("rule_id"): row for row in sum_rule_earnings(online).to_pylist()}


def test_a_rule_earns_what_the_products_that_it_moved_earned(shop):
    shop.show("r", ["milk", "salt", "jam"], rule_ids=[[PIN], [], [PIN, BOOST]])
    shop.see(["milk", "salt", "jam"], "r")
    shop.click(["milk"], "r", minute=2)
    shop.click(["salt"], "r", minute=2)
    shop.add(["jam"], "r", minute=3)
    shop.buy(["jam", "salt"], minute=4, price=3.0, quantity=2.0)
    with shop.open() as online:
        found = read_earnings(online)
    assert found == {
        PIN: {
            "lists": 1, "impressions": 2, "clicks": 1, "adds": 1, "purchases": 1, "revenue": 6,
        },
        BOOST: {
            "lists": 1, "impressions": 1, "clicks": 0, "adds": 1, "purchases": 1, "revenue": 6,
        },
    }  # fmt: skip


def test_the_same_product_earns_nothing_for_a_rule_where_it_did_not_move_it(shop):
    shop.show("moved", ["milk"], rule_ids=[[PIN]], session="anna")
    shop.show("plain", ["milk"], session="bob")
    shop.see(["milk"], "plain", session="bob")
    shop.click(["milk"], "plain", session="bob", minute=2)
    with shop.open() as online:
        found = read_earnings(online)
    assert found == {
        PIN: {"lists": 1, "impressions": 0, "clicks": 0, "adds": 0, "purchases": 0, "revenue": 0}
    }


def test_a_list_of_a_log_of_a_quarter_counts_four_times(shop):
    shop.show("r", ["milk"], rule_ids=[[PIN]], share=0.25)
    shop.see(["milk"], "r")
    with shop.open() as online:
        (found,) = read_earnings(online).values()
    assert (found["lists"], found["impressions"], found["clicks"]) == (4, 4, 0)


def test_a_list_that_the_log_holds_twice_counts_once(shop):
    for _ in range(2):
        shop.show("r", ["milk"], rule_ids=[[PIN]])
    shop.see(["milk"], "r")
    with shop.open() as online:
        (found,) = read_earnings(online).values()
    assert (found["lists"], found["impressions"]) == (1, 1)


@pytest.mark.parametrize("also_new", [False, True])
def test_a_log_of_an_earlier_release_has_no_rules_and_all_else(shop, also_new):
    shop.show("r", ["milk"])
    shop.see(["milk"], "r")
    shop.write()
    folder = shop.root / "recommendations" / "day=2026-11-29"
    old = pq.read_table(folder / "part.parquet").drop_columns("rule_ids")
    pq.write_table(old, folder / "part.parquet")
    shop.write = lambda: None
    if also_new:
        shop.show("s", ["milk"], session="bob", rule_ids=[[PIN]])
        new = pa.Table.from_pylist(shop.lists[1:], pa.schema(list(RECOMMENDATIONS)))
        pq.write_table(new, folder / "later.parquet")
    with shop.open() as online:
        assert list(read_earnings(online)) == [PIN] * also_new
        rates = {row["measure"]: row["denominator"] for row in measure(online).to_pylist()}
    assert rates["click_through"] == 1
