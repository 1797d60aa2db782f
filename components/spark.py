"""Spark sessions of steps: on the local machine, or on the cluster at FBT_SPARK_MASTER.

On Kubernetes the step's pod is the driver (client mode) and owns its executors. Both must see the
step's files under the same paths.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Mapper = Callable[[Callable[[Any, range], Any], Any, Sequence[range]], Iterable[Any]]
"""Calls `work(shared, part)` for every part; returns the results in that order."""

POSTGRES_JAR = "/usr/share/java/postgresql.jar"
"""Used if present; from Debian's libpostgresql-jdbc-java."""


@contextmanager
def spark_session(name: str) -> "Iterator[SparkSession]":
    """A session that is stopped when the block ends.

    Environment: FBT_SPARK_MASTER (default `local[*]`), FBT_SPARK_MEMORY of the driver (default
    `3g`), FBT_SPARK_JARS (comma-separated), FBT_SPARK_PACKAGES (Maven coordinates).
    """
    from pyspark.sql import SparkSession

    # Else workers run the first `python3` found, which may lack our packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(f"fbt {name}")
    builder = builder.master(os.environ.get("FBT_SPARK_MASTER", "local[*]"))
    with tempfile.TemporaryDirectory(prefix="fbt-spark-") as folder:
        for key, value in _build_settings(Path(folder)).items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        try:
            yield session
        finally:
            session.stop()


def map_in_process(
    work: Callable[[Any, range], Any], shared: Any, parts: Sequence[range]
) -> Iterator[Any]:
    """A lazy Mapper in this process."""
    return (work(shared, part) for part in parts)


def spark_mapper(session: "SparkSession") -> Mapper:
    """The executors must be able to import the module of `work`."""

    def map_on_spark(
        work: Callable[[Any, range], Any], shared: Any, parts: Sequence[range]
    ) -> Iterable[Any]:
        context = session.sparkContext
        sent = context.broadcast(shared)
        tasks = context.parallelize(parts, max(len(parts), 1))
        found: list[Any] = tasks.map(lambda part: work(sent.value, part)).collect()
        sent.destroy()
        return found

    return map_on_spark


@contextmanager
def catalogue_mapper(name: str) -> Iterator[Mapper]:
    """On Spark's executors if FBT_SPARK_MASTER is a cluster, else in this process."""
    if os.environ.get("FBT_SPARK_MASTER", "local").startswith("local"):
        yield map_in_process
    else:
        with spark_session(name) as session:
            yield spark_mapper(session)


def split_into_ranges(n_items: int, size: int) -> list[range]:
    return [range(i, min(i + size, n_items)) for i in range(0, n_items, size)]


def _build_settings(scratch: Path) -> dict[str, str]:
    settings = {
        "spark.driver.memory": os.environ.get("FBT_SPARK_MEMORY", "3g"),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        # Regular expressions in SQL literals are what they are in DuckDB's.
        "spark.sql.parser.escapedStringLiterals": "true",
        "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 1)),
        # Collecting by hash holds millions of baskets as objects at once, by sorting only one.
        "spark.sql.execution.useObjectHashAggregateExec": "false",
        # JDBC drivers read timestamps in Java's time zone, which skips an hour every spring.
        "spark.driver.extraJavaOptions": (
            "-XX:+UseParallelGC -Dlog4j2.level=error -Duser.timezone=UTC"
        ),
    }
    if jars := os.environ.get(
        "FBT_SPARK_JARS", POSTGRES_JAR if Path(POSTGRES_JAR).exists() else ""
    ):
        settings["spark.jars"] = jars
    if packages := os.environ.get("FBT_SPARK_PACKAGES"):
        settings["spark.jars.packages"] = packages
    if os.environ.get("FBT_SPARK_MASTER", "local").startswith("k8s"):
        template = scratch / "executor.json"
        template.write_text(json.dumps(EXECUTOR_POD))
        settings |= kubernetes_settings(os.environ, template)
    if os.environ.get("FBT_SPARK_S3A"):
        settings |= s3a_settings(os.environ)
    return settings


class SparkError(ValueError):
    """The driver's pod lacks variables that its executors need."""


EXECUTOR_ACCOUNT = "fbt-spark-executor"
EXECUTOR_POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"labels": {"app.kubernetes.io/part-of": "fbt"}},
    "spec": {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "executor",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    },
}
"""Template of an executor's pod: the restrictions that Spark has no settings for."""

DRIVER_PORT, BLOCKS_PORT = 7078, 7079
"""Ports of the driver, fixed for the network policy."""


def kubernetes_settings(environment: Mapping[str, str], template: Path) -> dict[str, str]:
    """Settings for executors in pods; `template` is the file of EXECUTOR_POD."""
    required = ("FBT_POD_NAME", "FBT_POD_IP", "FBT_POD_NAMESPACE", "FBT_SPARK_IMAGE")
    if missing := [name for name in required if not environment.get(name)]:
        raise SparkError(
            f"spark: {', '.join(missing)} not set, expected for executors in pods; `fbt compile "
            "--spark-executors N` sets them by the downward API"
        )
    executors = int(environment.get("FBT_SPARK_EXECUTORS", "2"))
    cores = int(environment.get("FBT_SPARK_EXECUTOR_CORES", "2"))
    return {
        "spark.driver.host": environment["FBT_POD_IP"],
        # Executors of Spark 4.3 are told this address, not that of the host.
        "spark.driver.bindAddress": environment["FBT_POD_IP"],
        "spark.driver.port": str(DRIVER_PORT),
        "spark.driver.blockManager.port": str(BLOCKS_PORT),
        # Makes the driver's pod the owner of its executors.
        "spark.kubernetes.driver.pod.name": environment["FBT_POD_NAME"],
        "spark.kubernetes.namespace": environment["FBT_POD_NAMESPACE"],
        "spark.kubernetes.container.image": environment["FBT_SPARK_IMAGE"],
        "spark.kubernetes.authenticate.executor.serviceAccountName": EXECUTOR_ACCOUNT,
        "spark.kubernetes.executor.podTemplateFile": str(template),
        "spark.kubernetes.executor.podTemplateContainerName": "executor",
        "spark.dynamicAllocation.enabled": "false",
        "spark.executor.instances": str(executors),
        "spark.executor.cores": str(cores),
        "spark.executor.memory": environment.get("FBT_SPARK_EXECUTOR_MEMORY", "6g"),
        # Three tasks a core: a slow one does not delay the rest for long.
        "spark.sql.shuffle.partitions": str(3 * executors * cores),
        **_volume_settings(environment),
    }


def _volume_settings(environment: Mapping[str, str]) -> dict[str, str]:
    claim = environment.get("FBT_SPARK_CLAIM")
    if not claim:
        return {}
    volume = "spark.kubernetes.executor.volumes.persistentVolumeClaim.shared"
    return {
        f"{volume}.options.claimName": claim,
        f"{volume}.mount.path": environment["FBT_SPARK_SHARED_PATH"],
        f"{volume}.mount.readOnly": "false",
    }


def s3a_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings from the variables of AWS; needs hadoop-aws."""
    settings = {"spark.hadoop.fs.s3a.path.style.access": "true"}
    given = {
        "endpoint": environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"),
        "endpoint.region": environment.get("AWS_DEFAULT_REGION"),
        "access.key": environment.get("AWS_ACCESS_KEY_ID"),
        "secret.key": environment.get("AWS_SECRET_ACCESS_KEY"),
        "session.token": environment.get("AWS_SESSION_TOKEN"),
    }
    return settings | {f"spark.hadoop.fs.s3a.{k}": value for k, value in given.items() if value}
