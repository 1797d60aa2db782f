"""Spark's executors in pods: what the driver's pod says, and what a bad one is told."""

import json
import re
from pathlib import Path

import pyspark
import pytest

from components.spark import EXECUTOR_POD, SparkError, kubernetes_settings, s3a_settings

IMAGES = Path(__file__).parents[2] / "k8s" / "images"

POD = {
    "FBT_POD_NAME": "build-baskets-1",
    "FBT_POD_IP": "10.0.0.7",
    "FBT_POD_NAMESPACE": "kubeflow",
    "FBT_SPARK_IMAGE": "fbt-steps:0.1.0",
}


def test_the_driver_is_found_by_its_address_and_owns_its_executors(tmp_path):
    settings = kubernetes_settings(POD, tmp_path / "executor.json")
    assert settings["spark.driver.host"] == settings["spark.driver.bindAddress"] == "10.0.0.7"
    assert settings["spark.kubernetes.driver.pod.name"] == "build-baskets-1"
    assert settings["spark.kubernetes.namespace"] == "kubeflow"
    assert settings["spark.kubernetes.container.image"] == "fbt-steps:0.1.0"
    assert settings["spark.dynamicAllocation.enabled"] == "false"


def test_work_is_split_into_three_tasks_a_core(tmp_path):
    asked = {**POD, "FBT_SPARK_EXECUTORS": "4", "FBT_SPARK_EXECUTOR_CORES": "3"}
    settings = kubernetes_settings(asked, tmp_path / "executor.json")
    assert settings["spark.executor.instances"] == "4"
    assert settings["spark.sql.shuffle.partitions"] == "36"


def test_executors_mount_what_the_driver_mounts(tmp_path):
    asked = {**POD, "FBT_SPARK_CLAIM": "shared", "FBT_SPARK_SHARED_PATH": "/minio/mlpipeline"}
    settings = kubernetes_settings(asked, tmp_path / "executor.json")
    volume = "spark.kubernetes.executor.volumes.persistentVolumeClaim.shared"
    assert settings[f"{volume}.options.claimName"] == "shared"
    assert settings[f"{volume}.mount.path"] == "/minio/mlpipeline"


def test_a_pod_that_does_not_know_itself_is_told_what_is_missing(tmp_path):
    with pytest.raises(SparkError, match=r"FBT_POD_NAME, FBT_POD_IP not set.*fbt compile"):
        kubernetes_settings(
            {**POD, "FBT_POD_NAME": "", "FBT_POD_IP": ""}, tmp_path / "executor.json"
        )


def test_executors_are_restricted():
    pod = json.loads(json.dumps(EXECUTOR_POD))["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_store_is_named_by_the_variables_of_aws_and_what_is_not_set_is_left_to_spark():
    settings = s3a_settings({"AWS_ENDPOINT_URL": "http://store:8333", "AWS_ACCESS_KEY_ID": "me"})
    assert settings["spark.hadoop.fs.s3a.endpoint"] == "http://store:8333"
    assert settings["spark.hadoop.fs.s3a.access.key"] == "me"
    assert "spark.hadoop.fs.s3a.secret.key" not in settings


def test_the_image_has_hadoop_aws_where_driver_and_executors_look_for_classes():
    """S3A itself is in no test: hadoop-aws and what it needs are 690 MB."""
    dockerfile = (IMAGES / "Dockerfile").read_text()
    (home,) = re.findall(r"SPARK_HOME=(\S+)", dockerfile)
    # pyspark takes SPARK_HOME/jars for its class path, and is itself what lies there.
    assert home.endswith("site-packages/pyspark")
    steps = dockerfile.split(" AS steps\n")[1].split("\nFROM ")[0]
    assert "COPY --from=spark-jars /opt/jars $SPARK_HOME/jars/" in steps
    assert steps.index("/opt/fbt /opt/fbt") < steps.index("/opt/jars"), "it would be covered"
    assert '-cp "${SPARK_CLASSPATH:+$SPARK_CLASSPATH:}$SPARK_HOME/jars/*"' in (
        (IMAGES / "entrypoint").read_text()
    )


def test_hadoop_aws_is_of_the_very_hadoop_that_spark_carries():
    jars = Path(pyspark.__file__).with_name("jars")
    dockerfile = (IMAGES / "Dockerfile").read_text()
    (pattern,) = re.findall(r"basename /spark/(hadoop-client-api-\*\.jar)", dockerfile)
    assert len(list(jars.glob(pattern))) == 1, "the version is read off the name of one file"
    assert list(jars.glob("ivy-*.jar")), "what downloads it"
