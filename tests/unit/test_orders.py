"""Cleaning order lines: every line ends in one table, and bad sources are named."""

import functools
import http.server
import json
import subprocess
import threading
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.contracts import ORDER_LINES, PRODUCTS, QUARANTINE, read_table
from components.orders.clean import OrdersError, OrderSettings, clean_orders
from components.sources.columns import ColumnsError
from components.sources.errors import SourceError
from components.sources.source import fingerprint

LINES = """order_id,product_id,quantity,price,ts
1,tea,2,3.50,2024-03-01 10:00:00
1,milk,1,0.99,2024-03-01 10:00:00
"""


@pytest.fixture
def clean(tmp_path):
    def call(orders, products="", whole=False, **settings):
        paths = [tmp_path / "out" / name for name in ("lines", "quarantine", "products")]
        found = clean_orders(str(orders), str(products), OrderSettings(**settings), *paths)
        contracts = (ORDER_LINES, QUARANTINE, PRODUCTS)
        tables = [read_table(p, c).to_pylist() for p, c in zip(paths, contracts, strict=True)]
        return found if whole else found.counts, *tables

    return call


@pytest.fixture
def csv(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "orders.csv"
        path.write_text(text, encoding=encoding)
        return path

    return write


def test_good_lines_keep_their_values(clean, csv):
    counts, lines, quarantine, products = clean(csv(LINES))
    assert counts == {"lines_read": 2, "lines_kept": 2, "lines_quarantined": 0, "products": 2}
    assert not quarantine
    tea = next(line for line in lines if line["product_id"] == "tea")
    assert (tea["order_id"], tea["quantity"], tea["price"]) == ("1", 2.0, 3.5)
    assert tea["ts"].isoformat() == "2024-03-01T10:00:00+00:00"
    assert tea["user_id"] is None
    assert {product["product_id"] for product in products} == {"tea", "milk"}


BAD_LINES = {
    ",bad00,1,1,2024-03-01": "order_id missing",
    "2,,1,1,2024-03-02": "product_id missing",
    "2,  ,1,1,2024-03-03": "product_id missing",
    "2,bad03,many,1,2024-03-01": "quantity not a number",
    "2,bad04,NaN,1,2024-03-01": "quantity not a number",
    "2,bad05,0,1,2024-03-01": "quantity not positive",
    "2,bad06,-3,1,2024-03-01": "quantity not positive",
    "C2,bad07,-3,1,2024-03-01": "cancellation",
    "2,POST,1,1,2024-03-01": "not a product",
    "2,post,-1,-1,2024-03-01": "not a product; quantity not positive",
}


def test_every_bad_line_goes_to_quarantine_with_its_reason(clean, csv):
    counts, lines, quarantine, _ = clean(csv(LINES + "\n".join(BAD_LINES)), max_loss=1)
    assert (counts["lines_read"], len(lines)) == (2 + len(BAD_LINES), 2)
    found = {(row["product_id"] or "").strip() + row["ts"]: row["reason"] for row in quarantine}
    for line, reason in BAD_LINES.items():
        _, product_id, _, _, ts = line.split(",")
        assert found[product_id.strip() + ts] == reason
    assert counts["quarantined: quantity not positive"] == 2


UNREADABLE = {
    "2,bad08,1,cheap,2024-03-01": ("price", "cheap"),
    "2,bad09,1,-1,2024-03-02": ("price", "-1"),
    "2,bad10,1,1,yesterday": ("ts", "yesterday"),
    "2,bad11,1,1,2999-01-01 00:00": ("ts", "2999-01-01 00:00"),
    "2,bad12,1,1,1970-01-01 00:00": ("ts", "1970-01-01 00:00"),
}


def test_a_line_survives_what_it_does_not_need(clean, csv):
    more = "".join(f"{n},tea,1,1,2024-02-01\n" for n in range(100, 400))
    found, lines, quarantine, _ = clean(csv(LINES + more + "\n".join(UNREADABLE)), whole=True)
    assert not quarantine
    by_product = {line["product_id"]: line for line in lines}
    for line, (column, _) in UNREADABLE.items():
        assert by_product[line.split(",")[1]][column] is None
    unreadable = found.orders.unreadable
    assert unreadable["price"].n_values == 2
    assert set(unreadable["price"].examples) == {"cheap", "-1"}
    assert unreadable["ts"].n_values == 3


def test_quarantine_keeps_what_was_found(clean, csv):
    _, _, quarantine, _ = clean(csv(LINES + "2,tea, many ,1,2024-03-01\n"))
    assert quarantine[0]["quantity"] == " many "


def test_product_ids_survive_as_they_are(clean, csv):
    # The first three look like codes for something else, and are products of a real shop.
    ids = ["DCGS0069", "PADS", "SP1002", "0042", "a b", "it's", 'say "hi"', "🍵", "1e5", "naïve"]
    ids += ["x;y", "=1+1", "x,y"]
    quoted = [id_.replace('"', '""') for id_ in ids]
    _, lines, _, _ = clean(csv(LINES + "".join(f'2,"{id_}",1,1,2024-03-01\n' for id_ in quoted)))
    assert {line["product_id"] for line in lines} == {"tea", "milk", *ids}


def test_what_a_product_table_says_beside_becomes_attributes(clean, csv, tmp_path):
    table = tmp_path / "products.csv"
    table.write_text(
        "product_id,name,price,margin,added_at,Colour,Size\n"
        "tea,Tea,,1.25,2024-02-29 12:00:00,green,\n"
        "milk,Milk,1.05,,,,\n"
    )
    *_, products = clean(csv(LINES), table)
    tea, milk = sorted(products, key=lambda one: one["product_id"], reverse=True)
    assert json.loads(tea["attributes"]) == {"Colour": "green"}
    assert milk["attributes"] is None
    assert (tea["margin"], milk["margin"]) == (1.25, None)
    assert tea["added_at"].isoformat() == "2024-02-29T12:00:00+00:00"
    # The price of what the table gives none for is the one that lines give.
    assert (tea["price"], milk["price"]) == (3.5, 1.05)


def test_attributes_of_a_parquet_table(clean, csv, tmp_path):
    table = tmp_path / "products.parquet"
    pq.write_table(
        pa.table({"product_id": ["tea", "milk"], "name": ["Tea", "Milk"], "Size": [1.5, None]}),
        table,
    )
    *_, products = clean(csv(LINES), table)
    tea, milk = sorted(products, key=lambda one: one["product_id"], reverse=True)
    assert (json.loads(tea["attributes"]), milk["attributes"]) == ({"Size": "1.5"}, None)


def test_a_product_is_left_out_by_its_category(clean, csv, tmp_path):
    products = tmp_path / "products.csv"
    products.write_text("product_id,name,category\ntea,Green tea,Drinks\nmilk,Regular,Fuel\n")
    _, lines, quarantine, cards = clean(csv(LINES + LINES.splitlines()[1] + "\n"), products)
    assert {line["product_id"] for line in lines} == {"tea"}
    assert {row["reason"] for row in quarantine} == {"not a product"}
    assert [card["name"] for card in cards] == ["Green tea"]


def test_a_given_format_wins(clean, csv):
    text = "order_id,product_id,ts\n1,tea,4/3/2024\n1,milk,4/3/2024\n"
    _, lines, _, _ = clean(csv(text), ts_format="%m/%d/%Y")
    assert lines[0]["ts"].month == 4


def test_timestamps_nobody_can_read(clean, csv):
    with pytest.raises(SourceError, match=r"'ts'.*'soon'.*--ts-format"):
        clean(csv("order_id,product_id,ts\n1,tea,soon\n"))


def test_no_timestamps_at_all(clean, csv):
    _, lines, _, _ = clean(csv("order_id,product_id\n1,tea\n1,milk\n"))
    assert [line["ts"] for line in lines] == [None, None]
    assert [line["quantity"] for line in lines] == [1.0, 1.0]


def test_columns_are_mapped(clean, csv):
    text = "Invoice,Code,Description\n1,0042,TEA\n1,7,MILK\n"
    _, lines, _, products = clean(
        csv(text), columns="order_id=Invoice, product_id=Code, name=Description"
    )
    assert {line["product_id"] for line in lines} == {"0042", "7"}
    assert {card["name"] for card in products} == {"TEA", "MILK"}


def test_whole_floats_are_ids_without_a_point(clean, tmp_path):
    path = tmp_path / "orders.parquet"
    pq.write_table(pa.table({"order_id": [1.0, 1.0], "product_id": ["a", "b"]}), path)
    _, lines, _, _ = clean(path)
    assert {line["order_id"] for line in lines} == {"1"}


def test_the_name_most_often_given_wins(clean, csv):
    text = "order_id,product_id,name\n1,7,MILK\n2,7,MILK\n3,7,damaged?\n3,8,TEA\n"
    _, _, _, products = clean(csv(text))
    assert {card["product_id"]: card["name"] for card in products} == {"7": "MILK", "8": "TEA"}


def test_a_folder_and_a_glob(clean, tmp_path):
    for day in (1, 2):
        folder = tmp_path / "days" / f"day={day}"
        folder.mkdir(parents=True)
        pq.write_table(
            pa.table({"order_id": [str(day)], "product_id": ["a"]}), folder / "x.parquet"
        )
    assert clean(tmp_path / "days")[0]["lines_kept"] == 2
    assert clean(f"{tmp_path}/days/*/x.parquet")[0]["lines_kept"] == 2


def test_a_file_from_a_web_server(clean, csv, tmp_path):
    csv(LINES)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/orders.csv"
        assert clean(url)[0]["lines_kept"] == 2
        before = fingerprint(url)
        csv(LINES + "2,tea,1,1,2024-03-01\n")
        assert fingerprint(url) != before
        with pytest.raises(SourceError, match=r"absent\.csv.*404"):
            clean(url.replace("orders", "absent"))
        server.shutdown()


class TestRefused:
    def test_missing_file(self, clean, tmp_path):
        with pytest.raises(SourceError, match=r"absent\.csv: no such file; give"):
            clean(tmp_path / "absent.csv")

    def test_empty_file(self, clean, csv):
        with pytest.raises(SourceError, match=r"orders\.csv: empty \(0 bytes\)"):
            clean(csv(""))

    def test_header_only(self, clean, csv):
        with pytest.raises(SourceError, match="only a header"):
            clean(csv("order_id,product_id\n"))

    def test_missing_column(self, clean, csv):
        with pytest.raises(
            ColumnsError, match=r"product_id is missing; found order_id, code; name"
        ):
            clean(csv("order_id,code\n1,2\n"))

    def test_column_mapped_to_nothing(self, clean, csv):
        with pytest.raises(ColumnsError, match=r"price=Preis fits neither"):
            clean(csv(LINES), columns="price=Preis")

    def test_unknown_name(self, clean, csv):
        with pytest.raises(ColumnsError, match=r"'order' is unknown, expected one of order_id"):
            clean(csv(LINES), columns="order=order_id")

    def test_all_rows_quarantined(self, clean, csv):
        with pytest.raises(OrdersError, match=r"2 of 2 lines .*quantity not positive: 2"):
            clean(csv("order_id,product_id,quantity\n1,tea,0\n1,milk,-1\n"))

    def test_a_column_of_the_wrong_type(self, clean, csv):
        text = "order_id,product_id,quantity\n1,tea,two\n1,milk,one\n"
        with pytest.raises(OrdersError, match="quantity not a number: 2"):
            clean(csv(text))

    def test_mixed_kinds(self, clean, csv, tmp_path):
        csv(LINES)
        pq.write_table(pa.table({"order_id": ["1"], "product_id": ["a"]}), tmp_path / "x.parquet")
        counts, *_ = clean(f"{tmp_path}/*.*")
        assert counts["lines_kept"] == 3

    def test_a_jdbc_address_without_a_query(self, clean):
        with pytest.raises(SourceError, match=r"jdbc:x: a jdbc source needs its query"):
            clean("jdbc:x")

    def test_nothing_half_written_stays(self, clean, csv, tmp_path):
        with pytest.raises(ColumnsError):
            clean(csv("order_id,code\n1,2\n"))
        assert not list(tmp_path.glob("out/*"))


def test_the_fingerprint_follows_content_not_time(csv, tmp_path):
    path = csv(LINES)
    first = fingerprint(str(path))
    subprocess.run(["touch", str(path)], check=True)
    assert fingerprint(str(path)) == first
    csv(LINES + "2,tea,1,1,2024-03-01\n")
    assert fingerprint(str(path)) != first


def test_an_s3_address_without_a_server_says_so(clean, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(SourceError, match="cannot be listed"):
        clean("s3://shop/orders.parquet")


def test_a_column_that_spark_cannot_read_does_no_harm(clean, tmp_path):
    path = tmp_path / "lines.parquet"
    at = pa.array([1], pa.time64("ns"))
    pq.write_table(pa.table({"order_id": ["1"], "product_id": ["a"], "at": at}), path)
    assert clean(path)[0]["lines_kept"] == 1


def test_timestamps_as_spark_itself_writes_them(clean, tmp_path):
    path, moment = tmp_path / "lines.parquet", datetime(2024, 3, 1, 10)
    table = pa.table({"order_id": ["1"], "product_id": ["tea"], "ts": [moment]})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    assert pq.read_metadata(path).schema.column(2).physical_type == "INT96"
    assert clean(path)[1][0]["ts"] == moment.replace(tzinfo=UTC)


def test_a_column_that_only_one_parquet_file_has_is_kept(clean, tmp_path):
    folder = tmp_path / "lines"
    folder.mkdir()
    line = {"order_id": ["1"], "product_id": ["tea"]}
    pq.write_table(pa.table(line), folder / "a.parquet")
    pq.write_table(pa.table({**line, "price": [2.5]}), folder / "b.parquet")
    assert sorted(one["price"] or 0 for one in clean(folder)[1]) == [0, 2.5]


def test_a_name_that_stands_twice_in_reordered_files_is_refused(clean, tmp_path):
    folder = tmp_path / "lines"
    folder.mkdir()
    (folder / "1.csv").write_text("order_id,product_id,price,price\n1,tea,1,2\n")
    (folder / "2.csv").write_text("product_id,order_id,price,price\ntea,1,1,2\n")
    with pytest.raises(SourceError, match=r"2 columns are called 'price' \(price#1, price#2\)"):
        clean(folder)
    _, lines, *_ = clean(folder, columns="price=price#2")
    assert [line["price"] for line in lines] == [2, 2]


def test_clocks_are_those_of_the_shop_in_text_and_in_parquet(clean, tmp_path):
    """Two paths: text through DuckDB, plain Parquet through Spark alone; summer time in both."""
    folder = tmp_path / "lines [1]"
    folder.mkdir()
    clocks = [datetime(2024, 1, 1, 9), datetime(2024, 7, 1, 9)]
    pq.write_table(
        pa.table({"order_id": ["1", "2"], "product_id": ["p", "p"], "ts": clocks}),
        folder / "plain.parquet",
    )
    (folder / "text.csv").write_text(
        "order_id,product_id,ts\n1,c,01.01.2024 09:00\n2,c,01.07.2024 09:00\n3,c,13.07.2024 09:00\n"
    )
    _, lines, quarantine, _ = clean(folder, timezone="Europe/Berlin")
    assert not quarantine
    for product in ("p", "c"):
        found = {one["order_id"]: one["ts"] for one in lines if one["product_id"] == product}
        assert found["1"] == datetime(2024, 1, 1, 8, tzinfo=UTC)
        assert found["2"] == datetime(2024, 7, 1, 7, tzinfo=UTC)


def test_both_paths_give_the_same_lines(clean, tmp_path):
    """A list column sends Parquet through DuckDB."""
    columns = {
        "order_id": ["1", "2", "3", None], "product_id": ["a1", " b1 ", "c1", "d1"],
        "user_id": [7, None, 9, 9], "quantity": [1, 0, 2, 1], "price": [1.5, -1.0, float("nan"), 2],
        "position": [1, 2, -3, 4], "in_stock": ["yes", "no", "1", None],
        "ts": pa.array([datetime(2024, 1, 1), None, datetime(2999, 1, 1), datetime(1970, 1, 1)]),
    }  # fmt: skip
    found = []
    for name, more in (("plain", {}), ("normalised", {"product_ids": [["x"]] * 4})):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(columns | more), path)
        counts, lines, quarantine, products = clean(path)
        key = lambda one: (one["order_id"] or "", one["product_id"])  # noqa: E731
        found.append((counts, sorted(lines, key=key), sorted(quarantine, key=key), products))
    plain, normalised = found
    assert plain[:3] == normalised[:3]
    assert [line["price"] for line in plain[1]] == [1.5, None]
    assert [line["ts"] for line in plain[1]] == [datetime(2024, 1, 1, tzinfo=UTC), None]
    assert {one["reason"] for one in plain[2]} == {"quantity not positive", "order_id missing"}


def test_ids_of_a_spreadsheet_meet_their_products(clean, tmp_path):
    (tmp_path / "orders.csv").write_text(
        "order_id,product_id\n" + "".join(f"{n}.0,{n % 5 + 1}\n" for n in range(1, 30))
    )
    (tmp_path / "products.csv").write_text(
        "product_id,name\n" + "".join(f"{n:04d},Thing {n}\n" for n in range(1, 6))
    )
    found, lines, _, products = clean(
        tmp_path / "orders.csv", tmp_path / "products.csv", whole=True
    )
    assert {line["product_id"] for line in lines} == {one["product_id"] for one in products}
    assert {line["order_id"] for line in lines} == {str(n) for n in range(1, 30)}
    assert len(found.orders.notes) == 2


def test_a_doubt_is_said_while_the_run_goes_on(clean, csv, capsys):
    clean(csv("order_id,product_id,ts\n1,a,03/04/2024\n1,b,05/06/2024\n"))
    assert "check this: ts (ts): %d/%m/%Y; no day above 12 decides" in capsys.readouterr().out


def test_what_a_platform_calls_no_sale_is_no_loss(clean, tmp_path):
    header = "Name,Financial Status,Paid at,Lineitem quantity,Lineitem name,Lineitem price\n"
    lines = "#1,paid,2024-01-02 10:00:00 +0100,1,Tea,3\n#1,,,1,Milk,1\n"
    refunded = "".join(f"#{n},refunded,2024-01-03 10:00:00 +0100,1,Tea,3\n" for n in range(2, 9))
    path = tmp_path / "orders_export.csv"
    path.write_text(header + lines + refunded)
    counts, kept, quarantine, products = clean(path)
    assert (counts["lines_kept"], counts["quarantined: refund"]) == (2, 7)
    assert {one["name"] for one in products} == {"Tea", "Milk"}
    assert kept[0]["ts"] == kept[1]["ts"] == datetime(2024, 1, 2, 9, tzinfo=UTC)
    assert {one["reason"] for one in quarantine} == {"refund"}
