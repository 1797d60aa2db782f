"""Rules and catalogue changes in SQLite and in a real PostgreSQL: the same tests on both."""

import asyncio
import contextlib
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from bento.endpoints import find_user
from bento.http.errors import HttpError
from bento.schemas.catalogue import CatalogueRequest, ChangedProduct, ProductChange
from bento.schemas.rule_history import RuleHistoryRequest
from bento.schemas.rules import RuleRequest, Scope
from bento.store.async_store import AsyncStore
from bento.store.database import Database
from bento.store.errors import RuleUnknown, StoreUnavailable, TooManyRules
from bento.store.migrate import HEAD, VERSIONS, migrate, read_schema_version
from bento.store.poller import ChangePoller, store_url
from bento.store.store import Store
from bento.store.tables import METADATA, VERSION_TABLE
from components.package.bento import stage_source
from tests.postgres import find_free_port, postgres

BLOCK = RuleRequest(action="block", target=Scope(brand="B"))
PAIR = RuleRequest(
    action="pin",
    target=Scope(product_id="milk"),
    when=Scope(product_id="tea"),
    position=2,
    ends_at=datetime(2999, 1, 1, tzinfo=UTC),
    note="Ünïcode ☕",
)
PASSWORD = "ge/heim%@"
ENCODED = "ge%2Fheim%25%40"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of a database of the test's own, without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/100% fbt/fbt.db"
    return request.getfixturevalue("postgres_server").new_database(ENCODED)


@pytest.fixture
def store(url):
    with closing(Store(url)) as made:
        made.migrate()
        yield made


closing = contextlib.closing


def change(upsert=(), delete=()):
    return CatalogueRequest(upsert=list(upsert), delete=list(delete))


def product(product_id, **fields):
    return ProductChange(product_id=product_id, **fields)


class Shown:
    """What a process that serves has been handed."""

    def __init__(self):
        self.rules, self.products, self.calls, self.stale_s = None, {}, 0, []

    def poller(self, url, **options):
        made = ChangePoller(
            url, self.on_products, self.on_rules, on_stale=self.stale_s.append, **options
        )
        return made.start()

    def on_products(self, products):
        self.calls += 1
        self.products |= {one.product_id: one for one in products}

    def on_rules(self, rules):
        self.calls += 1
        self.rules = rules

    def blocks(self, **product):
        if self.rules is None:
            return False
        blocked = self.rules.global_effects(datetime.now(UTC)).blocked
        return any(name in blocked[kind] for kind, name in product.items())


@pytest.fixture
def lives():
    """Starts threads that end with the test."""
    with contextlib.ExitStack() as stack:

        def start(shown, url, **options):
            poller = shown.poller(url, **options)
            stack.callback(poller.stop)
            return poller

        yield start


