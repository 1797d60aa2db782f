"""Products by what is written on them, letter by letter: sorted words, names and ids.

`components.attributes` says what is described alike; this finds what somebody types, which may be
the beginning of a word, or misspelt. Made once, when a bundle is, as flat arrays that are
memory-mapped and shared between processes.
"""

import hashlib
import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from components.model.arrays import Int32Array, Int64Array, UInt8Array, UInt64Array
from components.model.text_similarity import UNSPACED, concat_arrays, tokenize

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa


WORDS = (
    *("text", "text_offsets", "offsets", "rows", "name_hashes", "name_rows"),
    *("id_text", "id_offsets", "id_rows", "spelt", "spelt_sizes", "spelt_letters"),
)
"""The arrays of WordIndex; they lie in word_NAME.npy."""

MIN_FUZZY_LENGTH, MAX_FUZZY_LENGTH = 5, 40
"""Letters of words that a misspelt one may have been meant for. Of shorter ones too many are near
everything; longer ones are no words."""

MAX_ID_MATCHES = 10_000
"""Looked at of the products whose ids begin alike; more that do are not told apart by that."""

BLOCK = 50_000
"""Products whose texts are in memory as Python objects at once."""

_UNSPACED_RUN = re.compile(f"{UNSPACED.pattern}+")


class SearchableText(NamedTuple):
    """What a product can be found by."""

    product_id: str
    name: str | None = None
    category: str | None = None
    brand: str | None = None


class SortedTexts:
    """UTF-8 texts in order of their bytes, which lie one after the other in `text`."""

    def __init__(self, text: UInt8Array, offsets: Int64Array) -> None:
        self._text, self._offsets = memoryview(text), memoryview(offsets)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, place: int) -> bytes:
        return bytes(self._text[self._offsets[place] : self._offsets[place + 1]])

    def find_prefix(self, text: str) -> tuple[int, int]:
        """First place and end of those that start with `text`."""
        start = encode_utf8(text)
        # No UTF-8 has a byte 255.
        return bisect_left(self, start), bisect_left(self, start + b"\xff")

    def place(self, text: str) -> int | None:
        """Where `text` is, or None."""
        wanted = encode_utf8(text)
        place = bisect_left(self, wanted)
        return place if place < len(self) and self[place] == wanted else None


@dataclass(frozen=True)
class TokenIndex:
    """Words, names and ids of products, by row.

    `text` and `text_offsets` are the distinct words of names, categories and brands (SortedTexts);
    `rows[offsets[w]:offsets[w + 1]]`, ascending, have word w. `name_hashes` is sorted, `name_rows`
    says whose each is. `id_text` and `id_offsets` are the `normalize_id` ids of `id_rows`. `spelt` are
    places of words that a misspelt one may have been meant for, shortest first, then in order, with
    their sizes and `compute_letter_mask`.
    """

    text: UInt8Array
    text_offsets: Int64Array
    offsets: Int64Array
    rows: Int32Array
    name_hashes: UInt64Array
    name_rows: Int32Array
    id_text: UInt8Array
    id_offsets: Int64Array
    id_rows: Int32Array
    spelt: Int32Array
    spelt_sizes: UInt8Array
    spelt_letters: UInt64Array

    @property
    def n_products(self) -> int:
        """All rows."""
        return len(self.id_rows)

    @cached_property
    def words(self) -> SortedTexts:
        """Every distinct word."""
        return SortedTexts(self.text, self.text_offsets)

    @cached_property
    def ids(self) -> SortedTexts:
        """Every id, folded."""
        return SortedTexts(self.id_text, self.id_offsets)

    def find_rows(self, first: int, end: int) -> Int32Array:
        """Rows that have a word of these places; ascending if it is one, else one after another."""
        return self.rows[self.offsets[first] : self.offsets[end]]

    def find_by_name(self, hashes: Sequence[int]) -> Int32Array:
        """Rows whose names have one of these hashes, of each in turn; see `hash_name`."""
        wanted = np.array(hashes, np.uint64)
        firsts = np.searchsorted(self.name_hashes, wanted).tolist()
        ends = np.searchsorted(self.name_hashes, wanted, "right").tolist()
        some = [self.name_rows[first:end] for first, end in zip(firsts, ends, strict=True)]
        return concat_arrays(some, np.int32)

    def find_by_id_prefix(self, start: str) -> Int32Array:
        """Rows whose folded id starts so, in order of ids; at most MOST_LIKE_ID."""
        first, end = self.ids.find_prefix(start)
        return self.id_rows[first : min(end, first + MAX_ID_MATCHES)]

    def find_fuzzy_candidates(self, word: str, edits: int) -> list[int]:
        """Places of words of nearly the letters of `word`, as so many edits leave them.

        That is necessary for being so near, not sufficient. Of two edits none is in the first
        letter: who gets that wrong gets the rest right.
        """
        shortest, longest = len(word) - edits, len(word) + edits
        starts = np.searchsorted(self.spelt_sizes, np.arange(shortest, longest + 2)).tolist()
        if edits == 1:
            return self._alike(word, edits, starts[0], starts[-1])
        first, end = self.words.find_prefix(word[:1])
        return [
            place
            for start, next_start in pairwise(starts)
            for place in self._alike(
                word,
                edits,
                *(start + np.searchsorted(self.spelt[start:next_start], [first, end])).tolist(),
            )
        ]

    def _alike(self, word: str, edits: int, start: int, end: int) -> list[int]:
        other = self.spelt_letters[start:end] ^ np.uint64(compute_letter_mask(word))
        # An edit changes at most two letters, one to another: clear so many bits, none may be left.
        for _ in range(2 * edits):
            other &= other - np.uint64(1)
        places: list[int] = self.spelt[start + np.flatnonzero(other == 0)].tolist()
        return places


