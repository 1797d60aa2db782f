"""`fbt submit` and `fbt schedule` against a FAKE of KFP's v2beta1 API, and the compiled pipeline.

The fake keeps what it is sent and answers as the real server does for these few calls: ids, pages,
filters by name, errors as gRPC statuses. What runs is nothing. The client is the real kfp.
"""

import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from pipelines.cli import main
from pipelines.compile import compile_pipeline
from pipelines.images import VERSION
from pipelines.kfp_server import KfpError, kfp_client
from pipelines.parameters import FeedbackParameters, TrainingParameters
from pipelines.placement import (
    ARCHIVE_PATH,
    ARCHIVE_STEPS,
    SIGNING_STEPS,
    SPARK_STEPS,
    STEP_RESOURCES,
    Placement,
    add_tag,
)
from pipelines.run_wait import wait_for_end
from pipelines.schedule import schedule, unschedule
from pipelines.submit import Target, submit

GOLDEN = Path(__file__).parents[1] / "golden" / "pipeline.yaml"
HUNG_UP = 0
"""As a state of a run: the connection ends without an answer."""
TRIES = 4
"""Of one question by kfp's client."""
PAGE = 2
"""Recurring runs and versions on a page, whatever the client asks for."""


class FakeKfp:
    """The state of a server, by kind and id."""

    def __init__(self):
        self.pipelines, self.versions, self.experiments = {}, {}, {}
        self.runs, self.recurring, self.calls = {}, {}, []
        self.states, self.fail_with = ["RUNNING", "SUCCEEDED"], None

    def answer(self, method, path, query, body):
        """The answer to one request, as (status, content)."""
        self.calls.append((method, path))
        if self.fail_with:
            return self.fail_with
        path = path.removeprefix("/apis/v2beta1")
        name = f"{method} {re.sub(r'(?<=/)(?:[a-z]+-[0-9]+)', 'ID', path)}"
        handler = getattr(self, ROUTES.get(name, "missing"))
        return handler(path, query, body)

    def missing(self, path, query, body):
        return 404, {"code": 5, "message": f"no such thing: {path}"}

    def healthz(self, path, query, body):
        return 200, {"multi_user": False}

    def list_pipelines(self, path, query, body):
        return 200, {"pipelines": named(self.pipelines, query)} if self.pipelines else {}

    def create_pipeline(self, path, query, body):
        return 200, self.add(self.pipelines, "pipeline", **json.loads(body))

    def upload(self, path, query, body):
        made = self.add(self.pipelines, "pipeline", display_name=query["name"])
        first = {"pipelineid": made["pipeline_id"], "name": query["name"]}
        self.upload_version(path, first, body)
        return 200, made

    def upload_version(self, path, query, body):
        return 200, self.add(
            self.versions, "pipeline_version", "version",
            pipeline_id=query["pipelineid"], display_name=query["name"], spec=body,
        )  # fmt: skip

    def list_versions(self, path, query, body):
        pipeline = path.split("/")[2]
        mine = [one for one in self.versions.values() if one["pipeline_id"] == pipeline]
        return 200, page("pipeline_versions", mine, query)

    def list_experiments(self, path, query, body):
        return 200, {"experiments": named(self.experiments, query)} if self.experiments else {}

    def create_experiment(self, path, query, body):
        return 200, self.add(self.experiments, "experiment", **json.loads(body))

    def create_run(self, path, query, body):
        return 200, self.add(self.runs, "run", **json.loads(body))

    def get_run(self, path, query, body):
        run = self.runs[path.split("/")[2]]
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, int):
            return state, {"code": 14, "message": "upstream is away"}
        error = {"error": {"code": 2, "message": "gate failed"}} if state == "FAILED" else {}
        return 200, {**run, "state": state, **error}

    def create_recurring(self, path, query, body):
        made = {"status": "ENABLED", **json.loads(body)}
        return 200, self.add(self.recurring, "recurring_run", "recurring", **made)

    def list_recurring(self, path, query, body):
        assert query["experiment_id"] in self.experiments
        return 200, page("recurringRuns", list(self.recurring.values()), query)

    def delete_recurring(self, path, query, body):
        del self.recurring[path.split("/")[2]]
        return 200, {}

    def add(self, kept, kind, short="", **fields):
        short = short or kind
        identity = f"{short}-{len(kept) + 1 + len(self.calls)}"
        kept[identity] = {f"{kind}_id": identity, **fields}
        return kept[identity]


