"""Substitutes are found by an index of the IN vectors as exact search finds them, or exactly."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bento.answering.catalogue import Catalogue
from bento.answering.selection import Selection
from bento.schemas.requests import SimilarRequest
from components.model.bundle import BundleError, read_bundle, write_bundle
from components.model.recommender import Recommender
from components.refit import index_substitutes as indexing
from components.refit.index_substitutes import index_substitutes
from tests.factories import make_bundle, products_table, write

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle_format_1"
N_ITEMS, PER_CLUSTER, DIMS = 1_500, 25, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bundle of products in clusters; the products of a category are of different clusters."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((N_ITEMS // PER_CLUSTER, DIMS)).repeat(PER_CLUSTER, axis=0)
    lengths = rng.uniform(0.5, 2, (N_ITEMS, 1))
    vectors = (lengths * (centres + 0.4 * rng.standard_normal(centres.shape))).astype(np.float32)
    ids = [f"p{row}" for row in range(N_ITEMS)]
    table = products_table(ids, {id_: f"kind {row % 60}" for row, id_ in enumerate(ids)}, {})
    place = tmp_path_factory.mktemp("clusters")
    write(place / "plain", table, vectors, vectors, np.arange(N_ITEMS, 0, -1))
    write_bundle(index_substitutes(read_bundle(place / "plain"), place, seed=1), place / "bundle")
    return place / "bundle"


@pytest.fixture
def exactly(folder):
    """Exact search serves so few products."""
    bundle = read_bundle(folder)
    assert not bundle.manifest.substitutes.by_index
    return bundle


@pytest.fixture
def by_index(exactly):
    return serve_by_index(exactly)


def serve_by_index(bundle):
    search = bundle.manifest.substitutes.model_copy(update={"by_index": True})
    manifest = bundle.manifest.model_copy(update={"substitutes": search})
    return replace(bundle, manifest=manifest)


@pytest.mark.parametrize("k", [1, 10, 100, N_ITEMS])
def test_the_index_finds_what_exact_search_finds(exactly, by_index, k):
    exact, quick = Recommender(exactly), Recommender(by_index)
    assert exact.substitutes._index is None
    assert quick.substitutes._index is not None
    same = []
    for row in range(0, N_ITEMS, 40):
        wanted, found = (one.similar_items(f"p{row}", k) for one in (exact, quick))
        assert len(found.rows) == len(wanted.rows) == min(k, N_ITEMS - 1)
        same.append(np.isin(wanted.rows, found.rows).mean())
        is_same = found.rows == wanted.rows
        np.testing.assert_allclose(found.scores[is_same], wanted.scores[is_same], rtol=1e-5)
        assert row not in found.rows
        assert (np.diff(found.scores) <= 0).all()
    assert np.mean(same) > 0.98


def test_some_rows_are_scored_as_all_are(by_index):
    recommender, rows = Recommender(by_index), np.array([3, 77, 1499])
    described = recommender._describe(5, None)
    scores = recommender.substitutes.score(5, described)
    assert len(np.unique(scores.round(3))) > 100
    found = recommender.substitutes.score_rows(5, described, rows)
    np.testing.assert_allclose(found, scores[rows], rtol=1e-5)


def test_filters_are_filled_up_without_a_comparison_of_the_whole_catalogue(exactly, by_index):
    answers, catalogue = [], Catalogue(exactly.records, exactly.facets)
    for recommender in (Recommender(exactly), Recommender(by_index)):
        selection = Selection(recommender, catalogue)
        filters = {"category": {"include": ["kind 7"]}}
        request = SimilarRequest(item="p0", k=20, filters=filters)
        answers.append([one.row for one in selection.similar(request).shown])
    assert answers[0] == answers[1]
    assert len(answers[1]) == 20
    assert {row % 60 for row in answers[1]} == {7}
    assert "_inverse" not in vars(recommender.substitutes), "only exact search needs all lengths"


def test_among_products_that_are_all_alike_the_answer_is_exact(tmp_path):
    ids, alike = [f"p{row}" for row in range(300)], np.ones((300, 4), np.float32)
    table, n_orders = products_table(ids, {}, {}), np.arange(300, 0, -1)
    for name, vectors in (("equal", alike), ("zero", 0 * alike)):
        write(tmp_path / name, table, vectors, vectors, n_orders)
        bundle = index_substitutes(read_bundle(tmp_path / name), tmp_path, seed=1)
        exact, quick = Recommender(bundle), Recommender(serve_by_index(bundle))
        assert len(quick.similar_items("p9", 40).rows) == 40
        np.testing.assert_allclose(
            quick.similar_items("p9", 40).scores, exact.similar_items("p9", 40).scores, atol=1e-6
        )


def fake_clock(monkeypatch, exact_ms, index_ms):
    """A CPU clock by which exact search, measured first, and the index take so long."""
    each_s = itertools.chain([exact_ms], itertools.repeat(index_ms))
    n_asked = min(N_ITEMS, indexing.N_QUERIES)
    ticks = itertools.chain.from_iterable((0.0, n_asked * one / 1000) for one in each_s)
    monkeypatch.setattr(indexing.time, "process_time", lambda: next(ticks))
    monkeypatch.setattr(indexing, "MIN_SERVED", N_ITEMS)


@pytest.mark.parametrize(("exact_ms", "index_ms", "pays"), [(5, 1, True), (1, 5, False)])
def test_the_faster_search_serves(exactly, tmp_path, monkeypatch, exact_ms, index_ms, pays):
    fake_clock(monkeypatch, exact_ms, index_ms)
    search = index_substitutes(exactly, tmp_path, seed=1).manifest.substitutes
    assert (search.exact_ms, search.index_ms) == pytest.approx((exact_ms, index_ms))
    assert search.by_index == pays
    assert search.index.recall_at_10 >= indexing.TARGET_RECALL


def test_an_index_that_misses_much_does_not_serve(exactly, tmp_path, monkeypatch):
    fake_clock(monkeypatch, 5, 1)
    monkeypatch.setattr(indexing, "TARGET_RECALL", 1.1)
    search = index_substitutes(exactly, tmp_path, seed=1).manifest.substitutes
    assert not search.by_index
    assert search.index.ef == indexing.EF_CANDIDATES[-1]


def test_an_older_bundle_without_index_is_searched_exactly():
    bundle = read_bundle(GOLDEN)
    assert (bundle.manifest.substitutes, bundle.in_index_path) == (None, None)
    assert len(Recommender(bundle).similar_items("tea", 3).rows) == 3


def test_a_single_product_needs_no_index(tmp_path):
    table, vectors = products_table(["tea"], {}, {}), np.ones((1, 4), np.float32)
    write(tmp_path / "bundle", table, vectors, vectors, np.array([9]))
    bundle = index_substitutes(read_bundle(tmp_path / "bundle"), tmp_path, seed=1)
    assert bundle.manifest.substitutes is None
    assert Recommender(bundle).similar_items("tea", 3).rows.tolist() == []


@pytest.fixture
def own(folder, tmp_path):
    write_bundle(serve_by_index(read_bundle(folder)), tmp_path / "own")
    return tmp_path / "own"


def test_a_damaged_index_is_named(own):
    content = bytearray((own / "in_vectors.hnsw").read_bytes())
    content[len(content) // 2] ^= 1
    (own / "in_vectors.hnsw").write_bytes(content)
    with pytest.raises(BundleError, match=r"in_vectors\.hnsw is damaged"):
        read_bundle(own)


@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_index_is_named(own, verify):
    (own / "in_vectors.hnsw").unlink()
    with pytest.raises(BundleError, match=r"in_vectors\.hnsw is missing"):
        read_bundle(own, verify=verify)


def test_an_index_that_the_manifest_does_not_know_and_nobody_has_is_named(own):
    manifest = json.loads((own / "bundle.json").read_text())
    del manifest["files"]["in_vectors.hnsw"]
    (own / "bundle.json").write_text(json.dumps(manifest))
    (own / "in_vectors.hnsw").unlink()
    with pytest.raises(BundleError, match=r"in_vectors\.hnsw is no index"):
        Recommender(read_bundle(own)).similar_items("p0", 3)


def test_an_index_that_is_cut_off_is_refused(own):
    content = (own / "in_vectors.hnsw").read_bytes()
    (own / "in_vectors.hnsw").write_bytes(content[: len(content) // 2])
    bundle = read_bundle(own, verify=False)
    with pytest.raises(BundleError, match=r"in_vectors\.hnsw is no index"):
        Recommender(bundle).similar_items("p0", 3)


def test_an_index_of_another_catalogue_is_refused(own, tmp_path):
    other = read_bundle(make_bundle(tmp_path / "other"))
    index_substitutes(other, own, seed=1)
    with pytest.raises(BundleError, match=r"has 8 products, bundle\.json says 1500"):
        Recommender(read_bundle(own, verify=False)).similar_items("p0", 3)
