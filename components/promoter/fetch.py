"""The init container of the service: fetches the bundle of one registered version.

By MLflow's HTTP API, so that the serving image needs no MLflow, and through its server, so that no
pod needs credentials of the artefact store.
"""

import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.error import HTTPError

from components.model.atomic import atomic_write
from components.model.bundle import BundleError, compute_sha256, read_bundle, read_manifest
from components.model.manifest import MANIFEST_FILE, Manifest
from components.model.verification import verify_bundle
from components.registry.rest import MlflowServer, connect_server, read_message
from components.signing.bundle import SIGNATURE_FILE, check_bundle_signature
from components.signing.keys import KeyConfigurationError, read_verify_keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

MODEL = "fbt"
BUNDLE_HASH_TAG = "fbt.bundle_sha256"
"""Both as in components.registry.registry, which the serving image does not carry."""

DAMAGED, UNAVAILABLE, MISCONFIGURED = 65, 69, 78
"""As in sysexits.h."""

RETRY_DELAYS_S = (1.0, 3.0, 9.0)
"""After them the kubelet retries."""


STORE_FAILURE = "Failed to list artifacts"
"""With it MLflow begins what it was told by its object store, with that one's status."""

LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
"""Of this pod's volume, not of the registry."""

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "": 1}
"""Of Kubernetes' quantities."""

T = TypeVar("T")


class RegistryUnavailable(RuntimeError):
    """A retry may succeed."""


class ConfigurationError(ValueError):
    """A variable of the pod is missing or invalid, or its volume too small."""


@dataclass(frozen=True)
class Registration:
    sha256: str
    """Of bundle.json; may be empty."""
    files: Mapping[str, int]
    """Bytes by name; 0 where the registry does not tell."""


