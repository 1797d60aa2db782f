"""Reactions of shoppers to the lists that they are shown, and what they would have done without."""

from dataclasses import dataclass

import numpy as np

from components.model.arrays import BoolArray, Float64Array, Int32Array, Int64Array
from components.simulation.behaviour import Behaviour
from components.simulation.draws import draw_uniform
from components.simulation.market import Market
from components.simulation.visits import Visits


@dataclass(frozen=True)
class Reactions:
    """Of lists (n_pages, k); `bought` are keys as `Visits.wanted`."""

    is_seen: BoolArray
    """(n_pages,): the list came into the viewport."""
    click_probability: Float64Array
    """0 where there is no product or the list was not seen."""
    clicked: BoolArray
    added: BoolArray
    bought: Int64Array
    order_value: Float64Array
    """(n_sessions,): of all that was bought."""
    base_value: Float64Array
    """(n_sessions,): the same shoppers' without any recommendation."""

    @property
    def effect(self) -> Float64Array:
        """(n_sessions,): order value that recommendations caused."""
        return self.order_value - self.base_value


def examine(behaviour: Behaviour, k: int) -> Float64Array:
    """(k,): the true probability to look at each position of a session's first list."""
    places = np.arange(1, k + 1, dtype=np.float64)
    examined: Float64Array = places**-behaviour.position_bias
    return examined


def react(market: Market, behaviour: Behaviour, visits: Visits, shown: Int32Array) -> Reactions:
    """`shown` (n_pages, k) are products by position, -1 for none."""
    keys = (visits.numbers[visits.session], visits.place)
    seen = draw_uniform(visits.seed, "seen", *keys) < behaviour.list_seen
    seen &= (shown >= 0).any(axis=1)
    is_bot = visits.is_bot[visits.session]
    seen |= is_bot & (shown >= 0).any(axis=1)
    examined = examine(behaviour, shown.shape[1])
    tired = behaviour.fatigue ** _count_earlier(seen, visits)
    probability = examined * tired[:, None] * compute_appeal(market, behaviour, visits, shown)
    probability = np.where(is_bot[:, None], 1.0, probability)
    probability = np.where(seen[:, None] & (shown >= 0), probability, 0.0)
    uniform = draw_uniform(visits.seed, "click", *(key[:, None] for key in keys), shown)
    clicked = uniform < probability
    keen = draw_uniform(visits.seed, "add", visits.numbers[visits.session][:, None], shown)
    added = clicked & (keen < behaviour.add) & ~is_bot[:, None]
    bought = _buy(market, behaviour, visits, shown, added)
    return Reactions(
        seen, probability, clicked, added, bought,
        _sum_prices(market, visits, bought), _sum_prices(market, visits, visits.wanted),
    )  # fmt: skip


def compute_appeal(
    market: Market, behaviour: Behaviour, visits: Visits, shown: Int32Array
) -> Float64Array:
    """(n_pages, k): probability of a click on a product that is looked at."""
    affinity = market.find_affinity(visits.page[:, None], shown)
    appeal = behaviour.click_floor - np.expm1(-behaviour.click_scale * affinity)
    appeal = appeal * visits.eagerness[visits.session][:, None]
    wanted = is_wanted(market, visits, shown)
    appeal = np.where(wanted, np.maximum(appeal, behaviour.click_wanted), appeal)
    return np.minimum(appeal, 1.0)


def is_wanted(market: Market, visits: Visits, shown: Int32Array) -> BoolArray:
    """(n_pages, k): the session came for the product."""
    keys = visits.session[:, None] * len(market) + shown
    if not len(visits.wanted):
        return np.zeros(keys.shape, bool)
    places = np.minimum(np.searchsorted(visits.wanted, keys), len(visits.wanted) - 1)
    found: BoolArray = (visits.wanted[places] == keys) & (shown >= 0)
    return found


def _count_earlier(seen: BoolArray, visits: Visits) -> Int64Array:
    """(n_pages,): lists that the session saw before."""
    before: Int64Array = np.cumsum(seen) - seen
    first = np.flatnonzero(visits.place == 0)
    return before - before[first][visits.session]


def _buy(
    market: Market, behaviour: Behaviour, visits: Visits, shown: Int32Array, added: BoolArray
) -> Int64Array:
    """Sessions with an order of their own buy what they added, some of the others, too."""
    has_order = np.zeros(len(visits), bool)
    has_order[visits.wanted // len(market)] = True
    checks_out = draw_uniform(visits.seed, "checkout", visits.numbers) < behaviour.checkout
    owner = np.broadcast_to(visits.session[:, None], shown.shape)[added]
    kept = (has_order | checks_out)[owner]
    extra = (owner * len(market) + shown[added])[kept]
    return np.union1d(visits.wanted, extra)


def _sum_prices(market: Market, visits: Visits, bought: Int64Array) -> Float64Array:
    owner, row = np.divmod(bought, len(market))
    return np.bincount(owner, market.prices[row], minlength=len(visits)).astype(np.float64)
