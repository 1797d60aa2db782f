"""The gate: named rules that a model passes before it may be registered.

Every rule compares a measured number with what is expected of it. A number that is missing or NaN
fails its rule: what was not measured was not passed.
"""

import math
from typing import Annotated, Any, TypedDict

from pydantic import BaseModel, ConfigDict, Field

ChampionMargin = Annotated[float, Field(ge=0, lt=1)]
MinCoverage = Annotated[float, Field(ge=0, le=1)]


class GateFailed(ValueError):
    """A model did not pass; the message says which rules, by how much, and what to do."""


class GateSettings(BaseModel):
    """What is expected of a model. NDCG@10 throughout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    popularity_gain: float = Field(default=0.0, ge=0, lt=1)
    """The lower 95 % bound of the gain over popularity on product pages must lie above this."""
    champion_margin: ChampionMargin = 0.02
    """How much of the champion's NDCG may be lost: the lower bound of the paired difference."""
    min_coverage: MinCoverage = 0.05
    """Share of the catalogue (or of the places handed out, if fewer) that must be recommended."""
    min_ann_recall: float = Field(default=0.98, ge=0, le=1)
    """Share of the exact ten best that search must find."""


class Rule(TypedDict):
    """One rule's outcome. `by` is observed minus expected: negative is what was missing."""

    name: str
    title: str
    passed: bool
    observed: float | None
    expected: float | None
    by: float | None
    why: str


def judge(
    evaluation: dict[str, Any], serving: dict[str, Any], settings: GateSettings
) -> dict[str, Any]:
    """The verdict {"passed", "rules": [Rule, ...]} on an evaluation and an infrastructure check.

    `evaluation` is what `evaluate` returns; `serving` is {"started", "asked", "correct", "p50_ms",
    "p99_ms", "errors"} of a real service process that answered sampled requests.
    """
    rules = [
        _beats_popularity(evaluation, settings),
        _not_worse_than_champion(evaluation, settings),
        _coverage_floor(evaluation, settings),
        _ann_recall(evaluation, settings),
        _serving(serving),
    ]
    return {"passed": all(rule["passed"] for rule in rules), "rules": rules}


def check_verdict(verdict: dict[str, Any]) -> None:
    """Raise GateFailed with every failed rule of a verdict made by `judge`."""
    failed = [rule for rule in verdict["rules"] if not rule["passed"]]
    if not verdict["passed"] or failed:
        lines = [f"- {rule['name']}: {rule['why']}" for rule in failed]
        raise GateFailed(
            f"gate: {len(failed)} of {len(verdict['rules'])} rules failed; nothing is registered\n"
            + "\n".join(lines)
        )


def _beats_popularity(evaluation: dict[str, Any], settings: GateSettings) -> Rule:
    gain = _number(evaluation, "paired", "a", "popularity", "low")
    model = _number(evaluation, "tasks", "a", "model", "ndcg", "mean")
    other = _number(evaluation, "tasks", "a", "popularity", "ndcg", "mean")
    rule = _build_rule(
        "beats_popularity", "Better than bestsellers", gain, settings.popularity_gain
    )
    rule["passed"] = gain > settings.popularity_gain
    compared = f"on product pages the model has {model:.4f}, popularity {other:.4f}"
    if math.isnan(gain):
        rule["why"] = (
            f"{compared}: the gain could not be measured on {_n_queries(evaluation)} test baskets; "
            "bring more orders, or check that test orders hold products of the catalogue"
        )
    elif rule["passed"]:
        rule["why"] = f"{compared}; the gain is at least {gain:+.4f} (95 % bound)"
    else:
        rule["why"] = (
            f"{compared}; the lower 95 % bound of the gain is {gain:+.4f}, expected more than "
            f"{settings.popularity_gain:+.4f}: the new model lost to the bestseller list. Bring "
            "more orders or more sweep trials"
        )
    return rule


