"""Chaos on a real cluster: what may die dies at random, under load, during promotions.

For FBT_CHAOS_MINUTES (default: 15), in namespaces of its own. MLflow and PostgreSQL are away for a
minute each; so is an API server of this machine whose process FBT_CHAOS_API_SERVER names, which
stops all of the cluster's control for a minute. Deeds and counts are printed (`pytest -s`).
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter

import pytest
from mlflow.exceptions import MlflowException

from components.promoter.cluster import ClusterError
from components.promoter.workload import POD_HASH_LABEL, VERSION_LABEL
from components.registry.registry import FAILED_TAG, RegistryError
from tests.cluster.kube import run, wait_until
from tests.cluster.staging import REPLICAS, install_staging

MINUTES = float(os.environ.get("FBT_CHAOS_MINUTES", "15"))
API_SERVER = int(os.environ.get("FBT_CHAOS_API_SERVER", "0"))
SETTLED_S = 600
EVERY_S = (5.0, 20.0)
"""Between two deeds."""
AWAY_S = 60
HARD = ("kill a service pod", "kill the processes of a service pod", "API server away")
SHADOW_S = (-6, 20)
"""A request that began within these seconds of a hard kill may be lost by it: one in flight, and
any until no proxy names the dead pod."""

PASSING = (
    ClusterError, RegistryError, MlflowException, AssertionError, OSError,
    subprocess.SubprocessError,
)  # fmt: skip
"""What a deed may end with while something is away."""

pytestmark = pytest.mark.timeout(MINUTES * 60 + SETTLED_S + 1200)


class Chaos:
    def __init__(self, staging, folder):
        self.staging, self.folder = staging, folder
        self.random = random.Random(int(os.environ.get("FBT_CHAOS_SEED", "7")))
        self.good = [staging.register(folder) for _ in range(3)]
        self.damaged = self.register_damaged()
        self.deeds, self.seen = [], []

    def register_damaged(self):
        """A bundle that the init container refuses."""
        bundle = self.staging.make_bundle(self.folder)
        (bundle / "n_orders.npy").write_bytes(b"damaged")
        return self.staging.register_bundle(bundle)

    def rage(self, seconds):
        until = time.time() + seconds
        outages = [self.mlflow_away, self.postgres_away] + [self.api_server_away] * bool(API_SERVER)
        due = [time.time() + seconds * (n + 1) / (len(outages) + 1) for n in range(len(outages))]
        deeds = [
            *(self.promote, self.promote_two, self.promote_damaged, self.abort),
            *([self.delete_service_pod] * 3 + [self.kill_service_pod, self.kill_processes]),
            *([self.kill_promoter] * 2 + [self.kill_all_promoters]),
        ]
        while time.time() < until:
            is_due = due and time.time() > due[0]
            deed = outages[-len(due)] if is_due else self.random.choice(deeds)
            due = due[1:] if is_due else due
            with contextlib.suppress(*PASSING):
                deed()
            self.check()
            time.sleep(self.random.uniform(*EVERY_S))

    def did(self, what):
        self.deeds.append((time.time(), what))
        print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)

    def check(self):
        """Whatever happens: no pod of the damaged version is ever ready, nor two canaries."""
        with contextlib.suppress(ClusterError):
            self.seen.append(self.staging.ready_pods())
            assert self.damaged not in self.seen[-1]

    def choose(self, number):
        """Versions that have not failed; a busy machine fails good ones now and then."""
        found = [one for one in self.good if FAILED_TAG not in self.staging.tags(one)]
        while len(found) < number:
            self.good.append(self.staging.register(self.folder))
            found.append(self.good[-1])
        return self.random.sample(found, number)

    def promote(self):
        (version,) = self.choose(1)
        self.staging.set_champion(version)
        self.did(f"promote {version}")

    def promote_two(self):
        first, second = self.choose(2)
        self.staging.set_champion(first)
        self.staging.set_champion(second)
        self.did(f"promote {first} and {second}")

    def promote_damaged(self):
        self.staging.set_champion(self.damaged)
        self.did(f"promote {self.damaged}, which is damaged")

    def abort(self):
        self.staging.cluster.patch("Rollout", "fbt/status", {"status": {"abort": True}})
        self.did("abort")

    def delete_service_pod(self):
        if pod := self.find_spare_pod():
            self.did("delete a service pod")
            self.delete(pod)

    def kill_service_pod(self):
        if pod := self.find_spare_pod():
            self.did("kill a service pod")
            self.delete(pod, "--grace-period=0", "--force")

    def kill_processes(self):
        if pod := self.find_spare_pod():
            self.did("kill the processes of a service pod")
            code = "import os; os.kill(-1, 9)"
            run("-n", self.staging.name, "exec", pod, "-c", "service", "--", "python", "-c", code)

    def kill_promoter(self):
        self.did("kill a promoter")
        self.delete(self.random.choice(self.list_promoters()), "--grace-period=0", "--force")

    def kill_all_promoters(self):
        self.did("kill all promoters")
        self.delete(*self.list_promoters(), "--grace-period=0", "--force")

    def mlflow_away(self):
        self.did("MLflow away")
        with self.scaled_to_nothing("deployment/mlflow"):
            time.sleep(AWAY_S)
        self.did("MLflow back")

    def postgres_away(self):
        self.did("PostgreSQL away")
        with self.scaled_to_nothing("statefulset/postgres"):
            time.sleep(AWAY_S)
        self.did("PostgreSQL back")

    def api_server_away(self):
        self.did("API server away")
        os.kill(API_SERVER, signal.SIGSTOP)
        try:
            time.sleep(AWAY_S)
        finally:
            os.kill(API_SERVER, signal.SIGCONT)
        self.did("API server back")
        self.staging.reopen_mlflow()

    @contextlib.contextmanager
    def scaled_to_nothing(self, name):
        run("-n", self.staging.platform, "scale", name, "--replicas=0")
        try:
            yield
        finally:
            run("-n", self.staging.platform, "scale", name, "--replicas=1")
            self.staging.wait_for_rollout(self.staging.platform, name)
            self.staging.reopen_mlflow()

    def find_spare_pod(self):
        """One whose loss leaves most: a second fault waits until the first one is mended."""
        pods = [
            pod["metadata"]["name"]
            for pod in self.staging.cluster.list_objects("Pod", f"{VERSION_LABEL},{POD_HASH_LABEL}")
        ]
        return self.random.choice(pods) if self.staging.ready_pods().total() >= REPLICAS else None

    def list_promoters(self):
        label = "app.kubernetes.io/component=promoter"
        pods = self.staging.cluster.list_objects("Pod", label)
        return [pod["metadata"]["name"] for pod in pods]

    def delete(self, *words):
        run("-n", self.staging.name, "delete", "pod", "--wait=false", *words)


@pytest.fixture
def staging():
    with install_staging() as installed:
        yield installed


def test_whatever_dies_no_request_is_lost_and_the_end_is_the_alias(staging, tmp_path):
    chaos = Chaos(staging, tmp_path)
    staging.set_champion(chaos.good[0])
    wait_until(lambda: staging.is_live(chaos.good[0]), 600)
    with staging.open_shop(MINUTES * 60 + SETTLED_S + 60, tries=2) as shop:
        chaos.rage(MINUTES * 60)
        end = wait_until(lambda: find_end(staging), SETTLED_S, every_s=3)
        seconds = shop.wait(time.time())
    counts = count_losses(chaos, seconds)
    print(json.dumps({"deeds": Counter(what for _, what in chaos.deeds), **counts}, indent=1))
    assert end in chaos.good
    tags = {version: staging.tags(version).get("fbt.rollout") for version in chaos.good}
    assert [version for version, tag in tags.items() if tag == "live"] == [end]
    assert counts["lost otherwise"] == []
    assert counts["lost after a hard kill"] <= counts["requests"] / 1000


def find_end(staging):
    """The version that alias, template, stable pods and tag agree on; else nothing."""
    with contextlib.suppress(*PASSING):
        if staging.status.get("phase") == "Paused":
            # The person whom an inconclusive analysis waits for.
            staging.cluster.patch("Rollout", "fbt/status", {"status": {"promoteFull": True}})
        version = staging.champion
        return version if staging.pinned == version and staging.is_live(version) else ""
    return ""


def count_losses(chaos, seconds):
    hard = [at for at, what in chaos.deeds if what in HARD]
    lost = [
        (one["at"], answer, number)
        for one in seconds
        for answer, number in one["answers"].items()
        if not answer.isdigit()
    ]
    before, after = SHADOW_S
    excused = [one for one in lost if any(before <= one[0] - at <= after for at in hard)]
    return {
        "requests": sum(sum(one["answers"].values()) for one in seconds),
        "second tries": sum(one["again"] for one in seconds),
        "lost after a hard kill": sum(number for _, _, number in excused),
        "lost otherwise": [one for one in lost if one not in excused],
        "seconds without an answer": [one["at"] for one in seconds if not one["answers"]],
        "slowest_s": max(one["slowest_s"] for one in seconds),
    }
