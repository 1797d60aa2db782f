"""Rule effects by catalogue row and facet instead of by name."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bento.answering.catalogue import Catalogue
from bento.answering.rules import KINDS, Named, Pin, RuleEffects, RuleIds, RuleSet
from components.model.arrays import BoolArray, Float64Array, Int32Array, Int64Array, UInt8Array
from components.model.product_records import hash_facet

FACETS = ("category", "brand")

BLOCKED, MOVED, EXEMPT = 1, 2, 4
"""Bits of `ResolvedEffects.find_codes`."""

MAX_LOOPED = 16
"""Rows up to which comparing one by one is faster than `np.isin`, and facets up to which looking
them up one by one is faster than a mask of the whole catalogue is worth its memory."""


class Targets:
    """Products that rules of an action name."""

    def __init__(self, names: Named, catalogue: Catalogue, masked: bool) -> None:
        """`masked` takes a byte for every product, and looks all up at once."""
        self._catalogue = catalogue
        found = ((catalogue.row(id_), ids) for id_, ids in names["product_id"].items())
        self.rows = {row: ids for row, ids in found if row is not None}
        self.facets = {
            hash_facet(kind, name): ids for kind in FACETS for name, ids in names[kind].items()
        }
        self.is_empty = not self.rows and not self.facets
        self._row_array = np.array(list(self.rows), np.int32)
        self._facet_mask: BoolArray | None = None
        self.mask = self._build_mask() if masked and not self.is_empty else None
        """For effects on every request."""

    def mark(self, rows: Int64Array) -> BoolArray:
        if self.mask is not None:
            marks: BoolArray = self.mask[rows]
            return marks
        marks = is_among(rows, self._row_array)
        if self.facets:
            marks |= self._catalogue.has_facet(rows, list(self.facets))
        return marks

    def find_rules(self, row: int) -> RuleIds:
        """The rules that name the product, one way or another."""
        found = self.rows.get(row, ())
        if self.facets and (self._facet_mask is None or self._facet_mask[row]):
            attributes = self._catalogue.find_attributes(row)
            for kind in FACETS:
                if (name := getattr(attributes, kind)) is not None:
                    found += self.facets.get(hash_facet(kind, name), ())
        return found

    def _build_mask(self) -> BoolArray:
        mask = np.zeros(len(self._catalogue), bool)
        for token in self.facets:
            mask[self._catalogue.find_rows(token)] = True
        if self.facets:
            self._facet_mask = mask.copy()
        mask[self._row_array] = True
        return mask


class ResolvedEffects(NamedTuple):
    effects: RuleEffects
    blocked: Targets
    moved: Targets
    row_factors: dict[int, float]
    facet_factors: list[tuple[int, float]]
    factors: Float64Array | None
    """Of all products; for effects on every request."""
    codes: UInt8Array | None
    """Likewise, see `find_codes`."""
    exempt: Targets
    pins: list[tuple[Pin, int]]
    """With the rows of their products."""

    def compute_factors(self, rows: Int64Array, catalogue: Catalogue) -> Float64Array:
        if self.factors is not None:
            dense: Float64Array = self.factors[rows]
            return dense
        factors = np.ones(len(rows))
        if self.row_factors:
            factors *= [self.row_factors.get(row, 1.0) for row in rows.tolist()]
        for token, factor in self.facet_factors:
            factors[catalogue.has_facet(rows, [token])] *= factor
        return factors

    def find_codes(self, rows: Int64Array) -> UInt8Array:
        """Bits of the actions that name each of the rows."""
        if self.codes is not None:
            dense: UInt8Array = self.codes[rows]
            return dense
        codes = np.zeros(len(rows), np.uint8)
        for code, targets in ((BLOCKED, self.blocked), (MOVED, self.moved), (EXEMPT, self.exempt)):
            if not targets.is_empty:
                codes |= targets.mark(rows) * np.uint8(code)
        return codes

    def without_blocks(self, catalogue: Catalogue) -> "ResolvedEffects":
        nothing = Targets({kind: {} for kind in KINDS}, catalogue, False)
        return self._replace(blocked=nothing, codes=None)


def resolve_effects(effects: RuleEffects, catalogue: Catalogue, masked: bool) -> ResolvedEffects:
    """`masked` for effects on every request; see `Targets`."""
    moving = {
        kind: {name: factor.rule_ids for name, factor in by_name.items()}
        for kind, by_name in effects.factors.items()
    }
    by_row = ((catalogue.row(id_), one) for id_, one in effects.factors["product_id"].items())
    row_factors = {row: one.value for row, one in by_row if row is not None}
    facet_factors = [
        (hash_facet(kind, name), one.value)
        for kind in FACETS
        for name, one in effects.factors[kind].items()
    ]
    blocked, moved, exempt = (
        Targets(names, catalogue, masked) for names in (effects.blocked, moving, effects.exempt)
    )
    is_dense = masked and not moved.is_empty
    pins = ((pin, catalogue.row(pin.product_id)) for pin in effects.pins)
    resolved = ResolvedEffects(
        effects,
        blocked=blocked,
        moved=moved,
        row_factors=row_factors,
        facet_factors=facet_factors,
        factors=_multiply(row_factors, facet_factors, catalogue) if is_dense else None,
        codes=None,
        exempt=exempt,
        pins=[(pin, row) for pin, row in pins if row is not None],
    )
    if not masked:
        return resolved
    return resolved._replace(codes=resolved.find_codes(np.arange(len(catalogue))))


def _multiply(
    row_factors: Mapping[int, float],
    facet_factors: Sequence[tuple[int, float]],
    catalogue: Catalogue,
) -> Float64Array:
    factors = np.ones(len(catalogue))
    for row, factor in row_factors.items():
        factors[row] *= factor
    for token, factor in facet_factors:
        factors[catalogue.find_rows(token)] *= factor
    return factors


def mark_conditions(rules: RuleSet, catalogue: Catalogue) -> BoolArray:
    """Rows of the catalogue that match a rule's `when`."""
    names: dict[str, dict[str, RuleIds]] = {kind: {} for kind in KINDS}
    for kind, name in rules.conditions:
        names[kind][name] = ()
    mask = Targets(names, catalogue, masked=True).mask
    return np.zeros(len(catalogue), bool) if mask is None else mask


def is_among(rows: Int64Array, others: Sequence[int] | Int32Array) -> BoolArray:
    if len(others) > MAX_LOOPED:
        return np.isin(rows, others)
    found = np.zeros(len(rows), bool)
    for other in others:
        found |= rows == other
    return found
