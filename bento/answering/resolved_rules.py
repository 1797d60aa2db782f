"""Rules for a catalogue: what they do to a request, resolved once and looked up then."""

from collections.abc import Sequence
from datetime import UTC, datetime

from bento.answering.catalogue import Catalogue
from bento.answering.resolved_effects import ResolvedEffects, mark_conditions, resolve_effects
from bento.answering.rules import QueryProduct, RuleEffects, RuleSet

MAX_CACHED_EFFECTS = 20_000
"""Twice the most rules, each with a `when` of its own."""


class ResolvedRules:
    def __init__(self, rules: RuleSet, catalogue: Catalogue) -> None:
        self.rules, self.catalogue = rules, catalogue
        self._conditions = memoryview(mark_conditions(rules, catalogue))  # type: ignore[arg-type]
        self._cache: dict[RuleEffects, ResolvedEffects] = {}

    def has_condition(self, row: int) -> bool:
        """Whether a rule, active or not, is for requests for this product."""
        return bool(self._conditions[row])

    def find_global(self, now: datetime) -> ResolvedEffects | None:
        """Effects on every request."""
        effects = self.rules.global_effects(now)
        return None if effects.is_empty else self._resolve(effects, masked=True)

    def find_for_page(self, row: int, product_id: str, now: datetime) -> list[ResolvedEffects]:
        """As `find`, for a product of the bundle."""
        if self.has_condition(row):
            found = self.catalogue.find_attributes(row)
            return self.find([QueryProduct(product_id, found.category, found.brand)], now)
        general = self.find_global(now)
        return [] if general is None else [general]

    def find(
        self, products: Sequence[QueryProduct], now: datetime | None = None
    ) -> list[ResolvedEffects]:
        """Effects on a request for these products, those on every request first."""
        now = now or datetime.now(UTC)
        general = self.find_global(now)
        found = [] if general is None else [general]
        return found + [self._resolve(one) for one in self.rules.effects_for(products, now)]

    def _resolve(self, effects: RuleEffects, masked: bool = False) -> ResolvedEffects:
        if (resolved := self._cache.get(effects)) is None:
            if len(self._cache) >= MAX_CACHED_EFFECTS:
                self._cache.clear()
            resolved = resolve_effects(effects, self.catalogue, masked)
            self._cache[effects] = resolved
        return resolved
