"""A real `bentoml serve` with two versions behind one port, and the log of what it showed."""

import json
import signal
import threading
from collections import Counter

import httpx
import pytest

from components.events.open import open_sink
from components.package.server import GRACE_S, ServerError, serve_bundle
from tests.factories import make_bundle
from tests.service.serving import metric

OTHER_PAIRS = (("tea", "butter"), ("coffee", "pesto"), ("bread", "milk"), ("pasta", "sugar"))


def write_experiment(folder, **more):
    """Of version 1, where tea goes with milk, of version 2, where it goes with butter, and none."""
    make_bundle(folder / "one")
    make_bundle(folder / "two", OTHER_PAIRS)
    arms = [
        {"name": "control"},
        {"name": "new", "model_version": "2", "bundle": "two"},
        {"name": "nothing", "holdout": "empty", "weight": 0.5},
    ]
    path = folder / "experiment.json"
    path.write_text(json.dumps({"name": "spring", "arms": arms, **more}))
    return path


def serve(folder, workers=1, **variables):
    settings = {
        "BENTOML_CONFIG_OVERRIDES": json.dumps({"services": {"fbt": {"workers": workers}}}),
        "FBT_EVENTS_URL": f"sqlite:///{folder / 'events.db'}",
        **{f"FBT_{name.upper()}": str(value) for name, value in variables.items()},
    }
    return serve_bundle(folder / "one", "1", settings=settings)


def read_log(folder):
    sink = open_sink(f"sqlite:///{folder / 'events.db'}")
    try:
        return sink.read().recommendations
    finally:
        sink.close()