def _not_worse_than_champion(evaluation: dict[str, Any], settings: GateSettings) -> Rule:
    name, title = "not_worse_than_champion", "Not worse than the model in production"
    if not any("champion" in evaluation["tasks"][task] for task in ("a", "b")):
        rule = _build_rule(name, title, math.nan, math.nan)
        return rule | {"passed": True, "why": "there is no champion yet to compare with"}
    by_task = [_against_champion(evaluation, task, settings) for task in ("a", "b")]
    # The task that is worse off stands for the rule; NaN is the worst.
    low, expected, _ = min(
        by_task, key=lambda t: -math.inf if math.isnan(t[0] - t[1]) else t[0] - t[1]
    )
    rule = _build_rule(name, title, low, expected)
    rule["passed"] = all(low >= expected for low, expected, _ in by_task)
    rule["why"] = "; ".join(why for _, _, why in by_task)
    if not rule["passed"]:
        rule["why"] += (
            ": the new model lost to the champion, which stays. Compare the two runs' reports: "
            "data window, what was removed, sweep"
        )
    return rule


def _against_champion(
    evaluation: dict[str, Any], task: str, settings: GateSettings
) -> tuple[float, float, str]:
    low = _number(evaluation, "paired", task, "champion", "low")
    model = _number(evaluation, "tasks", task, "model", "ndcg", "mean")
    champion = _number(evaluation, "tasks", task, "champion", "ndcg", "mean")
    expected = -settings.champion_margin * champion
    where = {"a": "on product pages", "b": "in carts"}[task]
    why = (
        f"{where} the model has {model:.4f}, the champion {champion:.4f}; the lower 95 % bound of "
        f"the difference is {low:+.4f}, expected at least {expected:+.4f}"
    )
    return low, expected, why


def _coverage_floor(evaluation: dict[str, Any], settings: GateSettings) -> Rule:
    covered = _number(evaluation, "tasks", "a", "model", "coverage")
    places = evaluation["k"] * evaluation["n_queries"]["a"]
    expected = settings.min_coverage * min(1, places / max(evaluation["catalogue"], 1))
    rule = _build_rule("coverage_floor", "Recommends enough of the catalogue", covered, expected)
    rule["passed"] = covered >= expected
    rule["why"] = f"{covered:.2%} of the catalogue is recommended, expected at least {expected:.2%}"
    if not rule["passed"]:
        rule["why"] += (
            ": the model mostly repeats bestsellers. Lower beta or ns_exponent in the sweep, or "
            "lower min_coverage if so few products are bought together"
        )
    return rule


def _ann_recall(evaluation: dict[str, Any], settings: GateSettings) -> Rule:
    name, title = "ann_recall", "Search finds what exact search finds"
    if evaluation["ann_recall"] is None:
        rule = _build_rule(name, title, math.nan, settings.min_ann_recall)
        return rule | {"passed": True, "why": "search is exact"}
    recall = _number(evaluation, "ann_recall")
    rule = _build_rule(name, title, recall, settings.min_ann_recall)
    rule["passed"] = recall >= settings.min_ann_recall
    rule["why"] = f"recall@10 is {recall:.3f}, expected at least {settings.min_ann_recall:.3f}"
    if not rule["passed"]:
        rule["why"] += ": search loses recommendations. An index finds more with a larger ef or M"
    return rule


def _serving(serving: dict[str, Any]) -> Rule:
    asked, correct = _number(serving, "asked"), _number(serving, "correct")
    rule = _build_rule("serving", "A real service answers correctly", correct, asked)
    rule["passed"] = bool(serving.get("started")) and asked > 0 and correct >= asked
    errors = [str(error) for error in serving.get("errors") or []]
    if not serving.get("started"):
        rule["why"] = "the service did not start with this bundle"
    else:
        rule["why"] = (
            f"{correct:.0f} of {asked:.0f} requests were answered correctly, "
            f"p99 {_number(serving, 'p99_ms'):.1f} ms"
        )
    if not rule["passed"]:
        rule["why"] += f": {errors[0] if errors else 'no error was recorded'}. See the service log"
    return rule


def _build_rule(name: str, title: str, observed: float, expected: float) -> Rule:
    """A rule that has not passed, with numbers as JSON can hold them."""
    return Rule(
        name=name,
        title=title,
        passed=False,
        observed=_finite_or_none(observed),
        expected=_finite_or_none(expected),
        by=_finite_or_none(observed - expected),
        why="",
    )


def _number(found: Any, *path: str) -> float:
    """The number at `path`, NaN where it is missing or none: NaN passes no comparison."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else math.nan


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _n_queries(evaluation: dict[str, Any]) -> int:
    return int(evaluation["n_queries"]["a"])
