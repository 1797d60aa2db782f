"""Resources, retries, rights and addresses of the pipeline's steps in a cluster."""

import functools
import inspect
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.signing.keys import SIGNING_KEY
from components.step import STEPS_IMAGE

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

NAME = "fbt-training"
USER = 10001
"""See k8s/images/Dockerfile."""

SPARK_STEPS = ("read-orders", "build-baskets", "compact-events")
"""Steps with a Spark session."""

SIGNING_STEPS = ("register", "package")
"""Steps that see the private key."""

ARCHIVE_STEPS = ("compact-events", "measure", "build-examples", "start", "train-ranking")
"""Steps that see the archive of events, the last two for the feedback in it."""
ARCHIVE_PATH = "/var/fbt/online"

NODE_SELECTOR = "node_selector"


class StepResources(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str = "500m"
    """Request; the limit is four times as high."""
    memory: str = "2Gi"
    """Request and limit: a step that needs more is killed, not its neighbours."""
    retries: int = Field(default=2, ge=0)
    """After evictions and network failures; 0 where a failure is a result."""
    timeout_s: int = Field(default=3600, ge=60)


STEP_RESOURCES = {
    "start": StepResources(timeout_s=600),
    # Spark's JVM takes 3 GB; 10 M lines peak at 3.4 GB.
    "read-orders": StepResources(cpu="1", memory="5Gi", timeout_s=4 * 3600),
    "build-baskets": StepResources(cpu="1", memory="5Gi", timeout_s=4 * 3600),
    "check-order-lines": StepResources(cpu="1", memory="4Gi", retries=0),
    "check-baskets": StepResources(cpu="1", memory="4Gi", retries=0),
    "sweep": StepResources(cpu="1", memory="4Gi", timeout_s=6 * 3600),
    "train": StepResources(cpu="1", memory="6Gi", timeout_s=12 * 3600),
    "train-neighbours": StepResources(cpu="1", memory="6Gi", timeout_s=6 * 3600),
    "train-ranking": StepResources(cpu="1", memory="8Gi", timeout_s=12 * 3600),
    "refit": StepResources(cpu="1", memory="8Gi", timeout_s=12 * 3600),
    "build-bundle": StepResources(cpu="1", memory="4Gi"),
    "evaluate": StepResources(cpu="1", memory="4Gi", timeout_s=2 * 3600),
    "judge": StepResources(cpu="1", memory="4Gi"),
    # Spark for a sink of Kafka.
    "compact-events": StepResources(cpu="1", memory="5Gi", timeout_s=4 * 3600),
    "measure": StepResources(cpu="1", memory="4Gi"),
    "build-examples": StepResources(cpu="1", memory="4Gi"),
    "gate": StepResources(retries=0, timeout_s=600),
}


class Placement(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str = Field(
        default=STEPS_IMAGE.partition(":")[0],
        description="Image of all steps; without a tag, the tag of this code is added",
    )
    mlflow_uri: str = Field(
        default="http://mlflow.fbt-platform.svc:5000", min_length=1,
        description="Address of the MLflow server in the cluster",
    )  # fmt: skip
    mlflow_secret: str = Field(
        default="fbt-mlflow-login",
        description="Secret with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, if any",
    )
    orders_secret: str = Field(
        default="fbt-orders-store",
        description="Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL of "
        "the store of s3:// orders, if any",
    )
    signing_secret: str = Field(
        default="fbt-signing-key",
        description="Secret with FBT_SIGNING_KEY, the private key that signs versions, if any",
    )
    spark_executors: int = Field(
        default=0, ge=0, le=1000,
        description="Pods of Spark executors; 0 = Spark runs in the pod of the step",
    )  # fmt: skip
    spark_executor_cores: int = Field(default=2, ge=1, le=64, description="Cores per executor")
    spark_executor_memory: str = Field(
        default="6g",
        pattern=r"^[0-9]+[mg]$",
        description="Memory per executor, in Spark's notation",
    )
    spark_claim: str = Field(
        default="",
        description="PersistentVolumeClaim (ReadWriteMany) for step and executors; required with "
        "executors",
    )
    spark_shared_path: str = Field(
        default="/minio/mlpipeline", pattern="^/",
        description="Mount path of the claim: KFP's folder of artifacts",
    )  # fmt: skip

    events_claim: str = Field(
        default="",
        description=f"PersistentVolumeClaim of the archive of events, mounted at {ARCHIVE_PATH}",
    )
    events_secret: str = Field(
        default="fbt-events", description="Secret with FBT_EVENTS_URL, for the feedback pipeline"
    )

    @model_validator(mode="after")
    def _executors_see_the_data(self) -> "Placement":
        if self.spark_executors and not self.spark_claim:
            raise ValueError("executors need spark_claim to see the files of the step")
        return self


def add_tag(image: str, version: str, code_version: str) -> str:
    """KFP's cache keys contain the image, not the code: the tag changes with the code."""
    name = image.rpartition("/")[2]
    return image if ":" in name or "@" in name else f"{image}:{version}-{code_version}"


def place_pipeline(pipeline: Any, placement: Placement, code_version: str, name: str = NAME) -> Any:
    """With resources for every task, and one more parameter, `node_selector`."""
    from kfp import dsl
    from kfp.dsl.pipeline_context import Pipeline

    drawing = pipeline.pipeline_func

    @functools.wraps(drawing)
    def on_cluster(*given: Any, **named: Any) -> None:
        channels = inspect.signature(on_cluster).bind(*given, **named).arguments
        selector = channels.pop(NODE_SELECTOR)
        drawing(**channels)
        for task in Pipeline.get_default_pipeline().tasks.values():
            _place_task(task, placement, selector, code_version)

    _add_selector(on_cluster, drawing)
    return dsl.pipeline(name=name)(on_cluster)


def _place_task(
    task: "PipelineTask", placement: Placement, selector: Any, code_version: str
) -> None:
    from kfp import kubernetes

    needs = STEP_RESOURCES.get(task.name.rstrip("-0123456789"), StepResources())
    task.set_container_image(placement.image)
    task.set_cpu_request(needs.cpu).set_cpu_limit(_cpu_limit(needs.cpu))
    task.set_memory_request(needs.memory).set_memory_limit(needs.memory)
    if needs.retries:
        task.set_retry(
            needs.retries, backoff_duration="30s", backoff_factor=2, backoff_max_duration="300s"
        )
    kubernetes.set_timeout(task, needs.timeout_s)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.add_node_selector_json(task, selector)
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "fbt")
    task.set_env_variable("MLFLOW_TRACKING_URI", placement.mlflow_uri)
    task.set_env_variable("FBT_CODE_VERSION", code_version)
    for name, keys in _secrets(placement).items():
        kubernetes.use_secret_as_env(task, name, {key: key for key in keys}, optional=True)
    if task.name in SIGNING_STEPS and placement.signing_secret:
        kubernetes.use_secret_as_env(
            task, placement.signing_secret, {SIGNING_KEY: SIGNING_KEY}, optional=True
        )
    if task.name == "compact-events" and placement.events_secret:
        key = "FBT_EVENTS_URL"
        kubernetes.use_secret_as_env(task, placement.events_secret, {key: key}, optional=True)
    if task.name in ARCHIVE_STEPS and placement.events_claim:
        kubernetes.mount_pvc(task, placement.events_claim, ARCHIVE_PATH)
    if task.name == "register":
        label = "metadata.labels['pipeline/runid']"
        kubernetes.use_field_path_as_env(task, "FBT_KFP_RUN", label)
    if task.name in SPARK_STEPS and placement.spark_executors:
        _place_spark(task, placement)
    if task.name == "start" and placement.spark_executors:
        _tell_executors(task, placement)


def _tell_executors(task: "PipelineTask", placement: Placement) -> None:
    """To look for the claim before a step waits for it."""
    from kfp import kubernetes

    kubernetes.use_field_path_as_env(task, "FBT_POD_NAMESPACE", "metadata.namespace")
    task.set_env_variable("FBT_SPARK_EXECUTORS", str(placement.spark_executors))
    task.set_env_variable("FBT_SPARK_CLAIM", placement.spark_claim)


def _place_spark(task: "PipelineTask", placement: Placement) -> None:
    from kfp import kubernetes

    fields = {"NAME": "metadata.name", "NAMESPACE": "metadata.namespace", "IP": "status.podIP"}
    for name, path in fields.items():
        kubernetes.use_field_path_as_env(task, f"FBT_POD_{name}", path)
    variables = {
        "MASTER": "k8s://https://kubernetes.default.svc",
        "IMAGE": placement.image,
        # Executors read Parquet files of s3:// orders directly.
        "S3A": "true",
        "EXECUTORS": str(placement.spark_executors),
        "EXECUTOR_CORES": str(placement.spark_executor_cores),
        "EXECUTOR_MEMORY": placement.spark_executor_memory,
    }
    if placement.spark_claim:
        variables |= {"CLAIM": placement.spark_claim, "SHARED_PATH": placement.spark_shared_path}
        kubernetes.mount_pvc(task, placement.spark_claim, placement.spark_shared_path)
    for name, value in variables.items():
        task.set_env_variable(f"FBT_SPARK_{name}", value)


def _secrets(placement: Placement) -> dict[str, tuple[str, ...]]:
    secrets = {
        placement.mlflow_secret: ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
        placement.orders_secret: (
            "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL",
        ),
    }  # fmt: skip
    return {name: keys for name, keys in secrets.items() if name}


def _add_selector(on_cluster: Any, drawing: Any) -> None:
    extra = inspect.Parameter(
        NODE_SELECTOR, inspect.Parameter.POSITIONAL_OR_KEYWORD, default={}, annotation=dict
    )
    signature = inspect.signature(drawing)
    on_cluster.__signature__ = signature.replace(parameters=[*signature.parameters.values(), extra])
    on_cluster.__annotations__ = {**drawing.__annotations__, NODE_SELECTOR: dict}
    text = "Labels of the nodes for the steps, as JSON; {} = any"
    on_cluster.__doc__ = f"{inspect.getdoc(drawing)}\n    {NODE_SELECTOR}: {text}\n"


def _cpu_limit(cpu: str) -> str:
    return f"{4 * int(cpu[:-1])}m" if cpu.endswith("m") else str(4 * int(cpu))
