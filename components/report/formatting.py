"""Numbers and verdicts as text."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard
from zoneinfo import ZoneInfo

NOTHING = "–"
THIN = "\u202f"
"""Narrow no-break space between thousands."""

NAMES = {
    "model": "This model",
    "champion": "Champion (in the shop now)",
    "counts_minus_chance": "Bought-together counts beyond chance",
    "cooccurrence": "Bought-together counts",
    "cosine": "Similar vectors (cosine)",
    "popularity": "Bestsellers",
}
"""In the order of the tables."""

TASKS = {"item": "Product page", "cart": "Cart"}

REMEDIES = {
    "champion": "Keep the champion. If this run had less or older data, run again with more. "
    "Otherwise try more trials in the sweep.",
    "popularity": "Look at the examples and the data checks. A model that only ties bestsellers "
    "usually had too few orders, or products that are no products. Then try more trials.",
    "coverage": "The same few products come up everywhere. Bring a longer data window, or let "
    "the sweep try a smaller weight of popularity.",
    "judged": "Open the case in the workbench, and read for which lists people gave low grades and "
    "why. Block single products by rules; for whole kinds of mistakes try other settings.",
    "recall": "An engineer should rebuild the search index with a wider search. The model itself "
    "may be good.",
    "serv": "An engineer should look at the log of the service check. The numbers on this page "
    "do not count until the model can be served.",
}
"""Remedies of broken rules, by a word in the rule's name; the first that fits counts."""
ANY_REMEDY = "Look at the failed data checks and at the examples below, then train again."


def is_number(value: Any) -> TypeGuard[float]:
    """No bool, NaN or infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def count(value: Any) -> str:
    return f"{value:,.0f}".replace(",", THIN) if is_number(value) else NOTHING


def decimal(value: Any, digits: int = 3) -> str:
    return minus(f"{value:.{digits}f}") if is_number(value) else NOTHING


def signed_decimal(value: Any, digits: int = 3) -> str:
    return minus(f"{value:+.{digits}f}") if is_number(value) else NOTHING


def percent(value: Any) -> str:
    """With a digit more for shares that are small or nearly 1."""
    if not is_number(value):
        return NOTHING
    if 0 < value < 0.0005:
        return f"< 0.1{THIN}%"
    if 0.9995 < value < 1:
        return f"> 99.9{THIN}%"
    is_whole = not value or value >= 1 or 0.0995 <= value < 0.995
    return f"{100 * value:.{0 if is_whole else 1}f}{THIN}%"


def percent_change(share: Any) -> str:
    """With a sign, unless it rounds to 0."""
    if not is_number(share):
        return NOTHING
    text = f"{100 * share:+.1f}"
    return f"{'0.0' if float(text) == 0 else minus(text)}{THIN}%"


def per_100(share: Any) -> str:
    if not is_number(share):
        return NOTHING
    return f"{100 * share:.{1 if 0 < share < 0.01 else 0}f}"


def minus(text: str) -> str:
    """With minus signs for hyphens, which are too short in a column of numbers."""
    return text.replace("-", "−")


def as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        return _number(value)
    if isinstance(value, float) or not value:
        return NOTHING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _number(value: float) -> str:
    if float(value).is_integer():
        return minus(count(value))
    return minus(f"{value:.4f}".rstrip("0") if abs(value) >= 0.001 else f"{value:.2g}")


def date(moment: Any, zone: str = "UTC") -> str:
    """There, of ISO 8601 or seconds since 1970; other text as it is."""
    try:
        if is_number(moment):
            found = datetime.fromtimestamp(moment, UTC)
        else:
            found = datetime.fromisoformat(str(moment))
        if found.tzinfo:
            found = found.astimezone(ZoneInfo(zone))
    except (ValueError, OverflowError, OSError):
        return str(moment or NOTHING)
    return f"{found.day}\u00a0{found:%B}\u00a0{found:%Y}"


def date_range(first: Any, last: Any, zone: str = "UTC") -> str:
    if first in (None, "") or last in (None, ""):
        return "orders without dates"
    return f"{date(first, zone)} to {date(last, zone)}"


def ranker_name(ranker: str) -> str:
    return NAMES.get(ranker, ranker.replace("_", " ").capitalize())


def verdict_headline(verdict: Mapping[str, Any]) -> str:
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
    by = rule.get("by")
    if as_text(by) == NOTHING or by == 0:
        return ""
    amount = as_text(abs(by)) if is_number(by) else as_text(by)
    return f"{amount} to spare" if rule["passed"] else f"short by {amount}"


def sentence(text: Any) -> str:
    """With a capital and a full stop."""
    line = str(text or "").strip()
    if not line:
        return ""
    return line[0].upper() + line[1:] + ("" if line.endswith((".", "!", "?", "…")) else ".")


def remedy(rule: Mapping[str, Any]) -> str:
    fitting = (text for word, text in REMEDIES.items() if word in str(rule["name"]).lower())
    return next(fitting, ANY_REMEDY)


def classify_difference(difference: Mapping[str, Any]) -> str:
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
    item, cart = tasks.get("item") or {}, tasks.get("cart") or {}
    found = [
        _hit_rate(item, f"baskets held at least one of the {k} recommendations as well."),
        _hit_rate(cart, f"carts found their missing product among the {k} recommendations."),
        _coverage(item),
        _improvement(evaluation),
    ]
    return [figure for figure in found if figure]


def _hit_rate(task: Mapping[str, Any], meaning: str) -> tuple[str, str] | None:
    rate = per_100(mean(task, "model", "hr"))
    if rate == NOTHING:
        return None
    bestsellers = per_100(mean(task, "popularity", "hr"))
    compared = "" if bestsellers == NOTHING else f" Bestsellers alone: {bestsellers}."
    return f"{rate} of 100", meaning + compared


def _coverage(task: Mapping[str, Any]) -> tuple[str, str] | None:
    share = (task.get("model") or {}).get("coverage")
    if not is_number(share):
        return None
    return (
        f"{per_100(share)} of 100",
        "products of the catalogue come up in some recommendation. The others are never shown.",
    )


def _improvement(evaluation: Mapping[str, Any]) -> tuple[str, str] | None:
    """Against the champion, or bestsellers when there is none."""
    task = (evaluation.get("tasks") or {}).get("item") or {}
    other = "champion" if task.get("champion") else "popularity"
    ours, theirs = mean(task, "model", "ndcg"), mean(task, other, "ndcg")
    if not is_number(ours) or not is_number(theirs) or not theirs:
        return None
    change = minus(f"{100 * (ours / theirs - 1):+.0f}{THIN}%")
    paired = (evaluation.get("paired") or {}).get("item") or {}
    result = classify_difference(paired.get(other) or {})
    unclear = {"no clear difference": "too close to call", "not known": "certainty not known"}
    against, note = "the champion now in the shop", ""
    if other == "popularity":
        against, note = "bestsellers alone", " There is no champion yet to compare with."
    certainty = unclear.get(result, f"clearly {result}")
    return change, f"ranking quality on product pages against {against}: {certainty}.{note}"


def mean(task: Mapping[str, Any], ranker: str, metric: str) -> Any:
    return ((task.get(ranker) or {}).get(metric) or {}).get("mean")
