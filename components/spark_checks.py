"""Looks for what Spark's executors need. Without it, steps wait for hours and show no error: a pod
whose claim is missing never starts, and Spark asks again for executors that Kubernetes refuses.
"""

from collections.abc import Mapping

from components.promoter.cluster import Cluster, ClusterError, Object, connect
from components.spark import EXECUTOR_ACCOUNT, SparkError

SHARED_MODE = "ReadWriteMany"
RIGHTS = "kubectl apply -k k8s/platform/spark"


def check_executors(environment: Mapping[str, str]) -> None:
    """Raises SparkError naming claim or account. Does nothing where no executors are asked for."""
    if not environment.get("FBT_SPARK_EXECUTORS"):
        return
    cluster = connect(environment["FBT_POD_NAMESPACE"])
    if claim := environment.get("FBT_SPARK_CLAIM"):
        _check_claim(cluster, claim)
    _find(cluster, "ServiceAccount", EXECUTOR_ACCOUNT, f"`{RIGHTS}` makes it")


def _check_claim(cluster: Cluster, claim: str) -> None:
    remedy = "create one for driver and executors, and name it by --spark-claim"
    found = _find(cluster, "PersistentVolumeClaim", claim, remedy)
    if SHARED_MODE not in (modes := found["spec"]["accessModes"]):
        raise SparkError(
            f"spark: PersistentVolumeClaim {claim} is {', '.join(modes)}, expected {SHARED_MODE}; "
            f"{remedy}"
        )


def _find(cluster: Cluster, kind: str, name: str, remedy: str) -> Object:
    try:
        found = cluster.get(kind, name)
    except ClusterError as error:
        raise SparkError(f"spark: {error}; `{RIGHTS}` gives the rights of a driver") from None
    if found is None:
        raise SparkError(
            f"spark: no {kind} {name} found in namespace {cluster.namespace}, where the run's pods "
            f"are; {remedy}"
        )
    return found
