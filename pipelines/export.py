"""`fbt export`: the companions of every product, from a bundle or a registered version."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.registry.registry import RegistryError, fetch_artifact, get_version
from components.spark import spark_mapper, spark_session
from pipelines.companions import Export, export, export_in_parallel, prepare_export
from pipelines.home import Home


@contextmanager
def fetch_bundle(home: Home, version: str) -> Iterator[Path]:
    """The bundle of a registered version or alias, here for as long as the block lasts."""
    found = get_version(version).version
    folder = home.root / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    # Below the home: on a cluster the executors see it, too.
    with tempfile.TemporaryDirectory(prefix="export-", dir=folder) as scratch:
        bundle = Path(scratch) / "bundle"
        if not fetch_artifact(found, "bundle", bundle):
            raise RegistryError(f"export: the bundle of version {found} is gone from its run")
        yield bundle


def export_bundle(bundle: Path, target: Path, k: int, rules: str | None, spark: bool) -> int:
    """Write the table; the number of its rows. `rules` is the URL of a database."""
    wanted = prepare_export(bundle.resolve(), k, resolve_database_url(rules))
    return export_with_spark(wanted, target) if spark else export(wanted, target)


def export_with_spark(wanted: Export, target: Path) -> int:
    """As `export`, by Spark's executors."""
    with spark_session("export") as session:
        return export_in_parallel(spark_mapper(session), wanted, target)


def resolve_database_url(given: str | None) -> str | None:
    """The URL given, else that of the environment; None where it says `off`."""
    url = os.environ.get("FBT_DATABASE_URL", "") if given is None else given
    return url if url not in ("", "off") else None
