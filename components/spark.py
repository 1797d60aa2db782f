"""The Spark session of a step: the whole local machine, or a cluster named by FBT_SPARK_MASTER.

Work that is the same for every part of the catalogue is handed to a Mapper, which runs it here, one
part after another, or on Spark's executors.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Mapper = Callable[[Callable[[Any, range], Any], Any, Sequence[range]], Iterable[Any]]
"""Calls `work(shared, part)` for every part; the results come in the order of the parts."""

POSTGRES_JAR = "/usr/share/java/postgresql.jar"
"""Where Debian's libpostgresql-jdbc-java puts the driver; used when it is there."""


@contextmanager
def spark_session(name: str) -> "Iterator[SparkSession]":
    """A session that is stopped, its JVM included, when the block ends.

    Environment: FBT_SPARK_MASTER (default `local[*]`), FBT_SPARK_MEMORY of the driver (default
    `3g`), FBT_SPARK_JARS (comma-separated, e.g. a JDBC driver), FBT_SPARK_PACKAGES (Maven
    coordinates). Driver memory only counts before the JVM starts, so a step opens one session.
    """
    from pyspark.sql import SparkSession

    # Else workers run whatever `python3` is found first, which has none of our packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(f"fbt {name}")
    builder = builder.master(os.environ.get("FBT_SPARK_MASTER", "local[*]"))
    for key, value in _settings().items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    try:
        yield session
    finally:
        session.stop()


def in_process(
    work: Callable[[Any, range], Any], shared: Any, parts: Sequence[range]
) -> Iterator[Any]:
    """The Mapper of one process: a result at a time."""
    return (work(shared, part) for part in parts)


def on_spark(session: "SparkSession") -> Mapper:
    """The Mapper of Spark's executors: `shared` is broadcast, every part is a task.

    The executors must be able to import fbt; `work` is a function of a module.
    """

    def mapped(
        work: Callable[[Any, range], Any], shared: Any, parts: Sequence[range]
    ) -> Iterable[Any]:
        context = session.sparkContext
        sent = context.broadcast(shared)
        tasks = context.parallelize(parts, max(len(parts), 1))
        found: list[Any] = tasks.map(lambda part: work(sent.value, part)).collect()
        sent.destroy()
        return found

    return mapped


@contextmanager
def catalogue_mapper(name: str) -> Iterator[Mapper]:
    """Spark's executors where FBT_SPARK_MASTER names a cluster, else this process alone."""
    if os.environ.get("FBT_SPARK_MASTER", "local").startswith("local"):
        yield in_process
    else:
        with spark_session(name) as session:
            yield on_spark(session)


def parts_of(n_items: int, size: int) -> list[range]:
    """The catalogue in parts of `size` products."""
    return [range(i, min(i + size, n_items)) for i in range(0, n_items, size)]


def _settings() -> dict[str, str]:
    settings = {
        "spark.driver.memory": os.environ.get("FBT_SPARK_MEMORY", "3g"),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 1)),
        # Collecting baskets by hash holds millions of them as objects at once; sorted, one.
        "spark.sql.execution.useObjectHashAggregateExec": "false",
        # JDBC drivers read times by the zone of Java, which skips an hour of them every spring.
        "spark.driver.extraJavaOptions": (
            "-XX:+UseParallelGC -Dlog4j2.level=error -Duser.timezone=UTC"
        ),
    }
    jars = os.environ.get("FBT_SPARK_JARS", POSTGRES_JAR if os.path.exists(POSTGRES_JAR) else "")  # noqa: PTH110
    if jars:
        settings["spark.jars"] = jars
    if packages := os.environ.get("FBT_SPARK_PACKAGES"):
        settings["spark.jars.packages"] = packages
    if os.environ.get("FBT_SPARK_MASTER", "local").startswith("k8s"):
        del settings["spark.driver.bindAddress"], settings["spark.driver.host"]
    return settings
