"""The HTML report of what shoppers did with recommendations."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.online.agreement import MIN_VERSIONS, Agreement, say_agreement
from components.progress import log_progress
from components.report.formatting import (
    NOTHING,
    count,
    date,
    decimal,
    is_number,
    percent,
)
from components.report.online_page import ExperimentPart, OnlinePage, Part
from components.report.report import render

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure


def amount(value: Any) -> str:
    """Of money, whose currency is not known."""
    return count(value) if is_number(value) and abs(value) >= 100 else decimal(value, 2)


class Measure(NamedTuple):
    title: str
    meaning: str
    format: Callable[[Any], str]


MEASURES = {
    "click_through": Measure(
        "Click-through rate", "Clicks on recommended products per product that was seen.", percent
    ),
    "add_rate": Measure(
        "Add-to-cart rate", "Recommended products put into the cart per product seen.", percent
    ),
    "purchase_rate": Measure(
        "Purchase rate", "Recommended products bought per product that was seen.", percent
    ),
    "revenue_per_1000": Measure(
        "Revenue per 1,000 impressions",
        "Price of the recommended products that were bought, per 1,000 products seen.",
        amount,
    ),
    "attach_rate": Measure(
        "Attach rate",
        "Orders that hold a recommended product that was seen, of those of sessions that saw any.",
        percent,
    ),
    "average_order_value": Measure(
        "Average order value", "Value per order, of sessions that saw recommendations.", amount
    ),
    "coverage": Measure(
        "Coverage", "Share of the catalogue that was recommended to someone.", percent
    ),
    "fallback_share": Measure(
        "Fallback share",
        "Recommended products that came from a fallback, as bestsellers.",
        percent,
    ),
}  # fmt: skip
TIMELINES = ("click_through", "add_rate", "purchase_rate", "revenue_per_1000")
"""Measures drawn over the days."""
PARTS = {
    "category": "Category of the recommended product",
    "context": "Place in the shop",
    "source": "Source of the recommendation",
}
MAX_LINES = 6
"""Versions and arms in a plot, those with most impressions."""
MAX_ROWS = 15
"""Parts in a plot; the table has all."""
MIN_WIDE_DAYS = 8
"""Fewer looks at an experiment need no wide plot."""


def write_online_report(page: OnlinePage, path: Path) -> None:
    """Write a self-contained HTML file."""
    pictures = {}
    plotters = _plan_plots(page)
    for number, (name, (title, plotter)) in enumerate(plotters.items(), 1):
        log_progress(f"picture {number} of {len(plotters)}: {title.lower()}")
        pictures[name] = _draw(name, title, plotter)
    render(
        "online.html", path, page=page, pictures=pictures, headline=say_headline(page),
        measures=MEASURES, timelines=TIMELINES, part_titles=PARTS, max_lines=MAX_LINES,
        max_rows=MAX_ROWS, format_measure=format_measure, title_measure=title_measure,
        agreements=list_agreements(page), sort_parts=sort_parts, colours=HUE_NAMES,
        say_time=say_time, is_wide=is_wide,
    )  # fmt: skip


HUE_NAMES = ("c1", "c2", "c3", "c4", "c5", "c6")

Plotters = dict[str, tuple[str, Callable[[], "Figure"]]]


def _plan_plots(page: OnlinePage) -> Plotters:
    from components.report import online_plots as plots

    plotters: Plotters = {}
    labels = [one.label for one in page.groups[:MAX_LINES]]
    for name in TIMELINES:
        if any(is_number(day.measures[name].mean) for day in page.days if name in day.measures):
            title = f"Lines with bands: {title_measure(name)} over time"
            draw = partial(plots.draw_days, page.days, labels, name, MEASURES[name].format)
            plotters[f"days_{name}"] = (title, draw)
    if page.places:
        title = "Lines: click-through rate by position, raw and corrected"
        plotters["places"] = (title, partial(plots.draw_places, page.places))
    for by, parts in page.parts.items():
        if known := [one for one in sort_parts(parts) if "click_through" in one.measures]:
            title = f"Dots with intervals: click-through rate by {by}"
            plotters[f"parts_{by}"] = (title, partial(plots.draw_parts, known[:MAX_ROWS]))
    for number, experiment in enumerate(page.experiments):
        if any(experiment.looks.values()):
            title = "Bands over time: difference of each arm to the control"
            plotters[f"looks_{number}"] = (title, _plan_looks(experiment))
    return plotters


def _plan_looks(experiment: ExperimentPart) -> "Callable[[], Figure]":
    from components.report import online_plots as plots

    title = f"{experiment.main_measure.capitalize()}, change against the control"
    return partial(plots.draw_looks, experiment.looks, title, is_wide(experiment))


def is_wide(experiment: ExperimentPart) -> bool:
    """Whether its plot takes the whole width."""
    return max(map(len, experiment.looks.values()), default=0) >= MIN_WIDE_DAYS


def list_agreements(page: OnlinePage) -> list[tuple[str, Sequence[Agreement]]]:
    """Each with its sentence; one sentence where all have too few versions."""
    found = page.agreements
    if all(one.n_versions < MIN_VERSIONS for many in found.values() for one in many):
        longest = sorted(found.values(), key=len)[-1:]
        return [(say_agreement(many, "online ones"), many) for many in longest]
    return [
        (say_agreement(many, title_measure(name).lower()), many) for name, many in found.items()
    ]


def say_time(page: OnlinePage) -> str:
    if page.first is None or page.last is None:
        return ""
    first, last = date(page.first.isoformat()), date(page.last.isoformat())
    return f"Events of {first}, UTC." if first == last else f"Events from {first} to {last}, UTC."


def _draw(name: str, title: str, plotter: "Callable[[], Figure]") -> "Markup":
    from markupsafe import Markup

    from components.report import plots

    with plots.style(name):
        return Markup(plots.to_svg(plotter(), title))


def say_headline(page: OnlinePage) -> tuple[str, str, bool]:
    """Headline, explanation, and whether it is bad news."""
    if page.total is None or not page.total.counts.get("impressions"):
        return (
            "No impressions yet",
            "No shopper's event says that a recommendation was seen. Send events to POST /events "
            "of the service, run fbt events compact, and make this report again.",
            False,
        )
    if page.experiments:
        newest = page.experiments[0]
        return f"{newest.name}: {newest.headline}", newest.why, newest.is_bad
    clicked = page.total.measures.get("click_through")
    rate = percent(clicked.mean) if clicked else NOTHING
    sessions = count(page.total.counts.get("sessions"))
    if len(page.groups) < 2:
        return (
            f"{rate} of the products seen were clicked",
            f"In {sessions} sessions. One version served them all, so there is nothing to compare "
            "with: run an experiment to learn whether another version is better.",
            False,
        )
    return (
        f"{rate} of the products seen were clicked",
        f"In {sessions} sessions, over {len(page.groups)} versions and arms. No experiment ran: "
        "sessions were not assigned at random, and differences may have other causes.",
        False,
    )


def format_measure(name: str, value: Any) -> str:
    return MEASURES[name].format(value) if name in MEASURES else decimal(value, 4)


def title_measure(name: str) -> str:
    return MEASURES[name].title if name in MEASURES else name.replace("_", " ").capitalize()


def sort_parts(parts: Sequence[Part]) -> list[Part]:
    """Most impressions first, the sum of small ones last."""
    return sorted(
        parts, key=lambda one: (one.is_rest, -one.counts.get("impressions", 0), one.label)
    )
