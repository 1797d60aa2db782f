"""Merchandising rules: what a person may say about the answers, and what it means for a question.

Nothing here knows of a database or of a model. A question's products come as `QueryProduct`, and the
answer of `RuleSet.applying` says what is blocked, pinned, boosted and buried, by id, category and
brand. Blocking is stronger than pinning.
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bento.schemas import STRICT

Action = Literal["pin", "block", "boost", "bury"]

MAX_RULES = 10_000
"""Of one shop; every process that serves holds all of them."""

MAX_FACTOR = 1e9
"""Bound of the net multiplier of a rank, however many rules multiply."""


def reject_nul(text: str) -> str:
    """The text, unless PostgreSQL cannot keep it."""
    if "\0" in text:
        raise PydanticCustomError("nul", "text without NUL characters")
    return text


def to_utc(moment: datetime) -> datetime:
    """The same moment in UTC, unless the calendar ends before."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("far_moment", "a moment of the years 1 to 9999 in UTC") from None


StoredId = Annotated[
    str, StringConstraints(min_length=1, max_length=256), AfterValidator(reject_nul)
]
StoredText = Annotated[str, AfterValidator(reject_nul)]
UtcDatetime = Annotated[AwareDatetime, AfterValidator(to_utc)]


class Scope(BaseModel):
    """Exactly one of a product, a category, a brand; compared letter by letter."""

    model_config = STRICT | ConfigDict(json_schema_extra={"example": {"product_id": "85123A"}})

    product_id: StoredId | None = None
    category: StoredId | None = None
    brand: StoredId | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.product_id, self.category, self.brand).count(None) != 2:
            raise PydanticCustomError("scope", "exactly one of product_id, category, brand")
        return self

    @property
    def key(self) -> tuple[str, str]:
        """The field that is given, and its value."""
        if self.product_id is not None:
            return "product_id", self.product_id
        if self.category is not None:
            return "category", self.category
        return "brand", self.brand or ""


