"""The effects of merchandising rules on a request. A block overrides a pin."""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from bento.schemas.rules import Rule

MAX_FACTOR = 1e9
"""Bound of the product of all factors of a rank."""

RuleIds = tuple[str, ...]


class QueryProduct(NamedTuple):
    product_id: str
    category: str | None = None
    brand: str | None = None


KINDS = QueryProduct._fields

Named = Mapping[str, Mapping[str, RuleIds]]
"""For each of KINDS, by name, the rules that target it."""


class Pin(NamedTuple):
    """Pins sort in the order of insertion."""

    position: int
    product_id: str
    rule_id: str


class Factor(NamedTuple):
    value: float
    """It multiplies the rank: below 1 is better."""
    rule_ids: RuleIds


class Setting(NamedTuple):
    """Of several for one field, the largest applies."""

    specificity: int
    """2 for a product, 1 for a category or brand, 0 for all requests."""
    created_at: datetime
    rule_id: str
    value: Any


def _no_names() -> dict[str, Any]:
    return {kind: {} for kind in KINDS}


@dataclass(frozen=True, eq=False)
class RuleEffects:
    """Of the active rules for the same requests."""

    blocked: Named = field(default_factory=_no_names)
    factors: Mapping[str, Mapping[str, Factor]] = field(default_factory=_no_names)
    exempt: Named = field(default_factory=_no_names)
    """From limits of kinds."""
    pins: tuple[Pin, ...] = ()
    """Sorted, one a product. Their ids are not blocked, but their categories or brands may be."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """By field of the request."""
    rule_ids: RuleIds = ()

    @property
    def is_empty(self) -> bool:
        return not self.rule_ids


NO_EFFECTS = RuleEffects()


class RuleSet:
    """Rules, indexed by the requests that they apply to. Immutable and thread-safe."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        groups: dict[tuple[str, str] | None, list[Rule]] = defaultdict(list)
        rules = list(rules)
        for rule in rules:
            groups[rule.when.key if rule.when else None].append(rule)
        self._global = _RuleGroup(groups.pop(None, []))
        self._conditional = {key: _RuleGroup(some) for key, some in groups.items() if key}
        self._moments = _list_moments(rules)
        self.is_empty = not rules

    @property
    def conditions(self) -> Iterable[tuple[str, str]]:
        """Kind and name of every `when`."""
        return self._conditional

    def find_period(self, now: datetime) -> tuple[datetime, datetime]:
        """The longest around `now` in which no rule starts or ends; the end is not of it."""
        return _find_period(self._moments, now)

    def global_effects(self, now: datetime) -> RuleEffects:
        """Effects on every request: the same object until a rule starts or ends."""
        return self._global.effects_at(now)

    def effects_for(self, products: Sequence[QueryProduct], now: datetime) -> list[RuleEffects]:
        """Effects of the rules whose `when` matches one of the products, by `when`."""
        if not self._conditional:
            return []
        keys = {key for product in products for key in zip(KINDS, product, strict=True)}
        found = [self._conditional[key] for key in keys if key in self._conditional]
        # The order of a cart must not matter.
        found.sort(key=lambda group: group.rules[0].rule_id)
        every = (group.effects_at(now) for group in found)
        return [effects for effects in every if not effects.is_empty]


_MIN, _MAX = (moment.replace(tzinfo=UTC) for moment in (datetime.min, datetime.max))


def _list_moments(rules: Iterable[Rule]) -> list[datetime]:
    """When one starts or ends, ascending."""
    moments = {m for rule in rules for m in (rule.starts_at, rule.ends_at) if m is not None}
    return sorted(moments)


def _find_period(moments: Sequence[datetime], now: datetime) -> tuple[datetime, datetime]:
    place = bisect_right(moments, now)
    start = moments[place - 1] if place else _MIN
    return start, moments[place] if place < len(moments) else _MAX


class _RuleGroup:
    """Rules for the same requests; their effects are cached until one starts or ends."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = sorted(rules, key=lambda rule: rule.rule_id)
        self._moments = _list_moments(rules)
        self._cached = (_MAX, _MIN, NO_EFFECTS)

    def effects_at(self, now: datetime) -> RuleEffects:
        start, end, effects = self._cached
        if not start <= now < end:
            start, end = _find_period(self._moments, now)
            effects = _combine_rules([rule for rule in self.rules if rule.is_active(now)])
            # One assignment: another thread sees the old tuple or the new one.
            self._cached = (start, end, effects)
        return effects


NO_RULES = RuleSet()


def _combine_rules(rules: Sequence[Rule]) -> RuleEffects:
    if not rules:
        return NO_EFFECTS
    blocked = _group_by_target(rules, "block")
    pins = [rule for rule in rules if rule.action == "pin"]
    return RuleEffects(
        blocked=_take_ids(blocked),
        factors={
            kind: {name: _net_factor(some) for name, some in by_name.items()}
            for kind, by_name in _group_by_target(rules, "boost", "bury").items()
        },
        exempt=_take_ids(_group_by_target(rules, "exempt")),
        pins=_order_pins(pins, blocked["product_id"]),
        settings=_choose_settings(rules),
        rule_ids=tuple(rule.rule_id for rule in rules),
    )


def _group_by_target(rules: Iterable[Rule], *actions: str) -> dict[str, dict[str, list[Rule]]]:
    """For each of KINDS, by name."""
    groups: dict[str, dict[str, list[Rule]]] = {kind: defaultdict(list) for kind in KINDS}
    for rule in rules:
        if rule.action in actions and rule.target is not None:
            kind, name = rule.target.key
            groups[kind][name].append(rule)
    return groups


def _take_ids(groups: Mapping[str, Mapping[str, Sequence[Rule]]]) -> Named:
    return {
        kind: {name: tuple(rule.rule_id for rule in some) for name, some in by_name.items()}
        for kind, by_name in groups.items()
    }


def _net_factor(rules: Sequence[Rule]) -> Factor:
    """Both products are bounded, so that they never make inf/inf."""
    boosts = math.prod(rule.factor or 1.0 for rule in rules if rule.action == "boost")
    buries = math.prod(rule.factor or 1.0 for rule in rules if rule.action == "bury")
    value = min(buries, MAX_FACTOR) / min(boosts, MAX_FACTOR)
    return Factor(value, tuple(rule.rule_id for rule in rules))


def _order_pins(rules: Iterable[Rule], blocked: Iterable[str]) -> tuple[Pin, ...]:
    first: dict[str, Pin] = {}
    pins = [
        Pin(rule.position or 1, rule.target.key[1], rule.rule_id) for rule in rules if rule.target
    ]
    for pin in sorted(pins):
        if pin.product_id not in blocked:
            first.setdefault(pin.product_id, pin)
    return tuple(first.values())


def _choose_settings(rules: Iterable[Rule]) -> dict[str, Setting]:
    chosen: dict[str, Setting] = {}
    for rule in rules:
        given = {} if rule.settings is None else rule.settings.given
        kind = None if rule.when is None else rule.when.key[0]
        specificity = 0 if kind is None else 2 if kind == "product_id" else 1
        for name, value in given.items():
            new = Setting(specificity, rule.created_at, rule.rule_id, value)
            chosen[name] = max(chosen.get(name, new), new)
    return chosen


def merge_settings(every: Iterable[Mapping[str, Setting]]) -> dict[str, Setting]:
    merged: dict[str, Setting] = {}
    for settings in every:
        for name, new in settings.items():
            merged[name] = max(merged.get(name, new), new)
    return merged
