"""Plots of the report, as PNG and as SVG inside the page."""

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.model.arrays import Float32Array, Float64Array
from components.model.bundle import Bundle
from components.report.formatting import (
    NAMES,
    TASKS,
    count,
    is_number,
    percent,
    percent_change,
    ranker_name,
)
from components.report.ranking import BLEND, COLD_START_METHODS, Change, part_name
from components.report.tables import BasketStats, Trial, sort_rankers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "ink": "#1b1f23",
    "muted": "#656d76",
    "faint": "#b4bac1",
    "line": "#e2e5e8",
    "paper": "#fefefe",
    "accent": "#0f766f",
    "bad": "#b42318",
    "c1": "#0f766e",
    "c2": "#c2570c",
    "c3": "#3b5bdb",
    "c4": "#a6336f",
    "c5": "#7c6f00",
    "c6": "#6d43c0",
}
"""By their names in page.css. All differ: in the page they become variables, for light and dark."""
HUES = ("c1", "c2", "c3", "c4", "c5", "c6")

SHOWN_PRODUCTS = 1_500
LABELLED_PRODUCTS = 24
PERPLEXITY = 15
MAP_WIDTH_IN, MAP_HEIGHT_IN = 14.3, 8.2
WIDTH_IN = 6.5
"""Half a page at 72 points an inch, so that a point is a pixel."""
OTHER = "all others"


@contextmanager
def style(salt: str) -> Iterator[None]:
    """`salt` keeps the ids of plots apart."""
    import matplotlib

    own: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.size": 12,
        "font.family": "DejaVu Sans",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": COLOURS["faint"],
        "axes.labelcolor": COLOURS["muted"],
        "axes.facecolor": "none",
        "axes.axisbelow": True,
        "grid.color": COLOURS["line"],
        "xtick.color": COLOURS["muted"],
        "ytick.color": COLOURS["muted"],
        "text.color": COLOURS["ink"],
        "text.parse_math": False,
        "figure.facecolor": COLOURS["paper"],
    }
    with matplotlib.rc_context(own), warnings.catch_warnings():
        # Product names may be in any script; a browser has the letters that matplotlib lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def save_png(figure: "Figure", path: Path) -> None:
    figure.savefig(path, format="png", dpi=110)


def to_svg(figure: "Figure", title: str) -> str:
    """Without namespaces, colours or fonts of its own."""
    import io
    from html import escape

    stream = io.StringIO()
    no_metadata: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=no_metadata)
    text = stream.getvalue()
    head, body = text[text.index("<svg") :].split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    head = f'<svg {box[0] if box else ""} role="img" aria-label="{escape(title)}">'
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", body))
    # Unused ids would repeat in the next plot.
    body = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", body)
    body = re.sub(r"font: ((?:\w+ )*[\d.]+px) [^;\"]+", r"font: \1 var(--sans)", body)
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    return head + body


def new_figure(
    height_in: float, width_in: float = WIDTH_IN, n_columns: int = 1
) -> "tuple[Figure, list[Axes]]":
    """Axes side by side. Not by pyplot, which keeps figures and a backend."""
    from matplotlib.figure import Figure

    figure = Figure((width_in * n_columns, height_in), layout="constrained")
    grid = figure.subplots(1, n_columns, squeeze=False)
    return figure, list(grid.flat)


def draw_basket_sizes(stats: BasketStats) -> "Figure":
    """The largest hundredth share the last bar."""
    figure, [axes] = new_figure(3.4)
    sizes = stats.sizes
    last = max(int(np.quantile(sizes, 0.99)), 3) if len(sizes) else 3
    bars = np.bincount(np.minimum(sizes, last), minlength=last + 1)[2:]
    axes.bar(np.arange(2, last + 1), bars, width=0.8, color=COLOURS["accent"])
    axes.axvline(stats.median_size, color=COLOURS["ink"], linewidth=1, linestyle=(0, (3, 3)))
    axes.annotate(
        f"half have {stats.median_size:g} or more", (stats.median_size, 1), (6, -2),
        xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
    )  # fmt: skip
    axes.set_xlabel(f"products in a basket (last bar: {last} or more)")
    axes.set_ylabel("baskets")
    axes.set_xlim(1.3, last + 0.7)
    axes.margins(y=0.12)
    _whole_numbers(axes, "x", "y")
    axes.grid(axis="y")
    return figure


