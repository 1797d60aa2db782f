"""Signatures of bundles and of packaged Bentos, each beside what it signs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.model.bundle import BundleError, compute_sha256, read_manifest
from components.model.manifest import MANIFEST_FILE
from components.model.verification import VERIFIED_FILE
from components.signing.signature import SignatureError, read_signed_hashes, sign_hashes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

SIGNATURE_FILE = "model.sig"


def sign_bundle(folder: Path, key: "EllipticCurvePrivateKey") -> str:
    """By bundle.json alone, which has the hashes of all other files."""
    hashes = {
        **read_manifest(folder).files,
        MANIFEST_FILE: compute_sha256(folder / MANIFEST_FILE),
    }
    return sign_hashes("bundle", hashes, key, (SIGNATURE_FILE, VERIFIED_FILE))


def sign_archive(archive: Path, name: str, key: "EllipticCurvePrivateKey") -> str:
    """`name` is the archive's in the registry."""
    return sign_hashes("bento", {name: compute_sha256(archive)}, key, (SIGNATURE_FILE,))


def check_bundle_signature(
    folder: Path, version: str, keys: "Mapping[str, EllipticCurvePublicKey]"
) -> None:
    """Raises BundleError unless bundle.json is what one of `keys` signed, and nothing else lies
    beside it than its files. They are checked by `verify_bundle`."""
    _check_signature(folder / MANIFEST_FILE, MANIFEST_FILE, version, keys)
    known = {*read_manifest(folder).files, MANIFEST_FILE, SIGNATURE_FILE, VERIFIED_FILE}
    if strange := sorted(one.name for one in folder.iterdir() if one.name not in known):
        raise BundleError(
            f"signing: the bundle of version {version} has {', '.join(strange)}, which its "
            "signature does not cover; find out who added that, or promote another version"
        )


def check_archive_signature(
    archive: Path, name: str, version: str, keys: "Mapping[str, EllipticCurvePublicKey]"
) -> None:
    """As `check_bundle_signature`; an archive of another name was signed for another version."""
    _check_signature(archive, name, version, keys)


def _check_signature(
    file: Path, name: str, version: str, keys: "Mapping[str, EllipticCurvePublicKey]"
) -> None:
    signature = file.with_name(SIGNATURE_FILE)
    if not signature.is_file():
        accepted = ", ".join(f"{one[:12]}…" for one in keys)
        raise BundleError(
            f"signing: {name} of version {version} is not signed, expected {SIGNATURE_FILE} beside "
            f"it by one of the keys {accepted}; sign it by `fbt sign {version}`, or promote "
            "another version"
        )
    try:
        text = signature.read_text(errors="replace")
        signed, found = read_signed_hashes(text, keys).get(name), compute_sha256(file)
        if signed != found:
            expected = f"sha256 {signed[:12]}…" if signed else "another file"
            raise SignatureError(f"it has sha256 {found[:12]}…, the signature is of {expected}")
    except SignatureError as error:
        raise BundleError(
            f"signing: {name} of version {version} is refused: {error}. Find out who changed it; "
            f"if it is yours, sign it by `fbt sign {version}`, else promote another version"
        ) from None
