"""`fbt export`: writes the recommendations for every product to a file."""

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
    """A local copy of the bundle of a version or alias, for the duration of the block."""
    found = get_version(version).version
    folder = home.root / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    # Below FBT_HOME, which Spark's executors see, too.
    with tempfile.TemporaryDirectory(prefix="export-", dir=folder) as scratch:
        bundle = Path(scratch) / "bundle"
        if not fetch_artifact(found, "bundle", bundle):
            raise RegistryError(f"export: the run of version {found} has lost its bundle")
        yield bundle


def export_bundle(bundle: Path, target: Path, k: int, rules: str | None, spark: bool) -> int:
    """`rules` is the URL of a database, `off`, or None for that of the environment."""
    wanted = prepare_export(bundle.resolve(), k, resolve_database_url(rules))
    return export_with_spark(wanted, target) if spark else export(wanted, target)


def export_with_spark(wanted: Export, target: Path) -> int:
    with spark_session("export") as session:
        return export_in_parallel(spark_mapper(session), wanted, target)


def resolve_database_url(given: str | None) -> str | None:
    url = os.environ.get("FBT_DATABASE_URL", "") if given is None else given
    return url if url not in ("", "off") else None
