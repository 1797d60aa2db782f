"""A cluster and a registry for the promoter, with the parts that a test plays itself.

The cluster is a fake or a real API server; what is played is the same on both: Argo Rollouts, whose
decisions are the test's, and the kubelet, because the pods are never scheduled.
"""

import json
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import urllib3

from components.promoter.api_server import ApiServer
from components.promoter.cluster import KINDS, Cluster, ClusterError, Conflict
from components.promoter.controller import Loop
from components.promoter.decide import EmitEvent
from components.promoter.lease import Leadership, LeadershipLost
from components.promoter.metrics import Metrics
from components.promoter.reconcile import Promoter
from components.promoter.settings import Settings
from components.promoter.workload import (
    POD_HASH_LABEL,
    REVISION_ANNOTATION,
    VERSION_LABEL,
    read_pinned_version,
)
from components.registry.registry import RegistryError
from tests.fakes import FakeKubernetes, FakeMlflow, hash_of

PASSING = (ClusterError, RegistryError, LeadershipLost)
"""What a look at a world full of faults may end with."""

INSTANCE = {"argo-rollouts.argoproj.io/controller-instance-id": "played-by-a-test"}
"""A real Argo Rollouts leaves Rollouts with this label alone."""

POD = {
    "schedulerName": "nobody",
    "automountServiceAccountToken": False,
    "terminationGracePeriodSeconds": 0,
    "initContainers": [{"name": "fetch", "image": "fbt-serve:0.1.0", "command": ["fetch"]}],
    "containers": [{"name": "fbt", "image": "fbt-serve:0.1.0"}],
}


def deployment(replicas, deadline_s=600):
    return {
        "metadata": {"name": "fbt"},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": deadline_s,
            "selector": {"matchLabels": {"app": "fbt"}},
            "template": {"metadata": {"labels": {"app": "fbt"}}, "spec": POD},
        },
    }


def rollout(steps=({"setWeight": 5},)):
    return {
        "metadata": {"name": "fbt", "labels": INSTANCE},
        "spec": {
            "replicas": 1,
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fbt"},
            "strategy": {"canary": {"steps": list(steps)}},
        },
    }


def connected(url):
    """The connection to a fake."""
    return ApiServer(url, urllib3.PoolManager(), str)


class Direct(Cluster):
    """A fake without its HTTP, for what the test itself does: a third of the CPU."""

    def _request(self, method, kind, name="", body=None, *, content_type="", query=(), **_):
        path, plural = KINDS[kind]
        url = f"/{path}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")
        given = json.dumps(body) if body is not None else b""
        status, answer = self.api.answer(None, method, url, dict(query or ()), given, content_type)
        if status >= 400:
            raise (Conflict if status == 409 else ClusterError)(answer["message"], status)
        return answer


