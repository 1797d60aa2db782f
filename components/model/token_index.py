"""Index of product texts as people type them: beginnings of words, misspelt words, ids."""

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from components.model.arrays import (
    Int32Array,
    Int64Array,
    UInt8Array,
    UInt64Array,
    concat_arrays,
    to_offsets,
)
from components.model.hashing import hash_text
from components.model.ragged import RaggedRows
from components.model.text_similarity import UNSPACED, tokenize

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa

# Letters of words that typos are corrected to; shorter words have too many others near them.
MIN_FUZZY_LENGTH, MAX_FUZZY_LENGTH = 5, 40
MAX_ID_MATCHES = 10_000
BLOCK = 50_000  # Products whose texts are in memory as Python objects at once

_UNSPACED_RUN = re.compile(f"{UNSPACED.pattern}+")


class SearchableText(NamedTuple):
    product_id: str
    name: str | None = None
    category: str | None = None
    brand: str | None = None


class SortedTexts:
    """UTF-8 texts in order of their bytes, one after another in `text`."""

    def __init__(self, text: UInt8Array, offsets: Int64Array) -> None:
        self._text, self._offsets = memoryview(text), memoryview(offsets)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, place: int) -> bytes:
        return bytes(self._text[self._offsets[place] : self._offsets[place + 1]])

    def find_prefix(self, text: str) -> tuple[int, int]:
        """First place and end."""
        start = encode_utf8(text)
        # No UTF-8 has a byte 255.
        return bisect_left(self, start), bisect_left(self, start + b"\xff")

    def place(self, text: str) -> int | None:
        wanted = encode_utf8(text)
        place = bisect_left(self, wanted)
        return place if place < len(self) and self[place] == wanted else None


@dataclass(frozen=True)
class TokenIndex(RaggedRows, prefix="token_index"):
    """List w holds the rows, ascending, with word w of names, categories and brands.

    `text` and `text_offsets` are the words, `id_text` and `id_offsets` the normalized ids of
    `id_rows` (both SortedTexts); `name_hashes` is sorted, of the rows `name_rows`. `fuzzy_words`
    are places of words that typos are corrected to, by length, then in order.
    """

    text: UInt8Array
    text_offsets: Int64Array
    name_hashes: UInt64Array
    name_rows: Int32Array
    id_text: UInt8Array
    id_offsets: Int64Array
    id_rows: Int32Array
    fuzzy_words: Int32Array
    fuzzy_lengths: UInt8Array
    fuzzy_masks: UInt64Array

    @property
    def n_products(self) -> int:
        return len(self.id_rows)

    @cached_property
    def words(self) -> SortedTexts:
        return SortedTexts(self.text, self.text_offsets)

    @cached_property
    def ids(self) -> SortedTexts:
        return SortedTexts(self.id_text, self.id_offsets)

    def find_rows(self, first: int, end: int) -> Int32Array:
        return self.rows[self.offsets[first] : self.offsets[end]]

    def find_by_name(self, hashes: Sequence[int]) -> Int32Array:
        wanted = np.array(hashes, np.uint64)
        firsts = np.searchsorted(self.name_hashes, wanted).tolist()
        ends = np.searchsorted(self.name_hashes, wanted, "right").tolist()
        parts = [self.name_rows[first:end] for first, end in zip(firsts, ends, strict=True)]
        return concat_arrays(parts, np.int32)

    def find_by_id_prefix(self, start: str) -> Int32Array:
        """In order of ids; at most MAX_ID_MATCHES."""
        first, end = self.ids.find_prefix(start)
        return self.id_rows[first : min(end, first + MAX_ID_MATCHES)]

    def find_fuzzy_candidates(self, word: str, edits: int) -> list[int]:
        """Places of words whose letters, in any order, are so many edits away.

        Of two edits none is in the first letter: typists who get that wrong get the rest right.
        """
        shortest, longest = len(word) - edits, len(word) + edits
        starts = np.searchsorted(self.fuzzy_lengths, np.arange(shortest, longest + 2)).tolist()
        if edits == 1:
            return self._match_letters(word, edits, starts[0], starts[-1])
        found: list[int] = []
        prefix = self.words.find_prefix(word[:1])
        for start, next_start in pairwise(starts):
            first, end = np.searchsorted(self.fuzzy_words[start:next_start], prefix).tolist()
            found += self._match_letters(word, edits, start + first, start + end)
        return found

    def _match_letters(self, word: str, edits: int, start: int, end: int) -> list[int]:
        other = self.fuzzy_masks[start:end] ^ np.uint64(_mask_letters(word))
        # An edit changes at most two letters, one to another: clear so many bits, none may be left.
        for _ in range(2 * edits):
            other &= other - np.uint64(1)
        places: list[int] = self.fuzzy_words[start + np.flatnonzero(other == 0)].tolist()
        return places


