"""Similarity of products by name, category, brand (tf-idf) and price, for those with few orders."""

import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from components.model.arrays import (
    Float16Array,
    Float32Array,
    Int32Array,
    IntpArray,
    UInt64Array,
    concat_arrays,
    to_offsets,
)
from components.model.hashing import hash_text
from components.model.ragged import RaggedRows
from components.model.sorted_keys import find_keys
from components.model.top_k import find_top_k

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa

# With 10 groceries are ranked 2 % worse, with 50 1 %; gifts the same with all.
N_NEIGHBOURS = 20

# Before idf. 1 to 4 and 1 to 2 for category and brand rank groceries within 3 %. N-grams of
# characters beside words add nothing (gifts).
TOKEN_WEIGHT, CATEGORY_WEIGHT, BRAND_WEIGHT = 1.0, 2.0, 2.0

# Of similarity with the logarithm of the ratio of two prices: at twice the price a quarter is gone.
# Without it cold gifts are ranked 4 % worse, with 0.8 another 1 % better.
PRICE_DECAY = 0.4
PRICE_OVERFETCH = 3  # Times as many products are taken by text before prices choose among them

MAX_TOKENS = 64  # Of a name; a longer one is a description
MAX_POSTINGS = 100_000  # Read for a query, the rarest tokens' first: bounds its time

# Read before a bound tells which products can still be among the best (MaxScore: Turtle and Flood
# 1995, "Query evaluation: strategies and optimizations"). The p99 of a million products is 1.6 ms
# of CPU instead of 4.3.
FIRST_POSTINGS = 20_000
ROUNDING = np.float32(1.001)  # Of the bound
BLOCK = 50_000  # Products whose texts are in memory as Python objects at once

_WORDS = re.compile(r"[^\W_]+")
_ACCENTS = re.compile("[\u0300-\u036f]+")
# Scripts without spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")

hash_token = functools.lru_cache(maxsize=2**18)(hash_text)


class Attributes(NamedTuple):
    name: str | None = None
    category: str | None = None
    brand: str | None = None
    price: float | None = None


def merge_attributes(given: Attributes | None, card: Mapping[str, Any]) -> Attributes:
    """The attributes of a request, completed by those of the product's card."""
    own = given or Attributes()
    known = ((value, card.get(name)) for name, value in own._asdict().items())
    return Attributes._make(value if value is not None else other for value, other in known)


@dataclass(frozen=True)
class AttributeIndex(RaggedRows, prefix="attributes"):
    """List t holds the catalogue rows with the token whose hash is `tokens[t]` (sorted).

    `weights` are the token's in these products: a product is a vector of length 1. `idf[t]` is its
    weight in a query. `log_prices` (n_items,) is NaN where no price is known.
    """

    tokens: UInt64Array
    idf: Float32Array
    weights: Float16Array
    log_prices: Float32Array

    @property
    def n_items(self) -> int:
        return len(self.log_prices)

    def nearest(
        self, attributes: Attributes, k: int = N_NEIGHBOURS
    ) -> tuple[Int32Array, Float32Array]:
        """Rows and similarities (0 to 1) of up to `k` products that share a token, best first."""
        weights = weigh_tokens(attributes)
        hashes = np.fromiter(weights.keys(), np.uint64, len(weights))
        values = np.fromiter(weights.values(), np.float32, len(weights))
        place, known = find_keys(self.tokens, hashes)
        values[known] = self.idf[place[known]]
        # A token that no product has still makes all of them less similar.
        values[~known] *= np.log1p(np.float32(self.n_items))
        length = np.sqrt(values @ values)
        rows, similar = self._score(place[known], values[known], PRICE_OVERFETCH * k)
        by_text = find_top_k(similar, PRICE_OVERFETCH * k)
        rows, similar = rows[by_text], similar[by_text] / length
        ratio = self.log_prices[rows] - to_log_prices([attributes.price])
        similar *= np.exp(-PRICE_DECAY * np.abs(np.nan_to_num(ratio)))
        best = find_top_k(similar, k)
        return rows[best], np.minimum(similar[best], 1)

    def _score(
        self, place: IntpArray, values: Float32Array, k: int
    ) -> tuple[Int32Array, Float32Array]:
        """Ascending rows, the `k` best among them, and their inner products with `values`."""
        sizes = self.offsets[place + 1] - self.offsets[place]
        rarest = np.argsort(sizes, kind="stable")
        n_read = np.cumsum(sizes[rarest])
        place, values = place[rarest], values[rarest]
        first, end = np.searchsorted(n_read, [FIRST_POSTINGS, MAX_POSTINGS], side="right").tolist()
        rows, scores = self._sum_postings(place[:first], values[:first])
        if first == end:
            return rows, scores
        rest = [self.entries(token) for token in place[first:end].tolist()]
        most = ROUNDING * sum(map(self._find_largest, rest, values[first:end]))
        least = np.partition(scores, -k)[-k] if len(rows) >= k else 0
        if least <= most:
            return self._sum_postings(place[:end], values[:end])
        can_win = scores + most >= least
        rows, scores = rows[can_win], scores[can_win]
        for entries, value in zip(rest, values[first:end], strict=True):
            found, has_token = find_keys(self.rows[entries], rows)
            scores[has_token] += value * self.weights[entries][found[has_token]]
        return rows, scores

    def _sum_postings(
        self, place: IntpArray, values: Float32Array
    ) -> tuple[Int32Array, Float32Array]:
        """Rows with any of the tokens, ascending, and their inner products with `values`."""
        slices = [self.entries(token) for token in place.tolist()]
        rows = concat_arrays([self.rows[one] for one in slices], np.int32)
        scores = concat_arrays([self.weights[one] for one in slices], np.float32)
        scores *= np.repeat(values, [one.stop - one.start for one in slices])
        return _sum_by_row(rows, scores, self.n_items)

    def _find_largest(self, entries: slice, value: np.float32) -> np.float32:
        """The largest score that a token gives; as integers, halves that are not negative compare
        alike and many times faster."""
        largest: np.float32 = value * self.weights[entries].view(np.uint16).max().view(np.float16)
        return largest


