"""Signatures of registered versions, kept beside what they sign in the run's artefacts."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.model.bundle import BundleError, compute_sha256
from components.model.manifest import MANIFEST_FILE
from components.model.verification import verify_bundle
from components.registry import registry
from components.registry.downloads import download_file, list_files
from components.registry.registry import (
    BENTO_TAG,
    BUNDLE_HASH_TAG,
    RegistryError,
    Version,
    fetch_artifact,
    get_version,
    name_archive,
    registry_client,
)
from components.signing.bundle import (
    SIGNATURE_FILE,
    check_archive_signature,
    check_bundle_signature,
    sign_archive,
    sign_bundle,
)
from components.signing.keys import (
    SIGNING_KEY,
    KeyConfigurationError,
    compute_fingerprint,
    read_signing_key,
    read_verify_keys,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

SIGNED_TAG = "fbt.signed_by"
"""Fingerprint of the key. For people: whoever verifies reads the signature."""


def sign_artefacts(bundle: Path, folder: Path) -> tuple[Mapping[str, Path], Mapping[str, str]]:
    """What a version has beside its bundle, made in `folder`, and its tags: nothing without a key.

    Raises KeyConfigurationError.
    """
    key = read_signing_key()
    if key is None:
        return {}, {}
    signature = folder / SIGNATURE_FILE
    signature.write_text(sign_bundle(bundle, key))
    tags = {SIGNED_TAG: compute_fingerprint(key.public_key())}
    return {f"bundle/{SIGNATURE_FILE}": signature}, tags


def sign_version(version: str) -> str:
    """Sign a registered version as it is, Bento included; the fingerprint of the key.

    Raises KeyConfigurationError without a key, BundleError for a bundle other than the recorded
    one, and RegistryError.
    """
    key = read_signing_key()
    if key is None:
        raise KeyConfigurationError(
            f"sign: neither {SIGNING_KEY} nor {SIGNING_KEY}_FILE is set; name the private key"
        )
    found = get_version(version)
    with tempfile.TemporaryDirectory(prefix="fbt-sign-") as scratch:
        _sign_registered_bundle(found, Path(scratch), key)
        if tag := found.tags.get(BENTO_TAG):
            _sign_registered_archive(found, name_archive(tag), Path(scratch), key)
    fingerprint = compute_fingerprint(key.public_key())
    with registry_client() as client:
        client.set_model_version_tag(registry.MODEL, found.version, SIGNED_TAG, fingerprint)
    return fingerprint


def attach_archive_signature(version: str, archive: Path, bento_tag: str) -> None:
    """Nothing without a key. Raises KeyConfigurationError or RegistryError."""
    key = read_signing_key()
    if key is not None:
        text = sign_archive(archive, name_archive(bento_tag), key)
        _attach(get_version(version).run_id, "bento", text)


def fetch_bundle(version: str, target: Path) -> None:
    """Download the whole bundle and, where keys to verify by are set, check its signature and every
    hash. Raises RegistryError, BundleError or KeyConfigurationError; then `target` is not there."""
    keys = read_verify_keys()
    if not fetch_artifact(version, "bundle", target):
        raise RegistryError(
            f"registry: the run of version {version} has lost its bundle; train it again, or take "
            "another version"
        )
    if not keys:
        return
    try:
        check_bundle_signature(target, version, keys)
        verify_bundle(target)
    except BundleError:
        shutil.rmtree(target)
        raise


def check_archive(archive: Path, version: str, bento_tag: str) -> None:
    """Raises BundleError for an archive that keys to verify by, where there are any, do not allow.

    Its signature lies beside it.
    """
    if keys := read_verify_keys():
        check_archive_signature(archive, name_archive(bento_tag), version, keys)


def _sign_registered_bundle(found: Version, scratch: Path, key: "EllipticCurvePrivateKey") -> None:
    if f"bundle/{MANIFEST_FILE}" not in list_files(found.run_id, "bundle"):
        raise RegistryError(
            f"sign: version {found.version} has no bundle/{MANIFEST_FILE} in the registry; train "
            "it again, or sign another version"
        )
    download_file(found.run_id, f"bundle/{MANIFEST_FILE}", scratch)
    recorded = found.tags.get(BUNDLE_HASH_TAG)
    if recorded and (sha256 := compute_sha256(scratch / MANIFEST_FILE)) != recorded:
        raise BundleError(
            f"sign: bundle.json of version {found.version} has sha256 {sha256[:12]}…, its tag "
            f"{BUNDLE_HASH_TAG} says {recorded[:12]}…; sign nothing that somebody changed: train "
            "the version again"
        )
    _attach(found.run_id, "bundle", sign_bundle(scratch, key))


def _sign_registered_archive(
    found: Version, name: str, scratch: Path, key: "EllipticCurvePrivateKey"
) -> None:
    download_file(found.run_id, f"bento/{name}", scratch)
    _attach(found.run_id, "bento", sign_archive(scratch / name, name, key))


def _attach(run_id: str, folder: str, signature: str) -> None:
    with registry_client() as client:
        client.log_text(run_id, signature, f"{folder}/{SIGNATURE_FILE}")
