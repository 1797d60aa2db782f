"""A query by JDBC, run once by Spark and kept as Parquet: two reads of a changing table differ."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from components.sources.errors import SourceError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SCHEME = "jdbc:"
ROWS_PER_FETCH = 10_000
"""By default, the PostgreSQL driver holds the whole result in memory."""


def run_query(source: str, staging: Path) -> Path:
    """`jdbc:URL|select …` as a folder of Parquet files; raises SourceError."""
    from components.spark import spark_session

    url, bar, query = source.partition("|")
    if not bar or not query.strip():
        raise SourceError(
            f"{hide_credentials(url)}: a jdbc source needs its query, as jdbc:…|select …"
        )
    with spark_session("query") as spark:
        _save_answer(spark, url, query.strip().rstrip(";"), staging)
    return staging


def hide_credentials(source: str) -> str:
    """For messages: of a query, the address without login."""
    if not source.startswith(SCHEME):
        return source
    address = re.split(r"[?;|]", source, maxsplit=1)[0]
    return re.sub(r"^((?:\w+:)+(?://)?).*@", r"\1", address)


def _save_answer(spark: "SparkSession", url: str, query: str, target: Path) -> None:
    options: dict[str, str | int | bool] = {
        "url": url, "query": query, "driver": _find_jdbc_driver(spark, url),
        "fetchsize": ROWS_PER_FETCH,
        "preferTimestampNTZ": True,  # else shifted by the time zone of this machine
    }  # fmt: skip
    try:
        answer = spark.read.format("jdbc").options(**options).load()
        answer.write.mode("overwrite").parquet(str(target))
    except Exception as error:
        reason = _format_jdbc_error(error, url)
        raise SourceError(
            f"{hide_credentials(url)}: query failed ({reason}); check address, login and query"
        ) from None


def _find_jdbc_driver(spark: "SparkSession", url: str) -> str:
    """Java's DriverManager does not search the jars of a session."""
    java = spark.sparkContext._jvm.java  # type: ignore[union-attr]
    service = java.lang.Class.forName("java.sql.Driver")
    loader = java.lang.Thread.currentThread().getContextClassLoader()
    drivers = java.util.ServiceLoader.load(service, loader).iterator()
    while drivers.hasNext():
        driver = drivers.next()
        if driver.acceptsURL(url):
            return str(driver.getClass().getName())
    raise SourceError(
        f"{hide_credentials(url)}: no driver for this address; name its jar in FBT_SPARK_JARS or "
        "its Maven coordinates in FBT_SPARK_PACKAGES"
    )


def _format_jdbc_error(error: Exception, url: str) -> str:
    """First line of the database's message, without the password in `url`."""
    cause = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    while cause and cause.getCause() and cause.getClass().getName().startswith("org.apache.spark"):
        cause = cause.getCause()
    reason = str(cause.getMessage() if cause else error).partition("\n")[0]
    reason = reason.replace(url, hide_credentials(url))
    for secrets in re.findall(r"(?i)(?:password|pwd)=([^&;]+)|[:/]([^:/@]+)@", url):
        reason = reason.replace("".join(secrets), "***")
    return reason
