"""Registering, promoting and rolling back, against a real MLflow server."""

import json

import pytest
from mlflow import MlflowClient

from components.model.bundle import BundleError, compute_sha256
from components.ranking.variant_exceptions import ExceptionsError
from components.registry import registry
from components.registry.promotion import OUTSIDE, PromotionError, history, promote, rollback
from components.registry.registry import (
    RegistryError,
    attach_archive,
    fetch_artifact,
    fetch_champion,
    get_champion_run_id,
    get_version,
    list_versions,
    register,
)
from components.registry.signing import SIGNED_TAG, fetch_bundle
from components.registry.version import find_versions, register_run
from pipelines.parameters import parse_parameters
from pipelines.start import inspect_inputs
from tests.factories import make_bundle
from tests.signing_keys import make_keys

READING = {
    "source": "orders.csv",
    "timezone": "Europe/Istanbul",
    "files": [
        {
            "name": "orders.csv",
            "kind": "text",
            "encoding": "cp1254",
            "platform": "Shopify orders export",
            "columns": {
                "order_id": {"theirs": ["Name"]},
                "product_id": {"theirs": ["Lineitem sku", "Lineitem name"]},
                "price": {"theirs": ["Lineitem price"], "format": "decimal comma"},
            },
        }
    ],
    "unreadable": {"price": {"n_values": 4, "examples": ["=cmd|' /C calc'!A0"]}},
}


