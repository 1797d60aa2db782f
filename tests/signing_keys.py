"""Keys for signatures, made by openssl as k8s/README.md says."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class KeyFiles(NamedTuple):
    private: Path
    public: Path


def make_keys(folder: Path, name: str, curve: str = "P-256") -> KeyFiles:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}", to=private)
    _openssl("pkey", "-in", str(private), "-pubout", to=public)
    return KeyFiles(private, public)


def _openssl(*words: str, to: Path) -> None:
    subprocess.run(["openssl", *words, "-out", str(to)], check=True, capture_output=True)