ROUTES = {
    "GET /healthz": "healthz",
    "GET /pipelines": "list_pipelines",
    "POST /pipelines": "create_pipeline",
    "POST /pipelines/upload": "upload",
    "POST /pipelines/upload_version": "upload_version",
    "GET /pipelines/ID/versions": "list_versions",
    "GET /experiments": "list_experiments",
    "POST /experiments": "create_experiment",
    "POST /runs": "create_run",
    "GET /runs/ID": "get_run",
    "POST /recurringruns": "create_recurring",
    "GET /recurringruns": "list_recurring",
    "DELETE /recurringruns/ID": "delete_recurring",
}


def named(kept, query):
    wanted = json.loads(query["filter"])["predicates"][0]["stringValue"]
    return [one for one in kept.values() if one["display_name"] == wanted]


def page(field, found, query):
    start = int(query.get("page_token") or 0)
    more = {"next_page_token": str(start + PAGE)} if len(found) > start + PAGE else {}
    return {field: found[start : start + PAGE], **more}


@pytest.fixture
def kfp():
    """A fake server; `url` is where it answers."""
    fake = FakeKfp()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            status, content = fake.answer(self.command, url.path, query, body)
            if status == HUNG_UP:
                self.close_connection = True
                return
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    yield fake
    server.shutdown()
    server.server_close()


PARAMETERS = TrainingParameters(orders="s3://shop/orders", trials=4)


def target(kfp, **changed):
    return Target(**{"endpoint": kfp.url, "node_selector": ["disk=ssd"], **changed})


def test_submitting_uploads_the_version_once_and_runs_it_each_time(kfp):
    said = []
    first = submit(PARAMETERS, target(kfp), show=said.append)
    second = submit(PARAMETERS, target(kfp), show=said.append)
    assert first != second
    assert [one["display_name"] for one in kfp.pipelines.values()] == ["fbt-training"]
    run = kfp.runs[second]
    (version,) = kfp.versions
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version
    assert run["runtime_config"]["parameters"] == {
        **PARAMETERS.model_dump(),
        "node_selector": {"disk": "ssd"},
    }
    assert f"{kfp.url}/#/runs/details/{second}" in said[-1]


FEEDBACK = FeedbackParameters(archive="/var/fbt/online")


def test_the_feedback_pipeline_is_submitted_under_its_own_name(kfp):
    run = kfp.runs[submit(FEEDBACK, target(kfp, events_claim="fbt-online"))]
    assert [one["display_name"] for one in kfp.pipelines.values()] == ["fbt-feedback"]
    assert run["display_name"].startswith("feedback ")
    assert run["runtime_config"]["parameters"] == {
        **FEEDBACK.model_dump(),
        "node_selector": {"disk": "ssd"},
    }
    (version,) = kfp.versions.values()
    assert "compact-events" in version["spec"]


def test_feedback_without_a_claim_is_refused_before_anything_is_made(kfp):
    with pytest.raises(KfpError, match="expected --events-claim, a PersistentVolumeClaim"):
        submit(FEEDBACK, target(kfp))
    assert kfp.pipelines == {}


def test_another_placement_is_another_version(kfp):
    submit(PARAMETERS, target(kfp))
    submit(PARAMETERS, target(kfp, image="registry.example.com/fbt-steps:7"))
    assert len(kfp.pipelines) == 1
    assert len(kfp.versions) == 2


def test_waiting_ends_with_the_run(kfp):
    said = []
    submit(PARAMETERS, target(kfp), wait_s=30, show=said.append, poll_s=0.01)
    assert [line.strip() for line in said[1:]] == ["running", "succeeded"]


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_a_run_that_does_not_succeed_is_an_error_with_the_link(kfp, state):
    kfp.states = ["RUNNING", state]
    with pytest.raises(KfpError, match=f"run {state.lower()}.*/#/runs/details/run-"):
        submit(PARAMETERS, target(kfp), wait_s=30, poll_s=0.01)


def test_a_run_that_takes_too_long_goes_on_and_says_where(kfp):
    kfp.states = ["RUNNING"]
    with pytest.raises(KfpError, match=r"has not ended after 0\.05 s and continues: http"):
        submit(PARAMETERS, target(kfp), wait_s=0.05, poll_s=0.01)


