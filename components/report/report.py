"""The HTML report of a training run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.model.atomic import atomic_write
from components.model.bundle import Bundle, read_bundle
from components.model.manifest import Manifest
from components.report import awkward, formats, formatting, ranking, reading, tables
from components.report.formatting import TASKS
from components.results import read_json
from components.sources.reading import Reading

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
PNG_PLOTS = (
    *("basket_sizes", "popularity", "comparison", "sweep", "embedding"),
    *("tricks", "mix", "cold"),
)
"""Plots that are also kept as PNG."""
ALT = {
    "basket": "Bars: baskets by their number of products",
    "popularity": "Line: baskets of each product by its rank",
    "comparison": "Dots with intervals: ranking quality of this model and of the others",
    "sweep": "Dots: quality of each trial on validation baskets",
    "embedding": "Map of the most bought products",
    "tricks": "Dots with intervals: change by each basket weighting",
    "mix": "Bars: ranking quality of the blend and of each of its parts alone",
    "features": "Bars: the most important features of the re-ranker",
    "discounts": "Lines: NDCG and excess NDCG over the popularity discount",
    "cold": "Dots with intervals: quality of answers for products that the model does not know",
}
"""Alternative texts, by the first word of the plot's name."""

Plotters = dict[str, Callable[[], "Figure"]]


@dataclass(frozen=True)
class RunFiles:
    bundle: Path
    baskets: Path
    reading: Path
    order_counts: Path
    basket_counts: Path
    line_checks: Path
    basket_checks: Path
    evaluation: Path
    verdict: Path
    tricks: Path
    """Measurements of the basket weightings."""
    best: dict[str, Any]
    """The picked settings, and all trials."""
    parameters: dict[str, Any]


def write_report(files: RunFiles, page: Path, plots: Path) -> None:
    """Write the self-contained HTML file `page`, and PNG files into the folder `plots`.

    Raises BundleError or ContractError when the bundle or the baskets cannot be read. Other parts
    may be missing and are then shown as missing.
    """
    bundle = read_bundle(files.bundle)
    names = ("order_counts", "basket_counts", "line_checks", "basket_checks", "tricks")
    run = {name: read_json(getattr(files, name)) for name in (*names, "evaluation", "verdict")}
    stats = tables.compute_basket_stats(files.baskets)
    trials = tables.list_trials(files.best)
    plotters = _plan_run_plots(bundle, run["evaluation"], stats, trials)
    plotters |= _plan_ranking_plots(
        bundle.manifest, run["evaluation"], run["tricks"], run["basket_counts"]
    )
    with atomic_write(plots) as folder:
        folder.mkdir()
        pictures = {name: _draw(name, plotter, folder) for name, plotter in plotters.items()}
    day = awkward.read_day(
        files.parameters.get("as_of") or "", run["basket_counts"].get("last_order") or ""
    )
    render(
        "page.html", page, **run, manifest=bundle.manifest, stats=stats, trials=trials,
        parameters=files.parameters, pictures=pictures, readings=_read_readings(files.reading),
        awkward=awkward.list_awkward_pairs(bundle, day), day=day,
        seasons_known=bundle.seasons is not None,
    )  # fmt: skip


def _read_readings(path: Path) -> dict[str, Reading]:
    return reading.parse_readings(read_json(path)) if path.is_file() else {}


def write_checks_page(checks: Mapping[str, Any], page: str | Path) -> None:
    """Write the report's chapter on one table, `CheckReport.to_json()`, as a page of its own.

    It is the only report of a run that a failed check ends.
    """
    render("checks_page.html", page, found=checks)


def render(template: str, page: str | Path, /, **values: Any) -> None:
    html = _environment().get_template(template).render(**values)
    with atomic_write(page) as aside:
        # A lone surrogate, which JSON may hold, is no UTF-8.
        aside.write_text(html, encoding="utf-8", errors="replace")


def _plan_run_plots(
    bundle: Bundle, evaluation: dict[str, Any], stats: tables.BasketStats,
    trials: list[tables.Trial],
) -> Plotters:  # fmt: skip
    from components.report import plots

    tasks = list(TASKS)
    plotters: Plotters = {
        "basket_sizes": partial(plots.draw_basket_sizes, stats),
        "popularity": partial(plots.draw_popularity, stats),
        "comparison": partial(plots.draw_comparison, evaluation, tasks),
        "sweep": partial(plots.draw_sweep, trials, tasks),
        "embedding": partial(plots.draw_product_map, bundle),
    }
    for task in tasks:  # side by side in the page or, on a phone, one below another
        plotters[f"comparison_{task}"] = partial(plots.draw_comparison, evaluation, [task])
        plotters[f"sweep_{task}"] = partial(plots.draw_sweep, trials, [task], legend=False)
    return plotters


def _plan_ranking_plots(
    manifest: Manifest, evaluation: dict[str, Any], tricks: list[dict[str, Any]],
    basket_counts: dict[str, Any],
) -> Plotters:  # fmt: skip
    from components.report import plots

    by_task = {task: ranking.task_measurements(manifest.ranking, task) for task in TASKS}
    parts = {task: ranking.list_parts(found) for task, found in by_task.items()}
    changes = {
        title: ranking.weighting_changes(tricks, task, basket_counts)
        for task, title in TASKS.items()
    }
    plotters: Plotters = {}
    if any(changes.values()):
        plotters["tricks"] = partial(plots.draw_changes, changes)
    if any(parts.values()):
        plotters["mix"] = partial(plots.draw_blend, parts)
    for task, title in TASKS.items():
        if changes[title]:
            plotters[f"tricks_{task}"] = partial(plots.draw_changes, {title: changes[title]})
        if parts[task]:
            plotters[f"mix_{task}"] = partial(plots.draw_blend, {task: parts[task]})
        if shares := ranking.top_features(by_task[task]):
            used = bool(by_task[task]["forest"].get("pays"))
            plotters[f"features_{task}"] = partial(plots.draw_features, shares, title, used)
        if curve := by_task[task].get("forest", {}).get("curve"):
            plotters[f"discounts_{task}"] = partial(
                plots.draw_discounts, curve, manifest.popularity_discount, title
            )
    if cold := evaluation.get("cold"):
        plotters["cold"] = partial(plots.draw_cold_start, cold)
    return plotters


def _draw(name: str, plotter: "Callable[[], Figure]", folder: Path) -> "Markup":
    from markupsafe import Markup

    from components.report import plots

    with plots.style(name):
        figure = plotter()
        if name in PNG_PLOTS:
            plots.save_png(figure, folder / f"{name}.png")
        return Markup(plots.to_svg(figure, ALT[name.split("_")[0]]))


def _environment() -> "Environment":
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    from components.embeddings.sweep import MIN_SHARE_OF_BEST
    from components.evaluation.variants import MAX_NDCG_LOSS
    from components.model.cart_ranking import N_CANDIDATES

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=ChainableUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    for module in (formats, formatting, tables, ranking, reading):
        public = {name: one for name, one in vars(module).items() if not name.startswith("_")}
        environment.globals.update(public)
    environment.globals.update(
        min_share_of_best=MIN_SHARE_OF_BEST,
        max_loss=MAX_NDCG_LOSS,
        n_candidates=N_CANDIDATES,
        awkward_titles=awkward.TITLES,
        awkward_meanings=awkward.MEANINGS,
    )
    return environment
