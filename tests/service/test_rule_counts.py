"""How often rules change answers: counted in several processes, kept in SQLite and PostgreSQL."""

import contextlib
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest

from bento import rule_effect_counter
from bento.answering.answer import Answer
from bento.answering.rules import RuleEffects
from bento.rule_effect_counter import RuleEffectCounter
from bento.store.errors import StoreUnavailable
from bento.store.rule_effects import EffectCounts, EffectKey, add_rule_effects, read_rule_effects
from bento.store.store import Store
from tests.factories import make_bundle
from tests.service.serving import TOKEN, served, writable

DAY = date(2026, 11, 29)
PASSWORD = "ge%2Fheim%25%40"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fbt.db"
    return request.getfixturevalue("postgres_server").new_database(PASSWORD)


@pytest.fixture
def store(url):
    with contextlib.closing(Store(url, timeout_s=30)) as made:
        made.migrate()
        yield made


def key(rule_id, day=DAY, version="1"):
    return EffectKey(rule_id, day, version)


def add(store, effects):
    return list(add_rule_effects(store, effects))


def test_counts_add_up_by_rule_day_and_version(store):
    add(store, {key("a"): EffectCounts(5, 2), key("b"): EffectCounts(1, 0)})
    tomorrow = key("a", DAY + timedelta(1))
    add(store, {key("a"): EffectCounts(1, 1), key("a", version="2"): EffectCounts(3, 0)})
    add(store, {tomorrow: EffectCounts(7, 7)})
    assert read_rule_effects(store, DAY) == {
        key("a"): (6, 3), key("b"): (1, 0), key("a", version="2"): (3, 0), tomorrow: (7, 7),
    }  # fmt: skip
    assert read_rule_effects(store, DAY + timedelta(1)) == {tomorrow: (7, 7)}


def test_many_processes_at_once_lose_nothing(store, url):
    effects = {key(f"{number}"): EffectCounts(2, 1) for number in range(600)}

    def write(_):
        with contextlib.closing(Store(url, timeout_s=30)) as own:
            for _ in range(3):
                add(own, effects)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert set(read_rule_effects(store, DAY).values()) == {EffectCounts(24, 12)}


def answer_by(effects, *acting_rules):
    return Answer((), "model", None, applied=effects, acting_rules=acting_rules)


def test_what_was_counted_while_the_database_was_away_is_written_later(store):
    found = [StoreUnavailable("away"), StoreUnavailable("away"), store]

    def get_store():
        if isinstance(found[0], Exception):
            raise found.pop(0)
        return found[0]

    counter, every = RuleEffectCounter(get_store), RuleEffects(rule_ids=("a", "b"))
    for _ in range(2):
        counter.add("1", answer_by([every], "a"))
        counter.count()
        counter.write()
    counter.add("1", answer_by([every, RuleEffects(rule_ids=("c",))], "b", "c"))
    counter.count()
    counter.write()
    today = datetime.now(UTC).date()
    counts = {one.rule_id: n for one, n in read_rule_effects(store, today).items()}
    assert counts == {"a": (3, 2), "b": (3, 1), "c": (1, 1)}
    counter.write()
    assert len(read_rule_effects(store, today)) == 3


def test_what_a_process_keeps_is_bounded(monkeypatch):
    def get_store():
        raise StoreUnavailable("away")

    monkeypatch.setattr(rule_effect_counter, "MAX_KEPT", 10)
    counter = RuleEffectCounter(get_store)
    for number in range(100):
        counter.add("1", answer_by([RuleEffects(rule_ids=(f"{number}",))], f"{number}"))
        counter.count()
        counter.write()
    assert len(counter._unwritten) == 10


def test_of_many_rules_those_that_changed_nothing_are_written_less_often(store, monkeypatch):
    monkeypatch.setattr(rule_effect_counter, "MAX_FREQUENT", 5)
    counter = RuleEffectCounter(lambda: store)
    every = RuleEffects(rule_ids=tuple(f"{number}" for number in range(20)))
    counter.add("1", answer_by([every], "7"))
    counter.count()
    counter.write(with_unmoved=False)
    today = datetime.now(UTC).date()
    assert {one.rule_id: n for one, n in read_rule_effects(store, today).items()} == {"7": (1, 1)}
    counter.write()
    assert len(read_rule_effects(store, today)) == 20


PREVIEW = {"X-Fbt-Preview": "1"}


def find_firsts(client):
    """The first products of tea's page, of several connections: whatever worker answers."""
    question = {"items": ["tea"], "k": 1}
    answers = [
        client.post("/recommend", json=question, headers=PREVIEW | {"Connection": "close"}).json()
        for _ in range(20)
    ]
    return {answer["items"][0]["product_id"] for answer in answers}


def test_only_answers_to_shoppers_are_counted(tmp_path):
    """Two workers of a real service; they add what they counted when they stop."""
    bundle = make_bundle(tmp_path / "bundle")
    settings = {name[4:].lower(): value for name, value in writable(tmp_path).items()}
    with (
        served(bundle, "7", workers=2, **settings) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        token = {"Authorization": f"Bearer {TOKEN}"}

        def add_rule(**rule):
            return client.post("/rules", json=rule, headers=token).json()["rule_id"]

        pin = add_rule(action="pin", target={"product_id": "pesto"}, when={"product_id": "tea"})
        idle = add_rule(action="block", target={"product_id": "no such"})
        deadline = time.monotonic() + 20
        while find_firsts(client) != {"pesto"} and time.monotonic() < deadline:
            pass
        for _ in range(30):
            for more in ({}, {"rules": False}):
                client.post("/recommend", json={"items": ["tea"], **more})
            client.post("/recommend", json={"items": ["tea"]}, headers=PREVIEW)
            client.post("/recommend", json={"items": ["bread"]})
        metrics = client.get("/metrics", headers=PREVIEW).text
    answers = re.findall(r"^fbt_answers_total{.*} (.*)$", metrics, re.MULTILINE)
    assert sum(map(float, answers)) == 3 * 30
    with contextlib.closing(Store(settings["database_url"])) as store:
        counts = read_rule_effects(store, DAY - timedelta(3650))
    assert {(one.rule_id, one.model_version): n for one, n in counts.items()} == {
        (pin, "7"): (30, 30), (idle, "7"): (60, 0),
    }  # fmt: skip
