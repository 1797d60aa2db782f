"""Rules that stand in each other's way, or that cannot work as they are."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Literal, NamedTuple

from bento.answering.catalogue import Catalogue
from bento.schemas.rules import Rule, RuleRequest, Scope
from bento.workbench.rules.words import find_state
from components.model.product_records import hash_facet

Key = tuple[str, str]

Severity = Literal["warn", "confirm", "refuse"]
"""Said only; to be confirmed before it is published; refused unless it is kept on purpose."""

MAX_OTHERS = 5
"""Rules named beside one, of each kind of conflict."""

MAX_LOOKED_AT = 200
"""Rules of one target: thousands of each kind would take seconds together."""

OPPOSITE = {"boost": "bury", "bury": "boost"}


class RuleConflict(NamedTuple):
    kind: str
    sentence: str
    severity: Severity = "warn"
    other_id: str | None = None
    """The other rule."""


class RuleIndex:
    """Looks up the rules that may conflict with one. Ended rules conflict with none."""

    def __init__(self, rules: Iterable[Rule], catalogue: Catalogue | None, now: datetime) -> None:
        self._catalogue, self._now = catalogue, now
        self.rules = [rule for rule in rules if find_state(rule, now) != "ended"]
        self._keys: dict[Key, list[Key]] = {}
        self._by_target: dict[tuple[str, Key], list[Rule]] = defaultdict(list)
        self._pins: list[Rule] = []
        self._claims: dict[tuple[str, Key | None], list[Rule]] = defaultdict(list)
        self._narrower: dict[tuple[str, Key | None], list[Rule]] = defaultdict(list)
        for rule in self.rules:
            self._add(rule)

    def _add(self, rule: Rule) -> None:
        if rule.target is not None:
            self._by_target[rule.action, rule.target.key].append(rule)
        if rule.action == "pin":
            self._pins.append(rule)
        for claim in _list_claims(rule):
            self._claims[claim, _find_key(rule.when)].append(rule)
            if rule.when is not None:
                broader: list[Key | None] = [None, *self._list_keys(rule.when)[1:]]
                for key in broader:
                    self._narrower[claim, key].append(rule)

    def find_all(self) -> dict[str, list[RuleConflict]]:
        """By the id of a rule, for rules that have any; of two rules, for both."""
        found: dict[str, list[RuleConflict]] = defaultdict(list)
        for rule in self.rules:
            for conflict in self.find(rule, both_sides=False):
                found[rule.rule_id].append(conflict)
                if conflict.kind == "blocked_pin" and conflict.other_id:
                    mirrored = BLOCKS_PIN._replace(other_id=rule.rule_id)
                    found[conflict.other_id].append(mirrored)
        return {rule_id: _limit(some) for rule_id, some in found.items()}

    def find(self, rule: RuleRequest, both_sides: bool = True) -> list[RuleConflict]:
        """With other rules. Without `both_sides`, a block is not asked for the pins it hides."""
        if find_state(rule, self._now) == "ended":
            return [RuleConflict("ended", "This rule has ended: it does nothing.")]
        finders = [self._find_same, self._find_pins_at_same_position, self._find_blocks_of_pin]
        finders += [self._find_opposite, self._find_shadowing_settings]
        if both_sides:
            finders.append(self._find_pins_of_block)
        own_id = getattr(rule, "rule_id", None)
        found = [
            conflict
            for finder in finders
            for conflict in islice(finder(rule), MAX_OTHERS + 1)
            if conflict.other_id != own_id or own_id is None
        ]
        if _is_own_page(rule):
            found.append(OWN_PAGE)
        return _limit(found)

    def _find_same(self, rule: RuleRequest) -> Iterator[RuleConflict]:
        if rule.target is None:
            return
        for other in self._by_target.get((rule.action, rule.target.key), ())[:MAX_LOOKED_AT]:
            if other.when == rule.when and self._overlap(rule, other):
                yield RuleConflict("same", "The same rule is there already.", "warn", other.rule_id)

    def _find_pins_at_same_position(self, rule: RuleRequest) -> Iterator[RuleConflict]:
        if rule.action != "pin":
            return
        position = rule.position or 1
        sentence = (
            f"Two pins want position {position} of the same page: one of them comes a place later."
        )
        for other in self._list_rivals(rule, f"position {position}"):
            if other.target != rule.target and self._overlap(rule, other):
                yield RuleConflict("same_position", sentence, "confirm", other.rule_id)

    def _list_rivals(self, rule: RuleRequest, claim: str) -> Iterator[Rule]:
        """Rules with the same claim whose `when` may be met together with this one's."""
        keys: list[Key | None] = [None, *(self._list_keys(rule.when) if rule.when else [])]
        for key in keys:
            yield from self._claims.get((claim, key), ())
        yield from self._narrower.get((claim, _find_key(rule.when)), ())

    def _find_blocks_of_pin(self, rule: RuleRequest) -> Iterator[RuleConflict]:
        if rule.action != "pin" or rule.target is None:
            return
        for key in self._list_keys(rule.target):
            for other in self._by_target.get(("block", key), ())[:MAX_LOOKED_AT]:
                if self._may_meet(rule.when, other.when) and self._overlap(rule, other):
                    sentence = "A block hides this pin's product: the pin does nothing."
                    yield RuleConflict("blocked_pin", sentence, "confirm", other.rule_id)

    def _find_pins_of_block(self, rule: RuleRequest) -> Iterator[RuleConflict]:
        if rule.action != "block" or rule.target is None:
            return
        if rule.target.product_id is not None:
            pins: Iterable[Rule] = self._by_target.get(("pin", rule.target.key), ())
        else:
            pins = self._pins
        for pin in pins:
            is_hit = pin.target is not None and rule.target.key in self._list_keys(pin.target)
            if is_hit and self._may_meet(rule.when, pin.when) and self._overlap(rule, pin):
                yield BLOCKS_PIN._replace(other_id=pin.rule_id)

    def _find_opposite(self, rule: RuleRequest) -> Iterator[RuleConflict]:
        if (opposite := OPPOSITE.get(rule.action)) is None or rule.target is None:
            return
        for other in self._by_target.get((opposite, rule.target.key), ())[:MAX_LOOKED_AT]:
            if self._may_meet(rule.when, other.when) and self._overlap(rule, other):
                sentence = "One rule moves this up, the other down: their factors multiply."
                yield RuleConflict("opposite", sentence, "warn", other.rule_id)

    def _find_shadowing_settings(self, rule: RuleRequest) -> Iterator[RuleConflict]:
        if rule.action != "set":
            return
        for name in _list_claims(rule):
            same = self._claims.get((name, _find_key(rule.when)), ())
            for other in same[:MAX_LOOKED_AT]:
                if self._overlap(rule, other):
                    sentence = f"Two rules set {name} for the same pages: the later one counts."
                    yield RuleConflict("same_setting", sentence, "warn", other.rule_id)
            narrower = self._narrower.get((name, _find_key(rule.when)), ())
            for other in narrower[:MAX_LOOKED_AT]:
                if self._overlap(rule, other):
                    sentence = f"A rule for fewer pages sets {name}, too: there it counts instead."
                    yield RuleConflict("shadowed", sentence, "warn", other.rule_id)

    def _may_meet(self, one: Scope | None, other: Scope | None) -> bool:
        """Whether one product may match both; carts of several products are not looked at."""
        if one is None or other is None or one == other:
            return True
        if one.key in self._list_keys(other) or other.key in self._list_keys(one):
            return True
        kinds = {one.key[0], other.key[0]}
        return kinds == {"category", "brand"} and self._share_a_product(one.key, other.key)

    def _share_a_product(self, one: Key, other: Key) -> bool:
        if self._catalogue is None:
            return False
        rows = set(self._catalogue.find_rows(hash_facet(*one)).tolist())
        return not rows.isdisjoint(self._catalogue.find_rows(hash_facet(*other)).tolist())

    def _list_keys(self, scope: Scope) -> list[Key]:
        """The scope's own, and for a product those of its category and brand."""
        if (keys := self._keys.get(scope.key)) is None:
            keys = self._keys[scope.key] = [scope.key, *self._list_facets(scope)]
        return keys

    def _list_facets(self, scope: Scope) -> list[Key]:
        if scope.product_id is None or self._catalogue is None:
            return []
        described = self._catalogue.find_attributes(self._catalogue.row(scope.product_id))
        pairs = (("category", described.category), ("brand", described.brand))
        return [(kind, name) for kind, name in pairs if name]

    def _overlap(self, one: RuleRequest, other: Rule) -> bool:
        starts = [rule.starts_at for rule in (one, other) if rule.starts_at is not None]
        ends = [rule.ends_at for rule in (one, other) if rule.ends_at is not None]
        return not starts or not ends or max(starts) < min(ends)


