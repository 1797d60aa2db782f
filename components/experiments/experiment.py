"""An experiment: its arms, and which of them a session belongs to."""

import hashlib
from bisect import bisect_right
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from components.model.kind_limits import MaxOwnKind, MaxSameKind

Name = str
NAME = r"^[A-Za-z0-9._-]{1,64}$"


MetricName = Literal[
    "clicks", "adds", "purchases", "revenue", "orders", "order_value",
    "click_rate", "add_rate", "purchase_rate", "revenue_per_1000", "attach_rate",
    "average_order_value",
]  # fmt: skip
"""The first six are per session; see `components.experiments.metric`."""


class ArmSettings(BaseModel):
    """Defaults of an arm for requests that do not ask themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_own_kind: MaxOwnKind | None = None
    max_same_kind: MaxSameKind | None = None
    diversity: float | None = Field(default=None, ge=0, le=1)
    price_ratio: float | None = Field(default=None, gt=0)


class Arm(BaseModel):
    """A registered version with settings, or a holdout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(pattern=NAME)
    weight: float = Field(default=1, gt=0)
    """Its share of the sessions, in proportion to the other arms' weights."""
    model_version: str = ""
    """Default: the version that the service serves."""
    bundle: Path | None = None
    """Directory of its bundle. Default: the service's."""
    settings: ArmSettings = ArmSettings()
    holdout: Literal["empty", "bestsellers"] | None = None
    """Its sessions get no recommendations, or bestsellers."""


class Guardrail(BaseModel):
    """A metric that may not get worse by more than `margin`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: MetricName
    margin: float = Field(gt=0, lt=1)
    """Relative to the control: 0.02 is 2 %."""


class Experiment(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(pattern=NAME)
    salt: str = ""
    """Another salt draws other sessions. Default: the name."""
    method: Literal["split", "interleave"] = "split"
    """`interleave` mixes the lists of two arms by team draft for every session outside holdouts."""
    arms: tuple[Arm, ...] = Field(min_length=1, max_length=20)
    """The first is the control: sessions without an id get it, and are not counted."""
    swap_share: float = Field(default=0, ge=0, le=1)
    """Share of the answers in which one random pair of neighbours is swapped with probability ½."""
    metric: MetricName = "clicks"
    """Decides."""
    effect: float = Field(default=0.05, gt=0, le=10)
    """Relative effect that is worth finding."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Probability of a wrong verdict where the arms do not differ."""
    planned_sessions: int = Field(default=20_000, ge=100)
    """Of all arms, by `fbt experiment plan`; read-outs are sharpest there. Not to be changed
    after the first look."""
    guardrails: tuple[Guardrail, ...] = ()

    @model_validator(mode="after")
    def _check_arms(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms: found {names}, expected each name once")
        if self.method == "interleave" and sum(arm.holdout is None for arm in self.arms) != 2:
            raise ValueError("arms: interleaving takes exactly two arms that are no holdouts")
        if self.arms[0].holdout is not None:
            raise ValueError("arms: the first is the control, which is no holdout")
        guarded = [one.metric for one in self.guardrails]
        if len(set(guarded)) < len(guarded):
            raise ValueError(f"guardrails: found {guarded}, expected each metric once")
        return self

    def assign(self, session_id: str) -> Arm:
        """Always the same arm for a session, by a salted hash."""
        point = hash_to_unit(f"{self.salt or self.name}:{session_id}") * self._bounds[-1]
        return self.arms[min(bisect_right(self._bounds, point), len(self.arms) - 1)]

    @cached_property
    def _bounds(self) -> list[float]:
        return list(accumulate(arm.weight for arm in self.arms))


def hash_to_unit(text: str) -> float:
    """Uniform in [0, 1)."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def read_experiment(path: str | Path) -> Experiment:
    """Raises ValueError that names the file and every wrong field."""
    try:
        return Experiment.model_validate_json(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"experiment: cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        texts = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"experiment {path}: {'; '.join(texts)}") from None
