"""fbt and a model of implicit, trained and tested on the same orders of a real shop."""

from dataclasses import dataclass
from pathlib import Path

from components.baskets.corpus import build_catalogue, read_baskets
from components.bundle.build import order_product_table
from components.evaluation.metrics import score
from components.model.bundle import read_bundle
from components.progress import log_progress
from pipelines.bench.ablation import WHOLE, Inputs, build_ablation, train_rest, train_vectors
from pipelines.bench.peers.implicit_models import fit_knn, item_knn, item_knn_bm25
from pipelines.bench.peers.peer import ITEM, Peer
from pipelines.bench.peers.tuning import NDCG, K, Tuned, tune
from pipelines.bench.quality import MIN_ORDERS, EvaluationData, read_evaluation_data
from tests.bench.served.diy import write_model


@dataclass(frozen=True)
class Rivals:
    """Both models, and NDCG@10 on test baskets for single products."""

    bundle: Path
    model: Path
    setting: str
    """What validation baskets chose for them."""
    ours_ndcg: float
    diy_ndcg: float
    product_ids: list[str]


def train_rivals(inputs: Inputs) -> Rivals:
    """Train both on the training baskets, tune on the validation ones, judge on the test ones."""
    data = read_evaluation_data(inputs.baskets)
    peer, tuned = best_knn(data)
    log_progress("fbt: training")
    vectors = train_vectors(inputs)["vectors"]
    ours = build_ablation(inputs, vectors, train_rest(inputs))
    product_ids, _ = build_catalogue(read_baskets(inputs.baskets), MIN_ORDERS)
    cards = order_product_table(product_ids, inputs.products).slice(0, len(product_ids))
    model = inputs.folder / "diy"
    write_model(fit_knn(data.train, tuned.setting), cards, model)
    queries, n_items = data.test[ITEM], data.train.n_items
    knn = peer.fit(data.train, tuned.setting)
    rankers = ours.parts[WHOLE].ranker, knn.ranker(tuned.mode)
    ndcg = [
        float(score(one.rank(queries.asked, K)[0], queries.relevant, n_items)["ndcg"].mean())
        for one in rankers
    ]
    bundle = inputs.folder / "bundle"
    known = read_bundle(bundle, verify=False).product_ids[:n_items]
    return Rivals(bundle, model, str(dict(tuned.setting)), ndcg[0], ndcg[1], known)


def best_knn(data: EvaluationData) -> tuple[Peer, Tuned]:
    """The best of implicit's item-item models on validation baskets, for single products."""
    queries = {ITEM: data.validation[ITEM]}
    peers = (item_knn("cosine"), item_knn("tf-idf"), item_knn_bm25())
    shares = data.validation_shares
    found = [(peer, tune(peer, data.train, queries, shares)[ITEM][NDCG]) for peer in peers]
    return max(found, key=lambda one: one[1].scores[NDCG])
