"""The init container of the service: the bundle of one registered version, whole or not at all.

Speaks MLflow's HTTP API directly, so that the serving image needs no MLflow. The server hands the
files through, whatever store they lie in, and no pod needs that store's credentials.
"""

import base64
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from components.model.atomic import atomic_write
from components.model.bundle import (
    BundleError,
    Manifest,
    compute_sha256,
    read_bundle,
    read_manifest,
)
from components.model.verification import verify_bundle

MODEL = "fbt"
BUNDLE_HASH_TAG = "fbt.bundle_sha256"
"""Both as in components.registry.registry, which the serving image does not carry."""

DAMAGED, UNAVAILABLE, MISCONFIGURED = 65, 69, 78
"""Exit codes, as sysexits.h has them: bad data, service unavailable, bad configuration."""

TIMEOUT_S = 30.0
RETRY_DELAYS_S = (1.0, 3.0, 9.0)
"""Between tries while the registry is away; after them the kubelet goes on trying."""


class RegistryUnavailable(RuntimeError):
    """MLflow cannot be reached or fails: the same request may succeed later."""


class ConfigurationError(ValueError):
    """The pod does not say what to fetch, or from where."""


@dataclass(frozen=True)
class Source:
    """One registered version of an MLflow server, over HTTP."""

    tracking_uri: str
    version: str
    model: str = MODEL
    authorization: str = ""
    """The header, for a server that asks for a login."""

    def described(self) -> dict[str, Any]:
        """MLflow's record of the version. Raises BundleError when there is no such version."""
        query = {"name": self.model, "version": self.version}
        answer = self._json("/api/2.0/mlflow/model-versions/get", query)
        return dict(answer["model_version"])

    def files(self, run_id: str) -> set[str]:
        """Names below `bundle/` of the run that made the version."""
        names: set[str] = set()
        token = ""
        while True:
            query = {"run_id": run_id, "path": "bundle"} | ({"page_token": token} if token else {})
            answer = self._json("/api/2.0/mlflow/artifacts/list", query)
            names |= {one["path"].removeprefix("bundle/") for one in answer.get("files", [])}
            token = answer.get("next_page_token", "")
            if not token:
                return names

    def download(self, name: str, target: Path) -> None:
        """One file of the bundle to `target`."""
        query = {"name": self.model, "version": self.version, "path": name}
        with (
            self._open("/model-versions/get-artifact", query) as response,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(response, file, 2**20)
            found, expected = file.tell(), response.headers.get("Content-Length", "")
        # Python takes a connection that broke for the end of the file.
        if expected.isdigit() and int(expected) != found:
            raise ConnectionError(f"{name} ended after {found} of {expected} bytes")

    def _json(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        with self._open(path, query) as response:
            answer = json.load(response)
        if not isinstance(answer, dict):
            raise ValueError(f"answered {path} with {type(answer).__name__}")
        return answer

    def _open(self, path: str, query: dict[str, str]) -> Any:
        url = f"{self.tracking_uri.rstrip('/')}{path}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url)
        if self.authorization:
            request.add_header("Authorization", self.authorization)
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            raise BundleError(
                f"fetch: version {self.version} of {self.model!r} has no {query.get('path', '')!r} "
                f"in the registry at {self.tracking_uri}; promote another version, or register "
                "this one again"
            ) from None


def fetch_bundle(source: Source, target: Path) -> Manifest:
    """Bring the version's bundle to the directory `target` and check every hash.

    A whole bundle of this version that is there already stays. Raises BundleError when the
    registry's bundle is missing or damaged, RegistryAway when it cannot be reached.
    """
    described, names = _retry(source, lambda: _read_version(source))
    if _is_complete(target, described):
        return read_manifest(target)
    with atomic_write(target) as aside:
        aside.mkdir(parents=True)
        _retry(source, lambda: source.download("bundle.json", aside / "bundle.json"))
        manifest = read_registered_manifest(source, aside, described, names)
        for name in manifest.files:
            _retry(source, partial(source.download, name, aside / name))
        verify_bundle(aside)
        read_bundle(aside, verify=False)
    return manifest


def find_bundle_problem(source: Source, scratch: Path) -> str:
    """Why the version's bundle cannot be served, as far as its list of files tells; or nothing.

    `scratch` is an existing folder. Raises RegistryAway.
    """
    try:
        described, names = _read_version(source)
        source.download("bundle.json", scratch / "bundle.json")
        read_registered_manifest(source, scratch, described, names)
    except BundleError as error:
        return str(error)
    except (OSError, HTTPException, ValueError, KeyError) as error:
        raise _to_unavailable(source, error) from error
    return ""


def read_registered_manifest(
    source: Source, folder: Path, described: dict[str, Any], names: set[str]
) -> Manifest:
    """bundle.json in `folder`, if it is the registered one and all its files are in the registry.

    Raises BundleError.
    """
    recorded = _recorded_hash(described)
    found = compute_sha256(folder / "bundle.json")
    if recorded and found != recorded:
        raise BundleError(
            f"fetch: bundle.json of version {source.version} has sha256 {found[:12]}…, its tag "
            f"{BUNDLE_HASH_TAG} says {recorded[:12]}…; register the version again"
        )
    manifest = read_manifest(folder)
    missing = sorted(set(manifest.files) - names)
    if missing:
        raise BundleError(
            f"fetch: the registry has no {', '.join(missing)} of version {source.version}, found "
            f"{sorted(names)}; promote another version, or register this one again"
        )
    if strange := [name for name in manifest.files if Path(name).name != name]:
        raise BundleError(f"fetch: bundle.json of version {source.version} names {strange}")
    return manifest


def source_from_environment() -> tuple[Source, Path]:
    """What the pod's variables ask for: a version, and the directory it goes to.

    Raises ConfigurationError.
    """
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
    return Source(uri, version, authorization=authorization_from_environment()), Path(target)


def authorization_from_environment() -> str:
    """The Authorization header by MLflow's own variables, or nothing."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return f"Bearer {token}"
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not user:
        return ""
    login = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
    return "Basic " + base64.b64encode(login.encode()).decode()


def main() -> int:
    """The command: the exit code says whether trying again can help."""
    try:
        source, target = source_from_environment()
        manifest = fetch_bundle(source, target)
    except ConfigurationError as error:
        return _fail(error, MISCONFIGURED)
    except BundleError as error:
        return _fail(error, DAMAGED)
    except (RegistryUnavailable, OSError) as error:
        return _fail(error, UNAVAILABLE)
    print(f"fetch: version {source.version}, {len(manifest.files)} files, every hash as recorded")
    return 0


def _fail(error: Exception, code: int) -> int:
    print(error, file=sys.stderr)
    return code


def _read_version(source: Source) -> tuple[dict[str, Any], set[str]]:
    described = source.described()
    run_id = described.get("run_id", "")
    names = source.files(run_id) if run_id else set()
    if "bundle.json" not in names:
        raise BundleError(
            f"fetch: version {source.version} of {source.model!r} has no bundle in the registry at "
            f"{source.tracking_uri}; promote another version, or register this one again"
        )
    return described, names


def _recorded_hash(described: dict[str, Any]) -> str:
    tags = {tag["key"]: tag["value"] for tag in described.get("tags", [])}
    return str(tags.get(BUNDLE_HASH_TAG, ""))


def _is_complete(target: Path, described: dict[str, Any]) -> bool:
    """Whether an earlier try of the same pod has done it all; only a recorded hash can tell."""
    recorded = _recorded_hash(described)
    try:
        if not recorded or compute_sha256(target / "bundle.json") != recorded:
            return False
        verify_bundle(target)
        read_bundle(target, verify=False)
    except (OSError, BundleError):
        return False
    return True


def _retry(source: Source, ask: Callable[[], Any]) -> Any:
    """What `ask` returns, asked again while the registry is away. Raises RegistryAway."""
    for pause in (*RETRY_DELAYS_S, None):
        try:
            return ask()
        except BundleError:
            raise
        except (OSError, HTTPException, ValueError, KeyError) as error:
            if pause is None:
                raise _to_unavailable(source, error) from error
        time.sleep(pause)
    raise AssertionError("unreachable")


def _to_unavailable(source: Source, error: Exception) -> RegistryUnavailable:
    return RegistryUnavailable(
        f"fetch: MLflow at {source.tracking_uri} cannot be reached or fails ({error}); the pods "
        "that serve go on serving, this one tries again"
    )


if __name__ == "__main__":
    sys.exit(main())
