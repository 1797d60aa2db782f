"""Awkward pairs of a real `bentoml serve`, and of an export with the same setting."""

from dataclasses import replace

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from components.model.bundle import read_bundle, write_bundle
from components.model.seasons import Seasons
from components.model.sensitive_goods import build_sensitive_goods
from components.package.server import ServerError, serve_bundle
from pipelines.export import export_bundle
from tests.factories import make_bundle

PAIRS = [("diapers", "red wine"), ("bread", "butter"), ("cigars", "tobacco")]
ALWAYS_QUIET = np.uint32(2**26 - 1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Butter is never in season."""
    folder = tmp_path_factory.mktemp("awkward")
    plain = read_bundle(make_bundle(folder / "plain", PAIRS, {}))
    quiet = np.array([0, 0, 0, ALWAYS_QUIET, 0, 0], np.uint32)
    manifest = plain.manifest.model_copy(
        update={"data_window": ("2023-03-01T09:00:00Z", "2024-02-28T20:00:00Z")}
    )
    marked = replace(
        plain,
        manifest=manifest,
        sensitive=build_sensitive_goods(plain.products),
        seasons=Seasons(quiet),
    )
    write_bundle(marked, folder / "bundle")
    return folder / "bundle"


def ask(server, item, **more):
    response = httpx.post(f"{server.url}/recommend", json={"items": [item], **more}, timeout=20)
    assert response.status_code == 200, response.text
    return response.json()["items"]


def serve(bundle, **settings):
    return serve_bundle(bundle, settings={"FBT_DATABASE_URL": "off", **settings})


def test_explained_answers_are_marked(bundle):
    with serve(bundle) as server:
        (wine,) = ask(server, "diapers", k=1, explain=True)
        assert (wine["product_id"], wine["marks"]) == ("red wine", ["thin_evidence", "sensitive"])
        (butter,) = ask(server, "bread", k=1, explain=True)
        assert butter["marks"] == ["thin_evidence", "out_of_season"]
        assert "marks" not in ask(server, "bread", k=1)[0]


def test_blocked_pairs_are_in_no_answer_and_no_export(bundle, tmp_path, monkeypatch):
    with serve(bundle, FBT_SENSITIVE_PAIRS="block") as server:
        found = {one["product_id"] for one in ask(server, "diapers", k=2)}
    assert found == {"bread", "butter"}
    monkeypatch.setenv("FBT_SENSITIVE_PAIRS", "block")
    export_bundle(bundle, tmp_path / "companions.parquet", 5, "off", spark=False)
    rows = pq.read_table(tmp_path / "companions.parquet").to_pylist()
    pairs = {(one["product_id"], one["companion_id"]) for one in rows}
    assert ("cigars", "tobacco") in pairs
    assert {other for one, other in pairs if one in ("diapers", "bread", "butter")} == {
        "diapers", "bread", "butter",
    }  # fmt: skip


def test_a_day_before_the_data_ends_the_start(bundle):
    says = "FBT_AS_OF: found 2022-01-01, before the first order"
    with (
        pytest.raises(ServerError, match=says),
        serve(bundle, FBT_AS_OF="2022-01-01"),
    ):
        pytest.fail("the server took a day before its data")
