"""Chapters on experiments and holdouts of the online report."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.experiments.arms import split_sessions
from components.experiments.experiment import Arm, Experiment
from components.experiments.interleaving import describe_preference, read_teams
from components.experiments.metric import find_metric
from components.experiments.verdict import (
    Comparison,
    GuardResult,
    Verdict,
    judge_experiment,
    trace_looks,
)
from components.experiments.words import (
    describe_comparison,
    describe_effect,
    describe_holdout,
)
from components.online.events import OnlineEvents
from components.online.holdout import estimate_holdout_lift
from components.online.sessions import build_sessions, count_team_clicks
from components.report.formatting import count, minus, percent, percent_change
from components.report.online_page import (
    Bounds,
    Difference,
    ExperimentPart,
    HoldoutPart,
    Look,
)
from components.report.online_windows import find_first_reading, say_moment, take_finished

HEADLINES = {
    "better": "{best} is better",
    "worse": "the new arm is worse",
    "alike": "the arms are alike",
    "open": "not decided yet",
    "early": "too few sessions yet",
    "stop": "stop",
}
OUTCOMES = {"order_value": "order value per session", "orders": "orders per session"}


def read_experiments(
    online: OnlineEvents, experiments: Sequence[Experiment], now: datetime | None = None
) -> tuple[list[ExperimentPart], list[HoldoutPart]]:
    """Of those experiments, and the names of the others that the log holds."""
    now = now or datetime.now(UTC)
    parts, holdouts = [], []
    for experiment in experiments:
        sessions = build_sessions(online, experiment.name)
        parts.append(read_experiment(online, sessions, experiment, now))
        holdouts += [
            read_holdout(sessions, experiment, arm, now, online.settings.window_h)
            for arm in experiment.arms
            if arm.holdout is not None
        ]
    known = {one.name for one in experiments}
    return parts + [_name_unknown(name) for name in list_experiments(online, known)], holdouts


def list_experiments(online: OnlineEvents, known: set[str]) -> list[str]:
    rows = online.db.execute("select distinct experiment from places order by all").fetchall()
    return [name for (name,) in rows if name is not None and name not in known]


def _name_unknown(name: str) -> ExperimentPart:
    why = "Give its file by --experiment to have it read."
    return _unread(name, "its file was not given", why)


def _unread(name: str, headline: str, why: str) -> ExperimentPart:
    return ExperimentPart(
        name=name, headline=headline, is_bad=False, why=why, arms=(), ratio_words="",
        differences=(), looks={}, main_measure="", guardrails=(),
    )  # fmt: skip


def read_experiment(
    online: OnlineEvents, sessions: pa.Table, experiment: Experiment, now: datetime
) -> ExperimentPart:
    window_h = online.settings.window_h
    try:
        if experiment.method == "interleave":
            return _read_interleaved(online, experiment, now)
        first_reading = find_first_reading(sessions, experiment, window_h)
        if first_reading is not None and first_reading > now:
            return _wait(sessions, experiment, first_reading, window_h)
        verdict = judge_experiment(sessions, experiment, now, window_h)
        looks = _trace(sessions, experiment, now, window_h)
    except ValueError as error:
        return _unread(experiment.name, "cannot be read yet", f"{error}.")
    return ExperimentPart(
        name=experiment.name,
        headline=HEADLINES[verdict.decision].format(best=verdict.best),
        is_bad=verdict.decision == "stop",
        why=_say_why(verdict),
        arms=_list_arms(verdict, experiment),
        ratio_words=_say_ratio(verdict),
        differences=[_compare(one) for one in _list_comparisons(verdict)],
        looks=looks,
        main_measure=find_metric(experiment.metric).words,
        guardrails=[_guard(arm.arm, one) for arm in verdict.arms for one in arm.guardrails],
    )


def _wait(
    sessions: pa.Table, experiment: Experiment, first_reading: datetime, window_h: float
) -> ExperimentPart:
    why = (
        f"{count(sessions.num_rows)} sessions so far. One is counted when its {window_h:g} hours "
        "are over, within which orders count."
    )
    return _unread(experiment.name, f"readable from {say_moment(first_reading)}", why)


def _trace(
    sessions: pa.Table, experiment: Experiment, now: datetime, window_h: float
) -> dict[str, list[Look]]:
    found = split_sessions(sessions, experiment, now, window_h)
    arms = {one.name: found.arms[one.name] for one in experiment.arms if one.holdout is None}
    if len(arms) < 2:
        return {}
    return {
        name: [Look(one.day, Bounds(one.relative, one.lower, one.upper)) for one in looks]
        for name, looks in trace_looks(arms, experiment).items()
    }


def _read_interleaved(
    online: OnlineEvents, experiment: Experiment, now: datetime
) -> ExperimentPart:
    credits = count_team_clicks(online, experiment.name)
    found = read_teams(credits, experiment, now=now, window_h=online.settings.window_h)
    counted, verdict = describe_preference(found).split("\n")
    names = {"better": f"{found.arm} is better", "worse": f"{found.arm} is worse"}
    part = _unread(
        experiment.name,
        names.get(found.state, HEADLINES["open" if found.state == "open" else "early"]),
        f"The lists of two arms were interleaved. {_sentence(counted)} {_sentence(verdict)}",
    )
    return part


def _say_why(verdict: Verdict) -> str:
    if verdict.is_mismatched:
        return (
            "The arms have other numbers of sessions than planned, so that nothing can be "
            "compared. Find the reason: an arm that loses sessions, or that was changed."
        )
    return " ".join(_sentence(describe_comparison(one.comparison)) for one in verdict.arms)


def _sentence(text: str) -> str:
    """With the first letter as it is, which may be an arm's."""
    return f"{minus(text)}."


