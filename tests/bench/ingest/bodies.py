"""Batches of events as shops send them, made by simulated shoppers."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from components.experiments.experiment import Arm, Experiment
from components.simulation.behaviour import Behaviour
from components.simulation.market import make_market
from components.simulation.tables import to_events
from components.simulation.trial import list_companions, run_trial
from components.simulation.visits import plan_visits
from pipelines.simulate import to_sent

BATCH = 50
VIEWPORT = 5
"""Products of an impression."""

MARK = "~~"
"""Where a request's number goes: event ids are new in every request."""


def make_events(n_events: int, seed: int = 0) -> list[dict[str, Any]]:
    """In the order of time, without times: the service's clock counts."""
    market, behaviour = make_market(2_000, seed=seed), Behaviour()
    experiment = Experiment(name="load", arms=(Arm(name="default"),))
    visits = plan_visits(market, behaviour, n_events, seed)
    trial = run_trial(
        market, behaviour, experiment, {"default": list_companions(market, VIEWPORT)}, visits
    )
    events = [
        {name: value for name, value in event.items() if name != "timestamp"}
        for event in to_sent(to_events(market, behaviour, trial))
    ]
    order = np.random.default_rng(seed).permutation(len(events))[:n_events]
    return [events[place] for place in order]


def write_bodies(file: Path, n_requests: int, numbered: bool = False) -> Path:
    """A body of BATCH events a line. `numbered` ones bring ids of their own; else their ids begin
    with MARK."""
    events = make_events(BATCH * min(n_requests, 200))
    with file.open("w") as stream:
        for number in range(n_requests):
            mark = f"{number:x}" if numbered else MARK
            stream.write(json.dumps({"events": choose_batch(events, number, mark)}) + "\n")
    return file


def choose_batch(events: list[dict[str, Any]], number: int, mark: str) -> list[dict[str, Any]]:
    start = BATCH * number % len(events)
    batch = events[start : start + BATCH]
    return [{**one, "event_id": f"{mark}-{place}"} for place, one in enumerate(batch)]
