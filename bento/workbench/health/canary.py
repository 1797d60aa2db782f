"""Canary and stable version side by side, as Prometheus counted them.

The same series and bounds as the analysis of k8s/components/canary, by version instead of by pod.
"""

import asyncio
import math
from collections.abc import Mapping
from typing import NamedTuple

import httpx

from bento.workbench.parts import Missing

MIN_REQUESTS = 100
MIN_SUCCESS_RATE = 0.995
MAX_LATENCY_RATIO = 1.5
MAX_LATENCY_S = 0.05
MAX_FALLBACK_GROWTH = 0.05
EVENT, EVENT_MARGIN = "select_item", 0.05
LATENCY_FLOOR_S = 0.01
"""Of stable's p99, which a canary is compared with."""

QUERIES = {
    "requests": "sum(increase(fbt_recommend_requests_total{{{v}}}[5m]))",
    "success": 'sum(rate(fbt_requests_total{{endpoint="/recommend", status!~"5..", '
    "{v}}}[5m])) / "
    'sum(rate(fbt_requests_total{{endpoint="/recommend", {v}}}[5m]))',
    "p99_s": "histogram_quantile(0.99, sum by (le) (rate(fbt_request_duration_seconds_bucket"
    '{{endpoint="/recommend", {v}}}[5m])))',
    "fallbacks": 'sum(rate(fbt_recommend_requests_total{{source!="model", {v}}}'
    "[5m])) / sum(rate(fbt_recommend_requests_total{{{v}}}[5m]))",
}
LIFTS = 'fbt_online_lift_{end}{{event="{event}", variant="", {canary}, against="{stable}"}}'

Numbers = Mapping[str, float | None]


class Judgement(NamedTuple):
    measure: str
    stable: str
    canary: str
    bound: str
    state: str
    """`held`, `broken` or `open`: too little is known."""


class CanaryState(NamedTuple):
    canary: str
    stable: str
    judgements: list[Judgement]


async def read_canary(
    client: httpx.AsyncClient, url: str, canary: str, stable: str, namespace: str = ""
) -> CanaryState | Missing:
    """Of the pods of a namespace, or of all. Never raises."""
    queries = {
        f"{name} {version}": query.format(v=_select(version, namespace))
        for version in (canary, stable)
        for name, query in QUERIES.items()
    }
    chosen = _select(canary, namespace)
    names = {"event": EVENT, "canary": chosen, "stable": quote_label(stable)}
    queries |= {end: LIFTS.format(end=end, **names) for end in ("lower", "upper")}
    try:
        found = await asyncio.gather(*(ask(client, url, one) for one in queries.values()))
    except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
        return Missing("Prometheus", str(error) or type(error).__name__)
    by_name = dict(zip(queries, found, strict=True))
    one, other = ({name: by_name[f"{name} {v}"] for name in QUERIES} for v in (canary, stable))
    return CanaryState(canary, stable, judge(one, other, by_name["lower"], by_name["upper"]))


def _select(version: str, namespace: str) -> str:
    """Labels. Namespaces with registries of their own count versions alike."""
    place = f', namespace="{quote_label(namespace)}"' if namespace else ""
    return f'model_version="{quote_label(version)}"{place}'


async def ask(client: httpx.AsyncClient, url: str, query: str) -> float | None:
    """None without a series, or without a number."""
    answer = await client.get(f"{url.rstrip('/')}/api/v1/query", params={"query": query})
    answer.raise_for_status()
    result = answer.json()["data"]["result"]
    value = float(result[0]["value"][1]) if result else math.nan
    return value if math.isfinite(value) else None


def judge(
    canary: Numbers, stable: Numbers, lower: float | None, upper: float | None
) -> list[Judgement]:
    """Nothing is judged on too few requests of either."""
    enough = all((one["requests"] or 0) >= MIN_REQUESTS for one in (canary, stable))
    latency = max(stable["p99_s"] or 0, LATENCY_FLOOR_S) * MAX_LATENCY_RATIO
    latency = min(latency, MAX_LATENCY_S)
    fallbacks = (stable["fallbacks"] or 0) + MAX_FALLBACK_GROWTH
    rows = [
        ("Answers without error", "success", percent, MIN_SUCCESS_RATE, False),
        ("Latency, p99", "p99_s", milliseconds, latency, True),
        ("Share of fallbacks", "fallbacks", percent, fallbacks, True),
    ]
    judgements = [
        Judgement(
            "Requests in 5 minutes",
            f"{stable['requests'] or 0:,.0f}",
            f"{canary['requests'] or 0:,.0f}",
            f"at least {MIN_REQUESTS}",
            "held" if enough else "open",
        )
    ]
    for words, name, say, bound, is_ceiling in rows:
        value = canary[name]
        state = "open"
        if enough and value is not None:
            state = "held" if (value <= bound if is_ceiling else value >= bound) else "broken"
        side = "at most" if is_ceiling else "at least"
        bound_text = f"{side} {say(bound)}"
        judgements.append(Judgement(words, say(stable[name]), say(value), bound_text, state))
    return [*judgements, judge_lift(lower, upper)]


def judge_lift(lower: float | None, upper: float | None) -> Judgement:
    state, canary = "open", "not known yet"
    if lower is not None and upper is not None:
        canary = f"{lower:+.1%} to {upper:+.1%}"
        state = "broken" if upper < -EVENT_MARGIN else "held" if lower > -EVENT_MARGIN else "open"
    return Judgement("Clicks per list", "", canary, f"above {-EVENT_MARGIN:.0%}", state)


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.1f} ms"


def quote_label(version: str) -> str:
    return version.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
