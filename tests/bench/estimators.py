"""Estimators of online measures against simulated shoppers whose truth is known."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.contracts import EVENTS, RECOMMENDATIONS
from components.experiments.experiment import Arm, Experiment
from components.model.arrays import Float64Array, Int32Array
from components.simulation.behaviour import Behaviour
from components.simulation.market import Market, make_market
from components.simulation.reactions import examine, react
from components.simulation.tables import to_events, to_recommendations, write_days, write_trial
from components.simulation.trial import Trial, list_companions, run_trial
from components.simulation.truth import Truth, measure_systems, measure_trial
from components.simulation.visits import Visits, plan_visits

K = 8
N_PRODUCTS = 500

NOISE = 0.12
"""Share of a worse system's places that hold any product."""

SWAPPED_SESSIONS = 80_000

EXPERIMENT_FILE = "experiment.json"

A_CHUNK = 50_000
"""Sessions whose events are in memory at once."""

LEVEL = 0.95

START = date(2026, 3, 2)

Rows = list[dict[str, Any]]
Figures = dict[str, float]


@dataclass(frozen=True)
class World:
    """A shop, two systems, and what is true of its population of shoppers."""

    market: Market
    behaviour: Behaviour
    lists: dict[str, Int32Array]
    population: int

    @cached_property
    def truth(self) -> dict[str, Truth]:
        """Of many shoppers whom no experiment has."""
        visits = plan_visits(self.market, self.behaviour, self.population, 10**6, START, days=3)
        return measure_systems(self.market, self.behaviour, visits, self.lists)


def make_world(population: int) -> World:
    market = make_market(N_PRODUCTS, seed=7)
    good = list_companions(market, K)
    worse = list_companions(market, K, NOISE, seed=8)
    return World(market, Behaviour(), {"good": good, "worse": worse}, population)


Bases = dict[tuple[str, str], float]
"""By experiment and arm: order value per session without recommendations."""


