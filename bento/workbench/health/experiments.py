"""Verdicts of experiments so far, from compacted events, as `fbt experiment read` gives them.

They are read in a process of their own: DuckDB needs memory and time that pages do not have.
"""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter

from bento.workbench.health.whiskers import Interval, Whiskers, draw
from components.experiments.experiment import Experiment, read_experiment
from components.experiments.interleaving import Preference, describe_preference, read_teams
from components.experiments.verdict import Comparison, Verdict, judge_experiment
from components.experiments.words import describe_verdict
from components.online.events import OnlineEvents, open_events
from components.online.sessions import build_sessions, count_team_clicks
from components.online.settings import OnlineSettings

WINDOW_H = 24.0
TIMEOUT_S = 600
SETTINGS = OnlineSettings(window_h=WINDOW_H, memory_mb=500, threads=1)


class ExperimentState(NamedTuple):
    name: str
    arms: list[str]
    """The control first."""
    words: list[str]
    """The verdict, line by line, or why there is none yet."""
    decision: str
    """As in Verdict; empty while there is none."""
    whiskers: Whiskers | None
    """Relative difference to the control, arm by arm."""
    metric: str


STATES = TypeAdapter(list[ExperimentState])


def read_experiments(folder: Path, online: Path) -> list[ExperimentState]:
    """Newest file first. Blocks, for minutes where there are many events. Raises OSError."""
    if not any(folder.glob("*.json")):
        return []
    command = [sys.executable, "-m", "bento.workbench.health.experiments"]
    command += [str(folder), str(online)]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise OSError(f"experiments cannot be read: {last[:300]}")
    return STATES.validate_json(done.stdout)


def read_state(file: Path, online: Path) -> ExperimentState:
    try:
        experiment = read_experiment(file)
    except ValueError as error:
        return ExperimentState(file.stem, [], [str(error)], "", None, "")
    try:
        if not (online / "events").is_dir():
            raise ValueError(f"no events in {online} yet; `fbt events compact` brings them")
        with open_events(online, SETTINGS) as events:
            return judge(experiment, events, datetime.now(UTC))
    except ValueError as error:  # too few sessions, or no events of it
        arms = [arm.name for arm in experiment.arms]
        return ExperimentState(experiment.name, arms, [str(error)], "", None, experiment.metric)


def judge(experiment: Experiment, events: OnlineEvents, now: datetime) -> ExperimentState:
    """Raises ValueError."""
    arms = [arm.name for arm in experiment.arms]
    if experiment.method == "interleave":
        credits = count_team_clicks(events, experiment.name, WINDOW_H)
        found = read_teams(credits, experiment, "clicks", now, WINDOW_H)
        words = describe_preference(found).splitlines()
        drawn = draw([to_interval(found)], zero=True)
        return ExperimentState(experiment.name, arms, words, found.state, drawn, "clicks")
    sessions = build_sessions(events, experiment.name, window_h=WINDOW_H)
    if not sessions.num_rows:
        raise ValueError(f"no session of {experiment.name!r} in the compacted events yet")
    verdict = judge_experiment(sessions, experiment, now, WINDOW_H)
    words = describe_verdict(verdict).splitlines()
    return ExperimentState(
        experiment.name, arms, words, verdict.decision, chart(verdict), experiment.metric
    )


def to_interval(one: Preference) -> Interval:
    return Interval(one.arm, one.preference, one.lower, one.upper)


def chart(verdict: Verdict) -> Whiskers | None:
    rows = [one for arm in verdict.arms if (one := relative(arm.comparison)) is not None]
    return draw(rows, zero=True) if rows else None


def relative(one: Comparison) -> Interval | None:
    """None where the control has nothing to compare with, or no bound is known."""
    bounds = (one.relative, one.relative_lower, one.relative_upper)
    if any(x is None for x in bounds):
        return None
    return Interval(one.arm, *bounds)  # type: ignore[arg-type]


def main() -> None:
    os.nice(10)
    folder, online = map(Path, sys.argv[1:])
    files = sorted(folder.glob("*.json"), key=lambda file: -file.stat().st_mtime)
    sys.stdout.buffer.write(STATES.dump_json([read_state(file, online) for file in files]))


if __name__ == "__main__":
    main()
