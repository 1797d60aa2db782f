"""Signatures of files by their hashes, in the format of OpenSSF Model Signing.

A DSSE envelope with an in-toto statement, wrapped as a Sigstore bundle with a key instead of a
certificate: `model_signing verify key` checks it, too.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.signing.keys import VERIFY_KEYS, compute_fingerprint

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class SignatureError(ValueError):
    """Why content is not to be trusted: found and expected."""


def sign_hashes(
    name: str,
    hashes: Mapping[str, str],
    key: "EllipticCurvePrivateKey",
    ignored: tuple[str, ...] = (),
) -> str:
    """`hashes` are sha256 by file; `ignored` files may lie beside them, unsigned."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

    statement = json.dumps(_describe(name, hashes, ignored)).encode()
    envelope = Envelope(statement, PAYLOAD_TYPE, {})
    fingerprint = compute_fingerprint(key.public_key())
    envelope.sign(CryptoSigner(key, SSlibKey.from_crypto(key.public_key(), fingerprint)))
    material = {"publicKey": {"hint": fingerprint}, "tlogEntries": []}
    content = {"verificationMaterial": material, "dsseEnvelope": envelope.to_dict()}
    return json.dumps({"mediaType": MEDIA_TYPE, **content})


def read_signed_hashes(
    signature: str, keys: "Mapping[str, EllipticCurvePublicKey]"
) -> dict[str, str]:
    """sha256 by file, as one of `keys` signed them. Raises SignatureError."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    fingerprint = read_fingerprint(signature)
    if fingerprint not in keys:
        raise SignatureError(
            f"it is signed by key {_shorten(fingerprint)}, expected one of {VERIFY_KEYS}: "
            f"{', '.join(map(_shorten, keys))}"
        )
    try:
        content = json.loads(signature)["dsseEnvelope"]
        for one in content["signatures"]:
            # The format names the key beside the envelope; model-signing leaves this empty.
            one["keyid"] = fingerprint
        envelope = Envelope.from_dict(content)
        envelope.verify([SSlibKey.from_crypto(keys[fingerprint], fingerprint)], 1)
        return _read_statement(envelope)
    except VerificationError:
        raise SignatureError(
            f"the signature is not by key {_shorten(fingerprint)}, which it names"
        ) from None
    # Whatever a forged file raises, it is no signature.
    except Exception as error:
        raise SignatureError(f"the signature cannot be read ({error!r:.200})") from None


def read_fingerprint(signature: str) -> str:
    """Of the key that it says it is by, unchecked. Raises SignatureError."""
    try:
        return str(json.loads(signature)["verificationMaterial"]["publicKey"]["hint"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SignatureError(
            "the signature cannot be read, expected JSON of a Sigstore bundle with a public key"
        ) from None


def _describe(name: str, hashes: Mapping[str, str], ignored: tuple[str, ...]) -> dict[str, Any]:
    files = sorted(hashes.items())
    root = hashlib.sha256(b"".join(bytes.fromhex(sha256) for _, sha256 in files)).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(ignored),
            },
            "resources": [
                {"name": file, "algorithm": "sha256", "digest": sha256} for file, sha256 in files
            ],
        },
    }


def _read_statement(envelope: Any) -> dict[str, str]:
    statement = json.loads(envelope.payload)
    found = envelope.payload_type, statement["_type"], statement["predicateType"]
    if found != (PAYLOAD_TYPE, STATEMENT_TYPE, PREDICATE_TYPE):
        raise ValueError(f"types {found}")
    resources = statement["predicate"]["resources"]
    return {str(one["name"]): str(one["digest"]) for one in resources}


def _shorten(fingerprint: str) -> str:
    return f"{fingerprint[:12]}…" if len(fingerprint) > 12 else repr(fingerprint)
