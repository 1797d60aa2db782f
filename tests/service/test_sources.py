"""Order lines from real servers: an S3 server over HTTP, and PostgreSQL by JDBC."""

import io
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from components.contracts import ORDER_LINES, PRODUCTS, QUARANTINE, read_table
from components.orders.clean import OrderSettings, clean_orders
from components.sources.database import hide_credentials
from components.sources.errors import SourceError
from components.sources.source import fingerprint, read_source
from components.sources.understand import ReadSettings
from components.spark import POSTGRES_JAR, spark_session
from tests.postgres import find_free_port

SOON_S = 60
"""Well before a server's retries would be over."""
LINES = "order_id,product_id,quantity\n1,0042,2\n1,milk,1\n"
TABLE = """
create table lines (
    id bigserial, order_id numeric, product_id text, quantity numeric(10, 3), price numeric(12, 2),
    placed timestamp, paid timestamptz
);
insert into lines (order_id, product_id, quantity, price, placed, paid) values
    (10, '0042', 2, 3.50, '2024-07-01 23:30', '2024-07-01 23:30+02'),
    (10, 'milk', 1.5, 0.99, '2024-07-01 23:30', '2024-07-01 23:30+02'),
    (11, 'milk', -1, null, '2024-07-02 08:00', null);
create sequence served;
"""


@pytest.fixture
def clean(tmp_path):
    """Calls share one place for what they write, as the tries of a step do."""

    def call(orders, **settings):
        paths = [tmp_path / "the step" / name for name in ("lines", "quarantine", "products")]
        counts = clean_orders(orders, "", OrderSettings(**settings), *paths).counts
        contracts = (ORDER_LINES, QUARANTINE, PRODUCTS)
        return counts, *[
            read_table(p, c).to_pylist() for p, c in zip(paths, contracts, strict=True)
        ]

    return call


