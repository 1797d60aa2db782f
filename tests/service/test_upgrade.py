"""Two releases: what one leaves is read by the next, and both work on one database for a while.

The next release is this one with one migration more.
"""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
from datetime import date
from pathlib import Path

import httpx
import pytest
from sqlalchemy import inspect, text

from bento.schemas.catalogue import CatalogueRequest, ProductChange
from bento.schemas.rule_history import RuleHistoryRequest
from bento.schemas.rules import RuleRequest, Scope
from bento.store import migrate as migration
from bento.store.database import Database
from bento.store.drafts import list_drafts
from bento.store.errors import StoreUnavailable
from bento.store.judgements import list_cases, read_judgements, read_lists, read_preferences
from bento.store.migrate import HEAD, VERSIONS, read_schema_version
from bento.store.rule_effects import read_rule_effects
from bento.store.store import Store
from bento.store.tables import VERSION_TABLE
from components.events.event import Event, EventItem
from components.events.open import open_sink
from components.package.bento import stage_source
from tests.factories import make_bundle
from tests.golden_database import GOLDEN
from tests.service.serving import TOKEN, served
from tests.service.test_store import until

RELEASED = sorted({file.name.partition(".")[0] for file in GOLDEN.iterdir()})
NEXT = f"{int(HEAD) + 1:04}"
NEXT_MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{NEXT}", "{HEAD}", None, None


def upgrade():
    op.create_table("fbt_next", sa.Column("id", sa.Text(), primary_key=True))
    op.add_column("fbt_rules", sa.Column("owner", sa.Text()))
    shop = sa.Column("shop", sa.Text(), nullable=False, server_default="main")
    op.add_column("fbt_product_changes", shop)
    op.create_index("fbt_rules_by_time", "fbt_rules", ["created_at"])
"""
ADMIN = {"Authorization": f"Bearer {TOKEN}", "X-Fbt-User": "ann"}
BLOCK = RuleRequest(action="block", target=Scope(brand="B"))


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request):
    return request.param


@pytest.fixture
def url(kind, tmp_path, request):
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/fbt.db"
    return request.getfixturevalue("postgres_server").new_database()


@pytest.fixture(params=RELEASED)
def released(request, kind, url):
    """A database as that release left it; the schema's version."""
    sql = (GOLDEN / f"{request.param}.{kind}.sql").read_text()
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
            database.executescript(sql)
    else:
        request.getfixturevalue("postgres_server").sql(sql, url.rpartition("/")[2])
    return request.param


@pytest.fixture
def store(url):
    with contextlib.closing(Store(url)) as made:
        yield made


def read_schema(store):
    with store.database.reading() as connection:
        return read_schema_version(connection)


def read_rows(database: Database):
    """Of every table but that of the version."""
    with database.reading() as connection:
        names = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
        return {
            name: [
                dict(row) for row in connection.execute(text(f"select * from {name}")).mappings()
            ]
            for name in names
        }


def write_next_migration(folder: Path):
    (folder / "versions" / f"v{NEXT}_next.py").write_text(NEXT_MIGRATION)


