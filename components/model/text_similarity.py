"""Which products of the catalogue are described alike: names, categories, brands and prices.

The texts are compared as tf-idf vectors; a different price makes products less alike. This is for
products that nobody, or hardly anybody, has bought yet. Tokens are hashed, so that the index
is a few flat arrays and any text can be asked for.
"""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from components.model.arrays import (
    AnyArray,
    Float16Array,
    Float32Array,
    Int32Array,
    Int64Array,
    IntpArray,
    UInt64Array,
)
from components.model.sorted_keys import find_keys

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa


ARRAYS = ("tokens", "idf", "offsets", "rows", "weights", "log_prices")
"""The arrays of AttributeIndex; each lies in attribute_NAME.npy."""

NEAREST = 20
"""Products that stand for a cold one: with 10 groceries are ranked 2 % worse, with 50 1 %, gifts
the same with all."""

WORD, CATEGORY, BRAND = 1.0, 2.0, 2.0
"""What a word of the name and a whole category or brand are worth, before their rarity. 1 to 4 and
1 to 2 rank groceries within 3 %. N-grams of characters beside words add nothing (gifts)."""

MAX_TOKENS = 64
"""Words of a name that count: what goes on is a description."""

PRICE = 0.4
"""How fast similarity falls with the logarithm of the ratio of two prices: at twice the price a
quarter is gone. Without it cold gifts are ranked 4 % worse, with 0.8 another 1 % better."""

PRICE_OVERFETCH = 3
"""Times as many products are taken by text before prices choose among them."""

MAX_POSTINGS = 100_000
"""Looked at for one question, those of the rarest tokens first: bounds its time to a few
milliseconds however large the catalogue is."""

BLOCK = 50_000
"""Products whose texts are in memory as Python objects at once."""

_WORDS = re.compile(r"[^\W_]+")
_ACCENTS = re.compile("[\u0300-\u036f]+")
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


class Attributes(NamedTuple):
    """What is written on a product; anything may be missing."""

    name: str | None = None
    category: str | None = None
    brand: str | None = None
    price: float | None = None
    """Per unit, in the shop's currency."""


def described(given: Attributes | None, card: Mapping[str, Any]) -> Attributes:
    """What is said of a product beforehand, and for the rest what its card says."""
    own = given or Attributes()
    known = ((mine, card.get(name)) for name, mine in own._asdict().items())
    return Attributes._make(mine if mine is not None else theirs for mine, theirs in known)


@dataclass(frozen=True)
class AttributeIndex:
    """What is written on the catalogue's `n_items` products, by token; immutable.

    `rows[offsets[t]:offsets[t + 1]]` are the catalogue rows with the token whose hash is
    `tokens[t]` (sorted), and `weights` what it is worth there: the weights of a product are a
    vector of length 1. `idf[t]` is what the token is worth in a question. `log_prices` (n_items,)
    is NaN where no price is known.
    """

    n_items: int
    tokens: UInt64Array
    idf: Float32Array
    offsets: Int64Array
    rows: Int32Array
    weights: Float16Array
    log_prices: Float32Array

    def nearest(self, attributes: Attributes, k: int = NEAREST) -> tuple[Int32Array, Float32Array]:
        """Rows and similarities (0 to 1) of up to `k` products described most alike, best first.

        Equal ones come in order of rows, that is by orders. None come where no token is known.
        """
        worth = weigh_tokens(attributes)
        hashes = np.fromiter(worth.keys(), np.uint64, len(worth))
        values = np.fromiter(worth.values(), np.float32, len(worth))
        place, known = find_keys(self.tokens, hashes)
        values[known] = self.idf[place[known]]
        # A token that no product has still says that none is quite like this one.
        values[~known] *= np.log1p(np.float32(self.n_items))
        length = np.sqrt(values @ values)
        rows, similar = self._products(place[known], values[known])
        by_text = find_top_k(similar, PRICE_OVERFETCH * k)
        rows, similar = rows[by_text], similar[by_text] / length
        ratio = self.log_prices[rows] - to_log_prices([attributes.price])
        similar *= np.exp(-PRICE * np.abs(np.nan_to_num(ratio)))
        best = find_top_k(similar, k)
        return rows[best], np.minimum(similar[best], 1)

    def _products(self, place: IntpArray, values: Float32Array) -> tuple[Int32Array, Float32Array]:
        """Rows that have any of the tokens, ascending, and their inner products with `values`."""
        starts, ends = self.offsets[place], self.offsets[place + 1]
        rarest = np.argsort(ends - starts, kind="stable")
        rarest = rarest[np.cumsum((ends - starts)[rarest]) <= MAX_POSTINGS]
        slices = [slice(starts[i], ends[i]) for i in rarest]
        rows = concat_arrays([self.rows[one] for one in slices], np.int32)
        worth = concat_arrays([self.weights[one] for one in slices], np.float32)
        worth *= np.repeat(values[rarest], (ends - starts)[rarest])
        return _sum_by_row(rows, worth, self.n_items)


