"""Fetch hadoop-aws and what it needs into a folder, of the Hadoop version that Spark carries."""

import re
import shutil
import sys
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession


def main(target: Path) -> None:
    """Let Spark resolve the coordinates, as it would at run time, and keep the files."""
    ivy = Path("/tmp/ivy")
    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.jars.packages", f"org.apache.hadoop:hadoop-aws:{hadoop_version()}")
        .config("spark.jars.ivy", str(ivy))
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    session.stop()
    target.mkdir(parents=True)
    for jar in (ivy / "jars").glob("*.jar"):
        shutil.copyfile(jar, target / jar.name)


def hadoop_version() -> str:
    """From the name of the jar that comes with Spark."""
    jars = Path(pyspark.__file__).parent / "jars"
    names = [jar.name for jar in jars.glob("hadoop-client-api-*.jar")]
    return re.fullmatch(r"hadoop-client-api-(.+)\.jar", names[0])[1]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
