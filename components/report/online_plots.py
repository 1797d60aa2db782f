"""Plots of the report of online measures."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from components.report.formatting import THIN, is_number, percent, percent_change
from components.report.online_page import Bounds, Day, Look, Part, Place
from components.report.plots import (
    COLOURS,
    HUES,
    MAP_WIDTH_IN,
    draw_dot,
    label_rows,
    new_figure,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BAND = 0.16
"""Opacity."""
MAX_TICKS = 6
GAP = timedelta(hours=1)
MAX_DIGITS = 4


def draw_days(
    days: Sequence[Day], labels: Sequence[str], name: str, format_value: Callable[[Any], str]
) -> "Figure":
    figure, [axes] = new_figure(3.0)
    for place, (label, hue) in enumerate(zip(labels, HUES, strict=False)):
        mine = [one for one in days if one.label == label and name in one.measures]
        known = [(one.day, one.measures[name]) for one in mine]
        points = [one for one in known if is_number(one[1].mean)]
        _draw_band(axes, points, COLOURS[hue], (place - (len(labels) - 1) / 2) * GAP)
    if format_value is percent:
        _mark_shares(axes.yaxis)
    else:
        axes.yaxis.set_major_formatter(lambda value, _: format_value(value))
    axes.set_ylim(0, _find_top([one.measures[name] for one in days if name in one.measures]))
    _finish_days(axes, [one.day for one in days])
    return figure


def _mark_shares(axis: "Axis") -> None:
    """In percent, with no more digits than tell the ticks apart."""

    def mark(share: float, _: Any) -> str:
        steps = np.diff(axis.get_majorticklocs()[:2]) * 100
        exact = (n for n in range(MAX_DIGITS) if np.allclose(np.round(steps, n), steps, rtol=1e-6))
        return f"{100 * share:.{next(exact, MAX_DIGITS)}f}{THIN}%"

    axis.set_major_formatter(mark)


def _find_top(values: Sequence[Bounds]) -> float | None:
    """Days of few sessions have bounds that would make a line of the others."""
    means = [one.mean for one in values if is_number(one.mean)]
    highs = [one.high for one in values if is_number(one.high)]
    top = max([*means, *(np.quantile(highs, [0.8]) if highs else [])], default=0.0)
    return 1.1 * float(top) or None


def draw_looks(looks: Mapping[str, Sequence[Look]], title: str, is_wide: bool = True) -> "Figure":
    figure, [axes] = new_figure(4.2, MAP_WIDTH_IN) if is_wide else new_figure(3.4)
    axes.axhline(0, color=COLOURS["ink"], linewidth=1)
    widest = 0.0
    for (arm, found), hue in zip(looks.items(), HUES, strict=False):
        points = [(one.day, one.relative) for one in found if is_number(one.relative.mean)]
        _draw_band(axes, points, COLOURS[hue])
        if points:
            last: Any = (points[-1][0], points[-1][1].mean)
            axes.annotate(
                shorten(arm, 20), last, (6, 0), textcoords="offset points", va="center",
                color=COLOURS[hue],
            )  # fmt: skip
            late = points[len(points) // 4 :]
            widest = max([widest, *(max(abs(b.low), abs(b.high)) for _, b in late)])
    if widest and np.isfinite(widest):
        # The first days' bounds are so wide that the later ones would be a line.
        axes.set_ylim(-1.15 * widest, 1.15 * widest)
    axes.yaxis.set_major_formatter(lambda share, _: percent_change(share).replace(".0", ""))
    axes.set_title(title, loc="left", fontsize=12)
    axes.margins(x=0.08)
    _finish_days(axes, [one.day for found in looks.values() for one in found])
    return figure


def _draw_band(
    axes: "Axes",
    points: Sequence[tuple[date, Bounds]],
    colour: str,
    shift: timedelta = timedelta(),
) -> None:
    """Single points are moved by `shift`, so that they do not hide each other."""
    midnights = [datetime.combine(day, time()) for day, _ in points]
    days: Any = [one + shift for one in midnights] if len(points) < 3 else midnights
    axes.plot(
        days, [one.mean for _, one in points], color=colour, linewidth=2,
        marker="o" if len(points) < 3 else None,
    )  # fmt: skip
    low, high = ([getattr(one, end) for _, one in points] for end in ("low", "high"))
    if len(points) < 3:
        axes.vlines(days, low, high, color=colour, linewidth=2)
    else:
        axes.fill_between(days, low, high, color=colour, alpha=BAND, linewidth=0)


def _finish_days(axes: "Axes", days: Sequence[date]) -> None:
    """Ticks are days: matplotlib's own are hours where there are few."""
    from matplotlib.dates import DateFormatter

    formatter: Any = DateFormatter
    if days:
        first, n = min(days), (max(days) - min(days)).days + 1
        ticks: Any = [first + timedelta(i) for i in range(0, n, -(-n // MAX_TICKS))]
        axes.set_xticks(ticks)
    if len(set(days)) == 1:
        ends: Any = (days[0] - timedelta(1), days[0] + timedelta(1))
        axes.set_xlim(ends)
    axes.xaxis.set_major_formatter(formatter("%-d %b"))
    axes.grid(axis="y")


def draw_places(places: Sequence[Place]) -> "Figure":
    figure, [axes] = new_figure(3.2)
    numbers = [one.position + 1 for one in places]
    _draw_line(axes, numbers, [one.raw for one in places], COLOURS["muted"])
    known = [one for one in places if one.corrected is not None]
    corrected = [one.corrected for one in known if one.corrected is not None]
    _draw_line(axes, [one.position + 1 for one in known], corrected, COLOURS["accent"])
    _mark_shares(axes.yaxis)
    axes.set_ylim(bottom=0)
    axes.set_xticks(numbers)
    axes.set_xlabel("position in the list")
    axes.set_ylabel("click-through rate")
    axes.grid(axis="y")
    return figure


def _draw_line(axes: "Axes", x: Sequence[int], values: Sequence[Bounds], colour: str) -> None:
    axes.plot(x, [one.mean for one in values], "o-", color=colour, linewidth=2, markersize=5)
    low, high = [one.low for one in values], [one.high for one in values]
    axes.fill_between(x, low, high, color=colour, alpha=BAND, linewidth=0)


def draw_parts(parts: Sequence[Part]) -> "Figure":
    figure, [axes] = new_figure(1.1 + 0.34 * len(parts))
    for row, part in enumerate(parts):
        bounds = part.measures["click_through"]
        if is_number(bounds.mean):
            draw_dot(axes, row, bounds._asdict(), percent(bounds.mean), own=True)
    label_rows(axes, [shorten(part.label, 24) for part in parts])
    axes.set_xlim(left=0)
    _mark_shares(axes.xaxis)
    axes.set_xlabel("click-through rate")
    return figure
