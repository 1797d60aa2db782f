"""Real servers that many tests share, and the offline switches for all of them."""

import base64
import os

import pytest

from pipelines.home import OFFLINE, Home
from tests.kafka import kafka
from tests.postgres import postgres

pytest.register_assert_rewrite("tests.promotions")

MLFLOW_PLACES = ("MLFLOW_TRACKING_URI", "MLFLOW_ARTIFACT_ROOT")

WEBHOOKS = {
    # So that MLflow may call a promoter that a test runs.
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": base64.urlsafe_b64encode(bytes(32)).decode(),
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_CACHE_TTL": "1",
}


@pytest.fixture(autouse=True, scope="session")
def offline():
    """No test phones home, and none sees the registry or folders of whoever runs the tests."""
    os.environ.update(OFFLINE)
    seen = ("FBT_CODE_VERSION", "FBT_DATABASE_URL", "FBT_EVENTS_URL", "FBT_HOME", *MLFLOW_PLACES)
    for name in seen:
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def own_environment():
    """What a test sets, as every command of `fbt` does, ends with it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def home(tmp_path):
    """An empty FBT_HOME."""
    made = Home(tmp_path / "fbt")
    for folder in (made.runs, made.cache, made.logs, made.mlflow, made.bentos):
        folder.mkdir(parents=True)
    return made


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory):
    """A real MLflow server over SQLite, for all tests that use a model of their own."""
    from pipelines.mlflow_server import mlflow_server

    home = Home(tmp_path_factory.mktemp("mlflow") / "fbt")
    for folder in (home.logs, home.mlflow):
        folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in WEBHOOKS.items():
            environment.setenv(name, value)
        with mlflow_server(home) as server:
            yield server.url


@pytest.fixture(scope="session")
def postgres_server():
    """A real PostgreSQL, for all tests that use a database or table of their own."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def kafka_broker():
    """A real Kafka broker, for all tests that use topics of their own."""
    with kafka() as broker:
        yield broker
