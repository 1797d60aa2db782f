"""Recommendations that shoppers saw, as weighted examples for the re-ranker.

`positive / examined` estimates how good a product is for those that were asked for, wherever it
stood: a product that was seen counts as examined with the propensity of its place (clicks over
expected clicks: the expectation of clicks weighted by inverse propensity, with less variance).
"""

import shutil
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from components.contracts import FEEDBACK, RECOMMENDATIONS, table_name, write_table
from components.feedback.weights import (
    FeedbackSettings,
    Outcomes,
    Values,
    fill_propensities,
    value_outcomes,
    weigh_ages,
)
from components.model.atomic import atomic_write
from components.online.events import OnlineEvents, open_events
from components.online.position_bias import estimate_position_bias
from components.online.propensities import drop_unsure
from components.online.settings import OnlineSettings
from components.progress import log_progress

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EXAMPLES_FILE = "feedback.parquet"
"""In the archive, for the parameter `feedback` of the training pipeline."""

OUTCOMES = """
select
    count(*) filter (clicks > 0), count(*) filter (clicks > 0 and purchases > 0),
    count(*) filter (adds > 0), count(*) filter (adds > 0 and purchases > 0)
from impressions
"""

EXAMPLES = """
with shown as (
    select make_key(request_id) as request_key, any_value(asked) as asked, any_value(items) as items
    from recommendation_files
    where endpoint = 'recommend'
    group by request_key
)
select
    day, context, asked, shown.items[position + 1] as product_id,
    count(*)::double as impressions,
    count(*) filter (clicks > 0)::double as clicks,
    count(*) filter (adds > 0)::double as adds,
    count(*) filter (purchases > 0)::double as purchases,
    sum(day_weight * propensity) as examined,
    sum(day_weight * case
        when purchases > 0 then 1.0 when adds > 0 then $add when clicks > 0 then $click else 0.0
    end) as positive
from impressions
join lists using (list_id)
join places on places.place_id = impressions.place_id
join shown using (request_key)
join day_weights using (day)
join propensities using (position)
group by all
order by day, context, asked, product_id
"""


def write_examples(
    online: OnlineEvents, path: Path, settings: FeedbackSettings | None = None
) -> dict[str, float]:
    """Write FEEDBACK; returns its counts, for a step's metrics."""
    settings = settings or FeedbackSettings()
    db = online.db
    n_measured = _add_propensities(online, settings)
    _add_day_weights(db, settings)
    counts = Outcomes(*_fetch_row(db, OUTCOMES))
    values = value_outcomes(counts)
    table = db.sql(EXAMPLES, params=values._asdict()).to_arrow_table()
    write_table(pa.table(_cast(table)), FEEDBACK, path)
    found = _describe(table, values, n_measured)
    log_progress(
        f"{found['examples']:,.0f} examples of {found['impressions']:,.0f} products seen; a click "
        f"is worth {values.click:.2f}, a product in the cart {values.add:.2f} of a bought one"
    )
    if not n_measured:
        log_progress("no swaps were drawn: examples are not corrected for their position")
    return found


def _add_propensities(online: OnlineEvents, settings: FeedbackSettings) -> int:
    """The table `propensities`; how many places were measured."""
    measured = drop_unsure(estimate_position_bias(online, "seen"))
    [n] = _fetch_row(online.db, "select coalesce(max(position), 0) + 1 from impressions")
    filled = fill_propensities(
        measured["position"].to_numpy().astype(np.int64),
        measured["propensity"].to_numpy().astype(np.float64), n, settings,
    )  # fmt: skip
    table = pa.table({"position": np.arange(n), "propensity": filled})
    online.db.register("propensities", table)
    return int(measured.num_rows)


def _add_day_weights(db: "DuckDBPyConnection", settings: FeedbackSettings) -> None:
    days: list[date] = [day for (day,) in db.execute("select distinct day from places").fetchall()]
    newest = max(days, default=date(1970, 1, 1))
    ages = np.array([(newest - day).days for day in days], np.float32)
    weights = weigh_ages(ages, settings).astype(np.float64)
    table = pa.table({"day": pa.array(days, pa.date32()), "day_weight": weights})
    db.register("day_weights", table)


def _fetch_row(db: "DuckDBPyConnection", query: str) -> tuple[int, ...]:
    row: tuple[int, ...]
    [row] = db.execute(query).fetchall()
    return row


def _cast(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {field.name: table[field.name].cast(field.type) for field in FEEDBACK}


def _describe(table: pa.Table, values: Values, n_measured: int) -> dict[str, float]:
    columns = ("impressions", "clicks", "adds", "purchases", "examined", "positive")
    sums = {name: float(table[name].to_numpy().sum()) for name in columns}
    worth = {"value_of_click": values.click, "value_of_add": values.add}
    return {"examples": table.num_rows, **sums, **worth, "measured_places": n_measured}


def make_examples(
    archive: str | Path, days: float, window_h: float, settings: FeedbackSettings, path: str | Path
) -> dict[str, float]:
    """As `write_examples`, of the newest `days` of an archive, which keeps a copy for training.

    Raises ContractError for an archive without events.
    """
    online_settings = OnlineSettings(since=find_since(archive, days), window_h=window_h)
    with open_events(archive, online_settings) as online:
        found = write_examples(online, Path(path), settings)
    with atomic_write(Path(archive) / EXAMPLES_FILE) as aside:
        shutil.copyfile(path, aside)
    return found


def find_since(archive: str | Path, days: float) -> datetime | None:
    """So many days before the newest answer of the log; None for all, 0 days."""
    if not days:
        return None
    folder = Path(archive) / table_name(RECOMMENDATIONS)
    dates = [one.name.partition("=")[2] for one in folder.glob("day=*")]
    newest = max(map(date.fromisoformat, dates), default=date.min)
    if newest == date.min:
        return None
    return datetime.combine(newest, time(), UTC) - timedelta(days=days - 1)
