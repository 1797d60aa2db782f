"""What a peer is: a method with the settings its advocate would try."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from components.baskets.corpus import Corpus
from components.evaluation.baselines import Ranker
from components.model.arrays import Int64Array

MAX_SETTINGS = 8
"""Trainings a method may try per task, each with all its ways of asking. The same for everybody."""

Setting = Mapping[str, Any]


@dataclass(frozen=True)
class TrainingData:
    """What everybody learns from: training baskets over the catalogue, most bought first."""

    train: Corpus
    n_orders: Int64Array
    """Training orders of every product, (n_items,)."""
    seed: int = 0

    @property
    def n_items(self) -> int:
        """Products of the catalogue."""
        return len(self.n_orders)


class Model(Protocol):
    """A trained peer."""

    @property
    def n_bytes(self) -> int:
        """What it takes to keep the model, in the arrays it answers from."""

    def ranker(self, ask: Setting) -> Ranker:
        """The model, asked in this way."""


@dataclass(frozen=True)
class Peer:
    """A method. `settings` and `asks` are by task; `asks` cost no training."""

    name: str
    fit: Callable[[TrainingData, Setting], Model]
    settings: Mapping[str, Sequence[Setting]]
    asks: Mapping[str, Sequence[Setting]]
    unavailable_reason: Callable[[TrainingData], str] = field(default=lambda data: "")
    """Why it cannot take part in this data; empty when it can."""
    max_train_cpu_s: float = float("inf")
    """When a training took longer or failed, the settings after it, which are dearer, are not
    tried. Infinite where settings do not get dearer."""

    def __post_init__(self) -> None:
        for task, settings in self.settings.items():
            if len(settings) > MAX_SETTINGS:
                raise ValueError(f"{self.name}, task {task}: {len(settings)} settings, at most 8")


def for_both_tasks(settings: Sequence[Setting]) -> dict[str, Sequence[Setting]]:
    """The same for product pages and carts."""
    return {"a": settings, "b": settings}
