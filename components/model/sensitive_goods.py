"""Goods that embarrass beside others: tobacco, alcohol, infant formula, medicine, adult.

`sensitive_goods.json` holds the words by class and language, `any` those of every class.
"""

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.model.arrays import BoolArray, Int8Array
from components.model.ragged import ArrayGroup
from components.model.text_similarity import read_attributes, tokenize

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa

CLASSES = ("tobacco", "alcohol", "infant_formula", "medicine", "adult")
"""Class c has the code c + 1. A bundle stores codes: append, never reorder."""

PLAIN = 0
"""Code of all other goods."""

WORDS_FILE = Path(__file__).with_suffix(".json")

_Words = Mapping[str, Mapping[str, Mapping[str, list[str]]]]
"""Class, language, `words` or `unless`."""

_FOLDED = str.maketrans({"ı": "i", "ß": "ss", "ł": "l", "ø": "o", "œ": "oe", "æ": "ae"})
"""Letters that `tokenize` keeps, as they have no accent to drop."""


@dataclass(frozen=True)
class SensitiveGoods(ArrayGroup, prefix="sensitive"):
    """`classes` (n_products,) are codes, see CLASSES."""

    classes: Int8Array


@dataclass(frozen=True)
class _Phrase:
    tokens: tuple[str, ...]
    codes: frozenset[int]
    is_exception: bool


def build_sensitive_goods(products: "pa.Table") -> SensitiveGoods:
    codes = (classify(one.name, one.category) for one in read_attributes(products))
    return SensitiveGoods(np.fromiter(codes, np.int8, products.num_rows))


def classify(name: str | None, category: str | None) -> int:
    """The code of a product's class; the name counts before the category.

    An exception in the name (wine *glass*) also holds against the category.
    """
    own, exceptions = _scan(name)
    if found := own - exceptions:
        return min(found)
    of_category, others = _scan_category(category)
    return min(of_category - others - exceptions, default=PLAIN)


def find_clashes(asked: Iterable[int], codes: Int8Array) -> BoolArray:
    """Which products are sensitive, and of another class than all products asked for."""
    clashes: BoolArray = codes != PLAIN
    for code in set(asked):
        clashes &= codes != code
    return clashes


def _scan(text: str | None) -> tuple[frozenset[int], frozenset[int]]:
    """Codes of the classes named in a text, and of those that it excepts."""
    named, excepted = set[int](), set[int]()
    tokens, phrases = [one.translate(_FOLDED) for one in tokenize(text)], _read_phrases()
    for place, token in enumerate(tokens):
        for phrase in phrases.get(token, ()):
            if tuple(tokens[place : place + len(phrase.tokens)]) == phrase.tokens:
                (excepted if phrase.is_exception else named).update(phrase.codes)
    return frozenset(named), frozenset(excepted)


_scan_category = functools.lru_cache(maxsize=2**12)(_scan)


@functools.cache
def _read_phrases() -> Mapping[str, list[_Phrase]]:
    """By their first token."""
    phrases = defaultdict[str, list[_Phrase]](list)
    for phrase in _iterate_phrases(json.loads(WORDS_FILE.read_text(encoding="utf-8"))):
        phrases[phrase.tokens[0]].append(phrase)
    return dict(phrases)


def _iterate_phrases(content: _Words) -> Iterator[_Phrase]:
    every = range(1, len(CLASSES) + 1)
    for name, languages in content.items():
        codes = frozenset(every if name == "any" else [CLASSES.index(name) + 1])
        for lists in languages.values():
            for kind, texts in lists.items():
                for text in texts:
                    yield _Phrase(tuple(text.split()), codes, kind == "unless")
