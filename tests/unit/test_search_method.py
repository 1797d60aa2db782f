"""Items are ranked exactly, among companions or by an index, whichever measured fastest."""

import itertools

import numpy as np
import pytest

from components.model import item_ranking
from components.model.bundle import read_bundle, write_bundle
from components.model.recommender import Recommender
from components.ranking import search_method as search
from components.ranking.search_method import choose_search_method
from tests.factories import make_large_bundle


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    return read_bundle(make_large_bundle(folder / "bundle", 400, dims=8, with_index=False))


def fake_clock(monkeypatch, exact_ms, index_ms):
    """A CPU clock with these milliseconds per item: exact alone first, then both in turn."""
    n_timed = min(400, search.BATCHES * search.BATCH)
    exact_s, index_s = (one * n_timed / 1000 for one in (exact_ms, index_ms))
    alone = itertools.repeat(exact_s, search.ROUNDS)
    rounds = itertools.chain(alone, itertools.cycle([exact_s, index_s]))
    ticks = itertools.chain.from_iterable((0.0, seconds) for seconds in rounds)
    monkeypatch.setattr(search.time, "process_time", lambda: next(ticks))


def test_a_small_catalogue_is_ranked_exactly_without_measurements(catalogue, tmp_path):
    found = choose_search_method(catalogue, 100, tmp_path, seed=1)
    assert found.manifest.index is None
    assert found.manifest.search is None
    assert list(tmp_path.iterdir()) == []


def test_no_index_is_built_where_building_takes_longer(catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "MIN_ITEMS", 400)
    fake_clock(monkeypatch, 0.9 * search.INDEX_BUILD_MS, 0.0)
    found = choose_search_method(catalogue, 100, tmp_path, seed=1).manifest
    assert (found.index, found.search.index_ms, found.search.tried) == (None, None, None)
    assert found.search.exact_ms == pytest.approx(0.9 * search.INDEX_BUILD_MS)
    assert list(tmp_path.iterdir()) == []


def test_a_slower_index_is_reported_and_not_kept(catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "MIN_ITEMS", 400)
    fake_clock(monkeypatch, 10, 11)
    found = choose_search_method(catalogue, 100, tmp_path, seed=1).manifest
    assert found.index is None
    assert (found.search.exact_ms, found.search.index_ms) == pytest.approx((10, 11))
    assert found.search.tried.recall_at_10 > 0.98
    assert list(tmp_path.iterdir()) == []


def test_a_faster_index_is_kept_and_finds_the_same(catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "MIN_ITEMS", 400)
    fake_clock(monkeypatch, 10, 7)
    found = choose_search_method(catalogue, 100, tmp_path, seed=1)
    assert found.manifest.index == found.manifest.search.tried
    write_bundle(found, tmp_path / "bundle")
    served = read_bundle(tmp_path / "bundle")
    assert served.manifest.search == found.manifest.search
    pages = [np.array([row], np.int32) for row in range(400)]
    exactly, _ = Recommender(catalogue).rank(pages, 10)
    by_index, _ = Recommender(served).rank(pages, 10)
    assert Recommender(served).items._index is not None
    assert (exactly == by_index).mean() > 0.95


@pytest.fixture
def clock_ticks_evenly(monkeypatch):
    """All search methods take equally long."""
    monkeypatch.setattr(search, "MIN_ITEMS", 400)
    monkeypatch.setattr(search, "MIN_ITEMS_COMPANIONS", 400)
    monkeypatch.setattr(search.time, "process_time", itertools.count(0, 10).__next__)


def test_companions_suffice_where_they_are_nearly_the_catalogue(
    catalogue, tmp_path, clock_ticks_evenly, monkeypatch
):
    monkeypatch.setattr(item_ranking, "MIN_BESTSELLERS", 400)
    found = choose_search_method(catalogue, 100, tmp_path, seed=1).manifest
    assert found.among_companions
    assert (found.index, found.search.tried) == (None, None)
    assert found.search_recall == found.search.companions_recall_at_10 == 1
    assert list(tmp_path.iterdir()) == []


def test_an_index_is_tried_where_companions_miss_much(
    catalogue, tmp_path, clock_ticks_evenly, monkeypatch
):
    monkeypatch.setattr(item_ranking, "MIN_BESTSELLERS", 5)
    found = choose_search_method(catalogue, 100, tmp_path, seed=1).manifest
    assert found.search.companions_recall_at_10 < 0.9, "only bestsellers are ranked"
    assert found.search.tried is not None
    assert not found.among_companions
    assert "search among companions, which finds" in found.search.describe()
