"""What the numbers of a run mean, in words for people who are no engineers."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeGuard

NOTHING = "–"
THIN = "\u202f"
"""Narrow no-break space between thousands."""

NAMES = {
    "model": "This model",
    "champion": "Champion (in the shop now)",
    "cooccurrence": "Bought-together counts",
    "cosine": "Similar vectors (cosine)",
    "popularity": "Bestsellers",
}
"""How readers know the rankers of an evaluation; the order is that of the tables."""

TASKS = {"a": "Product page", "b": "Cart"}

REMEDIES = {
    "champion": "Keep the champion. If this run had less or older data, run again with more; "
    "if not, try more trials in the sweep.",
    "popularity": "Look at the examples and the data checks: a model that only ties bestsellers "
    "mostly had too few orders, or products that are not products. Then try more trials.",
    "coverage": "The same few products come up everywhere. Bring a longer data window, or let "
    "the sweep try a smaller weight of popularity.",
    "recall": "An engineer should rebuild the search index with a wider search; "
    "the model itself may be good.",
    "serv": "An engineer should look at the log of the service check; the numbers on this page "
    "do not count until the model can be served.",
}
"""What to do about a broken rule, by a word in the rule's name; the first that fits counts."""
ANY_REMEDY = "Look at the failed data checks and at the examples below, then train again."


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number one can print: no bool, NaN or infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def count(value: Any) -> str:
    """A whole number with thousands apart."""
    return f"{value:,.0f}".replace(",", THIN) if is_number(value) else NOTHING


def figure(value: Any, digits: int = 3) -> str:
    """A number with a fixed number of digits, so that columns can be compared."""
    return minus(f"{value:.{digits}f}") if is_number(value) else NOTHING


def signed_figure(value: Any, digits: int = 3) -> str:
    """A difference: a plus says that it is one."""
    return minus(f"{value:+.{digits}f}") if is_number(value) else NOTHING


def percent(value: Any) -> str:
    """A share as per cent, with a digit more where it is small or nearly all."""
    if not is_number(value):
        return NOTHING
    if 0 < value < 0.0005:
        return f"< 0.1{THIN}%"
    if 0.9995 < value < 1:
        return f"> 99.9{THIN}%"
    is_whole = not value or value >= 1 or 0.0995 <= value < 0.995
    return f"{100 * value:.{0 if is_whole else 1}f}{THIN}%"


def per_100(share: Any) -> str:
    """A share as so many of 100."""
    if not is_number(share):
        return NOTHING
    return f"{100 * share:.{1 if 0 < share < 0.01 else 0}f}"


def minus(text: str) -> str:
    """With a minus sign for a hyphen: in a column of figures the hyphen is too short to see."""
    return text.replace("-", "−")


def value(found: Any) -> str:
    """Whatever a check, a rule or a person gave."""
    if isinstance(found, bool):
        return "yes" if found else "no"
    if is_number(found):
        return _number(found)
    if isinstance(found, float) or not found:
        return NOTHING
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)


def _number(found: float) -> str:
    if float(found).is_integer():
        return minus(count(found))
    return minus(f"{found:.4f}".rstrip("0") if abs(found) >= 0.001 else f"{found:.2g}")


def day(moment: Any) -> str:
    """An ISO 8601 moment as a date; other text as it is."""
    try:
        found = datetime.fromisoformat(str(moment))
    except ValueError:
        return str(moment or NOTHING)
    return f"{found.day} {found:%B %Y}"


def window(first: Any, last: Any) -> str:
    """The time that orders span."""
    return f"{day(first)} to {day(last)}" if first and last else "orders without dates"


def ranker_name(ranker: str) -> str:
    """A ranker as readers know it."""
    return NAMES.get(ranker, ranker.replace("_", " ").capitalize())


def headline(verdict: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    if verdict["passed"]:
        return "This model may be promoted"
    rules = verdict.get("rules") or []
    failed = [rule for rule in rules if not rule["passed"]]
    if len(failed) == 1:
        return f"Not good enough: “{failed[0]['title']}” does not hold"
    if failed:
        return f"Not good enough: {len(failed)} of {len(rules)} rules do not hold"
    return "Not good enough: the run was not judged as a whole"


def margin(rule: Mapping[str, Any]) -> str:
    """By how much a rule holds or does not."""
    by = rule.get("by")
    if value(by) == NOTHING or by == 0:
        return ""
    amount = value(abs(by)) if is_number(by) else value(by)
    return f"{amount} to spare" if rule["passed"] else f"short by {amount}"


def sentence(text: Any) -> str:
    """The text with a capital and a full stop."""
    line = str(text or "").strip()
    return (
        line[:1].upper()
        + line[1:]
        + ("" if line.endswith((".", "!", "?", "…")) else ".") * bool(line)
    )


def remedy(rule: Mapping[str, Any]) -> str:
    """What to do about a broken rule."""
    fitting = (text for word, text in REMEDIES.items() if word in str(rule["name"]).lower())
    return next(fitting, ANY_REMEDY)


def classify_difference(difference: Mapping[str, Any]) -> str:
    """What a paired difference with its interval says of this model."""
    low, high = difference.get("low"), difference.get("high")
    if not (is_number(low) and is_number(high)):
        return "not known"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no clear difference"


def key_figures(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A few numbers, each with the sentence that it begins."""
    tasks = evaluation.get("tasks") or {}
    k = evaluation.get("k", 10)
    found = [
        _hits(
            tasks.get("a") or {},
            f"baskets held at least one of the {k} recommendations along with the product.",
        ),
        _hits(
            tasks.get("b") or {},
            f"carts got the one product they still lacked among the {k} recommendations.",
        ),
        _coverage(tasks.get("a") or {}),
        _step(evaluation),
    ]
    return [one for one in found if one]


def _hits(task: Mapping[str, Any], sentence: str) -> tuple[str, str] | None:
    rate = per_100(mean(task, "model", "hr"))
    if rate == NOTHING:
        return None
    plain = per_100(mean(task, "popularity", "hr"))
    compared = "" if plain == NOTHING else f" Bestsellers alone: {plain}."
    return f"{rate} of 100", sentence + compared


def _coverage(task: Mapping[str, Any]) -> tuple[str, str] | None:
    share = (task.get("model") or {}).get("coverage")
    if not is_number(share):
        return None
    return (
        f"{per_100(share)} of 100",
        "products of the catalogue come up in some recommendation; the others are never shown.",
    )


def _step(evaluation: Mapping[str, Any]) -> tuple[str, str] | None:
    """How far this model is from what the shop has now, or from bestsellers when it has none."""
    task = (evaluation.get("tasks") or {}).get("a") or {}
    other = "champion" if task.get("champion") else "popularity"
    ours, theirs = mean(task, "model", "ndcg"), mean(task, other, "ndcg")
    if not is_number(ours) or not is_number(theirs) or not theirs:
        return None
    change = minus(f"{100 * (ours / theirs - 1):+.0f}{THIN}%")
    paired = (evaluation.get("paired") or {}).get("a") or {}
    sure = classify_difference(paired.get(other) or {})
    reading = {"no clear difference": "too close to call", "not known": "how sure, is not known"}
    whom = "the champion now in the shop" if other == "champion" else "bestsellers alone"
    first = "" if other == "champion" else " There is no champion yet to compare with."
    return change, (
        f"ranking quality on product pages against {whom}: {reading.get(sure, f'clearly {sure}')}."
        + first
    )


def mean(task: Mapping[str, Any], ranker: str, metric: str) -> Any:
    """The mean of a metric, or None where the evaluation has none."""
    return ((task.get(ranker) or {}).get(metric) or {}).get("mean")
