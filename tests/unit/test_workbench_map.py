"""The map: positions on a plane, evidence of pairs, and what the browser gets."""

import gzip
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.testclient import TestClient

from bento.workbench import views
from bento.workbench.app import build_app
from bento.workbench.mapping.categories import Categories, find_centres
from bento.workbench.mapping.evidence import find_evidence
from bento.workbench.mapping.jobs import TsneJobs
from bento.workbench.mapping.maps import Maps
from bento.workbench.mapping.plane import (
    SIDE,
    normalize_rows,
    project_pca,
    project_tsne,
    to_whole_numbers,
)
from bento.workbench.server import build_workbench
from bento.workbench.settings import WorkbenchSettings
from bento.workbench.versions import LoadedVersions
from components.model.bundle import Pairs
from components.model.chance import Chance
from components.registry.registry import register
from tests.factories import make_bundle, products_table, random_bundle, write

STYLES = Path(views.__file__).parents[1] / "static" / "map.css"


# ---------------------------------------------------------------- positions


def two_groups(n=20, dims=8):
    """n vectors around each of two opposite corners."""
    rng = np.random.default_rng(0)
    middle = np.repeat([[5.0] * dims, [-5.0] * dims], n, axis=0)
    return normalize_rows(middle + rng.normal(size=middle.shape))


@pytest.mark.parametrize("project", [project_pca, lambda given: project_tsne(given, print)])
def test_alike_products_are_near_and_others_far(project):
    points = project(two_groups())
    first, second = points[:20], points[20:]
    spread = max(np.ptp(first, axis=0).max(), np.ptp(second, axis=0).max())
    assert np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)) > spread


def test_tsne_shows_its_progress_up_to_the_end():
    shown = []
    project_tsne(two_groups(), shown.append)
    assert shown == sorted(shown)
    assert shown[-1] == 1


@pytest.mark.parametrize("n", [1, 2, 50])
def test_products_with_equal_vectors_do_not_hide_each_other(n):
    points = to_whole_numbers(project_pca(np.ones((n, 4), np.float32)))
    assert len(np.unique(points, axis=0)) == n


@pytest.mark.parametrize("n_products", [1, 2, 3])
@pytest.mark.parametrize("dims", [1, 2, 5])
def test_few_products_and_few_dimensions_have_positions(n_products, dims):
    vectors = np.eye(n_products, dims, dtype=np.float32) - 0.5
    points = to_whole_numbers(project_pca(normalize_rows(vectors)))
    assert points.shape == (n_products, 2)
    assert points.dtype == np.uint16


def test_vectors_of_zeros_have_a_position():
    assert np.isfinite(project_pca(normalize_rows(np.zeros((3, 4), np.float32)))).all()


def test_positions_fill_the_square_and_keep_their_proportions():
    points = to_whole_numbers(np.array([[0, 0], [4, 1], [2, 2]], np.float32))
    assert points[:, 0].tolist() == [0, SIDE, pytest.approx(SIDE / 2, abs=1)]
    assert np.ptp(points[:, 1].astype(int)) == pytest.approx(SIDE / 2, abs=1)


def test_the_centre_of_a_category_in_two_parts_is_in_its_larger_part():
    positions = np.array([[100, 100]] * 3 + [[60_000, 60_000]] * 5 + [[30_000, 0]], np.uint16)
    codes = np.array([1] * 8 + [0], np.uint16)
    centres = find_centres(positions, Categories(["milk"], [8], codes))
    assert centres.tolist() == [[60_000, 60_000]]


def test_without_categories_there_are_no_centres():
    positions, codes = np.zeros((3, 2), np.uint16), np.zeros(3, np.uint16)
    assert find_centres(positions, Categories([], [], codes)).shape == (0, 2)


# ---------------------------------------------------------------- t-SNE in the background


def wait_for(find, timeout_s=120):
    end = time.monotonic() + timeout_s
    while not (found := find()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


def test_a_layout_is_computed_by_a_process_of_its_own_and_kept(tmp_path):
    jobs = TsneJobs(tmp_path, 0)
    assert jobs.read_result("key") is None
    jobs.start("key", two_groups())
    wait_for(lambda: jobs.read_result("key") is not None or jobs.get_job("key").failure)
    positions = TsneJobs(tmp_path, 0).read_result("key")
    assert positions.shape == (40, 2)
    assert np.ptp(positions.astype(int), axis=0).max() == SIDE
    wait_for(lambda: [one.name for one in tmp_path.iterdir()] == ["tsne-key.npy"])


def test_a_failure_is_told(tmp_path):
    jobs = TsneJobs(tmp_path, 0)
    jobs.start("key", np.full((9, 2), np.nan, np.float32))
    assert wait_for(lambda: jobs.get_job("key").failure)


def test_a_missing_package_is_told(tmp_path, monkeypatch):
    (tmp_path / "openTSNE.py").write_text("raise ImportError('no openTSNE here')")
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))
    jobs = TsneJobs(tmp_path / "maps", 0)
    jobs.start("key", two_groups())
    assert "no openTSNE here" in wait_for(lambda: jobs.get_job("key").failure)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    jobs = TsneJobs(tmp_path / "file" / "maps", 0)
    jobs.start("key", two_groups())
    assert wait_for(lambda: jobs.get_job("key").failure)


