"""The training pipeline through kfp.local: the real steps on a small shop with obvious pairs."""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.registry.registry import (
    BENTO_TAG,
    MODEL,
    fetch_artifact,
    get_version,
    list_versions,
    register,
    registry_client,
)
from pipelines.home import Home
from pipelines.mlflow_server import mlflow_server
from pipelines.parameters import parse_parameters
from pipelines.run import RunFailed, run
from pipelines.serve import serve_champion

N_PAIRS = 20

EXCEPTIONS = "p00a+p00b, p01a+gone"


def small_shop(path):
    """400 orders of two or three pairs: p00a is always bought with p00b, and so on."""
    chance = random.Random(7)
    rows = []
    for order in range(400):
        ts = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=order)
        for pair in chance.sample(range(N_PAIRS), chance.choice([2, 2, 3])):
            for half in "ab":
                rows.append({"order_id": f"o{order}", "product_id": f"p{pair:02d}{half}", "ts": ts})
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def shop_of_chance(path):
    """400 orders of four products drawn at random, some bought more: there is nothing to learn."""
    chance = random.Random(7)
    weights = [1 / (i + 1) for i in range(40)]
    rows = []
    for order in range(400):
        ts = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=order)
        for product in set(chance.choices(range(40), weights, k=4)):
            rows.append({"order_id": f"o{order}", "product_id": f"p{product}", "ts": ts})
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return small_shop(tmp_path_factory.mktemp("shop") / "lines.parquet")


@pytest.fixture(scope="module")
def module_home(tmp_path_factory):
    made = Home(tmp_path_factory.mktemp("run") / "fbt")
    for folder in (made.runs, made.cache, made.logs, made.mlflow, made.bentos):
        folder.mkdir(parents=True)
    return made


@pytest.fixture
def environment(module_home, monkeypatch):
    for name, value in module_home.environment().items():
        monkeypatch.setenv(name, value)


def parameters(shop, **others):
    given = {"orders": str(shop), "trials": 2, "shards": 1, "sweep_share": 1}
    return parse_parameters({**given, "variant_exceptions": EXCEPTIONS, **others})


@pytest.mark.timeout(900)
def test_ctrl_c_at_a_step_leaves_no_process_and_the_next_run_goes_on(
    shop, module_home, environment
):
    """Stopped in Spark, in gensim and while a service runs; each run goes on from the last."""
    arguments = ["--orders", str(shop), "--trials", "2", "--shards", "1", "--sweep-share", "1"]
    arguments += ["--variant-exceptions", EXCEPTIONS]
    command = [sys.executable, "-u", "-m", "pipelines.cli", "run", *arguments]
    env = {**os.environ, **module_home.environment()}
    # kfp starts steps that wait for nothing in any order: no more than this is sure to have ended.
    ended: set[str] = set()
    for step, kept in (("read-orders", ""), ("sweep", ""), ("judge", "build-baskets")):
        child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        shown = []
        for line in child.stdout:
            shown.append(line)
            if line.startswith(f"  … {step}"):
                break
        else:
            pytest.fail(f"the run never came to {step}: {''.join(shown)}")
        if kept:
            assert f"  ✓ {kept:<20} unchanged since an earlier run\n" in shown
        again = ended & {line.split()[1] for line in shown if line.startswith("  … ")}
        assert again <= {"start"}, f"done once more: {again}"
        ended |= {line.split()[1] for line in shown if line.startswith("  ✓ ")}
        time.sleep(2.5)
        family = psutil.Process(child.pid).children(recursive=True)
        assert family
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        assert child.wait(60) == 130
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive, f"left behind after Ctrl-C in {step}: {alive}"
    assert list_versions() == []


@pytest.mark.timeout(900)
def test_a_registry_that_goes_away_fails_the_run_and_the_next_one_goes_on(
    shop, module_home, environment, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    shown = []
    with mlflow_server(module_home) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)

        def show(line):
            shown.append(line)
            if line.startswith("  … gate"):
                server.process.terminate()
                server.process.wait()

        with pytest.raises(RunFailed, match=r"register failed: registry: MLflow at .* run again"):
            run(parameters(shop), module_home, show=show)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", module_home.database_uri)
    assert list_versions() == []
    with mlflow_server(module_home) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        finished = run(parameters(shop), module_home, show=shown.append)
    assert finished.seconds["train"] == finished.seconds["judge"] == 0
    assert finished.seconds["register"] > 0
    assert finished.version.aliases == ["challenger"]
    assert finished.version.verdict == "passed"


