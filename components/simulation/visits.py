"""Sessions before anybody recommends anything: when, which pages, what they came to buy."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

from components.model.arrays import BoolArray, Float64Array, Int32Array, Int64Array
from components.model.seasons import find_bin
from components.simulation.behaviour import Behaviour
from components.simulation.draws import draw_normal, draw_uniform
from components.simulation.market import Market

DAY_US = 86_400_000_000
PAGE_US, BOT_PAGE_US = 60_000_000, 1_000_000
"""From one page to the next."""

PEAK = 20 / 24
"""Time of the day with the most sessions."""


@dataclass(frozen=True)
class Visits:
    """Sessions (n,), and their pages (n_pages,) one session after the other."""

    seed: int
    numbers: Int64Array
    """Of the sessions; each draws by its number, alone or among others."""
    start_us: Int64Array
    eagerness: Float64Array
    is_bot: BoolArray
    is_blocked: BoolArray
    session: Int64Array
    """Of a page: its place in `numbers`."""
    place: Int64Array
    """Of a page: 0 is the session's first."""
    page: Int32Array
    page_us: Int64Array
    wanted: Int64Array
    """Products to buy by session: place in `numbers` times n_products plus the product, sorted."""

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def n_pages(self) -> Int64Array:
        """Of each session."""
        return np.bincount(self.session, minlength=len(self))


def plan_visits(
    market: Market,
    behaviour: Behaviour,
    n_sessions: int,
    seed: int,
    start: date = date(2026, 1, 5),
    days: int = 28,
    first: int = 0,
) -> Visits:
    """Sessions `first`, `first` + 1, … of a shop whose days begin with `start` (UTC)."""
    numbers = np.arange(first, first + n_sessions)
    start_us, bins = _draw_times(behaviour, numbers, seed, start, days)
    is_bot = draw_uniform(seed, "bot", numbers) < behaviour.bots
    session, place = _draw_lengths(behaviour, numbers, is_bot, seed)
    page = _draw_pages(market, behaviour, (numbers, session, place), bins, seed)
    gap = np.where(is_bot, BOT_PAGE_US, PAGE_US)[session]
    jitter = draw_uniform(seed, "jitter", numbers[session], place) / 2
    return Visits(
        seed,
        numbers,
        start_us,
        np.exp(behaviour.spread * draw_normal(seed, "eager", numbers) - behaviour.spread**2 / 2),
        is_bot,
        draw_uniform(seed, "blocked", numbers) < behaviour.blocked,
        session,
        place,
        page,
        start_us[session] + ((place + jitter) * gap).astype(np.int64),
        _draw_wanted(market, behaviour, (numbers, session, place, page), is_bot, seed),
    )


def _draw_times(
    behaviour: Behaviour, numbers: Int64Array, seed: int, start: date, days: int
) -> tuple[Int64Array, Int64Array]:
    """Starts, and the parts of the year they fall into."""
    calendar = [start + timedelta(days=day) for day in range(days)]
    sums = np.cumsum([behaviour.weekend if day.weekday() >= 5 else 1.0 for day in calendar])
    day = np.searchsorted(sums, draw_uniform(seed, "day", numbers) * sums[-1], side="right")
    # Triangular around the peak, within the day.
    hour = draw_uniform(seed, "hour", numbers) + draw_uniform(seed, "hour 2", numbers)
    hour = (hour / 2 + PEAK - 0.5) % 1.0
    first_us = int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()) * 1_000_000
    start_us = first_us + ((day + hour) * DAY_US).astype(np.int64)
    return start_us, np.array([find_bin(one) for one in calendar])[day]


def _draw_lengths(
    behaviour: Behaviour, numbers: Int64Array, is_bot: BoolArray, seed: int
) -> tuple[Int64Array, Int64Array]:
    """Session and place of every page."""
    going_on = max(1 - 1 / behaviour.pages, 1e-12)
    drawn = np.log1p(-draw_uniform(seed, "pages", numbers)) / np.log(going_on)
    lengths = np.minimum(1 + drawn.astype(np.int64), behaviour.max_pages)
    lengths = np.where(is_bot, behaviour.bot_pages, lengths)
    session = np.repeat(np.arange(len(numbers)), lengths)
    place = np.arange(len(session)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return session, place


def _draw_pages(
    market: Market,
    behaviour: Behaviour,
    which: tuple[Int64Array, Int64Array, Int64Array],
    bins: Int64Array,
    seed: int,
) -> Int32Array:
    numbers, session, place = which
    keys = (numbers[session], place)
    page = market.draw_pages(bins[session], draw_uniform(seed, "page", *keys))
    follows = draw_uniform(seed, "follow", *keys) < behaviour.follow
    uniform = draw_uniform(seed, "next page", *keys)
    for number in range(1, int(place.max(initial=0)) + 1):
        pages = np.flatnonzero((place == number) & follows)
        companions = market.draw_companions(page[pages - 1], uniform[pages])
        page[pages] = np.where(companions >= 0, companions, page[pages])
    return page


def _draw_wanted(
    market: Market,
    behaviour: Behaviour,
    which: tuple[Int64Array, Int64Array, Int64Array, Int32Array],
    is_bot: BoolArray,
    seed: int,
) -> Int64Array:
    numbers, session, place, page = which
    comes_to_buy = (draw_uniform(seed, "order", numbers) < behaviour.order) & ~is_bot
    kept = comes_to_buy[session]
    session, place, page = session[kept], place[kept], page[kept]
    keys = (numbers[session], place)
    takes = draw_uniform(seed, "buy page", *keys) < behaviour.buy_page
    found = [(session * len(market) + page)[takes]]
    for draw in ("first", "second"):
        companions = market.draw_companions(page, draw_uniform(seed, f"{draw} companion", *keys))
        takes = draw_uniform(seed, f"buy {draw}", *keys) < behaviour.buy_companions
        found.append((session * len(market) + companions)[takes & (companions >= 0)])
    return np.unique(np.concatenate(found))