def draw_popularity(stats: BasketStats) -> "Figure":
    figure, [axes] = new_figure(3.4)
    n = len(stats.popularity)
    ranks = np.unique(np.geomspace(1, n, 300).astype(int)) if n else np.zeros(0, int)
    counts = stats.popularity[ranks - 1]
    axes.plot(ranks, counts, color=COLOURS["accent"], linewidth=2.5, solid_capstyle="round")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda number, _: count(number))
    axes.minorticks_off()
    axes.set_xlabel("rank of the product, bestseller first")
    axes.set_ylabel("baskets with it")
    axes.grid()
    return figure


def draw_comparison(evaluation: Mapping[str, Any], tasks: Sequence[str]) -> "Figure":
    found = [sort_rankers((evaluation.get("tasks") or {}).get(task) or {}) for task in tasks]
    height = 1.2 + 0.38 * max(map(len, found), default=1)
    figure, panels = new_figure(height, n_columns=len(tasks))
    for axes, task, names in zip(panels, tasks, found, strict=True):
        results = (evaluation.get("tasks") or {}).get(task) or {}
        metrics = [(results[name] or {}).get("ndcg") or {} for name in names]
        _dots(axes, [ranker_name(name) for name in names], metrics, NAMES["model"])
        axes.set_xlabel(f"NDCG@{evaluation.get('k', 10)}, further right is better")
        _title(axes, TASKS.get(task, task))
    return figure


def draw_cold_start(results: Mapping[str, Any]) -> "Figure":
    ndcg = results.get("ndcg") or {}
    names = [name for name in COLD_START_METHODS if name in ndcg]
    figure, [axes] = new_figure(1.2 + 0.38 * len(names))
    labels = [COLD_START_METHODS[name] for name in names]
    own = COLD_START_METHODS["attribute_neighbours"]
    _dots(axes, labels, [ndcg[name] or {} for name in names], own)
    axes.set_xlabel("NDCG@10, further right is better")
    return figure


def _dots(
    axes: "Axes", labels: Sequence[str], metrics: Sequence[Mapping[str, Any]], own: str
) -> None:
    for row, (label, ndcg) in enumerate(zip(labels, metrics, strict=True)):
        if not is_number(ndcg.get("mean")):
            continue
        draw_dot(axes, row, ndcg, f"{ndcg['mean']:.3f}", label == own)
        if label == own:
            axes.axvline(
                ndcg["mean"], color=COLOURS["accent"], linewidth=1, linestyle=(0, (2, 3)), zorder=0
            )
    axes.set_xlim(left=0)
    label_rows(axes, labels)


def draw_dot(axes: "Axes", row: int, bounds: Mapping[str, Any], text: str, own: bool) -> None:
    """A mean with its interval, and `text` at the end of the row."""
    colour = COLOURS["accent" if own else "muted"]
    if is_number(bounds.get("low")) and is_number(bounds.get("high")):
        axes.plot([bounds["low"], bounds["high"]], [row, row], color=colour, linewidth=2)
    axes.plot(bounds["mean"], row, "o", color=colour, markersize=9 if own else 7)
    _label_end(axes, row, text, own)


def _label_end(axes: "Axes", row: int, text: str, own: bool) -> None:
    axes.annotate(
        text, (1.02, row), xycoords=("axes fraction", "data"), va="center",
        color=COLOURS["accent" if own else "muted"], fontweight="bold" if own else "normal",
    )  # fmt: skip