class Argo:
    """Argo Rollouts, as far as the promoter sees it; what becomes of a canary is the test's."""

    def __init__(self, cluster):
        self.cluster = cluster

    def observe(self):
        """Take notice of the Deployment's template, as the controller does at every change."""
        workload, own = self.cluster.get("Deployment", "fbt"), self.cluster.get("Rollout", "fbt")
        if workload is None or own is None:
            return
        current, status = self._replica_set(workload), dict(own.get("status") or {})
        stable = status.get("stableRS", "")
        if current != status.get("currentPodHash"):
            # A first revision is stable at once, even one whose pods never get ready.
            status = {"stableRS": stable or current, "currentPodHash": current, "abort": False}
            status |= {"phase": "Healthy" if stable == current else "Progressing"}
            self._count_revision(own)
        if status.get("promoteFull") and read_pinned_version(workload):
            status |= {"stableRS": current, "phase": "Healthy", "promoteFull": None}
        status["observedGeneration"] = str(own["metadata"]["generation"])
        status["workloadObservedGeneration"] = str(workload["metadata"]["generation"])
        if current == status["stableRS"]:
            status["abort"] = False
        self._write(status)
        if status["abort"] and status["phase"] != "Degraded":
            self.abort(message="")

    def abort(self, message='Metric "success-rate" assessed Failed'):
        status = self._status()
        if status.get("currentPodHash") == status.get("stableRS"):
            # Nothing judges a first revision, but its pods may never get ready.
            if status.get("phase") == "Progressing":
                self.time_out()
            return
        text = "Rollout aborted update to revision 2" + (f": {message}" if message else "")
        aborted = {"type": "Progressing", "reason": "RolloutAborted", "message": text}
        aborted = {"conditions": [aborted], "message": f"RolloutAborted: {text}"}
        self._write({**status, **aborted, "abort": True, "phase": "Degraded"})

    def abort_by_hand(self):
        """What `kubectl argo rollouts abort` writes."""
        if self.cluster.get("Rollout", "fbt"):
            self.cluster.patch("Rollout", "fbt/status", {"status": {"abort": True}})

    def time_out(self):
        late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
        late["message"] = "ReplicaSet has timed out progressing."
        self._write({**self._status(), "phase": "Degraded", "conditions": [late]})

    def pause(self, reason="InconclusiveAnalysisRun"):
        status = self._status()
        if status.get("currentPodHash") != status.get("stableRS") and not status.get("abort"):
            paused = [{"reason": reason, "startTime": "2024-01-01T00:00:00Z"}]
            self._write({**status, "phase": "Paused", "pauseConditions": paused})

    def finish(self):
        """All traffic to the canary: it is the stable version from now on."""
        status = self._status()
        workload = self.cluster.get("Deployment", "fbt")
        has_version = workload and read_pinned_version(workload)  # without one no pod gets ready
        if has_version and status.get("currentPodHash") and not status.get("abort"):
            stable = {"stableRS": status["currentPodHash"], "phase": "Healthy"}
            self._write({**status, **stable, "pauseConditions": None, "message": None})

    def _status(self):
        return dict((self.cluster.get("Rollout", "fbt") or {}).get("status") or {})

    def _write(self, status):
        empty = dict.fromkeys(("message", "pauseConditions", "abort", "conditions"))
        if self.cluster.get("Rollout", "fbt"):
            self.cluster.patch("Rollout", "fbt/status", {"status": {**empty, **status}})

    def _count_revision(self, own):
        before = own["metadata"].get("annotations", {}).get(REVISION_ANNOTATION, "0")
        annotations = {REVISION_ANNOTATION: str(int(before) + 1)}
        self.cluster.patch("Rollout", "fbt", {"metadata": {"annotations": annotations}})

    def _replica_set(self, workload):
        template = workload["spec"]["template"]
        current = hash_of(template)
        labels = {**template["metadata"]["labels"], POD_HASH_LABEL: current}
        made = {
            "metadata": {"name": f"fbt-{current}", "labels": labels},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "fbt", POD_HASH_LABEL: current}},
                "template": {**template, "metadata": {"labels": labels}},
            },
        }
        if self.cluster.get("ReplicaSet", f"fbt-{current}") is None:
            with suppress(Conflict):
                self.cluster.create("ReplicaSet", made)
        return current