def simulate_experiments(world: World, n_experiments: int, n_sessions: int, root: Path) -> Bases:
    """Events of many experiments of other shoppers each, with a holdout, as of one shop."""
    bases: Bases = {}
    for chunk in _chunk(n_experiments, max(1, A_CHUNK // n_sessions)):
        trials = [_run(world, number, n_sessions) for number in chunk]
        for one in trials:
            found = measure_trial(one).items()
            bases |= {(one.experiment.name, arm): truth.base_value for arm, truth in found}
        tables = [to_events(world.market, world.behaviour, one) for one in trials]
        part = f"part-{chunk.start}"
        write_days(pa.concat_tables(tables), EVENTS, root / "events", part)
        logs = [to_recommendations(world.market, one) for one in trials]
        write_days(pa.concat_tables(logs), RECOMMENDATIONS, root / "recommendations", part)
    return bases


def _chunk(n: int, size: int) -> Iterator[range]:
    yield from (range(start, min(start + size, n)) for start in range(0, n, size))


def _run(world: World, number: int, n_sessions: int) -> Trial:
    arms = (Arm(name="good"), Arm(name="worse"), Arm(name="nothing", holdout="empty"))
    experiment = Experiment(name=f"x{number}", arms=arms)
    visits = plan_visits(world.market, world.behaviour, n_sessions, number, START, days=3)
    return run_trial(world.market, world.behaviour, experiment, world.lists, visits)


def judge_intervals(
    world: World, root: Path, n_experiments: int, n_sessions: int
) -> tuple[Figures, Rows]:
    """Coverage of the intervals of click-through and of the holdout's lift, and its bias."""
    from components.online.events import open_events
    from components.online.holdout import estimate_holdout_lift
    from components.online.measures import measure
    from components.online.sessions import build_sessions

    bases = simulate_experiments(world, n_experiments, n_sessions, root)
    with open_events(root) as online:
        measured = measure(online, by=["experiment", "arm"], confidence=LEVEL).to_pylist()
        sessions = build_sessions(online)
    rates = [row for row in measured if row["measure"] == "click_through"]
    lifts = [
        row | {"luck": bases[name, row["arm"]] - bases[name, "nothing"]}
        for name, one in _split(sessions)
        for row in estimate_holdout_lift(one, "nothing", LEVEL).to_pylist()
        if row["measure"] == "order_value"
    ]
    rows: Rows = []
    for arm, truth in world.truth.items():
        mine = [row for row in rates if row["arm"] == arm]
        rows.append(_judge("click-through", arm, truth.ctr, mine, ("value", "lower", "upper")))
        mine = [row for row in lifts if row["arm"] == arm]
        names = ("difference", "lower", "upper")
        rows.append(_judge("lift over the holdout", arm, truth.effect, mine, names))
    lift = next(row for row in rows if row["measure"] == "lift over the holdout")
    return {
        "interval_coverage": float(np.mean([row["coverage"] for row in rows])),
        "holdout_bias": lift["bias"],
    }, rows


def _split(sessions: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """By experiment."""
    table = sessions.sort_by("experiment")
    names = table["experiment"].to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
    for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
        yield names[start], table.slice(start, end - start)


def _judge(
    measure: str, arm: str, truth: float, found: Rows, names: tuple[str, str, str]
) -> dict[str, Any]:
    """`bias` is relative to the truth, `bias_error` its standard error. What an arm's shoppers buy
    anyway more than others, `luck`, is known, and taken off."""
    value, lower, upper = (np.array([row[name] for row in found]) for name in names)
    lucky = value - np.array([row.get("luck", 0.0) for row in found])
    covered = (lower <= truth) & (truth <= upper)
    return {
        "part": "intervals of 95 %", "measure": measure, "arm": arm, "experiments": len(found),
        "truth": truth, "mean": float(lucky.mean()), "coverage": float(covered.mean()),
        "coverage_error": math.sqrt(covered.mean() * (1 - covered.mean()) / len(found)),
        "bias": float(lucky.mean() / truth - 1),
        "bias_error": float(lucky.std() / math.sqrt(len(found)) / truth),
    }  # fmt: skip


def judge_peeking(
    world: World, n_experiments: int, n_sessions: int, n_looks: int
) -> tuple[Figures, Rows]:
    """A/A tests by clicks per session, looked at in equal steps."""
    from components.experiments.confidence_sequence import (
        compare_arms,
        compare_once,
        estimate_arms,
        is_early,
        optimal_rho,
    )
    from components.experiments.metric import METRICS

    at = np.linspace(n_sessions / 2 / n_looks, n_sessions / 2, n_looks).astype(np.int64)
    wrong = np.zeros(3)
    for number in range(n_experiments):
        arms = _draw_arms(world, "good", "good", n_sessions, 2 * 10**6 + number)
        control, treatment = (one.sums(METRICS["clicks"], at) for one in arms.values())
        moments = estimate_arms(control, treatment)
        once, always = compare_once(*moments), compare_arms(*moments, rho=optimal_rho(n_sessions))
        is_late = ~is_early(*moments)
        differs = (np.asarray(once.lower) > 0) | (np.asarray(once.upper) < 0)
        stays = (np.asarray(always.lower) > 0) | (np.asarray(always.upper) < 0)
        wrong += [differs[-1], differs.any(), (stays & is_late).any()]
    names = (
        "fixed interval, one look",
        "fixed interval, any look",
        "confidence sequence, any look",
    )
    rows: Rows = [
        {
            "part": "A/A tests", "read by": name, "experiments": n_experiments, "looks": n_looks,
            "sessions": n_sessions, "false_positives": float(share),
        }
        for name, share in zip(names, wrong / n_experiments, strict=True)
    ]  # fmt: skip
    return {"peeking_false_positive": rows[-1]["false_positives"]}, rows


def _draw_arms(world: World, control: str, treatment: str, n_sessions: int, seed: int) -> Any:
    """ArmSessions of two arms of half the sessions each."""
    from components.experiments.arms import arms_of_arrays

    columns = {}
    for place, system in enumerate((control, treatment)):
        visits = plan_visits(
            world.market, world.behaviour, n_sessions // 2, seed, START, 3, place * n_sessions
        )
        shown = world.lists[system][visits.page]
        found = react(world.market, world.behaviour, visits, shown)
        impressions = _sum_pages(visits, ((shown >= 0) & found.is_seen[:, None]).sum(axis=1))
        clicks = _sum_pages(visits, found.clicked.sum(axis=1))
        columns[f"arm {place}"] = {"clicks": clicks, "impressions": impressions}
    return arms_of_arrays(columns)


def _sum_pages(visits: Visits, values: Any) -> Float64Array:
    """(n_sessions,)."""
    return np.bincount(visits.session, values, minlength=len(visits)).astype(np.float64)


def judge_position_bias(world: World, root: Path, n_sessions: int) -> tuple[Figures, Rows]:
    """Propensities from swaps in all lists; the error is the mean of |estimate / truth - 1|."""
    from components.online.events import open_events
    from components.online.position_bias import estimate_position_bias

    experiment = Experiment(name="swaps", arms=(Arm(name="good"),), swap_share=1)
    visits = plan_visits(world.market, world.behaviour, n_sessions, 3 * 10**6, START, days=3)
    trial = run_trial(world.market, world.behaviour, experiment, world.lists, visits)
    write_trial(world.market, world.behaviour, trial, root)
    with open_events(root) as online:
        found = estimate_position_bias(online, confidence=LEVEL).to_pylist()
    truth = examine(world.behaviour, K)
    rows: Rows = [
        {
            "part": "position bias", "position": row["position"], "truth": float(true),
            "propensity": row["propensity"], "lower": row["lower"], "upper": row["upper"],
            "error": row["propensity"] / float(true) - 1,
        }
        for row, true in zip(found, truth, strict=False)
    ]  # fmt: skip
    errors = [abs(row["error"]) for row in rows[1:]]
    return {"position_bias_error": float(np.mean(errors)) if errors else math.nan}, rows


def judge_interleaving(world: World, n_sessions: int) -> tuple[Figures, Rows]:
    """Sessions that a split needs to tell the systems apart by clicks, over those of interleaving.

    Both need (z / signal)² sessions, with the signal of one session."""
    visits = plan_visits(world.market, world.behaviour, n_sessions, 4 * 10**6, START, days=3)
    shown = [world.lists[name][visits.page] for name in ("worse", "good")]
    control, treatment = (
        _sum_pages(visits, react(world.market, world.behaviour, visits, one).clicked.sum(axis=1))
        for one in shown
    )
    # The same shoppers before both: the difference is almost free of chance.
    effect = float(np.mean(treatment - control))
    split = effect / math.sqrt(2 * (treatment.var() + control.var()))
    mixed, teams = draft_lists(shown[0], shown[1])
    clicked = react(world.market, world.behaviour, visits, mixed).clicked
    won = [_sum_pages(visits, (clicked & (teams == team)).sum(axis=1)) for team in (0, 1)]
    score = np.sign(won[1] - won[0])
    interleaved = float(score.mean() / score.std())
    needs = [round((1.96 + 0.84) ** 2 / signal**2) for signal in (split, interleaved)]
    rows: Rows = [
        {
            "part": "sessions to tell two systems apart", "by": name, "simulated": n_sessions,
            "sessions": need, "lift_of_clicks": effect / float(control.mean()),
        }
        for name, need in zip(("split", "interleaving"), needs, strict=True)
    ]  # fmt: skip
    return {"interleaving_speedup": needs[0] / needs[1]}, rows


def draft_lists(one: Int32Array, other: Int32Array) -> tuple[Int32Array, Int32Array]:
    """Team drafts of lists (n_pages, k) as the service makes them, and the teams, -1 for none."""
    from bento.answering.interleaving import draft_teams

    mixed, teams = np.full_like(one, -1), np.full_like(one, -1)
    for page, lists in enumerate(zip(one.tolist(), other.tolist(), strict=True)):
        products = [[row for row in rows if row >= 0] for rows in lists]
        drafted = draft_teams(products, one.shape[1], str(page))
        for position, (row, team) in enumerate(drafted):
            mixed[page, position] = row
            teams[page, position] = -1 if team is None else team
    return mixed, teams


def simulate_traffic(world: World, n_rows: int, root: Path) -> int:
    """At least `n_rows` of EVENTS over four weeks, and their log; the number of rows."""
    arms = (Arm(name="good"), Arm(name="worse"), Arm(name="nothing", holdout="empty", weight=0.2))
    experiment = Experiment(name="traffic", arms=arms, swap_share=0.05)
    root.mkdir(parents=True)
    (root / EXPERIMENT_FILE).write_text(experiment.model_dump_json())
    written, first, size = 0, 0, min(A_CHUNK, 1 + n_rows // 20)
    while written < n_rows:
        visits = plan_visits(world.market, world.behaviour, size, 5 * 10**6, START, 28, first)
        trial = run_trial(world.market, world.behaviour, experiment, world.lists, visits)
        events, part = to_events(world.market, world.behaviour, trial), f"part-{first}"
        write_days(events, EVENTS, root / "events", part)
        log = to_recommendations(world.market, trial)
        write_days(log, RECOMMENDATIONS, root / "recommendations", part)
        written, first = written + len(events), first + size
    return written
