"""Search as one types: products by name, id, category and brand, whatever the spelling.

What is typed is tried as the id, as the whole name, as the beginning of an id, as words of which
all are written on a product (the last one may be unfinished), as such words misspelt, and at last
as words of which some are. What fits best comes first, then what is bought most.

Words of unspaced scripts are pairs of characters: two or more together are found wherever they are
written, a single one where another follows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import OSA

from bento.answering.catalogue import Catalogue
from bento.answering.search_segments import SegmentReader
from bento.schemas import Match
from components.model.arrays import BoolArray, Float32Array, Int32Array, concat_arrays
from components.model.bundle import Bundle
from components.model.sorted_keys import find_keys
from components.model.token_index import (
    MIN_FUZZY_LENGTH,
    TokenIndex,
    hash_name,
    normalize_id,
    spelling,
)
from components.model.top_k import find_top_k

MAX_TOKENS = 16
"""Words of a question that count."""

MAX_FUZZY_TOKENS = 6
"""Words of a question that may be misspelt: each costs up to a millisecond or two at a million
products."""

MIN_ID_PREFIX = 3
"""Characters from which on a beginning is looked for among ids."""

TWO_EDITS_MIN_LENGTH = 9
"""Letters of a word that may be two edits away; of shorter ones one."""

MAX_POSTINGS = 100_000
"""Looked at where only some words need be there, those of the rarest words first; of the rarest
all."""

MAX_NAMES = 64
"""Whole names that unfinished or misspelt words may stand for, before one is as good as another."""

FEW = 8
"""Rows so many times fewer than a word has are looked up among them; else those are marked."""

SPARSE = 64
"""Rows so many times fewer than products are sorted; else they are marked."""


class SearchHit(NamedTuple):
    """A row of the catalogue, and by what it was found."""

    row: int
    match: Match


class RankedRow(NamedTuple):
    """Of several, the smallest is the best."""

    worse: float
    row: int


class Postings(NamedTuple):
    """What a typed word may stand for in an index."""

    rows: Int32Array
    ascending: bool
    """And without repetition; else neither is sure."""


NO_POSTINGS = Postings(np.empty(0, np.int32), True)


@dataclass(frozen=True)
class SegmentQuery:
    """What was typed, as a part of the catalogue takes it."""

    part: SegmentReader
    text: str
    spelling: list[str]
    """Its words, in their order."""

    @cached_property
    def words(self) -> list[str]:
        """Those that count, each once."""
        return list(dict.fromkeys(self.spelling))[:MAX_TOKENS]

    @property
    def index(self) -> TokenIndex:
        """What the part is searched with."""
        return self.part.words

    @cached_property
    def postings(self) -> list[Postings]:
        """For every word the products that have it, or one that starts so if it is the last."""
        return [self._find_postings(word) for word in self.words]

    @cached_property
    def unknown_expanded(self) -> list[Postings]:
        """As `postings`; words that nothing has stand for what they may have been meant for."""
        known = zip(self.words, self.postings, strict=True)
        return [one if len(one.rows) else self._expand(word, one) for word, one in known]

    @cached_property
    def all_expanded(self) -> list[Postings]:
        """As `unknown_expanded`, but for every word."""
        known = zip(self.words, self.unknown_expanded, strict=True)
        return [one if word in self.unknown else self._expand(word, one) for word, one in known]

    def complete_names(self) -> list[int]:
        """Hashes of whole names that begin with what was typed, and only end the last word."""
        if not self.spelling:
            return []
        first, end = self.index.words.find_prefix(self.spelling[-1])
        places = range(first, end if end - first <= MAX_NAMES else first)
        return [self._name_with(len(self.spelling) - 1, place) for place in places]

    def correct_names(self) -> list[int]:
        """Hashes of whole names with one word as it may have been meant, by what was guessed."""
        found = (
            self._name_with(i, place)
            for i, word in enumerate(self.spelling)
            if word in self._near
            for place in self._near[word]
        )
        return list(islice(found, MAX_NAMES))

    def _name_with(self, i: int, place: int) -> int:
        """The hash of the name with another word there."""
        other = self.index.words[place].decode(errors="surrogatepass")
        return hash_name([*self.spelling[:i], other, *self.spelling[i + 1 :]])

    def _find_postings(self, word: str) -> Postings:
        if word == self.spelling[-1]:
            first, end = self.index.words.find_prefix(word)
            return Postings(self.index.find_rows(first, end), end <= first + 1)
        if (place := self.index.words.place(word)) is None:
            return NO_POSTINGS
        return Postings(self.index.find_rows(place, place + 1), True)

    def _expand(self, word: str, postings: Postings) -> Postings:
        if len(self._near) == MAX_FUZZY_TOKENS and word not in self._near:
            return postings
        self._near[word] = find_fuzzy_matches(self.index, word)
        rows = [self.index.find_rows(place, place + 1) for place in self._near[word]]
        return Postings(np.concatenate([postings.rows, *rows]), False) if rows else postings

    @cached_property
    def unknown(self) -> set[str]:
        """Words that nothing has."""
        known = zip(self.words, self.postings, strict=True)
        return {word for word, postings in known if not len(postings.rows)}

    @cached_property
    def _near(self) -> dict[str, list[int]]:
        """What was found to be near so far."""
        return {}


class ProductSearch:
    """Finds products of a bundle, as a catalogue says they are now."""

    def __init__(self, bundle: Bundle) -> None:
        self.words = bundle.token_index

    def find(self, catalogue: Catalogue, text: str, limit: int) -> list[SearchHit]:
        """Up to `limit` products, best first; never one that is deleted."""
        words = spelling(text)
        sought = [SegmentQuery(part, text, words) for part in catalogue.parts(self.words)]
        found = {row: SearchHit(row, "id") for row in _with_id(catalogue, text)}
        for match, way in STAGES:
            if len(found) >= (1 if way in FALLBACK_STAGES else limit):
                break
            for _, row in way(sought, limit + len(found)):
                found.setdefault(row, SearchHit(row, match))
        return list(found.values())[:limit]


def match_name(sought: Sequence[SegmentQuery], limit: int) -> list[RankedRow]:
    """Products with just that name."""
    wanted = [hash_name(sought[0].spelling, sought[0].text)]
    return merge_best(
        (_hits(one.part, one.index.find_by_name(wanted), limit) for one in sought), limit
    )


def match_id_prefix(sought: Sequence[SegmentQuery], limit: int) -> list[RankedRow]:
    """Products whose ids start so."""
    start = normalize_id(sought[0].text)
    if len(start) < MIN_ID_PREFIX:
        return []
    every = ((one.part, np.sort(one.index.find_by_id_prefix(start))) for one in sought)
    return merge_best((_hits(part, rows, limit) for part, rows in every), limit)


def match_all_tokens(sought: Sequence[SegmentQuery], limit: int) -> list[RankedRow]:
    """Products that have every word; the last one may be unfinished."""
    return merge_best(
        (_match_all(one, one.postings, one.complete_names(), limit) for one in sought), limit
    )


def match_unknown_fuzzily(sought: Sequence[SegmentQuery], limit: int) -> list[RankedRow]:
    """As `match_all_tokens`, where unknown words may stand for known ones."""
    some = [one for one in sought if one.unknown]
    return merge_best(
        (_match_all(one, one.unknown_expanded, one.correct_names(), limit) for one in some), limit
    )


def match_all_fuzzily(sought: Sequence[SegmentQuery], limit: int) -> list[RankedRow]:
    """As `match_unknown_fuzzily`, where known words, too, may stand for others."""
    return merge_best(
        (_match_all(one, one.all_expanded, one.correct_names(), limit) for one in sought), limit
    )


def match_some_tokens(sought: Sequence[SegmentQuery], limit: int) -> list[RankedRow]:
    """Products that have some words; rare ones are worth more."""
    if len(sought[0].words) < 2:
        return []
    every = zip(*(one.unknown_expanded for one in sought), strict=True)
    n_rows = np.array([sum(map(_size, meant)) for meant in every], np.float32)
    n_products = sum(one.index.n_products for one in sought)
    worth = np.log1p(n_products / np.maximum(n_rows, 1))
    return merge_best((_match_some(one, worth, limit) for one in sought), limit)


STAGES: tuple[tuple[Match, Callable[[Sequence[SegmentQuery], int], list[RankedRow]]], ...] = (
    ("name", match_name),
    ("id_start", match_id_prefix),
    ("words", match_all_tokens),
    ("typos", match_unknown_fuzzily),
    ("typos", match_all_fuzzily),
    ("some_words", match_some_tokens),
)
"""What is tried, in this order, until enough is found; and how that is called in an answer."""


FALLBACK_STAGES = (match_all_fuzzily, match_some_tokens)
"""Tried while nothing is found at all: what has every word typed needs no company."""


def merge_best(hits: Iterable[list[RankedRow]], limit: int) -> list[RankedRow]:
    """The best of all parts' hits."""
    return sorted(hit for some in hits for hit in some)[:limit]