def ask(client, session_id, path="/recommend", **question):
    body = {"items": ["tea"], "k": 3, "session_id": session_id, **question}
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Answers of a server by request id, its log after it ended, and its metrics before."""
    folder = tmp_path_factory.mktemp("shown")
    path = write_experiment(folder, swap_share=0.5)
    answers = {}
    with (
        serve(folder, experiment=path, log_share=0) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        for i in range(150):
            answer = ask(client, f"s{i}")
            answers[answer["request_id"]] = {**answer, "session_id": f"s{i}"}
        counts = {
            (version, arm): metric(
                client, "fbt_answers_total", model_version=version, variant=arm,
                endpoint="recommend",
            )
            for version in "12" for arm in ("control", "new", "nothing", "default")
        }  # fmt: skip
        ready = client.get("/readyz").json()
        n_judged = metric(client, "fbt_recommend_requests_total")
        client.post("/recommend", json={"items": ["tea"]})
        ask(client, "s0", variant="new")
    return {
        "answers": answers, "log": read_log(folder), "counts": counts, "ready": ready,
        "n_judged": n_judged,
    }  # fmt: skip


def test_both_versions_answer_on_one_port(shown):
    partners = {"control": {"milk"}, "new": {"butter"}, "nothing": set()}
    for answer in shown["answers"].values():
        # A swap moves the best product down by one place at most.
        best = {item["product_id"] for item in answer["items"][:2]}
        assert partners[answer["variant"]] <= best
        assert (answer["variant"] == "nothing") == (not answer["items"])
        assert answer["model_version"] == ("2" if answer["variant"] == "new" else "1")
    assert {answer["variant"] for answer in shown["answers"].values()} == partners.keys()


def test_readiness_names_the_arms(shown):
    arms = {"control": "1", "new": "2", "nothing": "1"}
    assert shown["ready"]["details"]["experiment"] == {"name": "spring", "arms": arms}


def test_metrics_count_each_arm_under_its_version(shown):
    expected = Counter(
        (answer["model_version"], answer["variant"]) for answer in shown["answers"].values()
    )
    assert {key: n for key, n in shown["counts"].items() if n} == dict(expected)
    n_held_out = expected["1", "nothing"]
    assert shown["n_judged"] == len(shown["answers"]) - n_held_out


def test_the_log_holds_every_answer_of_the_experiment_once(shown):
    answers, log = shown["answers"], {one.request_id: one for one in shown["log"]}
    assert len(shown["log"]) == len(log)
    assert log.keys() == answers.keys()
    for request_id, one in log.items():
        answer = answers[request_id]
        assert one.session_id == answer["session_id"]
        assert (one.endpoint, one.context) == ("recommend", "product_page")
        assert (one.experiment, one.share) == ("spring", 1)
        assert (one.arm, one.model_version) == (answer["variant"], answer["model_version"])
        assert list(one.asked) == ["tea"]
        assert list(one.items) == [item["product_id"] for item in answer["items"]]
        assert list(one.sources) == [item["source"] for item in answer["items"]]


def test_the_log_tells_of_swaps(shown):
    plain = {one.arm: list(one.items) for one in shown["log"] if one.items and one.swapped is None}
    for one in shown["log"]:
        assert one.swap_drawn == (one.drawn_pair is not None)
        assert one.swapped in (None, one.drawn_pair)
        expected = list(plain.get(one.arm, ()))
        if (i := one.swapped) is not None:
            expected[i : i + 2] = expected[i + 1], expected[i]
        assert list(one.items) == expected
    assert 0 < sum(one.swap_drawn for one in shown["log"]) < len(shown["log"])


def test_without_an_experiment_a_share_is_logged(tmp_path):
    make_bundle(tmp_path / "one")
    with (
        serve(tmp_path, log_share=1) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        page = ask(client, "s1", variant="blue")
        cart = ask(client, None, items=["tea", "pasta", "no such"])
        body = {"requests": [{"items": ["tea"]}, {"items": ["pasta"], "context": "checkout"}]}
        batch = client.post("/recommend/batch", json=body).json()["responses"]
        similar = client.post("/similar", json={"item": "tea", "session_id": "s1"}).json()
    log = {one.request_id: one for one in read_log(tmp_path)}
    assert log.keys() == {one["request_id"] for one in (page, cart, *batch, similar)}
    assert {(one.experiment, one.share) for one in log.values()} == {(None, 1)}
    told = [log[one["request_id"]] for one in (page, cart, *batch, similar)]
    assert [one.context for one in told] == [
        "product_page", "cart", "product_page", "checkout", "similar"
    ]  # fmt: skip
    assert [one.arm for one in told] == ["blue", *["default"] * 4]
    assert [one.endpoint for one in told] == [*["recommend"] * 4, "similar"]
    assert list(told[1].asked) == ["tea", "pasta", "no such"]


def test_interleaved_answers_name_their_teams_in_the_log(tmp_path):
    path = write_experiment(tmp_path, method="interleave")
    answers = {}
    with (
        serve(tmp_path, experiment=path) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        for i in range(60):
            answer = ask(client, f"s{i}", k=2)
            answers[answer["request_id"]] = answer
        similar = client.post("/similar", json={"item": "tea", "session_id": "s0"}).json()
        n_mixed = metric(
            client, "fbt_answers_total", endpoint="recommend", model_version="1+2",
            variant="interleaved",
        )  # fmt: skip
    log = {one.request_id: one for one in read_log(tmp_path)}
    assert log.keys() == {*answers, similar["request_id"]}
    mixed = [log[id_] for id_, one in answers.items() if one["variant"] == "interleaved"]
    assert n_mixed == len(mixed) > 20
    for one in mixed:
        given = dict(zip(one.items, one.teams, strict=True))
        assert given == {"milk": "control", "butter": "new"}
        shown = [item["product_id"] for item in answers[one.request_id]["items"]]
        assert list(one.items) == shown
    assert {one.teams for one in log.values() if one.arm == "nothing"} == {None}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_answered_before_sigterm_is_in_the_log(tmp_path, workers):
    path = write_experiment(tmp_path)
    answered, stop = [], threading.Event()

    def shop(number):
        with httpx.Client(base_url=server.url, timeout=20) as client:
            for i in range(100_000):
                try:
                    answered.append(ask(client, f"s{number}.{i}")["request_id"])
                except (httpx.TransportError, AssertionError):
                    return  # the server has ended
                if stop.is_set():
                    return

    with serve(tmp_path, workers, experiment=path) as server:
        shoppers = [threading.Thread(target=shop, args=(number,)) for number in range(4)]
        for one in shoppers:
            one.start()
        stop.wait(2)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=GRACE_S + 10)
        stop.set()
        for one in shoppers:
            one.join(30)
    logged = [one.request_id for one in read_all(tmp_path)]
    assert len(logged) == len(set(logged))
    assert len(answered) > 100
    assert set(answered) <= set(logged)


def read_all(folder):
    sink, position, found = open_sink(f"sqlite:///{folder / 'events.db'}"), "", []
    while not (batch := sink.read(position)).is_last:
        found += batch.recommendations
        position = batch.position
    sink.close()
    return [*found, *batch.recommendations]


def test_a_bad_experiment_stops_the_start(tmp_path):
    path = write_experiment(tmp_path)
    (tmp_path / "two" / "n_orders.npy").write_bytes(b"damaged")
    with pytest.raises(ServerError, match=r"n_orders.npy"), serve(tmp_path, experiment=path):
        pass
    path.write_text(path.read_text().replace('"two"', '"three"'))
    with (
        pytest.raises(ServerError, match=r"FBT_EXPERIMENT: arm new: no bundle in .*three"),
        serve(tmp_path, experiment=path),
    ):
        pass