def test_the_same_again_makes_no_second_version(shop, module_home, environment):
    shown = []
    finished = run(parameters(shop), module_home, show=shown.append)
    assert finished.version.version == "1"
    assert "has the same code, data and parameters" in shown[0]
    assert len(list_versions()) == 1


@pytest.mark.timeout(900)
def test_another_registry_gets_a_version_of_its_own(
    shop, module_home, environment, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    older = tmp_path / "older"
    older.mkdir()
    register({"bundle": older}, {}, {}, {})
    made = run(parameters(shop), module_home, show=lambda _: None)
    assert made.version.version == "2"
    assert made.seconds["train"] == made.seconds["judge"] == 0
    assert fetch_artifact("2", "bento", tmp_path / "bento")
    # A run that ended before its last step is gone on with; it makes no second version.
    with registry_client() as client:
        client.delete_model_version_tag(MODEL, "2", BENTO_TAG)
    assert run(parameters(shop), module_home, show=lambda _: None).version.version == "2"
    assert BENTO_TAG in get_version("2").tags
    # Deleted in MLflow, it is registered again.
    with registry_client() as client:
        client.delete_model_version(MODEL, "2")
    assert run(parameters(shop), module_home, show=lambda _: None).version == list_versions()[0]
    assert len(list_versions()) == 2
    # `--again` takes nothing from an earlier run.
    again = run(parameters(shop), module_home, again=True, show=lambda _: None)
    assert all(again.seconds.values()), again.seconds
    assert again.version == list_versions()[0]
    assert len(list_versions()) == 3


def test_the_run_left_one_report_that_opens_offline(module_home):
    page = (module_home.root / "report.html").read_text()
    assert "p00a" in page
    assert 'src="http' not in page
    assert 'href="http' not in page


@pytest.mark.timeout(300)
def test_the_version_is_promoted_and_served_and_knows_the_pairs(module_home, environment):
    import json
    import urllib.request

    from components.registry.promotion import promote

    promote("1", by="test")
    with serve_champion(module_home, 0) as (server, version):
        right = 0
        for pair in range(N_PAIRS):
            body = json.dumps({"items": [f"p{pair:02d}a"], "k": 1}).encode()
            with urllib.request.urlopen(
                urllib.request.Request(f"{server.url}/recommend", body), timeout=10
            ) as reply:
                answer = json.load(reply)
            assert answer["model_version"] == version == "1"
            right += answer["items"][0]["product_id"] == f"p{pair:02d}b"
    assert right >= 0.9 * N_PAIRS


@pytest.mark.timeout(600)
def test_a_model_that_fails_the_gate_is_not_registered_but_reported(
    tmp_path, module_home, environment
):
    chance = parameters(shop_of_chance(tmp_path / "lines.parquet"))
    with pytest.raises(RunFailed, match=r"(?s)gate failed: .*beats_popularity") as failed:
        run(chance, module_home, show=lambda _: None)
    assert "report: " in str(failed.value)
    assert [one.version for one in list_versions()] == ["1"]
    assert "report.html" in {path.name for path in module_home.root.iterdir()}


@pytest.mark.timeout(300)
def test_a_source_that_is_not_there_fails_in_the_first_seconds(module_home, environment):
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"absent\.csv: no such file"):
        run(parameters(module_home.root / "absent.csv"), module_home)
    assert time.monotonic() - started < 30


@pytest.mark.timeout(600)
def test_a_day_before_the_data_ends_the_run_before_anything_is_learned(
    shop, module_home, environment
):
    told = []
    with pytest.raises(
        RunFailed, match="parameter as_of: found 2023-12-31, before the first order"
    ):
        run(parameters(shop, as_of="2023-12-31"), module_home, show=told.append)
    assert not [line for line in told if "sweep" in line]
