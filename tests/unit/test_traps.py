"""Exports that are easily misread in silence: read right, refused, or told as a doubt."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.sources.errors import SourceError
from tests.normalised import column, read_lines

LINES = "".join(f"{n // 2},P{n % 5},{n % 3 + 1},{n}.50\n" for n in range(100, 200))


@pytest.fixture
def read(tmp_path):
    def call(files, **settings):
        place = tmp_path / "export"
        place.mkdir()
        for name, content in files.items():
            (place / name).parent.mkdir(exist_ok=True, parents=True)
            (place / name).write_text(content, encoding="utf-8")
        source = place / next(iter(files)) if len(files) == 1 else place
        return read_lines(source, tmp_path / "staging", **settings)

    return call


@pytest.mark.parametrize(
    "second",
    ["product_id,order_id,quantity,price", "order_id,product_id,price,quantity",
     "order_id;product_id;quantity;price"],
)  # fmt: skip
def test_a_second_header_of_another_order_is_refused(read, second):
    text = f"order_id,product_id,quantity,price\n{LINES}{second}\n1,P1,2,1.50\n"
    with pytest.raises(SourceError, match="names columns in another way"):
        read({"orders.csv": text})


def test_the_same_header_again_is_left_out(read):
    text = "order_id,product_id,quantity,price\n" + LINES
    found = read({"orders.csv": text + text})
    assert len(found.lines) == 200
    assert found.left_out == [("order_id", "header repeated")]


def test_a_list_within_the_lines_is_no_wrapper(read):
    item = {"sku": "A", "transaction_id": "tx", "taxes": [{"rate": 19}]}
    orders = [{"order_id": str(n), "items": [item]} for n in range(3)]
    found = read({"orders.jsonl": "\n".join(map(json.dumps, orders))})
    assert column(found, "order_id") == ["0", "1", "2"]


def test_wrapped_orders_are_found(read):
    orders = [{"id": n, "items": [{"sku": "A"}, {"sku": "B"}]} for n in range(2)]
    found = read({"answer.json": json.dumps({"data": {"orders": orders}, "total": 2})})
    assert len(found.lines) == 4


def test_orders_with_some_id_are_not_numbered(read):
    orders = [{"_id": {"$oid": f"65{n}"}, "items": [{"sku": "A"}]} for n in range(2)]
    with pytest.raises(SourceError, match=r"order_id is missing; found _id\.\$oid"):
        read({"orders.jsonl": "\n".join(map(json.dumps, orders))})


def test_a_table_with_a_log_is_refused(read):
    with pytest.raises(SourceError, match="is a Delta table"):
        read({"a.csv": "order_id,product_id\n1,a\n", "_delta_log/0.json": "{}"})


@pytest.mark.parametrize("item", ["{}x {}", "{} * {}", "{1} ({0})", "{1}:{0}"])
def test_products_with_a_quantity_are_refused(read, item):
    rows = "".join(f"{n};{item.format(n % 3 + 1, 'AB'[n % 2])}|C{n % 2}\n" for n in range(20))
    with pytest.raises(SourceError, match="holds products with a quantity"):
        read({"orders.csv": "order_id;items\n" + rows})


def test_a_map_of_quantities_is_refused(tmp_path):
    path = tmp_path / "orders.parquet"
    items = pa.array([[("A", 1)], [("B", 2)]], pa.map_(pa.string(), pa.int64()))
    pq.write_table(pa.table({"order_id": ["1", "2"], "items": items}), path)
    with pytest.raises(SourceError, match="holds products with a quantity"):
        read_lines(path, tmp_path / "staging")


def test_names_with_spaces_are_not_split(read):
    with pytest.raises(SourceError, match="holds no separated text"):
        read({"orders.csv": "order_id,items\n1,Green Tea\n2,Blue Mug\n"})


def test_marks_of_text_and_invisible_blanks_leave_ids(read):
    found = read(
        {"orders.csv": 'order_id,product_id\n1,"=""0100"""\n2,\'0100\n3,0100\u200b\n4,\u00a00100\n'}
    )
    assert column(found, "product_id") == ["0100"] * 4


@pytest.mark.parametrize("values", [("1403051015", "1403141640"), ("0903241015", "1403241640")])
def test_dates_that_could_be_seconds_are_refused(read, values):
    rows = "".join(f"{n},A,{value}\n" for n, value in enumerate(values))
    with pytest.raises(SourceError, match=r"are seconds since 1970 or dates.*--ts-format"):
        read({"orders.csv": "order_id,product_id,ts\n" + rows})


def test_another_column_settles_a_doubt_and_another_file_makes_it_smaller(read):
    files = {
        "a.csv": "order_id,product_id,ts,price\n1,A,03/14/2024,12.5\n",
        "b.csv": 'order_id,product_id,ts,price,quantity\n2,A,04/06/2024,7.5,"1.250"\n',
    }
    found = read(files)
    assert [str(moment) for moment in column(found, "ts")] == [
        "2024-03-14 00:00:00", "2024-04-06 00:00:00",
    ]  # fmt: skip
    assert column(found, "quantity") == [1.0, 1.25]
    columns = found.reading.files[1].columns
    assert columns["quantity"].is_certain
    assert not columns["ts"].is_certain


def test_two_short_ids_prove_no_lost_zeros(read):
    found = read({"orders.csv": "order_id,product_id\n1,00123\n2,0123\n3,123\n"})
    assert sorted(column(found, "product_id")) == ["00123", "0123", "123"]


def test_what_a_person_should_know_is_noted(read):
    text = "order_id,product_id,Date,Time,Status,Order Quantity,Item Quantity\n"
    text += "1,A,2024-01-15,10:00,paid,2,2\n2,A,2024-01-16,11:00,cancelled,1,1\n"
    notes = " ".join(read({"orders.csv": text}).reading.files[0].notes)
    assert "Order Quantity and Item Quantity could each be quantity" in notes
    assert "No column is the quantity" in notes
    assert "'Status' holds 'cancelled' and the like in 1 lines" in notes
    assert "Column 'Time' is not used" in notes


def test_two_columns_for_a_required_one_are_both_named(read):
    with pytest.raises(SourceError, match=r"2 columns could be order_id \(Order ID, Transaction"):
        read({"orders.csv": "Order ID,Transaction ID,SKU\n1,t1,A\n"})


def test_a_folder_named_by_the_day_of_the_month_is_no_time(read):
    found = read({f"day={day}/x.csv": f"order_id,product_id\n{day},A\n" for day in (1, 2)})
    assert column(found, "ts") == [None, None]
    assert not found.reading.files[0].columns["ts"].is_certain
