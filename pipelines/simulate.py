"""`fbt simulate`: shoppers with known preferences before a running service.

They ask for recommendations, look, click and buy, and their events go to the service. Sessions
begin now; what shoppers do then lies up to a quarter of an hour ahead, which the service accepts,
so that nobody waits.
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from components.contracts import ORDER_LINES, write_table
from components.experiments.experiment import Arm, Experiment
from components.model.arrays import Int32Array
from components.model.bundle import read_bundle
from components.progress import log_progress
from components.results import write_json
from components.simulation.behaviour import Behaviour
from components.simulation.market import Market, market_of_bundle
from components.simulation.reactions import examine, react
from components.simulation.tables import to_events, to_order_lines
from components.simulation.trial import Trial, name_session
from components.simulation.truth import measure_trial
from components.simulation.visits import Visits, plan_visits

BLOCK = 200
"""Sessions that begin together."""

EVENTS_A_REQUEST = 100

PATIENCE_S = 60.0
"""For a service that is busy or restarts."""

TIMEOUT_S = 10.0

BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


DEFAULT = Behaviour()


class Refused(RuntimeError):
    """The service does not take what shoppers ask or send."""


@dataclass(frozen=True)
class Shop:
    """A service with its shoppers."""

    url: str
    market: Market
    behaviour: Behaviour = DEFAULT
    seed: int = 0
    """Of the shoppers. Those of one seed are the same: sent again, their events are duplicates."""
    k: int = 10
    events_url: str = ""
    """Of the ingest. Default: `url`."""
    events_key: str = ""
    connections: int = 16


class Block(NamedTuple):
    visits: Visits
    shown: Int32Array
    arms: list[str]
    """Of the sessions."""


class Simulation(NamedTuple):
    trial: Trial
    truth: dict[str, Any]
    """As JSON; `events` counts what the service answered."""


def simulate(shop: Shop, n_sessions: int) -> Simulation:
    """Raises Refused."""
    blocks, answered = asyncio.run(_drive(shop, n_sessions))
    visits = plan_visits(shop.market, shop.behaviour, n_sessions, shop.seed)
    visits = replace(visits, page_us=np.concatenate([one.visits.page_us for one in blocks]))
    shown = np.concatenate([one.shown for one in blocks])
    arms = list(itertools.chain.from_iterable(one.arms for one in blocks))
    trial = _build_trial(shop, Block(visits, shown, arms))
    return Simulation(trial, {**_describe(shop, trial), "events": dict(answered)})


def run(
    shop: Shop, n_sessions: int, truth: Path | None = None, order_lines: Path | None = None
) -> dict[str, Any]:
    """The truth, also written to a file; `order_lines` are also of those who block events."""
    found = simulate(shop, n_sessions)
    if truth is not None:
        write_json(found.truth, truth)
    if order_lines is not None:
        lines = to_order_lines(shop.market, shop.behaviour, found.trial)
        write_table(lines, ORDER_LINES, order_lines)
    return found.truth


def _describe(shop: Shop, trial: Trial) -> dict[str, Any]:
    arms: dict[str, Any] = {name: one._asdict() for name, one in measure_trial(trial).items()}
    for place, name in enumerate(arms):
        people = (trial.arm == place) & ~trial.visits.is_bot
        pages = people[trial.visits.session]
        arms[name]["clicks"] = int(trial.reactions.clicked[pages].sum())
        arms[name]["adds"] = int(trial.reactions.added[pages].sum())
    return {
        "sessions": len(trial.visits),
        "bots": int(trial.visits.is_bot.sum()),
        "blocked": int(trial.visits.is_blocked.sum()),
        "arms": arms,
        "examination": examine(shop.behaviour, shop.k).tolist(),
        "behaviour": shop.behaviour.model_dump(),
    }


def _build_trial(shop: Shop, block: Block) -> Trial:
    """Its arms are those that answered, by name."""
    visits, shown, names = block
    places = {name: place for place, name in enumerate(sorted(set(names)))}
    return Trial(
        Experiment(name="simulated", arms=tuple(Arm(name=name) for name in places)),
        visits,
        np.array([places[name] for name in names], np.int64),
        shown,
        np.full(len(shown), -1, np.int32),
        np.zeros(len(shown), bool),
        react(shop.market, shop.behaviour, visits, shown),
    )


async def _drive(shop: Shop, n_sessions: int) -> tuple[list[Block], Counter[str]]:
    limits = httpx.Limits(max_connections=shop.connections)
    blocks: list[Block] = []
    answered: Counter[str] = Counter()
    async with httpx.AsyncClient(
        limits=limits, timeout=httpx.Timeout(TIMEOUT_S, pool=None)
    ) as http:
        for first in range(0, n_sessions, BLOCK):
            n = min(BLOCK, n_sessions - first)
            visits = plan_visits(shop.market, shop.behaviour, n, shop.seed, first=first)
            block = await _show(http, shop, visits)
            answered += await _send(http, shop, block)
            blocks.append(block)
            log_progress(f"{first + n:,} of {n_sessions:,} sessions")
    return blocks, answered


async def _show(http: httpx.AsyncClient, shop: Shop, visits: Visits) -> Block:
    """The lists of all pages. Pages are then opened from now on, as planned."""
    asked = range(len(visits.page))
    answers = await asyncio.gather(*(_recommend(http, shop, visits, page) for page in asked))
    shown = np.full((len(visits.page), shop.k), -1, np.int32)
    for row, answer in enumerate(answers):
        products = [shop.market.places.get(one["product_id"], -1) for one in answer["items"]]
        shown[row, : len(products)] = products[: shop.k]
    first = np.flatnonzero(visits.place == 0)
    now_us = time.time_ns() // 1000
    page_us = now_us + visits.page_us - visits.page_us[first][visits.session]
    arms = [answers[page]["variant"] for page in first]
    return Block(replace(visits, page_us=page_us), shown, arms)


async def _recommend(
    http: httpx.AsyncClient, shop: Shop, visits: Visits, page: int
) -> Mapping[str, Any]:
    session = name_session(shop.seed, int(visits.numbers[visits.session[page]]))
    request_id = f"{session}-{visits.place[page]}"
    body = {
        "items": [shop.market.product_ids[int(visits.page[page])].as_py()],
        "k": shop.k,
        "context": "product_page",
        "session_id": session,
    }
    answer = await _post(http, f"{shop.url}/recommend", body, {"X-Request-Id": request_id})
    if answer["request_id"] != request_id:
        raise Refused(
            f"simulate: {shop.url} answers request {request_id} as {answer['request_id']}; "
            "expected that it keeps X-Request-Id"
        )
    return answer


async def _send(http: httpx.AsyncClient, shop: Shop, block: Block) -> Counter[str]:
    """Actions of shoppers, and their outcome by the service's answers."""
    events = list(to_sent(to_events(shop.market, shop.behaviour, _build_trial(shop, block))))
    parts = range(0, len(events), EVENTS_A_REQUEST)
    url = f"{shop.events_url or shop.url}/events"
    if shop.events_key:
        url = f"{url}?key={shop.events_key}"
    bodies = [{"events": events[start : start + EVENTS_A_REQUEST]} for start in parts]
    answers = await asyncio.gather(*(_post(http, url, body, {}) for body in bodies))
    answered: Counter[str] = Counter(sent=len(events))
    for answer in answers:
        for name, value in answer.items():
            answered[name] += len(value) if isinstance(value, list) else int(value)
    return answered


