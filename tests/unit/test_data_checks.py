"""A clean shop passes everything; a corruption is caught by the check meant for it and no other.

The clean shop: order number i, on day i modulo 120, holds products i, i+1 and i+2 modulo 12.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.contracts import BASKETS, ORDER_LINES, PRODUCTS, QUARANTINE
from components.registry.version import list_failed_checks
from components.report.report import write_checks_page
from data_checks.check import check_baskets, check_order_lines, read_previous_profile
from data_checks.clock import to_local_time
from data_checks.drift import stability_index
from data_checks.expectations import compare, load_suite, validate
from data_checks.result import CheckReport, ChecksFailed
from data_checks.settings import CheckSettings

Rows = list[dict[str, Any]]

MONDAY = datetime(2024, 1, 1, 12, tzinfo=UTC)
N_DAYS, N_PRODUCTS = 120, 12


@dataclass
class Shop:
    """A shop's tables as rows, to be corrupted and then written."""

    lines: Rows
    baskets: Rows
    products: Rows
    quarantine: Rows = field(default_factory=list)

    def order(self, number: int) -> Rows:
        return [line for line in self.lines if line["order_id"] == f"o{number}"]


def make_shop(n_orders: int = N_DAYS, n_items: int = 3, start: datetime = MONDAY) -> Shop:
    lines: Rows = []
    baskets: Rows = []
    for i in range(n_orders):
        order = {
            "order_id": f"o{i}",
            "user_id": f"u{i % 20}",
            "ts": start + timedelta(days=i % N_DAYS),
        }
        items = [f"p{(i + k) % N_PRODUCTS:02}" for k in range(n_items)]
        lines += [
            {**order, "product_id": item, "position": k, "quantity": 1.0, "price": 2.0}
            for k, item in enumerate(items)
        ]
        split = "train" if i % N_DAYS < 96 else "validation" if i % N_DAYS < 108 else "test"
        positions = list(range(n_items))
        baskets.append(
            {**order, "items": items, "positions": positions, "weight": 0.5, "split": split}
        )
    products = [product(f"p{i:02}", f"c{i % 3}") for i in range(N_PRODUCTS)]
    return Shop(lines, baskets, products)


def product(product_id: str, category: str = "c0") -> dict[str, Any]:
    return {"product_id": product_id, "name": f"name of {product_id}", "category": category}


def table(rows: Rows, schema: pa.Schema) -> pa.Table:
    """The rows as they are: what a contract forbids is let through."""
    return pa.Table.from_pylist(rows, pa.schema([f.with_nullable(True) for f in schema]))


