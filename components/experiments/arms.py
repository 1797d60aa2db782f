"""The sessions of an experiment's arms, from the table SESSIONS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from components.contracts import SESSIONS
from components.experiments.confidence_sequence import Numbers, Sums, sum_sessions
from components.experiments.experiment import Experiment
from components.experiments.metric import Metric

MEASURES = [field.name for field in SESSIONS if str(field.type) == "double"]
FROM_FIRST = ("orders", "order_value", "earlier_orders", "earlier_order_value", "earlier_clicks")
"""The first of a session's rows tells the whole; the other measures add up."""
ADDITIVE = [name for name in MEASURES if name not in FROM_FIRST]
WINDOW_H = 24.0
"""A session counts once, when so many hours have passed since its first list."""


@dataclass(frozen=True)
class ArmSessions:
    """In the order in which sessions began."""

    name: str
    weight: float
    ts: npt.NDArray[np.datetime64]
    measures: Mapping[str, Numbers]

    @property
    def n(self) -> int:
        return len(self.ts)

    def sums(self, metric: Metric, at: npt.NDArray[np.int64] | None = None) -> Sums:
        """Of all sessions, or after the first `at` ones (a count for each look)."""
        numerator = self.measures[metric.numerator] * metric.scale
        denominator, covariate = map(self._column, (metric.denominator, metric.covariate))
        return sum_sessions(numerator, denominator, covariate, at)

    def check_denominator(self, metric: Metric) -> None:
        """Raises ValueError where a ratio has none."""
        if metric.denominator and not self.measures[metric.denominator].any():
            raise ValueError(
                f"{metric.name}: arm {self.name!r} has no {metric.denominator} in {self.n} "
                "sessions; wait for them, or read another metric"
            )

    def _column(self, name: str | None) -> Numbers | None:
        return None if name is None else self.measures[name]

    def take(self, chosen: npt.NDArray[Any]) -> Self:
        return replace(
            self,
            ts=self.ts[chosen],
            measures={name: column[chosen] for name, column in self.measures.items()},
        )


@dataclass(frozen=True)
class ExperimentSessions:
    arms: Mapping[str, ArmSessions]
    """The control first."""
    n_unfinished: int
    """Sessions whose window is not over."""
    n_unseen: int
    """Others without a list in the viewport: not exposed. Those of a holdout are no such ones."""
    n_crossed: int
    """Sessions with more than one arm; left out."""

    @property
    def sessions_per_day(self) -> float:
        """Of all arms."""
        return count_per_day(np.concatenate([arm.ts for arm in self.arms.values()]))


def count_per_day(ts: npt.NDArray[np.datetime64]) -> float:
    if not len(ts):
        return 0.0
    days = (ts.max() - ts.min()) / np.timedelta64(1, "D")
    return float(len(ts) / max(days, 1))


def split_sessions(
    sessions: Any, experiment: Experiment, now: datetime | None = None, window_h: float = WINDOW_H
) -> ExperimentSessions:
    """From a pyarrow table SESSIONS: sessions that saw a list. Raises ValueError."""
    return split_seen_and_all(sessions, experiment, now, window_h)[0]


def split_seen_and_all(
    sessions: Any, experiment: Experiment, now: datetime | None = None, window_h: float = WINDOW_H
) -> tuple[ExperimentSessions, ExperimentSessions]:
    """Those that saw a list, and all that were assigned to an arm. Raises ValueError."""
    rows = _select_rows(sessions, experiment)
    _check_arms(rows["arm"], experiment)
    rows, n_crossed = _merge_sessions(rows)
    is_clear = ~rows.get("is_crossed", np.zeros(len(rows["arm"]), bool))
    is_seen, is_over = rows["is_seen"], _find_finished(rows, now, window_h)
    held = [arm.name for arm in experiment.arms if arm.holdout is not None]
    n_unfinished = int((is_clear & ~is_over).sum())
    n_unseen = int((is_clear & is_over & ~is_seen & ~np.isin(rows["arm"], held)).sum())

    def split(chosen: npt.NDArray[np.bool_]) -> ExperimentSessions:
        arms = {
            arm.name: _take_rows(
                arm.name, arm.weight, rows, chosen & is_over & (rows["arm"] == arm.name)
            )
            for arm in experiment.arms
        }
        return ExperimentSessions(arms, n_unfinished, n_unseen, n_crossed)

    seen = split(is_clear & is_seen)
    return seen, seen if is_seen.all() else split(is_clear)


def take_all_sessions(
    sessions: Any, now: datetime | None = None, window_h: float = WINDOW_H
) -> ArmSessions:
    """Those that saw a list, whatever arm they had: a baseline. Raises ValueError."""
    rows, _ = _merge_sessions(_read_rows(sessions))
    return _take_rows("baseline", 1, rows, rows["is_seen"] & _find_finished(rows, now, window_h))


