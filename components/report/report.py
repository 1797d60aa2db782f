"""The files of a training run in; one page for people, and its pictures, out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.bundle.bundle import Bundle, read_bundle
from components.contracts import written_aside
from components.report import content, words
from components.results import read_json

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
KEPT = ("basket_sizes", "popularity", "comparison", "sweep", "embedding")
"""Pictures that are also kept as PNG."""
ALT = {
    "basket": "Bars: baskets by their number of products",
    "popularity": "Line: baskets of each product by its rank",
    "comparison": "Dots with intervals: ranking quality of this model and of the others",
    "sweep": "Dots: quality of each trial on validation baskets",
    "embedding": "Map of the most bought products",
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
    """What each trick of time and position did; see `choose_tricks`."""
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
    facts = content.basket_facts(files.baskets)
    trials = content.trials_of(files.best)
    with written_aside(plots) as folder:
        folder.mkdir()
        pictures = draw(bundle, evaluation, facts, trials, folder)
    html = (
        environment()
        .get_template("page.html")
        .render(
            **run, bundle=bundle, manifest=bundle.manifest, evaluation=evaluation, verdict=verdict,
            facts=facts, trials=trials, best=files.best, parameters=files.parameters,
            pictures=pictures,
        )
    )  # fmt: skip
    with written_aside(page) as aside:
        # A lone surrogate, which JSON may hold, is no UTF-8.
        aside.write_text(html, encoding="utf-8", errors="replace")


def draw(
    bundle: Bundle, evaluation: dict[str, Any], facts: content.BasketFacts,
    trials: list[content.Trial], folder: Path,
) -> "dict[str, Markup]":  # fmt: skip
    """The pictures as inline SVG, by name; those KEPT go to `folder` as PNG."""
    from components.report import plots

    tasks = list(words.TASKS)
    makers: dict[str, Callable[[], Any]] = {
        "basket_sizes": lambda: plots.basket_sizes(facts),
        "popularity": lambda: plots.popularity(facts),
        "comparison": lambda: plots.comparison(evaluation, tasks),
        "sweep": lambda: plots.sweep(trials, tasks),
        "embedding": lambda: plots.embedding(bundle),
    }
    for task in tasks:  # side by side in the page or, on a phone, one below another
        makers[f"comparison_{task}"] = partial(plots.comparison, evaluation, [task])
        makers[f"sweep_{task}"] = partial(plots.sweep, trials, [task], legend=False)
    return {name: _drawn(name, maker, folder) for name, maker in makers.items()}


def _drawn(name: str, maker: "Callable[[], Figure]", folder: Path) -> "Markup":
    from markupsafe import Markup

    from components.report import plots

    with plots.style(name):
        figure = maker()
        if name in KEPT:
            plots.save_png(figure, folder / f"{name}.png")
        return Markup(plots.as_svg(figure, ALT[name.split("_")[0]]))


def environment() -> "Environment":
    """Jinja with everything that page.html speaks of; all text is escaped."""
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    from components.embeddings.sweep import NEARLY
    from components.report.plots import mark_of

    made = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=ChainableUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    for module in (words, content):
        made.globals.update({k: v for k, v in vars(module).items() if not k.startswith("_")})
    made.globals |= {"mark_of": mark_of, "nearly": NEARLY}
    return made
