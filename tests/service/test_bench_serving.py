"""The bench of the service: made-up bundles are whole, and all that it measures has a name."""

import asyncio
import json
import shutil

import numpy as np
import pytest

from components.model.bundle import read_bundle
from components.model.manifest import FORMAT_VERSION
from components.model.recommender import Recommender
from pipelines.cli import main
from tests.bench import serving, soak
from tests.bench.served import paced
from tests.bench.served.bundles import make_bundle, product_id
from tests.bench.served.questions import K, carts, singles

N_PRODUCTS = 1_000

FIGURES = {
    *("rps_vs_bare_c1", "rps_vs_bare_c16", "rps_vs_bare_c64"),
    *("rps_vs_stock_c16", "rps_vs_fastapi_c16", "p99_vs_p50_c16"),
    *("cart_rps_vs_bare_c16", "cart_cpu_vs_single", "cart_p99_ms_60"),
    *("latency_1m_vs_10k", "extra_worker_memory", "ready_vs_empty_1m", "cold_start_s"),
    *("rps_vs_diy_c16", "ndcg_vs_diy"),
}
"""Those that the issue names; the bench may tell more."""


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Benches of a test leave nothing behind."""
    monkeypatch.setenv("FBT_HOME", str(tmp_path / "home"))


needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A made-up bundle."""
    folder = tmp_path_factory.mktemp("made") / "bundle"
    make_bundle(folder, N_PRODUCTS)
    return read_bundle(folder)


def test_a_made_up_bundle_is_whole(made):
    assert made.manifest.format_version == FORMAT_VERSION
    assert made.manifest.n_items == N_PRODUCTS
    groups = (
        made.precomputed,
        made.variants,
    )
    assert None not in groups


def test_companions_are_distinct_and_never_the_product_itself(made):
    tables = [made.precomputed.rows.tolist()]
    for offsets, rows in (
        (made.pairs.offsets, made.pairs.rows),
        (made.neighbours.offsets, made.neighbours.rows),
    ):
        tables.append([part.tolist() for part in np.split(rows, offsets[1:-1])])
    for table in tables:
        assert len(table) == N_PRODUCTS
        for row, companions in enumerate(table):
            assert len(set(companions)) == len(companions)
            assert row not in companions
            assert all(0 <= one < N_PRODUCTS for one in companions)


def test_much_bought_products_have_more_companions(made):
    counts = np.diff(made.pairs.offsets)
    assert counts[0] == counts.max() == 200
    assert (np.diff(counts) <= 0).all()
    assert 30 <= counts.mean() <= 45


def test_a_cart_of_made_up_products_is_answered_in_full(made):
    found, _ = Recommender(made).rank([np.array([3, 14, 15, 92, 65], np.int32)], K)
    assert (found >= 0).all()


def test_the_same_seed_makes_the_same_bundle(made, tmp_path):
    assert make_bundle(tmp_path / "again", N_PRODUCTS).files == made.manifest.files


def test_questions_are_about_products_that_there_are():
    ids = {product_id(row) for row in range(N_PRODUCTS)}
    for questions, size in ((singles(N_PRODUCTS), 1), (carts(N_PRODUCTS), 5)):
        assert all(set(one["items"]) <= ids for one in questions[:500])
        assert all(len(set(one["items"])) == size for one in questions[:500])


async def answered(delay_s, answer, capsys, rate, seconds):
    """What a paced load of a small server reports."""

    async def talk(reader, writer):
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n{}")
                await asyncio.sleep(delay_s)
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await paced.pace(f"http://127.0.0.1:{port}/x", [b"{}"], rate, seconds, 10, seed=0)
    server.close()
    return json.loads(capsys.readouterr().out.splitlines()[-1])


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


def test_a_paced_load_keeps_its_rate_and_counts_what_is_refused(capsys):
    report = asyncio.run(answered(0.02, OK, capsys, rate=100, seconds=6))
    assert 500 <= report["requests"] <= 700
    assert report["errors"] == {}
    assert 20 <= report["p50_ms"] < 100
    report = asyncio.run(answered(0, BUSY, capsys, rate=100, seconds=1))
    assert report["requests"] == 0
    assert 60 <= report["errors"]["503"] <= 140


def test_a_soak_that_leaks_slows_down_or_fails_is_refused():
    good = {"soak_errors": 0, "soak_memory_growth": 0.01, "soak_p99_last_vs_first": 1.1}
    soak.check(good)
    for worse in (
        {"soak_errors": 1},
        {"soak_memory_growth": 0.03},
        {"soak_p99_last_vs_first": 2.0},
    ):
        with pytest.raises(RuntimeError, match=next(iter(worse))):
            soak.check(good | worse)


def test_without_wrk_it_says_where_it_comes_from(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit):
        main(["bench", "serving", "--quick"])
    assert "apt-get install wrk" in capsys.readouterr().err


@needs_wrk
@pytest.mark.timeout(900)
def test_the_bench_runs_and_names_every_figure(tmp_path):
    main(["bench", "serving", "--quick", "--json", str(tmp_path / "out.json")])
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["figures"].keys() >= FIGURES
    assert all(np.isfinite(value) for value in result["figures"].values())
    assert serving.format_rows(result["rows"]).count("\n\n") >= 6


@needs_wrk
@pytest.mark.timeout(300)
def test_a_soak_shows_a_row_an_interval(tmp_path, monkeypatch):
    # Tails of seconds on a machine that tests share prove nothing.
    monkeypatch.setattr(soak, "FLAT", 1e9)
    monkeypatch.setattr(soak, "MOST_GROWTH", 1.0)
    monkeypatch.setitem(soak.SETTINGS, "FBT_MAX_LAG_MS", "60000")
    options = ["--quick", "--minutes", "0.1", "--work", str(tmp_path)]
    main(["bench", "soak", *options, "--json", str(tmp_path / "out.json")])
    result = json.loads((tmp_path / "out.json").read_text())
    assert len(result["rows"]) >= 9
    assert result["rows"][-1]["changes"] > 0
