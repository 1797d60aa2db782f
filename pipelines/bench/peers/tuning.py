"""Tuning of a peer on validation baskets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite

from components.evaluation.metrics import score
from components.evaluation.tasks import Queries
from components.progress import log_progress
from pipelines.bench.peers.peer import Model, Peer, Setting, TrainingData
from pipelines.bench.processes import cpu_seconds

K = 10


@dataclass(frozen=True)
class Tuned:
    model: Model
    setting: Setting
    mode: Setting
    ndcg: float
    """NDCG@10; 0 without queries."""
    tuning_cpu_s: float = 0.0
    """Of all settings, for both tasks together."""
    n_tried: int = 0


def tune(peer: Peer, data: TrainingData, queries: Mapping[str, Queries]) -> dict[str, Tuned]:
    """The best by task. A failing training is skipped."""
    started = cpu_seconds()
    best: dict[str, Tuned] = {}
    tried = dict.fromkeys(queries, 0)
    for setting in _list_settings(peer, queries):
        before = cpu_seconds()
        try:
            model = peer.fit(data, setting)
        except Exception as error:
            # Whatever failed, the other settings and peers are still comparable.
            reason = f"{type(error).__name__}: {str(error)[:200]}"
            log_progress(f"{peer.name}: {setting} failed ({reason})")
            if isfinite(peer.max_train_cpu_s):
                log_progress(f"{peer.name}: costlier settings are skipped")
                break
            continue
        train_cpu_s = cpu_seconds() - before
        for task in (task for task in queries if setting in peer.settings[task]):
            tried[task] += 1
            for mode in peer.modes[task]:
                ndcg = _measure(model, mode, queries[task], data.n_items)
                if task not in best or ndcg > best[task].ndcg:
                    best[task] = Tuned(model, setting, mode, ndcg)
        if train_cpu_s > peer.max_train_cpu_s:
            seconds = f"{train_cpu_s:.0f} CPU s"
            log_progress(f"{peer.name}: {setting} took {seconds}, costlier settings are skipped")
            break
    cpu_s = cpu_seconds() - started
    return {
        task: replace(one, tuning_cpu_s=cpu_s, n_tried=tried[task]) for task, one in best.items()
    }


def _measure(model: Model, mode: Setting, queries: Queries, n_items: int) -> float:
    if not len(queries):
        return 0.0
    found, _ = model.ranker(mode).rank(queries.asked, K)
    return float(score(found, queries.relevant, n_items)["ndcg"].mean())


def _list_settings(peer: Peer, tasks: Iterable[str]) -> list[Setting]:
    settings: list[Setting] = []
    for task in tasks:
        settings += [one for one in peer.settings[task] if one not in settings]
    return settings