def write_shop(shop: Shop, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(table(shop.lines, ORDER_LINES), folder / "order_lines.parquet")
    pq.write_table(table(shop.baskets, BASKETS), folder / "baskets.parquet")
    pq.write_table(table(shop.products, PRODUCTS), folder / "products.parquet")
    pq.write_table(table(shop.quarantine, QUARANTINE), folder / "quarantine.parquet")


def check_lines_at(
    folder: Path, previous: dict[str, Any] | None = None, **settings: Any
) -> CheckReport:
    paths = [folder / f"{n}.parquet" for n in ("order_lines", "quarantine", "products")]
    return check_order_lines(*paths, previous, CheckSettings(**settings))


def check_baskets_at(
    folder: Path, previous: dict[str, Any] | None = None, **settings: Any
) -> CheckReport:
    paths = folder / "baskets.parquet", folder / "products.parquet"
    return check_baskets(*paths, previous, CheckSettings(**settings))


def check_shop(shop: Shop, folder: Path, **settings: Any) -> CheckReport:
    write_shop(shop, folder)
    return check_lines_at(folder, **settings)


def failures(checked: CheckReport) -> dict[str, str]:
    """Names of failed checks with their severities."""
    return {c["name"]: c["severity"] for c in checked.results if not c["passed"]}


def profile_of(checked: CheckReport) -> dict[str, Any]:
    assert checked.profile is not None
    return checked.profile.model_dump()


def change_lines(first: int = 0, last: int = 1, **values: Any) -> Callable[[Shop], None]:
    """A corruption that sets the values in lines [first, last)."""

    def corrupt(shop: Shop) -> None:
        for line in shop.lines[first:last]:
            line.update(values)

    return corrupt


def change_basket(number: int = 0, **values: Any) -> Callable[[Shop], None]:
    return lambda shop: shop.baskets[number].update(values)


def quarantine(n_lines: int, reason: str) -> Callable[[Shop], None]:
    row = {"order_id": "q", "product_id": "p00", "quantity": "-1", "reason": reason}
    return lambda shop: shop.quarantine.extend([row] * n_lines)


def keep_orders(keep: Callable[[int], bool]) -> Callable[[Shop], None]:
    def corrupt(shop: Shop) -> None:
        shop.lines = [line for line in shop.lines if keep(int(line["order_id"][1:]))]

    return corrupt


def sell_four_products(shop: Shop) -> None:
    for line in shop.lines:
        line["product_id"] = f"p{int(line['product_id'][1:]) % 4:02}"


def repeat_lines(shop: Shop) -> None:
    shop.lines += shop.lines[:10]


def use_an_order_id_twice(shop: Shop) -> None:
    for line in shop.order(40):
        line["order_id"] = "o0"
    shop.lines[2]["product_id"] = "p11"


def give_an_order_to_two_customers(shop: Shop) -> None:
    shop.order(7)[0]["user_id"] = "u1"


def write_an_id_in_capitals(shop: Shop) -> None:
    shop.lines[0]["product_id"] = "P00"
    shop.products.append(product("P00"))


def sell_postage(shop: Shop) -> None:
    shop.lines[0]["product_id"] = "Postage"
    shop.products.append(product("Postage"))


def move_orders_to_one_day(shop: Shop) -> None:
    for line in shop.lines:
        if int(line["order_id"][1:]) % 2 == 0:
            line["ts"] = MONDAY + timedelta(days=60)


def add_single_item_orders(shop: Shop) -> None:
    lines = [{**shop.order(i)[0]} for i in range(N_DAYS)]
    shop.lines += [
        {**line, "order_id": f"single {line['order_id']} {k}"} for line in lines for k in range(5)
    ]


def add_a_huge_order(shop: Shop) -> None:
    huge = [f"x{i}" for i in range(5_000)]
    shop.lines += [{**shop.lines[0], "order_id": "huge", "product_id": id_} for id_ in huge]
    shop.products += map(product, huge)


def forget_a_product(shop: Shop) -> None:
    shop.products.pop()


def rename_products(n: int) -> Callable[[Shop], None]:
    """A corruption of the first `n` ids of the product table, as a spreadsheet pads them."""

    def corrupt(shop: Shop) -> None:
        for row in shop.products[:n]:
            row["product_id"] = f"0{row['product_id']}"

    return corrupt


def lose_leading_letters(shop: Shop) -> None:
    for row in shop.products:
        row["product_id"] = row["product_id"][1:]


def forget_names(shop: Shop) -> None:
    for row in shop.products[:3]:
        row["name"] = None


def list_a_product_twice(shop: Shop) -> None:
    shop.products.append(shop.products[0])


CRITICAL, WARNING = "critical", "warning"
FUTURE = datetime(2100, 1, 1, tzinfo=UTC)
ZERO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def test_a_clean_shop_passes_everything(tmp_path: Path) -> None:
    write_shop(make_shop(), tmp_path)
    for checked in (check_lines_at(tmp_path), check_baskets_at(tmp_path)):
        assert failures(checked) == {}
        assert checked.is_usable
        assert len(checked.results) >= 20
        checked.raise_if_critical()


@pytest.mark.parametrize(
    ("corrupt", "name", "severity"),
    [
        (change_lines(order_id=None), "order_id_missing", CRITICAL),
        (change_lines(order_id="  "), "order_id_missing", CRITICAL),
        (change_lines(product_id=None), "product_id_missing", CRITICAL),
        (change_lines(quantity=None), "quantity_missing", CRITICAL),
        (change_lines(quantity=float("nan")), "quantity_missing", CRITICAL),
        (change_lines(quantity=-1.0), "quantity_not_positive", CRITICAL),
        (change_lines(quantity=0.0), "quantity_not_positive", CRITICAL),
        (change_lines(price=-0.01), "price_negative", CRITICAL),
        (keep_orders(lambda i: i < 30), "multi_item_orders", CRITICAL),
        (keep_orders(lambda i: i == 0), "multi_item_orders", CRITICAL),
        (sell_four_products, "products", CRITICAL),
        (list_a_product_twice, "catalogue_repeats", CRITICAL),
        (quarantine(25, "quantity not positive"), "quarantined_share", WARNING),
        (quarantine(10, "quantity not a number"), "unreadable_share", WARNING),
        (quarantine(10, "malformed line"), "unreadable_share", WARNING),
        (quarantine(15, "cancellation"), "cancelled_share", WARNING),
        (quarantine(15, "quantity not positive; cancellation"), "cancelled_share", WARNING),
        (quarantine(15, "not a product"), "non_product_share", WARNING),
        (repeat_lines, "duplicate_share", WARNING),
        (use_an_order_id_twice, "mixed_order_share", WARNING),
        (give_an_order_to_two_customers, "mixed_order_share", WARNING),
        (change_lines(quantity=80_995.0), "quantity_max", WARNING),
        (change_lines(price=1e6), "price_spread", WARNING),
        (change_lines(0, 10, price=0.0), "price_zero_share", WARNING),
        (change_lines(0, 30, price=None), "price_missing_share", WARNING),
        (change_lines(0, 90, user_id=None), "user_missing_share", WARNING),
        (write_an_id_in_capitals, "id_twins_share", WARNING),
        (sell_postage, "suspect_share", WARNING),
        (change_lines(0, 10, ts=None), "ts_missing_share", WARNING),
        (keep_orders(lambda i: not 50 <= i < 70), "longest_gap_days", WARNING),
        (move_orders_to_one_day, "busiest_day_share", WARNING),
        (add_single_item_orders, "single_item_share", WARNING),
        (add_a_huge_order, "basket_max", WARNING),
        (forget_a_product, "catalogue_coverage", WARNING),
        (forget_names, "named_share", WARNING),
    ],
)
def test_each_corruption_of_order_lines_is_caught(
    corrupt: Callable[[Shop], None], name: str, severity: str, tmp_path: Path
) -> None:
    shop = make_shop()
    corrupt(shop)
    settings = {
        "multi_item_orders": {"min_products": 2},  # few orders have few products
        "basket_max": {"max_busiest_day_share": 1},  # a huge order makes for a busy day
    }.get(name, {})
    assert failures(check_shop(shop, tmp_path, **settings)) == {name: severity}


@pytest.mark.parametrize(
    ("corrupt", "expected"),
    [
        (change_lines(0, 3, ts=FUTURE), {"ts_future": CRITICAL, "longest_gap_days": WARNING}),
        (
            change_lines(0, 3, ts=ZERO_TIME),
            {"ts_before_1990": CRITICAL, "longest_gap_days": WARNING},
        ),
        (
            lose_leading_letters,
            {
                "catalogue_matches": CRITICAL,
                "catalogue_join": WARNING,
                "catalogue_coverage": WARNING,
            },
        ),
        (
            rename_products(7),
            {
                "catalogue_join": WARNING,
                "catalogue_coverage": WARNING,
                "named_share": WARNING,
            },
        ),
        (
            quarantine(400, "not a product"),
            {
                "usable_share": CRITICAL,
                "quarantined_share": WARNING,
                "non_product_share": WARNING,
            },
        ),
    ],
)
def test_a_corruption_on_two_counts_fails_on_both(
    corrupt: Callable[[Shop], None], expected: dict[str, str], tmp_path: Path
) -> None:
    shop = make_shop()
    corrupt(shop)
    assert failures(check_shop(shop, tmp_path)) == expected


@pytest.mark.parametrize(
    ("corrupt", "name", "severity"),
    [
        (change_basket(order_id="o1"), "order_repeats", CRITICAL),
        (change_basket(order_id=None), "order_id_missing", CRITICAL),
        (change_basket(items=["p00", None, "p01"]), "item_missing", CRITICAL),
        (change_basket(items=["p00", "p01", "p00"]), "item_repeats", CRITICAL),
        (change_basket(items=["p00"], positions=[0]), "small_baskets", CRITICAL),
        (change_basket(items=None, positions=None), "small_baskets", CRITICAL),
        (change_basket(positions=[0, 1]), "position_mismatches", CRITICAL),
        (change_basket(weight=1.5), "weight_out_of_bounds", CRITICAL),
        (change_basket(weight=None), "weight_out_of_bounds", CRITICAL),
        (change_basket(split="holdout"), "split_unknown", CRITICAL),
        (change_basket(split=None), "split_unknown", CRITICAL),
        (change_basket(split="test"), "split_leaks", CRITICAL),
    ],
)
def test_each_corruption_of_baskets_is_caught(
    corrupt: Callable[[Shop], None], name: str, severity: str, tmp_path: Path
) -> None:
    shop = make_shop()
    corrupt(shop)
    write_shop(shop, tmp_path)
    assert failures(check_baskets_at(tmp_path)) == {name: severity}


@pytest.mark.parametrize(
    ("limits", "name", "severity"),
    [
        ((120, 120), "smallest_split", CRITICAL),
        ((60, 108), "train_share", WARNING),
    ],
)
def test_lopsided_splits_are_caught(
    limits: tuple[int, int], name: str, severity: str, tmp_path: Path
) -> None:
    shop = make_shop()
    for i, basket in enumerate(shop.baskets):
        basket["split"] = "train" if i < limits[0] else "validation" if i < limits[1] else "test"
    write_shop(shop, tmp_path)
    assert failures(check_baskets_at(tmp_path, max_train_share=1)) == {name: severity}


def test_products_that_only_the_test_knows_are_caught(tmp_path: Path) -> None:
    shop = make_shop()
    for basket in shop.baskets[-12:]:
        basket["items"] = ["new 0", "new 1", "new 2"]
    shop.products += [product(f"new {i}") for i in range(3)]
    write_shop(shop, tmp_path)
    assert failures(check_baskets_at(tmp_path)) == {"cold_share": WARNING}


@pytest.mark.parametrize(
    ("column", "broken", "name", "observed"),
    [
        ("ts", None, "columns", "missing: ts"),
        ("quantity", pa.string(), "types", "quantity: text"),
        ("ts", pa.timestamp("us"), "types", "ts: time without zone"),
    ],
)
def test_wrong_columns_are_caught(
    column: str, broken: pa.DataType | None, name: str, observed: str, tmp_path: Path
) -> None:
    shop = make_shop()
    write_shop(shop, tmp_path)
    lines = table(shop.lines, ORDER_LINES)
    place = lines.column_names.index(column)
    if broken is None:
        lines = lines.drop_columns([column])
    else:
        lines = lines.set_column(place, column, lines[column].cast(broken))
    pq.write_table(lines, tmp_path / "order_lines.parquet")
    checked = check_lines_at(tmp_path)
    assert failures(checked) == {name: CRITICAL}
    assert [c["observed"] for c in checked.failures("critical")] == [observed]
    write_all(checked, tmp_path)


def test_no_rows_at_all_is_one_failure_and_not_many(tmp_path: Path) -> None:
    shop = make_shop()
    shop.lines, shop.baskets = [], []
    write_shop(shop, tmp_path)
    assert failures(check_lines_at(tmp_path)) == {"rows": CRITICAL}
    assert failures(check_baskets_at(tmp_path)) == {"rows": CRITICAL}


def test_all_rows_quarantined_says_why(tmp_path: Path) -> None:
    shop = make_shop()
    shop.lines = []
    quarantine(40, "quantity not a number")(shop)
    checked = check_shop(shop, tmp_path)
    assert {"rows", "usable_share", "unreadable_share"} <= set(failures(checked))
    assert "quantity not a number" in write_all(checked, tmp_path)


def test_what_a_shop_does_not_have_is_skipped_and_not_failed(tmp_path: Path) -> None:
    shop = make_shop()
    for row in shop.lines + shop.baskets:
        row.update(ts=None, user_id=None)
    for line in shop.lines:
        line["price"] = None
    checked = check_shop(shop, tmp_path)
    reasons = {skip["name"]: skip["reason"] for skip in checked.skipped}
    assert failures(checked) == failures(check_baskets_at(tmp_path)) == {}
    assert reasons["ts_future"] == "the shop's data has no times"
    assert reasons["price_negative"] == "the shop's data has no prices"
    assert reasons["user_missing_share"] == "the shop's data names no customers"


def write_all(checked: CheckReport, folder: Path) -> str:
    """Write what a step writes; the page's text."""
    page = folder / "page"
    checked.write(folder / "checks", folder / "profile")
    write_checks_page(checked.to_json(), page)
    return page.read_text(encoding="utf-8")


DRIFTS = (
    "volume_ratio",
    "newer_by_days",
    "drift_sizes",
    "drift_products",
    "drift_categories",
    "drift_weekdays",
)


def test_a_first_run_skips_drift_and_says_so(tmp_path: Path) -> None:
    checked = check_shop(make_shop(), tmp_path)
    assert checked.first_run
    assert [skip["name"] for skip in checked.skipped] == list(DRIFTS)
    assert "This is the first run." in write_all(checked, tmp_path)


def test_the_same_data_again_has_not_drifted(tmp_path: Path) -> None:
    previous = profile_of(check_shop(make_shop(), tmp_path))
    checked = check_lines_at(tmp_path, previous)
    assert not checked.first_run
    assert failures(checked) == {}
    assert set(DRIFTS) <= {check["name"] for check in checked.results}
    assert "This is the first run." not in write_all(checked, tmp_path)


def sell_three_products_most(shop: Shop) -> None:
    for line in shop.lines:
        if int(line["order_id"][1:]) % 2:
            line["product_id"] = f"p{line['position']:02}"


def rename_a_category(shop: Shop) -> None:
    for row in shop.products:
        row["category"] = row["category"].replace("c0", "d0")


def close_on_sundays(shop: Shop) -> None:
    for line in shop.lines:
        if line["ts"].weekday() == 6:
            line["ts"] -= timedelta(days=1)


@pytest.mark.parametrize(
    ("before", "now", "name"),
    [
        (make_shop(n_orders=360), None, "volume_ratio"),
        (make_shop(start=MONDAY + timedelta(days=14)), None, "newer_by_days"),
        (make_shop(n_items=5), None, "drift_sizes"),
        (make_shop(), sell_three_products_most, "drift_products"),
        (make_shop(), rename_a_category, "drift_categories"),
        (make_shop(), close_on_sundays, "drift_weekdays"),
    ],
)
def test_each_drift_is_caught(
    before: Shop, now: Callable[[Shop], None] | None, name: str, tmp_path: Path
) -> None:
    previous = profile_of(check_shop(before, tmp_path))
    shop = make_shop()
    if now:
        now(shop)
    write_shop(shop, tmp_path)
    assert failures(check_lines_at(tmp_path, previous)) == {name: WARNING}


def test_stability_index_by_hand() -> None:
    same = {"a": 0.5, "b": 0.5}
    assert stability_index(same, same) == 0
    assert stability_index(same, {"a": 0.25, "b": 0.75}) == pytest.approx(0.2746531)
    assert 1 < stability_index(same, {"c": 1.0}) < 20  # large, not infinite


def test_the_written_profile_is_the_next_run_s_previous_one(tmp_path: Path) -> None:
    write_shop(make_shop(), tmp_path)
    champion = tmp_path / "champion"
    for checked in (check_lines_at(tmp_path), check_baskets_at(tmp_path)):
        kept = champion / "profile" / f"{checked.table}.json"
        checked.write(tmp_path / "checks", kept)
    for check, name in ((check_lines_at, "order_lines"), (check_baskets_at, "baskets")):
        again = check(tmp_path, read_previous_profile(champion, name))
        assert not again.first_run
        assert failures(again) == {}
    assert read_previous_profile(tmp_path, "baskets") is None


def test_the_registry_is_told_which_checks_failed(tmp_path: Path) -> None:
    shop = make_shop()
    forget_names(shop)
    write_shop(shop, tmp_path)
    written = {}
    for checked in (check_lines_at(tmp_path), check_baskets_at(tmp_path)):
        name = f"checks/{checked.table}.json"
        written[name] = tmp_path / name
        checked.write(written[name], tmp_path / "profile")
    assert list_failed_checks(written) == ["order_lines.named_share", "baskets.named_share"]


def test_a_profile_of_another_version_is_not_compared_with(tmp_path: Path) -> None:
    previous = profile_of(check_shop(make_shop(), tmp_path)) | {"version": 0}
    assert check_lines_at(tmp_path, previous).first_run


def test_a_critical_failure_is_raised_after_everything_was_written(tmp_path: Path) -> None:
    shop = make_shop()
    shop.lines[0].update(quantity=-1.0, price=-2.0)
    checked = check_shop(shop, tmp_path)
    page = write_all(checked, tmp_path)
    with pytest.raises(ChecksFailed) as raised:
        checked.raise_if_critical()
    message = str(raised.value)
    assert "2 critical checks failed" in message
    for check in checked.failures("critical"):
        for part in ("name", "title", "observed", "expected", "remedy"):
            assert check[part] in message
    assert "The run was stopped" in page
    found = json.loads((tmp_path / "checks").read_text(encoding="utf-8"))
    assert (found["table"], found["passed"], found["first_run"]) == ("order_lines", False, True)
    assert found["sampled_share"] == 1.0
    assert {tuple(check) for check in found["checks"]} == {
        ("name", "title", "severity", "passed", "observed", "expected", "examples", "why", "remedy")
    }
    assert json.loads((tmp_path / "profile").read_text(encoding="utf-8"))["numbers"]["rows"] == 360


def test_the_page_opens_offline_and_escapes_what_it_shows(tmp_path: Path) -> None:
    shop = make_shop()
    quarantine(2, "cancellation")(shop)
    shop.quarantine[0] = {**shop.quarantine[0], "product_id": "<script>alert(1)</script>"}
    page = write_all(check_shop(shop, tmp_path), tmp_path)
    assert "://" not in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    for check in check_lines_at(tmp_path).results:
        assert check["title"] in page


def test_a_sampled_run_checks_whole_orders_and_says_so(tmp_path: Path) -> None:
    checked = check_shop(make_shop(n_orders=1200), tmp_path, row_limit=1_800)
    assert failures(checked) == {}
    assert checked.to_json()["sampled_share"] == 0.5
    numbers = profile_of(checked)["numbers"]
    assert numbers["rows"] == 3600
    assert 500 < numbers["orders"] < 700
    assert (numbers["basket_mean"], numbers["basket_max"]) == (3, 3)
    assert "Checked on a sample of 50\u202f% of the orders" in write_all(checked, tmp_path)
    assert profile_of(check_lines_at(tmp_path, row_limit=1_800)) == profile_of(checked)


def test_a_table_in_many_parts_is_one_table(tmp_path: Path) -> None:
    shop = make_shop()
    write_shop(shop, tmp_path)
    whole = profile_of(check_lines_at(tmp_path))
    lines = table(shop.lines, ORDER_LINES)
    (tmp_path / "order_lines.parquet").unlink()
    (tmp_path / "order_lines.parquet").mkdir()
    for k in range(3):
        part = tmp_path / "order_lines.parquet" / f"part-{k}.parquet"
        pq.write_table(lines.slice(k * 120, 120), part)
    assert profile_of(check_lines_at(tmp_path)) == whole


def test_a_misspelt_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="max_duplicates"):
        CheckSettings(max_duplicates=0.1)
    with pytest.raises(ValueError, match="max_duplicate_share"):
        CheckSettings(max_duplicate_share=1.5)
    with pytest.raises(ValueError, match="non_product_pattern"):
        CheckSettings(non_product_pattern="(")
    with pytest.raises(ValueError, match="No time zone is called 'Istanbul'"):
        CheckSettings(timezone="Istanbul")