@dataclass(frozen=True)
class Source:
    server: MlflowServer
    version: str
    model: str = MODEL
    verify_keys: "Mapping[str, EllipticCurvePublicKey]" = field(default_factory=dict)
    """By fingerprint. With any, the version has to be signed by one of them."""

    def read_registration(self) -> Registration:
        """Raises BundleError when there is no such version, or no bundle."""
        query = {"name": self.model, "version": self.version}
        record = self._ask("model-versions/get", query)["model_version"]
        tags = {tag["key"]: tag["value"] for tag in record.get("tags", [])}
        files = self.list_files(record["run_id"]) if record.get("run_id") else {}
        if MANIFEST_FILE not in files:
            raise BundleError(
                f"fetch: version {self.version} of {self.model!r} has no bundle in the registry at "
                f"{self.server.uri}; promote another version, or register this one again"
            )
        return Registration(tags.get(BUNDLE_HASH_TAG, ""), files)

    def list_files(self, run_id: str) -> dict[str, int]:
        sizes: dict[str, int] = {}
        token = ""
        while True:
            query = {"run_id": run_id, "path": "bundle"} | ({"page_token": token} if token else {})
            answer = self._ask("artifacts/list", query)
            for file in answer.get("files", []):
                sizes[file["path"].removeprefix("bundle/")] = int(file.get("file_size") or 0)
            token = answer.get("next_page_token", "")
            if not token:
                return sizes

    def download(self, name: str, target: Path) -> None:
        query = {"name": self.model, "version": self.version, "path": name}
        call = "/model-versions/get-artifact"
        with (
            self._explain(call, query),
            self.server.open("GET", call, query) as response,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(response, file, 2**20)
            found, expected = file.tell(), response.headers.get("Content-Length", "")
        # To Python, a broken connection is the end of the file.
        if expected.isdigit() and int(expected) != found:
            raise ConnectionError(f"{name} ended after {found} of {expected} bytes")

    def _ask(self, call: str, query: dict[str, str]) -> dict[str, Any]:
        with self._explain(call, query):
            return self.server.ask("GET", call, query)

    @contextmanager
    def _explain(self, call: str, query: dict[str, str]) -> Iterator[None]:
        """Raises BundleError for what is not there, ConnectionError for any other refusal."""
        try:
            yield
        except HTTPError as error:
            message = read_message(error)
            if error.code != 404 or message.startswith(STORE_FAILURE):
                raise ConnectionError(_describe_answer(call, error.code, message)) from None
            raise BundleError(
                f"fetch: version {self.version} of {self.model!r} has no {query.get('path', '')!r} "
                f"in the registry at {self.server.uri}; promote another version, or register "
                "this one again"
            ) from None


def fetch_bundle(source: Source, target: Path, max_bytes: int | None = None) -> Manifest:
    """Download the bundle to the directory `target`, unless it is there, and check every hash.

    Raises BundleError for a missing, damaged or wrongly signed bundle, ConfigurationError for one
    that is larger than `max_bytes` or the disk, and RegistryUnavailable.
    """
    registration = _retry(source, source.read_registration)
    if _is_complete(target, registration, source):
        return read_manifest(target)
    check_space(source, target, sum(registration.files.values()), max_bytes)
    with atomic_write(target) as aside:
        aside.mkdir(parents=True)
        for name in list_first_files(source, registration):
            _retry(source, partial(source.download, name, aside / name))
        manifest = read_registered_manifest(source, aside, registration)
        for name in manifest.files:
            _retry(source, partial(source.download, name, aside / name))
        verify_bundle(aside)
        read_bundle(aside, verify=False)
    return manifest


def find_bundle_problem(source: Source, scratch: Path) -> str:
    """Check the bundle by its list of files alone; an empty text is good.

    `scratch` is an existing folder. Raises RegistryUnavailable.
    """
    try:
        registration = source.read_registration()
        for name in list_first_files(source, registration):
            source.download(name, scratch / name)
        read_registered_manifest(source, scratch, registration)
    except BundleError as error:
        return str(error)
    except (OSError, HTTPException, ValueError, KeyError) as error:
        raise _to_unavailable(source, error) from error
    return ""


def list_first_files(source: Source, registration: Registration) -> list[str]:
    """Those that tell whether the others are worth fetching."""
    is_signed = SIGNATURE_FILE in registration.files
    return [MANIFEST_FILE, *([SIGNATURE_FILE] if source.verify_keys and is_signed else [])]


def read_registered_manifest(source: Source, folder: Path, registration: Registration) -> Manifest:
    """Raises BundleError unless it is the registered one, signed as `source` wants it, and all its
    files are in the registry."""
    recorded, found = registration.sha256, compute_sha256(folder / MANIFEST_FILE)
    if recorded and found != recorded:
        raise BundleError(
            f"fetch: bundle.json of version {source.version} has sha256 {found[:12]}…, its tag "
            f"{BUNDLE_HASH_TAG} says {recorded[:12]}…; register the version again"
        )
    if source.verify_keys:
        check_bundle_signature(folder, source.version, source.verify_keys)
    manifest = read_manifest(folder)
    missing = sorted(set(manifest.files) - set(registration.files))
    if missing:
        raise BundleError(
            f"fetch: the registry has no {', '.join(missing)} of version {source.version}, found "
            f"{sorted(registration.files)}; promote another version, or register this one again"
        )
    if strange := [name for name in manifest.files if Path(name).name != name]:
        raise BundleError(f"fetch: bundle.json of version {source.version} names {strange}")
    return manifest


def check_space(source: Source, target: Path, needed: int, max_bytes: int | None) -> None:
    """Raises ConfigurationError before a pod outgrows its emptyDir, which would evict it."""
    folder = next(one for one in target.absolute().parents if one.is_dir())
    title = f"fetch: the bundle of version {source.version} has {needed:,} bytes"
    if max_bytes is not None and needed > max_bytes:
        raise ConfigurationError(
            f"{title}, {folder} may hold {max_bytes:,} (FBT_BUNDLE_LIMIT); raise that and the "
            "sizeLimit of the volume `bundle`, or promote a smaller version"
        )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigurationError(
            f"{title}, the disk of {folder} {free:,} free; free some on the node, or promote a "
            "smaller version"
        )


def limit_from_environment() -> int | None:
    """Bytes; None for no limit. Raises ConfigurationError."""
    text = os.environ.get("FBT_BUNDLE_LIMIT", "")
    if not text:
        return None
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi|Ti|)", text)
    if not found:
        raise ConfigurationError(
            f"fetch: FBT_BUNDLE_LIMIT is {text!r}; expected the sizeLimit of the pod's volume, as "
            "in 4Gi"
        )
    return int(found[1]) * UNITS[found[2]]


