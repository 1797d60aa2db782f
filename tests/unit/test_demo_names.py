"""Names of the demo data: readable, and different for different products."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.model.variants import find_name_pairs
from pipelines.demo_data import write_demo_data
from pipelines.demo_names import Product, make_names, write_size, write_type
from tests.factories import products_table

README = Path(__file__).parents[2] / "README.md"
SODA = "SOFT DRINKS 12/18&15PK CAN CAR"


def product(id_, type_=SODA, size="12 OZ", maker=103, n_bought=10, brand="National"):
    return Product(id_, type_, "SOFT DRINKS", size, brand, maker, n_bought)


def test_a_product_that_is_alone_has_type_and_size():
    found = make_names([product(1), product(2, "SOUR CREAMS", "16 OZ"), product(3, "LEMONS", None)])
    assert found == ["Soft drinks, 12 to 18 cans, 12 oz", "Sour cream, 16 oz", "Lemons"]


def test_makers_of_the_same_are_told_apart():
    found = make_names([product(1), product(2, maker=1208), product(3, maker=69, brand="Private")])
    assert found == [
        "Soft drinks, 12 to 18 cans, 12 oz · maker 103",
        "Soft drinks, 12 to 18 cans, 12 oz · maker 1208",
        "Soft drinks, 12 to 18 cans, 12 oz · store brand",
    ]


def test_the_maker_of_most_of_a_type_goes_without_saying():
    found = make_names([product(1, "LEMONS", maker=2, n_bought=90), product(2, "LEMONS", maker=7)])
    assert found == ["Lemons, 12 oz", "Lemons, 12 oz · maker 7"]


def test_products_of_one_maker_are_numbered_from_the_most_bought_on():
    found = make_names([product(1), product(3, n_bought=50), product(2)])
    name = "Soft drinks, 12 to 18 cans, 12 oz"
    assert found == [f"{name} #2", name, f"{name} #3"]


def test_the_order_of_the_products_does_not_matter():
    products = [product(i, maker=i % 3, n_bought=i % 4) for i in range(20)]
    names = make_names(products)
    assert make_names(products[::-1]) == names[::-1]
    assert len(set(names)) == 20


def test_sizes_of_a_maker_are_variants_and_its_types_and_other_makers_are_not():
    """The maker is on all sizes, though only one of them is another maker's, too."""
    products = [
        product(1, size="12 OZ"), product(2, size="24 OZ"), product(3, "ICE - CRUSHED/CUBED"),
        product(4, size="12 OZ", maker=1208),
    ]  # fmt: skip
    table = products_table([str(one.product_id) for one in products], {}, {})
    place = table.schema.get_field_index("name")
    table = table.set_column(place, table.schema.field(place), [make_names(products)])
    brands = [str(one.maker) for one in products]
    place = table.schema.get_field_index("brand")
    table = table.set_column(place, table.schema.field(place), [brands])
    one, other = find_name_pairs(table, len(products), "but_numbers")
    assert list(zip(one.tolist(), other.tolist(), strict=True)) == [(0, 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SFT DRNK 2 LITER BTL CARB INCL", "Soft drinks, large bottle"),
        ("SFT DRNK 3 LITER BTL CARB (EXC", "Soft drink 3 liter bottle carbonated"),
        ("APPLES GALA (BULK&BAG)", "Apples gala"),
        ("APPLE JUICE & CIDER (OVER 50%", "Apple juice & cider, over 50%"),
        ("BREAST - BONELESS(IQF)", "Breast, boneless (frozen singly)"),
        ("MEAT:HAM BULK", "Meat, ham bulk"),
        ("LEAN", "Beef, lean"),
    ],
)
def test_types_are_written_out(text, expected):
    assert write_type(text, "BEEF") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ""), ("8 OZ", "8 oz"), ("  L     8 OZ", "8 oz"), ("(600) 4 LB", "4 lb"),
        (".16 OZ", "0.16 oz"), ("GAL", "1 gal"), ("1 GA", "1 gal"), ("1 DZ", "1 dozen"),
    ],
)  # fmt: skip
def test_sizes_lose_their_flags(text, expected):
    assert write_size(text) == expected


@pytest.fixture(scope="module")
def demo_products(tmp_path_factory):
    _, path = write_demo_data(tmp_path_factory.mktemp("demo"))
    return pq.read_table(path).to_pylist()


def test_no_two_products_of_the_demo_have_a_name_in_common(demo_products):
    names = [one["name"] for one in demo_products]
    assert len(names) > 90_000
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 80


def test_the_answer_in_the_readme_is_of_products_of_the_demo(demo_products):
    records = {one["product_id"]: one for one in demo_products}
    block = README.read_text().partition("$ curl")[2].partition("```")[0]
    command, _, answer = block.partition("\n")
    items = json.loads(answer)["items"]
    for item in items:
        record = records[item["product_id"]]
        assert {name: item[name] for name in record} == record
    asked = json.loads(command.rpartition("-d '")[2].rstrip("'"))["items"]
    assert all(one in records for one in asked)
    assert len({item["category"] for item in items}) >= 4
