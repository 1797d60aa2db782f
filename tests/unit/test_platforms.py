"""The table of known exports against a made-up sample of each, and the other names of columns."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import ValidationError

from components.contracts import ORDER_LINES, PRODUCTS
from components.sources import platforms
from components.sources.columns import ColumnsError, map_columns
from components.sources.errors import SourceError
from components.sources.platforms import (
    LeftOut,
    Platform,
    load_platforms,
    recognise,
    simplify,
    synonyms,
)

EXPORTS = Path(__file__).parents[1] / "exports"
SAMPLES = {
    "amazon": "Amazon all orders report",
    "amazon_order_report": "Amazon order report",
    "amazon_shipments": "Amazon fulfilled shipments report",
    "bigcommerce": "BigCommerce orders export",
    "dunnhumby": "dunnhumby Complete Journey",
    "ga4": "Google Analytics 4 BigQuery export",
    "instacart": "Instacart order products",
    "magento": "Magento order items",
    "olist": "Olist order items",
    "olist_with_orders": "Olist order items with orders",
    "online_retail": "UCI Online Retail",
    "online_retail_ii": "UCI Online Retail II",
    "prestashop": "PrestaShop order details",
    "shopify": "Shopify orders export",
    "shopify_api": "Shopify Admin API orders",
    "square": "Square items detail",
    "woocommerce": "WooCommerce order export",
    "woocommerce_api": "WooCommerce REST API orders",
}
PLATFORMS = {platform.name: platform for platform in load_platforms()}


def read_header(folder: str) -> list[str]:
    (sample,) = (one for one in (EXPORTS / folder).iterdir() if "expected" not in one.name)
    text = sample.read_text(encoding="iso-8859-1")
    if sample.suffix == ".jsonl":
        return sorted({name for line in text.splitlines() for name in flatten(json.loads(line))})
    first = text.splitlines()[0]
    separator = max(",;\t", key=first.count)
    return next(csv.reader([first], delimiter=separator))


def flatten(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        yield name
        for inner in value:
            yield from flatten(inner, name)
    else:
        yield name


def read_rows(folder: str, file: str) -> list[dict[str, str]]:
    with (EXPORTS / folder / file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def list_named_columns(platform: Platform) -> set[str]:
    mappings = (platform.columns, platform.joined, platform.minus)
    named = {name for one in mappings for names in one.values() for name in names}
    named |= {*platform.recognised_by, *platform.on_first_line, *platform.utc}
    named |= {condition.column for condition in platform.left_out}
    if platform.lines:
        named.add(platform.lines)
    if platform.packed:
        fields = {f"{platform.packed.column}.{field}" for field in platform.packed.fields}
        named = {platform.packed.column, *named} - fields
    return named


def platform_with(**changes: Any) -> Platform:
    minimal = {
        "name": "A shop",
        "recognised_by": ["Basket", "Article", "Till"],
        "columns": {"order_id": ["Basket"], "product_id": ["Article"]},
        "note": "Made up.",
    }
    return Platform.model_validate(minimal | changes)


def test_every_platform_has_a_sample():
    assert sorted(SAMPLES.values()) == sorted(PLATFORMS)
    assert sorted(SAMPLES) == sorted(one.name for one in EXPORTS.iterdir() if one.is_dir())


@pytest.mark.parametrize("folder", SAMPLES)
def test_a_sample_is_recognised_as_its_platform(folder):
    assert recognise(read_header(folder)).name == SAMPLES[folder]


@pytest.mark.parametrize("folder", SAMPLES)
def test_neither_case_nor_order_nor_blanks_of_a_header_count(folder):
    header = [f" {name.upper()} " for name in reversed(read_header(folder))]
    assert recognise([*header, "another column"]).name == SAMPLES[folder]


@pytest.mark.parametrize("folder", SAMPLES)
def test_the_sample_has_every_column_that_its_platform_names(folder):
    assert list_named_columns(PLATFORMS[SAMPLES[folder]]) <= set(read_header(folder))


@pytest.mark.parametrize("folder", SAMPLES)
def test_a_header_without_one_telling_column_is_not_its_platform(folder):
    platform = PLATFORMS[SAMPLES[folder]]
    for missing in platform.recognised_by:
        header = [name for name in read_header(folder) if name != missing]
        assert recognise(header) != platform


@pytest.mark.parametrize(
    "header",
    [
        ["Name", "Email", "Lineitem quantity", "Lineitem price"],
        ["order_id", "product_id", "add_to_cart_order"],
        ["Invoice", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "Customer ID"],
        ["ID", "Purchase Point", "Purchase Date", "Bill-to Name", "Grand Total (Base)", "Status"],
        ["order_id", "product_id", "ts", "quantity", "price"],
        [],
    ],
    ids=["no product", "no reorders", "columns of both", "orders without items", "ours", "none"],
)
def test_a_header_that_is_nearly_a_platform_is_not_recognised(header):
    assert recognise(header) is None


def test_the_platform_with_more_telling_columns_wins():
    both = read_header("olist_with_orders")
    assert set(PLATFORMS["Olist order items"].recognised_by) < set(both)
    assert recognise(both).name == "Olist order items with orders"


def test_two_platforms_that_fit_equally_are_refused_by_name():
    header = read_header("online_retail") + read_header("instacart") + read_header("magento")
    with pytest.raises(SourceError, match=r"'Amazon order report' and of 'UCI Online Retail'"):
        recognise(header + read_header("amazon_order_report"))


@pytest.mark.parametrize("folder", SAMPLES)
def test_the_truth_of_a_sample_is_order_lines(folder):
    for line in read_rows(folder, "expected.csv"):
        assert list(line) == ["order_id", "product_id", "ts", "quantity", "price", "user_id"]
        assert line["order_id"]
        assert line["product_id"]
        assert float(line["quantity"]) > 0


@pytest.mark.parametrize("folder", SAMPLES)
def test_the_sample_shows_every_reason_of_its_platform(folder):
    left_out = {line["reason"] for line in read_rows(folder, "expected_left_out.csv")}
    assert left_out == {one.reason for one in PLATFORMS[SAMPLES[folder]].left_out}


def test_our_columns_are_those_of_the_tables():
    ours = {name for one in load_platforms() for name in (*one.columns, *one.joined)}
    assert ours | set(synonyms()) <= {*ORDER_LINES.names, *PRODUCTS.names}


@pytest.mark.parametrize("name", PLATFORMS)
def test_patterns_are_of_re2(name):
    platform = PLATFORMS[name]
    patterns = [one.matches for one in platform.left_out if one.matches]
    if platform.packed:
        patterns.append(platform.packed.separator)
        patterns += [pattern for field in platform.packed.fields.values() for pattern in field]
    for pattern in patterns:
        pc.match_substring_regex(pa.array(["a"]), pattern)  # Arrow has RE2 too


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"colums": {}}, "Extra inputs are not permitted"),
        ({"columns": {"order_id": ["Basket"], "product": ["Article"]}}, "Input should be"),
        ({"columns": {"order_id": ["Basket"]}}, "expected 'product_id' among them"),
        (
            {"columns": {"order_id": ["Basket"], "product_id": ["Article"], "brand": ["ARTICLE"]}},
            "maps the shop's column 'article' twice",
        ),
        ({"joined": {"order_id": ["Day", "Till"]}}, "gives the column 'order_id' twice"),
        ({"minus": {"quantity": ["Returned"]}}, "expected 'quantity' among them"),
        ({"per_line": ["price"]}, "expected 'price' among them"),
        ({"recognised_by": ["Basket"]}, "at least 3 items"),
        ({"left_out": [{"reason": "theft", "column": "Till", "filled": True}]}, "Input should be"),
    ],
)
def test_a_wrong_entry_is_refused(changes, complaint):
    with pytest.raises(ValidationError, match=complaint):
        platform_with(**changes)


@pytest.mark.parametrize(
    "conditions",
    [{}, {"filled": True, "values": ["yes"]}, {"above": 0, "below": 0}, {"matches": "("}],
    ids=["none", "two kinds", "two bounds", "no pattern"],
)
def test_lines_are_left_out_by_exactly_one_sound_condition(conditions):
    with pytest.raises(ValidationError):
        LeftOut.model_validate({"reason": "refund", "column": "Till", **conditions})


def test_the_bound_zero_is_a_condition():
    assert LeftOut.model_validate({"reason": "refund", "column": "Till", "below": 0}).below == 0


def match(header):
    found = map_columns(header, {}, ("order_id", "product_id"), "orders.csv")
    return {ours: theirs for ours, (theirs,) in found.columns.items()}


@pytest.mark.parametrize(
    ("header", "matched"),
    [
        (
            ["Order Number", "SKU", "Qty", "Unit Price", "Order Date"],
            ["order_id", "product_id", "quantity", "price", "ts"],
        ),
        (["OrderID", "ItemCode"], ["order_id", "product_id"]),
        (["Order #", "Stock Code"], ["order_id", "product_id"]),
        (["Rechnungs-Nr.", "Artikelnummer", "Stückzahl"], ["order_id", "product_id", "quantity"]),
        (["N° de commande", "Référence produit", "Qté"], ["order_id", "product_id", "quantity"]),
        (["Nº de pedido", "CODIGO DE PRODUCTO"], ["order_id", "product_id"]),
        (["SİPARİŞ NO", "Ürün Kodu", "ADET"], ["order_id", "product_id", "quantity"]),
        (["SIPARIS NO", "urun kodu"], ["order_id", "product_id"]),
    ],
)
def test_a_shop_s_names_are_matched_with_ours(header, matched):
    assert match(header) == dict(zip(matched, header, strict=True))


def test_our_own_name_comes_before_synonyms():
    matched = match(["invoice", "order_id", "sku", "product_id"])
    assert matched == {"order_id": "order_id", "product_id": "product_id"}


@pytest.mark.parametrize(
    "header",
    [
        ["Order Number", "Invoice Number", "SKU"],
        ["Order Number", "SKU", "Item Code"],
        ["Order Number", "Quantity"],
        ["id", "number", "name", "date"],
        [],
    ],
    ids=["two orders", "two products", "no product", "words of two meanings", "none"],
)
def test_nothing_is_matched_unless_order_and_product_are_sure(header):
    with pytest.raises(ColumnsError):
        match(header)


def test_an_unsure_further_column_is_left_to_the_shop():
    matched = match(["order no", "sku", "order date", "invoice date"])
    assert matched == {"order_id": "order no", "product_id": "sku"}


@pytest.mark.parametrize("word", ["id", "number", "no", "name", "item", "code", "total"])
def test_words_of_two_meanings_are_no_synonyms(word):
    taken = {other for ours, words in synonyms().items() if ours != word for other in words}
    assert simplify(word) not in taken


def test_a_word_with_two_meanings_is_refused():
    with pytest.raises(ValidationError, match="has the name 'receiptno' twice"):
        platforms.Table.model_validate(
            {
                "platforms": [],
                "synonyms": {"order_id": [["receipt no"]], "user_id": [["Receipt-No."]]},
            }
        )
