"""`fbt bundle-image`: a registered bundle as an image, for k8s/components/bundle-image."""

import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from components.model.bundle import compute_sha256
from components.model.manifest import MANIFEST_FILE, Manifest
from components.model.verification import VERIFIED_FILE
from components.promoter.fetch import (
    BUNDLE_HASH_TAG,
    Source,
    fetch_bundle,
)
from components.registry.registry import get_version
from components.registry.rest import connect_server
from pipelines.images import DEFAULT_REGISTRY, ImagesError, find_builder, repeat_option, run_builder

DOCKERFILE = """\
FROM scratch
COPY --chmod=755 model /model
"""
"""/model is where the pod's FBT_BUNDLE points to, below the mount."""


def build_bundle_image(
    version: str,
    registry: str = "",
    push: bool = False,
    extra: Sequence[str] = (),
    show: Callable[[str], None] = print,
) -> str:
    """The tag. `version` is a number or an alias; what is not as registered is refused.

    Raises RegistryError, BundleError, RegistryUnavailable and ImagesError.
    """
    if push and not registry:
        raise ImagesError("bundle-image: --push needs --registry, the place to push to")
    builder, uri = find_builder(), _read_tracking_uri()
    number = get_version(version).version
    source = Source(connect_server(uri), number)
    tag = f"{registry.rstrip('/') or DEFAULT_REGISTRY}/fbt-bundle:{number}"
    with tempfile.TemporaryDirectory(prefix="fbt-bundle-image-") as folder:
        context = Path(folder)
        manifest = fetch_bundle(source, context / "model")
        # Void elsewhere, and other for every copy.
        (context / "model" / VERIFIED_FILE).unlink(missing_ok=True)
        (context / "Dockerfile").write_text(DOCKERFILE)
        labels = list_labels(manifest, number, compute_sha256(context / "model" / MANIFEST_FILE))
        command = [builder, "build", "--tag", tag, *repeat_option("--label", labels)]
        run_builder([*command, *_date(builder, manifest), *extra, folder], show)
    if push:
        run_builder([builder, "push", tag], show)
    return tag


def list_labels(manifest: Manifest, version: str, sha256: str) -> dict[str, str]:
    return {
        "org.opencontainers.image.title": "fbt-bundle",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": manifest.git_revision or "unknown",
        "org.opencontainers.image.created": manifest.created_at,
        BUNDLE_HASH_TAG: sha256,
    }


def _date(builder: str, manifest: Manifest) -> list[str]:
    """Options by which the same bundle always becomes the same image."""
    time_s = int(datetime.fromisoformat(manifest.created_at).timestamp())
    if builder == "docker":
        return ["--build-arg", f"SOURCE_DATE_EPOCH={time_s}"]
    return ["--timestamp", str(time_s)]


def _read_tracking_uri() -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith(("http://", "https://")):
        raise ImagesError(
            f"bundle-image: MLFLOW_TRACKING_URI is {uri!r}, expected the http(s) address of the "
            "MLflow server that the cluster uses"
        )
    return uri
