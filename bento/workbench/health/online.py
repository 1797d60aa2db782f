"""Online measures of versions, as `fbt report online --record` left them in the registry."""

from collections.abc import Sequence
from typing import NamedTuple

from bento.workbench.health.whiskers import Interval, Whiskers, draw
from components.registry.online import SESSIONS_TAG, WINDOW_TAG, VersionMeasures
from components.registry.registry import Version

WORDS = {
    "click_through": "Clicks per product seen",
    "add_rate": "Additions to the cart per product seen",
    "purchase_rate": "Purchases per product seen",
    "revenue_per_1000": "Revenue per 1,000 products seen",
    "attach_rate": "Orders with a recommended product",
    "average_order_value": "Value of an order",
    "fallback_share": "Share of fallbacks",
    "coverage": "Share of the catalogue shown",
}
SHARES = {
    "click_through", "add_rate", "purchase_rate", "attach_rate", "fallback_share", "coverage",
}  # fmt: skip


class MeasureChart(NamedTuple):
    words: str
    is_share: bool
    whiskers: Whiskers


class OnlineState(NamedTuple):
    charts: list[MeasureChart]
    sessions: list[tuple[str, str, str]]
    """Version, number of sessions, window."""


def chart_measures(measures: Sequence[VersionMeasures], versions: Sequence[Version]) -> OnlineState:
    """A chart for each measure, a row for each version, newest first."""
    names = {name for one in measures for name in one.online}
    ordered = sorted(names, key=lambda name: (name not in WORDS, [*WORDS, name].index(name), name))
    charts = []
    for name in ordered:
        rows = [Interval(one.version, *one.online[name]) for one in measures if name in one.online]
        words = WORDS.get(name, name.replace("_", " "))
        charts.append(MeasureChart(words, name in SHARES, draw(rows)))
    sessions = [
        (one.version, one.tags[SESSIONS_TAG], one.tags.get(WINDOW_TAG, ""))
        for one in versions
        if SESSIONS_TAG in one.tags
    ]
    return OnlineState(charts, sessions)