@pytest.fixture(scope="module")
def s3():
    """A client of an S3 server that has one bucket, `shop`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        environment.setenv("AWS_ACCESS_KEY_ID", "key")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environment.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        client = boto3.client("s3")
        client.create_bucket(
            Bucket="shop", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        yield client
    server.stop()


def parquet(order_id):
    file = io.BytesIO()
    pq.write_table(pa.table({"order_id": [order_id] * 2, "product_id": ["tea", "milk"]}), file)
    return file.getvalue()


class TestS3:
    def test_a_csv_object(self, s3, clean):
        s3.put_object(Bucket="shop", Key="order lines/2024 #1.csv", Body=LINES.encode())
        counts, lines, _, _ = clean("s3://shop/order lines/2024 #1.csv")
        assert counts["lines_kept"] == 2
        assert {(line["product_id"], line["quantity"]) for line in lines} == {
            ("0042", 2.0),
            ("milk", 1.0),
        }

    def test_a_folder_of_parquet_parts(self, s3, clean):
        for day in "12":
            key = f"days/day={day}/part.parquet"
            s3.put_object(Bucket="shop", Key=key, Body=parquet(day))
        s3.put_object(Bucket="shop", Key="days/_committed", Body=b"no order lines")
        s3.put_object(Bucket="shop", Key="days-of-others/part.parquet", Body=parquet("3"))
        for source in ("s3://shop/days", "s3://shop/days/"):
            counts, lines, _, _ = clean(source)
            assert counts["lines_read"] == 4
            assert {line["order_id"] for line in lines} == {"1", "2"}

    def test_executors_read_typed_parquet_themselves(self, s3, tmp_path, monkeypatch):
        """Reading by s3a:// itself is in no test: hadoop-aws and what it needs are 690 MB."""
        for day in "12":
            s3.put_object(Bucket="shop", Key=f"typed/part-{day}.parquet", Body=parquet(day))
        monkeypatch.setenv("FBT_SPARK_S3A", "true")
        read = read_source("s3://shop/typed", "orders", ReadSettings(), tmp_path)
        assert [one.address for one in read.plain] == [
            f"s3a://shop/typed/part-{day}.parquet" for day in "12"
        ]
        assert not read.parts
        assert [file.columns["product_id"].theirs for file in read.reading.files] == [
            ("product_id",)
        ] * 2

    def test_other_objects_are_fetched(self, s3, tmp_path, monkeypatch):
        s3.put_object(Bucket="shop", Key="mixed/1.parquet", Body=parquet("1"))
        s3.put_object(Bucket="shop", Key="mixed/2.csv", Body=LINES.encode())
        monkeypatch.setenv("FBT_SPARK_S3A", "true")
        read = read_source("s3://shop/mixed", "orders", ReadSettings(), tmp_path)
        assert (len(read.plain), len(read.parts)) == (1, 1)

    def test_a_second_try_sees_only_what_is_there_now(self, s3, clean):
        for name in ("a", "b"):
            s3.put_object(Bucket="shop", Key=f"now/{name}.csv", Body=LINES.encode())
        assert clean("s3://shop/now")[0]["lines_read"] == 4
        s3.delete_object(Bucket="shop", Key="now/b.csv")
        assert clean("s3://shop/now")[0]["lines_read"] == 2

    def test_the_fingerprint_follows_the_object(self, s3):
        s3.put_object(Bucket="shop", Key="changing/orders.csv", Body=LINES.encode())
        sources = ("s3://shop/changing/orders.csv", "s3://shop/changing")
        first = [fingerprint(source) for source in sources]
        assert [fingerprint(source) for source in sources] == first
        s3.put_object(Bucket="shop", Key="changing/orders.csv", Body=LINES.encode() + b"2,tea,1\n")
        assert all(fingerprint(one) != old for one, old in zip(sources, first, strict=True))

    @pytest.mark.parametrize("source", ["s3://shop/absent.csv", "s3://absent/orders.csv"])
    def test_nothing_there(self, s3, clean, source):
        with pytest.raises(SourceError, match=f"{source}: no such bucket or object"):
            fingerprint(source)
        with pytest.raises(SourceError, match=f"{source}: no such bucket or object"):
            clean(source)

    def test_no_bucket(self):
        with pytest.raises(SourceError, match="s3://: names no bucket"):
            fingerprint("s3://")

    def test_no_server(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{find_free_port()}")
        started = time.monotonic()
        with pytest.raises(SourceError, match=r"s3://shop/orders\.csv: cannot be listed .*connect"):
            fingerprint("s3://shop/orders.csv")
        assert time.monotonic() - started < SOON_S


@pytest.fixture(scope="module")
def shop(request):
    """The JDBC address of a PostgreSQL that has the table `lines`."""
    if not (os.environ.get("FBT_SPARK_JARS") or Path(POSTGRES_JAR).exists()):
        pytest.skip("no JDBC driver of PostgreSQL (Debian: libpostgresql-jdbc-java)")
    server = request.getfixturevalue("postgres_server")
    server.sql(TABLE)
    return f"jdbc:postgresql://127.0.0.1:{server.port}/postgres?user=shop&password=geheim"


@pytest.fixture
def elsewhere():
    """Java thinks that this machine is in New York."""
    with spark_session("test") as spark:
        zones = spark.sparkContext._jvm.java.util.TimeZone
    before = zones.getDefault()
    zones.setDefault(zones.getTimeZone("America/New_York"))
    yield
    zones.setDefault(before)


class TestJdbc:
    def test_typed_columns(self, shop, clean):
        counts, lines, quarantine, _ = clean(f"{shop}|select * from lines;", columns="ts=placed")
        assert (counts["lines_read"], counts["lines_kept"]) == (3, 2)
        found = {line["product_id"]: line for line in lines}
        assert found["0042"]["order_id"] == "10"
        assert [found[one]["quantity"] for one in ("0042", "milk")] == [2.0, 1.5]
        assert [found[one]["price"] for one in ("0042", "milk")] == [3.5, 0.99]
        assert [(row["reason"], row["quantity"]) for row in quarantine] == [
            ("quantity not positive", "-1")
        ]

    @pytest.mark.parametrize(("column", "hour"), [("placed", 23), ("paid", 21)])
    def test_timestamps_do_not_depend_on_the_machine(self, shop, clean, elsewhere, column, hour):
        _, lines, _, _ = clean(f"{shop}|select * from lines", columns=f"ts={column}")
        assert {line["ts"] for line in lines} == {datetime(2024, 7, 1, hour, 30, tzinfo=UTC)}

    def test_a_query_is_run_once(self, shop, clean):
        query = "select nextval('served') as order_id, 'a' || id as product_id from lines"
        _, lines, _, products = clean(f"{shop}|{query}")
        assert {line["order_id"] for line in lines} == {"1", "2", "3"}
        assert {card["product_id"] for card in products} == {"a1", "a2", "a3"}

    @pytest.mark.parametrize(
        ("query", "reason"),
        [
            ("select * from absent", 'relation "absent" does not exist'),
            ("select 1 / (order_id - 10) as order_id from lines", "division by zero"),
        ],
    )
    def test_a_wrong_query(self, shop, clean, query, reason):
        with pytest.raises(SourceError, match=f"127.0.0.1.*query failed .*{reason}") as caught:
            clean(f"{shop}|{query}")
        assert "geheim" not in str(caught.value)

    def test_no_server(self, shop, clean):
        port = find_free_port()
        address = f"jdbc:postgresql://127.0.0.1:{port}/shop?user=shop&password=geheim"
        started = time.monotonic()
        with pytest.raises(SourceError, match=rf"{port}/shop: .*{port} refused") as caught:
            clean(f"{address}|select 1")
        assert time.monotonic() - started < SOON_S
        assert "geheim" not in str(caught.value)

    def test_no_driver(self, clean):
        with pytest.raises(SourceError, match=r"jdbc:absent://db/shop: no driver.*FBT_SPARK_JARS"):
            clean("jdbc:absent://db/shop?password=geheim|select 1")

    def test_no_query(self, clean):
        with pytest.raises(SourceError, match=r"jdbc:postgresql://db/shop: .* needs its query"):
            clean("jdbc:postgresql://db/shop?password=geheim")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("jdbc:postgresql://db:1/shop?user=a@b&password=x|select 1", "jdbc:postgresql://db:1/shop"),
        ("jdbc:postgresql://me:x@db/shop|select '@'", "jdbc:postgresql://db/shop"),
        ("jdbc:sqlserver://db:1;user=me;password=x|select 1", "jdbc:sqlserver://db:1"),
        ("jdbc:oracle:thin:me/x@//db:1/shop|select 1", "jdbc:oracle:thin://db:1/shop"),
        ("s3://shop/a?b.csv", "s3://shop/a?b.csv"),
    ],
)
def test_what_is_shown_of_a_source(source, text):
    assert hide_credentials(source) == text