def build_token_index(products: "pa.Table") -> TokenIndex:
    """The index of a product table. Linear in products."""
    return index_texts(_read_written(products))


def index_texts(products: Iterable[SearchableText]) -> TokenIndex:
    """The index of products whose rows are 0, 1, 2, …"""
    numbers: dict[str, int] = {}
    words, sizes = array("i"), array("i")
    hashes, ids = array("Q"), []
    for one in products:
        name = spelling(one.name)
        hashes.append(hash_name(name, one.name) if one.name else 0)
        mine = dict.fromkeys(name + _spelling(one.category) + _spelling(one.brand))
        words.extend(numbers.setdefault(word, len(numbers)) for word in mine)
        sizes.append(len(mine))
        ids.append(encode_utf8(normalize_id(one.product_id)))
    in_order = sorted(numbers, key=encode_utf8)
    place_of = np.empty(len(numbers), np.int32)
    place_of[[numbers[word] for word in in_order]] = np.arange(len(numbers), dtype=np.int32)
    text, text_offsets = _concat_texts([encode_utf8(word) for word in in_order])
    id_rows = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int32)
    id_text, id_offsets = _concat_texts([ids[row] for row in id_rows])
    offsets, rows = _postings(place_of[np.array(words, np.int32)], np.array(sizes, np.int32))
    name_hashes, name_rows = _sort_names(np.array(hashes, np.uint64))
    return TokenIndex(
        text=text,
        text_offsets=text_offsets,
        offsets=offsets,
        rows=rows,
        name_hashes=name_hashes,
        name_rows=name_rows,
        id_text=id_text,
        id_offsets=id_offsets,
        id_rows=id_rows,
        **_spelt(in_order),
    )


def spelling(text: str | None) -> list[str]:
    """The words of a text as `tokenize` has them; unspaced scripts are apart from others."""
    if text and not text.isascii():
        text = _UNSPACED_RUN.sub(r" \g<0> ", text)
    return tokenize(text)


def normalize_id(product_id: str) -> str:
    """An id by letters and digits alone, lower case, without accents; itself if it has none."""
    if not product_id.isascii():
        product_id = unicodedata.normalize("NFKD", product_id)
    return "".join(filter(str.isalnum, product_id.lower())) or product_id


def hash_name(words: Sequence[str], name: str = "") -> int:
    """64 bits of a name's words in their order; of the whole of it if it has none."""
    text = " ".join(words) or name.strip().lower()
    return int.from_bytes(hashlib.blake2b(encode_utf8(text), digest_size=8).digest(), "little")


def compute_letter_mask(word: str) -> int:
    """Which characters a word has, as 64 bits; different ones may share a bit."""
    bits = 0
    for character in word:
        bits |= 1 << (ord(character) & 63)
    return bits


def encode_utf8(text: str) -> bytes:
    """UTF-8, whatever the text has."""
    return text.encode(errors="surrogatepass")


@lru_cache(maxsize=2**16)
def _spelling(text: str | None) -> list[str]:
    """As `spelling`, for what is written on many products."""
    return spelling(text)


def _read_written(products: "pa.Table") -> Iterator[SearchableText]:
    for start in range(0, products.num_rows, BLOCK):
        block = products.slice(start, BLOCK)
        columns = (block[column].to_pylist() for column in SearchableText._fields)
        yield from map(SearchableText._make, zip(*columns, strict=True))


def _concat_texts(texts: Sequence[bytes]) -> tuple[UInt8Array, Int64Array]:
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    return np.frombuffer(b"".join(texts), np.uint8), np.concatenate([[0], np.cumsum(sizes)])


def _postings(places: Int32Array, sizes: Int32Array) -> tuple[Int64Array, Int32Array]:
    """Offsets and rows by word, of words by row; every word is somewhere."""
    rows = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    order = np.argsort(places, kind="stable")
    return np.concatenate([[0], np.cumsum(np.bincount(places))]).astype(np.int64), rows[order]


def _sort_names(hashes: UInt64Array) -> tuple[UInt64Array, Int32Array]:
    """Hashes of names in order, and their rows; 0 is no name."""
    order = np.argsort(hashes, kind="stable")
    order = order[np.count_nonzero(hashes == 0) :]
    return hashes[order], order.astype(np.int32)


def _spelt(words: Sequence[str]) -> dict[str, Any]:
    places = [
        place
        for place, word in enumerate(words)
        if MIN_FUZZY_LENGTH <= len(word) <= MAX_FUZZY_LENGTH and word.isalpha()
    ]
    places.sort(key=lambda place: len(words[place]))
    return {
        "spelt": np.array(places, np.int32),
        "spelt_sizes": np.array([len(words[place]) for place in places], np.uint8),
        "spelt_letters": np.array(
            [compute_letter_mask(words[place]) for place in places], np.uint64
        ),
    }