def _list_arms(verdict: Verdict, experiment: Experiment) -> list[tuple[str, str, float, float]]:
    """Of each sample ratio: with a holdout once more, over all sessions that were assigned."""
    words = {arm.name: _describe_arm(arm, arm is experiment.arms[0]) for arm in experiment.arms}
    ends = {"seen": "", "assigned": "; all that were assigned"}
    return [
        (name, f"{words[name]}{ends[ratio.of]}".removeprefix("; "), n, ratio.expected[name])
        for ratio in verdict.ratios
        for name, n in ratio.counts.items()
    ]


def _describe_arm(arm: Arm, is_control: bool) -> str:
    changed = arm.settings.model_dump(exclude_none=True)
    words = [
        "control" if is_control else "",
        f"version {arm.model_version}" if arm.model_version else "",
        *(f"{name} {value}" for name, value in changed.items()),
        f"holdout: {arm.holdout}" if arm.holdout else "",
    ]
    return ", ".join(filter(None, words))


def _say_ratio(verdict: Verdict) -> str:
    p_value = verdict.sample_ratio_p
    if verdict.is_mismatched:
        return (
            "The sample ratio is wrong: chance alone gives arms of these sizes with a probability "
            f"of {p_value:.1g}."
        )
    left_out = [
        f"{count(n)} {words}"
        for n, words in (
            (verdict.n_unfinished, "whose window is open"), (verdict.n_unseen, "saw no list"),
            (verdict.n_crossed, "had several arms"),
        ) if n
    ]  # fmt: skip
    rest = f" Left out: {', '.join(left_out)}." if left_out else ""
    names = {"seen": "of sessions that saw a list", "assigned": "of all that were assigned"}
    p_values = ", ".join(f"{names[one.of]} p = {one.p_value:.2f}" for one in verdict.ratios)
    return f"The sample ratio is as planned ({p_values}).{rest}"


def _list_comparisons(verdict: Verdict) -> list[Comparison]:
    arms = [
        one for arm in verdict.arms
        for one in (arm.comparison, *(guard.comparison for guard in arm.guardrails))
    ]  # fmt: skip
    return arms


def _compare(one: Comparison) -> Difference:
    words = {"open": "not clear yet", "early": "too few sessions"}
    return Difference(
        one.arm, one.words, one.value_against, one.value,
        _bound(one.relative, one.relative_lower, one.relative_upper),
        words.get(one.state, one.state),
    )  # fmt: skip