def to_sent(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Events as a shop sends them; rows of one event follow each other."""
    rows = table.sort_by("event_id").to_pylist()
    for event_id, group in itertools.groupby(rows, key=lambda row: row["event_id"]):
        products = list(group)
        first = products[0]
        names = ("event", "session_id", "request_id", "order_id")
        yield {
            "event_id": event_id,
            **{name: first[name] for name in names if first[name] is not None},
            "timestamp": first["ts"].isoformat(),
            "items": [_to_item(one) for one in products],
        }


def _to_item(row: Mapping[str, Any]) -> dict[str, Any]:
    item = {
        "item_id": row["product_id"], "index": row["position"],
        "quantity": row["quantity"], "price": row["price"],
    }  # fmt: skip
    return {name: value for name, value in item.items() if value is not None}


async def _post(
    http: httpx.AsyncClient, url: str, body: Mapping[str, Any], headers: Mapping[str, str]
) -> Mapping[str, Any]:
    """Again for a minute while the service is busy or gone. Raises Refused."""
    content, deadline = json.dumps(body), time.monotonic() + PATIENCE_S
    headers = {"Content-Type": "application/json", **headers}
    while True:
        try:
            answer = await http.post(url, content=content, headers=headers)
        except httpx.TransportError as error:
            wait_s, reason = 0.5, f"{type(error).__name__} {error}"
        else:
            if answer.is_success:
                found: Mapping[str, Any] = answer.json()
                return found
            reason = f"{answer.status_code} {answer.text[:300]}"
            if answer.status_code not in BUSY:
                raise Refused(f"simulate: {url} answers {reason}")
            wait_s = float(answer.headers.get("Retry-After", 1))
        if time.monotonic() + wait_s > deadline:
            raise Refused(f"simulate: {url} is not ready for {PATIENCE_S:.0f} s: {reason}")
        await asyncio.sleep(wait_s)


def format_truth(truth: Mapping[str, Any]) -> str:
    from pipelines.tables import table

    counts = ("sessions", "impressions", "clicks")
    head = ("arm", *counts, "true CTR", "order value", "without", "lift")
    rows = [
        (
            name, *(f"{one[count]:,}" for count in counts),
            f"{one['ctr']:.4f}", f"{one['order_value']:.3f}", f"{one['base_value']:.3f}",
            f"{one['effect']:+.3f} ± {1.96 * one['effect_error']:.3f}",
        )
        for name, one in truth["arms"].items()
    ]  # fmt: skip
    events = ", ".join(f"{name} {n:,}" for name, n in truth["events"].items() if n)
    return f"{table(head, rows)}\n\nevents: {events}"


def read_market(bundle: Path, baskets: Path | None = None) -> Market:
    """Raises BundleError, ContractError."""
    return market_of_bundle(read_bundle(bundle, verify=False), baskets)


def read_behaviour(path: Path | None) -> Behaviour:
    """Raises ValueError that names the file and what is wrong."""
    if path is None:
        return DEFAULT
    try:
        return Behaviour.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"behaviour: cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        texts = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"behaviour {path}: {'; '.join(texts)}") from None