def label_rows(axes: "Axes", labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.6)
    axes.locator_params(axis="x", nbins=5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
    axes.grid(axis="x")


def _title(axes: "Axes", text: str) -> None:
    axes.set_title(text, loc="left", fontsize=13, fontweight="bold")


def draw_changes(columns: Mapping[str, Sequence[Change]]) -> "Figure":
    """One panel a title."""
    height = 1.2 + 0.34 * max(map(len, columns.values()), default=1)
    figure, panels = new_figure(height, n_columns=len(columns))
    for axes, (title, changes) in zip(panels, columns.items(), strict=True):
        axes.axvline(0, color=COLOURS["ink"], linewidth=1)
        for row, change in enumerate(changes):
            if is_number(change.bounds.get("mean")):
                text = percent_change(change.bounds["mean"])
                draw_dot(axes, row, change.bounds, text, change.used)
        label_rows(axes, [change.label for change in changes])
        axes.xaxis.set_major_formatter(lambda share, _: percent_change(share).replace(".0", ""))
        axes.set_xlabel("change of NDCG@10 less chance, further right is better")
        _title(axes, title)
    return figure


def draw_blend(parts: Mapping[str, Sequence[tuple[str, float]]]) -> "Figure":
    height = 1.2 + 0.36 * max(map(len, parts.values()), default=1)
    figure, panels = new_figure(height, n_columns=len(parts))
    for axes, (task, found) in zip(panels, parts.items(), strict=True):
        bars = [(part_name(name), ndcg, f"{ndcg:.3f}") for name, ndcg in found]
        _bars(axes, bars, [name == BLEND for name, _ in found])
        axes.set_xlabel("NDCG@10 on validation baskets")
        _title(axes, TASKS[task])
    return figure


def draw_features(shares: Sequence[tuple[str, float]], title: str, used: bool) -> "Figure":
    figure, [axes] = new_figure(1.2 + 0.36 * len(shares))
    _bars(axes, [(name, share, percent(share)) for name, share in shares], [used] * len(shares))
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}\u202f%")
    axes.set_xlabel("share of the importance of all features")
    _title(axes, title)
    return figure


def draw_discounts(curve: Sequence[Mapping[str, float]], chosen: float, title: str) -> "Figure":
    """Both measures over the popularity discount, the chosen one marked."""
    figure, [axes] = new_figure(3.2)
    discounts = [one["popularity_discount"] for one in curve]
    lines = (("ndcg", "NDCG", "c3", 8), ("excess", "excess NDCG", "accent", -18))
    for name, label, colour, offset in lines:
        values = [one[name] for one in curve]
        axes.plot(discounts, values, color=COLOURS[colour], marker="o", linewidth=2)
        axes.annotate(
            label, (discounts[-2], values[-2]), (0, offset), textcoords="offset points",
            ha="center", color=COLOURS[colour],
        )  # fmt: skip
    axes.axvline(chosen, color=COLOURS["ink"], linewidth=1, linestyle=(0, (3, 3)))
    axes.set_xlabel("popularity discount (dashed: this run's)")
    axes.set_ylim(0, 1.25 * max(one["ndcg"] for one in curve) or None)
    axes.grid(axis="y")
    _title(axes, title)
    return figure


def _bars(axes: "Axes", bars: Sequence[tuple[str, float, str]], own: Sequence[bool]) -> None:
    colours = [COLOURS["accent" if mine else "faint"] for mine in own]
    axes.barh(range(len(bars)), [size for _, size, _ in bars], height=0.62, color=colours)
    for row, ((_, _, text), mine) in enumerate(zip(bars, own, strict=True)):
        _label_end(axes, row, text, mine)
    axes.set_xlim(left=0)
    label_rows(axes, [label for label, _, _ in bars])


def draw_sweep(trials: Sequence[Trial], tasks: Sequence[str], legend: bool = True) -> "Figure":
    figure, panels = new_figure(3.0, n_columns=len(tasks))
    for axes, task in zip(panels, tasks, strict=True):
        for trial in trials:
            _draw_trial(axes, trial, trial.ndcg(task))
        _title(axes, TASKS[task])
        axes.set_xlabel("trial")
        axes.set_ylabel("NDCG")
        axes.set_xlim(0.4, max(len(trials), 1) + 0.6)
        axes.margins(y=0.2)
        axes.grid(axis="y")
        _whole_numbers(axes, "x")
        if not any(trial.ndcg(task) is not None for trial in trials):
            axes.set_yticks([])
            axes.text(0.5, 0.5, "no finished trial", ha="center", transform=axes.transAxes)
    if legend:
        _add_trial_legend(figure)
    return figure


MARKS: dict[str, dict[str, Any]] = {
    "picked": {"marker": "o", "color": COLOURS["accent"], "markersize": 12},
    "finished": {"marker": "o", "color": COLOURS["muted"], "markersize": 7},
    "stopped early": {
        "marker": "o", "markerfacecolor": "none", "markeredgecolor": COLOURS["muted"],
        "markersize": 7,
    },
    "failed": {"marker": "x", "color": COLOURS["bad"], "markersize": 8, "markeredgewidth": 2},
}  # fmt: skip