def test_every_threshold_says_what_it_means() -> None:
    for name, setting in CheckSettings.model_fields.items():
        assert setting.description, name


def test_ids_that_do_not_join_are_shown_from_both_sides(tmp_path: Path) -> None:
    shop = make_shop()
    rename_products(7)(shop)
    for line in shop.order(3) + shop.order(15):
        line["product_id"] = "p04"  # the most bought one
    checked = check_shop(shop, tmp_path)
    (join,) = [check for check in checked.results if check["name"] == "catalogue_join"]
    assert join["observed"] == "41.67 %"
    assert join["examples"] == [
        "Bought, but not in the product table: “p04”, “p00”, “p01”.",
        "In the product table, but never bought: “0p00”, “0p01”, “0p02”.",
    ]
    assert join["examples"][1] in write_all(checked, tmp_path)
    assert checked.is_usable
    baskets = check_baskets_at(tmp_path)
    assert failures(baskets)["catalogue_join"] == WARNING


def test_no_common_id_ends_the_run_with_examples(tmp_path: Path) -> None:
    shop = make_shop()
    rename_products(N_PRODUCTS)(shop)
    with pytest.raises(ChecksFailed, match="never bought: “0p00”, “0p01”, “0p02”") as raised:
        check_shop(shop, tmp_path).raise_if_critical()
    assert "catalogue_matches" in str(raised.value)
    assert "catalogue_join" not in str(raised.value)


