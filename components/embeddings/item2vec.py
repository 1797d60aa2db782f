"""item2vec: word2vec over baskets (Barkan and Koenigstein 2016), the way it works for complements.

gensim's defaults do not. What differs: skip-gram; baskets have no order, so the small window runs
over baskets that are reshuffled every epoch, which pairs all of a basket's products and weights a
pair by about 1/(n - 1); and the OUT vectors, which gensim throws away after training, are kept:
in·out says "bought together", in·in only "bought in the same company".
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

HUGE_PAGE_BYTES = 2**21
"""Bytes. Arrays of twice as many are what numpy asks such pages for."""

CHUNK_BASKETS = 100_000
"""Baskets that are in memory as Python objects at once."""


class TrainSettings(BaseModel):
    """How the vectors are trained. The defaults are good for groceries; the sweep finds better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vector_size: int = Field(default=64, ge=2, le=512)
    """Dimensions of a vector. Cost grows slower than dimensions."""
    epochs: int = Field(default=24, ge=1, le=500)
    """Passes over the baskets, each with its own shuffle."""
    window: int = Field(default=2, ge=1, le=100)
    """Companions to each side, at most; gensim draws 1 to `window` each time. Many epochs with a
    small window see more different pairs at the same cost than few with a large one."""
    negative: int = Field(default=3, ge=1, le=50)
    """Random products pushed away per companion. Five are up to 2 % better, and a third dearer."""
    ns_exponent: float = Field(default=0.9, ge=-1, le=1)
    """Their popularity exponent: 1 as bought, 0 all alike, below 0 rare products more often."""
    learning_rate: float = Field(default=0.06, gt=0, le=1)
    """At the start; it falls linearly to a thousandth of that."""
    sample: float = Field(default=0.0, ge=0, le=1)
    """Share of order lines above which a product is skipped at random; 0 skips none."""
    ordered: bool = False
    """Keep the order inside baskets: products pair up to `window` apart, the nearer the more
    often (in a straight line from 1 to 1/window). Only where baskets were filled in that order."""
    size_exponent: float = Field(default=1.0, ge=0, le=2)
    """A pair in a basket of n products weighs about 1 / (n - 1) to this power: 0 lets large baskets
    speak with all their pairs, 2 hears small ones most. Training takes as long with any."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """Of shuffles, negatives and first vectors."""
    workers: int = Field(default=1, ge=1, le=64)
    """Threads. Only with one is a training reproducible: several write to shared vectors."""


@dataclass(frozen=True)
class Vectors:
    """IN and OUT vectors (n_items, vector_size), in catalogue row order."""

    in_vectors: Float32Array
    out_vectors: Float32Array


def train(
    corpus: Corpus,
    n_items: int,
    settings: TrainSettings,
    on_epoch: Callable[[int, Vectors], None] | None = None,
    name: str = "item2vec",
    show: Callable[[str], None] = print,
) -> Vectors:
    """Vectors of all `n_items` products from the baskets of at least two.

    A basket of weight w takes part in an epoch with probability w, so that age weights make
    training cheaper rather than dearer. With `ordered`, the corpus' items are in basket order.
    `on_epoch(n_done, vectors)` sees the vectors so far and
    may stop the training by raising. Progress is shown per epoch under `name`.

    Raises ValueError when no basket says what is bought together.
    """
    corpus = corpus.with_at_least(2)
    if not (corpus.weights > 0).any():
        raise ValueError(
            f"item2vec: none of the training baskets with a weight above 0 holds two products of "
            f"the catalogue ({n_items} products); bring more orders or lower min_product_orders"
        )
    corpus = scale_by_size(corpus, settings.size_exponent)
    rng = np.random.default_rng(settings.seed)
    mix = shuffle_baskets if settings.ordered else shuffle
    model = _build_model(corpus, n_items, settings)
    vectors = Vectors(model.wv.vectors, model.syn1neg)
    rates = settings.learning_rate * np.linspace(1, 0.001, settings.epochs + 1)
    start = time.monotonic()
    for epoch in range(settings.epochs):
        baskets = mix(draw_by_weight(corpus, rng), rng)
        with _pause_gc():
            model.train(
                to_lists(baskets),
                total_examples=len(baskets),
                epochs=1,
                start_alpha=rates[epoch],
                end_alpha=rates[epoch + 1],
            )
        seconds = time.monotonic() - start
        show(f"{name}: epoch {epoch + 1} of {settings.epochs}, {seconds:.0f} s")
        if on_epoch:
            on_epoch(epoch + 1, vectors)
    return vectors


def shuffle(corpus: Corpus, rng: np.random.Generator) -> Corpus:
    """The same baskets in random order, each with its products in random order."""
    corpus = shuffle_baskets(corpus, rng)
    items = np.empty_like(corpus.items)
    for start in range(0, len(corpus), CHUNK_BASKETS):
        offsets = corpus.offsets[start : start + CHUNK_BASKETS + 1]
        mine = slice(offsets[0], offsets[-1])
        basket = np.repeat(np.arange(len(offsets) - 1, dtype=np.uint64), np.diff(offsets))
        # One sort for many baskets: the basket in the upper half of a key, chance in the lower.
        keys = (basket << np.uint64(32)) | rng.integers(2**32, size=len(basket), dtype=np.uint64)
        items[mine] = corpus.items[mine][np.argsort(keys)]
    return Corpus(items, corpus.offsets, corpus.weights)


def shuffle_baskets(corpus: Corpus, rng: np.random.Generator) -> Corpus:
    """The same baskets in random order, their products as they are."""
    return corpus.take(rng.permutation(len(corpus)))


def scale_by_size(corpus: Corpus, exponent: float) -> Corpus:
    """Weights times (n - 1) ** (1 - exponent), scaled so that as many products take part as before.

    The windows pair each of n products with as many of the others, which alone is 1 / (n - 1).
    Baskets are of at least two, one of them with a weight above 0.
    """
    if exponent == 1:
        return corpus
    weights = corpus.weights * (corpus.sizes - 1.0) ** (1 - exponent)
    weights *= (corpus.weights @ corpus.sizes) / (weights @ corpus.sizes)
    return replace(corpus, weights=weights.astype(np.float32))


def draw_by_weight(corpus: Corpus, rng: np.random.Generator) -> Corpus:
    """A basket of weight w, w times on average: 2.25 is two and a third with probability 1/4.

    At least the heaviest is drawn.
    """
    if (corpus.weights == 1).all():
        return corpus
    whole = np.floor(corpus.weights).astype(np.int64)
    more = rng.random(len(corpus)) < corpus.weights - whole
    drawn = np.repeat(np.arange(len(corpus)), whole + more)
    return corpus.take(drawn if len(drawn) else np.array([corpus.weights.argmax()]))


def to_lists(corpus: Corpus) -> Iterator[list[int]]:
    """Baskets as Python lists, which is what gensim takes, few at once: they take much memory."""
    for start in range(0, len(corpus), CHUNK_BASKETS):
        offsets = corpus.offsets[start : start + CHUNK_BASKETS + 1]
        items = corpus.items[offsets[0] : offsets[-1]].tolist()
        yield from (items[a:b] for a, b in pairwise((offsets - offsets[0]).tolist()))


@contextmanager
def _pause_gc() -> Iterator[None]:
    """Look for no cycles meanwhile: lists of numbers have none, and are very many."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _build_model(corpus: Corpus, n_items: int, settings: TrainSettings) -> Any:
    """A gensim model whose words are catalogue rows, in row order."""
    from gensim.models import Word2Vec

    model = Word2Vec(
        sg=1,
        hs=0,
        min_count=0,
        sorted_vocab=0,
        vector_size=settings.vector_size,
        window=settings.window,
        negative=settings.negative,
        ns_exponent=settings.ns_exponent,
        alpha=settings.learning_rate,
        sample=settings.sample,
        seed=settings.seed,
        workers=settings.workers,
    )
    # A product in no basket of two must not be drawn infinitely often by a negative exponent.
    counts = np.maximum(np.bincount(corpus.items, minlength=n_items), 1)
    model.build_vocab_from_freq(dict(enumerate(counts.tolist())))
    # Words are their own places; a dict of a million would miss the processor's cache to say so.
    model.wv.key_to_index = range(n_items)
    model.wv.vectors, model.syn1neg = (
        _align_to_page(model.wv.vectors),
        _align_to_page(model.syn1neg),
    )
    model.cum_table = _align_to_page(model.cum_table)
    return model


def _align_to_page(array: AnyArray) -> AnyArray:
    """A copy that begins with a large page of memory, as numpy's own arrays do not.

    A vector then lies in four cache lines instead of five, and training, which waits for those of
    products drawn at random, takes a tenth less where there are a million.
    """
    whole = np.empty(array.nbytes + 2 * HUGE_PAGE_BYTES, np.uint8)
    start = -whole.ctypes.data % HUGE_PAGE_BYTES
    copy = whole[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[:] = array
    return copy
