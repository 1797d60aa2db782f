"""Exports with faults: read right, or refused for the cause that is named."""

import json
import random
import zipfile
from datetime import datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.sources.errors import SourceError
from components.sources.source import read_source
from components.sources.understand import ReadSettings
from tests.normalised import column, ids, read_lines

HEADER = "order_id,product_id,ts,quantity,price,name\n"
LINES = [
    f"O{n:03d},P{n % 7},2024-01-{n % 28 + 1:02d} 10:00:00,{n % 3 + 1},{n}.50,Cup {n}\n"
    for n in range(60)
]


@pytest.fixture
def read(tmp_path):
    return partial(read_lines, staging=tmp_path / "staging")


@pytest.fixture
def save(tmp_path):
    def save(content: str | bytes, name: str = "orders.csv") -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return save


def test_a_pdf_is_refused(save, read):
    with pytest.raises(SourceError, match=r"a PDF.*CSV"):
        read(save(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n" + bytes(range(256)) * 8))


def write_workbook(path: Path, rows: list[list[str | float]]) -> Path:
    cells = "".join(f"<row>{''.join(map(write_cell, row))}</row>" for row in rows)
    space = "http://schemas.openxmlformats.org"
    main, rel = f"{space}/spreadsheetml/2006/main", f"{space}/officeDocument/2006/relationships"
    office = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{space}/package/2006/content-types"><Default '
        'Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{office}.sheet.main+xml"/><Override '
        f'PartName="/xl/worksheets/sheet1.xml" ContentType="{office}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{space}/package/2006/relationships"><Relationship '
        f'Id="r1" Type="{rel}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{rel}"><sheets><sheet name="Orders" '
        'sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{space}/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{rel}/worksheet" Target="worksheets/sheet1.xml"/>'
        "</Relationships>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData>'
        "</worksheet>",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')
    return path


def write_cell(value: str | float) -> str:
    if isinstance(value, str):
        return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
    return f"<c><v>{value}</v></c>"


def test_a_workbook_is_read(tmp_path, read):
    header = HEADER.strip().split(",")
    rows = [[f"00{n}", "07", 45292.375 + n, 2, 9.5, "Cup"] for n in range(5)]
    found = read(write_workbook(tmp_path / "orders.xlsx", [header, *rows]))
    assert ids(found) == [(f"00{n}", "07") for n in range(5)]
    assert column(found, "ts")[0] == datetime(2024, 1, 1, 9)
    assert found.reading.files[0].compression == "workbook"


def test_a_zip_of_ten_files_is_read(tmp_path, read):
    with zipfile.ZipFile(tmp_path / "year.zip", "w") as archive:
        for month in range(10):
            archive.writestr(
                f"2024-{month}.csv", HEADER + "".join(LINES[6 * month : 6 * month + 6])
            )
    found = read(tmp_path / "year.zip")
    assert len(found.lines) == 60
    assert len(found.reading.files) == 10


def test_each_file_has_its_own_encoding(save, read):
    line = "{},P1,2024-01-13 10:00:00,1,2.50,Güğüm ve şeker kâsesi\n".format
    save(HEADER + line("O1"), "a.csv")
    save((HEADER + line("O2")).encode("utf-16"), "b.csv")
    folder = save((HEADER + line("O3") + line("O4")).encode("cp1254"), "c.csv").parent
    found = read(folder)
    assert column(found, "name") == ["Güğüm ve şeker kâsesi"] * 4


def test_a_file_that_is_mostly_garbled_is_refused(save, read):
    noise = random.Random(0)
    save(HEADER + "".join(LINES), "a.csv")
    garbled = [line if n % 5 < 2 else noise.randbytes(40) for n, line in enumerate(LINES)]
    content = b"".join(one.encode() if isinstance(one, str) else one + b"\n" for one in garbled)
    folder = save(HEADER.encode() + content, "b.csv").parent
    with pytest.raises(SourceError, match=r"b\.csv"):
        read(folder)


def test_lines_that_are_no_rows_are_refused_above_a_share(save, read):
    garbled = [line if n % 5 < 2 else line.strip() + ",x,y\n" for n, line in enumerate(LINES)]
    with pytest.raises(SourceError, match=r"header has 6|do not fit the header of 6"):
        read(save(HEADER + "".join(garbled)))


def test_a_header_alone_has_no_lines(save, read):
    found = read(save(HEADER))
    assert found.lines == []
    assert set(found.reading.files[0].columns) >= {"order_id", "product_id"}


def test_two_headers_are_refused(save, read):
    other = "order_id,product_id,quantity,ts,price,name\n"
    with pytest.raises(SourceError, match=r"lines 1 and 2 can both be the header"):
        read(save(HEADER + other + LINES[0]))


def test_a_header_that_is_repeated_is_no_line(save, read):
    found = read(save(HEADER + "".join(LINES[:5]) + HEADER + "".join(LINES[5:])))
    assert len(found.lines) == 60
    assert found.left_out == [("order_id", "header repeated")]


def test_a_column_is_a_number_in_one_file_and_text_in_another(tmp_path, save, read):
    (tmp_path / "in").mkdir()
    table = pa.table({"order_id": [1, 2], "product_id": [7, 8], "price": [1.5, 2.0]})
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    folder = save('order_id,product_id,price\nA-3,P9,"1,5"\n4,0010,"2,25"\n', "b.csv").parent
    found = read(folder)
    assert ids(found) == [("1", "7"), ("2", "8"), ("4", "0010"), ("A-3", "P9")]
    assert column(found, "price") == [1.5, 2.0, 2.25, 1.5]


def test_time_may_go_backwards(save, read):
    found = read(save(HEADER + "".join(reversed(LINES))))
    assert len(found.lines) == 60
    assert found.lines[0][2] == datetime(2024, 1, 1, 10)


def test_parts_of_two_schemas_beside_markers(tmp_path, save, read):
    folder = tmp_path / "in"
    save("", "_SUCCESS")
    save(b"\x00crc", ".part-0.parquet.crc")
    pq.write_table(
        pa.table({"order_id": ["1"], "product_id": ["a"], "price": [1.0]}),
        folder / "part-0.parquet",
    )
    pq.write_table(
        pa.table({"product_id": ["b"], "channel": ["web"], "order_id": [2]}),
        folder / "part-1.parquet",
    )
    found = read(folder)
    assert ids(found) == [("1", "a"), ("2", "b")]
    assert column(found, "price") == [1.0, None]


def test_a_file_that_lacks_a_column_is_named(save, read):
    save(HEADER + LINES[0], "a.csv")
    folder = save("order,sum\n1,2\n", "b.csv").parent
    with pytest.raises(SourceError, match=r"b\.csv.*order_id.*found order, sum"):
        read(folder)


class Cut(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write((HEADER + LINES[0]).encode())

    def log_message(self, *_):
        pass


def test_an_answer_that_ends_early_is_refused(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cut)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/orders.csv"
        with pytest.raises(SourceError, match=r"ended early|got \d+ bytes, expected 100000"):
            read_source(address, "orders", ReadSettings(), tmp_path)
    finally:
        server.shutdown()
        server.server_close()


class Growing(ReadSettings):
    """Appends to the file when its settings are asked for the zone."""

    def __getattribute__(self, name):
        if name == "timezone":
            with Path(super().__getattribute__("columns").partition("=")[2]).open("a") as file:
                file.write(LINES[0])
        return super().__getattribute__(name)


def test_a_file_that_changes_while_it_is_read_is_refused(save, tmp_path):
    path = save(HEADER + "".join(LINES))
    settings = Growing(columns=f"brand={path}")
    with pytest.raises(SourceError, match="changed while it was read"):
        read_source(str(path), "orders", settings, tmp_path / "staging")


def test_thousands_of_columns(save, read):
    extra = [f"c{n}" for n in range(4994)]
    rows = [f"{line.strip()},{','.join(extra)}\n" for line in LINES[:3]]
    found = read(save(f"{HEADER.strip()},{','.join(extra)}\n{''.join(rows)}"))
    assert ids(found) == [("O000", "P0"), ("O001", "P1"), ("O002", "P2")]


def test_a_line_of_20_megabytes_is_no_row(save, read):
    long = f"O999,P1,2024-01-01 10:00:00,1,2.50,{'x' * 20_000_000}\n"
    try:
        found = read(save(HEADER + "".join(LINES[:30]) + long + "".join(LINES[30:])))
    except SourceError as error:
        assert "orders.csv" in str(error)  # noqa: PT017
    else:
        assert {line[0] for line in found.lines} >= {f"O{n:03d}" for n in range(60)}


def test_formulas_stay_text(save, read):
    formulas = ["=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(A1)", '=HYPERLINK(""x"")']
    rows = [f'O{n},P{n},2024-01-13,1,2.5,"{one}"\n' for n, one in enumerate(formulas)]
    found = read(save(HEADER + "".join(rows)))
    assert column(found, "name") == [one.replace('""', '"') for one in formulas]


def test_a_file_without_a_header_is_refused(save, read):
    with pytest.raises(SourceError, match=r"a column for order_id is missing; found O000"):
        read(save("".join(LINES)))


def test_one_name_too_few_is_refused(save, read):
    """As R's write.table writes row names."""
    rows = [f'"{n}",{line}' for n, line in enumerate(LINES[:5])]
    with pytest.raises(SourceError, match="the header has 6 names, but a line has 7 values"):
        read(save(HEADER + "".join(rows)))


def test_stray_quotes_are_part_of_the_value(save, read):
    rows = [*LINES[:40], 'O900,P1,2024-01-01 10:00:00,1,2.50,5" pipe\n', *LINES[40:]]
    found = read(save(HEADER + "".join(rows)))
    assert len(found.lines) == 61
    assert "O900" in column(found, "order_id")
    assert '5" pipe' in column(found, "name")


def test_an_unclosed_quote_swallows_no_lines_in_silence(save, read):
    rows = [*LINES[:40], 'O900,P1,2024-01-01 10:00:00,1,2.50,"pipe\n', *LINES[40:]]
    try:
        found = read(save(HEADER + "".join(rows)))
    except SourceError as error:
        assert "orders.csv" in str(error)  # noqa: PT017
    else:
        assert {line[0] for line in found.lines} >= {f"O{n:03d}" for n in range(60)}


def test_nul_bytes_are_dropped_and_told(save, read):
    found = read(save((HEADER + "".join(LINES)).replace("Cup 7", "Cup\0 7").encode()))
    assert len(found.lines) == 60
    assert "Cup 7" in column(found, "name")
    assert "1 NUL bytes were dropped" in found.reading.files[0].notes[0]


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"], ids=["CR", "CRLF", "LF"])
def test_any_line_end(save, read, end):
    assert len(read(save((HEADER + "".join(LINES)).replace("\n", end))).lines) == 60


def test_mixed_line_ends(save, read):
    rows = [line.replace("\n", "\r\n") if n % 3 else line for n, line in enumerate(LINES)]
    found = read(save(HEADER + "".join(rows)))
    assert len(found.lines) == 60
    assert column(found, "name")[:3] == ["Cup 0", "Cup 1", "Cup 2"]


def test_two_columns_of_one_name_are_refused_or_chosen(save, read):
    text = "order_id,product_id,price,price\n1,2,3.5,4.5\n"
    with pytest.raises(SourceError, match=r"2 columns are called 'price' \(price#1, price#2\)"):
        read(save(text))
    found = read(save(text), columns="price=price#2")
    assert column(found, "price") == [4.5]


def test_an_empty_file_among_others_is_passed_over(save, read):
    save("", "a.csv")
    folder = save(HEADER + "".join(LINES), "b.csv").parent
    assert len(read(folder).lines) == 60


def test_fimi(save, read):
    found = read(save("1 2 3\n2 4\n\n5\n", "retail.dat"))
    assert [line[1] for line in found.lines] == ["1", "2", "3", "2", "4", "5"]
    assert len({line[0] for line in found.lines}) == 3


@pytest.mark.parametrize("items", ["P1|P2|P 3", "P1;P2;P 3", "['P1', 'P2', 'P 3']"])
def test_baskets_as_separated_text(save, read, items):
    found = read(save(f'order_id,items\n1,"{items}"\n2,"{items}"\n'))
    assert ids(found) == [(order, one) for order in "12" for one in ("P 3", "P1", "P2")]


def test_baskets_as_json_lists(save, read):
    orders = [{"order_id": 1, "items": ["a", "b"]}, {"order_id": 2, "items": ["c"]}]
    found = read(save("\n".join(map(json.dumps, orders)), "orders.jsonl"))
    assert ids(found) == [("1", "a"), ("1", "b"), ("2", "c")]


def test_nested_items_of_parquet(tmp_path, read):
    items = [
        [{"product_id": "a", "quantity": 2}, {"product_id": "b", "quantity": 1}],
        [{"product_id": "a", "quantity": 3}],
    ]
    pq.write_table(pa.table({"order_id": [1, 2], "items": items}), tmp_path / "o.parquet")
    found = read(tmp_path / "o.parquet")
    assert ids(found) == [("1", "a"), ("1", "b"), ("2", "a")]
    assert column(found, "quantity") == [2.0, 1.0, 3.0]


@pytest.mark.parametrize("name", ["dt", "date", "day", "order_ts"])
def test_hive_folders_give_the_time(tmp_path, read, name):
    for day in ("2024-01-13", "2024-01-20"):
        folder = tmp_path / "in" / f"{name}={day}"
        folder.mkdir(parents=True)
        table = pa.table({"order_id": [f"{day}-1"], "product_id": ["a"]})
        pq.write_table(table, folder / "part-0.parquet")
    found = read(tmp_path / "in")
    assert column(found, "ts") == [datetime(2024, 1, 13), datetime(2024, 1, 20)]


def test_a_date_beside_an_order_date_is_not_taken(save, read):
    found = read(save("order_id,product_id,date,order date\n1,a,2020-01-13,2024-01-13\n"))
    assert column(found, "ts") == [datetime(2024, 1, 13)]


def test_an_answer_of_an_api(save, read):
    orders = [{"id": "7", "order_id": "1", "line_items": [{"sku": "a", "quantity": 2}]}]
    found = read(save(json.dumps({"orders": orders, "page": 1}), "answer.json"))
    assert ids(found) == [("1", "a")]
    assert column(found, "quantity") == [2.0]


def test_binary_text_of_parquet(tmp_path, read):
    table = pa.table({"order_id": [b"1"], "product_id": ["Güğüm".encode()]})
    pq.write_table(table, tmp_path / "o.parquet")
    assert ids(read(tmp_path / "o.parquet")) == [("1", "Güğüm")]
