"""The chart of `fbt bench quality`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.model.atomic import atomic_write
from components.report.plots import COLOURS, new_figure, style
from pipelines.bench.peers.peer import CART, ITEM
from pipelines.bench.peers.tuning import EXCESS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png")
TITLES = {ITEM: "Item page", CART: "Cart"}
CAPTION = (
    "NDCG@10 on the test orders with 95 % intervals · filled: fbt, whole and by part · "
    "dashed: the best peer"
)
LINE_IN, MARGIN_IN = 0.3, 1.3
"""Inches per method, and for title and caption."""

Row = Mapping[str, Any]


def check_format(path: Path) -> None:
    if path.suffix not in FORMATS:
        raise ValueError(
            f"bench quality: chart {path.name!r} ends in {path.suffix or 'nothing'}, "
            f"expected {' or '.join(FORMATS)}"
        )


def draw(rows: Sequence[Row], path: Path) -> None:
    check_format(path)
    rows = [row for row in rows if row.get("tuned_by") != EXCESS]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    by_task = {task: [row for row in rows if row["task"] == task] for task in tasks}
    height = MARGIN_IN + LINE_IN * max(map(len, by_task.values()))
    with style("quality"):
        figure, axes = new_figure(height, n_columns=len(tasks))
        for panel, (task, mine) in zip(axes, by_task.items(), strict=True):
            _draw_task(panel, mine)
            panel.set_title(TITLES[task], loc="left", fontsize=13)
        figure.supxlabel(CAPTION, fontsize=11, color=COLOURS["muted"])
        with atomic_write(path) as aside:
            figure.savefig(aside, format=path.suffix[1:], dpi=110)


def _draw_task(axes: "Axes", rows: Sequence[Row]) -> None:
    ordered = sorted(rows, key=lambda row: -row["ndcg"])[::-1]
    best_peer = max((row["ndcg"] for row in rows if not row["ours"]), default=0.0)
    axes.axvline(best_peer, color=COLOURS["faint"], linewidth=1, linestyle=(0, (3, 3)))
    for place, row in enumerate(ordered):
        colour = COLOURS["accent"] if row["ours"] else COLOURS["muted"]
        axes.plot([row["ndcg_low"], row["ndcg_high"]], [place, place], color=colour, linewidth=2)
        face = colour if row["ours"] else COLOURS["paper"]
        axes.plot(row["ndcg"], place, "o", color=colour, markerfacecolor=face, markersize=7)
        # In a column of their own, where no interval crosses them.
        axes.annotate(
            f"{row['ndcg']:.3f}", (1, place), (4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", color=colour, fontsize=10,
        )  # fmt: skip
    axes.set_yticks(range(len(ordered)), [row["method"] for row in ordered])
    for label, row in zip(axes.get_yticklabels(), ordered, strict=True):
        label.set_color(COLOURS["accent"] if row["ours"] else COLOURS["ink"])
        label.set_fontweight("bold" if row["method"] == "fbt" else "normal")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlim(left=0, right=1.04 * max(row["ndcg_high"] for row in rows))
    axes.locator_params(axis="x", nbins=5)
