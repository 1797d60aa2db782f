"""Tuning of a peer on validation baskets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite

from components.evaluation.excess import compute_excess_ndcg
from components.evaluation.metrics import score
from components.evaluation.tasks import Queries
from components.model.arrays import Float64Array
from components.progress import log_progress
from pipelines.bench.peers.peer import Model, Peer, Setting, TrainingData
from pipelines.bench.processes import cpu_seconds

K = 10

NDCG, EXCESS = TUNED_BY = ("ndcg", "excess")
"""Measures of the comparison, each also one of the tuning."""


@dataclass(frozen=True)
class Tuned:
    setting: Setting
    mode: Setting
    scores: Mapping[str, float]
    """TUNED_BY at 10; 0 without queries."""
    tuning_cpu_s: float = 0.0
    """Of all settings, for both tasks together."""
    n_tried: int = 0


def tune(
    peer: Peer, data: TrainingData, queries: Mapping[str, Queries], shares: Float64Array
) -> dict[str, dict[str, Tuned]]:
    """The best by task and measure, of the same models. A failing training is skipped.

    `shares` (n_items,) are those of the split that `queries` come from.
    """
    started = cpu_seconds()
    tried: dict[str, list[Tuned]] = {task: [] for task in queries}
    n_trained = dict.fromkeys(queries, 0)
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
            n_trained[task] += 1
            for mode in peer.modes[task]:
                scores = _measure(model, mode, queries[task], shares)
                tried[task].append(Tuned(setting, mode, scores))
        if train_cpu_s > peer.max_train_cpu_s:
            seconds = f"{train_cpu_s:.0f} CPU s"
            log_progress(f"{peer.name}: {setting} took {seconds}, costlier settings are skipped")
            break
    cpu_s = cpu_seconds() - started
    return {
        task: _choose([replace(o, tuning_cpu_s=cpu_s, n_tried=n_trained[task]) for o in of_task])
        for task, of_task in tried.items()
        if of_task
    }


def _choose(tried: list[Tuned]) -> dict[str, Tuned]:
    """The first of the best by every measure."""
    return {by: max(tried, key=lambda one: one.scores[by]) for by in TUNED_BY}


def _measure(
    model: Model, mode: Setting, queries: Queries, shares: Float64Array
) -> dict[str, float]:
    if not len(queries):
        return dict.fromkeys(TUNED_BY, 0.0)
    found, _ = model.ranker(mode).rank(queries.asked, K)
    ndcg = score(found, queries.relevant, len(shares))["ndcg"]
    excess = compute_excess_ndcg(found, queries.relevant, shares)
    return {NDCG: float(ndcg.mean()), EXCESS: float(excess.mean())}


def _list_settings(peer: Peer, tasks: Iterable[str]) -> list[Setting]:
    settings: list[Setting] = []
    for task in tasks:
        settings += [one for one in peer.settings[task] if one not in settings]
    return settings
