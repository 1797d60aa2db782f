"""Bundles of registered versions on this machine: fetched once, checked once, the oldest removed.

A file that another version has too is linked, not fetched: it takes disk and memory once.
"""

import os
import shutil
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from components.model.atomic import atomic_write
from components.model.bundle import BundleError, check_file, compute_sha256, read_manifest
from components.model.manifest import MANIFEST_FILE
from components.model.verification import verify_bundle
from components.registry.downloads import download_file, list_files
from components.registry.registry import BUNDLE_HASH_TAG, Version
from components.signing.bundle import SIGNATURE_FILE, check_bundle_signature
from components.signing.keys import read_verify_keys

MAX_BUNDLES = 8
MAX_BYTES = 40 * 10**9
"""Of all bundles together; those that are open stay whatever they take."""


N_DOWNLOADS = 4
"""Files at once: the registry takes its time for each."""


class VersionUnavailable(RuntimeError):
    """The version's bundle is missing or damaged; the message says what to do."""


@dataclass
class Progress:
    """Bytes of a bundle; both 0 before its files are known."""

    done: int = 0
    total: int = 0


class BundleCache:
    """Thread-safe for different versions; callers take care that one is fetched once at a time."""

    def __init__(
        self, folder: Path, max_bundles: int = MAX_BUNDLES, max_bytes: int = MAX_BYTES
    ) -> None:
        self._folder, self._max_bundles, self._max_bytes = folder, max_bundles, max_bytes
        self._changing = threading.Lock()

    def find(self, number: str) -> Path | None:
        """The folder of a version that was fetched before, as it is."""
        folder = self._folder / number
        return folder if (folder / MANIFEST_FILE).is_file() else None

    def fetch(self, version: Version, progress: Progress, in_use: Collection[str]) -> Path:
        """The folder of a whole bundle with the right hashes, from here or from the registry.

        Raises VersionUnavailable, RegistryError, KeyConfigurationError, and BundleError for a
        signature that is missing or wrong.
        """
        folder = self._folder / version.version
        if not self._is_whole(folder, version):
            self._download(version, folder, progress)
            self._share_files(folder)
        os.utime(folder)
        self._remove_oldest({*in_use, version.version})
        return folder

    def _is_whole(self, folder: Path, version: Version) -> bool:
        """False also for the bundle of another registry's version of this number."""
        expected = version.tags.get(BUNDLE_HASH_TAG)
        try:
            if expected and expected != compute_sha256(folder / MANIFEST_FILE):
                return False
            check_signature(folder, version.version)
            verify_bundle(folder)
        except (BundleError, FileNotFoundError):
            return False
        return True

    def _download(self, version: Version, folder: Path, progress: Progress) -> None:
        number, run_id = version.version, version.run_id
        files = list_files(run_id, "bundle") if run_id else {}
        sizes = {Path(path).name: size for path, size in files.items()}
        if MANIFEST_FILE not in sizes:
            raise VersionUnavailable(
                f"version {number}: its run has no bundle in the registry, expected "
                f"bundle/{MANIFEST_FILE}; train the version again, or take another one"
            )
        progress.done = sizes[MANIFEST_FILE] + sizes.get(SIGNATURE_FILE, 0)
        progress.total = sum(sizes.values())
        try:
            with atomic_write(folder) as aside:
                aside.mkdir(parents=True)
                download_file(run_id, f"bundle/{MANIFEST_FILE}", aside)
                if f"bundle/{SIGNATURE_FILE}" in files:
                    download_file(run_id, f"bundle/{SIGNATURE_FILE}", aside)
                check_signature(aside, number)
                self._fill(aside, version, sizes, progress)
        except OSError as error:
            raise VersionUnavailable(
                f"version {number}: its bundle of {progress.total / 1e6:,.0f} MB cannot be kept in "
                f"{self._folder} ({error.strerror or error}); make room there, or set "
                "FBT_WORKBENCH_CACHE to another folder"
            ) from None

    def _fill(
        self, aside: Path, version: Version, sizes: dict[str, int], progress: Progress
    ) -> None:
        try:
            check_file(aside / MANIFEST_FILE, version.tags.get(BUNDLE_HASH_TAG))
            known = self._list_known_files()
            wanted = read_manifest(aside).files.items()

            def bring(file: tuple[str, str]) -> None:
                name, _ = file
                if not _link(known.get(file), aside / name) and name in sizes:
                    download_file(version.run_id, f"bundle/{name}", aside)
                progress.done += sizes.get(name, 0)

            with ThreadPoolExecutor(N_DOWNLOADS) as pool:
                list(pool.map(bring, wanted))
            verify_bundle(aside)
        except BundleError as error:
            raise VersionUnavailable(_describe_damage(version.version, error, aside)) from None

    def _share_files(self, folder: Path) -> None:
        """Of a version that was fetched at the same time, too."""
        with self._changing:
            known = self._list_known_files(without=folder)
            for name, expected in read_manifest(folder).files.items():
                other = known.get((name, expected))
                if other is not None and not other.samefile(folder / name):
                    with suppress(OSError), atomic_write(folder / name) as aside:
                        os.link(other, aside)

    def _list_known_files(self, without: Path | None = None) -> dict[tuple[str, str], Path]:
        """By name and hash, of the bundles that are here."""
        known = {}
        for folder in self._list_folders():
            if folder == without:
                continue
            try:
                files = read_manifest(folder).files
            except (BundleError, OSError):
                continue
            known.update({(name, sha): folder / name for name, sha in files.items()})
        return known

    def _list_folders(self) -> list[Path]:
        """Those used last come last."""
        folders = [one for one in self._folder.glob("[0-9]*") if (one / MANIFEST_FILE).is_file()]
        return sorted(folders, key=lambda one: one.stat().st_mtime)

    def _remove_oldest(self, in_use: Collection[str]) -> None:
        with self._changing:
            folders = self._list_folders()
            sizes = {one: sum(f.stat().st_size for f in one.iterdir()) for one in folders}
            for folder in folders:
                is_full = len(sizes) > self._max_bundles or sum(sizes.values()) > self._max_bytes
                if is_full and folder.name not in in_use:
                    shutil.rmtree(folder, ignore_errors=True)
                    del sizes[folder]


def check_signature(folder: Path, number: str) -> None:
    """Nothing where no keys to verify by are set. Raises BundleError or KeyConfigurationError."""
    if keys := read_verify_keys():
        check_bundle_signature(folder, number, keys)


def _describe_damage(number: str, error: BundleError, folder: Path) -> str:
    reason = str(error).replace(f"{folder}/", "").replace(f" in {folder}", "")
    reason = reason.removesuffix("; fetch the version again")
    return (
        f"version {number} cannot be opened: {reason}. It was fetched just now, so the registry's "
        "own copy is damaged: train and register it again, or take another version"
    )


def _link(known: Path | None, target: Path) -> bool:
    """Whether there is such a file, and the file system can link it."""
    if known is None:
        return False
    try:
        os.link(known, target)
    except OSError:
        return False
    return True