@pytest.fixture
def client(mlflow_url, monkeypatch, request):
    """The server, with a model of this test's own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    name = f"fbt-{request.node.path.stem}-{request.node.name}"
    for module in ("registry", "promotion"):
        monkeypatch.setattr(f"components.registry.{module}.MODEL", name)
    return MlflowClient(mlflow_url)


@pytest.fixture
def artefacts(tmp_path):
    bundle = tmp_path / "made" / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "bundle.json").write_text("{}")
    profile = tmp_path / "made" / "profile"
    profile.write_text('{"rows": 3}')
    return {"bundle": bundle, "profile/order_lines.json": profile}


def made(artefacts, verdict="passed"):
    tags = {registry.VERDICT_TAG: verdict}
    return register(artefacts, {"seed": 1, "columns": ""}, {"test.a.ndcg": 0.1}, tags)


def champion():
    """The version that has the alias, or an empty text."""
    return next((one.version for one in list_versions() if "champion" in one.aliases), "")


@pytest.fixture
def finished_run(tmp_path):
    """Everything that a run hands to `register_run`."""
    task = {"model": {"ndcg": {"mean": 0.1}, "excess": {"mean": 0.05}, "coverage": 0.5}}
    tasks = {"item": task, "cart": task}
    files = {
        "evaluation.json": {"tasks": tasks, "paired": {}, "paired_excess": {}},
        "verdict.json": {"passed": True},
        "checks/order_lines.json": {"table": "order_lines", "checks": []},
        "checks/baskets.json": {"table": "baskets", "checks": []},
        "reading.json": {"orders": READING},
    }
    paths = {}
    for name, content in files.items():
        paths[name] = tmp_path / "run" / name
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_text(json.dumps(content))
    return {**paths, "bundle": make_bundle(tmp_path / "run" / "bundle")}


def test_a_step_that_is_tried_again_makes_no_second_version(client, finished_run, tmp_path):
    first = register_run(finished_run, {}, "key")
    assert register_run(finished_run, {}, "key") == first
    assert [one.version for one in list_versions()] == [first]
    another = {**finished_run, "bundle": make_bundle(tmp_path / "other", with_index=True)}
    second = register_run(another, {}, "key")
    assert second != first
    assert register_run(finished_run, {}, "key") == first
    assert get_version("challenger").version == first
    assert register_run(finished_run, {}, "another key") not in (first, second)


def test_a_version_is_signed_where_there_is_a_key(client, finished_run, tmp_path, monkeypatch):
    keys = make_keys(tmp_path, "ours")
    unsigned = register_run(finished_run, {}, "key")
    assert SIGNED_TAG not in get_version(unsigned).tags
    monkeypatch.setenv("FBT_SIGNING_KEY", keys.private.read_text())
    monkeypatch.setenv("FBT_VERIFY_KEYS_FILE", str(keys.public))
    with pytest.raises(BundleError, match="version 1 is not signed"):
        fetch_bundle(unsigned, tmp_path / "got")
    assert not (tmp_path / "got").exists()
    # A step that is tried again, now with a key.
    assert register_run(finished_run, {}, "key") == unsigned
    signed = register_run(finished_run, {}, "another key")
    for version in (unsigned, signed):
        assert get_version(version).tags[SIGNED_TAG] == compute_sha256(keys.public)
        fetch_bundle(version, tmp_path / "got")


def test_a_version_says_how_its_orders_were_read(client, finished_run):
    found = get_version(register_run(finished_run, {"columns": ""}, "key"))
    assert found.tags["fbt.export"] == "Shopify orders export"
    run = client.get_run(found.run_id).data
    assert {name: one for name, one in run.params.items() if name.startswith("reading.")} == {
        "reading.encoding": "windows-1254",
        "reading.timezone": "Europe/Istanbul",
        "reading.columns": "order_id=Name, product_id=Lineitem sku or Lineitem name, "
        "price=Lineitem price",
        "reading.formats": "price=decimal comma",
    }
    assert run.metrics["reading.unreadable_price"] == 4


@pytest.mark.parametrize("known", [{}, {"orders": {"source": "orders.csv"}}])
def test_a_version_of_which_no_reading_is_known(known, client, finished_run):
    finished_run["reading.json"].write_text(json.dumps(known))
    found = get_version(register_run(finished_run, {}, "key"))
    assert found.tags.get("fbt.export") == ("own columns" if known else None)
    run = client.get_run(found.run_id).data
    assert not [name for name in run.metrics if name.startswith("reading.")]


def test_a_version_without_its_run_is_registered_again(client, finished_run):
    first = register_run(finished_run, {}, "key")
    client.delete_run(get_version(first).run_id)
    assert find_versions("key") == []
    assert register_run(finished_run, {}, "key") != first


def test_a_run_names_its_champion_by_what_no_other_registry_has(client, artefacts, tmp_path):
    orders = tmp_path / "orders.csv"
    orders.write_text("order_id,product_id")
    found = []
    for _ in range(2):
        promote(made(artefacts), by="ann")
        assert champion() == "1"
        found.append(inspect_inputs(parse_parameters({"orders": str(orders)})).champion)
        client.delete_registered_model(registry.MODEL)
    assert "" not in found
    assert found[0] != found[1]


def test_nothing_is_registered_yet(client):
    assert list_versions() == []
    assert champion() == ""
    assert history() == []


def test_a_run_begins_anew_when_a_file_has_changed(client, tmp_path):
    orders, pairs = tmp_path / "orders.csv", tmp_path / "pairs.csv"
    orders.write_text("order_id,product_id")
    pairs.write_text("product_id,other_id\na,b\n")
    parameters = parse_parameters({"orders": str(orders), "variant_exceptions": str(pairs)})
    first = inspect_inputs(parameters)
    assert inspect_inputs(parameters) == first
    pairs.write_text("product_id,other_id\na,c\n")
    second = inspect_inputs(parameters)
    assert second.exceptions != first.exceptions
    assert second.run_key != first.run_key
    # Orders are not read again for that.
    assert second.fingerprint == first.fingerprint
    pairs.write_text("a,b\n")
    with pytest.raises(ExceptionsError, match="expected product_id and other_id"):
        inspect_inputs(parameters)


def test_a_version_has_everything_and_is_challenger(client, artefacts, tmp_path):
    version = made(artefacts)
    found = get_version("challenger")
    assert (found.version, found.verdict, found.aliases) == (version, "passed", ["challenger"])
    run = client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "1"
    assert run.data.metrics["test.a.ndcg"] == 0.1
    assert fetch_artifact(version, "bundle", tmp_path / "got")
    assert (tmp_path / "got" / "bundle.json").read_text() == "{}"
    assert not fetch_artifact(version, "absent", tmp_path / "absent")


def test_the_champion_comes_with_its_profile(client, artefacts, tmp_path):
    promote(made(artefacts), by="ann")
    fetch_champion(get_champion_run_id(), tmp_path / "champion")
    profile = tmp_path / "champion" / "profile" / "order_lines.json"
    assert json.loads(profile.read_text()) == {"rows": 3}
    assert (tmp_path / "champion" / "bundle" / "bundle.json").is_file()


def test_a_champion_that_lost_its_bundle_is_not_taken_for_none(client, artefacts, tmp_path):
    profile = artefacts["profile/order_lines.json"]
    promote(made({"profile/order_lines.json": profile}), by="ann")
    with pytest.raises(RegistryError, match=r"champion has no bundle/bundle\.json.*fbt promote"):
        fetch_champion(get_champion_run_id(), tmp_path / "champion")


def test_no_champion_is_an_empty_folder(client, tmp_path):
    fetch_champion("", tmp_path / "champion")
    assert list((tmp_path / "champion").iterdir()) == []


def test_promotions_are_remembered_with_who_and_from_what(client, artefacts):
    first, second = made(artefacts), made(artefacts)
    promote(first, by="ann")
    promote("challenger", by="bob")
    rollback(by="eve")
    moves = [(m.to, m.came_from, m.by, m.why) for m in history()]
    assert moves == [
        (first, second, "eve", "rolled back"),
        (second, first, "bob", "promoted"),
        (first, "", "ann", "promoted"),
    ]
    assert champion() == first


def test_the_alias_set_in_mlflow_does_the_same_and_is_noticed(client, artefacts):
    first, second = made(artefacts), made(artefacts)
    promote(first, by="ann")
    client.set_registered_model_alias(f"{registry.MODEL}", "champion", second)
    assert champion() == second
    assert (history()[0].to, history()[0].came_from, history()[0].by) == (second, first, OUTSIDE)
    assert len(history()) == 2, "noticed once"
    rollback(by="ann")
    assert champion() == first


def test_two_rollbacks_do_not_end_in_a_circle(client, artefacts):
    one, two, three = made(artefacts), made(artefacts), made(artefacts)
    for version in (one, two, three):
        promote(version, by="ann")
    assert rollback(by="ann").to == two
    assert rollback(by="ann").to == one
    with pytest.raises(PromotionError, match="no champion before version 1"):
        rollback(by="ann")


def test_a_failed_version_needs_force_and_is_marked(client, artefacts):
    version = made(artefacts, verdict="failed")
    with pytest.raises(PromotionError, match=r"version 1 has the gate verdict 'failed'"):
        promote(version, by="ann")
    assert champion() == ""
    assert promote(version, by="ann", force=True).why == "promoted by force"
    assert get_version(version).tags["fbt.forced_by"] == "ann"


def test_an_unknown_version(client, artefacts):
    made(artefacts)
    with pytest.raises(RegistryError, match=r"no version or alias '7' \(versions: 1\)"):
        promote("7", by="ann")


def test_the_archive_is_kept_with_the_version(client, artefacts, tmp_path):
    version = made(artefacts)
    archive = tmp_path / "fbt.bento"
    archive.write_bytes(b"archive")
    attach_archive(version, archive, "fbt:1")
    assert get_version(version).tags["fbt.bento"] == "fbt:1"
    assert fetch_artifact(version, "bento", tmp_path / "got")
    assert (tmp_path / "got" / "fbt-1.bento").read_bytes() == b"archive"


def test_a_broken_upload_makes_no_version(client, artefacts):
    with pytest.raises(FileNotFoundError):
        made({**artefacts, "report.html": artefacts["bundle"] / "absent"})
    assert list_versions() == []


def test_no_server_says_what_to_do(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"MLflow at http://127.0.0.1:1 .* run again"):
        champion()


def test_no_address_says_so(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_URI is not set"):
        champion()
