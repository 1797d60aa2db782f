"""Search as one types: products by name, id, category and brand, whatever the spelling.

What is typed is tried as the id, as the whole name, as the beginning of an id, as words of which
all are written on a product (the last one may be unfinished), as such words misspelt, and at last
as words of which some are. What fits best comes first, then what is bought most.

Words of unspaced scripts are pairs of characters: two or more together are found wherever they are
written, a single one where another follows.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import OSA

from bento.answering.catalogue import Catalogue
from bento.answering.changed_texts import Part
from bento.schemas import Match
from components.model.arrays import BoolArray, Float32Array, Int32Array
from components.model.bundle import Bundle
from components.model.sorted_keys import located
from components.model.text_similarity import joined, largest
from components.model.token_index import (
    MIN_SPELT,
    WordIndex,
    build_words,
    folded,
    hash_of_name,
    spelling,
)

MOST_WORDS = 16
"""Words of a question that count."""

MOST_GUESSES = 6
"""Words of a question that may be misspelt: each costs up to a millisecond or two at a million
products."""

MIN_ID = 3
"""Characters from which on a beginning is looked for among ids."""

LONG = 9
"""Letters of a word that may be two edits away; of shorter ones one."""

MOST_POSTINGS = 100_000
"""Looked at where only some words need be there, those of the rarest words first; of the rarest
all."""

MOST_NAMES = 64
"""Whole names that unfinished or misspelt words may stand for, before one is as good as another."""

FEW = 8
"""Rows so many times fewer than a word has are looked up among them; else those are marked."""

SPARSE = 64
"""Rows so many times fewer than products are sorted; else they are marked."""


class Found(NamedTuple):
    """A row of the catalogue, and by what it was found."""

    row: int
    match: Match


class Hit(NamedTuple):
    """Of several, the smallest is the best."""

    worse: float
    row: int


class Meaning(NamedTuple):
    """What a typed word may stand for in an index."""

    rows: Int32Array
    ascending: bool
    """And without repetition; else neither is sure."""


NOTHING = Meaning(np.empty(0, np.int32), True)


@dataclass(frozen=True)
class Sought:
    """What was typed, as a part of the catalogue takes it."""

    part: Part
    text: str
    spelling: list[str]
    """Its words, in their order."""

    @cached_property
    def words(self) -> list[str]:
        """Those that count, each once."""
        return list(dict.fromkeys(self.spelling))[:MOST_WORDS]

    @property
    def index(self) -> WordIndex:
        """What the part is searched with."""
        return self.part.words

    @cached_property
    def meanings(self) -> list[Meaning]:
        """For every word the products that have it, or one that starts so if it is the last."""
        return [self._meaning(word) for word in self.words]

    @cached_property
    def guesses(self) -> list[Meaning]:
        """As `meanings`; words that nothing has stand for what they may have been meant for."""
        known = zip(self.words, self.meanings, strict=True)
        return [one if len(one.rows) else self._guess(word, one) for word, one in known]

    @cached_property
    def doubts(self) -> list[Meaning]:
        """As `guesses`, but for every word."""
        known = zip(self.words, self.guesses, strict=True)
        return [one if word in self.unknown else self._guess(word, one) for word, one in known]

    def finished(self) -> list[int]:
        """Hashes of whole names that begin with what was typed, and only end the last word."""
        if not self.spelling:
            return []
        first, end = self.index.words.starting(self.spelling[-1])
        places = range(first, end if end - first <= MOST_NAMES else first)
        return [self._name_with(len(self.spelling) - 1, place) for place in places]

    def corrected(self) -> list[int]:
        """Hashes of whole names with one word as it may have been meant, by what was guessed."""
        found = (
            self._name_with(i, place)
            for i, word in enumerate(self.spelling)
            if word in self._near
            for place in self._near[word]
        )
        return list(islice(found, MOST_NAMES))

    def _name_with(self, i: int, place: int) -> int:
        """The hash of the name with another word there."""
        other = self.index.words[place].decode(errors="surrogatepass")
        return hash_of_name([*self.spelling[:i], other, *self.spelling[i + 1 :]])

    def _meaning(self, word: str) -> Meaning:
        if word == self.spelling[-1]:
            first, end = self.index.words.starting(word)
            return Meaning(self.index.having(first, end), end <= first + 1)
        if (place := self.index.words.place(word)) is None:
            return NOTHING
        return Meaning(self.index.having(place, place + 1), True)

    def _guess(self, word: str, meaning: Meaning) -> Meaning:
        if len(self._near) == MOST_GUESSES and word not in self._near:
            return meaning
        self._near[word] = near(self.index, word)
        rows = [self.index.having(place, place + 1) for place in self._near[word]]
        return Meaning(np.concatenate([meaning.rows, *rows]), False) if rows else meaning

    @cached_property
    def unknown(self) -> set[str]:
        """Words that nothing has."""
        known = zip(self.words, self.meanings, strict=True)
        return {word for word, meaning in known if not len(meaning.rows)}

    @cached_property
    def _near(self) -> dict[str, list[int]]:
        """What was found to be near so far."""
        return {}


class Search:
    """Finds products of a bundle, as a catalogue says they are now."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._words = bundle, bundle.words
        self._making = threading.Lock()

    @property
    def words(self) -> WordIndex:
        """The bundle's; of an older bundle made at the first use, a second for 100,000 products."""
        with self._making:
            if self._words is None:
                self._words = build_words(self._bundle.products)
            return self._words

    def find(self, catalogue: Catalogue, text: str, limit: int) -> list[Found]:
        """Up to `limit` products, best first; never one that is deleted."""
        words = spelling(text)
        sought = [Sought(part, text, words) for part in catalogue.parts(self.words)]
        found = {row: Found(row, "id") for row in _with_id(catalogue, text)}
        for match, way in WAYS:
            if len(found) >= (1 if way in LAST_RESORTS else limit):
                break
            for _, row in way(sought, limit + len(found)):
                found.setdefault(row, Found(row, match))
        return list(found.values())[:limit]