def test_a_product_table_of_the_lines_always_joins(tmp_path: Path) -> None:
    shop = make_shop()
    shop.products = [{"product_id": row["product_id"]} for row in shop.products]
    checked = check_shop(shop, tmp_path)
    assert {"catalogue_join", "catalogue_matches"}.isdisjoint(failures(checked))
    assert profile_of(checked)["examples"] == {"unknown_products": [], "unsold_products": []}


@pytest.mark.parametrize(
    "reason",
    ["refund", "test order", "gift card", "part of a bundle product", "header repeated"],
)
def test_lines_that_are_no_sales_are_no_loss(reason: str, tmp_path: Path) -> None:
    shop = make_shop()
    quarantine(2_000, reason)(shop)
    checked = check_shop(shop, tmp_path)
    assert failures(checked) == {}
    assert profile_of(checked)["numbers"]["usable_share"] == 1
    assert reason in write_all(checked, tmp_path)


def in_zone(timezone: str, *times: datetime, folder: Path) -> dict[str, Any]:
    """The profile of a shop there with one order at each of the times."""
    lines = [
        {"order_id": f"o{i}", "product_id": "p00", "ts": time, "quantity": 1.0}
        for i, time in enumerate(times)
    ]
    shop = Shop(lines, [], [product("p00")])
    return profile_of(check_shop(shop, folder, timezone=timezone))