def test_a_damaged_result_is_computed_again(tmp_path):
    (tmp_path / "tsne-key.npy").write_bytes(b"damaged")
    assert TsneJobs(tmp_path, 0).read_result("key") is None


def test_stopping_ends_the_process(tmp_path):
    jobs = TsneJobs(tmp_path, 0)
    jobs.start("key", np.random.default_rng(0).normal(size=(3_000, 64)))
    process = wait_for(lambda: jobs._process)
    jobs.stop()
    process.wait(timeout=10)
    wait_for(lambda: not list(tmp_path.iterdir()))


# ---------------------------------------------------------------- evidence


@pytest.fixture
def counted():
    """Products 0 and 1 share 30 baskets; half of all lines are product 1; 0 is in 40 baskets."""
    bundle = random_bundle(0, n_items=3, silent=0)
    pairs = Pairs(
        np.array([0, 1, 1, 1], np.int64), np.array([1], np.int32),
        np.array([30], np.int32), np.array([0.5], np.float32),
    )  # fmt: skip
    chance = Chance(
        np.array([0.25, 0.5, 0.25], np.float32), np.array([1], np.float32),
        np.array([[40], [30], [8]], np.float32), np.array([0.1], np.float32),
    )  # fmt: skip
    return replace(bundle, pairs=pairs, chance=chance)


def test_the_evidence_of_a_pair(counted):
    found = find_evidence(counted, 0, 1)
    assert found.together == 30
    assert found.expected == pytest.approx(20)
    assert found.times_more_often == pytest.approx(1.5)


def test_the_evidence_is_found_from_the_other_end(counted):
    assert find_evidence(counted, 1, 0).together == 30


def test_a_pair_that_was_not_counted_is_unknown(counted):
    found = find_evidence(counted, 0, 2)
    assert found.together is None
    assert found.times_more_often is None
    assert found.expected == pytest.approx(10)


def test_bundles_of_before_know_no_chance(counted):
    found = find_evidence(replace(counted, chance=None), 0, 1)
    assert found.together == 30
    assert found.expected is None


# ---------------------------------------------------------------- pages


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """A workbench whose registry has a version with eight products in four categories."""
    folder = tmp_path_factory.mktemp("map")
    registry = f"sqlite:///{folder / 'mlflow.db'}"
    names = {**dict.fromkeys(("tea", "milk"), "<b>drinks</b>"), "coffee": "drinks & more"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", registry)
        patch.chdir(folder)
        bundle = make_bundle(folder / "bundle", categories=names)
        version = register({"bundle": bundle}, {}, {}, {})
        url = f"sqlite:///{folder / 'fbt.db'}"
        workbench = replace(
            build_workbench(WorkbenchSettings(), folder),
            versions=LoadedVersions(folder / "versions", url, 2, patience_s=60),
            maps=Maps(folder / "maps", niceness=0),
        )
        with TestClient(build_app(workbench), base_url="http://127.0.0.1") as client:
            yield SimpleNamespace(client=client, version=version, workbench=workbench)


def get(app, path, status=200, **fields):
    response = app.client.get(path, params={"version": app.version, **fields})
    assert response.status_code == status, response.text
    return response


def test_the_page_shows_categories_and_products_without_javascript(app):
    page = get(app, "/map").text
    assert "Map of 8 products" in page
    assert "&lt;b&gt;drinks&lt;/b&gt;" in page
    assert "<b>drinks" not in page
    assert "Pesto, the good one" in page


def test_points_come_with_positions_and_category_codes(app):
    response = get(app, "/map/points")
    x, y, codes = np.frombuffer(response.content, "<u2").reshape(3, 8)
    assert max(np.ptp(x.astype(int)), np.ptp(y.astype(int))) == SIDE
    assert codes.tolist() == [1, 1, 2, 0, 0, 0, 0, 0]
    categories = get(app, "/map/categories").json()
    assert [(one["name"], one["n"]) for one in categories] == [
        ("<b>drinks</b>", 2),
        ("drinks & more", 1),
    ]


def test_points_are_sent_again_only_if_they_changed(app):
    wait_for(lambda: get(app, "/map/state").json()["layout"] == "tsne")
    tag = get(app, "/map/points").headers["etag"]
    response = app.client.get(
        "/map/points", params={"version": app.version}, headers={"if-none-match": tag}
    )
    assert response.status_code == 304


def test_a_browser_without_gzip_gets_the_points_too(app):
    with app.client.stream(
        "GET", "/map/points", params={"version": app.version}, headers={"accept-encoding": ""}
    ) as response:
        raw = b"".join(response.iter_raw())
    assert len(raw) == 8 * 6 or len(gzip.decompress(raw)) == 8 * 6


def test_the_better_layout_replaces_the_first(app):
    wait_for(lambda: get(app, "/map/state").json()["layout"] == "tsne")
    assert get(app, "/map/points").headers["x-layout"] == "tsne"
    assert get(app, "/map/state").json()["share"] is None


def test_search_finds_products_with_typos(app):
    assert 'data-value="coffee"' in get(app, "/map/options", q="coffe").text
    assert "Nothing on the map is like" in get(app, "/map/options", q="zzzz").text
    assert 'role="option"' not in get(app, "/map/options", q="rye bread").text


def test_names_by_rows(app):
    assert get(app, "/map/names", rows="1,0").json() == [
        [1, "milk", "Milk, the good one"],
        [0, "tea", "Tea, the good one"],
    ]


@pytest.mark.parametrize("rows", ["8", "-1", "x", ",".join(["0"] * 201)])
def test_wrong_rows_are_refused(app, rows):
    assert "expected up to 200 numbers below 8" in get(app, "/map/names", 422, rows=rows).text


def test_a_product_is_shown_with_its_companions(app):
    panel = get(app, "/map", **{"from": "tea"}).text
    assert 'data-from="tea"' in panel
    assert re.search(r'data-row="1">\s*<td><a href="[^"]*from=tea&amp;to=milk"', panel)


def test_two_products_are_shown_with_their_evidence(app):
    panel = get(app, "/map/panel", **{"from": "tea", "to": "Pesto"}).text
    assert 'data-from-row="0"' in panel
    assert 'data-to-row="7"' in panel
    assert "Not counted" in panel


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"from": "rye bread"}, "not on the map"),
        ({"from": "zzzz"}, "no product on the map is like"),
        ({"to": "tea"}, "first product"),
        ({"from": "<script>x"}, "&lt;script&gt;"),
        ({}, "Click a product"),
    ],
)
def test_what_cannot_be_shown_is_said(app, fields, expected):
    assert expected in get(app, "/map/panel", **fields).text