def until(condition, within_s=5.0):
    """Seconds until the condition held; fails where it does not in time."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, "in vain"
        time.sleep(0.02)
    return time.monotonic() - started


class TestRules:
    def test_a_rule_is_kept_as_it_was_written(self, store):
        rule = store.add_rule(PAIR, "ann")
        assert store.rule(rule.rule_id) == rule
        assert store.rules().rules == [rule]
        assert (rule.created_by, rule.note, rule.when) == ("ann", PAIR.note, PAIR.when)

    def test_replacing_keeps_whose_rule_it_was(self, store):
        first = store.add_rule(PAIR, "ann")
        second = store.replace_rule(first.rule_id, BLOCK, "bob")
        assert store.rules().rules == [second]
        assert (second.created_by, second.created_at) == ("ann", first.created_at)
        assert second.updated_at > first.updated_at
        assert (second.action, second.when, second.note) == ("block", None, "")

    def test_deleting(self, store):
        rule = store.add_rule(BLOCK, "ann")
        store.delete_rule(rule.rule_id, "bob")
        assert store.rules().rules == []

    @pytest.mark.parametrize("rule_id", ["absent", "", "'; drop table fbt_rules", "☕" * 300])
    def test_an_unknown_rule(self, store, rule_id):
        revision = store.rules().revision
        for call in (
            lambda: store.rule(rule_id),
            lambda: store.replace_rule(rule_id, BLOCK, "ann"),
            lambda: store.delete_rule(rule_id, "ann"),
        ):
            with pytest.raises(RuleUnknown):
                call()
        assert store.rules().revision == revision

    def test_the_audit_trail_lists_who_changed_what_when(self, store):
        rule_id = store.add_rule(PAIR, "ann").rule_id
        store.replace_rule(rule_id, BLOCK, "bob")
        store.delete_rule(rule_id, "eve")
        trail = store.rule_history(RuleHistoryRequest()).changes
        assert [(change.changed_by, change.action) for change in trail] == [
            ("eve", "delete"),
            ("bob", "replace"),
            ("ann", "add"),
        ]
        assert {change.rule_id for change in trail} == {rule_id}
        block = {"action": "block", "target": {"brand": "B"}, "note": ""}
        assert (trail[0].before, trail[0].after) == (block, None)
        assert trail[1].before == trail[2].after
        assert trail[1].after == block
        assert trail[2].before is None
        assert all(change.changed_at.utcoffset() is not None for change in trail)

    def test_the_audit_trail_comes_in_pages(self, store):
        for user in "abcde":
            store.add_rule(PAIR, user)
        pages, before = [], None
        while changes := store.rule_history(RuleHistoryRequest(limit=2, before=before)).changes:
            pages.append("".join(change.changed_by for change in changes))
            before = changes[-1].revision
        assert pages == ["ed", "cb", "a"]

    def test_there_is_an_end_to_how_many(self, store, monkeypatch):
        monkeypatch.setattr("bento.store.rule_rows.MAX_RULES", 2)
        store.add_rule(BLOCK, "ann")
        store.add_rule(BLOCK, "ann")
        with pytest.raises(TooManyRules, match="2 already"):
            store.add_rule(BLOCK, "ann")

    @pytest.mark.parametrize(
        "body",
        [
            '{"action": "block"}',
            "[]",
            '{"action": "block", "target": {"shelf": "1"}}',
            '{"action": "of a later release", "target": {"brand": "B"}}',
            '{"action": "set", "settings": {"of_a_later_release": 1}}',
        ],
    )
    def test_a_rule_that_cannot_be_read_harms_no_other(self, store, url, lives, body):
        good, bad = store.add_rule(BLOCK, "ann"), store.add_rule(PAIR, "ann")
        with store.database.writing() as connection:
            statement = "update fbt_rules set body = :body where rule_id = :rule_id"
            connection.execute(text(statement), {"body": body, "rule_id": bad.rule_id})
        listed = store.rules()
        assert (listed.rules, listed.malformed) == ([good], [bad.rule_id])
        with pytest.raises(RuleUnknown, match="cannot read"):
            store.rule(bad.rule_id)
        shown = Shown()
        poller = lives(shown, url)
        assert poller.wait(5)
        assert shown.blocks(brand="B")
        assert poller.status()["malformed_rules"] == [bad.rule_id]
        store.delete_rule(bad.rule_id, "ann")
        assert store.rules().malformed == []


class TestProducts:
    def test_patches_add_up_field_by_field(self, store):
        store.change_products(change([product("tea", name="Tea", price=2.0)]))
        store.change_products(change([product("tea", price=None, in_stock=False)]))
        (found,) = store.read_delta().products
        assert found == ChangedProduct("tea", {"name": "Tea", "price": None, "in_stock": False})

    def test_within_one_request_the_later_wins(self, store):
        twice = [product("tea", price=1.0, brand="B"), product("tea", price=2.0)]
        assert store.change_products(change(twice)).upserted == 1
        (found,) = store.read_delta().products
        assert found.card == {"price": 2.0, "brand": "B"}

    def test_every_field_comes_back(self, store):
        fields = {
            "name": "Tëa ☕",
            "category": "c",
            "brand": "b",
            "price": 0.1,
            "image_url": "https://shop/x.png",
            "in_stock": True,
            "margin": -1.5,
            "attributes": {"größe": "XL"},
        }
        added = datetime(2026, 1, 1, tzinfo=UTC)
        store.change_products(change([product("tea", **fields, added_at=added)]))
        (found,) = store.read_delta().products
        assert found.card == {**fields, "added_at": "2026-01-01T00:00:00Z"}

    def test_deleted_until_upserted_again(self, store):
        store.change_products(change([product("tea", price=1.0)]))
        answer = store.change_products(change(delete=["tea", "never seen"]))
        assert (answer.upserted, answer.deleted) == (0, 2)
        found = {one.product_id: one for one in store.read_delta().products}
        assert all(one.deleted for one in found.values())
        store.change_products(change([product("tea")]))
        found = {one.product_id: one for one in store.read_delta().products}
        assert found["tea"] == ChangedProduct("tea", {"price": 1.0})

    def test_what_changes_nothing_is_not_handed_on_again(self, store):
        same = change([product("tea", price=1.0)], delete=["gin"])
        store.change_products(same)
        since = store.read_delta().revision
        answer = store.change_products(same)
        assert (answer.upserted, answer.deleted, answer.unchanged) == (0, 0, 2)
        assert store.read_delta(since).products == []

    @pytest.mark.parametrize(
        "product_id", ["ﬁ", "e\u0301", "\u202e", "🍵" * 256, "' or 1=1", "%s :x"]
    )
    def test_ids_are_taken_as_they_are(self, store, product_id):
        store.change_products(change([product(product_id, name=product_id)]))
        (found,) = store.read_delta().products
        assert found == ChangedProduct(product_id, {"name": product_id})

    def test_ten_thousand_at_once(self, store):
        many = [product(f"p{i}", name="n" * 50, price=1.0, in_stock=True) for i in range(10_000)]
        some = [f"d{i}" for i in range(10_000)]
        answer = store.change_products(change(many, some))
        assert (answer.upserted, answer.deleted) == (10_000, 10_000)
        assert store.change_products(change(many, some)).unchanged == 20_000

    def test_many_come_in_parts_that_tear_no_revision_apart(self, store):
        for number in range(6):
            store.change_products(change([product(f"{number}{letter}") for letter in "abc"]))
        parts, since, more = [], None, True
        while more:
            changes = store.read_delta(since, at_least=4)
            since, more = changes.revision, changes.more
            parts.append(sorted(one.product_id for one in changes.products))
        assert [len(part) for part in parts] == [6, 6, 6]
        assert parts[0] == ["0a", "0b", "0c", "1a", "1b", "1c"]
        assert store.read_delta(since).products == []


class TestRevisions:
    def test_rules_come_only_when_one_changed(self, store):
        store.add_rule(BLOCK, "ann")
        first = store.read_delta()
        assert len(first.rules) == 1
        store.change_products(change([product("tea")]))
        second = store.read_delta(first.revision)
        assert (second.rules, len(second.products)) == (None, 1)
        store.delete_rule(first.rules[0].rule_id, "ann")
        third = store.read_delta(second.revision)
        assert (third.rules, third.products) == ([], [])
        assert store.read_delta(third.revision) == third._replace(rules=None)

    def test_a_reader_misses_nothing_of_concurrent_writers(self, store, url):
        """Polls while four write; what it adds up must be what is there in the end."""
        seen, revisions, done = {}, [], threading.Event()

        def write(writer):
            with closing(Store(url, timeout_s=30)) as own:
                return [
                    own.change_products(
                        change([product(f"p{(writer * 7 + i) % 10}", price=writer * 100.0 + i)])
                    ).revision
                    for i in range(25)
                ]

        def read():
            since, last_round = None, False
            with closing(Store(url)) as own:
                while True:
                    changes = own.read_delta(since)
                    since = changes.revision
                    revisions.append(since.value)
                    seen.update({one.product_id: one for one in changes.products})
                    if last_round:
                        return
                    last_round = done.is_set()

        with ThreadPoolExecutor(5) as threads:
            reader = threads.submit(read)
            written = [r for one in threads.map(write, range(4)) for r in one]
            done.set()
            reader.result()
        assert sorted(written) == list(range(1, 101))
        assert revisions == sorted(revisions)
        assert seen == {one.product_id: one for one in store.read_delta().products}
        assert len(seen) == 10

    def test_no_revision_overtakes_another(self, store, url):
        """A writer that has its revision and has not yet committed holds up the next one."""
        since = store.read_delta().revision
        with closing(Store(url, timeout_s=30)) as other, ThreadPoolExecutor(1) as threads:
            with store._writing(rules=False) as (connection, revision):
                later = threads.submit(other.change_products, change([product("milk")]))
                time.sleep(0.3)
                assert not later.done()
                with closing(Store(url)) as reader:
                    assert reader.read_delta(since).revision == since
                store._write_cards(connection, revision, {"tea": ({}, False)})
            assert later.result().revision == revision + 1
        found = store.read_delta(since)
        assert {one.product_id for one in found.products} == {"tea", "milk"}

    def test_a_write_that_fails_leaves_nothing(self, store):
        before = store.read_delta().revision

        def fail():
            with store._writing(rules=True) as (connection, revision):
                store._write_cards(connection, revision, {"tea": ({}, False)})
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert store.read_delta().revision == before
        assert store.read_delta().products == []


class TestMigrations:
    def test_migrating_makes_the_tables_once(self, url):
        from sqlalchemy import inspect

        database = Database(url)
        for _ in range(2):
            migrate(database)
            with database.reading() as connection:
                found = set(inspect(connection).get_table_names())
                assert found == {*METADATA.tables, VERSION_TABLE}
        database.close()

    def test_migrations_make_what_the_tables_say(self, store):
        from alembic.autogenerate import compare_metadata
        from alembic.runtime.migration import MigrationContext

        with store.database.reading() as connection:
            options = {"compare_type": True, "version_table": VERSION_TABLE}
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, METADATA) == []

    def test_the_newest_version_is_known(self):
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(VERSIONS))
        assert ScriptDirectory.from_config(config).get_heads() == [HEAD]

    def test_processes_that_start_together_do_not_fight(self, url):
        code = "import sys; from bento.store.store import Store; Store(sys.argv[1]).migrate()"
        racing = [
            subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        assert [(one.communicate(timeout=60)[1], one.returncode) for one in racing] == [("", 0)] * 4
        with closing(Store(url)) as store:
            assert store.add_rule(BLOCK, "ann").rule_id

    def test_threads_that_start_together_do_not_fight(self, url):
        stores = [Store(url) for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(Store.migrate, stores))
        assert stores[0].rules().revision == 0
        for store in stores:
            store.close()

    def test_a_newer_schema_is_left_alone(self, store):
        with store.database.writing() as connection:
            connection.execute(text(f"update {VERSION_TABLE} set version_num = '9999'"))
        store.migrate()
        with store.database.reading() as connection:
            assert read_schema_version(connection) == "9999"
        assert store.add_rule(BLOCK, "ann").rule_id

    def test_tables_of_others_are_left_alone(self, url):
        database = Database(url)
        database.prepare_file()
        with database.writing() as connection:
            connection.execute(text("create table alembic_version (version_num varchar(32))"))
            connection.execute(text("insert into alembic_version values ('mlflow')"))
        migrate(database)
        with database.reading() as connection:
            assert connection.scalar(text("select version_num from alembic_version")) == "mlflow"
        database.close()

    def test_the_staged_source_migrates(self, tmp_path, url):
        """As it lies in a Bento: alone, without this source tree."""
        stage_source(tmp_path / "staged")
        code = (
            "import sys; sys.path.insert(0, sys.argv[2]); from bento.store import store as staged\n"
            "assert staged.__file__.startswith(sys.argv[2]), staged.__file__\n"
            "store = staged.Store(sys.argv[1]); store.migrate()\n"
            "print(store.read_delta().revision.value)"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, url, str(tmp_path / "staged")],
            capture_output=True, text=True, cwd="/", check=False,
        )  # fmt: skip
        assert done.stdout == "0\n", done.stderr


class TestLive:
    def test_every_process_has_a_saved_rule_within_seconds(self, store, url, lives):
        shown = [Shown(), Shown()]
        started = [lives(one, url) for one in shown]
        assert all(one.wait(5) for one in started)
        assert not any(one.blocks(brand="B") for one in shown)
        store.add_rule(BLOCK, "ann")
        store.change_products(change([product("tea", price=1.0)], delete=["gin"]))
        until(lambda: all(one.blocks(brand="B") for one in shown), within_s=2.5)
        expected = {
            "tea": ChangedProduct("tea", {"price": 1.0}),
            "gin": ChangedProduct("gin", {}, True),
        }
        until(lambda: all(one.products == expected for one in shown), within_s=2.5)

    def test_without_news_nobody_is_called(self, store, url, lives):
        store.add_rule(BLOCK, "ann")
        shown = Shown()
        poller = lives(shown, url, interval_s=0.05)
        assert poller.wait(5)
        calls = shown.calls
        time.sleep(0.5)
        assert shown.calls == calls == 1
        assert poller.status() == {
            "state": "fresh",
            "epoch": store.revision().epoch,
            "revision": 1,
            "seconds_since_contact": pytest.approx(0, abs=1),
            "error": None,
            "malformed_rules": [],
        }
        assert set(shown.stale_s) == {0.0}

    def test_refresh_looks_at_once(self, store, url, lives):
        shown = Shown()
        poller = lives(shown, url, interval_s=60)
        assert poller.wait(5)
        store.add_rule(BLOCK, "ann")
        poller.refresh()
        assert until(lambda: shown.blocks(brand="B")) < 1

    def test_it_migrates(self, url, lives):
        poller = lives(Shown(), url)
        assert poller.wait(10)
        assert poller.store.rules().rules == []

    def test_what_a_callback_could_not_take_comes_again(self, store, url, lives):
        store.add_rule(BLOCK, "ann")
        shown, tries = Shown(), []

        def on_rules(rules):
            tries.append(rules)
            if len(tries) == 1:
                raise RuntimeError("not now")
            Shown.on_rules(shown, rules)

        shown.on_rules = on_rules
        poller = lives(shown, url, interval_s=0.1)
        until(lambda: len(tries) == 1)
        assert poller.wait(5)
        assert shown.blocks(brand="B")
        assert poller.status()["state"] == "fresh"

    def test_another_database_takes_back_what_the_first_one_said(self, store, url, lives):
        store.add_rule(BLOCK, "ann")
        store.change_products(change([product("tea", price=1.0)]))
        shown = Shown()
        assert lives(shown, url, interval_s=0.1).wait(5)
        with store.database.writing() as connection:
            METADATA.drop_all(connection)
            connection.execute(text(f"drop table {VERSION_TABLE}"))
        store.migrate()
        store.change_products(change([product("milk", price=2.0)]))
        until(lambda: shown.products["tea"] == ChangedProduct("tea", {}))
        until(lambda: "milk" in shown.products)
        assert shown.products["milk"] == ChangedProduct("milk", {"price": 2.0})
        assert not shown.blocks(brand="B")

    def test_a_lost_table_is_said_and_what_was_read_stays(self, store, url, lives):
        store.add_rule(BLOCK, "ann")
        shown = Shown()
        poller = lives(shown, url, interval_s=0.1)
        assert poller.wait(5)
        with store.database.writing() as connection:
            connection.execute(text("delete from fbt_revision"))
        until(lambda: poller.status()["state"] == "stale")
        assert "fbt_revision" in poller.status()["error"]
        assert shown.blocks(brand="B")
        assert poller.stale_s() >= 0
        until(lambda: shown.stale_s[-1] > 0)

    def test_stop_ends_the_thread(self, store, url):
        poller = Shown().poller(url, interval_s=60)
        assert poller.wait(5)
        poller.stop()
        assert not poller._thread.is_alive()


class TestPostgresGone:
    @pytest.fixture(scope="class")
    def server(self):
        """Of this class alone: it is stopped in between."""
        with postgres() as made:
            yield made

    def test_last_known_rules_stay_and_news_come_after_it_is_back(self, server, lives, caplog):
        url, shown = server.url(password=ENCODED), Shown()
        poller = lives(shown, url, interval_s=0.2)
        assert poller.wait(10)
        poller.store.add_rule(BLOCK, "ann")
        until(lambda: shown.blocks(brand="B"))
        server.stop()
        try:
            until(lambda: poller.status()["state"] == "stale")
            assert shown.blocks(brand="B")
            with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1") as caught:
                poller.store.rules()
            until(lambda: shown.stale_s[-1] > 0.5)
        finally:
            server.start()
        poller.store.add_rule(RuleRequest(action="block", target=Scope(brand="C")), "ann")
        until(lambda: shown.blocks(brand="C"))
        assert shown.stale_s[-1] == 0 == poller.stale_s()
        assert poller.status()["state"] == "fresh"
        said = f"{caught.value} {caplog.text}"
        assert PASSWORD not in said
        assert ENCODED not in said

    def test_a_server_that_hangs(self, server, lives, monkeypatch):
        monkeypatch.setattr("bento.store.async_store.TIMEOUT_S", 0.5)
        monkeypatch.setattr("bento.store.poller.STALE_AFTER_S", 1.0)
        shown = Shown()
        poller = lives(shown, server.url(), interval_s=0.2)
        assert poller.wait(10)
        poller.store.add_rule(BLOCK, "ann")
        until(lambda: shown.blocks(brand="B"))
        with server.frozen():
            with pytest.raises(HttpError) as caught:
                asyncio.run(AsyncStore(poller).read(lambda store: store.rules()))
            assert caught.value.problem.status == 503
            assert "no answer in" in caught.value.problem.detail
            until(lambda: poller.status()["state"] == "stale")
            assert poller.stale_s() > 1
            assert shown.blocks(brand="B")
        until(lambda: poller.status()["state"] == "fresh")

    def test_absent_at_the_start(self, server, lives):
        url, shown = server.url(password=ENCODED), Shown()
        server.stop()
        try:
            poller = lives(shown, url, interval_s=0.2)
            assert not poller.wait(1)
            status = poller.status()
            assert (status["state"], status["revision"]) == ("starting", None)
            assert "refused" in status["error"]
            assert poller.stale_s() > 0
        finally:
            server.start()
        assert poller.wait(5)
        assert poller.status()["state"] == "fresh"


class TestPasswords:
    @pytest.mark.parametrize(
        "address",
        [
            "postgresql://shop:{}@127.0.0.1:{port}/shop",
            "postgresql://127.0.0.1:{port}/shop?user=shop&password={}",
            "postgresql://shop:{}@127.0.0.1:{port}/shop?sslmode=nonsense-{}",
            "postgresql://shop:{}@127.0.0.1:{port}/shop?nonsense={}",
            "postgresql://shop:{}@[::1/shop",
            "postgresql://shop:{}@127.0.0.1:port/shop",
            "mysql://shop:{}@127.0.0.1:{port}/shop",
            "{}",
        ],
    )
    def test_are_never_shown(self, address, lives, caplog):
        caplog.set_level(logging.DEBUG)
        url = address.format(ENCODED, ENCODED, port=find_free_port())
        poller = lives(Shown(), url, interval_s=0.1)
        until(lambda: poller.status()["error"])
        with pytest.raises(StoreUnavailable) as caught:
            poller.store.rules()
        said = f"{caught.getrepr()} {poller.status()} {caplog.text}"
        assert PASSWORD not in said
        assert ENCODED not in said

    def test_a_wrong_one(self, postgres_server):
        """Refused by the server itself, which names the user."""
        postgres_server.sql("create role limited login")
        address = postgres_server.url().replace("shop@", f"limited:{ENCODED}@")
        with closing(Store(address)) as store, pytest.raises(StoreUnavailable) as caught:
            store.add_rule(BLOCK, "ann")
        assert PASSWORD not in str(caught.getrepr())


class TestSqliteFile:
    @pytest.fixture
    def file(self, tmp_path):
        return tmp_path / "fbt.db"

    def test_readers_pass_a_writer_and_other_writers_are_told(self, file, lives):
        url, shown = f"sqlite:///{file}", Shown()
        with closing(Store(url, timeout_s=0.2)) as store:
            store.migrate()
            poller = lives(shown, url, interval_s=0.1)
            assert poller.wait(5)
            with closing(sqlite3.connect(file, isolation_level=None)) as other:
                other.execute("begin immediate")
                with pytest.raises(StoreUnavailable, match="locked"):
                    store.add_rule(BLOCK, "ann")
                time.sleep(0.3)
                assert poller.status()["state"] == "fresh"
                other.execute("rollback")
            store.add_rule(BLOCK, "ann")
        until(lambda: shown.blocks(brand="B"))

    def test_locked_at_the_start(self, file, lives, monkeypatch):
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("create table theirs (x)")
            other.execute("begin exclusive")
            poller = ChangePoller(
                f"sqlite:///{file}", lambda _: None, lambda _: None, interval_s=0.1
            )
            poller._store = Store(f"sqlite:///{file}", timeout_s=0.1)
            poller.start()
            until(lambda: "locked" in (poller.status()["error"] or ""))
            other.execute("rollback")
        assert poller.wait(5)
        poller.stop()

    def test_no_database_at_all(self, file, lives):
        file.write_bytes(b"this is no database, and long enough to be seen as none" * 100)
        poller = lives(Shown(), f"sqlite:///{file}", interval_s=0.1)
        until(lambda: "not a database" in (poller.status()["error"] or ""))

    def test_a_place_that_cannot_be_written(self, file, lives):
        file.write_text("a file")
        poller = lives(Shown(), f"sqlite:///{file}/below/fbt.db", interval_s=0.1)
        until(
            lambda: (
                "File exists" in (poller.status()["error"] or "")
                or "Not a directory" in (poller.status()["error"] or "")
            )
        )


class TestApi:
    @pytest.fixture
    def api(self, url, lives):
        self.shown = Shown()
        poller = lives(self.shown, url, interval_s=60)
        assert poller.wait(10)
        return AsyncStore(poller)

    def test_a_rule_is_written_and_works_here_at_once(self, api):
        async def write():
            rule = await api.write(lambda store: store.add_rule(BLOCK, "ann"))
            assert await api.read(lambda store: store.rule(rule.rule_id)) == rule
            replaced = await api.write(lambda store: store.replace_rule(rule.rule_id, PAIR, "bob"))
            assert (await api.read(lambda store: store.rules())).rules == [replaced]
            await api.write(lambda store: store.add_rule(BLOCK, "ann"))
            await api.write(lambda store: store.delete_rule(rule.rule_id, "bob"))
            return await api.write(lambda store: store.change_products(change([product("tea")])))

        assert asyncio.run(write()).upserted == 1
        until(lambda: self.shown.blocks(brand="B") and "tea" in self.shown.products, 2)

    def test_an_unknown_rule_is_not_found(self, api):
        with pytest.raises(HttpError) as caught:
            asyncio.run(api.write(lambda store: store.delete_rule("absent", "ann")))
        assert caught.value.problem.status == 404
        assert caught.value.problem.errors[0].field == "rule_id"
        assert caught.value.headers == {}

    def test_a_write_that_waits_does_not_hold_up_the_event_loop(self, api):
        async def write_and_count():
            task, ticks = asyncio.create_task(api.write(add)), 0
            while not task.done():
                await asyncio.sleep(0.01)
                ticks += 1
                if ticks == 10:
                    release.set()
            return ticks

        release, held = threading.Event(), threading.Event()

        def add(store):
            return store.add_rule(BLOCK, "ann")

        def hold():
            with api._poller.store._writing(rules=False):
                held.set()
                release.wait(5)

        with ThreadPoolExecutor(1) as threads:
            threads.submit(hold)
            held.wait(5)
            assert asyncio.run(write_and_count()) >= 10


def test_a_database_that_is_away_is_503_with_another_try(lives):
    poller = lives(Shown(), f"postgresql://shop:{ENCODED}@127.0.0.1:{find_free_port()}/shop")
    with pytest.raises(HttpError) as caught:
        asyncio.run(AsyncStore(poller).read(lambda store: store.rules()))
    assert caught.value.problem.status == 503
    assert caught.value.headers == {"retry-after": "1"}
    assert "refused" in caught.value.problem.errors[0].found


def test_no_database_says_what_to_set():
    with pytest.raises(HttpError) as caught:
        asyncio.run(AsyncStore(None).read(lambda store: store.rules()))
    assert caught.value.problem.status == 503
    assert "FBT_DATABASE_URL" in caught.value.problem.detail


def test_the_url_is_that_of_the_environment_or_a_file(tmp_path, monkeypatch):
    assert store_url() is None
    assert store_url(tmp_path) == f"sqlite:///{tmp_path}/fbt.db"
    monkeypatch.setenv("FBT_DATABASE_URL", "postgresql://db/shop")
    assert store_url(tmp_path) == store_url() == "postgresql://db/shop"


@pytest.mark.parametrize(
    ("header", "by"),
    [
        (b"ann", "ann"),
        ("Zoë ".encode(), "Zoë"),
        (b"", "token"),
        (b"\xff", "token"),
        (b"a\x00b", "token"),
        (b"x" * 129, "token"),
    ],
)
def test_who_writes(header, by):
    assert find_user(SimpleNamespace(headers={b"x-fbt-user": header})) == by


def test_nothing_of_the_database_is_loaded_before_the_thread_runs():
    code = (
        "import sys, bento.store.async_store, bento.store.poller\n"
        "print(*sorted({'sqlalchemy', 'alembic', 'psycopg2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_alembic_is_loaded_only_to_migrate(tmp_path):
    url = f"sqlite:///{tmp_path}/fbt.db"
    code = (
        "import sys; from bento.store.store import Store\n"
        "Store(sys.argv[1]).migrate(); print('alembic' in sys.modules)"
    )
    run = [sys.executable, "-c", code, url]
    answers = [subprocess.run(run, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [one.stdout.strip() for one in answers] == ["True", "False"]