def test_days_begin_in_the_shop_s_zone(tmp_path: Path) -> None:
    times = [datetime(2024, 1, 31, hour, tzinfo=UTC) for hour in (20, 22)]  # Wednesday
    utc = in_zone("UTC", *times, folder=tmp_path)
    assert utc["histograms"]["weekdays"]["Wed"] == 1
    assert utc["numbers"]["longest_gap_days"] is None
    there = in_zone("Europe/Istanbul", *times, folder=tmp_path)
    assert there["timezone"] == "Europe/Istanbul"
    assert (there["histograms"]["weekdays"]["Wed"], there["histograms"]["weekdays"]["Thu"]) == (
        0.5,
        0.5,
    )
    assert there["histograms"]["months"] == {"2024-01": 0.5, "2024-02": 0.5}
    assert there["numbers"]["longest_gap_days"] == 1
    assert there["numbers"]["ts_first_s"] == utc["numbers"]["ts_first_s"]


def test_midnights_of_a_year_with_summer_time_are_its_days(tmp_path: Path) -> None:
    zone = ZoneInfo("America/New_York")
    midnights = [datetime(2024, 1, 1, tzinfo=zone) + timedelta(days=i) for i in range(366)]
    last_seconds = [time + timedelta(hours=23, minutes=59, seconds=59) for time in midnights]
    found = in_zone(zone.key, *midnights, *last_seconds, folder=tmp_path)
    assert found["numbers"]["longest_gap_days"] == 1
    assert found["numbers"]["busiest_day_share"] == pytest.approx(1 / 366)
    assert found["histograms"]["months"]["2024-03"] == pytest.approx(31 / 366)


