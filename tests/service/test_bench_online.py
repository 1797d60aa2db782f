"""The bench of events: batches are whole, kills lose nothing, and its figures have names."""

import json
import shutil

import numpy as np
import pytest

from bento.schemas.events import EventBatch
from pipelines.cli import main
from tests.bench.ingest.bodies import BATCH, MARK, choose_batch, make_events, write_bodies
from tests.bench.ingest.kills import compare, count_lost
from tests.bench.ingest.stores import open_store

FIGURES = {
    *("events_per_s_sqlite", "recommend_p99_under_ingest"),
    *("recommendation_log_rps_cost", "interval_coverage", "peeking_false_positive"),
    *("holdout_bias", "position_bias_error", "interleaving_speedup"),
}
"""Those that need no server but the service, and nobody killed."""


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FBT_HOME", str(tmp_path / "home"))


def test_batches_are_as_the_service_takes_them(tmp_path):
    lines = write_bodies(tmp_path / "bodies.jsonl", 7).read_text().splitlines()
    assert len(lines) == 7
    for line in lines:
        batch = EventBatch.model_validate_json(line)
        assert len(batch.events) == BATCH
        assert len({one.event_id for one in batch.events}) == BATCH
        assert all(one.event_id.startswith(MARK) for one in batch.events)


def test_lost_doubled_and_unknown_events_are_counted():
    events = make_events(BATCH * 2)
    stored = {
        one["event_id"]: len(one["items"])
        for number in (1, 2)
        for one in choose_batch(events, number, f"{number:x}")
    }
    assert compare(events, [1], stored) == (BATCH, 0, 0, BATCH)
    stored.pop("1-0")
    stored["1-1"] *= 2
    assert compare(events, [1, 2], stored) == (2 * BATCH, 1, 1, 0)


@pytest.mark.timeout(300)
def test_kills_and_a_full_disk_lose_nothing(tmp_path):
    with open_store("sqlite", tmp_path) as store:
        found = count_lost(tmp_path / "run", store, n_kills=1, full_s=10)
    assert found.accepted > 0
    assert found.refused > 0
    assert (found.lost, found.doubled) == (0, 0)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.timeout(1800)
def test_the_bench_runs_and_names_every_figure(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.bench.ingest.stores.NAMES", ("sqlite",))
    parts = "rates,tail,log,estimators,report"
    main(["bench", "online", "--quick", "--parts", parts, "--json", str(tmp_path / "out.json")])
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["figures"].keys() >= FIGURES
    assert any(name.startswith("report_s_") for name in result["figures"])
    assert all(np.isfinite(value) for value in result["figures"].values())


def test_an_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "online", "--quick", "--parts", "raets"])
    assert "found parts ['raets']" in capsys.readouterr().err
