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
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import OSA

from bento.catalogue import Catalogue
from bento.changed_texts import Part
from bento.schemas import Match
from components.attributes.text import joined, largest
from components.bundle.bundle import Bundle
from components.bundle.words import MIN_SPELT, WordIndex, build_words, folded, spelling

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

MOST_WORDS = 16
"""Words of a question that count."""

MIN_ID = 3
"""Characters from which on a beginning is looked for among ids."""

LONG = 9
"""Letters of a word that may be two edits away; of shorter ones one."""

MOST_POSTINGS = 100_000
"""Looked at where only some words need be there, those of the rarest words first."""

FEW = 32
"""A list so many times shorter than another is looked up in it, instead of marked."""


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

    rows: Ints
    ascending: bool
    """And without repetition; else neither is sure."""


NOTHING = Meaning(np.empty(0, np.int32), True)


@dataclass(frozen=True)
class Sought:
    """What was typed, as a part of the catalogue takes it."""

    part: Part
    text: str
    words: list[str]
    """Each once, in their order."""

    @property
    def index(self) -> WordIndex:
        """What the part is searched with."""
        return self.part.words

    @cached_property
    def meanings(self) -> list[Meaning]:
        """For every word the products that have it, or one that starts so if it is the last."""
        return [self._meaning(word) for word in self.words[:MOST_WORDS]]

    @cached_property
    def guesses(self) -> list[Meaning]:
        """As `meanings`; words that nothing has stand for what they may have been meant for."""
        known = zip(self.words, self.meanings, strict=False)
        return [one if len(one.rows) else self._guess(word, one) for word, one in known]

    @cached_property
    def doubts(self) -> list[Meaning]:
        """As `guesses`, but for every word."""
        known = zip(self.words, self.meanings, self.guesses, strict=False)
        return [self._guess(word, one) if len(one.rows) else other for word, one, other in known]

    def _meaning(self, word: str) -> Meaning:
        if word == self.words[-1]:
            first, end = self.index.words.starting(word)
            return Meaning(self.index.having(first, end), end <= first + 1)
        if (place := self.index.words.place(word)) is None:
            return NOTHING
        return Meaning(self.index.having(place, place + 1), True)

    def _guess(self, word: str, meaning: Meaning) -> Meaning:
        rows = [self.index.having(place, place + 1) for place in near(self.index, word)]
        return Meaning(np.concatenate([meaning.rows, *rows]), False) if rows else meaning


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
        words = list(dict.fromkeys(spelling(text)))
        sought = [Sought(part, text, words) for part in catalogue.parts(self.words)]
        found = {row: Found(row, "id") for row in _with_id(catalogue, text)}
        for match, way in WAYS:
            if len(found) >= limit:
                break
            for _, row in way(sought, limit + len(found)):
                found.setdefault(row, Found(row, match))
        return list(found.values())[:limit]


def by_name(sought: Sequence[Sought], limit: int) -> list[Hit]:
    """Products with just that name."""
    return best((_hits(one.part, one.index.named(one.text), limit) for one in sought), limit)


def by_id(sought: Sequence[Sought], limit: int) -> list[Hit]:
    """Products whose ids start so."""
    start = folded(sought[0].text)
    if len(start) < MIN_ID:
        return []
    every = ((one.part, np.sort(one.index.with_id_like(start))) for one in sought)
    return best((_hits(part, rows, limit) for part, rows in every), limit)


def by_words(sought: Sequence[Sought], limit: int) -> list[Hit]:
    """Products that have every word; the last one may be unfinished."""
    return best((_with_all(one, one.meanings, limit) for one in sought), limit)


def by_guesses(sought: Sequence[Sought], limit: int) -> list[Hit]:
    """As `by_words`, where unknown words may stand for known ones."""
    return best((_with_all(one, one.guesses, limit) for one in sought), limit)


def by_doubts(sought: Sequence[Sought], limit: int) -> list[Hit]:
    """As `by_guesses`, where known words, too, may stand for others."""
    return best((_with_all(one, one.doubts, limit) for one in sought), limit)


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