def test_the_list_of_a_category(app):
    page = get(app, "/map", category="drinks & more").text
    assert "Coffee, the good one" in page
    assert "Tea, the good one" not in page


@pytest.mark.parametrize("page", ["0", "x", "²", "99999999999"])
def test_a_wrong_page_is_refused(app, page):
    assert "whole number from 1" in get(app, "/map", 422, page=page).text


def test_a_page_behind_the_last_is_empty(app):
    assert "No products here" in get(app, "/map", page="9").text


def test_an_unknown_version_is_said(app):
    assert "expected one of" in get(app, "/map", 404, version="77").text


def test_without_a_champion_the_newest_version_is_shown(app):
    newest = max(app.client.get("/map").text.split('<option value="')[1:])
    assert re.match(r"\d+\" selected", newest)


def register_equal_products(folder, n):
    """A version of n products with equal vectors and without categories."""
    ids = [f"product {i}" for i in range(n)]
    vectors, n_orders = np.ones((n, 4), np.float32), np.full(n, 5)
    bundle = write(folder / "bundle", products_table(ids, {}, {}), vectors, vectors, n_orders)
    return register({"bundle": bundle}, {}, {}, {})


@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_shop_with_few_or_equal_products_has_a_map(app, tmp_path, n):
    version = register_equal_products(tmp_path, n)
    page = app.client.get("/map", params={"version": version, "from": "product 0"})
    assert page.status_code == 200
    assert f"Map of {n} products" in page.text
    assert "Layout: PCA" in page.text
    points = app.client.get("/map/points", params={"version": version})
    assert len(points.content) == 6 * n
    assert app.client.get("/map/categories", params={"version": version}).json() == []


# ---------------------------------------------------------------- colours

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SIGHT = {
    "all": np.eye(3),
    "no red cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def read_colours():
    """Linear RGB of the ten hues and grey, in light and in dark."""
    found = re.findall(r"--c(\d+): #(\w{6})", STYLES.read_text())
    values = np.array([[int(hex_[i : i + 2], 16) for i in (0, 2, 4)] for _, hex_ in found]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    assert linear.shape == (22, 3)
    return {"light": linear[:11], "dark": linear[11:]}


def to_oklab(linear):
    """Ottosson 2020: distances are about those that people see."""
    lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(np.clip(linear, 0, 1) @ np.transpose(lms)) @ np.transpose(lab)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_categories_stay_apart(scheme, sight):
    seen = to_oklab(read_colours()[scheme] @ np.transpose(SIGHT[sight]))
    distances = np.linalg.norm(seen[:, None] - seen, axis=-1)
    assert distances[np.triu_indices(len(seen), 1)].min() > 0.09


@pytest.mark.parametrize(("scheme", "sheet"), [("light", 1.0), ("dark", 0.0137)])
def test_colours_of_categories_stand_out_from_the_ground(scheme, sheet):
    luminance = read_colours()[scheme] @ [0.2126, 0.7152, 0.0722]
    high, low = np.maximum(luminance, sheet), np.minimum(luminance, sheet)
    assert ((high + 0.05) / (low + 0.05)).min() > 2.5
