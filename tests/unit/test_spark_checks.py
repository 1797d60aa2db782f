"""A claim or account that executors need and that is wrong: an error that names it, at once."""

import json

import pytest

from components.spark import SparkError
from components.spark_checks import check_executors
from tests.fakes import FakeKubernetes

ASKED = {
    "FBT_SPARK_EXECUTORS": "2",
    "FBT_SPARK_CLAIM": "shop-shared",
    "FBT_POD_NAMESPACE": "kubeflow",
}


@pytest.fixture
def kubernetes(tmp_path, monkeypatch):
    with FakeKubernetes().running() as server:
        config = {
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": server.url}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield server


def make(server, plural, name, **spec):
    server.create(("kubeflow", plural, name), {"metadata": {"name": name}, "spec": spec})


def make_claim(server, mode="ReadWriteMany"):
    make(server, "persistentvolumeclaims", "shop-shared", accessModes=[mode])


def test_a_claim_and_an_account_that_are_there_are_enough(kubernetes):
    make_claim(kubernetes)
    make(kubernetes, "serviceaccounts", "fbt-spark-executor")
    check_executors(ASKED)


def test_a_missing_claim_is_named(kubernetes):
    with pytest.raises(SparkError, match=r"PersistentVolumeClaim shop-shared .*kubeflow.*--spark-"):
        check_executors(ASKED)


def test_a_claim_for_one_node_is_refused(kubernetes):
    make_claim(kubernetes, "ReadWriteOnce")
    with pytest.raises(SparkError, match="shop-shared is ReadWriteOnce, expected ReadWriteMany"):
        check_executors(ASKED)


def test_a_missing_account_is_named(kubernetes):
    make_claim(kubernetes)
    with pytest.raises(SparkError, match=r"ServiceAccount fbt-spark-executor .*platform/spark"):
        check_executors(ASKED)


def test_rights_that_are_missing_are_named_in_the_words_of_kubernetes(kubernetes, monkeypatch):
    forbidden = 'User "pipeline-runner" cannot get resource "persistentvolumeclaims"'
    answer = (403, {"message": forbidden})
    monkeypatch.setattr(kubernetes, "answer", lambda *_: answer)
    with pytest.raises(SparkError, match=r"pipeline-runner.*cannot get.*k8s/platform/spark"):
        check_executors(ASKED)


def test_a_run_without_executors_asks_nobody(kubernetes):
    check_executors({"FBT_POD_NAMESPACE": "kubeflow"})
    assert kubernetes.requests == []