def find_fuzzy_matches(words: TokenIndex, typed: str) -> list[int]:
    """Places of words that may have been meant: an edit or two away, by their length."""
    found: list[int] = []
    if len(typed) >= MIN_FUZZY_LENGTH - 1:
        found += _filter_by_distance(words, typed, words.find_fuzzy_candidates(typed, 1), 1)
    if len(typed) >= TWO_EDITS_MIN_LENGTH - 2:
        found += _filter_by_distance(words, typed, words.find_fuzzy_candidates(typed, 2), 2)
    return list(dict.fromkeys(found))


def _filter_by_distance(
    words: TokenIndex, typed: str, places: Sequence[int], edits: int
) -> list[int]:
    """Which of the words are so many edits away; swapping two letters is one."""
    shortest = TWO_EDITS_MIN_LENGTH if edits > 1 else MIN_FUZZY_LENGTH
    others = [words.words[place].decode() for place in places]
    return [
        place
        for place, other in zip(places, others, strict=True)
        if len(other) >= shortest and OSA.distance(typed, other, score_cutoff=edits) <= edits
    ]


def _with_id(catalogue: Catalogue, text: str) -> list[int]:
    row = catalogue.row(text)
    return [] if row is None or catalogue.is_deleted(row) else [row]


def _match_all(
    sought: SegmentQuery, meant: Sequence[Postings], names: Sequence[int], limit: int
) -> list[RankedRow]:
    """Products for which every word has its meaning; first those of these names."""
    if not meant or not all(map(_size, meant)):
        return []
    index = sought.index
    fewest, *others = sorted(meant, key=_size)
    rows = fewest.rows if fewest.ascending else _unique_rows(fewest.rows, index.n_products)
    for one in others:
        rows = rows[_is_in(rows, one, index.n_products)]
    first = _hits(sought.part, np.unique(index.find_by_name(names)), limit)
    return first + [RankedRow(1, row) for _, row in _hits(sought.part, rows, limit)]


