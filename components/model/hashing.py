"""Hashes of texts that are the same on every machine and in every process."""

import hashlib


def hash_text(text: str) -> int:
    """64 bits of a text, whatever it has."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
