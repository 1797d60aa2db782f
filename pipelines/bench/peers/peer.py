"""A peer: another method, with the settings to try."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from components.baskets.corpus import Corpus
from components.evaluation.baselines import Ranker
from components.evaluation.tasks import TASKS
from components.model.arrays import Int64Array

ITEM, CART = TASKS

MAX_SETTINGS = 8
"""Trainings per method and task."""

Setting = Mapping[str, Any]


@dataclass(frozen=True)
class TrainingData:
    """The catalogue is sorted by popularity."""

    train: Corpus
    n_orders: Int64Array
    """(n_items,)"""
    seed: int = 0

    @property
    def n_items(self) -> int:
        return len(self.n_orders)


class Model(Protocol):
    """A trained peer."""

    @property
    def n_bytes(self) -> int:
        """Size of the arrays that recommending needs."""

    def ranker(self, mode: Setting) -> Ranker:
        """The ranker of a model in this mode."""


@dataclass(frozen=True)
class Peer:
    """`settings` of the training and `modes` of a query are by task."""

    name: str
    fit: Callable[[TrainingData, Setting], Model]
    settings: Mapping[str, Sequence[Setting]]
    modes: Mapping[str, Sequence[Setting]]
    unavailable_reason: Callable[[TrainingData], str] = field(default=lambda data: "")
    """Empty if the method can be trained."""
    max_train_cpu_s: float = float("inf")
    """Later, costlier settings are skipped after a longer or failed training."""

    def __post_init__(self) -> None:
        for task, settings in self.settings.items():
            if len(settings) > MAX_SETTINGS:
                raise ValueError(f"{self.name}, task {task}: {len(settings)} settings, at most 8")


def for_both_tasks(settings: Sequence[Setting]) -> dict[str, Sequence[Setting]]:
    return {ITEM: settings, CART: settings}
