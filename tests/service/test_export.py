"""`fbt export` writes what the service answers: the same products, order, numbers."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bento.schemas.catalogue import CatalogueRequest, ProductChange
from bento.schemas.rules import RuleRequest, Scope
from bento.store.store import Store
from components.contracts import COMPANIONS, read_table
from components.model.bundle import read_bundle, write_bundle
from components.model.kind_limits import DEFAULT_LIMITS
from components.model.kinds import Kinds
from components.model.product_records import build_records
from components.model.token_index import build_token_index
from components.package.server import serve_bundle
from components.spark import spark_mapper, spark_session
from pipelines.export import Export, export, export_in_parallel, prepare_export
from tests.factories import COLD, PAIRS, make_bundle, random_bundle

IDS = [id_ for pair in PAIRS for id_ in pair]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A random model, with pairs, and products that it does not know."""
    folder = tmp_path_factory.mktemp("export")
    cold = read_bundle(make_bundle(folder / "pairs")).products.slice(len(IDS))
    assert cold["product_id"].to_pylist() == list(COLD)
    made = random_bundle(3, n_items=40)
    products = pa.concat_tables([made.products, cold])
    manifest = made.manifest.model_copy(
        update={"n_products": products.num_rows, "created_at": "2024-01-01T00:00:00+00:00"}
        | DEFAULT_LIMITS._asdict()
    )
    kinds = Kinds(np.arange(products.num_rows, dtype=np.int32) % 5)
    records, facets = build_records(products)
    lookups = {"records": records, "facets": facets, "token_index": build_token_index(products)}
    changed = replace(made, manifest=manifest, products=products, kinds=kinds, **lookups)
    write_bundle(changed, folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database with a rule of every kind, a new product, a deleted one, a dear one."""
    url = f"sqlite:///{tmp_path_factory.mktemp('database')}/fbt.db"
    store = Store(url)
    store.migrate()
    rules = [
        {"action": "pin", "target": Scope(product_id="p7"), "when": Scope(product_id="p1")},
        {"action": "block", "target": Scope(product_id="p3")},
        {"action": "boost", "target": Scope(category="a"), "factor": 10.0},
        {"action": "bury", "target": Scope(product_id="p0"), "factor": 5.0},
        {"action": "exempt", "target": Scope(category="b"), "when": Scope(category="a")},
        {
            "action": "block",
            "target": Scope(product_id="p8"),
            "ends_at": datetime(2020, 1, 1, tzinfo=UTC),
        },
    ]
    for rule in rules:
        store.add_rule(RuleRequest(**rule), "ann")
    changes = [
        ProductChange(product_id="new", name="New", category="a"),
        ProductChange(product_id="p2", price=1e6),
    ]
    store.change_products(CatalogueRequest(upsert=changes, delete=["p5"]))
    store.close()
    return url


def names_in(folder):
    return sorted(one.name for one in folder.iterdir())


def rows_of(file):
    """By product, its companions in order."""
    found = {}
    for row in pq.read_table(file).to_pylist():
        mine = found.setdefault(row.pop("product_id"), [])
        mine.append(row)
        assert row.pop("rank") == len(mine)
    return found


def answered(client, product_id, k):
    """The same as the service says it."""
    asked = {"items": [product_id], "k": k, "explain": True}
    for item in client.post("/recommend", json=asked).raise_for_status().json()["items"]:
        why = item.get("because_of") or {}
        yield {
            "companion_id": item["product_id"],
            "score": None if item["score"] is None else pytest.approx(item["score"], rel=1e-5),
            "source": item["source"],
            **{name: why.get(name) for name in ("support", "lift", "confidence")},
        }


@pytest.mark.parametrize("with_rules", [False, True], ids=["alone", "with rules and changes"])
def test_every_page_is_as_the_service_answers(bundle, database, with_rules, tmp_path):
    url = database if with_rules else None
    file = tmp_path / "companions.parquet"
    n_rows = export(prepare_export(bundle, 12, url), file, part=7)
    rows = rows_of(file)
    products = [*(f"p{row}" for row in range(40)), *COLD]
    if with_rules:
        products = [id_ for id_ in products if id_ != "p5"] + ["new"]
    assert list(rows) == products
    assert n_rows == sum(map(len, rows.values()))
    assert {"model"} < {row["source"] for some in rows.values() for row in some}
    settings = {"FBT_DATABASE_URL": url or "off"}
    with (
        serve_bundle(bundle, settings=settings) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        for product_id in products:
            assert rows[product_id] == list(answered(client, product_id, 12)), product_id
    if with_rules:
        assert rows["p1"][0]["companion_id"] == "p7"
        assert rows["p1"][0]["source"] == "pin"


def test_the_file_keeps_its_contract_a_row_group_a_part(bundle, tmp_path, capfd):
    file = tmp_path / "new folder" / "companions.parquet"
    export(prepare_export(bundle, 3), file, part=20)
    table = read_table(file, COMPANIONS)
    assert table["rank"].to_pylist()[:4] == [1, 2, 3, 1]
    assert pq.ParquetFile(file).num_row_groups == 3
    assert names_in(file.parent) == [file.name]
    assert "· 40 of 42 products\n· 42 of 42 products\n" in capfd.readouterr().out


def test_spark_writes_the_same(bundle, database, tmp_path):
    wanted = prepare_export(bundle, 5, database)
    export(wanted, tmp_path / "here.parquet", part=10)
    with spark_session("export") as session:
        n_rows = export_in_parallel(
            spark_mapper(session), wanted, tmp_path / "spark.parquet", part=10
        )
    here, spark = (pq.read_table(tmp_path / f"{one}.parquet") for one in ("here", "spark"))
    assert here.equals(spark)
    assert n_rows == here.num_rows
    assert names_in(tmp_path) == ["here.parquet", "spark.parquet"]


def test_what_fails_leaves_nothing_behind_and_what_was_there_stays(bundle, tmp_path):
    file = tmp_path / "companions.parquet"
    file.write_bytes(b"of yesterday")
    gone = Export(tmp_path / "no bundle", 5)
    for attempt in (
        lambda: export(gone, file),
        lambda: export_in_parallel(broken, Export(bundle), file),
    ):
        with pytest.raises((ValueError, OSError)):
            attempt()
    assert file.read_bytes() == b"of yesterday"
    assert names_in(tmp_path) == [file.name]


def broken(_work, _shared, _parts):
    yield "no such file.parquet"


@pytest.mark.parametrize("k", [0, 101])
def test_k_is_as_of_the_service(bundle, k):
    with pytest.raises(ValueError, match=f"k is {k}, expected 1 to 100"):
        prepare_export(bundle, k)


def fbt(home, *arguments, **more):
    env = {**os.environ, "FBT_HOME": str(home), **more}
    command = [sys.executable, "-m", "pipelines.cli", "export", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def test_the_command_takes_a_folder_and_the_database_of_the_environment(bundle, database, tmp_path):
    file = tmp_path / "companions.parquet"
    done = fbt(
        tmp_path / "home", "--bundle", bundle, "--to", file, "--k", 4, FBT_DATABASE_URL=database
    )
    assert done.returncode == 0, done.stderr
    rows = rows_of(file)
    assert rows["p1"][0]["source"] == "pin"
    assert f"{sum(map(len, rows.values())):,} rows in {file}" in done.stdout
    off = fbt(
        tmp_path / "home", "--bundle", bundle, "--to", file, "--rules", "off",
        FBT_DATABASE_URL=database,
    )  # fmt: skip
    assert off.returncode == 0, off.stderr
    assert "new" not in rows_of(file)


def test_limits_of_the_environment_count(bundle, tmp_path):
    def own_kinds(limit):
        file = tmp_path / f"{limit}.parquet"
        options = ("--bundle", bundle, "--to", file, "--k", 5, "--rules", "off")
        done = fbt(tmp_path / "home", *options, FBT_MAX_OWN_KIND=limit)
        assert done.returncode == 0, done.stderr
        rows = {id_: rows_of(file)[id_] for id_ in (f"p{row}" for row in range(40))}
        return sum(
            int(one["companion_id"][1:]) % 5 == int(id_[1:]) % 5
            for id_, found in rows.items()
            for one in found
        )

    assert own_kinds("-1") > own_kinds("") > own_kinds("0") == 0


def test_the_command_takes_a_version_of_the_registry(bundle, tmp_path, mlflow_url, monkeypatch):
    from components.registry.registry import CHALLENGER, VERDICT_TAG, register

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    version = register({"bundle": bundle}, {}, {}, {VERDICT_TAG: "passed"})
    for name in (version, CHALLENGER):
        file = tmp_path / f"{name}.parquet"
        done = fbt(tmp_path / "home", "--version", name, "--to", file)
        assert done.returncode == 0, done.stderr
        assert len(rows_of(file)) == 42
    assert names_in(tmp_path / "home" / "downloads") == []


def test_what_is_wrong_is_said_in_a_line(bundle, tmp_path):
    file = tmp_path / "companions.parquet"
    for arguments, words in (
        (("--bundle", tmp_path), "bundle"),
        (("--bundle", bundle, "--rules", "mysql://x/y"), "sqlite"),
    ):
        done = fbt(tmp_path / "home", *arguments, "--to", file)
        assert done.returncode == 1
        assert done.stderr.startswith("fbt: ")
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not file.exists()
