"""How often rules changed answers, and what the products that they moved earned."""

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import case, func, select

from bento.store.rule_effects import RULE_EFFECTS
from bento.store.store import Store
from bento.workbench.context import Workbench
from bento.workbench.health.watched import Watched
from bento.workbench.parts import Missing
from components.contracts import ContractError
from components.online.events import open_events
from components.online.rule_earnings import sum_rule_earnings
from components.online.settings import OnlineSettings

WEEK, MONTH = timedelta(days=7), timedelta(days=30)

KEEP_COUNTS_S = 10.0
KEEP_EARNINGS_S = 600.0

WAIT_S = 0.7
"""A page waits so long for either."""

TIMEOUT_S = 600
SETTINGS = OnlineSettings(memory_mb=500, threads=1)


class RuleCounts(NamedTuple):
    """Answers of the last 7 and 30 days that a rule was for, and those that it changed."""

    applied_week: int
    moved_week: int
    applied_month: int
    moved_month: int


class Earning(NamedTuple):
    """In the lists where the rule moved products, of these; from compacted events."""

    lists: float
    impressions: float
    clicks: float
    adds: float
    purchases: float
    revenue: float


Earnings = dict[str, Earning]

EARNINGS = TypeAdapter(Earnings)


class EffectBook(NamedTuple):
    """By rule; Missing where nothing answers."""

    counts: Mapping[str, RuleCounts] | Missing
    earnings: Earnings | Missing

    def find_counts(self, rule_id: str) -> RuleCounts | None:
        return None if isinstance(self.counts, Missing) else self.counts.get(rule_id)

    def find_earning(self, rule_id: str) -> Earning | None:
        return None if isinstance(self.earnings, Missing) else self.earnings.get(rule_id)

    @property
    def moved(self) -> dict[str, int]:
        if isinstance(self.counts, Missing):
            return {}
        return {rule_id: one.moved_month for rule_id, one in self.counts.items()}


class EffectReader:
    def __init__(self, workbench: Workbench) -> None:
        database, online = workbench.database, workbench.settings.workbench_online
        self._counts = Watched("database", lambda: database.run(count_effects), KEEP_COUNTS_S)
        self._earnings = Watched("events", lambda: read_earnings(online), KEEP_EARNINGS_S)

    async def read(self) -> EffectBook:
        return EffectBook(await self._counts.get(WAIT_S), await self._earnings.get(WAIT_S))


def count_effects(store: Store) -> dict[str, RuleCounts]:
    """Raises StoreUnavailable."""
    today = datetime.now(UTC).date()
    table = RULE_EFFECTS.c
    is_recent = table.day > today - WEEK
    sums = [
        func.sum(case((is_recent, column), else_=0) if only_recent else column)
        for only_recent in (True, False)
        for column in (table.n_applied, table.n_moved)
    ]
    query = select(table.rule_id, *sums).where(table.day > today - MONTH).group_by(table.rule_id)
    with store.database.reading() as connection:
        return {row[0]: RuleCounts(*map(int, row[1:])) for row in connection.execute(query)}


def read_earnings(online: Path | None) -> Earnings:
    """Blocks, for minutes where there are many events. Raises OSError.

    In a process of its own: DuckDB needs memory and time that pages do not have.
    """
    if online is None or not (online / "recommendations").is_dir():
        return {}
    command = [sys.executable, "-m", "bento.workbench.rules.effects", str(online)]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise OSError(f"what rules earned cannot be read: {last[:300]}")
    return EARNINGS.validate_json(done.stdout)


def sum_earnings(online: Path) -> Earnings:
    try:
        with open_events(online, SETTINGS) as events:
            rows = sum_rule_earnings(events).to_pylist()
    except ContractError:  # no events yet, or a log of before
        return {}
    return {row.pop("rule_id"): Earning(**row) for row in rows}


if __name__ == "__main__":
    sys.stdout.buffer.write(EARNINGS.dump_json(sum_earnings(Path(sys.argv[1]))))
