"""A bundle is read as it was written, or not at all."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.baskets.weighting import BasketWeighting
from components.model import bundle as bundles
from components.model.bundle import (
    ARRAYS,
    OPTIONAL,
    REQUIRED,
    BundleError,
    compute_sha256,
    read_bundle,
    write_bundle,
)
from components.model.kinds import Kinds
from components.model.manifest import FORMAT_VERSION, READ_FORMATS
from components.model.recommender import Recommender
from components.model.seasons import Seasons
from components.model.sensitive_goods import SensitiveGoods
from components.model.verification import VERIFIED_FILE, verify_bundle
from components.ranking.chance import build_chance
from tests.factories import corpus_of, make_bundle

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle_format_1"


def test_a_bundle_reads_as_it_was_written(tmp_path):
    original = read_bundle(make_bundle(tmp_path / "original"))
    write_bundle(original, tmp_path / "copy")
    copy = read_bundle(tmp_path / "copy")
    assert copy.manifest == original.manifest
    assert copy.products.equals(original.products)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(copy, name), getattr(original, name))
        assert not getattr(copy, name).flags.writeable


def test_every_group_of_arrays_reads_as_it_was_written(tmp_path):
    original = read_bundle(GOLDEN)
    n_items, n_products = original.manifest.n_items, original.manifest.n_products
    original = replace(
        original,
        kinds=Kinds(np.arange(n_products, dtype=np.int32)),
        sensitive=SensitiveGoods(np.arange(n_products, dtype=np.int8)),
        seasons=Seasons(np.arange(n_items, dtype=np.uint32)),
        chance=build_chance(corpus_of([0, 1], [0, 1, 2]), original.pairs, BasketWeighting()),
    )
    write_bundle(original, tmp_path / "copy")
    copy = read_bundle(tmp_path / "copy")
    for kind in (*REQUIRED, *OPTIONAL):
        written, read = getattr(original, kind.prefix), getattr(copy, kind.prefix)
        for name, array in vars(written).items():
            np.testing.assert_array_equal(getattr(read, name), array)


def test_neighbours_of_another_catalogue_are_refused(tmp_path):
    wrong = tmp_path / "wrong"
    write_bundle(read_bundle(GOLDEN), wrong)
    offsets = np.load(wrong / "neighbours_offsets.npy")
    np.save(wrong / "neighbours_offsets.npy", offsets[:-1])
    with pytest.raises(BundleError, match=r"neighbours\.offsets"):
        read_bundle(wrong, verify=False)


def test_chance_of_another_catalogue_is_refused(tmp_path):
    original = read_bundle(GOLDEN)
    chance = build_chance(corpus_of([0, 1]), original.pairs, BasketWeighting())
    write_bundle(replace(original, chance=chance), tmp_path / "wrong")
    np.save(tmp_path / "wrong" / "chance_baskets.npy", chance.baskets[1:])
    with pytest.raises(BundleError, match=r"chance\.baskets"):
        read_bundle(tmp_path / "wrong", verify=False)


def test_a_required_file_that_the_manifest_does_not_know_is_named(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    (bundle / "pairs_rows.npy").unlink()
    files = json.loads((bundle / "bundle.json").read_text())["files"]
    del files["pairs_rows.npy"]
    edit_manifest(bundle, files=files)
    with pytest.raises(BundleError, match=r"pairs_rows\.npy is missing"):
        read_bundle(bundle)


def test_writing_replaces_an_older_bundle_as_a_whole(tmp_path):
    make_bundle(tmp_path / "bundle", with_index=True)
    make_bundle(tmp_path / "bundle", pairs=[("salt", "pepper")], cold={})
    assert read_bundle(tmp_path / "bundle").product_ids == ["salt", "pepper"]
    assert not (tmp_path / "bundle" / "index.hnsw").exists()
    assert names_in(tmp_path) == ["bundle"]


@pytest.mark.parametrize("name", ["in_vectors.npy", "products.arrow", "index.hnsw"])
def test_a_damaged_file_is_named(tmp_path, name):
    file = make_bundle(tmp_path / "bundle", with_index=True) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        read_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_file_is_named(tmp_path, verify):
    bundle = make_bundle(tmp_path / "bundle")
    (bundle / "n_orders.npy").unlink()
    with pytest.raises(BundleError, match=r"n_orders\.npy is missing"):
        read_bundle(bundle, verify=verify)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"holds no bundle\.json"):
        read_bundle(tmp_path / "nowhere")


def test_a_newer_format_asks_for_a_newer_fbt(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    edit_manifest(bundle, format_version=FORMAT_VERSION + 1)
    with pytest.raises(BundleError, match=f"has format {FORMAT_VERSION + 1}.*upgrade fbt"):
        read_bundle(bundle)


def test_a_field_of_a_newer_release_asks_for_a_newer_fbt(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    edit_manifest(bundle, cart_weights={"vectors": 1.0, "prices": 0.5}, voices=2)
    with pytest.raises(BundleError, match=r"has cart_weights\.prices, voices,.*upgrade fbt"):
        read_bundle(bundle)


@pytest.mark.parametrize("number", [0, -1])
def test_a_format_that_is_too_old_asks_for_training(tmp_path, number):
    bundle = make_bundle(tmp_path / "bundle")
    edit_manifest(bundle, format_version=number)
    with pytest.raises(BundleError, match=f"has format {number}, .*train again"):
        read_bundle(bundle)


def test_every_format_that_is_read_has_a_golden_bundle():
    folders = {int(one.name.rpartition("_")[2]) for one in GOLDEN.parent.glob("bundle_format_*")}
    assert folders == set(READ_FORMATS)
    for number in READ_FORMATS:
        golden = GOLDEN.with_name(f"bundle_format_{number}")
        answer = Recommender(read_bundle(golden)).recommend(["tea"], 1)
        assert len(answer.rows) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"format_version"', "{}", "\x00"])
def test_a_manifest_that_is_none_is_damaged(tmp_path, text):
    bundle = make_bundle(tmp_path / "bundle")
    (bundle / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match="is damaged"):
        read_bundle(bundle)


def test_a_manifest_that_is_not_text_is_damaged(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    (bundle / "bundle.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(BundleError, match="is damaged"):
        read_bundle(bundle)


@pytest.mark.parametrize("fact", [{"n_items": 3}, {"n_products": 3}, {"dims": 3}])
def test_arrays_that_do_not_fit_the_manifest_are_refused(tmp_path, fact):
    bundle = make_bundle(tmp_path / "bundle")
    edit_manifest(bundle, **fact)
    with pytest.raises(BundleError, match="expected"):
        read_bundle(bundle)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from components.model.bundle import read_bundle, write_bundle

bundle = read_bundle(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    write_bundle(bundle, Path(sys.argv[2]))
except OSError as error:
    sys.exit(f"refused: {error}")
"""
"""Writes a bundle in a process whose files cannot grow beyond a limit, as on a full disk."""