def by_name(sought: Sequence[Sought], limit: int) -> list[Hit]:
    """Products with just that name."""
    wanted = [hash_of_name(sought[0].spelling, sought[0].text)]
    return best((_hits(one.part, one.index.named(wanted), limit) for one in sought), limit)


def by_id(sought: Sequence[Sought], limit: int) -> list[Hit]:
    """Products whose ids start so."""
    start = folded(sought[0].text)
    if len(start) < MIN_ID:
        return []
    every = ((one.part, np.sort(one.index.with_id_like(start))) for one in sought)
    return best((_hits(part, rows, limit) for part, rows in every), limit)


def by_words(sought: Sequence[Sought], limit: int) -> list[Hit]:
    """Products that have every word; the last one may be unfinished."""
    return best((_with_all(one, one.meanings, one.finished(), limit) for one in sought), limit)


def by_guesses(sought: Sequence[Sought], limit: int) -> list[Hit]:
    """As `by_words`, where unknown words may stand for known ones."""
    some = [one for one in sought if one.unknown]
    return best((_with_all(one, one.guesses, one.corrected(), limit) for one in some), limit)


def by_doubts(sought: Sequence[Sought], limit: int) -> list[Hit]:
    """As `by_guesses`, where known words, too, may stand for others."""
    return best((_with_all(one, one.doubts, one.corrected(), limit) for one in sought), limit)


def by_some_words(sought: Sequence[Sought], limit: int) -> list[Hit]:
    """Products that have some words; rare ones are worth more."""
    if len(sought[0].words) < 2:
        return []
    every = zip(*(one.guesses for one in sought), strict=True)
    n_rows = np.array([sum(map(_size, meant)) for meant in every], np.float32)
    n_products = sum(one.index.n_products for one in sought)
    worth = np.log1p(n_products / np.maximum(n_rows, 1))
    return best((_with_some(one, worth, limit) for one in sought), limit)


WAYS: tuple[tuple[Match, Callable[[Sequence[Sought], int], list[Hit]]], ...] = (
    ("name", by_name),
    ("id_start", by_id),
    ("words", by_words),
    ("typos", by_guesses),
    ("typos", by_doubts),
    ("some_words", by_some_words),
)
"""What is tried, in this order, until enough is found; and how that is called in an answer."""


LAST_RESORTS = (by_doubts, by_some_words)
"""Tried while nothing is found at all: what has every word typed needs no company."""


def best(hits: Iterable[list[Hit]], limit: int) -> list[Hit]:
    """The best of all parts' hits."""
    return sorted(hit for some in hits for hit in some)[:limit]


