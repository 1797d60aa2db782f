"""A verdict in words."""

from components.experiments.metric import METRICS
from components.experiments.readout import Readout, Result
from components.experiments.verdict import (
    ArmVerdict,
    Comparison,
    GuardResult,
    SampleRatio,
    Verdict,
)

MAX_FORECAST = 365


def describe_verdict(verdict: Verdict) -> str:
    lines = [_describe_counts(verdict)]
    if verdict.holdouts:
        lines += [_describe_ratio(one) for one in verdict.ratios]
    if verdict.is_mismatched:
        lines.append(describe_mismatch(verdict.sample_ratio_p))
    lines += [line for arm in verdict.arms for line in describe_arm(arm)]
    lines += [describe_holdout(one) for one in verdict.holdouts]
    return "\n".join(lines)


def describe_mismatch(p_value: float) -> str:
    return (
        "stop: sample ratio mismatch; arms of these sizes come by chance once in "
        f"{1 / max(p_value, 1e-12):,.0f} times. The arms lose sessions differently, or were "
        "changed: find the reason before anything is compared."
    )


def describe_readout(readout: Readout, control: str) -> str:
    """Of one look at the planned end."""
    lines = ["sessions: " + ", ".join(f"{name} {n:,}" for name, n in readout.n.items())]
    if readout.is_mismatched:
        return "\n".join([*lines, describe_mismatch(readout.sample_ratio_p)])
    return "\n".join([*lines, *(_describe_result(one, control) for one in readout.results)])


def _describe_result(one: Result, control: str) -> str:
    if one.relative is None or one.relative_lower is None or one.relative_upper is None:
        effect = f"{one.absolute:+.4g} ({one.lower:+.4g} to {one.upper:+.4g})"
    else:
        lower, upper = percent(one.relative_lower), percent(one.relative_upper)
        effect = f"{percent(one.relative)} % ({lower} to {upper})"
    return (
        f"{one.arm} against {control}, {METRICS[one.metric].words}: {effect}, "
        f"p = {one.adjusted_p_value:.3g}; {one.treatment:.4g} against {one.control:.4g}"
    )


def _describe_counts(verdict: Verdict) -> str:
    counts = ", ".join(f"{name} {n:,}" for name, n in verdict.counts.items())
    left_out = [
        f"{n:,} {words}"
        for n, words in (
            (verdict.n_unfinished, "are not over"),
            (verdict.n_unseen, "saw no list"),
            (verdict.n_crossed, "had several arms"),
        )
        if n
    ]
    rest = f"; left out: {', '.join(left_out)}" if left_out else ""
    return f"sessions: {counts}{rest}"


RATIO_WORDS = {"seen": "that saw a list", "assigned": "assigned, seen a list or not"}


def _describe_ratio(ratio: SampleRatio) -> str:
    found = ", ".join(
        f"{name} {n:,} of {ratio.expected[name]:,.0f} expected" for name, n in ratio.counts.items()
    )
    return f"sample ratio of sessions {RATIO_WORDS[ratio.of]}: {found}, p = {ratio.p_value:.2g}"


def describe_arm(verdict: ArmVerdict) -> list[str]:
    broken = [one for one in verdict.guardrails if one.state == "broken"]
    lines = [describe_comparison(verdict.comparison)]
    if broken:
        lines[0] = f"stop: {verdict.arm} breaks a guardrail; {lines[0]}"
    elif verdict.decision == "better" and any(one.state != "held" for one in verdict.guardrails):
        lines[0] += "; wait for the guardrails"
    return lines + [f"  {describe_guardrail(one)}" for one in verdict.guardrails]


def describe_comparison(one: Comparison) -> str:
    effect = describe_effect(one)
    match one.state:
        case "better" | "worse":
            return f"{one.arm} is {one.state} than {one.against}: {effect}, valid whenever you look"
        case "alike":
            return f"{one.arm} and {one.against} are alike: {effect}"
        case "early":
            return f"{one.arm}: nothing can be said yet, too few sessions{_describe_wait(one)}"
    return f"{one.arm}: nothing can be said yet: {effect}{_describe_wait(one)}"


def describe_effect(one: Comparison) -> str:
    if one.relative is None or one.relative_lower is None or one.relative_upper is None:
        return f"{one.absolute:+.4g} {one.words} ({one.lower:+.4g} to {one.upper:+.4g})"
    lower, upper = percent(one.relative_lower), percent(one.relative_upper)
    return f"{percent(one.relative)} % {one.words} ({lower} to {upper})"


def _describe_wait(one: Comparison) -> str:
    if one.days_left is None:
        return ""
    worth = "worth finding" if one.worth is None else f"of {one.worth * 100:g} %"
    effect = f"an effect {worth}"
    if one.days_left > MAX_FORECAST:
        return f"; at this rate {effect} takes more than a year to show"
    days = int(one.days_left)
    return f"; at this rate {effect} shows in about {days} more day{'s' if days > 1 else ''}"


def describe_guardrail(one: GuardResult) -> str:
    words = {
        "early": "too few sessions",
        "open": "open",
        "held": "held",
        "broken": "broken",
    }[one.state]
    found = "" if one.state == "early" else f": {describe_effect(one.comparison)}"
    return f"guardrail {one.comparison.metric} (at most -{one.margin * 100:g} %) is {words}{found}"


def describe_holdout(one: Comparison) -> str:
    if one.state == "early":
        return f"recommendations against {one.against}: nothing can be said yet, too few sessions"
    verb = {"better": "add", "worse": "cost"}.get(one.state, "may add")
    return f"recommendations {verb} against {one.against}: {describe_effect(one)}"


def percent(value: float) -> str:
    return f"{value * 100:+.1f}"