@pytest.mark.parametrize("limit", [0, 100, 300])
def test_a_full_disk_leaves_the_old_bundle_and_nothing_else(tmp_path, limit):
    new = make_bundle(tmp_path / "new", pairs=[("salt", "pepper")])
    target = make_bundle(tmp_path / "store" / "bundle")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, new, target, str(limit)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert names_in(tmp_path / "store") == ["bundle"]
    assert "tea" in read_bundle(target).product_ids


def test_the_golden_bundle_loads_and_answers():
    bundle = read_bundle(GOLDEN)
    assert bundle.manifest.format_version == FORMAT_VERSION == 1
    recommender = Recommender(bundle)
    for one, other in (("tea", "milk"), ("milk", "tea"), ("coffee", "sugar")):
        answer = recommender.recommend([one], 1)
        assert bundle.product_ids[answer.rows[0]] == other
    assert bundle.chance is None
    answer = recommender.recommend(["bread", "pasta", "tea"], 6)
    found = [bundle.product_ids[row] for row in answer.rows]
    assert found == ["milk", "butter", "pesto", "coffee"]


def edit_manifest(bundle: Path, **facts: object) -> None:
    file = bundle / "bundle.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **facts}))


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_a_bundle_that_was_whole_is_read_anew_only_where_it_changed(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    verify_bundle(bundle)
    hidden = bundle / "n_orders.npy"
    times = hidden.stat()
    hidden.write_bytes(hidden.read_bytes()[:-1] + b"\1")
    os.utime(hidden, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(BundleError, match=r"n_orders\.npy is damaged"):
        verify_bundle(bundle)
    with pytest.raises(BundleError, match=r"n_orders\.npy is damaged"):
        verify_bundle(bundle)
    hidden.unlink()
    with pytest.raises(BundleError, match=r"n_orders\.npy is missing"):
        verify_bundle(bundle)


def test_a_note_that_is_none_is_not_believed(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    verify_bundle(bundle)
    (bundle / VERIFIED_FILE).write_text("[")
    (bundle / "in_vectors.npy").write_bytes(b"")
    with pytest.raises(BundleError, match=r"in_vectors\.npy is damaged"):
        verify_bundle(bundle)


def test_a_whole_bundle_is_not_hashed_again(tmp_path, monkeypatch):
    bundle, hashed = make_bundle(tmp_path / "bundle"), []
    monkeypatch.setattr(
        bundles, "compute_sha256", lambda file: hashed.append(file) or compute_sha256(file)
    )
    verify_bundle(bundle)
    first = len(hashed)
    verify_bundle(bundle)
    assert len(hashed) == first > 10
    shutil.copytree(bundle, tmp_path / "copy")
    verify_bundle(tmp_path / "copy")
    assert len(hashed) == 2 * first
