"""Keys by settings: PEM of the curves P-256, P-384 or P-521, as `openssl` writes them."""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

SIGNING_KEY = "FBT_SIGNING_KEY"
"""A private key. Where there is one, versions are signed when they are registered."""
VERIFY_KEYS = "FBT_VERIFY_KEYS"
"""Public keys, one after the other. Where there are any, bundles signed by none of them are
refused."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Those that model-signing accepts, too."""
PEM_BLOCK = re.compile(r"-----BEGIN [^-]+-----.*?-----END [^-]+-----\n?", re.DOTALL)


class KeyConfigurationError(RuntimeError):
    """A setting holds no usable key; nobody may take that for a wish not to sign or verify."""


def read_signing_key() -> "EllipticCurvePrivateKey | None":
    """None where nothing is to be signed. Raises KeyConfigurationError."""
    pem = _read_setting(SIGNING_KEY)
    if not pem:
        return None
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key: EllipticCurvePrivateKey = _load_key(
        SIGNING_KEY, pem, lambda content: load_pem_private_key(content, None)
    )
    return key


def read_verify_keys() -> "Mapping[str, EllipticCurvePublicKey]":
    """By fingerprint; empty where nothing is to be verified. Raises KeyConfigurationError."""
    pem = _read_setting(VERIFY_KEYS)
    if not pem:
        return {}
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    blocks = PEM_BLOCK.findall(pem) or [pem]
    keys = [_load_key(VERIFY_KEYS, block, load_pem_public_key) for block in blocks]
    return {compute_fingerprint(key): key for key in keys}


def compute_fingerprint(key: "EllipticCurvePublicKey") -> str:
    """As `openssl pkey -pubin -in KEY | sha256sum`, and as model-signing has it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _read_setting(name: str) -> str:
    """Empty where neither `name` nor `name`_FILE is set."""
    text, file = os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    if text and file:
        raise KeyConfigurationError(f"signing: only one of {name} and {name}_FILE may be set")
    if not file:
        return text
    try:
        return Path(file).read_text() or "(empty)"
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise KeyConfigurationError(
            f"signing: {name}_FILE is {file}, which cannot be read ({reason}); expected a file "
            "with PEM: is the Secret mounted there?"
        ) from None


def _load_key(name: str, pem: str, load: Callable[[bytes], Any]) -> Any:
    # No part of what was found is shown: it may be a secret.
    problem = "no PEM of such a key"
    try:
        key = load(pem.encode())
        curve = getattr(getattr(key, "curve", None), "name", "no curve")
        if curve in CURVES:
            return key
        problem = f"a key on {curve}"
    except TypeError:
        problem = "a key that is locked by a password"
    except ValueError:
        pass
    kind = "a private key" if name == SIGNING_KEY else "public keys"
    raise KeyConfigurationError(
        f"signing: {name} (or {name}_FILE) has {problem}, expected PEM of {kind} on P-256, P-384 "
        "or P-521; k8s/README.md shows how to make one"
    )
