"""Tuning of a peer on validation baskets, separately for each task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from components.evaluation.metrics import score
from components.evaluation.tasks import Queries
from components.progress import log_progress
from pipelines.bench.peers.peer import Model, Peer, Setting, TrainingData
from pipelines.bench.processes import cpu_seconds

K = 10


@dataclass(frozen=True)
class Tuned:
    """The best setting for one task."""

    model: Model
    setting: Setting
    ask: Setting
    ndcg: float
    """NDCG@10 on validation baskets; 0 without queries."""
    train_cpu_s: float
    tuning_cpu_s: float
    """Of all trainings and validations, for both tasks together."""
    n_tried: int


def tune(peer: Peer, data: TrainingData, queries: Mapping[str, Queries]) -> dict[str, Tuned]:
    """The best model and settings for each task; the first of equals wins.

    A failing training is logged and skipped; without any result the task is missing.
    """
    started = cpu_seconds()
    best: dict[str, dict[str, Any]] = {}
    tried = dict.fromkeys(queries, 0)
    for setting in _list_settings(peer, queries):
        before = cpu_seconds()
        try:
            model = peer.fit(data, setting)
        except Exception as error:
            # Whatever failed, the other settings and peers are still comparable.
            log_progress(
                f"{peer.name}: {setting} failed ({type(error).__name__}: {str(error)[:200]})"
            )
            if isfinite(peer.max_train_cpu_s):
                log_progress(f"{peer.name}: costlier settings are skipped")
                break
            continue
        train_cpu_s = cpu_seconds() - before
        for task in (task for task in queries if setting in peer.settings[task]):
            tried[task] += 1
            found = _best_ask(model, peer.asks[task], queries[task], data.n_items)
            if task not in best or found["ndcg"] > best[task]["ndcg"]:
                trained = {"model": model, "setting": setting, "train_cpu_s": train_cpu_s}
                best[task] = trained | found
        if train_cpu_s > peer.max_train_cpu_s:
            seconds = f"{train_cpu_s:.0f} CPU s"
            log_progress(f"{peer.name}: {setting} took {seconds}, costlier settings are skipped")
            break
    tuning_cpu_s = cpu_seconds() - started
    return {
        task: Tuned(**found, tuning_cpu_s=tuning_cpu_s, n_tried=tried[task])
        for task, found in best.items()
    }


def _best_ask(
    model: Model, asks: Sequence[Setting], queries: Queries, n_items: int
) -> dict[str, Any]:
    measured = [{"ask": one, "ndcg": measure(model, one, queries, n_items)} for one in asks]
    return max(measured, key=lambda one: one["ndcg"])


def measure(model: Model, ask: Setting, queries: Queries, n_items: int) -> float:
    if not len(queries):
        return 0.0
    found, _ = model.ranker(ask).rank(queries.asked, K)
    return float(score(found, queries.relevant, n_items)["ndcg"].mean())


def _list_settings(peer: Peer, tasks: Mapping[str, Any]) -> list[Setting]:
    settings: list[Setting] = []
    for task in tasks:
        settings += [one for one in peer.settings[task] if one not in settings]
    return settings