def _draw_trial(axes: "Axes", trial: Trial, ndcg: float | None) -> None:
    mark = {**MARKS[trial.outcome], "linestyle": "none", "zorder": 3}
    if ndcg is not None:
        axes.plot(trial.number, ndcg, **mark)
    else:
        foot = axes.get_xaxis_transform()
        axes.plot(trial.number, 0.05, transform=foot, clip_on=False, **mark)


def _add_trial_legend(figure: "Figure") -> None:
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], linestyle="none", label=name, **mark) for name, mark in MARKS.items()]
    figure.legend(
        handles=marks, loc="outside upper left", ncols=4, frameon=False,
        handletextpad=0.2, columnspacing=1.4,
    )  # fmt: skip


def draw_product_map(bundle: Bundle) -> "Figure":
    figure, [axes] = new_figure(MAP_HEIGHT_IN, MAP_WIDTH_IN)
    shown = min(len(bundle.in_vectors), SHOWN_PRODUCTS)
    points = project(bundle.in_vectors[:shown])
    products = bundle.products.slice(0, shown)
    groups = _group_categories(products["category"].to_pylist())
    hues = iter(HUES)
    for name, n in Counter(groups).most_common():
        colour = "faint" if name == OTHER else next(hues)
        mine = points[[group == name for group in groups]]
        label = f"{shorten(name, 20)} ({n})"
        axes.scatter(mine[:, 0], mine[:, 1], 20, COLOURS[colour], linewidths=0, label=label)
    rows = products.select(["name", "category", "product_id"]).to_pylist()
    labels = [row["name"] or row["category"] or row["product_id"] for row in rows]
    _label_some(axes, points, [shorten(label, 26) for label in labels])
    axes.set_axis_off()
    axes.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04))
    figure.legend(
        loc="outside lower left", ncols=4, frameon=False, markerscale=1.8, handletextpad=0.1
    )
    return figure


def project(vectors: Float32Array | Float64Array) -> Float64Array:
    """t-SNE of the directions of vectors, (n, 2) within -1 and 1.

    The length of a vector mostly tells how often its product is bought.
    """
    from sklearn.manifold import TSNE

    wide = np.nan_to_num(np.asarray(vectors, np.float64))
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    if len(unit) < 4:
        return np.column_stack([np.linspace(-1, 1, len(unit)), np.zeros(len(unit))])
    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    init = "pca" if unit.std(axis=0).any() and unit.shape[1] > 1 else "random"
    flat: Float64Array = TSNE(perplexity=perplexity, init=init, random_state=0).fit_transform(unit)
    flat -= (flat.max(axis=0) + flat.min(axis=0)) / 2
    flat /= np.maximum(np.abs(flat).max(axis=0), 1e-9)
    return flat


def _group_categories(categories: Sequence[str | None]) -> list[str]:
    """OTHER for all but the most common categories."""
    largest = [name for name, _ in Counter(filter(None, categories)).most_common(len(HUES))]
    return [one if one is not None and one in largest else OTHER for one in categories]


def _label_some(axes: "Axes", points: Float64Array, labels: Sequence[str]) -> None:
    """The first labels that hide no other."""
    to_points = np.array([MAP_WIDTH_IN, MAP_HEIGHT_IN]) * 72 / 2
    taken: dict[str, tuple[float, float, float]] = {}
    for at, label in zip(points, labels, strict=True):
        side = -1 if at[0] > 0 else 1  # towards the middle, where the picture does not end
        width = 6.6 * len(label) + 12
        x, y = at * to_points + (side * width / 2, 0)
        free = all(abs(x - u) > (width + w) / 2 or abs(y - v) > 24 for u, v, w in taken.values())
        if label not in taken and free and len(taken) < LABELLED_PRODUCTS:
            taken[label] = (x, y, width)
            axes.annotate(
                label, (at[0], at[1]), (side * 6, 0), textcoords="offset points", va="center",
                ha="left" if side > 0 else "right", fontsize=11,
                bbox={"facecolor": COLOURS["paper"], "alpha": 0.7, "linewidth": 0, "pad": 1},
            )  # fmt: skip


def shorten(text: str, width: int) -> str:
    """Printable text in one line, cut to that many letters."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def _whole_numbers(axes: "Axes", *names: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for name in names:
        axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axis.set_major_formatter(FuncFormatter(lambda n, _: count(n)))
