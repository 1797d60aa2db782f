"""`fbt report online`: what shoppers did with recommendations, as a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.contracts import (
    EVENTS,
    PRODUCTS,
    RECOMMENDATIONS,
    ContractError,
    open_table,
    table_name,
)
from components.experiments.experiment import read_experiment
from components.online.settings import OnlineSettings
from components.progress import log_progress
from components.registry.online import (
    VersionMeasures,
    read_version_measures,
    record_online_metrics,
)
from components.registry.registry import RegistryError
from pipelines.home import Home

if TYPE_CHECKING:
    from components.online.events import OnlineEvents

PRODUCT_TABLE = "runs/RUN/read-orders/product_table"


@dataclass(frozen=True)
class OnlineReport:
    root: Path
    """Folder of compacted events."""
    page: Path
    settings: OnlineSettings = field(default_factory=OnlineSettings)
    products: Path | None = None
    order_lines: Path | None = None
    experiments: Sequence[Path] = ()
    """JSON files."""
    record: bool = False
    """Whether the registry's versions keep the measures."""
    now: datetime | None = None


def report_online(wanted: OnlineReport, show: Callable[[str], None] = print) -> list[str]:
    """Write the page; the versions whose measures were recorded.

    Raises ContractError, ValueError for an experiment's file, and with `record` RegistryError.
    """
    from components.online.events import Sources, open_events
    from components.report.online import write_online_report
    from components.report.online_chapters import collect_page, make_empty_page

    experiments = [read_experiment(path) for path in wanted.experiments]
    versions = _read_versions(wanted.record, show)
    if not has_events(wanted.root):
        write_online_report(make_empty_page(wanted.now), wanted.page)
        return []
    if wanted.products:
        check_products(wanted.products)
    show("reading events")
    sources = Sources(wanted.products, wanted.order_lines)
    with open_events(wanted.root, wanted.settings, sources) as online:
        recorded = record_versions(online, versions) if wanted.record else []
        page = collect_page(online, experiments, versions, wanted.now)
    write_online_report(page, wanted.page)
    if page.open_words:
        again = " Record them again then." if recorded else ""
        show(f"warning: {page.open_words}{again}")
    return recorded


def check_products(path: Path) -> None:
    """Raises ContractError that says where a product table is."""
    try:
        open_table(path, PRODUCTS)
    except ContractError as error:
        raise ContractError(
            f"--products: expected the product table of a run, {PRODUCT_TABLE} in FBT_HOME; {error}"
        ) from None


def find_products(home: Home) -> Path | None:
    """The product table of the newest run."""
    found = home.root.glob(PRODUCT_TABLE.replace("RUN", "*"))
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def has_events(root: Path) -> bool:
    """Whether both tables have a file."""
    folders = (root / table_name(schema) for schema in (EVENTS, RECOMMENDATIONS))
    return all(next(folder.glob("**/*.parquet"), None) for folder in folders)


def _read_versions(must_answer: bool, show: Callable[[str], None]) -> list[VersionMeasures]:
    """Without a registry the report does without its chapter on offline measures."""
    try:
        return read_version_measures()
    except RegistryError as error:
        if must_answer:
            raise
        show(f"offline measures are left out: {error}")
        return []


def record_versions(online: "OnlineEvents", versions: Sequence[VersionMeasures]) -> list[str]:
    """The versions of the registry that have online measures; others are left out."""
    from components.report.online_chapters import find_window, measure_versions

    first, last = find_window(online)
    window = f"{first:%Y-%m-%d} to {last:%Y-%m-%d}" if first and last else ""
    measured, known = measure_versions(online), {one.version for one in versions}
    recorded = sorted(known & set(measured))
    for version in recorded:
        found, n_sessions = measured[version]
        record_online_metrics(version, found, n_sessions, window)
    return recorded


def measure_archive(
    archive: str, products: str, order_lines: str, experiments: str, days: float, window_h: float,
    page: str,
) -> list[str]:  # fmt: skip
    """`report_online` with `record`, of the newest `days`; empty texts are files that are not
    given, `experiments` are separated by commas."""
    from components.feedback.examples import find_since

    settings = OnlineSettings(since=find_since(archive, days), window_h=window_h)
    files = [Path(one.strip()) for one in experiments.split(",") if one.strip()]
    wanted = OnlineReport(
        Path(archive), Path(page), settings, Path(products) if products else None,
        Path(order_lines) if order_lines else None, files, record=True,
    )  # fmt: skip
    return report_online(wanted, log_progress)
