"""The promoter against a fake API server, which can be made to fail at every request."""

import pytest

from tests.factories import make_bundle
from tests.fakes import FakeKubernetes, FakeMlflow
from tests.promotions import *  # noqa: F403
from tests.world import fake_world


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("promoter") / "bundle")


@pytest.fixture
def world(bundle, monkeypatch):
    """A cluster and a registry, both fake."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with FakeKubernetes().running() as kubernetes, FakeMlflow(bundle).running() as mlflow:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
        with fake_world(kubernetes, mlflow) as made:
            yield made
