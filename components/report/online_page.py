"""Contents of the report of online measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

from components.online.agreement import Agreement


class Bounds(NamedTuple):
    """A value with its 95 % bounds; NaN where nothing is known."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Part:
    """Outcomes of a part of the impressions: a version and arm, a category, a place, a source."""

    label: str
    counts: Mapping[str, float]
    """sessions, impressions, clicks, adds, purchases"""
    measures: Mapping[str, Bounds]
    """By the names of `components.report.online.MEASURES`."""
    is_rest: bool = False
    """Whether it is the sum of small ones."""


@dataclass(frozen=True)
class Day:
    day: date
    label: str
    """Of the version and arm."""
    measures: Mapping[str, Bounds]


@dataclass(frozen=True)
class Place:
    position: int
    """From 0."""
    impressions: float
    raw: Bounds
    """Click-through rate."""
    corrected: Bounds | None
    """By the propensity of the place."""
    propensity: Bounds | None = None
    """Probability of a look at the place, as a share of that at the first."""


@dataclass(frozen=True)
class Difference:
    """Of an arm to its control."""

    arm: str
    measure: str
    """In words."""
    control_value: float
    arm_value: float
    relative: Bounds
    """Change as a share of the control's value."""
    verdict: str
    """In words."""


@dataclass(frozen=True)
class Look:
    """A confidence sequence at the end of a day."""

    day: date
    relative: Bounds


@dataclass(frozen=True)
class ExperimentPart:
    name: str
    headline: str
    is_bad: bool
    why: str
    arms: Sequence[tuple[str, str, float, float]]
    """Name, what it is, sessions found, sessions expected."""
    ratio_words: str
    """On the sample ratio."""
    differences: Sequence[Difference]
    looks: Mapping[str, Sequence[Look]]
    """By arm, of the main measure."""
    main_measure: str
    """In words."""
    guardrails: Sequence[tuple[str, str, str]]
    """Title, state (`held`, `broken`, `open` or `early`), a sentence."""


@dataclass(frozen=True)
class HoldoutPart:
    arm: str
    kind: str
    """For the holdout: `empty` or `bestsellers`."""
    sessions: float
    other_sessions: float
    differences: Sequence[Difference]
    headline: str
    unseen: float = 0
    """Of the other sessions, those that saw no list."""
    sequence: str = ""
    """The range that may be looked at every day, in words."""


@dataclass(frozen=True)
class OnlinePage:
    made_at: datetime
    first: datetime | None
    last: datetime | None
    rule: str
    """Of attribution."""
    counts: Mapping[str, float]
    """Records read, by kind in words."""
    cleaning: Sequence[tuple[str, float]]
    """Rows that were left out: the rule in words, and the number."""
    total: Part | None
    groups: Sequence[Part] = ()
    """By version and arm, in the order in which they are shown."""
    days: Sequence[Day] = ()
    places: Sequence[Place] = ()
    place_words: str = ""
    """How the position bias was measured, or why not."""
    parts: Mapping[str, Sequence[Part]] = field(default_factory=dict)
    """By `category`, `context`, `source`."""
    experiments: Sequence[ExperimentPart] = ()
    holdouts: Sequence[HoldoutPart] = ()
    agreements: Mapping[str, Sequence[Agreement]] = field(default_factory=dict)
    """By online measure."""
    open_words: str = ""
    """On sessions whose window is open."""