def best(hits: Iterable[list[Hit]], limit: int) -> list[Hit]:
    """The best of all parts' hits."""
    return sorted(hit for some in hits for hit in some)[:limit]


def near(index: WordIndex, word: str) -> list[int]:
    """Places of words that `word` may have been meant for: an edit or two away, by their length."""
    if len(word) < MIN_SPELT - 1:
        return []
    found = []
    for place in index.alike(word, 1 if len(word) < LONG - 2 else 2):
        other = index.words[place].decode()
        most = 1 if len(other) < LONG else 2
        if OSA.distance(word, other, score_cutoff=most) <= most:
            found.append(place)
    return found


def _with_id(catalogue: Catalogue, text: str) -> list[int]:
    row = catalogue.row(text)
    return [] if row is None or catalogue.is_gone(row) else [row]


def _with_all(sought: Sought, meant: Sequence[Meaning], limit: int) -> list[Hit]:
    """Products for which every word has its meaning; first those whose names have no other."""
    if not meant or not all(map(_size, meant)):
        return []
    index = sought.index
    fewest, *others = sorted(meant, key=_size)
    rows = fewest.rows if fewest.ascending else _distinct(fewest.rows, index.n_products)
    for one in others:
        rows = rows[_is_in(rows, one, index.n_products)]
    whole = index.name_sizes[rows] == len(sought.words)
    first = _hits(sought.part, rows[whole], limit)
    if len(first) == limit:
        return first
    return first + [Hit(1, row) for _, row in _hits(sought.part, rows[~whole], limit)]


def _with_some(sought: Sought, worth: Floats, limit: int) -> list[Hit]:
    """Products that have words which are worth most, together."""
    part, sizes = sought.part, np.array([*map(_size, sought.guesses)], np.int64)
    rarest = np.argsort(sizes, kind="stable")
    rarest = rarest[np.cumsum(sizes[rarest]) <= MOST_POSTINGS]
    n_products = part.words.n_products
    rows = [_distinct(sought.guesses[i].rows, n_products) for i in rarest]
    every, sums = _summed(rows, worth[rarest], n_products)
    if part.alive is not None:
        sums, every = sums[part.alive[every]], every[part.alive[every]]
    top = largest(sums, limit)
    own = _of_catalogue(part, every[top])
    return [Hit(-total, row) for total, row in zip(sums[top].tolist(), own, strict=True)]


def _summed(rows: Sequence[Ints], worth: Floats, n_products: int) -> tuple[Ints, Floats]:
    """Distinct rows, ascending, and what the lists that have them are worth, together."""
    if sum(map(len, rows)) * FEW < n_products:
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


def _hits(part: Part, rows: Ints, limit: int) -> list[Hit]:
    """The first that may be found."""
    if part.alive is not None:
        rows = rows[part.alive[rows]]
    return [Hit(0, row) for row in _of_catalogue(part, rows[:limit])]


def _of_catalogue(part: Part, rows: Ints) -> list[int]:
    own: list[int] = (rows if part.rows is None else part.rows[rows]).tolist()
    return own


def _distinct(rows: Ints, n_products: int) -> Ints:
    """Each once, ascending."""
    if len(rows) * FEW < n_products:
        return np.unique(rows)
    return np.flatnonzero(_marked(rows, n_products)).astype(np.int32)


def _is_in(rows: Ints, meaning: Meaning, n_products: int) -> npt.NDArray[np.bool_]:
    """Which of `rows` have that meaning."""
    having = meaning.rows
    if meaning.ascending and len(rows) * FEW < len(having):
        place = np.minimum(np.searchsorted(having, rows), len(having) - 1)
        return np.asarray(having[place] == rows)
    return _marked(having, n_products)[rows]


def _marked(rows: Ints, n_products: int) -> npt.NDArray[np.bool_]:
    marked = np.zeros(n_products, bool)
    marked[rows] = True
    return marked