def source_from_environment() -> tuple[Source, Path]:
    """Raises ConfigurationError or KeyConfigurationError."""
    names = ("FBT_MODEL_VERSION", "MLFLOW_TRACKING_URI", "FBT_BUNDLE")
    version, uri, target = (os.environ.get(name, "") for name in names)
    if not version:
        raise ConfigurationError(
            "fetch: FBT_MODEL_VERSION is empty, so no version is pinned to this pod yet; the "
            "promoter does that once the alias `champion` is set: `fbt promote VERSION`"
        )
    if not uri.startswith(("http://", "https://")) or not target:
        raise ConfigurationError(
            f"fetch: MLFLOW_TRACKING_URI is {uri!r} and FBT_BUNDLE {target!r}; expected the "
            "http(s) address of the MLflow server, and a directory"
        )
    return Source(connect_server(uri), version, verify_keys=read_verify_keys()), Path(target)


def main() -> int:
    try:
        source, target = source_from_environment()
        manifest = fetch_bundle(source, target, limit_from_environment())
    except (
        ConfigurationError, KeyConfigurationError, BundleError, RegistryUnavailable, OSError,
    ) as error:  # fmt: skip
        print(error, file=sys.stderr)
        if isinstance(error, ConfigurationError | KeyConfigurationError):
            return MISCONFIGURED
        return DAMAGED if isinstance(error, BundleError) else UNAVAILABLE
    recorded = "recorded, and signed" if source.verify_keys else "recorded"
    print(f"fetch: version {source.version}, {len(manifest.files)} files, every hash as {recorded}")
    return 0


def _is_complete(target: Path, registration: Registration, source: Source) -> bool:
    """Only a recorded hash can tell that an earlier try of the same pod has done it all."""
    try:
        if registration.sha256 != compute_sha256(target / MANIFEST_FILE):
            return False
        if source.verify_keys:
            check_bundle_signature(target, source.version, source.verify_keys)
        verify_bundle(target)
        read_bundle(target, verify=False)
    except (OSError, BundleError):
        return False
    return True


def _retry(source: Source, ask: Callable[[], T]) -> T:
    """Raises RegistryUnavailable after the last of RETRY_DELAYS_S."""
    for delay_s in (*RETRY_DELAYS_S, None):
        try:
            return ask()
        except BundleError:
            raise
        except (OSError, HTTPException, ValueError, KeyError) as error:
            if isinstance(error, OSError) and error.errno in LOCAL_ERRORS:
                raise ConfigurationError(
                    f"fetch: the bundle cannot be written ({error}); give the pod a writable "
                    "volume of enough size at FBT_BUNDLE"
                ) from error
            if delay_s is None:
                raise _to_unavailable(source, error) from error
        time.sleep(delay_s)
    raise AssertionError("unreachable")


def _describe_answer(call: str, code: int, message: str) -> str:
    hint = ""
    if code >= 500 or message.startswith(STORE_FAILURE):
        hint = (
            "; MLflow's object store is away, has no such bucket or refuses the keys of the Secret "
            "fbt-object-store: see MLflow's log"
        )
    elif code in (401, 403):
        hint = "; check MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD or the token"
    return f"{call} answered {code}: {message}{hint}"


def _to_unavailable(source: Source, error: Exception) -> RegistryUnavailable:
    return RegistryUnavailable(
        f"fetch: MLflow at {source.server.uri} cannot be reached or fails ({error}); the pods "
        "that serve go on serving, this one tries again"
    )


if __name__ == "__main__":
    sys.exit(main())