def arms_of_arrays(
    measures: Mapping[str, Mapping[str, Numbers]], weights: Sequence[float] | None = None
) -> dict[str, ArmSessions]:
    """From columns of SESSIONS for each arm, the control first; absent ones are 0. Raises
    ValueError."""
    weights = weights or [1.0] * len(measures)
    arms = {}
    for (name, columns), weight in zip(measures.items(), weights, strict=True):
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise ValueError(f"arm {name!r}: found columns of lengths {sorted(lengths)}")
        n = lengths.pop()
        filled = {one: np.asarray(columns.get(one, np.zeros(n)), float) for one in MEASURES}
        for column, values in filled.items():
            _check_finite(values, column)
        ts = np.datetime64("2000-01-01", "us") + np.arange(n)
        arms[name] = ArmSessions(name, weight, ts, filled)
    return arms


def _select_rows(sessions: Any, experiment: Experiment) -> dict[str, npt.NDArray[Any]]:
    import pyarrow.compute as pc

    if "experiment" not in sessions.column_names:
        raise ValueError("sessions: found no column 'experiment', expected the table SESSIONS")
    mine = sessions.filter(pc.equal(sessions["experiment"], experiment.name))
    if not mine.num_rows:
        found = sorted(set(filter(None, sessions["experiment"].unique().to_pylist())))
        raise ValueError(
            f"experiment {experiment.name!r}: found no session; the sessions belong to "
            f"{', '.join(found) or 'no experiment'}; check the name, and that events arrive"
        )
    return _read_rows(mine)


def _read_rows(sessions: Any) -> dict[str, npt.NDArray[Any]]:
    missing = [field.name for field in SESSIONS if field.name not in sessions.column_names]
    if missing:
        raise ValueError(f"sessions: found no columns {missing}, expected the table SESSIONS")
    rows = {name: sessions[name].to_numpy() for name in ("arm", "is_seen", *MEASURES)}
    codes = sessions["session_id"].combine_chunks().dictionary_encode().indices
    rows["session_id"] = codes.to_numpy()  # numbers sort a hundred times faster than texts
    rows["first_ts"] = sessions["first_ts"].to_numpy().astype("datetime64[us]")
    for name in MEASURES:
        _check_finite(rows[name], name)
    return rows


def _check_finite(values: Numbers, name: str) -> None:
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise ValueError(
            f"sessions: {name} holds {values[wrong][0]} (row {int(wrong.argmax())}), expected "
            "finite numbers from 0"
        )


def _check_arms(arms: npt.NDArray[Any], experiment: Experiment) -> None:
    found, expected = set(arms), [arm.name for arm in experiment.arms]
    if other := sorted(found - set(expected)):
        raise ValueError(
            f"experiment {experiment.name!r}: found sessions of {', '.join(other)}, expected the "
            f"arms {', '.join(expected)}; give the experiment's file as it was served"
        )


def _merge_sessions(rows: dict[str, npt.NDArray[Any]]) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """One row for a session, whatever versions it saw; the number of sessions with several arms,
    flagged in
    `is_crossed`."""
    order = np.lexsort((rows["first_ts"], rows["session_id"]))
    rows = {name: column[order] for name, column in rows.items()}
    ids, start, counts = np.unique(rows["session_id"], return_index=True, return_counts=True)
    if len(ids) == len(order):
        return rows, 0
    session = np.repeat(np.arange(len(ids)), counts)
    differs = rows["arm"] != rows["arm"][start][session]
    crossed = np.bincount(session, differs, len(ids)) > 0
    merged = {name: column[start] for name, column in rows.items()}
    merged["is_seen"] = np.logical_or.reduceat(rows["is_seen"], start)
    for name in ADDITIVE:
        merged[name] = np.add.reduceat(rows[name], start)
    return merged | {"is_crossed": crossed}, int(crossed.sum())


def _find_finished(
    rows: dict[str, npt.NDArray[Any]], now: datetime | None, window_h: float
) -> npt.NDArray[np.bool_]:
    end = np.datetime64((now or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None))
    window = np.timedelta64(timedelta(hours=window_h))
    is_over: npt.NDArray[np.bool_] = np.less_equal(rows["first_ts"] + window, end)
    return is_over


def _take_rows(
    name: str, weight: float, rows: dict[str, npt.NDArray[Any]], mask: npt.NDArray[np.bool_]
) -> ArmSessions:
    chosen = np.flatnonzero(mask)
    chosen = chosen[np.argsort(rows["first_ts"][chosen], kind="stable")]
    columns = {one: rows[one][chosen] for one in MEASURES}
    return ArmSessions(name, weight, rows["first_ts"][chosen], columns)
