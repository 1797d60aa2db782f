"""item2vec by gensim's defaults, with the cosine of input vectors."""

import numpy as np

from pipelines.bench.peers.peer import Model, Peer, Setting, TrainingData, for_both_tasks
from pipelines.bench.peers.rankers import ItemVectors


def gensim_defaults() -> Peer:
    """CBOW, window 5, 100 dimensions, 5 epochs."""
    settings = [{"shuffled": False}, {"shuffled": True}]
    return Peer(
        "gensim defaults", _fit, for_both_tasks(settings), for_both_tasks([{"by": "cosine"}])
    )


def _fit(data: TrainingData, setting: Setting) -> Model:
    from gensim.models import Word2Vec

    corpus = data.train.with_at_least(2)
    baskets = [corpus[basket].tolist() for basket in range(len(corpus))]
    if setting["shuffled"]:
        rng = np.random.default_rng(data.seed)
        baskets = [rng.permutation(basket).tolist() for basket in baskets]
    # One thread instead of three makes the result reproducible.
    model = Word2Vec(baskets, seed=data.seed, workers=1)
    vectors = np.zeros((data.n_items, model.vector_size), np.float32)
    known = np.array(model.wv.index_to_key, np.int64)
    vectors[known] = model.wv.vectors
    return ItemVectors(vectors)
