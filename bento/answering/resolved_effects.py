"""Rule effects by catalogue row and facet instead of by name."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from bento.answering.catalogue import Catalogue
from bento.answering.rules import Pin, RuleEffects
from components.model.arrays import Int32Array
from components.model.product_records import hash_facet

FACETS = ("category", "brand")


class ResolvedEffects(NamedTuple):
    blocked_rows: Int32Array
    blocked_facets: list[int]
    row_factors: dict[int, float]
    facet_factors: list[tuple[int, float]]
    exempt_rows: frozenset[int]
    exempt_facets: list[int]
    pins: list[tuple[Pin, int]]
    """With the rows of their products."""


def resolve_effects(effects: RuleEffects, catalogue: Catalogue) -> ResolvedEffects:
    blocked = (catalogue.row(id_) for id_ in effects.blocked["product_id"])
    factors = ((catalogue.row(id_), f) for id_, f in effects.factors["product_id"].items())
    exempt = (catalogue.row(id_) for id_ in effects.exempt["product_id"])
    pins = ((pin, catalogue.row(pin.product_id)) for pin in effects.pins)
    return ResolvedEffects(
        blocked_rows=np.array([row for row in blocked if row is not None], np.int32),
        blocked_facets=_hash_facets(effects.blocked),
        row_factors={row: factor for row, factor in factors if row is not None},
        facet_factors=[
            (hash_facet(kind, name), factor)
            for kind in FACETS
            for name, factor in effects.factors[kind].items()
        ],
        exempt_rows=frozenset(row for row in exempt if row is not None),
        exempt_facets=_hash_facets(effects.exempt),
        pins=[(pin, row) for pin, row in pins if row is not None],
    )


def _hash_facets(names: Mapping[str, Iterable[str]]) -> list[int]:
    return [hash_facet(kind, name) for kind in FACETS for name in names[kind]]