def near(words: WordIndex, typed: str) -> list[int]:
    """Places of words that may have been meant: an edit or two away, by their length."""
    found: list[int] = []
    if len(typed) >= MIN_SPELT - 1:
        found += _within(words, typed, words.alike(typed, 1), 1)
    if len(typed) >= LONG - 2:
        found += _within(words, typed, words.alike(typed, 2), 2)
    return list(dict.fromkeys(found))


def _within(words: WordIndex, typed: str, places: Sequence[int], edits: int) -> list[int]:
    """Which of the words are so many edits away; swapping two letters is one."""
    shortest = LONG if edits > 1 else MIN_SPELT
    others = [words.words[place].decode() for place in places]
    return [
        place
        for place, other in zip(places, others, strict=True)
        if len(other) >= shortest and OSA.distance(typed, other, score_cutoff=edits) <= edits
    ]


def _with_id(catalogue: Catalogue, text: str) -> list[int]:
    row = catalogue.row(text)
    return [] if row is None or catalogue.is_gone(row) else [row]


def _with_all(
    sought: Sought, meant: Sequence[Meaning], names: Sequence[int], limit: int
) -> list[Hit]:
    """Products for which every word has its meaning; first those of these names."""
    if not meant or not all(map(_size, meant)):
        return []
    index = sought.index
    fewest, *others = sorted(meant, key=_size)
    rows = fewest.rows if fewest.ascending else _distinct(fewest.rows, index.n_products)
    for one in others:
        rows = rows[_is_in(rows, one, index.n_products)]
    first = _hits(sought.part, np.unique(index.named(names)), limit)
    return first + [Hit(1, row) for _, row in _hits(sought.part, rows, limit)]


def _with_some(sought: Sought, worth: Float32Array, limit: int) -> list[Hit]:
    """Products that have words which are worth most, together."""
    part, sizes = sought.part, np.array([*map(_size, sought.guesses)], np.int64)
    rarest = np.argsort(sizes, kind="stable")
    before = np.cumsum(sizes[rarest]) - sizes[rarest]
    rarest = rarest[(before == 0) | (before + sizes[rarest] <= MOST_POSTINGS)]
    n_products = part.words.n_products
    rows = [_distinct(sought.guesses[i].rows, n_products) for i in rarest]
    every, sums = _summed(rows, worth[rarest], n_products)
    if part.alive is not None:
        sums, every = sums[part.alive[every]], every[part.alive[every]]
    top = largest(sums, limit)
    own = _of_catalogue(part, every[top])
    return [Hit(-total, row) for total, row in zip(sums[top].tolist(), own, strict=True)]


def _summed(
    rows: Sequence[Int32Array], worth: Float32Array, n_products: int
) -> tuple[Int32Array, Float32Array]:
    """Distinct rows, ascending, and what the lists that have them are worth, together."""
    if sum(map(len, rows)) * SPARSE < n_products:
        every, place = np.unique(joined(rows, np.int32), return_inverse=True)
        each = np.repeat(worth, [*map(len, rows)])
        return every, np.bincount(place, each, len(every)).astype(np.float32)
    sums = np.zeros(n_products, np.float32)
    for some, one in zip(rows, worth, strict=True):
        sums[some] += one
    every = np.flatnonzero(sums).astype(np.int32)
    return every, sums[every]


def _size(meaning: Meaning) -> int:
    return len(meaning.rows)


def _hits(part: Part, rows: Int32Array, limit: int) -> list[Hit]:
    """The first that may be found."""
    if part.alive is not None:
        rows = rows[part.alive[rows]]
    return [Hit(0, row) for row in _of_catalogue(part, rows[:limit])]


def _of_catalogue(part: Part, rows: Int32Array) -> list[int]:
    own: list[int] = (rows if part.rows is None else part.rows[rows]).tolist()
    return own


def _distinct(rows: Int32Array, n_products: int) -> Int32Array:
    """Each once, ascending."""
    if len(rows) * SPARSE < n_products:
        return np.unique(rows)
    return np.flatnonzero(_marked(rows, n_products)).astype(np.int32)


def _is_in(rows: Int32Array, meaning: Meaning, n_products: int) -> BoolArray:
    """Which of `rows` have that meaning."""
    having = meaning.rows
    if meaning.ascending and len(rows) * FEW < len(having):
        return located(having, rows)[1]
    return _marked(having, n_products)[rows]


def _marked(rows: Int32Array, n_products: int) -> BoolArray:
    marked = np.zeros(n_products, bool)
    marked[rows] = True
    return marked