def build_attribute_index(products: "pa.Table", n_items: int) -> AttributeIndex:
    """The index of the first `n_items` rows of `products`, which has the columns of Attributes.

    Linear in products. Where nothing is written on any of them, it is empty.
    """
    blocks = [
        _block(products.slice(start, min(BLOCK, n_items - start)), start)
        for start in range(0, n_items, BLOCK)
    ]
    hashes = concat_arrays([hashes for hashes, _, _ in blocks], np.uint64)
    order = np.argsort(hashes, kind="stable")
    rows = concat_arrays([rows for _, rows, _ in blocks], np.int32)[order]
    worth = concat_arrays([worth for _, _, worth in blocks], np.float32)[order]
    tokens, first, n_rows = np.unique(hashes[order], return_index=True, return_counts=True)
    # Smoothed: what is written on every product is still worth something, if that is all there is.
    idf = (worth[first] * np.log1p(n_items / n_rows)).astype(np.float32)
    repeated = np.repeat(idf, n_rows)
    lengths = np.sqrt(np.bincount(rows, repeated.astype(np.float64) ** 2, n_items))
    weights = (repeated / lengths[rows]).astype(np.float16)
    offsets = np.concatenate([[0], np.cumsum(n_rows)]).astype(np.int64)
    log_prices = to_log_prices(products["price"].slice(0, n_items).to_pylist())
    return AttributeIndex(n_items, tokens, idf, offsets, rows, weights, log_prices)


def save_attributes(index: AttributeIndex, folder: Path) -> None:
    """Write the arrays as attribute_NAME.npy into `folder`, which is not yet in its place."""
    for name in ARRAYS:
        np.save(folder / f"attribute_{name}.npy", getattr(index, name))


def load_attributes(folder: Path, n_items: int) -> AttributeIndex:
    """The index whose files lie in `folder`, memory-mapped read-only."""
    arrays = {
        name: np.load(folder / f"attribute_{name}.npy", mmap_mode="r").view(np.ndarray)
        for name in ARRAYS
    }
    return AttributeIndex(n_items, **arrays)


def read_attributes(products: "pa.Table") -> Iterator[Attributes]:
    """What is written on every row of `products`."""
    columns = (products[column].to_pylist() for column in Attributes._fields)
    return map(Attributes._make, zip(*columns, strict=True))


def weigh_tokens(attributes: Attributes) -> dict[int, float]:
    """Hashes of what is written on a product, and what each is worth before its rarity."""
    worth = {hash_token(f"word:{word}"): WORD for word in tokenize(attributes.name)}
    if category := " ".join(tokenize(attributes.category)):
        worth[hash_token(f"category:{category}")] = CATEGORY
    if brand := " ".join(tokenize(attributes.brand)):
        worth[hash_token(f"brand:{brand}")] = BRAND
    return worth


def to_log_prices(prices: Sequence[float | None]) -> Float32Array:
    """Logarithms of prices; NaN for what is no price."""
    values = np.array(prices, np.float64)
    values[~((values > 0) & (values <= np.finfo(np.float32).max))] = np.nan
    logs: Float32Array = np.log(values.astype(np.float32))
    return logs


def tokenize(text: str | None) -> list[str]:
    """The words of a text, lower case and without accents; numbers are words too.

    Where a script puts no spaces, pairs of characters are taken for words.
    """
    if not text:
        return []
    if text.isascii():
        return _WORDS.findall(text.lower())[:MAX_TOKENS]
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text).lower())
    return [part for word in _WORDS.findall(plain) for part in _parts(word)][:MAX_TOKENS]


@functools.lru_cache(maxsize=2**18)
def hash_token(token: str) -> int:
    """64 bits that are the same on every machine and in every process."""
    encoded = token.encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")


def concat_arrays(parts: Sequence[AnyArray], dtype: type[np.generic]) -> AnyArray:
    """All of them in one array of that type; there may be none."""
    return np.concatenate([np.empty(0, dtype), *parts], dtype=dtype, casting="same_kind")


def find_top_k(values: npt.NDArray[np.floating], k: int) -> IntpArray:
    """Places of the `k` largest, largest first; ties in order of places."""
    places = np.arange(len(values))
    if len(values) > k:
        least = np.partition(values, len(values) - k)[len(values) - k]
        above = np.flatnonzero(values > least)
        # There may be as many ties as values: not all are to be sorted.
        ties = np.flatnonzero(values == least)[: k - len(above)]
        places = np.sort(np.concatenate([above, ties]))
    return places[np.argsort(-values[places], kind="stable")][:k]


def _block(products: "pa.Table", start: int) -> tuple[UInt64Array, Int32Array, Float32Array]:
    """Hashes, rows and worths of what is written on some products; the first has row `start`."""
    found = [weigh_tokens(attributes) for attributes in read_attributes(products)]
    sizes = [len(worth) for worth in found]
    rows = np.repeat(np.arange(start, start + len(found), dtype=np.int32), sizes)
    hashes = np.fromiter((one for worth in found for one in worth), np.uint64, len(rows))
    values = (one for worth in found for one in worth.values())
    return hashes, rows, np.fromiter(values, np.float32, len(rows))


def _sum_by_row(
    rows: Int32Array, worth: Float32Array, n_items: int
) -> tuple[Int32Array, Float32Array]:
    """Distinct rows, ascending, and the sum of what each is worth."""
    if len(rows) > n_items / 8:
        sums = np.bincount(rows, worth, n_items)
        met = np.flatnonzero(sums).astype(np.int32)
        return met, sums[met].astype(np.float32)
    met, place = np.unique(rows, return_inverse=True)
    return met, np.bincount(place, worth, len(met)).astype(np.float32)


def _parts(word: str) -> list[str]:
    if len(word) < 3 or not UNSPACED.search(word):
        return [word]
    return [word[i : i + 2] for i in range(len(word) - 1)]
