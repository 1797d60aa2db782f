"""The page on which a person reads what the checks found. It opens offline, without scripts."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any

from data_checks.profile import Profile
from data_checks.quarantine import EXAMPLE_COLUMNS
from data_checks.result import CheckReport

NAMES = {"order_lines": "Order lines", "baskets": "Baskets"}
CHART_WIDTH, CHART_HEIGHT = 520, 150
LETTER_WIDTH = 7
"""Pixels of a letter below a chart; where labels would touch, only some are written."""


def render(checked: CheckReport) -> str:
    """The page as one self-contained HTML text."""
    from jinja2 import Environment, StrictUndefined

    source = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["unbroken"] = _unbroken
    return environment.from_string(source).render(
        name=NAMES[checked.table],
        checked=checked,
        failed=checked.failed("critical"),
        warned=checked.failed("warning"),
        good=[check for check in checked.checks if check["passed"]],
        facts=_facts(checked.profile) if checked.profile else {},
        charts=_charts(checked.profile) if checked.profile else [],
        shown=EXAMPLE_COLUMNS,
    )


def _unbroken(text: str) -> str:
    """The text with each number and its unit on one line."""
    return re.sub(r"(?<=\d) (?=[%×d])", "\N{NO-BREAK SPACE}", text)


def _facts(profile: Profile) -> dict[str, str]:
    numbers = profile.numbers
    names = {
        "rows": NAMES[profile.table],
        "orders": "Orders",
        "products": "Products bought",
        "users": "Customers",
        "basket_mean": "Products per order",
    }
    facts = {label: _short(numbers[name]) for name, label in names.items() if numbers.get(name)}
    first, last = (_date(numbers.get(name)) for name in ("ts_first_s", "ts_last_s"))
    return facts | ({"Period": f"{first} – {last}"} if first and last else {})


def _short(value: float | None) -> str:
    value = value or 0
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _date(seconds: float | None) -> str:
    if seconds is None:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%-d %b %Y")
    except (ValueError, OverflowError):  # beyond year 9999
        return "beyond the calendar"


def _charts(profile: Profile) -> list[dict[str, Any]]:
    unit = "lines" if profile.table == "order_lines" else "baskets"
    shown = {
        "basket_sizes": ("How many products are in an order", "share of orders"),
        "months": (f"{unit.capitalize()} per month", f"share of all {unit}"),
    }
    return [
        {"title": title, "axis": axis, "bars": _bars(profile.histograms[name])}
        for name, (title, axis) in shown.items()
        if profile.histograms.get(name)
    ]


def _bars(histogram: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each bar's rectangle and texts, in the pixels of the chart."""
    step = CHART_WIDTH / len(histogram)
    every = ceil(max(map(len, histogram)) * LETTER_WIDTH / step)
    tallest = max(histogram.values()) or 1
    return [
        {
            "x": round(i * step + step * 0.1, 1),
            "width": round(step * 0.8, 1),
            "height": round(share / tallest * CHART_HEIGHT, 1),
            "label": label if i % every == 0 else "",
            "hint": f"{label}: {100 * share:.1f} %",
            "value": f"{100 * share:.0f} %" if share == tallest else "",
        }
        for i, (label, share) in enumerate(histogram.items())
    ]