class RuleRequest(BaseModel):
    """A rule as a person writes it."""

    model_config = STRICT | ConfigDict(
        json_schema_extra={
            "example": {
                "action": "pin",
                "target": {"product_id": "22423"},
                "when": {"product_id": "85123A"},
                "position": 1,
                "ends_at": "2030-01-01T00:00:00Z",
                "note": "The cake stand beside the teacup, until stock is gone",
            }
        },
    )

    action: Action = Field(
        description="`pin` shows a product at a position, `block` never shows, `boost` and `bury` "
        "move up and down. What is blocked stays so, pinned or not."
    )
    target: Scope = Field(description="What is moved. Only a product can be pinned.")
    when: Scope | None = Field(
        default=None,
        description="The questions that the rule is for: those that hold such a product. null is "
        "every question. With products in `target` and `when` the rule is for a pair.",
    )
    position: int | None = Field(
        default=None,
        validate_default=True,
        ge=1,
        le=100,
        description="Of a pin, 1 (also when left out) to 100.",
    )
    factor: float | None = Field(
        default=None,
        validate_default=True,
        gt=1,
        le=1000,
        allow_inf_nan=False,
        description="Of a boost or bury, 3 when left out: a boost divides the place in the list "
        "by it, a bury multiplies. Several rules multiply.",
    )
    starts_at: UtcDatetime | None = Field(default=None, description="From then on; null is now.")
    ends_at: UtcDatetime | None = Field(
        default=None, description="Until just before; null is never."
    )
    note: Annotated[StoredText, StringConstraints(max_length=500)] = Field(
        default="", description="Why, for those who come later."
    )

    @field_validator("position", "factor")
    @classmethod
    def _usual(cls, given: float | None, info: ValidationInfo) -> float | None:
        usual = {("position", "pin"): 1, ("factor", "boost"): 3.0, ("factor", "bury"): 3.0}
        action = info.data.get("action")
        return given if given is not None else usual.get((str(info.field_name), str(action)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.action == "pin" and self.target.product_id is None:
            raise PydanticCustomError("pin_target", "a pin whose target is a product_id")
        if self.action != "pin" and self.position is not None:
            raise PydanticCustomError("position_unused", "a position only where action is pin")
        if self.action not in ("boost", "bury") and self.factor is not None:
            raise PydanticCustomError("factor_unused", "a factor only for boost or bury")
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            raise PydanticCustomError("window", "ends_at later than starts_at")
        return self


class Rule(RuleRequest):
    """A rule as it is kept."""

    model_config = STRICT | ConfigDict(
        json_schema_extra={
            "example": {
                "rule_id": "0f5c1e3a9b7d4f60a1c2d3e4f5a6b7c8",
                "action": "bury",
                "target": {"category": "Gift wrap"},
                "factor": 3.0,
                "created_at": "2026-01-01T09:00:00Z",
                "updated_at": "2026-01-01T09:00:00Z",
                "created_by": "ann",
            }
        },
    )

    rule_id: str
    created_at: UtcDatetime
    updated_at: UtcDatetime
    created_by: str

    @property
    def multiplier(self) -> float:
        """What the rank is multiplied with; 1 for pins and blocks."""
        factor = self.factor or 1.0
        return 1 / factor if self.action == "boost" else factor

    def is_active(self, now: datetime) -> bool:
        """Whether `now` lies in the rule's time."""
        return (self.starts_at is None or self.starts_at <= now) and (
            self.ends_at is None or now < self.ends_at
        )


class RuleList(BaseModel):
    """All rules, oldest first."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "revision": 42,
                "rules": [Rule.model_config["json_schema_extra"]["example"]],  # type: ignore[index]
                "malformed": [],
            }
        },
    )

    revision: int = Field(description="Of the database; every write increases it.")
    rules: list[Rule]
    malformed: list[str] = Field(
        description="Ids of rules that this release cannot read; they are not applied."
    )


class QueryProduct(NamedTuple):
    """A product of the question, with what the catalogue says of it."""

    product_id: str
    category: str | None = None
    brand: str | None = None


class Pin(NamedTuple):
    """A product and its place. Pins sort as they are to be placed."""

    position: int
    product_id: str
    rule_id: str


@dataclass(frozen=True, slots=True)
class RuleEffects:
    """What rules do to one question. Factors multiply the rank: below 1 is better."""

    blocked_products: frozenset[str] = frozenset()
    blocked_categories: frozenset[str] = frozenset()
    blocked_brands: frozenset[str] = frozenset()
    pins: tuple[Pin, ...] = ()
    """In order; one a product, none of a blocked id (its category may be blocked all the same)."""

    product_factors: Mapping[str, float] = field(default_factory=dict)
    category_factors: Mapping[str, float] = field(default_factory=dict)
    brand_factors: Mapping[str, float] = field(default_factory=dict)
    rule_ids: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether no rule applies."""
        return not self.rule_ids

    def blocks(self, product: QueryProduct) -> bool:
        """Whether this product must not be shown."""
        return (
            product.product_id in self.blocked_products
            or product.category in self.blocked_categories
            or product.brand in self.blocked_brands
        )

    def factor(self, product: QueryProduct) -> float:
        """What this product's rank is multiplied with."""
        net = self.product_factors.get(product.product_id, 1.0)
        if product.category is not None:
            net *= self.category_factors.get(product.category, 1.0)
        if product.brand is not None:
            net *= self.brand_factors.get(product.brand, 1.0)
        return min(max(net, 1 / MAX_FACTOR), MAX_FACTOR)


NOTHING = RuleEffects()


class RuleSet:
    """All rules of a moment, found by what is asked. Immutable; safe to share between threads."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        groups: dict[tuple[str, str] | None, list[Rule]] = {}
        for rule in rules:
            groups.setdefault(rule.when.key if rule.when else None, []).append(rule)
        self._always = _RuleGroup(groups.pop(None, []))
        by_kind: dict[str, dict[str, _RuleGroup]] = {"product_id": {}, "category": {}, "brand": {}}
        for key, some in groups.items():
            if key is not None:
                by_kind[key[0]][key[1]] = _RuleGroup(some)
        self._products, self._categories, self._brands = by_kind.values()
        self._conditional = bool(groups)
        self.empty = not groups and not self._always.rules
        """Whether there is no rule at all, active or not."""

    def applying(self, asked: Sequence[QueryProduct], now: datetime) -> RuleEffects:
        """What the rules do to a question about these products at that (aware) moment."""
        global_effects = self._always.at(now)
        return (
            _merge_effects(global_effects, self.effects_for(asked, now))
            if self._conditional
            else global_effects
        )

    def global_effects(self, now: datetime) -> RuleEffects:
        """Of `applying`, what holds for every question: the same object while nothing changes."""
        return self._always.at(now)

    def effects_for(self, asked: Sequence[QueryProduct], now: datetime) -> RuleEffects:
        """Of `applying`, what holds because of the products asked about."""
        found = self._find_groups(asked) if self._conditional else ()
        return functools.reduce(_merge_effects, (group.at(now) for group in found), NOTHING)

    def _find_groups(self, asked: Sequence[QueryProduct]) -> Iterable["_RuleGroup"]:
        found: dict[int, _RuleGroup] = {}
        for product_id, category, brand in asked:
            if (group := self._products.get(product_id)) is not None:
                found[id(group)] = group
            if category is not None and (group := self._categories.get(category)) is not None:
                found[id(group)] = group
            if brand is not None and (group := self._brands.get(brand)) is not None:
                found[id(group)] = group
        # In an order of the rules, not of the question: a cart's order must not matter.
        return sorted(found.values(), key=lambda group: group.first)


class _RuleGroup:
    """Rules for the same questions. Their sum is kept until the next of them starts or ends."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.rule_id))
        self.first = self.rules[0].rule_id if rules else ""
        moments = {m for rule in rules for m in (rule.starts_at, rule.ends_at) if m is not None}
        self._moments = sorted(moments)
        self._kept: tuple[datetime, datetime, RuleEffects] | None = None
        if not rules:
            self._kept = (_EVER[0], _EVER[1], NOTHING)

    def at(self, now: datetime) -> RuleEffects:
        kept = self._kept
        if kept is None or not kept[0] <= now < kept[1]:
            # One assignment: another thread sees the old sum or the new one.
            self._kept = kept = (
                max((m for m in self._moments if m <= now), default=_EVER[0]),
                min((m for m in self._moments if m > now), default=_EVER[1]),
                _combine_rules([rule for rule in self.rules if rule.is_active(now)]),
            )
        return kept[2]


_EVER = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def _combine_rules(rules: Sequence[Rule]) -> RuleEffects:
    if not rules:
        return NOTHING
    blocked: dict[str, set[str]] = {"product_id": set(), "category": set(), "brand": set()}
    moved: dict[str, dict[str, list[Rule]]] = {"product_id": {}, "category": {}, "brand": {}}
    pins = []
    for rule in rules:
        kind, name = rule.target.key
        if rule.action == "block":
            blocked[kind].add(name)
        elif rule.action == "pin":
            pins.append(Pin(rule.position or 1, name, rule.rule_id))
        else:
            moved[kind].setdefault(name, []).append(rule)
    products = frozenset(blocked["product_id"])
    return RuleEffects(
        products,
        frozenset(blocked["category"]),
        frozenset(blocked["brand"]),
        _order_pins(pins, products),
        _net_factors(moved["product_id"]),
        _net_factors(moved["category"]),
        _net_factors(moved["brand"]),
        tuple(rule.rule_id for rule in rules),
    )


def _net_factors(moved: Mapping[str, Sequence[Rule]]) -> Mapping[str, float]:
    return {name: _net_factor(rules) for name, rules in moved.items()}


def _net_factor(rules: Sequence[Rule]) -> float:
    """Boosts against buries, each bounded: many of both never make inf/inf."""
    boosts = math.prod(rule.factor or 1.0 for rule in rules if rule.action == "boost")
    buries = math.prod(rule.factor or 1.0 for rule in rules if rule.action == "bury")
    return min(buries, MAX_FACTOR) / min(boosts, MAX_FACTOR)


def _order_pins(pins: Iterable[Pin], blocked: frozenset[str]) -> tuple[Pin, ...]:
    """In order, and of one product only the foremost."""
    first: dict[str, Pin] = {}
    for pin in sorted(pins):
        if pin.product_id not in blocked:
            first.setdefault(pin.product_id, pin)
    return tuple(first.values())


def _merge_effects(one: RuleEffects, other: RuleEffects) -> RuleEffects:
    if other.empty:
        return one
    if one.empty:
        return other
    products = _union(one.blocked_products, other.blocked_products)
    return RuleEffects(
        products,
        _union(one.blocked_categories, other.blocked_categories),
        _union(one.blocked_brands, other.blocked_brands),
        _order_pins((*one.pins, *other.pins), products) if one.pins or other.pins else (),
        _multiply_factors(one.product_factors, other.product_factors),
        _multiply_factors(one.category_factors, other.category_factors),
        _multiply_factors(one.brand_factors, other.brand_factors),
        one.rule_ids + other.rule_ids,
    )


def _union(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    # A union copies even where one side is empty, and the other may hold thousands.
    return one | other if one and other else one or other


def _multiply_factors(one: Mapping[str, float], other: Mapping[str, float]) -> Mapping[str, float]:
    if not one or not other:
        return one or other
    more = {
        name: min(max(factor * one.get(name, 1.0), 1 / MAX_FACTOR), MAX_FACTOR)
        for name, factor in other.items()
    }
    return {**one, **more}