def _find_key(scope: Scope | None) -> Key | None:
    return None if scope is None else scope.key


def _list_claims(rule: RuleRequest) -> list[str]:
    """What only one rule of a page can have."""
    if rule.action == "pin":
        return [f"position {rule.position or 1}"]
    return list(rule.settings.given) if rule.settings else []


BLOCKS_PIN = RuleConflict("blocks_pin", "This block hides the product of a pin.", "confirm")

OWN_PAGE = RuleConflict(
    "own_page", "A page never shows its own product: this rule does nothing there."
)


def _is_own_page(rule: RuleRequest) -> bool:
    pair = (rule.target, rule.when)
    return (
        rule.action != "exempt"
        and all(one is not None and one.product_id is not None for one in pair)
        and rule.target == rule.when
    )


def _limit(conflicts: Sequence[RuleConflict]) -> list[RuleConflict]:
    """A few of each kind, one for each other rule."""
    seen: dict[tuple[str, str | None], RuleConflict] = {}
    n_by_kind: dict[str, int] = defaultdict(int)
    for conflict in conflicts:
        key = (conflict.kind, conflict.other_id)
        if key not in seen and n_by_kind[conflict.kind] < MAX_OTHERS:
            seen[key] = conflict
            n_by_kind[conflict.kind] += 1
    return list(seen.values())


class UnknownName(NamedTuple):
    """A product, category or brand that the catalogue does not have."""

    field: Literal["target", "when"]
    kind: str
    name: str


def find_unknown_names(rule: RuleRequest, catalogue: Catalogue) -> list[UnknownName]:
    fields: tuple[Literal["target", "when"], ...] = ("target", "when")
    scopes = ((field, getattr(rule, field)) for field in fields)
    return [
        UnknownName(field, *scope.key)
        for field, scope in scopes
        if scope is not None and not is_known(scope, catalogue)
    ]


def is_known(scope: Scope, catalogue: Catalogue) -> bool:
    kind, name = scope.key
    if kind == "product_id":
        row = catalogue.row(name)
        return row is not None and not catalogue.is_deleted(row)
    return len(catalogue.find_rows(hash_facet(kind, name))) > 0