def _bound(*values: Any) -> Bounds:
    return Bounds(*(float("nan") if one is None else float(one) for one in values))


def _guard(arm: str, one: GuardResult) -> tuple[str, str, str]:
    """Title, state, sentence."""
    words = {"early": "too few sessions", "open": "not clear yet"}.get(one.state, one.state)
    found = "" if one.state == "early" else f": {minus(describe_effect(one.comparison))}"
    allowed = f"{percent(one.margin)} less is allowed"
    return f"{arm}: {one.comparison.words}", one.state, f"{words}{found}; {allowed}"


def read_holdout(
    sessions: pa.Table, experiment: Experiment, arm: Arm, now: datetime, window_h: float
) -> HoldoutPart:
    finished = take_finished(sessions, now, window_h)
    try:
        rows = estimate_holdout_lift(finished, arm.name).to_pylist()
    except ValueError as error:
        return _wait_for_holdout(sessions, experiment, arm, now, window_h, str(error))
    rows = _put_control_first(rows, experiment)
    differences = [
        Difference(
            row["arm"], OUTCOMES[row["measure"]], row["holdout_mean"], row["mean"],
            _bound(row["lift"], row["lift_lower"], row["lift_upper"]),
            _say_sign(row["lower"], row["upper"]),
        )
        for row in rows
    ]  # fmt: skip
    others = {row["arm"]: row["n_sessions"] for row in rows}
    is_other = pc.not_equal(finished["arm"], arm.name)
    n_unseen = pc.sum(pc.and_not(is_other, finished["is_seen"])).as_py()
    return HoldoutPart(
        arm.name, str(arm.holdout), rows[0]["n_holdout"], sum(others.values()), differences,
        f"{experiment.name}: {say_lifts(differences)}", n_unseen or 0,
        _say_sequence(sessions, experiment, arm, now, window_h),
    )  # fmt: skip


def _wait_for_holdout(
    sessions: pa.Table, experiment: Experiment, arm: Arm, now: datetime, window_h: float, why: str
) -> HoldoutPart:
    moment = find_first_reading(sessions, experiment, window_h)
    words = f"readable from {say_moment(moment)}" if moment and moment > now else ""
    headline = f"{experiment.name}: {words or f'not known yet: {why}'}"
    return HoldoutPart(arm.name, str(arm.holdout), 0, 0, (), headline)


def _put_control_first(
    rows: Sequence[dict[str, Any]], experiment: Experiment
) -> list[dict[str, Any]]:
    places = {arm.name: place for place, arm in enumerate(experiment.arms)}
    return sorted(rows, key=lambda row: places.get(row["arm"], len(places)))


def _say_sequence(
    sessions: pa.Table, experiment: Experiment, arm: Arm, now: datetime, window_h: float
) -> str:
    """The wider range of the same difference, as `fbt experiment read` prints it."""
    try:
        verdict = judge_experiment(sessions, experiment, now, window_h)
    except ValueError:
        return ""
    found = [one for one in verdict.holdouts if arm.name in (one.arm, one.against)]
    return " ".join(_sentence(describe_holdout(one)) for one in found)


def _say_sign(low: float, high: float) -> str:
    if low > 0:
        return "more"
    return "less" if high < 0 else "not clear yet"


def say_lifts(differences: Sequence[Difference]) -> str:
    """Of each arm's order value."""
    values = [one for one in differences if one.measure == OUTCOMES["order_value"]]
    known = [one for one in values if one.verdict != "not clear yet"]
    if not known:
        return "whether recommendations add to what shoppers spend is not clear yet"
    texts = [_say_lift(one) for one in known]
    if unclear := [one.arm for one in values if one.verdict == "not clear yet"]:
        texts.append(f"of {' and '.join(unclear)} it is not clear yet")
    return "; ".join(texts)


def _say_lift(one: Difference) -> str:
    change = percent_change(abs(one.relative.mean)).lstrip("+")
    verb, end = ("add", "to") if one.verdict == "more" else ("take", "off")
    return f"recommendations of {one.arm} {verb} {change} {end} the order value per session"