def test_a_server_that_is_away_for_a_while_is_asked_again(kfp):
    kfp.states = ["RUNNING", *[HUNG_UP] * TRIES, 503, "RUNNING", "SUCCEEDED"]
    said = []
    submit(PARAMETERS, target(kfp), wait_s=30, show=said.append, poll_s=0.01)
    assert [line.strip().split(" ")[0] for line in said[1:]] == [
        "running", "KFP", "KFP", "succeeded",
    ]  # fmt: skip
    assert f"KFP at {kfp.url} cannot be reached" in said[2]
    assert said[3].strip() == f"KFP at {kfp.url} answers again"


@pytest.mark.parametrize("state", [HUNG_UP, 503])
def test_a_server_that_stays_away_does_not_lose_the_run(kfp, state):
    kfp.states = ["RUNNING", state]
    run = submit(PARAMETERS, target(kfp))
    with kfp_client(kfp.url, "") as client, pytest.raises(KfpError) as ended:
        wait_for_end(client, run, 30, 0.01, print, max_away_s=0.2)
    assert f"`fbt wait {run} --endpoint {kfp.url}` waits for it again" in str(ended.value)
    assert "is not lost" in str(ended.value)
    assert "port-forward svc/ml-pipeline-ui" in str(ended.value)
    kfp.states = ["SUCCEEDED"]
    with patch.dict(os.environ, KF_PIPELINES_ENDPOINT=kfp.url):
        main(["wait", run])


def test_a_login_that_expired_while_waiting_ends_it_with_the_way_to_go_on(kfp):
    kfp.states = ["RUNNING", 401]
    with pytest.raises(KfpError, match=r"answered 401: .* is not lost .* `fbt wait run-"):
        submit(PARAMETERS, target(kfp), wait_s=30, poll_s=0.01)


def test_a_server_that_says_no_is_quoted(kfp):
    kfp.fail_with = (403, {"code": 7, "message": "user may not list pipelines"})
    with pytest.raises(KfpError, match="answered 403: user may not list pipelines"):
        submit(PARAMETERS, target(kfp, namespace="me"))


def test_without_a_server_the_way_to_one_is_said(monkeypatch):
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    with pytest.raises(KfpError, match="port-forward svc/ml-pipeline-ui"):
        schedule("nightly", "30 2 * * *", PARAMETERS, Target())


def test_scheduling_twice_leaves_one(kfp):
    first = schedule("nightly", "30 2 * * *", PARAMETERS, target(kfp))
    assert schedule("nightly", "30 2 * * *", PARAMETERS, target(kfp)) == first
    (made,) = kfp.recurring.values()
    assert made["trigger"]["cron_schedule"]["cron"] == "0 30 2 * * *"
    assert made["max_concurrency"] == 1
    assert made["no_catchup"] is True


def test_a_schedule_that_changes_is_replaced_and_others_stay(kfp):
    for day in range(3):
        schedule(f"weekly {day}", f"0 4 * * {day}", PARAMETERS, target(kfp))
    first = schedule("nightly", "30 2 * * *", PARAMETERS, target(kfp))
    second = schedule("nightly", "45 2 * * *", PARAMETERS, target(kfp))
    assert first != second
    names = sorted(one["display_name"] for one in kfp.recurring.values())
    assert names == ["nightly", "weekly 0", "weekly 1", "weekly 2"]
    assert second in kfp.recurring


def test_a_schedule_that_somebody_switched_off_is_made_anew(kfp):
    first = schedule("nightly", "30 2 * * *", PARAMETERS, target(kfp))
    kfp.recurring[first]["status"] = "DISABLED"
    second = schedule("nightly", "30 2 * * *", PARAMETERS, target(kfp))
    assert list(kfp.recurring) == [second]


def test_a_schedule_can_be_removed_again_and_again(kfp):
    schedule("nightly", "30 2 * * *", PARAMETERS, target(kfp))
    for _ in range(2):
        unschedule("nightly", "training", target(kfp))
    assert kfp.recurring == {}


def test_schedules_of_two_pipelines_may_have_one_name(kfp):
    claimed = target(kfp, events_claim="fbt-online")
    training = schedule("nightly", "30 2 * * *", PARAMETERS, claimed)
    feedback = schedule("nightly", "30 1 * * *", FEEDBACK, claimed)
    assert set(kfp.recurring) == {training, feedback}
    unschedule("nightly", "feedback", claimed)
    assert list(kfp.recurring) == [training]


