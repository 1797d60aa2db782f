"""Rows of the report's tables."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from components.contracts import BASKETS, read_table
from components.model.arrays import Int64Array
from components.report.formatting import NAMES, as_text, count, date_range, is_number


@dataclass(frozen=True)
class BasketStats:
    """Products per basket (n_baskets,), and baskets per product, most bought first."""

    sizes: Int64Array
    popularity: Int64Array

    @property
    def median_size(self) -> float:
        return float(np.median(self.sizes)) if len(self.sizes) else 0.0

    @property
    def large_size(self) -> float:
        """The 90th percentile."""
        return float(np.quantile(self.sizes, 0.9)) if len(self.sizes) else 0.0

    @property
    def head_share(self) -> float:
        """Share of all purchases in the best-selling hundredth of the products."""
        head = max(len(self.popularity) // 100, 1)
        return float(self.popularity[:head].sum() / max(self.popularity.sum(), 1))


def compute_basket_stats(baskets: Any) -> BasketStats:
    items = read_table(baskets, BASKETS, ["items"])["items"]
    sizes = pc.list_value_length(items).to_numpy(zero_copy_only=False).astype(np.int64)
    bought = pc.list_flatten(items).value_counts().field("counts").to_numpy(zero_copy_only=False)
    return BasketStats(sizes, np.sort(bought)[::-1].astype(np.int64))


@dataclass(frozen=True)
class Step:
    """A count on the way from lines to baskets; `kind` is `in`, `out` (removed) or `part`."""

    label: str
    n: Any
    kind: str
    of: Any = None

    @property
    def share(self) -> float | None:
        return self.n / self.of if is_number(self.n) and is_number(self.of) and self.of else None


def line_steps(counts: Mapping[str, Any]) -> list[Step]:
    n_read, reasons = counts.get("lines_read"), _counts_with_prefix(counts, "quarantined: ")
    return [
        Step("Lines read", n_read, "in"),
        *[Step(f"Quarantined: {reason}", n, "out", n_read) for reason, n in reasons],
        Step("Lines kept", counts.get("lines_kept"), "in", n_read),
    ]


def basket_steps(counts: Mapping[str, Any]) -> list[Step]:
    lines, orders, baskets = (counts.get(name) for name in ("lines", "orders", "baskets"))
    train, validation, test = (
        counts.get(f"baskets_{split}") for split in ("train", "validation", "test")
    )
    removed = _counts_with_prefix(counts, "removed: ")
    cap = counts.get("size_cap")
    return [
        Step("Lines", lines, "in"),
        *[_removal(reason, n, lines) for reason, n in removed if _is_line(reason)],
        Step("Orders", orders, "in"),
        *[_removal(reason, n, orders, cap) for reason, n in removed if not _is_line(reason)],
        Step("Baskets", baskets, "in", orders),
        Step("for training (the oldest)", train, "part", baskets),
        Step("for validation, then for training", validation, "part", baskets),
        Step("for the test (the newest)", test, "part", baskets),
    ]


def _is_line(reason: str) -> bool:
    return reason.startswith("repeated")


def _removal(reason: str, n: Any, of: Any, cap: Any = None) -> Step:
    limit = f" of {cap} products" if reason.endswith("cap") and cap else ""
    return Step(f"Removed: {reason}{limit}", n, "out", of)


def _counts_with_prefix(counts: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    """By the rest of their names, the largest first."""
    found = [(key.removeprefix(prefix), n) for key, n in counts.items() if key.startswith(prefix)]
    return sorted(found, key=lambda item: item[1] or 0, reverse=True)


def describe_table(numbers: Mapping[str, Any], zone: str) -> list[str]:
    names = {"rows": "rows", "orders": "orders", "products": "products", "users": "customers"}
    facts = [f"{count(numbers[name])} {noun}" for name, noun in names.items() if numbers.get(name)]
    if numbers.get("basket_mean"):
        facts.append(f"{as_text(round(numbers['basket_mean'], 1))} products per order")
    return [*facts, date_range(numbers.get("ts_first_s"), numbers.get("ts_last_s"), zone)]


def sort_rankers(names: Iterable[str]) -> list[str]:
    order = list(NAMES)
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def sort_failed_first(checks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Failed before passed, critical before warning, else as they came."""
    return sorted(checks, key=lambda check: (check["passed"], check.get("severity") != "critical"))


def count_failed(checks: Mapping[str, Any], severity: str) -> int:
    results = checks.get("checks") or []
    return sum(one["severity"] == severity and not one["passed"] for one in results)


STATES = {"complete": "finished", "pruned": "stopped early"}


@dataclass(frozen=True)
class Trial:
    """`number` counts over all shards, from 1."""

    number: int
    found: Mapping[str, Any]
    picked: bool

    @property
    def state(self) -> str:
        """`complete`, `pruned` or `failed`."""
        return str(self.found.get("state", ""))

    @property
    def outcome(self) -> str:
        return "picked" if self.picked else STATES.get(self.state, "failed")

    def ndcg(self, task: str) -> float | None:
        value = self.found.get(f"ndcg_{task}")
        return float(value) if is_number(value) else None

    def setting(self, name: str) -> Any:
        config = self.found.get("config") or {}
        return config.get(name, self.found.get(name))


def list_trials(best: Mapping[str, Any]) -> list[Trial]:
    """Shard by shard."""
    trials = best.get("trials") or []
    ordered = sorted(trials, key=lambda trial: (trial.get("shard") or 0, trial.get("trial") or 0))
    picked = _find_picked(best, ordered)
    return [Trial(i + 1, found, i == picked) for i, found in enumerate(ordered)]


def _find_picked(best: Mapping[str, Any], trials: list[Mapping[str, Any]]) -> int | None:
    """The finished trial with the picked settings; the betas may be tuned afterwards."""
    same = [
        i
        for i, trial in enumerate(trials)
        if trial.get("config") == best.get("config") and trial.get("state") == "complete"
    ]
    betas = ("beta_single", "beta_cart")
    exact = [i for i in same if all(trials[i].get(beta) == best.get(beta) for beta in betas)]
    return next(iter(exact or same), None)


def split_settings(trials: list[Trial]) -> tuple[list[str], dict[str, Any]]:
    """Names of the settings that differ between trials, and values of the others."""
    names = {name: None for trial in trials for name in (trial.found.get("config") or {})}
    every = [*names, "beta_single", "beta_cart"] if trials else []
    values = {name: [trial.setting(name) for trial in trials] for name in every}
    varied = [name for name in every if any(v != values[name][0] for v in values[name])]
    return varied, {name: values[name][0] for name in every if name not in varied}


def rank_trial(picked: Trial, trials: list[Trial], task: str) -> int:
    done = [trial.ndcg(task) or 0.0 for trial in trials if trial.state == "complete"]
    return 1 + sum(score > (picked.ndcg(task) or 0.0) for score in done)


def ambiguous_labels(examples: Iterable[Mapping[str, Any]]) -> set[str]:
    """Labels that several products share, so that their ids must be shown."""
    shown = [one for example in examples for one in (example, *(example["recommendations"] or []))]
    pairs = {(one["label"], one["product_id"]) for one in shown}
    counts = Counter(label for label, _ in pairs)
    return {label for label, n in counts.items() if n > 1}
