"""A trial as the tables that a shop's events and the service's log would have become."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.contracts import EVENTS, ORDER_LINES, RECOMMENDATIONS, write_table
from components.model.arrays import AnyArray, BoolArray, Int64Array, to_offsets
from components.simulation.behaviour import Behaviour
from components.simulation.draws import draw_uniform
from components.simulation.market import Market
from components.simulation.trial import Trial

SECOND_US = 1_000_000
IMPRESSION_US, CLICK_US, ADD_US, ORDER_US = (s * SECOND_US for s in (1, 2, 25, 120))
"""After the page was opened; the order after the last page."""

PER_POSITION_US, BOT_CLICK_US = SECOND_US, 10_000
"""A shopper reads from top to bottom."""

RECEIVED_US = 500_000


def write_trial(
    market: Market, behaviour: Behaviour, trial: Trial, root: str | Path, part: str = "part-0"
) -> None:
    """EVENTS and RECOMMENDATIONS below `root`, a folder a day, as compaction writes them."""
    write_days(to_events(market, behaviour, trial), EVENTS, Path(root) / "events", part)
    log = to_recommendations(market, trial)
    write_days(log, RECOMMENDATIONS, Path(root) / "recommendations", part)


def write_days(table: pa.Table, schema: pa.Schema, folder: Path, part: str = "part-0") -> None:
    days = pc.floor_temporal(table["ts"], unit="day").cast(pa.int64()).to_numpy()
    for day in np.unique(days):
        name = datetime.fromtimestamp(int(day) // SECOND_US, UTC).strftime("day=%Y-%m-%d")
        (folder / name).mkdir(parents=True, exist_ok=True)
        chosen = table.filter(pa.array(days == day))
        write_table(chosen, schema, folder / name / f"{part}.parquet")


class _Ids(NamedTuple):
    """Texts of sessions, pages and orders of sessions."""

    session: pa.Array
    request: pa.Array
    order: pa.Array


def _name(trial: Trial) -> _Ids:
    visits = trial.visits
    session = _join(f"s{visits.seed}-", visits.numbers)
    request = _join(session.take(pa.array(visits.session)), "-", visits.place)
    return _Ids(session, request, _join(f"o{visits.seed}-", visits.numbers))


def to_events(market: Market, behaviour: Behaviour, trial: Trial) -> pa.Table:
    """EVENTS by time, without those of shoppers who block them."""
    visits, ids = trial.visits, _name(trial)
    sent = ~visits.is_blocked
    visible = sent[visits.session][:, None] & (trial.shown >= 0)
    seen = visible & trial.reactions.is_seen[:, None]
    parts = [
        _list_events("view_item_list", seen, market, trial, ids),
        _list_events("select_item", visible & trial.reactions.clicked, market, trial, ids),
        _list_events("add_to_cart", visible & trial.reactions.added, market, trial, ids),
        _own_adds(market, trial, ids, sent),
        _purchases(market, behaviour, trial, ids, sent),
    ]
    table = pa.concat_tables(parts)
    return table.take(pc.sort_indices(table, [("ts", "ascending"), ("event_id", "ascending")]))


def to_order_lines(market: Market, behaviour: Behaviour, trial: Trial) -> pa.Table:
    """ORDER_LINES of all shoppers, as of the nightly export."""
    owner, row = np.divmod(trial.reactions.bought, len(market))
    nothing = pa.nulls(len(owner), pa.string())
    columns = {
        "order_id": _name(trial).order.take(pa.array(owner)),
        "user_id": nothing,
        "product_id": market.product_ids.take(pa.array(row)),
        "ts": to_times(find_order_times(behaviour, trial)[owner]),
        "position": pa.nulls(len(owner), pa.int32()),
        "quantity": pa.array(np.ones(len(owner))),
        "price": pa.array(market.prices[row]),
    }
    return pa.table(columns, schema=pa.schema(list(ORDER_LINES)))


def to_order_sessions(trial: Trial) -> pa.Table:
    """`order_id` and `session_id` of all orders that there may be."""
    ids = _name(trial)
    return pa.table({"order_id": ids.order, "session_id": ids.session})


def find_order_times(behaviour: Behaviour, trial: Trial) -> Int64Array:
    """(n_sessions,): when a session orders, if it does."""
    visits = trial.visits
    last = np.zeros(len(visits), np.int64)
    np.maximum.at(last, visits.session, visits.page_us)
    waits = -np.log1p(-draw_uniform(visits.seed, "order delay", visits.numbers))
    delay = (behaviour.order_delay_h * waits * 3600 * SECOND_US).astype(np.int64)
    return last + ORDER_US + delay


def _list_events(
    event: str, chosen: BoolArray, market: Market, trial: Trial, ids: _Ids
) -> pa.Table:
    """Events about products of lists; an impression is one event of the whole list."""
    page, position = np.nonzero(chosen)
    visits, rows = trial.visits, trial.shown[page, position]
    is_bot = visits.is_bot[visits.session[page]]
    reading = position * np.where(is_bot, BOT_CLICK_US, PER_POSITION_US)
    after = {
        "view_item_list": np.where(is_bot, 0, IMPRESSION_US),
        "select_item": np.where(is_bot, BOT_CLICK_US, CLICK_US) + reading,
        "add_to_cart": ADD_US + position,
    }[event]
    request = ids.request.take(pa.array(page))
    if event == "view_item_list":
        event_id = _join(request, "-seen")
    else:
        event_id = _join(request, f"-{event}-", position)
    return _event_table(
        event, event_id, visits.page_us[page] + after, market, rows,
        session_id=ids.session.take(pa.array(visits.session[page])), request_id=request,
        position=pa.array(position.astype(np.int32)),
    )  # fmt: skip


def _own_adds(market: Market, trial: Trial, ids: _Ids, sent: BoolArray) -> pa.Table:
    """Products that shoppers came for go into the cart from its own page, before the order."""
    owner, row = np.divmod(trial.visits.wanted, len(market))
    owner, row = owner[sent[owner]], row[sent[owner]]
    last = np.zeros(len(trial.visits), np.int64)
    np.maximum.at(last, trial.visits.session, trial.visits.page_us)
    session = ids.session.take(pa.array(owner))
    event_id = _join(session, "-cart-", row)
    when = last[owner] + ORDER_US // 2
    return _event_table("add_to_cart", event_id, when, market, row, session_id=session)


def _purchases(
    market: Market, behaviour: Behaviour, trial: Trial, ids: _Ids, sent: BoolArray
) -> pa.Table:
    owner, row = np.divmod(trial.reactions.bought, len(market))
    owner, row = owner[sent[owner]], row[sent[owner]]
    order = ids.order.take(pa.array(owner))
    return _event_table(
        "purchase", _join(order, "-order"), find_order_times(behaviour, trial)[owner], market, row,
        session_id=ids.session.take(pa.array(owner)), order_id=order,
    )  # fmt: skip


def _event_table(
    event: str, event_id: pa.Array, ts_us: Int64Array, market: Market, rows: AnyArray, **more: Any
) -> pa.Table:
    """Columns that are not given are null."""
    columns = {
        "event_id": event_id,
        "event": pa.array([event]).take(pa.array(np.zeros(len(rows), np.int8))),
        "ts": to_times(ts_us),
        "received_at": to_times(ts_us + RECEIVED_US),
        "product_id": market.product_ids.take(pa.array(rows)),
        "quantity": pa.array(np.ones(len(rows))),
        "price": pa.array(market.prices[rows]),
        **more,
    }
    return _fill(columns, EVENTS, len(rows))


def to_recommendations(market: Market, trial: Trial) -> pa.Table:
    """RECOMMENDATIONS by page, empty lists of a holdout included."""
    visits, ids, arms = trial.visits, _name(trial), trial.experiment.arms
    n, is_shown = len(visits.page), trial.shown >= 0
    page, position = np.nonzero(is_shown)
    offsets = pa.array(to_offsets(is_shown.sum(axis=1)).astype(np.int32))
    items = market.product_ids.take(pa.array(trial.shown[page, position]))
    arm = pa.array(trial.arm[visits.session])
    versions = pa.array([one.model_version or one.name for one in arms])
    asked = market.product_ids.take(pa.array(visits.page))
    columns = {
        "request_id": ids.request,
        "ts": to_times(visits.page_us),
        "session_id": ids.session.take(pa.array(visits.session)),
        "endpoint": _repeat("recommend", n),
        "context": _repeat("product_page", n),
        "model_version": versions.take(arm),
        "arm": pa.array([one.name for one in arms]).take(arm),
        "experiment": _repeat(trial.experiment.name, n),
        "share": pa.array(np.ones(n)),
        "asked": pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32)), asked),
        "items": pa.ListArray.from_arrays(offsets, items),
        "sources": pa.ListArray.from_arrays(offsets, _repeat("model", len(items))),
        "rules": pa.ListArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), _repeat("", 0)),
        "swapped": pa.array(trial.drawn_pair, mask=~trial.swapped),
        "swap_drawn": pa.array(trial.drawn_pair >= 0),
        "drawn_pair": pa.array(trial.drawn_pair, mask=trial.drawn_pair < 0),
    }
    if trial.teams is not None:
        names = pa.array([one.name for one in arms] + [""])
        teams = names.take(pa.array(trial.teams[page, position] % len(names)))
        columns["teams"] = pa.ListArray.from_arrays(offsets, teams)
    return _fill(columns, RECOMMENDATIONS, n)


def to_times(us: Int64Array) -> pa.Array:
    return pa.array(us.astype(np.int64), pa.timestamp("us", tz="UTC"))


def _fill(columns: Mapping[str, pa.Array], schema: pa.Schema, n: int) -> pa.Table:
    every = [columns.get(field.name, pa.nulls(n, field.type)) for field in schema]
    plain = pa.schema(list(schema))
    return pa.table([one.cast(field.type) for one, field in zip(every, plain, strict=True)], plain)


def _repeat(text: str, n: int) -> pa.Array:
    return pa.array([text]).take(pa.array(np.zeros(n, np.int8)))


def _join(*parts: Any) -> pa.Array:
    """Texts and numbers, element by element."""
    texts = [
        pa.array(one).cast(pa.string()) if isinstance(one, np.ndarray) else one for one in parts
    ]
    return pc.binary_join_element_wise(*texts, "")
