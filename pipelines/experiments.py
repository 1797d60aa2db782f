"""`fbt experiment`: how long an experiment takes, and what it says so far."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

from components.contracts import SESSIONS, read_table
from components.experiments.arms import count_per_day, split_sessions, take_all_sessions
from components.experiments.experiment import Experiment, read_experiment
from components.experiments.interleaving import Credit, describe_preference, read_teams
from components.experiments.metric import find_metric
from components.experiments.plan import (
    HOLDOUT_METRICS,
    Baseline,
    Weights,
    describe_plan,
    find_effect,
    find_holdout_share,
    measure_baseline,
    percent,
    plan_experiment,
    read_weights,
)
from components.experiments.readout import read_arms
from components.experiments.verdict import judge_experiment
from components.experiments.words import describe_readout, describe_verdict
from components.model.atomic import atomic_write
from components.report.online_windows import find_first_reading, say_moment

if TYPE_CHECKING:
    import pyarrow as pa

MIN_SESSIONS = 2
BASELINE_DAYS = 28
"""Whole weeks: weekends differ."""


class Source(NamedTuple):
    """Where sessions come from: compacted events, or a table."""

    online: Path
    sessions: Path | None = None

    def read(
        self, experiment: str | None, window_h: float, since: datetime | None = None
    ) -> "pa.Table":
        """SESSIONS. Raises ContractError."""
        if self.sessions is not None:
            return read_table(self.sessions, SESSIONS)
        from components.online.events import open_events
        from components.online.sessions import build_sessions
        from components.online.settings import OnlineSettings

        settings = OnlineSettings(window_h=window_h, since=since)
        with open_events(self.online, settings) as events:
            found = build_sessions(events, experiment, window_h=window_h)
            if experiment and not found.num_rows:
                raise _explain_absence(experiment, build_sessions(events))
            return found

    def read_credits(self, experiment: str, window_h: float) -> "pa.Table":
        """Outcomes of each team in each session."""
        from components.online.events import open_events
        from components.online.sessions import build_sessions, count_team_clicks
        from components.online.settings import OnlineSettings

        with open_events(self.online, OnlineSettings(window_h=window_h)) as events:
            found = count_team_clicks(events, experiment, window_h)
            if not found.num_rows:
                raise _explain_absence(experiment, build_sessions(events))
            return found


def _explain_absence(experiment: str, sessions: "pa.Table") -> ValueError:
    others = sorted(set(filter(None, sessions["experiment"].to_pylist())))
    return ValueError(
        f"experiment {experiment!r}: found no session, expected its name in the log; there are "
        f"sessions of {', '.join(map(repr, others)) or 'no experiment'}; give the file as it was "
        "served, and see `fbt events compact`"
    )


class Given(NamedTuple):
    """A baseline in numbers, for a shop without events."""

    mean: float | None
    variance: float | None
    sessions_per_day: float | None


def find_baseline(
    metric: str, given: Given, source: Source, window_h: float, now: datetime | None = None
) -> Baseline:
    """Raises ValueError."""
    found = find_metric(metric)
    if given.mean is not None and given.variance is not None:
        return Baseline(found.name, given.mean, given.variance, given.sessions_per_day)
    if given.mean is not None or given.variance is not None:
        raise ValueError("experiment: found one of --mean and --variance, expected both or none")
    since = (now or datetime.now(UTC)) - timedelta(days=BASELINE_DAYS)
    table = source.read(None, window_h, since)
    sessions = take_all_sessions(table, now, window_h)
    if sessions.n < MIN_SESSIONS:
        raise ValueError(_explain_baseline(sessions.n, table, window_h))
    per_day = given.sessions_per_day or count_per_day(sessions.ts)
    return measure_baseline(sessions, found, per_day)


def _explain_baseline(n_over: int, sessions: "pa.Table", window_h: float) -> str:
    text = (
        f"baseline: found {n_over} sessions that saw a list and began at least {window_h:g} hours "
        f"ago, of {sessions.num_rows:,}, expected {MIN_SESSIONS} or more; "
    )
    if sessions.num_rows:
        first = min(sessions["first_ts"].to_pylist()) + timedelta(hours=window_h)
        text += f"the first one's hours are over on {first:%d %b %Y %H:%M} UTC (see --now); "
    return f"{text}or give --mean, --variance and --sessions-per-day"


def choose_arms(experiment: Path | None, arms: Sequence[str], metric: str) -> Weights:
    """From a file or `NAME=WEIGHT`. Raises ValueError."""
    if experiment is not None:
        if arms:
            raise ValueError("experiment: --experiment names the arms; leave --arms out")
        return read_weights(read_experiment(experiment), metric)
    return Weights(dict(map(_parse_arm, arms or ("A=1", "B=1"))))


def _parse_arm(text: str) -> tuple[str, float]:
    name, _, weight = text.partition("=")
    try:
        return name, float(weight or 1)
    except ValueError:
        raise ValueError(f"--arms: found {text!r}, expected NAME=WEIGHT, such as B=0.1") from None


def describe_plans(
    baseline: Baseline, weights: Weights, effect: float, alpha: float, power: float,
    days: float | None,
) -> str:  # fmt: skip
    """Raises ValueError."""
    compared, held_share = weights
    plan = plan_experiment(baseline, compared, effect, alpha, power, held_share)
    lines = [describe_plan(plan)]
    if days:
        once, daily = find_effect(baseline, compared, days, alpha, power, held_share)
        lines.append(
            f"In {_name_days(days)}: an effect of {percent(once)} with one look at the end, "
            f"{percent(daily)} with a look every day"
        )
        lines.append(_describe_holdout(baseline, effect, days, alpha, power))
    return "\n".join(lines)


def _describe_holdout(
    baseline: Baseline, effect: float, days: float, alpha: float, power: float
) -> str:
    if baseline.metric not in HOLDOUT_METRICS:
        return f"A holdout has no {baseline.metric}: plan it by --metric {HOLDOUT_METRICS[0]}"
    try:
        share = find_holdout_share(baseline, effect, days, alpha, power)
    except ValueError as error:
        return str(error)
    return (
        f"A holdout of {share * 100:.1f} % shows in {_name_days(days)} an effect of "
        f"{percent(effect)}"
    )


def _name_days(days: float) -> str:
    return "1 day" if days == 1 else f"{days:g} days"


class Answer(NamedTuple):
    text: str
    result: BaseModel


def read(
    path: Path, source: Source, window_h: float, now: datetime | None, credit: Credit
) -> Answer:
    """The verdict so far. Raises ValueError."""
    experiment = read_experiment(path)
    if experiment.method == "interleave":
        preference = read_teams(
            source.read_credits(experiment.name, window_h), experiment, credit, now, window_h
        )
        return Answer(describe_preference(preference), preference)
    sessions = _read_sessions(source, experiment, window_h, now)
    verdict = judge_experiment(sessions, experiment, now, window_h)
    return Answer(describe_verdict(verdict), verdict)


def _read_sessions(
    source: Source, experiment: Experiment, window_h: float, now: datetime | None
) -> "pa.Table":
    """Raises ValueError before enough sessions are over."""
    sessions = source.read(experiment.name, window_h)
    moment = find_first_reading(sessions, experiment, window_h)
    if moment is not None and moment > (now or datetime.now(UTC)):
        raise ValueError(
            f"experiment {experiment.name}: readable from {say_moment(moment)}; a session counts "
            f"when its {window_h:g} hours are over (see --window and --now), found "
            f"{sessions.num_rows:,} that are not"
        )
    return sessions


def read_once(
    path: Path, source: Source, window_h: float, now: datetime | None, metrics: Sequence[str]
) -> str:
    """All metrics at the planned end, by tea-tasting. Raises ValueError."""
    experiment = read_experiment(path)
    found = _read_sessions(source, experiment, window_h, now)
    sessions = split_sessions(found, experiment, now, window_h)
    shown = {arm.name: sessions.arms[arm.name] for arm in experiment.arms if arm.holdout is None}
    chosen = [find_metric(name) for name in metrics or _list_metrics(experiment)]
    return describe_readout(read_arms(shown, chosen, experiment.alpha), next(iter(shown)))


def _list_metrics(experiment: Experiment) -> list[str]:
    return [experiment.metric, *(guard.metric for guard in experiment.guardrails)]


def write_result(result: BaseModel, path: Path) -> None:
    with atomic_write(path) as aside:
        aside.write_text(result.model_dump_json(indent=2) + "\n")
