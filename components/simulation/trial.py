"""An experiment among simulated shoppers, without a service: hundreds a minute."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.experiments.experiment import Arm, Experiment
from components.model.arrays import BoolArray, Int32Array, Int64Array
from components.simulation.behaviour import Behaviour
from components.simulation.draws import draw_uniform
from components.simulation.market import Market
from components.simulation.reactions import Reactions, react
from components.simulation.visits import Visits

Lists = Mapping[str, Int32Array]
"""By arm: products by position (n_products, k) for the page of each product, -1 for none."""


@dataclass(frozen=True)
class Trial:
    experiment: Experiment
    visits: Visits
    arm: Int64Array
    """(n_sessions,): place in `experiment.arms`."""
    shown: Int32Array
    """(n_pages, k)."""
    drawn_pair: Int32Array
    """(n_pages,): the upper position of the pair that may be swapped, -1 for none."""
    swapped: BoolArray
    reactions: Reactions
    teams: Int64Array | None = None
    """(n_pages, k): the arm that gave each product, -1 for none; under interleaving."""


def name_session(seed: int, number: int) -> str:
    return f"s{seed}-{number}"


def run_trial(
    market: Market, behaviour: Behaviour, experiment: Experiment, lists: Lists, visits: Visits
) -> Trial:
    """Arms as the service assigns them, swaps as it draws them."""
    arm = assign_arms(experiment, visits)
    tables = np.stack([choose_lists(market, one, lists) for one in experiment.arms])
    shown = tables[arm[visits.session], visits.page]
    shown, drawn_pair, swapped = swap_neighbours(shown, visits, experiment.swap_share)
    reactions = react(market, behaviour, visits, shown)
    return Trial(experiment, visits, arm, shown, drawn_pair, swapped, reactions)


def assign_arms(experiment: Experiment, visits: Visits) -> Int64Array:
    """Places in `experiment.arms`, by session id."""
    places = {one.name: place for place, one in enumerate(experiment.arms)}
    names = (name_session(visits.seed, number) for number in visits.numbers.tolist())
    return np.array([places[experiment.assign(name).name] for name in names], np.int64)


def choose_lists(market: Market, arm: Arm, lists: Lists) -> Int32Array:
    """Those of a holdout are empty or bestsellers."""
    shape = next(iter(lists.values())).shape
    if arm.holdout is None:
        return lists[arm.name]
    if arm.holdout == "empty":
        return np.full(shape, -1, np.int32)
    return list_bestsellers(market, shape[1])


def swap_neighbours(
    shown: Int32Array, visits: Visits, share: float
) -> tuple[Int32Array, Int32Array, BoolArray]:
    """Lists, the upper position of the pair drawn or -1, and whether it was swapped."""
    keys = (visits.numbers[visits.session], visits.place)
    sizes = (shown >= 0).sum(axis=1)
    drawn = (draw_uniform(visits.seed, "takes part", *keys) < share) & (sizes >= 2)
    upper = (draw_uniform(visits.seed, "upper", *keys) * (sizes - 1)).astype(np.int32)
    swaps = drawn & (draw_uniform(visits.seed, "swap", *keys) < 0.5)
    pages = np.flatnonzero(swaps)
    shown = shown.copy()
    one, other = shown[pages, upper[pages]], shown[pages, upper[pages] + 1]
    shown[pages, upper[pages]], shown[pages, upper[pages] + 1] = other, one
    return shown, np.where(drawn, upper, -1).astype(np.int32), swaps


def list_bestsellers(market: Market, k: int) -> Int32Array:
    """The same for every page, without the page's product."""
    best = np.argsort(-market.popularity, kind="stable")[: k + 1].astype(np.int32)
    lists = np.tile(best, (len(market), 1))
    is_own = lists == np.arange(len(market))[:, None]
    is_own[:, -1] |= ~is_own.any(axis=1)
    kept: Int32Array = lists[~is_own].reshape(len(market), -1)
    return kept


def list_companions(market: Market, k: int, noise: float = 0.0, seed: int = 0) -> Int32Array:
    """The companions of the largest affinity; a share of the places, `noise`, holds any product.

    A worse system has more noise."""
    owner = np.repeat(np.arange(len(market)), np.diff(market.offsets))
    order = np.lexsort((-market.affinity, owner))
    rank = np.arange(len(order)) - market.offsets[owner]
    lists = np.full((len(market), k), -1, np.int32)
    lists[owner[rank < k], rank[rank < k]] = market.rows[order][rank < k]
    rng = np.random.default_rng(seed)
    redrawn = (rng.random(lists.shape) < noise) & (lists >= 0)
    while redrawn.any():
        lists[redrawn] = rng.integers(len(market), size=int(redrawn.sum()))
        redrawn &= is_repeated(lists)
    return lists


def is_repeated(lists: Int32Array) -> BoolArray:
    """(n, k): the page's own product, or one that the list has in another place, too."""
    order = np.argsort(lists, axis=1, kind="stable")
    falling = np.take_along_axis(lists, order, axis=1)
    same = np.zeros(lists.shape, bool)
    same[:, 1:] = falling[:, 1:] == falling[:, :-1]
    same[:, :-1] |= same[:, 1:]
    repeated: BoolArray = np.empty_like(same)
    np.put_along_axis(repeated, order, same, axis=1)
    repeated |= lists == np.arange(len(lists))[:, None]
    return repeated