class World:
    """A namespace with the service's objects, a registry, and one promoter at a time."""

    def __init__(self, cluster, mlflow, fake=None):
        self.cluster, self.mlflow, self.fake = cluster, mlflow, fake
        self.argo = None
        self.broken = set()
        """Versions whose bundle the init container refuses."""
        self.never_ready = set()
        self.bad = set()
        """Versions that Argo's analysis aborts."""
        # The test's own requests are never the ones that fail.
        self.promoter_cluster = Cluster(connected(fake.url), cluster.namespace) if fake else cluster
        self.restart()

    def deploy(self, kind, deadline_s=600):
        """Create the service's objects, as `kubectl apply` would, before any champion."""
        if kind == "Rollout":
            self.argo = Argo(self.cluster)
            self.cluster.create("Rollout", rollout())
        self.cluster.create("Deployment", deployment(1, deadline_s))
        self.turn()

    def restore(self, kind):
        """Create a deleted object anew, as Argo CD or Flux does."""
        self.cluster.create(kind, rollout() if kind == "Rollout" else deployment(1))

    def restart(self):
        """A new promoter, as after a crash: nothing is remembered."""
        self.metrics = Metrics()
        settings = Settings(namespace=self.cluster.namespace, identity="promoter-0")
        leadership = Leadership(self.promoter_cluster, "fbt-promoter", "promoter-0")
        self.leadership = leadership
        self.promoter = Promoter(self.promoter_cluster, settings, leadership, self.metrics)

    def reconcile(self):
        """One look of the promoter, whose lease is fresh."""
        self.leadership.renew()
        try:
            return self.promoter.reconcile()
        except Conflict:
            if self.fake:
                raise
            # A real controller wrote its status in between: the loop looks again, too.
            return self.reconcile()

    def try_reconcile(self):
        """The same where it may end early."""
        try:
            return self.reconcile()
        except PASSING:
            return None

    def turn(self):
        """The cluster's other parts do what is theirs to do, once."""
        if self.argo:
            self.argo.observe()
        if self.fake:
            self.fake.settle()
        self.kubelet()
        if self.fake:
            self.fake.settle()

    def kubelet(self):
        for pod in self.cluster.list_objects("Pod", VERSION_LABEL):
            version = pod["metadata"]["labels"][VERSION_LABEL]
            ready = version not in self.broken | self.never_ready
            conditions = [{"type": "Ready", "status": str(ready)}]
            status = {"phase": "Running" if ready else "Pending", "conditions": conditions}
            if version in self.broken:
                ended = {"exitCode": 65, "message": "fetch: n_orders.npy is damaged\n"}
                state = {"state": {"terminated": ended}, "ready": False, "restartCount": 1}
                image = {"image": "fbt-serve:0.1.0", "imageID": ""}
                status["initContainerStatuses"] = [{"name": "fetch", **image, **state}]
            try:
                self.cluster.patch("Pod", pod["metadata"]["name"] + "/status", {"status": status})
            except ClusterError as error:
                if error.status != 404:  # gone in the meantime
                    raise

    def until(self, wanted, within_s=60):
        """Let promoter and cluster work until `wanted()`."""
        return self._work(lambda: (self.try_reconcile(), wanted())[1], within_s, verdicts=False)

    def calm(self, within_s=60):
        """Let everything work, canaries be judged, until the promoter has nothing left to do."""
        quiet = 0

        def calmed():
            nonlocal quiet
            actions = self.try_reconcile()
            idle = actions is not None and all(isinstance(one, EmitEvent) for one in actions)
            quiet = quiet + 1 if idle and self.is_settled() else 0
            return quiet >= 2

        return self._work(calmed, within_s, verdicts=True)

    def _work(self, wanted, within_s, verdicts):
        until = time.monotonic() + within_s
        while not wanted():
            assert time.monotonic() < until, f"not in time: {self.shown()}"
            self.turn()
            if verdicts and self.argo:
                self.argo.abort() if self.pinned in self.bad else self.argo.finish()
            if not self.fake:
                time.sleep(0.1)

    def is_settled(self):
        """Whether the cluster has nothing left to do but what it never will."""
        if self.argo:
            status = self.argo._status()
            return not self.pinned or status.get("phase") in ("Healthy", "Degraded")
        found = self.cluster.get("Deployment", "fbt")
        if found is None:
            return True
        # A real controller takes a moment: what it has not observed yet, its status says of before.
        status, metadata = found.get("status", {}), found["metadata"]
        if status.get("observedGeneration", 0) < metadata["generation"]:
            return False
        if read_pinned_version(found) in {"", *self.broken, *self.never_ready}:
            return True
        names = ("replicas", "updatedReplicas", "availableReplicas")
        return [status.get(name, 0) for name in names] == [found["spec"]["replicas"]] * 3

    def promote(self, version):
        """What the MLflow UI does."""
        self.mlflow.aliases["champion"] = version

    @property
    def champion(self):
        return self.mlflow.aliases.get("champion", "")

    @property
    def pinned(self):
        found = self.cluster.get("Deployment", "fbt")
        return read_pinned_version(found) if found else None

    def tag(self, version, name="fbt.rollout"):
        return self.mlflow.versions[version].get(name, "")

    def said(self):
        """Reasons and messages of all Events."""
        events = self.cluster.list_objects("Event")
        own = [one for one in events if one.get("reportingComponent") == "fbt-promoter"]
        return {one["reason"]: one["message"] for one in own}

    def shown(self):
        return {
            "champion": self.champion,
            "pinned": self.pinned,
            "tags": self.mlflow.versions,
            "rollout": self.argo and self.argo._status(),
            "said": self.said(),
        }


@contextmanager
def fake_world(bundle):
    """A world of two fakes; every version's bundle is `bundle` unless a test says otherwise."""
    with (
        pytest.MonkeyPatch.context() as patch,
        FakeKubernetes().running() as kubernetes,
        FakeMlflow(bundle).running() as mlflow,
    ):
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
        cluster = Direct(kubernetes, "shop")
        yield World(cluster, mlflow, kubernetes)


@contextmanager
def new_world(bundle, kind):
    """The same, with the service's objects in it."""
    with fake_world(bundle) as world:
        world.deploy(kind)
        yield world


@contextmanager
def looping(world, **given):
    """A whole promoter with its threads, and its address."""
    standby = given.pop("standby", False)
    usual = {"poll_s": 600.0, "lease_s": 1.0, "identity": "loop", "port": 0}
    given = {**usual, "webhook_secret": "secret", **given}
    loop = Loop(world.promoter_cluster, Settings(namespace="shop", host="127.0.0.1", **given))
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        await_(lambda: loop.leadership.is_held or standby)
        await_(lambda: hasattr(loop, "port"))
        yield loop, f"http://127.0.0.1:{loop.port}"
    finally:
        loop.stop()
        thread.join(10)
        assert not thread.is_alive()


def await_(wanted, within_s=60):
    until = time.monotonic() + within_s
    while not wanted():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.02)