def test_the_command_that_removes_one_need_not_say_what_it_trained_on(kfp, tmp_path, capsys):
    schedule("nightly", "30 2 * * *", PARAMETERS, target(kfp))
    with patch.dict(os.environ, FBT_HOME=str(tmp_path)):
        main(["schedule", "--remove", "--endpoint", kfp.url])
        assert kfp.recurring == {}
        with pytest.raises(SystemExit):
            main(["schedule", "--endpoint", kfp.url])
        with pytest.raises(SystemExit):
            main(["feedback", "schedule", "--endpoint", kfp.url])
    said = capsys.readouterr().err
    assert "parameter orders: found ''" in said
    assert "parameter archive: found ''" in said


@pytest.mark.parametrize("cron", ["", "nightly", "30 2 * *", "0 30 2 * * *"])
def test_a_cron_line_has_five_fields(kfp, cron):
    with pytest.raises(KfpError, match="expected minute, hour, day, month and weekday"):
        schedule("nightly", cron, PARAMETERS, target(kfp))
    assert kfp.calls == []


# ---------------------------------------------------------------- the compiled pipeline


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """(pipeline, platform) as YAML says them, for a cluster with executors."""
    folder = tmp_path_factory.mktemp("compiled")
    placement = Placement(spark_executors=4, spark_claim="fbt-shared")
    plain, objects = compile_pipeline(folder, "v1", placement)
    assert [one["kind"] for one in yaml.safe_load_all(objects.read_text())] == [
        "Pipeline", "PipelineVersion",
    ]  # fmt: skip
    return tuple(yaml.safe_load_all(plain.read_text()))


@pytest.fixture(scope="module")
def compiled_feedback(tmp_path_factory):
    """As `compiled`, of the feedback pipeline, with a claim of the archive."""
    placement = Placement(events_claim="fbt-online")
    plain, objects = compile_pipeline(
        tmp_path_factory.mktemp("compiled"), "v1", placement, "feedback"
    )
    pipeline, _ = yaml.safe_load_all(objects.read_text())
    assert pipeline["metadata"]["name"] == "fbt-feedback"
    assert pipeline["spec"]["displayName"] == "fbt-feedback"  # by which `fbt submit` finds it
    return tuple(yaml.safe_load_all(plain.read_text()))


def executors(compiled):
    """{step: (container, what Kubernetes is told)}."""
    pipeline, platform = compiled
    told = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {
        name.removeprefix("exec-"): (one["container"], told[name])
        for name, one in pipeline["deploymentSpec"]["executors"].items()
    }


def structure(compiled):
    """What the graph in the UI shows: parameters, and per dag the tasks and their edges."""
    pipeline, _ = compiled
    dags = {"root": pipeline["root"]["dag"]}
    dags |= {n: c["dag"] for n, c in pipeline["components"].items() if "dag" in c}
    inputs = pipeline["root"]["inputDefinitions"]["parameters"]
    return {
        "parameters": {name: one["parameterType"] for name, one in inputs.items()},
        "tasks": {
            dag: {
                name: sorted(task.get("dependentTasks", [])) for name, task in one["tasks"].items()
            }
            for dag, one in dags.items()
        },
        "image": sorted({re.sub("-[0-9a-f]{12}$", "-CODE", c["image"])
                         for c, _ in executors(compiled).values()}),
    }  # fmt: skip


