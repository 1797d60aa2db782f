"""Association rules of Spark's FP-growth."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.evaluation.baselines import Ranker
from components.model.arrays import Float32Array, Int32Array, Int64Array
from pipelines.bench.peers.peer import Model, Peer, Setting, TrainingData, for_both_tasks
from pipelines.bench.peers.rankers import ScoreRanker
from pipelines.bench.processes import python_command, run_with_cpu_limit

MAX_TRAIN_CPU_S = 60.0
"""Slightly less support can mean many times the item sets."""

LIMIT_CPU_S = 180.0
"""Per setting; Spark's start takes about ten."""

DEEP_STACKS = {"JAVA_TOOL_OPTIONS": "-Xss64m"}
"""FP-growth's trees are as deep as the largest basket and serialised recursively."""


def rules() -> Peer:
    """Rules with the antecedent in the cart, by confidence or lift; then bestsellers."""
    settings = [
        {"min_support": one} for one in (0.05, 0.02, 0.01, 0.007, 0.005, 0.0035, 0.002, 0.001)
    ]
    modes = [
        {"order": order, "min_confidence": least}
        for order in ("confidence", "lift")
        for least in (0.0, 0.1, 0.2)
    ]
    return Peer(
        "association rules",
        _fit,
        for_both_tasks(settings),
        for_both_tasks(modes),
        max_train_cpu_s=MAX_TRAIN_CPU_S,
    )


@dataclass(frozen=True)
class _Rules:
    """Antecedents as sparse ones (n_left, n_items), and the rules of each by `offsets`."""

    left: Any
    offsets: Int64Array
    rows: Int64Array
    confidence: Float32Array
    lift: Float32Array

    @property
    def n_bytes(self) -> int:
        return int(4 * self.left.nnz + 12 * len(self.rows) + 16 * len(self.offsets))

    def ranker(self, mode: Setting) -> Ranker:
        valid = self.confidence >= mode["min_confidence"]
        values = np.where(valid, getattr(self, mode["order"]), 0)
        by_product = self.left.T.tocsr()
        sizes = np.diff(self.left.indptr)
        return ScoreRanker(lambda queries: self._scores(queries, values, by_product, sizes))

    def _scores(
        self, queries: Sequence[Int32Array], values: Float32Array, by_product: Any, sizes: Any
    ) -> Any:
        scores = np.zeros((len(queries), by_product.shape[0]), np.float32)
        if not len(sizes):
            return scores
        for row, query in zip(scores, queries, strict=True):
            inside = np.concatenate(
                [by_product.indices[slice(*by_product.indptr[item : item + 2])] for item in query]
            )
            left, n_inside = np.unique(inside, return_counts=True)
            mine = self._find_rules(left[n_inside == sizes[left]])
            np.maximum.at(row, self.rows[mine], values[mine])
        return scores

    def _find_rules(self, left: Any) -> Int64Array:
        starts = self.offsets[left]
        counts = self.offsets[left + 1] - starts
        shifts = np.repeat(starts - (np.cumsum(counts) - counts), counts)
        places: Int64Array = np.arange(counts.sum()) + shifts
        return places


def _fit(data: TrainingData, setting: Setting) -> Model:
    """In a separate process, which can be killed, unlike Spark's tasks."""
    corpus = data.train.with_at_least(2)
    with tempfile.TemporaryDirectory() as folder:
        lists = pa.ListArray.from_arrays(corpus.offsets.astype(np.int32), corpus.items)
        pq.write_table(pa.table({"items": lists}), Path(folder) / "baskets.parquet")
        call = f"from pipelines.bench.peers.rules import mine; mine({folder!r}, {dict(setting)!r})"
        run_with_cpu_limit(python_command(call), LIMIT_CPU_S, DEEP_STACKS)
        found = pq.read_table(f"{folder}/rules")
    return _to_rules(found, data.n_items)


def mine(folder: str, setting: Setting) -> None:
    from pyspark.ml.fpm import FPGrowth

    from components.spark import spark_session

    with spark_session("rules") as spark:
        growth = FPGrowth(itemsCol="items", minSupport=setting["min_support"], minConfidence=0.01)
        model = growth.fit(spark.read.parquet(f"{folder}/baskets.parquet"))
        found = model.associationRules.selectExpr(
            "array_sort(antecedent) as antecedent", "consequent[0] as consequent",
            "confidence", "lift",
        )  # fmt: skip
        found.write.parquet(f"{folder}/rules")


def _to_rules(found: pa.Table, n_items: int) -> _Rules:
    """Group the rules by antecedent."""
    from scipy.sparse import csr_array

    lefts = found["antecedent"].combine_chunks()
    # As text, since lists cannot be compared.
    key = pc.binary_join(pc.cast(lefts, pa.list_(pa.string())), ",").dictionary_encode()
    code = key.indices.to_numpy()
    order = np.argsort(code, kind="stable")
    n_left = len(key.dictionary)
    firsts = np.unique(code, return_index=True)[1]
    chosen = lefts.take(pa.array(firsts))
    sizes = pc.list_value_length(chosen).to_numpy()
    items = pc.list_flatten(chosen).to_numpy()
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    left = csr_array((np.ones(len(items), np.float32), items, indptr), shape=(n_left, n_items))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(code, minlength=n_left))])
    columns = {name: found[name].to_numpy()[order] for name in ("consequent", "confidence", "lift")}
    return _Rules(
        left,
        offsets.astype(np.int64),
        columns["consequent"].astype(np.int64),
        columns["confidence"].astype(np.float32),
        columns["lift"].astype(np.float32),
    )