@pytest.fixture
def as_next(monkeypatch, tmp_path):
    """This process is the next release, within a block."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    for file in (VERSIONS / "versions").glob("v*.py"):
        (folder / "versions" / file.name).write_text(file.read_text())
    write_next_migration(folder)

    @contextlib.contextmanager
    def being_next():
        with monkeypatch.context() as patched:
            patched.setattr(migration, "HEAD", NEXT)
            patched.setattr(migration, "VERSIONS", folder)
            yield

    return being_next


def test_the_database_of_a_release_keeps_its_rows(released, store):
    before = read_rows(store.database)
    assert all(before[name] for name in ("fbt_rules", "fbt_rule_changes", "fbt_product_changes"))
    store.migrate()
    assert read_schema(store) == HEAD >= released
    after = read_rows(store.database)
    for name, rows in before.items():
        assert [{key: row[key] for key in rows[0]} for row in after[name]] == rows, name


def test_what_a_release_wrote_is_read(released, store, url):
    store.migrate()
    listed = store.rules()
    assert ([rule.action for rule in listed.rules], listed.malformed) == (["block", "pin"], [])
    assert listed.rules[0].note == "Ünïcode ☕"
    changes = store.rule_history(RuleHistoryRequest()).changes
    assert [one.action for one in changes] == ["delete", "add", "replace", "add", "add"]
    deleted = {one.product_id: one.deleted for one in store.read_delta().products}
    assert deleted == {"milk": False, "salt": True}
    with contextlib.closing(open_sink(url)) as sink:
        batch = sink.read()
    assert [one.event_id for one in batch.events] == ["e1", "e2"]
    assert batch.events[0].items == (EventItem("milk", 0, 1.0, 1.5), EventItem("jam", 1))
    assert [one.items for one in batch.recommendations] == [["milk", "jam"]]
    if released >= "0004":
        check_work_of_people(store)


def test_the_sinks_tables_are_those_of_every_release(released, store, kind, tmp_path, request):
    """They have no migrations."""
    fresh = f"sqlite:///{tmp_path}/fresh.db"
    if kind == "postgresql":
        fresh = request.getfixturevalue("postgres_server").new_database()
    open_sink(fresh).close()
    with contextlib.closing(Database(fresh)) as database:
        wanted = read_columns(database)
    found = read_columns(store.database)
    assert {name: found.get(name) for name in wanted} == wanted


def read_columns(database: Database):
    """By table, names and types."""
    with database.reading() as connection:
        tables = inspect(connection).get_multi_columns()
    return {
        name: [(column["name"], str(column["type"]), column["nullable"]) for column in columns]
        for (_schema, name), columns in tables.items()
    }


def check_work_of_people(store):
    (draft,) = list_drafts(store)
    assert draft.created_by == "ann"
    (case,) = list_cases(store)
    assert read_lists(store, case.case_id).shown == {"7": {"tea": "a1"}, "8": {"tea": "b2"}}
    assert [one.grade for one in read_judgements(store, case.case_id)] == [3]
    assert [one.preferred for one in read_preferences(store, case.case_id)] == ["a1"]
    assert [one.n_moved for one in read_rule_effects(store, date(2026, 1, 1)).values()] == [3]


def test_a_release_goes_on_after_the_next_has_migrated(store, as_next, caplog):
    store.migrate()
    first = store.add_rule(BLOCK, "ann")
    with as_next():
        store.migrate()
    assert read_schema(store) == NEXT
    store.migrate()
    assert read_schema(store) == NEXT
    assert f"{NEXT} is newer than this release's {HEAD}" in caplog.text
    second = store.add_rule(BLOCK, "bob")
    store.change_products(CatalogueRequest(upsert=[ProductChange(product_id="milk", name="M")]))
    assert [rule.rule_id for rule in store.rules().rules] == [first.rule_id, second.rule_id]
    assert store.read_delta().products[0].product_id == "milk"


def test_a_version_of_nobody_is_refused(store):
    store.migrate()
    with store.database.writing() as connection:
        connection.execute(text(f"update {VERSION_TABLE} set version_num = 'broken'"))
    with pytest.raises(StoreUnavailable, match="holds version 'broken', expected 0001 to"):
        store.migrate()


def test_events_of_the_next_release_are_read(url, monkeypatch):
    """Its fields are appended; the next one's are left out."""
    item = EventItem("milk", 0)
    event = Event("e1", "select_item", 1, 1, "anna", "r1", None, (item,))
    with contextlib.closing(open_sink(url)) as sink:
        with monkeypatch.context() as patched:
            longer = event._replace(items=((*item, "EUR"),))
            patched.setattr(Event, "to_json", lambda _: json.dumps([*longer, "phone"]))
            sink.write_events([event])
        assert sink.read().events == [event]


@pytest.fixture(scope="module")
def next_release(tmp_path_factory):
    """Its source."""
    folder = tmp_path_factory.mktemp("next") / "source"
    stage_source(folder)
    write_next_migration(folder / "bento" / "store" / "migrations")
    file = folder / "bento" / "store" / "migrate.py"
    file.write_text(file.read_text().replace(f'HEAD = "{HEAD}"', f'HEAD = "{NEXT}"'))
    return folder