def build_attribute_index(products: "pa.Table", n_items: int) -> AttributeIndex:
    """Of the first `n_items` products."""
    blocks = [
        _weigh_block(products.slice(start, min(BLOCK, n_items - start)), start)
        for start in range(0, n_items, BLOCK)
    ]
    hashes = concat_arrays([hashes for hashes, _, _ in blocks], np.uint64)
    order = np.argsort(hashes, kind="stable")
    rows = concat_arrays([rows for _, rows, _ in blocks], np.int32)[order]
    values = concat_arrays([values for _, _, values in blocks], np.float32)[order]
    tokens, first, n_rows = np.unique(hashes[order], return_index=True, return_counts=True)
    # Smoothed: a token of every product still counts, if there is no other.
    idf = (values[first] * np.log1p(n_items / n_rows)).astype(np.float32)
    weights = np.repeat(idf, n_rows)
    lengths = np.sqrt(np.bincount(rows, weights.astype(np.float64) ** 2, n_items))
    unit = (weights / lengths[rows]).astype(np.float16)
    log_prices = to_log_prices(products["price"].slice(0, n_items).to_pylist())
    return AttributeIndex(to_offsets(n_rows), rows, tokens, idf, unit, log_prices)


def read_attributes(products: "pa.Table") -> Iterator[Attributes]:
    columns = (products[column].to_pylist() for column in Attributes._fields)
    return map(Attributes._make, zip(*columns, strict=True))


def weigh_tokens(attributes: Attributes) -> dict[int, float]:
    """Before idf, by token hash."""
    weights = {hash_token(f"word:{word}"): TOKEN_WEIGHT for word in tokenize(attributes.name)}
    if category := " ".join(tokenize(attributes.category)):
        weights[hash_token(f"category:{category}")] = CATEGORY_WEIGHT
    if brand := " ".join(tokenize(attributes.brand)):
        weights[hash_token(f"brand:{brand}")] = BRAND_WEIGHT
    return weights


def to_log_prices(prices: Sequence[float | None]) -> Float32Array:
    """NaN for a price that is missing or none."""
    values = np.array(prices, np.float64)
    values[~((values > 0) & (values <= np.finfo(np.float32).max))] = np.nan
    logs: Float32Array = np.log(values.astype(np.float32))
    return logs


def tokenize(text: str | None) -> list[str]:
    """Words and numbers, lower case, without accents; pairs of characters in unspaced scripts."""
    if not text:
        return []
    if text.isascii():
        return _WORDS.findall(text.lower())[:MAX_TOKENS]
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text).lower())
    return [part for word in _WORDS.findall(plain) for part in _split_unspaced(word)][:MAX_TOKENS]


def _weigh_block(products: "pa.Table", start: int) -> tuple[UInt64Array, Int32Array, Float32Array]:
    """Token hashes, rows and weights of some products; the first has row `start`."""
    found = [weigh_tokens(attributes) for attributes in read_attributes(products)]
    rows = np.arange(start, start + len(found), dtype=np.int32).repeat(list(map(len, found)))
    hashes = np.fromiter((token for weights in found for token in weights), np.uint64, len(rows))
    values = (value for weights in found for value in weights.values())
    return hashes, rows, np.fromiter(values, np.float32, len(rows))


def _sum_by_row(
    rows: Int32Array, values: Float32Array, n_items: int
) -> tuple[Int32Array, Float32Array]:
    """Distinct rows, ascending, and the sums of their values."""
    if len(rows) > n_items / 8:
        sums = np.bincount(rows, values, n_items)
        found = np.flatnonzero(sums).astype(np.int32)
        return found, sums[found].astype(np.float32)
    # Of 100,000 postings `np.unique` with places takes 3 ms, this 1.9.
    keys = np.sort(rows.astype(np.int64) << 32 | np.arange(len(rows)))
    rows, place = (keys >> 32).astype(np.int32), keys & 0xFFFFFFFF
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    sums = np.add.reduceat(values[place], first, dtype=np.float64)
    return rows[first], sums.astype(np.float32)


def _split_unspaced(word: str) -> list[str]:
    if len(word) < 3 or not UNSPACED.search(word):
        return [word]
    return [word[i : i + 2] for i in range(len(word) - 1)]
