"""The rows of the report's tables, drawn from the files of a run."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from components.contracts import BASKETS, read_table
from components.model.arrays import Int64Array
from components.report.formatting import NAMES, is_number


@dataclass(frozen=True)
class BasketStats:
    """Products per basket (n_baskets,), and baskets per product, most bought first."""

    sizes: Int64Array
    popularity: Int64Array

    @property
    def median_size(self) -> float:
        """Half of the baskets are at least that large."""
        return float(np.median(self.sizes)) if len(self.sizes) else 0.0

    @property
    def large_size(self) -> float:
        """One basket in ten is at least that large."""
        return float(np.quantile(self.sizes, 0.9)) if len(self.sizes) else 0.0

    @property
    def head_share(self) -> float:
        """The part of all purchases that the best hundredth of the products makes up."""
        head = max(len(self.popularity) // 100, 1)
        return float(self.popularity[:head].sum() / max(self.popularity.sum(), 1))


def compute_basket_stats(baskets: Any) -> BasketStats:
    """Sizes and popularity in the BASKETS table at that path."""
    items = read_table(baskets, BASKETS, ["items"])["items"]
    sizes = pc.list_value_length(items).to_numpy(zero_copy_only=False).astype(np.int64)
    bought = pc.list_flatten(items).value_counts().field("counts").to_numpy(zero_copy_only=False)
    return BasketStats(sizes, np.sort(bought)[::-1].astype(np.int64))


@dataclass(frozen=True)
class Step:
    """A line of the way from order lines to baskets."""

    label: str
    n: Any
    kind: str
    """`in`, `out` (removed) or `part`."""
    of: Any = None
    """What `n` is a share of."""

    @property
    def share(self) -> float | None:
        """None where there is no whole to take a share of."""
        return self.n / self.of if is_number(self.n) and is_number(self.of) and self.of else None


def line_steps(counts: Mapping[str, Any]) -> list[Step]:
    """From lines read to lines kept, with each reason for quarantine, the most frequent first."""
    read_, reasons = counts.get("lines_read"), _counts_with_prefix(counts, "quarantined: ")
    return [
        Step("Lines read", read_, "in"),
        *[Step(f"Set aside: {reason}", n, "out", read_) for reason, n in reasons],
        Step("Lines kept", counts.get("lines_kept"), "in", read_),
    ]


def basket_steps(counts: Mapping[str, Any]) -> list[Step]:
    """From lines to baskets, with everything removed on the way."""
    lines, orders, baskets = (counts.get(name) for name in ("lines", "orders", "baskets"))
    removed = dict(_counts_with_prefix(counts, "removed: "))
    repeated = {reason: n for reason, n in removed.items() if reason.startswith("repeated")}
    whole = {reason: n for reason, n in removed.items() if reason not in repeated}
    cap = counts.get("size_cap")
    return [
        Step("Lines", lines, "in"),
        *[Step(f"Removed: {reason}", n, "out", lines) for reason, n in repeated.items()],
        Step("Orders", orders, "in"),
        *[Step(_removal_label(reason, cap), n, "out", orders) for reason, n in whole.items()],
        Step("Baskets", baskets, "in", orders),
        Step("to learn from (the oldest)", counts.get("baskets_train"), "part", baskets),
        Step(
            "to choose settings by, then to learn from",
            counts.get("baskets_validation"),
            "part",
            baskets,
        ),
        Step("to judge by (the newest)", counts.get("baskets_test"), "part", baskets),
    ]


def _removal_label(reason: str, cap: Any) -> str:
    return f"Removed: {reason}" + (f" of {cap} products" if reason.endswith("cap") and cap else "")


def _counts_with_prefix(counts: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found = [(key.removeprefix(prefix), n) for key, n in counts.items() if key.startswith(prefix)]
    return sorted(found, key=lambda one: one[1] or 0, reverse=True)


def sort_rankers(names: Iterable[str]) -> list[str]:
    """The rankers of an evaluation in the order readers want them; unknown ones last."""
    order = list(NAMES)
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def sort_failed_first(checks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Failed before passed, critical before warning, else as they came."""
    return sorted(checks, key=lambda one: (one["passed"], one.get("severity") != "critical"))


@dataclass(frozen=True)
class Trial:
    """A setting that the sweep tried."""

    number: int
    """Counted over all shards, from 1."""
    found: Mapping[str, Any]
    picked: bool

    @property
    def state(self) -> str:
        """`complete`, `pruned` or `failed`."""
        return str(self.found.get("state", ""))

    def ndcg(self, task: str) -> float | None:
        """Validation NDCG, or None."""
        value = self.found.get(f"ndcg_{task}")
        return float(value) if is_number(value) else None

    def setting(self, name: str) -> Any:
        """What it tried for the setting of that name."""
        own = self.found.get("config") or {}
        return own.get(name, self.found.get(name))


def list_trials(best: Mapping[str, Any]) -> list[Trial]:
    """The sweep's trials, shard by shard."""
    key = [(one.get("shard") or 0, one.get("trial") or 0) for one in best.get("trials") or []]
    ordered = [best["trials"][i] for i in sorted(range(len(key)), key=key.__getitem__)]
    picked = _find_picked(best, ordered)
    return [Trial(i + 1, one, i == picked) for i, one in enumerate(ordered)]


def _find_picked(best: Mapping[str, Any], trials: list[Mapping[str, Any]]) -> int | None:
    """The finished trial with the settings that were picked; the betas may be tuned afterwards."""
    same = [
        i
        for i, one in enumerate(trials)
        if one.get("config") == best.get("config") and one.get("state") == "complete"
    ]
    betas = ("beta_single", "beta_cart")
    exact = [i for i in same if all(trials[i].get(beta) == best.get(beta) for beta in betas)]
    return next(iter(exact or same), None)


def split_settings(trials: list[Trial]) -> tuple[list[str], dict[str, Any]]:
    """The names of settings that differ between trials, and the values of those that do not."""
    names = {name: None for one in trials for name in (one.found.get("config") or {})}
    every = [*names, "beta_single", "beta_cart"] if trials else []
    values = {name: [one.setting(name) for one in trials] for name in every}
    varied = [name for name in every if any(v != values[name][0] for v in values[name])]
    return varied, {name: values[name][0] for name in every if name not in varied}


def rank_trial(picked: Trial, trials: list[Trial], task: str) -> int:
    """The picked trial's place among the finished ones, 1 the best."""
    done = [one.ndcg(task) or 0.0 for one in trials if one.state == "complete"]
    return 1 + sum(score > (picked.ndcg(task) or 0.0) for score in done)


def ambiguous_labels(examples: Iterable[Mapping[str, Any]]) -> set[str]:
    """Labels that several products share; only their ids tell those apart."""
    shown = [one for example in examples for one in (example, *(example["recommendations"] or []))]
    pairs = {(one["label"], one["product_id"]) for one in shown}
    counts = Counter(label for label, _ in pairs)
    return {label for label, n in counts.items() if n > 1}
