"""`fbt inspect`: what is said of an export before any run."""

import json
import shlex

import pytest

from components.orders.clean import OrderSettings
from components.sources import sampling
from components.sources.errors import SourceError
from pipelines.cli import main
from pipelines.inspection import inspect_source
from pipelines.parameters import format_command

TURKISH = "order_id;product_id;ts;quantity;price;name\n" + "".join(
    f"{n:04d};{p};{1 + n % 28:02d}.01.2024 09:00;{q};1.234,5{p % 10};Çay\n"
    for n in range(1, 61)
    for p, q in ((11, 1), (12, 2), (13 + n % 2, 1))
)


@pytest.fixture
def export(tmp_path):
    def write(text, encoding="utf-8", name="orders.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return str(path)

    return write


def test_it_says_how_every_column_was_read(export):
    found = inspect_source(export(TURKISH, "cp1254"), "", OrderSettings())
    file = found.reading.files[0]
    assert (file.separator, file.header_line) == (";", 1)
    assert file.columns["ts"].format == "%d.%m.%Y %H:%M"
    assert "decimal comma" in file.columns["price"].format
    assert found.numbers == {"n_lines": 180, "n_orders": 60, "n_products": 4, "n_customers": 0}
    assert found.basket_sizes == {"3": 60}
    assert (found.first, found.last) == ("2024-01-01", "2024-01-28")
    assert len(found.lines) == 10
    assert found.lines[0] | {"position": None} == {
        "order_id": "0001", "user_id": None, "product_id": "11", "ts": "2024-01-02 09:00:00",
        "position": None, "quantity": 1.0, "price": 1234.51, "name": "Çay",
    }  # fmt: skip


def test_it_counts_what_a_run_would_lose(export):
    bad = "0061;;01.01.2024 09:00;1;1,50;Çay\n0061;11;01.01.2024 09:00;0;1,50;Çay\n"
    bad += "0061;POST;01.01.2024 09:00;1;1,50;Posta\n0062;12;yarın;1;ucuz;Çay\n"
    found = inspect_source(export(TURKISH + bad), "", OrderSettings())
    assert found.lost == {
        "product_id missing": 1, "quantity not positive": 1, "not a product": 1,
    }  # fmt: skip
    assert found.lost_share == pytest.approx(3 / 184)
    assert found.reading.unreadable["price"].examples == ("ucuz",)
    assert found.reading.unreadable["ts"].examples == ("yarın",)


def test_rows_that_are_no_lines_are_not_lost(export):
    header = "Name,Financial Status,Lineitem quantity,Lineitem name,Lineitem price\n"
    found = inspect_source(export(f"{header}#1,paid,1,Tea,3\n#1,,,,\n"), "", OrderSettings())
    assert (found.lost, found.lost_share) == ({}, 0)
    assert found.reading.files[0].dropped == {"payment row": 1}


def test_days_are_those_of_the_shop(export):
    text = "order_id,product_id,ts\n1,a,2024-01-01 23:30:00Z\n1,b,2024-01-01 23:30:00Z\n"
    utc = inspect_source(export(text), "", OrderSettings())
    shop = inspect_source(export(text), "", OrderSettings(timezone="Europe/Istanbul"))
    assert (utc.first, shop.first) == ("2024-01-01", "2024-01-02")
    assert shop.lines[0]["ts"] == "2024-01-02 02:30:00"


def test_failing_checks_are_named(export):
    found = inspect_source(export(TURKISH), "", OrderSettings())
    assert {"multi_item_orders"} <= {check["name"] for check in found.checks}


def test_products_prove_lost_zeros(export):
    orders = export("order_id,product_id\n" + "".join(f"{n},{n % 9 + 1}\n" for n in range(40)))
    table = "".join(f"{n:04d},Thing {n}\n" for n in range(1, 10))
    products = export("product_id,name\n" + table, name="products.csv")
    found = inspect_source(orders, products, OrderSettings())
    assert found.lines[0]["product_id"] == "0001"
    assert any("lost their leading zeros" in note for note in found.reading.notes)


def test_a_large_file_is_sampled_from_all_over(export, monkeypatch):
    monkeypatch.setattr(sampling, "HEAD", 20_000)
    monkeypatch.setattr(sampling, "BLOCK", 4_000)
    monkeypatch.setattr("pipelines.inspection.SAMPLE_FROM", 100_000)
    lines = "".join(f"{n},{n % 7},2024-{1 + n // 2000:02d}-01\n" for n in range(20_000))
    found = inspect_source(export("order_id,product_id,ts\n" + lines), "", OrderSettings())
    assert 0.1 < found.sampled_share < 0.6
    assert (found.first, found.last) == ("2024-01-01", "2024-10-01")
    assert not found.lost


def test_the_terminal_and_json_say_the_same(export, capsys):
    path = export(TURKISH, name="my orders.csv")
    main(["inspect", path, "--timezone", "Europe/Istanbul"])
    shown = capsys.readouterr().out
    assert "60 orders of 4 products" in shown
    assert f"fbt run --orders '{path}' --timezone Europe/Istanbul" in shown.replace("\n", "")
    main(["inspect", path, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["numbers"]["n_orders"] == 60
    assert shlex.split(found["command"]) == ["fbt", "run", "--orders", path]


def test_markup_and_formulas_in_names_stay_text(export, capsys):
    names = ("=cmd|' /C calc'!A0", "[red]alarm[/red]", "<script>")
    lines = "".join(f'{n},{n % 3},"{names[n % 3]}"\n' for n in range(30))
    main(["inspect", export("order_id,product_id,name\n" + lines)])
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


def test_a_source_that_cannot_be_read_names_the_remedy(export, capsys):
    with pytest.raises(SourceError, match="a column for product_id is missing"):
        inspect_source(export("order_id,code\n1,2\n"), "", OrderSettings())
    with pytest.raises(SystemExit):
        main(["inspect", export("%PDF-1.7\n")])
    assert "PDF" in capsys.readouterr().err


def test_errors_of_a_run_end_with_the_inspection(tmp_path, capsys):
    path = tmp_path / "absent orders.csv"
    with pytest.raises(SystemExit):
        main(["run", "--orders", str(path), "--ts-format", "%d/%m/%Y"])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.endswith(f"fbt inspect '{path}' --ts-format %d/%m/%Y")


def test_commands_can_be_pasted():
    values = {"orders": "a b.csv", "products": "", "columns": "order_id=No of order"}
    expected = "fbt run --orders 'a b.csv' --columns 'order_id=No of order'"
    assert format_command("run", values) == expected


def test_an_order_total_is_not_the_price_of_its_lines(export):
    """Fields of the nested list win; the order's own name is no product's."""
    order = {"id": 1, "price": "99.0", "quantity": 7, "name": "#1", "created_at": "2024-01-15"}
    lines = [{"sku": "007", "quantity": 2, "price": "3.50"}, {"sku": "8", "quantity": 1}]
    orders = [order | {"id": n, "items": lines} for n in range(5)]
    found = inspect_source(export(json.dumps(orders), name="o.json"), "", OrderSettings())
    assert found.lines[0]["order_id"] == "0"
    assert found.lines[0]["product_id"] == "007"
    assert (found.lines[0]["quantity"], found.lines[0]["price"]) == (2.0, 3.5)
    assert [line["price"] for line in found.lines[:2]] == [3.5, None]
    assert {line["name"] for line in found.lines} == {None}


def test_products_with_quantities_in_one_text_are_refused(export):
    text = "order_id,items\n1,A:2;B:1\n2,A:1;C:3\n3,B:2;C:1\n"
    with pytest.raises(SourceError, match="holds products with a quantity, such as"):
        inspect_source(export(text), "", OrderSettings())


def test_lists_in_quotes_are_read_whatever_the_sniffer_thinks(export):
    text = "order_id,items\n" + '1,"[""A"", ""B""]"\n2,"[""A""]"\n' + "3,\"['C', 'D']\"\n"
    found = inspect_source(export(text), "", OrderSettings())
    assert found.numbers["n_products"] == 4
    assert found.basket_sizes == {"1": 1, "2": 2}
