"""item2vec (Barkan and Koenigstein 2016): skip-gram with negative sampling over baskets.

Two changes to gensim's usual training make it work for complements. Baskets are shuffled every
epoch, so that a small window pairs all products, with a weight of about 1/(n - 1). The OUT vectors
are kept: in·out ranks complements, in·in only products with similar companions.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from components.baskets.corpus import Corpus
from components.model.arrays import AnyArray, Float32Array

HUGE_PAGE_BYTES = 2**21  # 2 MB, a huge page of x86-64 Linux
CHUNK_BASKETS = 100_000  # Baskets that are Python lists at once


class TrainSettings(BaseModel):
    """The defaults suit groceries; the sweep tunes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vector_size: int = Field(default=64, ge=2, le=512)
    """Dimensions."""
    epochs: int = Field(default=24, ge=1, le=500)
    """Passes over the baskets."""
    window: int = Field(default=2, ge=1, le=100)
    """To each side; gensim draws 1 to `window`. Many epochs with a small window see more pairs at
    the same cost than few with a large one."""
    negative: int = Field(default=3, ge=1, le=50)
    """Negative samples per pair. Five are up to 2 % better, and a third dearer."""
    ns_exponent: float = Field(default=0.9, ge=-1, le=1)
    """Popularity exponent of negative samples: 1 as bought, 0 uniform, below 0 favours rare."""
    learning_rate: float = Field(default=0.06, gt=0, le=1)
    """Initial; decays linearly to a thousandth."""
    sample: float = Field(default=0.0, ge=0, le=1)
    """Subsampling threshold, a share of order lines; 0 is off."""
    ordered: bool = False
    """Keep the order inside baskets, where it is real; pair weights fall linearly from 1 to
    1/window."""
    size_exponent: float = Field(default=1.0, ge=0, le=2)
    """Weight of a pair in a basket of n products: (n - 1) to the minus this."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """Of shuffles, negative samples and initial vectors."""
    workers: int = Field(default=1, ge=1, le=64)
    """Threads. Reproducible only with one (Hogwild)."""


@dataclass(frozen=True)
class Vectors:
    """(n_items, vector_size) each."""

    in_vectors: Float32Array
    out_vectors: Float32Array


def train(
    corpus: Corpus, n_items: int, settings: TrainSettings,
    on_epoch: Callable[[int, Vectors], None] | None = None, name: str = "item2vec",
    show: Callable[[str], None] = print,
) -> Vectors:  # fmt: skip
    """Train on the baskets of at least two products.

    A basket of weight w is drawn w times an epoch on average. `on_epoch(n_done, vectors)` may raise
    to stop. Raises ValueError when no such basket has a weight above 0.
    """
    corpus = scale_by_size(_select_pairs(corpus, n_items), settings.size_exponent)
    rng = np.random.default_rng(settings.seed)
    shuffle_epoch = shuffle_baskets if settings.ordered else shuffle
    model = _build_model(corpus, n_items, settings)
    vectors = Vectors(model.wv.vectors, model.syn1neg)
    rates = settings.learning_rate * np.linspace(1, 0.001, settings.epochs + 1)
    start = time.monotonic()
    for epoch in range(settings.epochs):
        baskets = shuffle_epoch(draw_by_weight(corpus, rng), rng)
        with _pause_gc():
            model.train(
                to_lists(baskets), total_examples=len(baskets), epochs=1,
                start_alpha=rates[epoch], end_alpha=rates[epoch + 1],
            )  # fmt: skip
        seconds = time.monotonic() - start
        show(f"{name}: epoch {epoch + 1} of {settings.epochs}, {seconds:.0f} s")
        if on_epoch:
            on_epoch(epoch + 1, vectors)
    return vectors


def _select_pairs(corpus: Corpus, n_items: int) -> Corpus:
    corpus = corpus.with_at_least(2)
    if not (corpus.weights > 0).any():
        raise ValueError(
            f"item2vec: none of the training baskets with a weight above 0 holds two products of "
            f"the catalogue ({n_items} products); bring more orders or lower min_product_orders"
        )
    return corpus


def shuffle(corpus: Corpus, rng: np.random.Generator) -> Corpus:
    """Baskets, and products inside them, in random order."""
    corpus = shuffle_baskets(corpus, rng)
    items = np.empty_like(corpus.items)
    for start in range(0, len(corpus), CHUNK_BASKETS):
        offsets = corpus.offsets[start : start + CHUNK_BASKETS + 1]
        chunk = slice(offsets[0], offsets[-1])
        basket = np.repeat(np.arange(len(offsets) - 1, dtype=np.uint64), np.diff(offsets))
        # One sort for many baskets: basket number in the upper bits of a key, noise in the lower.
        keys = (basket << np.uint64(32)) | rng.integers(2**32, size=len(basket), dtype=np.uint64)
        items[chunk] = corpus.items[chunk][np.argsort(keys)]
    return Corpus(items, corpus.offsets, corpus.weights)


def shuffle_baskets(corpus: Corpus, rng: np.random.Generator) -> Corpus:
    return corpus.take(rng.permutation(len(corpus)))


def scale_by_size(corpus: Corpus, exponent: float) -> Corpus:
    """Weights times (n - 1) ** (1 - exponent), scaled to the same number of drawn products.

    The window by itself gives a pair the weight 1 / (n - 1).
    """
    if exponent == 1:
        return corpus
    weights = corpus.weights * (corpus.sizes - 1.0) ** (1 - exponent)
    weights *= (corpus.weights @ corpus.sizes) / (weights @ corpus.sizes)
    return replace(corpus, weights=weights.astype(np.float32))


def draw_by_weight(corpus: Corpus, rng: np.random.Generator) -> Corpus:
    """Baskets as often as their weight: 2.25 is twice, and once more with probability 1/4.

    Draws the heaviest if it would draw none.
    """
    if (corpus.weights == 1).all():
        return corpus
    times = np.floor(corpus.weights).astype(np.int64)
    times += rng.random(len(corpus)) < corpus.weights - times
    drawn = np.repeat(np.arange(len(corpus)), times)
    return corpus.take(drawn if len(drawn) else np.array([corpus.weights.argmax()]))


def to_lists(corpus: Corpus) -> Iterator[list[int]]:
    for start in range(0, len(corpus), CHUNK_BASKETS):
        offsets = corpus.offsets[start : start + CHUNK_BASKETS + 1]
        items = corpus.items[offsets[0] : offsets[-1]].tolist()
        yield from (items[a:b] for a, b in pairwise((offsets - offsets[0]).tolist()))


@contextmanager
def _pause_gc() -> Iterator[None]:
    """The garbage collector would scan millions of lists without cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _build_model(corpus: Corpus, n_items: int, settings: TrainSettings) -> Any:
    from gensim.models import Word2Vec

    own = settings.model_dump(exclude={"epochs", "learning_rate", "ordered", "size_exponent"})
    model = Word2Vec(sg=1, hs=0, min_count=0, sorted_vocab=0, alpha=settings.learning_rate, **own)
    # A negative exponent would draw a product of count 0 infinitely often.
    counts = np.maximum(np.bincount(corpus.items, minlength=n_items), 1)
    model.build_vocab_from_freq(dict(enumerate(counts.tolist())))
    # Keys are their own indices; a dict of millions would miss the processor's cache.
    model.wv.key_to_index = range(n_items)
    model.wv.vectors = _align_to_page(model.wv.vectors)
    model.syn1neg = _align_to_page(model.syn1neg)
    model.cum_table = _align_to_page(model.cum_table)
    return model


def _align_to_page(array: AnyArray) -> AnyArray:
    """A copy at a huge page: vectors span fewer cache lines, 10 % faster at a million products."""
    whole = np.empty(array.nbytes + 2 * HUGE_PAGE_BYTES, np.uint8)
    start = -whole.ctypes.data % HUGE_PAGE_BYTES
    copy = whole[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[:] = array
    return copy
