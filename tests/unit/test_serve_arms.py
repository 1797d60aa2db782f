"""`fbt serve --arm`: what a line of arms means, and what is wrong with others."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pipelines.home import Home
from pipelines.serve import build_store_settings, takes_events
from pipelines.serve_arms import (
    check_kept,
    describe_arms,
    make_plan,
    parse_arm,
    plan_experiment,
    plan_file,
    read_plan,
)


def test_an_arm_is_a_version_with_settings():
    arm = parse_arm("new=4,weight=2,diversity=0.3,max_own_kind=-1")
    assert (arm.name, arm.model_version, arm.weight, arm.holdout) == ("new", "4", 2, None)
    assert arm.settings.model_dump(exclude_none=True) == {"diversity": 0.3, "max_own_kind": -1}


def test_a_word_instead_of_a_version_is_a_holdout():
    assert parse_arm("nobody=none,weight=0.1").holdout == "empty"
    assert parse_arm("top=bestsellers").holdout == "bestsellers"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("new", "expected NAME=VERSION"),
        ("new=", "expected NAME=VERSION"),
        ("=3", "expected NAME=VERSION"),
        ("new=3,speed=2", "found 'speed=2', expected one of weight, max_own_kind"),
        ("new=3,weight", "found 'weight', expected one of weight"),
        ("new=3,weight=0", "arm new: parameter weight: found '0', expected: .* greater than 0"),
        ("new=3,max_same_kind=0", "arm new: parameter settings.max_same_kind: .* -1 for no limit"),
        ("new one=3", "arm new one: parameter name"),
    ],
)
def test_a_wrong_arm_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        parse_arm(text)


def test_other_arms_make_another_experiment():
    arms = [parse_arm(text) for text in ("old=3", "new=4", "nobody=none")]
    plan = plan_experiment(arms, "", 0.1, False)
    assert (plan.name, plan.method, plan.swap_share) == ("old-3.new-4.nobody-empty", "split", 0.1)
    assert describe_arms(plan).endswith("old (version 3), new (version 4), nobody (empty)")
    assert plan_experiment(arms, "spring", 0, True).name == "spring"


@pytest.mark.parametrize(
    ("texts", "is_interleaved", "message"),
    [
        (["nobody=none"], False, "the first is the control, which is no holdout"),
        (["a=1", "a=2"], False, "expected each name once"),
        (["a=1", "b=2", "c=3"], True, "exactly two arms"),
    ],
)
def test_arms_that_make_no_experiment_are_explained(texts, is_interleaved, message):
    with pytest.raises(ValueError, match=message):
        plan_experiment([parse_arm(text) for text in texts], "", 0, is_interleaved)


def test_options_that_do_not_go_together_are_named():
    with pytest.raises(ValueError, match="found --arm and --experiment, expected one"):
        make_plan(["a=1"], "", 0, False, Path("experiment.json"))
    with pytest.raises(ValueError, match="belong to --arm"):
        make_plan([], "spring", 0, False, None)
    assert make_plan([], "", 0, False, None) is None


def test_a_files_control_needs_a_version(tmp_path):
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps({"name": "spring", "arms": [{"name": "control"}]}))
    with pytest.raises(ValueError, match="the control control has no model_version"):
        read_plan(path)


@pytest.mark.parametrize(
    ("given", "database", "events"),
    [
        ({}, "sqlite:///{root}/fbt.db", "sqlite:///{root}/events.db"),
        ({"FBT_DATABASE_URL": "postgresql://u@h/d"}, "postgresql://u@h/d", "postgresql://u@h/d"),
        ({"FBT_DATABASE_URL": "off"}, "off", "sqlite:///{root}/events.db"),
        ({"FBT_EVENTS_URL": "off"}, "sqlite:///{root}/fbt.db", "off"),
    ],
)
def test_rules_and_events_outlive_the_server(tmp_path, monkeypatch, given, database, events):
    monkeypatch.delenv("FBT_EVENTS_URL", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = build_store_settings(Home(tmp_path))
    expected = {"FBT_DATABASE_URL": database, "FBT_EVENTS_URL": events}
    assert settings == {name: url.format(root=tmp_path) for name, url in expected.items()}


def test_settings_make_another_experiment_also_where_the_name_is_cut():
    def name(*texts):
        return plan_experiment([parse_arm(text) for text in texts], "", 0, False).name

    assert name("a=1", "b=1,diversity=0.5") == "a-1.b-1-diversity_0.5"
    assert name("a=1", "b=1,max_own_kind=-1") == "a-1.b-1-max_own_kind_-1"
    long = [f"{'x' * 40}{place}=1" for place in range(3)]
    cut = name(*long, "y=1,diversity=0.5")
    assert len(cut) == 64
    assert cut != name(*long, "y=1,diversity=0.1")


def test_another_plan_does_not_take_the_place_of_one_that_was_served(tmp_path):
    home = Home(tmp_path)
    plan = plan_experiment([parse_arm("a=1"), parse_arm("b=1,diversity=0.5")], "spring", 0, False)
    kept = plan_file(plan, home)
    check_kept(plan, kept)
    kept.parent.mkdir()
    kept.write_text(plan.model_dump_json(indent=2, exclude_defaults=True))
    check_kept(plan, kept)
    other = plan_experiment([parse_arm("a=1"), parse_arm("b=1,weight=2")], "spring", 0.1, False)
    with pytest.raises(ValueError, match=r"other arms, swap_share, see .*spring.json; give this"):
        check_kept(other, kept)


class OldService(BaseHTTPRequestHandler):
    status = 404

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("status", "expected"), [(404, False), (400, True), (401, True)])
def test_a_service_without_events_is_noticed(status, expected):
    handler = type("Handler", (OldService,), {"status": status})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert takes_events(f"http://127.0.0.1:{server.server_port}") is expected
        thread.join()
