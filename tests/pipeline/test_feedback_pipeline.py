"""The feedback pipeline through kfp.local: from a sink to a page, a version's metrics, examples."""

import json

import pytest

from components.contracts import FEEDBACK, read_table
from components.events.event import Event, EventItem
from components.events.open import open_sink
from components.events.recommendation import Recommendation
from components.registry.registry import get_version, register, registry_client
from pipelines.feedback_run import run_feedback
from pipelines.home import Home
from pipelines.parameters import FeedbackParameters
from pipelines.run import RunFailed

NOON_US = 1_796_000_000_000_000
MINUTE_US = 60_000_000
N_SESSIONS = 40


@pytest.fixture
def home(tmp_path, monkeypatch):
    made = Home(tmp_path / "fbt")
    for folder in (made.runs, made.cache, made.logs, made.mlflow, made.bentos):
        folder.mkdir(parents=True)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def sink_url(tmp_path):
    """Every session sees milk and salt for tea: all click milk, half buy it, nobody wants salt."""
    url = f"sqlite:///{tmp_path / 'events.db'}"
    sink = open_sink(url)
    log = [
        Recommendation(
            f"r{i}", NOON_US + i, f"s{i}", "recommend", "product_page", "1", "default", None, 1.0,
            ["tea"], ["milk", "salt"], ["model", "model"], [],
        )
        for i in range(N_SESSIONS)
    ]  # fmt: skip
    sink.write_recommendations(json.dumps(log).encode(), len(log))
    events = []
    for i in range(N_SESSIONS):
        names = ["view_item_list", "select_item"] + ["purchase"] * (i % 2)
        for step, name in enumerate(names):
            items = ["milk", "salt"] if name == "view_item_list" else ["milk"]
            ts, order = NOON_US + i + step * MINUTE_US, f"o{i}" if name == "purchase" else None
            events.append(Event(
                f"{name}{i}", name, ts, ts, f"s{i}", f"r{i}", order,
                tuple(EventItem(one, place, 1.0, 2.5) for place, one in enumerate(items)),
            ))  # fmt: skip
    sink.write_events(events)
    sink.close()
    return url


def registered(tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    metrics = {"test.item.model.ndcg.mean": 0.1}
    return register({"bundle": bundle}, {}, metrics, {"fbt.verdict": "passed"})


@pytest.mark.timeout(300)
def test_what_shoppers_did_becomes_a_page_metrics_and_examples(tmp_path, home, sink_url):
    assert registered(tmp_path) == "1"
    parameters = FeedbackParameters(archive=str(tmp_path / "online"))
    result = run_feedback(parameters, home, sink_url)

    assert "50\u202f% of the products seen were clicked" in result.page.read_text()
    rows = read_table(result.examples, FEEDBACK).to_pylist()
    milk, salt = sorted(rows, key=lambda row: row["product_id"])
    assert (milk["asked"], milk["product_id"], salt["product_id"]) == (["tea"], "milk", "salt")
    assert (milk["clicks"], milk["purchases"], salt["clicks"]) == (40, 20, 0)
    assert milk["positive"] > 25
    assert salt["positive"] == 0
    version = get_version("1")
    assert version.tags["fbt.online_click_through"].startswith("0.5 (")
    with registry_client() as client:
        metrics = client.get_run(version.run_id).data.metrics
    assert metrics["online.click_through"] == 0.5
    assert metrics["online.n_sessions"] == N_SESSIONS


@pytest.mark.timeout(300)
def test_without_a_sink_the_run_fails_with_words(tmp_path, home):
    with pytest.raises(RunFailed, match=r"compact-events failed: URL of events: found no"):
        run_feedback(FeedbackParameters(archive=str(tmp_path / "online")), home)
