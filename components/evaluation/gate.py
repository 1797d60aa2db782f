"""The gate: rules that a model must pass before it is registered.

A number that is missing or NaN fails its rule.
"""

import math
from typing import Annotated, Any, NamedTuple, TypedDict

from pydantic import BaseModel, ConfigDict, Field

ChampionMargin = Annotated[float, Field(ge=0, lt=1)]
MinCoverage = Annotated[float, Field(ge=0, le=1)]
MinJudgedGrade = Annotated[float, Field(ge=0, le=3)]

PLACES = {"item": "on product pages", "cart": "in carts"}
PAIRED = {"ndcg": "paired", "excess": "paired_excess"}
"""Measures of which the model's differences from the others are tested, and their names."""
MEASURE_NAMES = {"ndcg": "NDCG", "excess": "excess NDCG"}


MIN_JUDGED_PAGES = 10
"""Graded lists of the model; fewer refuse no model. Most lists of a model that ranks otherwise are
new, and people can judge them only once it is registered."""


class GateFailed(ValueError):
    """A model did not pass the gate."""


class GateSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    popularity_gain: float = Field(default=0.0, ge=0, lt=1)
    """Exceeded by the lower 95 % bound of the gain over popularity on product pages."""
    champion_margin: ChampionMargin = 0.02
    """Share of the champion's NDCG and excess NDCG that the lower bounds may lose."""
    min_coverage: MinCoverage = 0.05
    """Share of the catalogue, or of the places in all answers, to be recommended."""
    min_judged_grade: MinJudgedGrade = 0.0
    """Mean grade, 0 to 3, of the model's lists that people graded before; 0 = no rule."""
    min_ann_recall: float = Field(default=0.98, ge=0, le=1)
    """Share of the exact ten best that search must find."""


class Rule(TypedDict):
    """Outcome of a rule; `by` is observed minus expected."""

    name: str
    title: str
    passed: bool
    observed: float | None
    expected: float | None
    by: float | None
    why: str


