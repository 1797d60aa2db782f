"""Writes tests/golden/database: what this release leaves in a database, as SQL of both kinds.

Once before a release: python -m tests.golden_database
"""

import json
import re
import sqlite3
import subprocess
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

from bento.schemas.catalogue import CatalogueRequest, ProductChange
from bento.schemas.rules import RuleRequest, Scope
from bento.store.drafts import begin_draft
from bento.store.judgements import (
    Judgement,
    Preference,
    add_case,
    save_judgements,
    save_lists,
    save_preference,
)
from bento.store.migrate import HEAD
from bento.store.rule_effects import EffectCounts, EffectKey, add_rule_effects
from bento.store.rule_rows import to_body
from bento.store.store import Store
from components.events.event import Event, EventItem
from components.events.open import open_sink
from components.events.recommendation import Recommendation
from tests.postgres import postgres

GOLDEN = Path(__file__).parent / "golden" / "database"
AT_US = 1_767_225_600_000_000  # 2026-01-01
NOT_TABLES = re.compile(r"(--|SET |SELECT pg_catalog.set_config|\\(un)?restrict)")


def fill(url: str) -> None:
    """Rows in every table."""
    store = Store(url)
    store.migrate()
    fill_rules(store)
    fill_judgements(store)
    store.close()
    fill_events(url)


def fill_rules(store: Store) -> None:
    block = RuleRequest(action="block", target=Scope(brand="Acme"), note="Ünïcode ☕")
    pin = RuleRequest(
        action="pin", target=Scope(product_id="milk"), when=Scope(product_id="tea"), position=2
    )
    kept = store.add_rule(block, "ann")
    replaced = store.add_rule(pin, "ann")
    store.replace_rule(replaced.rule_id, pin.model_copy(update={"position": 3}), "bob")
    store.delete_rule(store.add_rule(block, "bob").rule_id, "bob")
    store.change_products(
        CatalogueRequest(
            upsert=[ProductChange(product_id="milk", name="Milk", price=1.5)], delete=["salt"]
        )
    )
    begin_draft(store, kept.rule_id, to_body(pin), "ann", 1)
    key = EffectKey(kept.rule_id, date(2026, 1, 1), "7")
    list(add_rule_effects(store, {key: EffectCounts(5, 3)}))


def fill_judgements(store: Store) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    case = add_case(store, "first", "Be strict.", 2, ["tea"], "ann").case_id
    save_lists(store, case, "7", {"tea": ("a1", ["milk", "sugar"])})
    save_lists(store, case, "8", {"tea": ("b2", ["milk", "jam"])})
    save_judgements(store, case, [Judgement("tea", "a1", "ann", "graded", 3, None, at)])
    save_preference(store, case, Preference("tea", "a1", "b2", "ann", "a1", at))


def fill_events(url: str) -> None:
    items = (EventItem("milk", 0, 1.0, 1.5), EventItem("jam", 1))
    events = [
        Event("e1", "view_item_list", AT_US, AT_US, "anna", "r1", None, items),
        Event("e2", "purchase", AT_US, AT_US, "anna", "r1", "o1", items[:1]),
    ]
    shown = Recommendation(
        "r1", AT_US, "anna", "recommend", "product_page", "7", "default", None, 1.0,
        ["tea"], ["milk", "jam"], ["model", "model"], ["pin"], rule_ids=[["x"], []],
    )  # fmt: skip
    sink = open_sink(url)
    sink.write_events(events)
    sink.write_recommendations(json.dumps([shown]).encode(), 1)
    sink.close()


def dump_sqlite(file: Path) -> str:
    database = sqlite3.connect(file)
    text = "\n".join(database.iterdump())
    database.close()
    return text + "\n"


def dump_postgresql(url: str) -> str:
    command = ["pg_dump", "--no-owner", "--inserts", url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = (line for line in done.stdout.splitlines() if not NOT_TABLES.match(line))
    return re.sub(r"\n{2,}", "\n", "\n".join(lines)).strip() + "\n"


def main() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, postgres() as server:
        file, url = Path(folder) / "fbt.db", server.new_database()
        fill(f"sqlite:///{file}")
        fill(url)
        (GOLDEN / f"{HEAD}.sqlite.sql").write_text(dump_sqlite(file))
        (GOLDEN / f"{HEAD}.postgresql.sql").write_text(dump_postgresql(url))


if __name__ == "__main__":
    main()
