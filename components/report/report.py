"""The files of a training run in; one page for people, and its pictures, out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.model.atomic import atomic_write
from components.model.bundle import Bundle, read_bundle
from components.report import formatting as words
from components.report import ranking
from components.report import tables as content
from components.results import read_json

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
PNG_PLOTS = (
    *("basket_sizes", "popularity", "comparison", "sweep", "embedding"),
    *("tricks", "mix", "cold", "storage"),
)
"""Pictures that are also kept as PNG, where there is something to draw."""
ALT = {
    "basket": "Bars: baskets by their number of products",
    "popularity": "Line: baskets of each product by its rank",
    "comparison": "Dots with intervals: ranking quality of this model and of the others",
    "sweep": "Dots: quality of each trial on validation baskets",
    "embedding": "Map of the most bought products",
    "tricks": "Dots with intervals: what each trick of time and size changes",
    "mix": "Bars: ranking quality of the blend and of each of its parts alone",
    "features": "Bars: what the re-ranker looks at most",
    "cold": "Dots with intervals: quality of answers for products that the model does not know",
    "storage": "Dots with intervals: what smaller vectors change",
}
"""What a picture shows, for those who cannot see it, by the first word of its name."""


@dataclass(frozen=True)
class RunFiles:
    """What a training run left: the paths of its files, and what the sweep and the caller said."""

    bundle: Path
    baskets: Path
    """The BASKETS table."""
    order_counts: Path
    basket_counts: Path
    line_checks: Path
    basket_checks: Path
    evaluation: Path
    verdict: Path
    tricks: Path
    """What each trick of time and position did; see `choose_weighting`."""
    best: dict[str, Any]
    """What was picked, and all trials."""
    parameters: dict[str, Any]


def write_report(files: RunFiles, page: Path, plots: Path) -> None:
    """Write the self-contained HTML file `page`, and its pictures as PNG into the folder `plots`.

    Raises BundleError or ContractError when the bundle or the baskets cannot be read; everything
    else may be missing in part and is then shown as missing.
    """
    bundle = read_bundle(files.bundle)
    run = {
        name: read_json(getattr(files, name))
        for name in ("order_counts", "basket_counts", "line_checks", "basket_checks", "tricks")
    }
    evaluation, verdict = read_json(files.evaluation), read_json(files.verdict)
    facts = content.compute_basket_stats(files.baskets)
    trials = content.list_trials(files.best)
    with atomic_write(plots) as folder:
        folder.mkdir()
        plotters = plan_run_plots(bundle, evaluation, facts, trials)
        plotters |= plan_ranking_plots(bundle, evaluation, run["tricks"], run["basket_counts"])
        pictures = {name: _draw(name, plotter, folder) for name, plotter in plotters.items()}
    html = (
        environment()
        .get_template("page.html")
        .render(
            **run, bundle=bundle, manifest=bundle.manifest, evaluation=evaluation, verdict=verdict,
            facts=facts, trials=trials, best=files.best, parameters=files.parameters,
            pictures=pictures,
        )
    )  # fmt: skip
    with atomic_write(page) as aside:
        # A lone surrogate, which JSON may hold, is no UTF-8.
        aside.write_text(html, encoding="utf-8", errors="replace")


Plotters = dict[str, Callable[[], "Figure"]]
"""How each picture is drawn, by its name."""


def plan_run_plots(
    bundle: Bundle, evaluation: dict[str, Any], facts: content.BasketStats,
    trials: list[content.Trial],
) -> Plotters:  # fmt: skip
    """Pictures of the data, the sweep and what came of it."""
    from components.report import plots

    tasks = list(words.TASKS)
    plotters: Plotters = {
        "basket_sizes": lambda: plots.basket_sizes(facts),
        "popularity": lambda: plots.popularity(facts),
        "comparison": lambda: plots.comparison(evaluation, tasks),
        "sweep": lambda: plots.sweep(trials, tasks),
        "embedding": lambda: plots.embedding(bundle),
    }
    for task in tasks:  # side by side in the page or, on a phone, one below another
        plotters[f"comparison_{task}"] = partial(plots.comparison, evaluation, [task])
        plotters[f"sweep_{task}"] = partial(plots.sweep, trials, [task], legend=False)
    return plotters


def plan_ranking_plots(
    bundle: Bundle, evaluation: dict[str, Any], tricks: list[dict[str, Any]],
    basket_counts: dict[str, Any],
) -> Plotters:  # fmt: skip
    """Pictures of what ranking measured; none of what it did not."""
    from components.report import plots

    measured = bundle.manifest.ranking
    changes = {
        title: ranking.weighting_changes(tricks, task, basket_counts)
        for task, title in words.TASKS.items()
    }
    parts = {
        task: ranking.list_parts(ranking.task_measurements(measured, task)) for task in words.TASKS
    }
    plotters: Plotters = {}
    if any(changes.values()):
        plotters["tricks"] = partial(plots.changes, changes)
    if any(parts.values()):
        plotters["mix"] = partial(plots.mix, parts)
    for task, title in words.TASKS.items():
        if changes[title]:
            plotters[f"tricks_{task}"] = partial(plots.changes, {title: changes[title]})
        if parts[task]:
            plotters[f"mix_{task}"] = partial(plots.mix, {task: parts[task]})
        found = ranking.task_measurements(measured, task)
        if shares := ranking.top_features(found):
            used = bool(found["forest"].get("pays"))
            plotters[f"features_{task}"] = partial(plots.features, shares, title, used)
    if judged := evaluation.get("cold"):
        plotters["cold"] = partial(plots.cold, judged)
    if stored := ranking.storage_changes(measured.get("storage") or []):
        plotters["storage"] = partial(plots.changes, {"Product page, vectors alone": stored})
    return plotters


def _draw(name: str, plotter: "Callable[[], Figure]", folder: Path) -> "Markup":
    from markupsafe import Markup

    from components.report import plots

    with plots.style(name):
        figure = plotter()
        if name in PNG_PLOTS:
            plots.save_png(figure, folder / f"{name}.png")
        return Markup(plots.as_svg(figure, ALT[name.split("_")[0]]))


def environment() -> "Environment":
    """Jinja with everything that page.html speaks of; all text is escaped."""
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    from components.embeddings.sweep import MIN_SHARE_OF_BEST
    from components.evaluation.variants import MAX_NDCG_LOSS
    from components.model.recommender import N_CANDIDATES
    from components.report.plots import trial_outcome

    made = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=ChainableUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    for module in (words, content, ranking):
        made.globals.update({k: v for k, v in vars(module).items() if not k.startswith("_")})
    made.globals |= {
        "mark_of": trial_outcome, "nearly": MIN_SHARE_OF_BEST, "tolerated": MAX_NDCG_LOSS, "depth": N_CANDIDATES,
    }  # fmt: skip
    return made