def judge(
    evaluation: dict[str, Any],
    serving: dict[str, Any],
    settings: GateSettings,
    judged: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The verdict {"passed", "rules": [Rule, ...], "warnings": [str, ...], "judged"}.

    `serving` is {"started", "asked", "correct", "p50_ms", "p99_ms", "errors"} of a real service,
    `judged` that of `components.judging.graded.look_up_grades`.
    """
    rules = [
        _beats_popularity(evaluation, settings),
        _beats_counts_minus_chance(evaluation),
        _not_worse_than_champion(evaluation, settings),
        _coverage_floor(evaluation, settings),
        _ann_recall(evaluation, settings),
        _serving(serving),
    ]
    if settings.min_judged_grade:
        rules.append(_judged_grade(judged or {}, settings))
    return {
        "passed": all(rule["passed"] for rule in rules),
        "rules": rules,
        "warnings": _list_warnings(judged or {}),
        "judged": judged,
    }


def check_verdict(verdict: dict[str, Any]) -> None:
    """Raise GateFailed with every failed rule."""
    failed = [rule for rule in verdict["rules"] if not rule["passed"]]
    if not verdict["passed"] or failed:
        lines = [f"- {rule['name']}: {rule['why']}" for rule in failed]
        raise GateFailed(
            f"gate: {len(failed)} of {len(verdict['rules'])} rules failed; nothing is registered\n"
            + "\n".join(lines)
        )


def _beats_popularity(evaluation: dict[str, Any], settings: GateSettings) -> Rule:
    gain = _number(evaluation, "paired", "item", "popularity", "low")
    model = _number(evaluation, "tasks", "item", "model", "ndcg", "mean")
    popularity = _number(evaluation, "tasks", "item", "popularity", "ndcg", "mean")
    least = settings.popularity_gain
    why = f"on product pages the model has {model:.4f}, popularity {popularity:.4f}"
    if math.isnan(gain):
        why += (
            f": the gain could not be measured on {evaluation['n_queries']['item']} test baskets; "
            "bring more orders, or check that test orders hold products of the catalogue"
        )
    elif gain > least:
        why += f"; the gain is at least {gain:+.4f} (95 % bound)"
    else:
        why += (
            f"; the lower 95 % bound of the gain is {gain:+.4f}, expected more than {least:+.4f}: "
            "the new model lost to the bestseller list. Bring more orders or more sweep trials"
        )
    return _build_rule(
        "beats_popularity", "Better than bestsellers", gain > least, gain, least, why
    )


def _beats_counts_minus_chance(evaluation: dict[str, Any]) -> Rule:
    """In the mean: on the few test baskets of a small shop no method is clearly better."""
    name, title = "beats_counts_minus_chance", "Adds more than counts minus chance"
    difference = _read_paired(evaluation, "excess", "item", "counts_minus_chance")
    why = f"excess NDCG {difference.describe()}"
    remedy = (
        "the new model adds less to a basket than counts of pairs minus those by chance. Raise "
        "popularity_discount, or bring more orders or more sweep trials"
    )
    return _build_rule(name, title, difference.mean >= 0, difference.mean, 0.0, why, remedy)


def _not_worse_than_champion(evaluation: dict[str, Any], settings: GateSettings) -> Rule:
    name, title = "not_worse_than_champion", "Not worse than the model in production"
    if not any("champion" in evaluation["tasks"][task] for task in PLACES):
        return _build_rule(
            name, title, True, math.nan, math.nan, "there is no champion to compare with"
        )
    discounts = evaluation["popularity_discount"]
    # Another discount moves NDCG on purpose.
    is_moved = discounts["model"] != discounts["champion"]
    measures = ("excess",) if is_moved else tuple(PAIRED)
    compared = [
        (measure, _read_paired(evaluation, measure, task, "champion"))
        for measure in measures
        for task in PLACES
    ]
    # The worst is the rule's number; NaN is the worst.
    margin = settings.champion_margin
    by = [(one.low + margin * one.other, one) for _, one in compared]
    _, worst = min(by, key=lambda pair: -math.inf if math.isnan(pair[0]) else pair[0])
    passed = all(slack >= 0 for slack, _ in by)
    why = "; ".join(f"{MEASURE_NAMES[measure]} {one.describe()}" for measure, one in compared)
    if is_moved:
        why += (
            f"; NDCG is not compared, as popularity_discount is {discounts['model']} and the "
            f"champion's {discounts['champion']}"
        )
    remedy = (
        f"the new model lost to the champion, which stays; {margin:.0%} may be lost. Compare data "
        "window, removed lines and sweep in the reports of both runs"
    )
    return _build_rule(name, title, passed, worst.low, -margin * worst.other, why, remedy)


class _Paired(NamedTuple):
    """The model's difference from another ranker, with its 95 % bound."""

    place: str
    model: float
    other_name: str
    other: float
    mean: float
    low: float

    def describe(self) -> str:
        return (
            f"{self.place}: the model {self.model:.4f}, {self.other_name} {self.other:.4f}; the "
            f"lower 95 % bound of the difference is {self.low:+.4f}"
        )


def _read_paired(evaluation: dict[str, Any], measure: str, task: str, other: str) -> _Paired:
    paired = PAIRED[measure]
    return _Paired(
        PLACES[task],
        _number(evaluation, "tasks", task, "model", measure, "mean"),
        other.replace("_", " "),
        _number(evaluation, "tasks", task, other, measure, "mean"),
        _number(evaluation, paired, task, other, "mean"),
        _number(evaluation, paired, task, other, "low"),
    )


def _coverage_floor(evaluation: dict[str, Any], settings: GateSettings) -> Rule:
    covered = _number(evaluation, "tasks", "item", "model", "coverage")
    n_places = evaluation["k"] * evaluation["n_queries"]["item"]
    expected = settings.min_coverage * min(1, n_places / max(evaluation["catalogue"], 1))
    title = "Recommends enough of the catalogue"
    why = f"{covered:.2%} of the catalogue is recommended, expected at least {expected:.2%}"
    remedy = (
        "the model mostly repeats bestsellers. Lower beta or ns_exponent in the sweep, or lower "
        "min_coverage if so few products are bought together"
    )
    return _build_rule("coverage_floor", title, covered >= expected, covered, expected, why, remedy)


def _ann_recall(evaluation: dict[str, Any], settings: GateSettings) -> Rule:
    name, title = "ann_recall", "Search finds what exact search finds"
    least = settings.min_ann_recall
    if evaluation["ann_recall"] is None:
        return _build_rule(name, title, True, math.nan, least, "search is exact")
    recall = _number(evaluation, "ann_recall")
    why = f"recall@10 is {recall:.3f}, expected at least {least:.3f}"
    remedy = "search loses recommendations. A larger ef or M of the index finds more"
    return _build_rule(name, title, recall >= least, recall, least, why, remedy)


def _serving(serving: dict[str, Any]) -> Rule:
    asked, correct = _number(serving, "asked"), _number(serving, "correct")
    errors = serving.get("errors") or ["no error was recorded"]
    if serving.get("started"):
        p99_ms = _number(serving, "p99_ms")
        why = f"{correct:.0f} of {asked:.0f} requests were answered correctly, p99 {p99_ms:.1f} ms"
    else:
        why = "the service did not start with this bundle"
    passed = bool(serving.get("started")) and asked > 0 and correct >= asked
    title, remedy = "A real service answers correctly", f"{errors[0]}. See the service log"
    return _build_rule("serving", title, passed, correct, asked, why, remedy)


def _judged_grade(judged: dict[str, Any], settings: GateSettings) -> Rule:
    name, title = "judged_grade", "People grade its lists well"
    least, grade = settings.min_judged_grade, _number(judged, "model", "mean")
    n_graded, n_pages = (_count(judged, *path) for path in (("model", "n_pages"), ("n_pages",)))
    if n_graded < MIN_JUDGED_PAGES:
        why = (
            f"people graded {n_graded} of the model's {n_pages} lists before, fewer than "
            f"{MIN_JUDGED_PAGES}: judge it before it is promoted"
        )
        return _build_rule(name, title, True, math.nan, least, why)
    why = (
        f"people gave {grade:.2f} of 3 to {n_graded} of its {n_pages} lists in case "
        f"{judged.get('case')!r}, expected at least {least:.2f}"
    )
    remedy = "look at the case's results in the workbench for what they disliked"
    return _build_rule(name, title, grade >= least, grade, least, why, remedy)


def _list_warnings(judged: dict[str, Any]) -> list[str]:
    """What does not refuse the model, but a person should know before promoting it."""
    difference, high = (_number(judged, "difference", one) for one in ("mean", "high"))
    if not high < 0:
        return []
    n_pages = _count(judged, "difference", "n_pages")
    return [
        f"on {n_pages} pages people graded both lists, and the model's {difference:+.2f} against "
        f"the champion's (95 % bound {high:+.2f})"
    ]


def _count(found: Any, *path: str) -> int:
    value = _number(found, *path)
    return 0 if math.isnan(value) else int(value)


def _build_rule(
    name: str,
    title: str,
    passed: bool,
    observed: float,
    expected: float,
    why: str,
    remedy: str = "",
) -> Rule:
    """`why` gets the remedy if the rule failed."""
    return Rule(
        name=name,
        title=title,
        passed=passed,
        observed=_none_if_nan(observed),
        expected=_none_if_nan(expected),
        by=_none_if_nan(observed - expected),
        why=f"{why}: {remedy}" if remedy and not passed else why,
    )


def _none_if_nan(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(found: Any, *path: str) -> float:
    """The number at `path`; NaN, which passes no comparison, where there is none."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else math.nan
