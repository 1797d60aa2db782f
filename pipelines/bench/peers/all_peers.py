"""All peers of `fbt bench quality`."""

from collections.abc import Sequence

from pipelines.bench.peers import (
    counting,
    ease,
    gensim_defaults,
    implicit_models,
    random_walk,
    rules,
    session_knn,
    slim,
)
from pipelines.bench.peers.peer import Peer


def list_peers() -> Sequence[Peer]:
    return (
        counting.popularity(),
        counting.cooccurrence(),
        counting.tuned_cooccurrence(),
        counting.counts_minus_chance(),
        counting.lift(),
        counting.cosine(),
        counting.jaccard(),
        counting.pmi(),
        implicit_models.item_knn("cosine"),
        implicit_models.item_knn("tf-idf"),
        implicit_models.item_knn_bm25(),
        implicit_models.als_defaults(),
        implicit_models.als(),
        gensim_defaults.gensim_defaults(),
        random_walk.rp3beta(),
        session_knn.vsknn(),
        slim.slim(),
        ease.ease(),
        implicit_models.bpr(),
        rules.rules(),
    )