@pytest.mark.parametrize(
    "timezone", ["UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca"]
)
def test_local_times_are_those_of_the_standard_library(timezone: str) -> None:
    instants = np.random.default_rng(0).integers(0, 4 * 10**9, 2_000)
    found = to_local_time(instants * 1_000_000, timezone)
    clock = [datetime.fromtimestamp(int(one), ZoneInfo(timezone)) for one in instants]
    slow = [int(time.replace(tzinfo=UTC).timestamp()) * 1_000_000 for time in clock]
    assert found.tolist() == slow


def test_impossible_times_have_a_day_too() -> None:
    edges = np.array([-(10**17), 0, 10**18])
    assert to_local_time(edges, "Asia/Tokyo").tolist() == (edges + 9 * 3_600 * 10**6).tolist()


def test_comparing_bounds_finds_what_great_expectations_finds():
    """`fbt inspect` does without its start."""
    suite = load_suite(CheckSettings(), "order_lines", "both_tables")
    for number in (-1.0, 0.0, 0.01, 0.5, 1.0, 200.0, 1e9):
        columns = {check.number: [number] for check in suite}
        real, ours = validate(columns, suite), compare(columns, suite)
        assert [one["success"] for one in ours] == [one["success"] for one in real]
        assert [one["result"]["observed_value"] for one in ours] == [
            one["result"]["observed_value"] for one in real
        ]