def test_steps_that_read_or_write_a_registry_are_never_taken_from_a_cache(compiled):
    tasks = compiled[0]["root"]["dag"]["tasks"]
    cached = {n for n, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert set(tasks) - cached == {"start", "register", "package", "for-loop-1"}
    inputs = tasks["fetch-champion"]["inputs"]["parameters"]
    assert set(inputs) == {"run_id"}, "cached by what no other registry has"


def test_the_graph_is_the_golden_one(compiled):
    # After a change that is meant: write `structure(compiled)` to the file with yaml.safe_dump.
    assert structure(compiled) == yaml.safe_load(GOLDEN.read_text())


def test_every_step_has_its_place(compiled):
    for step, (container, told) in executors(compiled).items():
        assert container["resources"]["resourceMemoryLimit"], step
        assert container["resources"]["resourceCpuRequest"], step
        assert int(told["activeDeadlineSeconds"]) >= 60, step
        assert told["securityContext"]["runAsNonRoot"] is True, step
        assert "node_selector" in str(told["nodeSelector"]["nodeSelectorJson"]), step
        assert {"name": "MLFLOW_TRACKING_URI", "value": Placement().mlflow_uri} in container["env"]
        assert all(one["optional"] for one in told["secretAsEnv"]), step


def test_the_private_key_is_seen_by_the_steps_that_sign(compiled):
    seen = {
        step
        for step, (_, told) in executors(compiled).items()
        if Placement().signing_secret in str(told["secretAsEnv"])
    }
    assert seen == set(SIGNING_STEPS)


def test_no_need_is_for_a_step_that_is_not_there(compiled, compiled_feedback):
    steps = set(executors(compiled)) | set(executors(compiled_feedback))
    assert set(STEP_RESOURCES) | set(SPARK_STEPS) | set(ARCHIVE_STEPS) <= steps


def test_feedback_is_compacted_before_anything_is_read_and_never_cached(compiled_feedback):
    found = structure(compiled_feedback)
    moved = ["compact-events"]
    after = {"compact-events": [], "measure": moved, "build-examples": moved}
    assert found["tasks"] == {"root": after}
    assert set(found["parameters"]) == {*FeedbackParameters.model_fields, "node_selector"}
    for name, task in compiled_feedback[0]["root"]["dag"]["tasks"].items():
        assert not task.get("cachingOptions", {}).get("enableCache"), name


def test_steps_of_feedback_see_the_archive_and_one_alone_the_sink(compiled_feedback):
    for step, (_, told) in executors(compiled_feedback).items():
        assert [one["mountPath"] for one in told["pvcMount"]] == [ARCHIVE_PATH], step
        secrets = {one["secretName"] for one in told["secretAsEnv"]}
        assert ("fbt-events" in secrets) == (step == "compact-events")


def test_only_spark_steps_drive_executors(compiled):
    driving = {
        step
        for step, (container, _) in executors(compiled).items()
        if "FBT_SPARK_MASTER" in {one["name"] for one in container["env"]}
    }
    assert driving == set(SPARK_STEPS) - {"compact-events"}
    for step in driving:
        container, told = executors(compiled)[step]
        # Orders at s3:// are then read by the executors, with hadoop-aws.
        assert {"name": "FBT_SPARK_S3A", "value": "true"} in container["env"], step
        fields = {one["name"]: one["fieldPath"] for one in told["fieldPathAsEnv"]}
        assert fields["FBT_POD_IP"] == "status.podIP"
        assert told["pvcMount"][0]["constant"] == "fbt-shared"


def test_the_first_step_can_look_for_the_claim_of_executors_and_does_not_wait_for_it(compiled):
    container, told = executors(compiled)["start"]
    assert {"name": "FBT_SPARK_CLAIM", "value": "fbt-shared"} in container["env"]
    assert "pvcMount" not in told


def test_registration_alone_is_told_its_run(compiled):
    told = {
        step: one["fieldPath"]
        for step, (_, told) in executors(compiled).items()
        for one in told.get("fieldPathAsEnv", [])
        if one["name"] == "FBT_KFP_RUN"
    }
    assert told == {"register": "metadata.labels['pipeline/runid']"}


def test_a_verdict_is_not_asked_for_again(compiled):
    tasks = compiled[0]["root"]["dag"]["tasks"]
    assert "retryPolicy" not in tasks["gate"]
    assert tasks["train"]["retryPolicy"]["maxRetryCount"] == 2


def test_a_change_of_code_is_another_image_and_so_another_cache_key():
    assert add_tag("fbt-steps", "0.1.0", "aaa") == "fbt-steps:0.1.0-aaa"
    assert add_tag("host:5000/fbt-steps", "0.1.0", "bbb") == "host:5000/fbt-steps:0.1.0-bbb"
    assert add_tag("fbt-steps:mine", "0.1.0", "aaa") == "fbt-steps:mine"


def test_executors_without_a_shared_volume_are_refused():
    with pytest.raises(ValueError, match="executors need spark_claim"):
        Placement(spark_executors=4)


def test_the_version_of_images_is_the_projects():
    import tomllib

    root = Path(__file__).parents[2]
    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"] == VERSION