@contextlib.contextmanager
def serve(bundle, url, **source):
    """A service that has read the database."""
    settings = {"database_url": url, "admin_token": TOKEN}
    with served(bundle, **settings, **source) as server:
        until(lambda: read_state(server) == "fresh", within_s=120)
        yield server


def read_state(server):
    answer = httpx.get(f"{server.url}/readyz", timeout=20)
    return answer.json()["details"]["database"]["state"]


def add_rule(server, product_id):
    rule = {"action": "block", "target": {"product_id": product_id}}
    answer = httpx.post(f"{server.url}/rules", headers=ADMIN, json=rule, timeout=20)
    assert answer.status_code == 201, answer.text


def list_blocked(server):
    rules = httpx.get(f"{server.url}/rules", headers=ADMIN, timeout=20).json()["rules"]
    return [rule["target"]["product_id"] for rule in rules]


def test_services_of_two_releases_share_a_database(postgres_server, tmp_path, next_release):
    """As while a canary of the next release runs, and after it was taken back."""
    url, bundle = postgres_server.new_database(), make_bundle(tmp_path / "bundle")
    with contextlib.closing(Store(url)) as store, serve(bundle, url) as stable:
        add_rule(stable, "tea")
        assert read_schema(store) == HEAD
        with serve(bundle, url, root=next_release, service="bento.service:Fbt") as canary:
            assert read_schema(store) == NEXT
            add_rule(canary, "milk")
            add_rule(stable, "salt")
            assert list_blocked(stable) == list_blocked(canary) == ["tea", "milk", "salt"]
    with serve(bundle, url) as back:
        assert list_blocked(back) == ["tea", "milk", "salt"]
        assert f"newer than this release's {HEAD}" in back.log.read_text()


GUIDE = Path(__file__).parents[2] / "k8s" / "UPGRADE.md"
IN_THE_POD = """
set -eu
kubectl() {
  case " $* " in *" -- "*) ;; *) return ;; esac
  while [ "$1" != -- ]; do shift; done
  shift
  "$@"
}
"""
"""What a command in the pod does, done here."""


def run_guide(server, folder, containing):
    """The blocks of the guide with such a command."""
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.S)
    (block,) = [one for one in blocks if containing in one]
    address = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port)}
    subprocess.run(
        ["bash", "-c", IN_THE_POD + block], check=True, cwd=folder, env={**os.environ, **address}
    )


@pytest.fixture
def stores_of_cluster(postgres_server):
    """Roles and databases as in platform/stores; they go with the test."""
    made = ("mlflow", "fbt", "mlflow_restored", "fbt_restored")
    for statement in (
        "create role mlflow superuser login",
        "create role fbt login",
        "create database mlflow owner mlflow",
        "create database fbt owner fbt",
    ):
        postgres_server.sql(statement)
    yield postgres_server
    for name in made:
        postgres_server.sql(f"drop database if exists {name} with (force)")
    postgres_server.sql("drop role fbt; drop role mlflow")


def test_the_guides_dumps_are_restored_beside(stores_of_cluster, tmp_path):
    server = stores_of_cluster
    ours = f"postgresql://fbt@127.0.0.1:{server.port}"
    server.sql(
        "create table experiments (name text); insert into experiments values ('Default')", "mlflow"
    )
    with contextlib.closing(Store(f"{ours}/fbt")) as store:
        store.migrate()
        rule = store.add_rule(BLOCK, "ann")
    run_guide(server, tmp_path, ">mlflow.dump")
    server.sql("alter table experiments rename to runs", "mlflow")
    run_guide(server, tmp_path, "<mlflow.dump")
    server.sql("insert into experiments select name from experiments", "mlflow_restored")
    run_guide(server, tmp_path, "<fbt.dump")
    with contextlib.closing(Store(f"{ours}/fbt_restored")) as store:
        store.migrate()
        assert store.rules().rules == [rule]
        assert store.add_rule(BLOCK, "ann").rule_id