def build_token_index(products: "pa.Table") -> TokenIndex:
    return index_texts(_read_texts(products))


def index_texts(products: Iterable[SearchableText]) -> TokenIndex:
    """Of products in order of their rows."""
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
    offsets, rows = _build_postings(place_of[np.array(words, np.int32)], np.array(sizes, np.int32))
    name_hashes, name_rows = _sort_names(np.array(hashes, np.uint64))
    fuzzy_words, fuzzy_lengths, fuzzy_masks = _build_fuzzy_lists(in_order)
    return TokenIndex(
        offsets, rows, text, text_offsets, name_hashes, name_rows, id_text, id_offsets, id_rows,
        fuzzy_words, fuzzy_lengths, fuzzy_masks,
    )  # fmt: skip


def spelling(text: str | None) -> list[str]:
    """As `tokenize`, with unspaced scripts apart from others."""
    if text and not text.isascii():
        text = _UNSPACED_RUN.sub(r" \g<0> ", text)
    return tokenize(text)


def normalize_id(product_id: str) -> str:
    """Letters and digits, lower case, without accents; itself if it has none."""
    if not product_id.isascii():
        product_id = unicodedata.normalize("NFKD", product_id)
    return "".join(filter(str.isalnum, product_id.lower())) or product_id


def hash_name(words: Sequence[str], name: str = "") -> int:
    """Of a name's words in their order; of the whole of it if it has none."""
    return hash_text(" ".join(words) or name.strip().lower())


def encode_utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _mask_letters(word: str) -> int:
    """The set of a word's characters as 64 bits; different ones may share a bit."""
    bits = 0
    for character in word:
        bits |= 1 << (ord(character) & 63)
    return bits


_spelling = lru_cache(maxsize=2**16)(spelling)  # Many products share a category or brand


def _read_texts(products: "pa.Table") -> Iterator[SearchableText]:
    for start in range(0, products.num_rows, BLOCK):
        block = products.slice(start, BLOCK)
        columns = (block[column].to_pylist() for column in SearchableText._fields)
        yield from map(SearchableText._make, zip(*columns, strict=True))


def _concat_texts(texts: Sequence[bytes]) -> tuple[UInt8Array, Int64Array]:
    return np.frombuffer(b"".join(texts), np.uint8), to_offsets(list(map(len, texts)))


def _build_postings(places: Int32Array, sizes: Int32Array) -> tuple[Int64Array, Int32Array]:
    """Offsets and rows by word; every word has a row."""
    rows = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    order = np.argsort(places, kind="stable")
    return to_offsets(np.bincount(places)), rows[order]


def _sort_names(hashes: UInt64Array) -> tuple[UInt64Array, Int32Array]:
    """Hashes of names in order, and their rows; 0 is no name."""
    order = np.argsort(hashes, kind="stable")
    order = order[np.count_nonzero(hashes == 0) :]
    return hashes[order], order.astype(np.int32)


def _build_fuzzy_lists(words: Sequence[str]) -> tuple[Int32Array, UInt8Array, UInt64Array]:
    """Places, lengths and letter masks."""
    places = [
        place
        for place, word in enumerate(words)
        if MIN_FUZZY_LENGTH <= len(word) <= MAX_FUZZY_LENGTH and word.isalpha()
    ]
    places.sort(key=lambda place: len(words[place]))
    lengths = np.array([len(words[place]) for place in places], np.uint8)
    masks = np.array([_mask_letters(words[place]) for place in places], np.uint64)
    return np.array(places, np.int32), lengths, masks
