"""The truth for estimators: rates and effects of a system, free of most of the chance."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from components.model.arrays import BoolArray, Int32Array
from components.simulation.behaviour import Behaviour
from components.simulation.market import Market
from components.simulation.reactions import Reactions, react
from components.simulation.trial import Trial
from components.simulation.visits import Visits


class Truth(NamedTuple):
    """Of shoppers who are no bots. Values are in the shop's currency."""

    sessions: int
    impressions: int
    """Products in the viewport."""
    ctr: float
    """Expected clicks per impression."""
    order_value: float
    """Per session, of all that was bought."""
    base_value: float
    """Per session, of what the same shoppers buy without recommendations."""
    effect: float
    """`order_value` - `base_value`: the lift that a holdout estimates."""
    effect_error: float
    """Standard error of `effect`."""


def measure_systems(
    market: Market, behaviour: Behaviour, visits: Visits, lists: Mapping[str, Int32Array]
) -> dict[str, Truth]:
    """Every system before the same shoppers, who draw the same chances. With many sessions, the
    truth of the population."""
    shown = {name: table[visits.page] for name, table in lists.items()}
    return {
        name: summarise(visits, one, react(market, behaviour, visits, one))
        for name, one in shown.items()
    }


def measure_trial(trial: Trial) -> dict[str, Truth]:
    """Of each arm's own sessions."""
    found = {}
    for place, arm in enumerate(trial.experiment.arms):
        found[arm.name] = summarise(trial.visits, trial.shown, trial.reactions, trial.arm == place)
    return found


def summarise(
    visits: Visits, shown: Int32Array, reactions: Reactions, chosen: BoolArray | None = None
) -> Truth:
    """Of the `chosen` sessions (n_sessions,); default: all."""
    people = ~visits.is_bot if chosen is None else chosen & ~visits.is_bot
    pages = people[visits.session]
    seen = reactions.is_seen & pages
    impressions = int((shown[seen] >= 0).sum())
    n = int(people.sum())
    divisor = max(n, 1)
    mean_square = float((reactions.effect[people] ** 2).sum() / divisor)
    effect = float(reactions.effect[people].sum() / divisor)
    return Truth(
        sessions=n,
        impressions=impressions,
        ctr=float(reactions.click_probability[seen].sum() / max(impressions, 1)),
        order_value=float(reactions.order_value[people].sum() / divisor),
        base_value=float(reactions.base_value[people].sum() / divisor),
        effect=effect,
        effect_error=float(np.sqrt(max(mean_square - effect**2, 0) / divisor)),
    )
