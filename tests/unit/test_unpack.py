"""Any file becomes plain text with the same content, or is refused by what it is."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import random
import shutil
import sqlite3
import zipfile

import duckdb
import pytest

from components.sources import compression
from components.sources.errors import SourceError
from components.sources.files import InputFile
from components.sources.unpack import check_unchanged, unpack

TEXT = "order_id,product_id,name\n" + "".join(f"{n},P{n % 7},Çay şekeri\n" for n in range(5_000))
CSV = TEXT.encode()
LOGIN = b"<!DOCTYPE html>\n<html><title>Log in</title></html>"


def arrow_compress(data, codec):
    import pyarrow as pa

    target = pa.BufferOutputStream()
    with pa.CompressedOutputStream(target, codec) as stream:
        stream.write(data)
    return target.getvalue().to_pybytes()


def pack_zip(members, method=zipfile.ZIP_DEFLATED):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


PACK = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: arrow_compress(data, "zstd"),
    "lz4": lambda data: arrow_compress(data, "lz4"),
}


@pytest.fixture
def read(tmp_path):
    """Unpacks a file of these bytes."""

    def read(content, name="jan.csv", encoding=""):
        path = tmp_path / name
        path.write_bytes(content)
        return unpack(InputFile(path, name, {"dt": "1"}), tmp_path / "staging", encoding)

    return read


def staged(tmp_path):
    return [path.name for path in (tmp_path / "staging").iterdir()]


class TestText:
    def test_utf_8_stays_where_it_is(self, read, tmp_path):
        (file,) = read(CSV)
        assert file.path == tmp_path / "jan.csv"
        assert (file.name, file.partition) == ("jan.csv", {"dt": "1"})
        assert (file.kind, file.encoding, file.compression) == ("text", "utf-8", "")
        assert not staged(tmp_path)

    def test_duckdb_skips_the_mark_that_stays(self, read, tmp_path):
        (file,) = read(codecs.BOM_UTF8 + b'"order_id","x"\n"1","2"\n')
        assert (file.path, file.evidence) == (tmp_path / "jan.csv", "UTF-8 byte order mark")
        assert duckdb.sql(f"from read_csv('{file.path}')").columns == ["order_id", "x"]

    @pytest.mark.parametrize("codec", ["cp1254", "iso8859-9", "utf-16", "utf-16-be", "utf-32"])
    def test_others_become_utf_8(self, read, codec):
        (file,) = read(TEXT.encode(codec))
        assert file.path.read_bytes() == CSV

    def test_what_was_dropped_is_counted(self, read):
        (file,) = read(CSV + b"1\0,2,\xff\n")
        assert (file.n_nul, file.n_replaced, file.encoding_is_certain) == (1, 1, False)
        assert file.path.read_text() == TEXT + "1,2,\ufffd\n"

    def test_old_macs(self, read):
        (file,) = read(b"a,b\r1,2\r")
        assert file.path.read_bytes() == b"a,b\n1,2\n"

    def test_a_line_of_20_mb(self, read):
        (file,) = read(b"a,b\n1," + b"x" * (20 << 20))
        assert file.kind == "text"

    def test_the_encoding_given_wins(self, read, tmp_path):
        (file,) = read("ad\nşeker\n".encode("cp1254"), encoding="windows-1252")
        assert (file.path.read_text(), file.encoding) == ("ad\nþeker\n", "cp1252")
        assert read(b"a\n1\n", encoding="cp1254")[0].path == tmp_path / "jan.csv"

    @pytest.mark.parametrize(
        ("content", "encoding", "message"),
        [
            ("ad\nşeker".encode("cp1254"), "utf-8", "byte 3 is not"),
            (b"a\n\x81", "windows-1252", "byte 2 is not"),
            (codecs.BOM_UTF8 + CSV, "cp1254", "begins with a UTF-8 byte order mark"),
            (CSV, "klingon", "no encoding is called 'klingon'"),
            (CSV, "base64", "no encoding is called 'base64'"),
            ("a,b\n1,2".encode("utf-16") + b"\n", "", "byte 16 is not"),
            (b"\0" * 100, "", "only blanks or NUL"),
            (b"\n \n", "", "only blanks"),
        ],
    )
    def test_text_that_is_refused(self, read, content, encoding, message):
        with pytest.raises(SourceError, match=r"^jan\.csv: .*" + message):
            read(content, encoding=encoding)

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b'{"id": 1}\n{"id": 2}\n', "json"),
            (b'\n [{"id": 1},\n {"id": 2}]', "json"),
            (b'{"orders": [' + b'{"id": 1},' * 200_000 + b'{"id": 2}]}', "json"),
            (codecs.BOM_UTF8 + b'[{"id": 1}]', "json"),
            ('{"ad": "şeker"}'.encode("utf-16"), "json"),
            (b"[order],[product]\n1,2\n", "text"),
            (b"[1],[2]\n", "text"),
            (b"{a};{b}\n1;2\n", "text"),
            (b"<ID>,<TIME>\n1,2\n", "text"),
            (b"From ,To: \n1,2\n", "text"),
            (b"PAR1,PARENT\n1,2\n", "text"),
            (b"BZh;Gr\xf6\xdfe\n1;2\n", "text"),
        ],
    )
    def test_kinds_by_content(self, read, content, kind):
        assert [file.kind for file in read(content)] == [kind]


class TestCompressed:
    @pytest.mark.parametrize("form", PACK)
    def test_each_format_whatever_its_name(self, read, form):
        (file,) = read(PACK[form](CSV))
        assert (file.path.read_bytes(), file.compression, file.kind) == (CSV, form, "text")

    @pytest.mark.parametrize("form", PACK)
    def test_several_members_in_one(self, read, form):
        half = len(CSV) // 2
        (file,) = read(PACK[form](CSV[:half]) + PACK[form](CSV[half:]))
        assert file.path.read_bytes() == CSV

    @pytest.mark.parametrize("form", PACK)
    @pytest.mark.parametrize("n_lost", [3, 200])
    def test_cut(self, read, tmp_path, form, n_lost):
        with pytest.raises(SourceError, match=rf"jan\.csv: a damaged or cut {form} file"):
            read(PACK[form](CSV)[:-n_lost])
        assert not staged(tmp_path)

    def test_compressed_legacy_text_leaves_one_file(self, read, tmp_path):
        (file,) = read(gzip.compress(TEXT.encode("cp1254")))
        assert (file.path.read_bytes(), file.encoding) == (CSV, "cp1254")
        assert len(staged(tmp_path)) == 1

    def test_parquet_is_found_inside(self, read, tmp_path):
        duckdb.sql(f"copy (select 1 a) to '{tmp_path}/a.parquet' (format parquet)")
        content = (tmp_path / "a.parquet").read_bytes()
        (file,) = read(gzip.compress(content))
        assert (file.kind, file.path.read_bytes()) == ("parquet", content)
        with pytest.raises(SourceError, match="Parquet that ends early"):
            read(content[:-9])

    def test_a_bomb(self, read, tmp_path, monkeypatch):
        monkeypatch.setattr(compression, "MIN_BOMB", 1 << 20)
        zeros = b"0" * (20 << 20)
        for content in (gzip.compress(zeros), pack_zip({"a.csv": zeros})):
            with pytest.raises(SourceError, match="bomb"):
                read(content)
        assert not staged(tmp_path)

    def test_a_full_disk(self, read, monkeypatch):
        usage = shutil.disk_usage(".")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
        for content in (gzip.compress(CSV), pack_zip({"a.csv": CSV})):
            with pytest.raises(SourceError, match="1,000 free"):
                read(content)


class TestZip:
    def test_ten_files_of_all_kinds(self, read):
        junk = {
            "__MACOSX/._a.csv": b"x",
            ".DS_Store": b"x",
            "d/": b"",
            "e.csv": b"",
            "_SUCCESS": b"x",
        }
        months = {f"{n}/jan.csv": TEXT for n in range(7)}
        others = {
            "a.csv.gz": gzip.compress(CSV),
            "dt=2024/turkish.csv": TEXT.encode("cp1254"),
            "_x.csv": CSV,
        }
        files = read(pack_zip(junk | months | others), "export.zip")
        assert [file.name for file in files] == [f"export.zip/{name}" for name in months | others]
        assert {file.path.read_bytes() for file in files} == {CSV}
        assert {file.compression for file in files} == {"zip"}
        assert [file.partition for file in files][8] == {"dt": "2024"}

    def test_packed_too_often(self, read):
        with pytest.raises(SourceError, match="packed more than 2 times"):
            read(gzip.compress(gzip.compress(gzip.compress(CSV))))

    def test_what_is_in_it_is_checked_too(self, read):
        with pytest.raises(SourceError, match=r"export\.zip/a\.pdf: a PDF"):
            read(pack_zip({"a.csv": CSV, "a.pdf": b"%PDF-1.4"}), "export.zip")

    def test_damage(self, read):
        content = pack_zip({"a.csv": CSV})
        with pytest.raises(SourceError, match="damaged or cut ZIP"):
            read(content[:-100])
        broken = bytearray(content)
        broken[200] ^= 255
        with pytest.raises(SourceError, match="damaged or cut ZIP"):
            read(bytes(broken))

    def test_a_password(self, read):
        content = bytearray(pack_zip({"a.csv": CSV}))
        content[6] |= 1
        content[content.index(b"PK\1\2") + 8] |= 1
        with pytest.raises(SourceError, match="password"):
            read(bytes(content))

    def test_nothing_in_it(self, read):
        for members in ({}, {"a/": b"", "__MACOSX/._a": b"x"}):
            with pytest.raises(SourceError, match="without data"):
                read(pack_zip(members))


SHEET = """<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>
<row r="1"><c r="A1" t="inlineStr"><is><t>order_id</t></is></c>
<c r="B1" t="inlineStr"><is><t>name, "new"</t></is></c>
<c r="C1" t="inlineStr"><is><t>ts</t></is></c></row>
<row r="2"><c r="A2"><v>1027</v></c><c r="B2" t="inlineStr"><is><t>0007</t></is></c>
<c r="C2" s="1"><v>45322.375</v></c><c r="D2"><v>19.99</v></c></row>
<row r="3"><c r="A3" s="2"><v>45322</v></c><c r="B3" t="b"><v>1</v></c><c r="D3"><v>-2.0</v></c>
</row></sheetData></worksheet>"""
EMPTY = SHEET[: SHEET.index("<row")] + "</sheetData></worksheet>"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def make_xlsx(**sheets):
    listed = "".join(
        f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1)
    )
    links = "".join(
        f'<Relationship Id="r{n}" Type="{LINKS}/worksheet" Target="worksheets/s{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    styles = (
        f'<styleSheet xmlns="{MAIN}"><numFmts count="1"><numFmt numFmtId="164" '
        'formatCode="dd/mm/yyyy hh:mm"/></numFmts><cellXfs count="3"><xf numFmtId="0"/>'
        '<xf numFmtId="164"/><xf numFmtId="14"/></cellXfs></styleSheet>'
    )
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="w" '
        f'Type="{LINKS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{LINKS}"><sheets>{listed}</sheets>'
        "</workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">{links}'
        f'<Relationship Id="s" Type="{LINKS}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": styles,
    }
    parts |= {f"xl/worksheets/s{n}.xml": xml for n, xml in enumerate(sheets.values(), 1)}
    return pack_zip(parts)


class TestWorkbook:
    def test_each_filled_sheet(self, read):
        one, other = read(make_xlsx(Ocak=SHEET, Boş=EMPTY, Şubat=SHEET), "orders.csv")
        assert (one.name, other.name) == ("orders.csv/Ocak", "orders.csv/Şubat")
        assert one.path.read_text() == other.path.read_text() == (
            'order_id,"name, ""new""",ts,\n'
            "1027,0007,2024-01-31 09:00:00,19.99\n"
            "2024-01-31,TRUE,,-2\n"
        )  # fmt: skip
        assert (one.kind, one.compression, one.encoding) == ("text", "workbook", "utf-8")

    def test_of_libre_office(self, read):
        names = "office:{0} xmlns:office='urn:oasis:names:tc:opendocument:xmlns:office:1.0' "
        names += "xmlns:table='urn:oasis:names:tc:opendocument:xmlns:table:1.0' "
        names += "xmlns:text='urn:oasis:names:tc:opendocument:xmlns:text:1.0'"
        cell = "<table:table-cell office:value-type='{}' {}><text:p>{}</text:p></table:table-cell>"
        rows = "<table:table-row>{}</table:table-row>".format(
            cell.format("string", "", "007")
            + cell.format("float", "office:value='3'", "3,00")
            + cell.format("date", "office:date-value='2024-01-31T09:00:00'", "31.01.24")
        )
        content = (
            f"<{names.format('document-content')}><office:body><office:spreadsheet>"
            f"<table:table table:name='Jan'>{rows}</table:table></office:spreadsheet></office:body>"
            "</office:document-content>"
        )
        kind = "application/vnd.oasis.opendocument.spreadsheet"
        parts = {"mimetype": kind, "content.xml": content, "META-INF/manifest.xml": ""}
        (file,) = read(pack_zip(parts))
        assert (file.name, file.path.read_text()) == ("jan.csv/Jan", "007,3,2024-01-31 09:00:00\n")

    def test_a_password(self, read):
        with pytest.raises(SourceError, match="protected by a password"):
            read(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"))

    def test_no_workbook(self, read):
        with pytest.raises(SourceError, match="without a filled sheet"):
            read(make_xlsx(A=EMPTY))
        with pytest.raises(SourceError, match="damaged workbook"):
            read(make_xlsx(A=SHEET[:300]))
        with pytest.raises(SourceError, match="damaged workbook, or another Office file"):
            read(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5_000))


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (b"%PDF-1.7\n1 0 obj\n", "a PDF"),
            (b"{\\rtf1\\ansi orders}", "RTF"),
            (b"\x89PNG\r\n\x1a\n\0\0", "a PNG picture"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG picture"),
            (b"\0" * 257 + b"ustar\0", "a tar archive; |a tar archive, .* unpack it"),
            (b"ORC\x0a\x14\x00\x00", "an ORC file, .* plain Parquet"),
            (LOGIN, "an HTML page"),
            (LOGIN.decode().encode("utf-16"), "an HTML page"),
            (b"  <table><tr><td>1", "an HTML page"),
            (b'<?xml version="1.0"?><a/>', "XML"),
            (b"<orders>\n<order id='1'/>", "XML"),
            (b"Received: from a\r\nFrom: shop@x\r\nSubject: orders\r\n\r\nHello", "an e-mail"),
            (random.Random(1).randbytes(5_000), "binary data of an unknown kind|damaged text"),
            (pack_zip({"[Content_Types].xml": b"", "word/document.xml": b""}), "a Word document"),
            (gzip.compress(b"%PDF-1.7\n1 0 obj\n", mtime=0), "a PDF"),
        ],
    )
    def test_by_what_it_is(self, read, content, what):
        with pytest.raises(SourceError, match=rf"^jan\.csv: .*({what})"):
            read(content)

    def test_a_database(self, read, tmp_path):
        with sqlite3.connect(tmp_path / "shop.db") as base:
            base.execute("create table orders (id)")
        with pytest.raises(SourceError, match="an SQLite database"):
            read((tmp_path / "shop.db").read_bytes())

    def test_a_file_that_changes(self, tmp_path):
        path = tmp_path / "jan.csv"
        path.write_bytes(CSV)
        before = path.stat()
        check_unchanged(before, path, "jan.csv")
        os.utime(path, ns=(1, 1))
        with pytest.raises(SourceError, match="changed while it was read"):
            check_unchanged(before, path, "jan.csv")
        path.unlink()
        with pytest.raises(SourceError, match="was removed"):
            check_unchanged(before, path, "jan.csv")

    def test_a_file_that_grows(self, read, tmp_path, monkeypatch):
        import components.sources.unpack as module

        def grow(stream):
            with (tmp_path / "jan.csv").open("ab") as file:
                file.write(CSV)
            return survey(stream)

        survey = module.survey
        monkeypatch.setattr(module, "survey", grow)
        with pytest.raises(SourceError, match=r"jan\.csv: changed while"):
            read(CSV)


def test_the_shared_kinds_have_their_lines(read):
    """DuckDB reads what comes out, JSON too."""
    (file,) = read(gzip.compress(json.dumps([{"id": "0007"}]).encode()))
    assert duckdb.sql(f"from read_json('{file.path}')").fetchall() == [("0007",)]
