"""Which of two interleaved arms shoppers prefer.

Chapelle, Joachims, Radlinski and Yue: Large-scale validation and analysis of interleaved search
evaluation, ACM TOIS 30(1), 2012. A session is won by the team with more clicks; sessions in which
neither team was clicked say nothing. Under no preference both teams win alike, whatever positions
and shoppers are like, as a coin drafts them.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from components.experiments.arms import WINDOW_H
from components.experiments.confidence_sequence import (
    ALPHA,
    MIN_EVIDENCE,
    Numbers,
    compute_bounds,
    optimal_rho,
)
from components.experiments.experiment import Experiment

Credit = Literal["clicks", "adds", "purchases", "revenue"]
CREDITS: tuple[Credit, ...] = ("clicks", "adds", "purchases", "revenue")
COLUMNS = ("session_id", "first_ts", "team", *CREDITS)


class Preference(BaseModel):
    """Of `arm` over `against`."""

    model_config = ConfigDict(frozen=True)

    arm: str
    against: str
    credit: Credit
    wins: int
    losses: int
    ties: int
    """Sessions in which both teams earned the same, above 0."""
    n_sessions: int
    """With or without credit."""
    preference: float
    """(wins + ties / 2) / (wins + losses + ties) - ½: from -½ to ½."""
    lower: float
    upper: float
    """Confidence sequence: valid whenever one looks."""
    once_lower: float
    once_upper: float
    """For one look."""
    p_value: float
    """Of the sign test (binomial, without ties), for one look."""
    state: Literal["early", "open", "better", "worse"]

    @property
    def n_decided(self) -> int:
        return self.wins + self.losses + self.ties


def read_teams(
    credits: Any,
    experiment: Experiment,
    credit: Credit = "clicks",
    now: datetime | None = None,
    window_h: float = WINDOW_H,
) -> Preference:
    """`credits` is a pyarrow table with COLUMNS, one row for each session and team; sessions count
    when their window is over. Raises ValueError."""
    import pyarrow.compute as pc

    end = (now or datetime.now(UTC)) - timedelta(hours=window_h)
    credits = credits.filter(pc.less_equal(credits["first_ts"], pa.scalar(end)))
    control, treatment = (arm.name for arm in experiment.arms if arm.holdout is None)
    given, got = pivot_teams(credits, control, treatment, credit)
    return measure_preference(
        given, got, (control, treatment), credit, experiment.alpha, experiment.planned_sessions
    )


def pivot_teams(
    credits: Any, control: str, treatment: str, credit: Credit
) -> tuple[Numbers, Numbers]:
    """Credit of both teams by session, in the order in which sessions began."""
    missing = [name for name in COLUMNS if name not in credits.column_names]
    if missing:
        raise ValueError(f"teams: found no columns {missing}, expected {', '.join(COLUMNS)}")
    teams = credits["team"].to_numpy(zero_copy_only=False)
    if other := sorted(set(teams) - {control, treatment, ""}):
        raise ValueError(
            f"teams: found {', '.join(other)}, expected {control} and {treatment}; give the "
            "experiment's file as it was served"
        )
    codes = credits["session_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    values = credits[credit].to_numpy(zero_copy_only=False).astype(float)
    n = int(codes.max()) + 1 if len(codes) else 0
    first = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(first, codes, credits["first_ts"].to_numpy().astype("datetime64[us]").astype(int))
    order = np.argsort(first, kind="stable")

    def add_up(team: str) -> Numbers:
        return np.bincount(codes, values * (teams == team), n)[order].astype(float)

    return add_up(control), add_up(treatment)


def measure_preference(
    control: Numbers,
    treatment: Numbers,
    names: tuple[str, str] = ("control", "treatment"),
    credit: Credit = "clicks",
    alpha: float = ALPHA,
    planned_sessions: float = 20_000,
) -> Preference:
    """From what each team earned in each session, such as clicks. Raises ValueError."""
    _check_credits(control, treatment)
    wins, losses, ties = count_wins(control, treatment)
    n = wins + losses + ties
    if not n:
        raise ValueError(
            f"{credit}: found none of either team in {len(control)} sessions, expected some; wait, "
            "or check that events name the answers' request ids"
        )
    preference = (wins + ties / 2) / n - 0.5
    variance = (wins + losses) / 4 / n - preference**2
    # A ratio of two means over all sessions: the difference, and the share with credit.
    n_sessions, rho = len(control), optimal_rho(planned_sessions, alpha)
    always = compute_bounds(n_sessions, preference, variance * n_sessions / n, alpha, rho)
    once = _bound_once(n, preference, variance, alpha)
    return Preference(
        arm=names[1], against=names[0], credit=credit,
        wins=wins, losses=losses, ties=ties, n_sessions=n_sessions, preference=preference,
        lower=float(always.lower), upper=float(always.upper),
        once_lower=once[0], once_upper=once[1], p_value=compute_sign_p(wins, losses),
        state=_judge(wins + losses, *map(float, always)),
    )  # fmt: skip


def count_wins(control: Numbers, treatment: Numbers) -> tuple[int, int, int]:
    """Sessions that the treatment wins, loses, and draws with credit."""
    wins, losses = int((treatment > control).sum()), int((treatment < control).sum())
    return wins, losses, int(((treatment == control) & (control > 0)).sum())


def compute_sign_p(wins: int, losses: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _bound_once(n: int, mean: float, variance: float, alpha: float) -> tuple[float, float]:
    from scipy.stats import norm

    half = float(norm.isf(alpha / 2)) * (variance / n) ** 0.5
    return mean - half, mean + half


def _judge(n_won: int, lower: float, upper: float) -> Literal["early", "open", "better", "worse"]:
    if n_won < MIN_EVIDENCE:
        return "early"
    if lower > 0:
        return "better"
    return "worse" if upper < 0 else "open"


def _check_credits(control: Numbers, treatment: Numbers) -> None:
    if len(control) != len(treatment):
        raise ValueError(
            f"teams: found {len(control)} and {len(treatment)} sessions, expected both teams' "
            "credit for every session"
        )
    for values in (control, treatment):
        wrong: npt.NDArray[np.bool_] = ~(np.isfinite(values) & (values >= 0))
        if wrong.any():
            raise ValueError(
                f"teams: found credit {values[wrong][0]}, expected finite numbers from 0"
            )


def describe_preference(one: Preference) -> str:
    found = (
        f"{one.arm} wins {one.wins:,} sessions, {one.against} {one.losses:,}, {one.ties:,} are "
        f"drawn by {one.credit}"
    )
    effect = (
        f"preference {one.preference * 100:+.1f} points "
        f"({one.lower * 100:+.1f} to {one.upper * 100:+.1f})"
    )
    match one.state:
        case "better" | "worse":
            verdict = (
                f"{one.arm} is {one.state} than {one.against}: {effect}, valid whenever you look"
            )
        case "early":
            verdict = f"{one.arm}: nothing can be said yet, too few sessions were won"
        case _:
            verdict = f"{one.arm}: nothing can be said yet: {effect}"
    return f"{found}\n{verdict}"
