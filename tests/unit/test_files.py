"""Files of a source: local ones, and those of a server that may fail."""

import contextlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.sources import object_store, web
from components.sources.errors import SourceError
from components.sources.files import find_files, local_fingerprint, write_whole

CSV = b"order_id,product_id\n1,2\n"


@pytest.fixture
def put(tmp_path):
    def put(*names, content=CSV):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path

    return put


def names(source):
    return [file.name for file in find_files(str(source))]


class TestLocal:
    def test_a_folder_without_what_spark_leaves(self, put):
        folder = put(
            "part-1.csv", "part-0.csv", "a/b.csv", "_SUCCESS", ".part-0.csv.crc", "._x.csv"
        )
        put("_temporary/0/part-7.csv")
        assert names(folder) == ["a/b.csv", "part-0.csv", "part-1.csv"]

    def test_hive_folders_give_columns(self, put):
        folder = put("dt=2024-01-01/shop=K%C3%B6ln/a.csv", "dt=__HIVE_DEFAULT_PARTITION__/b.csv")
        one, other = find_files(str(folder))
        assert one.partition == {"dt": "2024-01-01", "shop": "Köln"}
        assert other.partition == {"dt": ""}
        (found,) = find_files(f"{folder}/dt=2024*")
        assert (found.name, found.partition) == (
            "dt=2024-01-01/shop=K%C3%B6ln/a.csv",
            one.partition,
        )
        (found,) = find_files(f"{folder}/dt=2024-01-01/shop=K%C3%B6ln/a.csv")
        assert (found.name, found.partition) == ("a.csv", one.partition)

    @pytest.mark.parametrize("name", ["_x.csv", ".x.csv", "_SUCCESS"])
    def test_what_is_named_is_read(self, put, name):
        assert names(put(name) / name) == [name]

    def test_a_glob_that_names_an_underscore(self, put):
        folder = put("_x.csv", "y.csv", "_SUCCESS", "_committed_17")
        assert names(folder / "_x*") == ["_x.csv"]
        assert names(folder / "*.csv") == ["_x.csv", "y.csv"]
        assert names(folder / "*") == ["_x.csv", "y.csv"]

    @pytest.mark.parametrize("name", ["jan[1].csv", "wh*t?.csv", "[2024]/a.csv"])
    def test_a_name_with_wildcards(self, put, name):
        assert find_files(str(put(name, "jan1.csv") / name))[0].path.name == name.split("/")[-1]

    def test_globs_through_folders(self, put):
        folder = put("a/x.csv", "a/b/y.csv", "c/z.txt")
        assert names(folder / "**" / "*.csv") == ["a/b/y.csv", "a/x.csv"]
        assert names(folder / "**") == ["a/b/y.csv", "a/x.csv", "c/z.txt"]
        assert names(folder / "?") == ["a/b/y.csv", "a/x.csv", "c/z.txt"]

    def test_empty_files(self, put):
        folder = put("b.csv", content=b"")
        with pytest.raises(SourceError, match="empty"):
            find_files(str(folder))
        assert names(put("a.csv")) == ["a.csv"]

    def test_what_is_not_there(self, put):
        folder = put("_SUCCESS")
        with pytest.raises(SourceError, match="a folder without files"):
            find_files(str(folder))
        for name in ("none.csv", "*.csv"):
            with pytest.raises(SourceError, match="no such file"):
                find_files(str(folder / name))
        (folder / "link.csv").symlink_to(folder / "gone.csv")
        for source in (folder, folder / "link.csv"):
            with pytest.raises(SourceError, match="a link to nothing"):
                find_files(str(source))
        with pytest.raises(SourceError, match="not a file"):
            find_files("/dev/null")

    def test_the_fingerprint_follows_content_and_names(self, put):
        prints = {local_fingerprint(str(put("a.csv")))}
        prints.add(local_fingerprint(str(put("a.csv", content=b"other"))))
        prints.add(local_fingerprint(str(put("b.csv"))))
        assert len(prints) == 3

    def test_nothing_half_written_stays(self, tmp_path):
        with contextlib.suppress(RuntimeError), write_whole(tmp_path / "a.csv") as path:
            path.write_text("half")
            raise RuntimeError
        assert not list(tmp_path.iterdir())


class Shop(BaseHTTPRequestHandler):
    """Answers by path."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_response(405 if self.path == "/signed.csv" else 200)
        for header in ("ETag", "Content-Length"):
            self.send_header(header, '"7"' if self.path == "/whole.csv" else "0")
        self.end_headers()

    def do_GET(self):
        name = re.split(r"[.?]", self.path.strip("/"))[0]
        getattr(self, f"send_{name}", self.send_whole)()
        self.close_connection = True

    def send(self, body, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_whole(self):
        self.send(CSV)

    def send_short(self):
        self.send(CSV, length=1_000)

    def send_empty(self):
        self.send(b"")

    def send_chunks(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(CSV), CSV))
        if "whole" in self.path:
            self.wfile.write(b"0\r\n\r\n")

    def send_stalled(self):
        self.send(CSV, length=1_000)
        self.wfile.flush()
        self.server.stop.wait(5)

    def send_private(self):
        self.send(b"", status=302, Location="/login?back=private")

    def send_login(self):
        self.send(b"\n<!DOCTYPE html><title>Log in</title>", Content_Type="text/html")

    def send_mislabelled(self):
        self.send(CSV, Content_Type="text/html")

    def send_forbidden(self):
        self.send(b"", status=403)

    def send_brotli(self):
        self.send(CSV, Content_Encoding="br")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def shop():
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        server.stop = threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.stop.set()
        server.shutdown()


class TestWeb:
    @pytest.mark.parametrize(
        "name", ["whole.csv", "chunks_whole.csv", "chunks.whole", "mislabelled"]
    )
    def test_a_whole_file(self, shop, tmp_path, name):
        (file,) = web.download(f"{shop}/{name}", tmp_path / "new")
        assert (file.path.read_bytes(), file.name) == (CSV, name)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("short.csv", "got 24 bytes, expected 1000"),
            ("chunks.csv", "ended early"),
            ("stalled.csv", "stopped sending"),
            ("empty.csv", "empty"),
            ("private.csv", r"HTML page .the server led to .*/login\?…., perhaps a login"),
            ("login", "HTML page, perhaps"),
            ("forbidden.csv?signature=secret", "answers 403 .not allowed"),
            ("brotli.csv", "compressed as 'br'"),
        ],
    )
    def test_a_server_that_fails(self, shop, tmp_path, monkeypatch, name, message):
        monkeypatch.setattr(web, "TIMEOUT_S", 0.3)
        with pytest.raises(SourceError, match=message) as caught:
            web.download(f"{shop}/{name}", tmp_path)
        assert "secret" not in str(caught.value)
        assert not list(tmp_path.iterdir())

    def test_no_server(self, tmp_path):
        with pytest.raises(SourceError, match=r"^http://127.0.0.1:9/a.csv: cannot be fetched"):
            web.download("http://127.0.0.1:9/a.csv", tmp_path)

    def test_fingerprints(self, shop):
        def differs(name):
            return web.url_fingerprint(f"{shop}/{name}") != web.url_fingerprint(f"{shop}/{name}")

        assert not differs("whole.csv")
        assert differs("signed.csv"), "the server names no version"


def test_an_s3_address_without_a_server(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(SourceError, match="cannot be listed"):
        object_store.download("s3://shop/orders", tmp_path)
    with pytest.raises(SourceError, match="names no bucket"):
        object_store.download("s3:///orders", tmp_path)
