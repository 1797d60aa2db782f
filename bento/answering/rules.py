"""The effects of merchandising rules on a request. A block overrides a pin."""

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from bento.schemas.rules import Rule

MAX_FACTOR = 1e9
"""Bound of the product of all factors of a rank."""


class QueryProduct(NamedTuple):
    product_id: str
    category: str | None = None
    brand: str | None = None


KINDS = QueryProduct._fields


class Pin(NamedTuple):
    """Pins sort in the order of insertion."""

    position: int
    product_id: str
    rule_id: str


def _no_names() -> dict[str, frozenset[str]]:
    return {kind: frozenset() for kind in KINDS}


def _no_factors() -> dict[str, Mapping[str, float]]:
    return {kind: {} for kind in KINDS}


@dataclass(frozen=True, eq=False)
class RuleEffects:
    """`blocked`, `factors` and `exempt` have an entry for each of KINDS."""

    blocked: Mapping[str, frozenset[str]] = field(default_factory=_no_names)
    factors: Mapping[str, Mapping[str, float]] = field(default_factory=_no_factors)
    """By name; they multiply the rank: below 1 is better."""
    exempt: Mapping[str, frozenset[str]] = field(default_factory=_no_names)
    """From limits of kinds, by name."""
    pins: tuple[Pin, ...] = ()
    """Sorted, one a product. Their ids are not blocked, but their categories or brands may be."""
    rule_ids: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.rule_ids


NO_EFFECTS = RuleEffects()


class RuleSet:
    """Rules, indexed by the requests that they apply to. Immutable and thread-safe."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        groups: dict[tuple[str, str] | None, list[Rule]] = defaultdict(list)
        for rule in rules:
            groups[rule.when.key if rule.when else None].append(rule)
        self._global = _RuleGroup(groups.pop(None, []))
        self._conditional = {key: _RuleGroup(some) for key, some in groups.items()}
        self.is_empty = not self._global.rules and not self._conditional

    def global_effects(self, now: datetime) -> RuleEffects:
        """Effects on every request: the same object until a rule starts or ends."""
        return self._global.effects_at(now)

    def effects_for(self, products: Sequence[QueryProduct], now: datetime) -> RuleEffects:
        """Effects of the rules whose `when` matches one of the products."""
        groups = self._find_groups(products) if self._conditional else ()
        return functools.reduce(_merge, (group.effects_at(now) for group in groups), NO_EFFECTS)

    def _find_groups(self, products: Sequence[QueryProduct]) -> "list[_RuleGroup]":
        keys = {key for product in products for key in zip(KINDS, product, strict=True)}
        found = [self._conditional[key] for key in keys if key in self._conditional]
        # The order of a cart must not matter.
        return sorted(found, key=lambda group: group.rules[0].rule_id)


_MIN, _MAX = (moment.replace(tzinfo=UTC) for moment in (datetime.min, datetime.max))


class _RuleGroup:
    """Rules for the same requests; their effects are cached until one starts or ends."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = sorted(rules, key=lambda rule: rule.rule_id)
        moments = {m for rule in rules for m in (rule.starts_at, rule.ends_at) if m is not None}
        self._moments = sorted(moments)
        self._cached = (_MAX, _MIN, NO_EFFECTS)

    def effects_at(self, now: datetime) -> RuleEffects:
        start, end, effects = self._cached
        if not start <= now < end:
            start = max((m for m in self._moments if m <= now), default=_MIN)
            end = min((m for m in self._moments if m > now), default=_MAX)
            effects = _combine_rules([rule for rule in self.rules if rule.is_active(now)])
            # One assignment: another thread sees the old tuple or the new one.
            self._cached = (start, end, effects)
        return effects


def _combine_rules(rules: Sequence[Rule]) -> RuleEffects:
    if not rules:
        return NO_EFFECTS
    blocked: dict[str, set[str]] = {kind: set() for kind in KINDS}
    exempt: dict[str, set[str]] = {kind: set() for kind in KINDS}
    moved: dict[str, dict[str, list[Rule]]] = {kind: defaultdict(list) for kind in KINDS}
    pins = []
    for rule in rules:
        kind, name = rule.target.key
        if rule.action == "block":
            blocked[kind].add(name)
        elif rule.action == "exempt":
            exempt[kind].add(name)
        elif rule.action == "pin":
            pins.append(Pin(rule.position or 1, name, rule.rule_id))
        else:
            moved[kind][name].append(rule)
    return RuleEffects(
        blocked={kind: frozenset(names) for kind, names in blocked.items()},
        factors={
            kind: {name: _net_factor(some) for name, some in by_name.items()}
            for kind, by_name in moved.items()
        },
        exempt={kind: frozenset(names) for kind, names in exempt.items()},
        pins=_order_pins(pins, blocked["product_id"]),
        rule_ids=tuple(rule.rule_id for rule in rules),
    )


def _net_factor(rules: Sequence[Rule]) -> float:
    """Both products are bounded, so that they never make inf/inf."""
    boosts = math.prod(rule.factor or 1.0 for rule in rules if rule.action == "boost")
    buries = math.prod(rule.factor or 1.0 for rule in rules if rule.action == "bury")
    return min(buries, MAX_FACTOR) / min(boosts, MAX_FACTOR)


def _order_pins(pins: Iterable[Pin], blocked: Iterable[str]) -> tuple[Pin, ...]:
    first: dict[str, Pin] = {}
    for pin in sorted(pins):
        if pin.product_id not in blocked:
            first.setdefault(pin.product_id, pin)
    return tuple(first.values())


def _merge(one: RuleEffects, other: RuleEffects) -> RuleEffects:
    if one.is_empty or other.is_empty:
        return other if one.is_empty else one
    blocked = {kind: _union(one.blocked[kind], other.blocked[kind]) for kind in KINDS}
    return RuleEffects(
        blocked=blocked,
        factors={kind: _multiply(one.factors[kind], other.factors[kind]) for kind in KINDS},
        exempt={kind: _union(one.exempt[kind], other.exempt[kind]) for kind in KINDS},
        pins=_order_pins((*one.pins, *other.pins), blocked["product_id"]),
        rule_ids=one.rule_ids + other.rule_ids,
    )


def _union(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    # An operator would copy thousands of names even if the other side is empty.
    return one | other if one and other else one or other


def _multiply(one: Mapping[str, float], other: Mapping[str, float]) -> Mapping[str, float]:
    if not one or not other:
        return one or other
    products = {name: factor * one.get(name, 1.0) for name, factor in other.items()}
    bounded = {name: min(max(f, 1 / MAX_FACTOR), MAX_FACTOR) for name, f in products.items()}
    return {**one, **bounded}