def _match_some(sought: SegmentQuery, worth: Float32Array, limit: int) -> list[RankedRow]:
    """Products that have words which are worth most, together."""
    part, sizes = sought.part, np.array([*map(_size, sought.unknown_expanded)], np.int64)
    rarest = np.argsort(sizes, kind="stable")
    before = np.cumsum(sizes[rarest]) - sizes[rarest]
    rarest = rarest[(before == 0) | (before + sizes[rarest] <= MAX_POSTINGS)]
    n_products = part.words.n_products
    rows = [_unique_rows(sought.unknown_expanded[i].rows, n_products) for i in rarest]
    every, sums = _sum_weights(rows, worth[rarest], n_products)
    if part.alive is not None:
        sums, every = sums[part.alive[every]], every[part.alive[every]]
    top = find_top_k(sums, limit)
    own = _to_catalogue_rows(part, every[top])
    return [RankedRow(-total, row) for total, row in zip(sums[top].tolist(), own, strict=True)]


def _sum_weights(
    rows: Sequence[Int32Array], worth: Float32Array, n_products: int
) -> tuple[Int32Array, Float32Array]:
    """Distinct rows, ascending, and what the lists that have them are worth, together."""
    if sum(map(len, rows)) * SPARSE < n_products:
        every, place = np.unique(concat_arrays(rows, np.int32), return_inverse=True)
        each = np.repeat(worth, [*map(len, rows)])
        return every, np.bincount(place, each, len(every)).astype(np.float32)
    sums = np.zeros(n_products, np.float32)
    for some, one in zip(rows, worth, strict=True):
        sums[some] += one
    every = np.flatnonzero(sums).astype(np.int32)
    return every, sums[every]


def _size(postings: Postings) -> int:
    return len(postings.rows)


def _hits(part: SegmentReader, rows: Int32Array, limit: int) -> list[RankedRow]:
    """The first that may be found."""
    if part.alive is not None:
        rows = rows[part.alive[rows]]
    return [RankedRow(0, row) for row in _to_catalogue_rows(part, rows[:limit])]


def _to_catalogue_rows(part: SegmentReader, rows: Int32Array) -> list[int]:
    own: list[int] = (rows if part.rows is None else part.rows[rows]).tolist()
    return own


def _unique_rows(rows: Int32Array, n_products: int) -> Int32Array:
    """Each once, ascending."""
    if len(rows) * SPARSE < n_products:
        return np.unique(rows)
    return np.flatnonzero(_mark(rows, n_products)).astype(np.int32)


def _is_in(rows: Int32Array, postings: Postings, n_products: int) -> BoolArray:
    """Which of `rows` have that meaning."""
    find_rows = postings.rows
    if postings.ascending and len(rows) * FEW < len(find_rows):
        return find_keys(find_rows, rows)[1]
    return _mark(find_rows, n_products)[rows]


def _mark(rows: Int32Array, n_products: int) -> BoolArray:
    marked = np.zeros(n_products, bool)
    marked[rows] = True
    return marked
