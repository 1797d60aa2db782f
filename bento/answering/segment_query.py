"""A search query on one segment of the index: postings of its tokens, with fuzzy expansion."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import OSA

from bento.answering.search_segments import SegmentReader
from components.model.arrays import BoolArray, Float32Array, Int32Array, concat_arrays
from components.model.sorted_keys import find_keys
from components.model.token_index import MIN_FUZZY_LENGTH, TokenIndex, hash_name

MAX_TOKENS = 16

MAX_FUZZY_TOKENS = 6
"""Tokens expanded per query: each costs 1-2 ms at a million products."""

MIN_TWO_EDITS = 9
"""Length from which on a token may be two edits away instead of one."""

MAX_POSTINGS = 100_000
"""Postings read to match some tokens, the rarest first; always all of the rarest."""

MAX_NAMES = 64

BISECT_RATIO = 8
"""Rows this many times fewer than postings are looked up by bisection instead of marking."""

SORT_RATIO = 64
"""Rows this many times fewer than products are sorted instead of marked."""


class Postings(NamedTuple):
    """Rows with a token or one of its expansions."""

    rows: Int32Array
    is_sorted: bool
    """Ascending and distinct; otherwise possibly neither."""

    @property
    def size(self) -> int:
        return len(self.rows)


NO_POSTINGS = Postings(np.empty(0, np.int32), True)


@dataclass(frozen=True)
class SegmentQuery:
    segment: SegmentReader
    text: str
    all_tokens: list[str]

    @cached_property
    def tokens(self) -> list[str]:
        return list(dict.fromkeys(self.all_tokens))[:MAX_TOKENS]

    @property
    def index(self) -> TokenIndex:
        return self.segment.index

    @cached_property
    def postings(self) -> list[Postings]:
        """The last token is taken for a prefix."""
        return [self._find_postings(token) for token in self.tokens]

    @cached_property
    def unknown(self) -> set[str]:
        pairs = zip(self.tokens, self.postings, strict=True)
        return {token for token, postings in pairs if not postings.size}

    @cached_property
    def fuzzy_unknown_postings(self) -> list[Postings]:
        pairs = zip(self.tokens, self.postings, strict=True)
        return [self._expand(token, one) if token in self.unknown else one for token, one in pairs]

    @cached_property
    def fuzzy_postings(self) -> list[Postings]:
        pairs = zip(self.tokens, self.fuzzy_unknown_postings, strict=True)
        return [one if token in self.unknown else self._expand(token, one) for token, one in pairs]

    def hash_completed_names(self) -> list[int]:
        """Hashes of the query as a name, its last token completed."""
        if not self.all_tokens:
            return []
        first, end = self.index.words.find_prefix(self.all_tokens[-1])
        places = range(first, end if end - first <= MAX_NAMES else first)
        return [self._hash_name_with(len(self.all_tokens) - 1, place) for place in places]

    def hash_corrected_names(self) -> list[int]:
        """Hashes of the query as a name, with one token expanded."""
        hashes = (
            self._hash_name_with(i, place)
            for i, token in enumerate(self.all_tokens)
            for place in self._expansions.get(token, [])
        )
        return list(islice(hashes, MAX_NAMES))

    def match_all(self, postings: Sequence[Postings]) -> Int32Array:
        n_products = self.index.n_products
        if not postings or not all(one.size for one in postings):
            return NO_POSTINGS.rows
        fewest, *others = sorted(postings, key=lambda one: one.size)
        rows = fewest.rows if fewest.is_sorted else _unique_rows(fewest.rows, n_products)
        for one in others:
            rows = rows[_is_in(rows, one, n_products)]
        return rows

    def match_some(self, weights: Float32Array) -> tuple[Int32Array, Float32Array]:
        """Live rows with any of the tokens, and the total weights of these."""
        n_products, postings = self.index.n_products, self.fuzzy_unknown_postings
        sizes = np.array([one.size for one in postings], np.int64)
        rarest = np.argsort(sizes, kind="stable")
        n_before = np.cumsum(sizes[rarest]) - sizes[rarest]
        rarest = rarest[(n_before == 0) | (n_before + sizes[rarest] <= MAX_POSTINGS)]
        rows = [_unique_rows(postings[i].rows, n_products) for i in rarest]
        matched, sums = _sum_weights(rows, weights[rarest], n_products)
        if (live := self.segment.live) is not None:
            matched, sums = matched[live[matched]], sums[live[matched]]
        return matched, sums

    def _hash_name_with(self, i: int, place: int) -> int:
        token = self.index.words[place].decode(errors="surrogatepass")
        return hash_name([*self.all_tokens[:i], token, *self.all_tokens[i + 1 :]])

    def _find_postings(self, token: str) -> Postings:
        if token == self.all_tokens[-1]:
            first, end = self.index.words.find_prefix(token)
            return Postings(self.index.find_rows(first, end), end <= first + 1)
        if (place := self.index.words.place(token)) is None:
            return NO_POSTINGS
        return Postings(self.index.find_rows(place, place + 1), True)

    def _expand(self, token: str, postings: Postings) -> Postings:
        if len(self._expansions) == MAX_FUZZY_TOKENS and token not in self._expansions:
            return postings
        places = self._expansions[token] = find_fuzzy_matches(self.index, token)
        rows = [self.index.find_rows(place, place + 1) for place in places]
        return Postings(np.concatenate([postings.rows, *rows]), False) if rows else postings

    @cached_property
    def _expansions(self) -> dict[str, list[int]]:
        return {}


def find_fuzzy_matches(index: TokenIndex, token: str) -> list[int]:
    found: list[int] = []
    if len(token) >= MIN_FUZZY_LENGTH - 1:
        found += _filter_by_distance(index, token, 1, MIN_FUZZY_LENGTH)
    if len(token) >= MIN_TWO_EDITS - 2:
        found += _filter_by_distance(index, token, 2, MIN_TWO_EDITS)
    return list(dict.fromkeys(found))


def _filter_by_distance(index: TokenIndex, token: str, edits: int, min_length: int) -> list[int]:
    """Optimal string alignment: a transposition is one edit."""
    places = index.find_fuzzy_candidates(token, edits)
    others = [index.words[place].decode() for place in places]
    return [
        place
        for place, other in zip(places, others, strict=True)
        if len(other) >= min_length and OSA.distance(token, other, score_cutoff=edits) <= edits
    ]


def _sum_weights(
    rows: Sequence[Int32Array], weights: Float32Array, n_products: int
) -> tuple[Int32Array, Float32Array]:
    """Distinct rows, ascending, and the weight sums of the lists that have them."""
    if sum(map(len, rows)) * SORT_RATIO < n_products:
        distinct, place = np.unique(concat_arrays(rows, np.int32), return_inverse=True)
        each = np.repeat(weights, [*map(len, rows)])
        return distinct, np.bincount(place, each, len(distinct)).astype(np.float32)
    sums = np.zeros(n_products, np.float32)
    for some, weight in zip(rows, weights, strict=True):
        sums[some] += weight
    distinct = np.flatnonzero(sums).astype(np.int32)
    return distinct, sums[distinct]


def _unique_rows(rows: Int32Array, n_products: int) -> Int32Array:
    if len(rows) * SORT_RATIO < n_products:
        return np.unique(rows)
    return np.flatnonzero(_mark(rows, n_products)).astype(np.int32)


def _is_in(rows: Int32Array, postings: Postings, n_products: int) -> BoolArray:
    if postings.is_sorted and len(rows) * BISECT_RATIO < postings.size:
        return find_keys(postings.rows, rows)[1]
    return _mark(postings.rows, n_products)[rows]


def _mark(rows: Int32Array, n_products: int) -> BoolArray:
    marked = np.zeros(n_products, bool)
    marked[rows] = True
    return marked
