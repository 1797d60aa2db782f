"""Which column of a shop's table is which of ours."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from components.contracts import ORDER_LINES, PRODUCTS
from components.sources.errors import SourceError
from components.sources.platforms import (
    Platform,
    recognise,
    simplify,
    synonyms,
    vague_synonyms,
)

DERIVED_COLUMN = "attributes"
"""Built from all columns of a product table that are not mapped."""
ITEMS = "items"
"""A column with all products of an order, as a list or as separated text."""
KNOWN_COLUMNS = tuple(
    one
    for one in dict.fromkeys([*ORDER_LINES.names, *PRODUCTS.names, ITEMS])
    if one != DERIVED_COLUMN
)
OF_ORDERS = ("order_id", "user_id", "ts")
"""Columns that an order has; those of lines come from its nested list, if it has one."""
SOME_ID = r"(?i)(^|[._])\$?o?id$"
"""Columns that may be an order's id, so that orders are not numbered."""
ROW_ID = "id"
"""Of the order, where a row is an order; elsewhere it could be anything's."""
N_NAMES_SHOWN = 30


class ColumnsError(SourceError):
    """The column mapping does not fit the table."""


class MissingColumnError(ColumnsError):
    """The table lacks a required column."""


@dataclass(frozen=True)
class ColumnMapping:
    """`columns` is {our name: the shop's names}; the first of them with a value counts."""

    columns: dict[str, tuple[str, ...]]
    platform: Platform | None = None
    by_synonym: tuple[str, ...] = ()
    """Our names that were found by a synonym."""
    items: str = ""
    """The column with all products of an order, where there is one row for each order."""
    is_numbered: bool = False
    """Orders have no id: they are numbered."""
    ambiguous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The shop's columns of which each could be ours, so that none was taken."""


def parse_columns(text: str) -> dict[str, str]:
    """Parse `order_id=Invoice,…` to {our name: the shop's name}; raises ColumnsError."""
    columns: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals or not theirs:
            raise ColumnsError(
                f"columns: {pair!r} is no pair, expected OURS=THEIRS; separate by commas"
            )
        if ours not in KNOWN_COLUMNS:
            raise ColumnsError(
                f"columns: {ours!r} is unknown, expected one of {', '.join(KNOWN_COLUMNS)}; write "
                "OURS=THEIRS"
            )
        columns[ours] = theirs
    return columns


def map_columns(
    header: Sequence[str], given: Mapping[str, str], required: Sequence[str], name: str,
    nested: Collection[str] = (),
) -> ColumnMapping:  # fmt: skip
    """Given names win, then those of a recognised platform, then ours, then synonyms.

    `header` has distinct names, twins as `price#1` and `price#2`; `name` is the file's; `nested`
    are columns within a list. Raises ColumnsError for a missing or ambiguous column.
    """
    names = Header(header, name, nested)
    found: dict[str, tuple[str, ...]] = {
        ours: (one,) for ours, theirs in given.items() if (one := names.find(ours, theirs))
    }
    platform = recognise(header) if "product_id" in required else None
    if platform:
        found |= _map_platform(names, platform, found)
    found |= _map_own_names(names, found)
    fitting = {} if platform else _find_synonyms(names, found)
    by_synonym = {ours: several for ours, several in fitting.items() if len(several) == 1}
    ambiguous = {ours: several for ours, several in fitting.items() if len(several) > 1}
    found |= by_synonym
    items = "" if "product_id" in found else found.get(ITEMS, ("",))[0]
    if items:
        found["product_id"] = (items,)
    found.pop(ITEMS, None)
    is_nested = any(one in nested for one in found.get("product_id", ()))
    if is_nested and not platform:
        found = {k: v for k, v in found.items() if k in given or k in OF_ORDERS or v[0] in nested}
    is_row_an_order = bool(items) or is_nested
    if is_row_an_order and "order_id" not in found and (row_id := names.find("order_id", ROW_ID)):
        found["order_id"] = (row_id,)
    is_numbered = (
        is_row_an_order and "order_id" in required and "order_id" not in found
        and not any(re.search(SOME_ID, one) for one in names.columns if one not in nested)
    )  # fmt: skip
    packed = platform.packed.fields if platform and platform.packed else {}
    there = {*found, *packed, *(["order_id"] if is_numbered else [])}
    if missing := [ours for ours in required if ours not in there]:
        raise MissingColumnError(_describe_missing(names, given, missing[0], ambiguous))
    return ColumnMapping(found, platform, tuple(by_synonym), items, is_numbered, ambiguous)


def _map_platform(
    names: "Header", platform: Platform, found: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    mapped: dict[str, tuple[str, ...]] = {}
    for ours, wanted in (platform.columns | platform.joined).items():
        there = tuple(one for theirs in wanted if (one := names.find(ours, theirs)))
        if there and ours not in found:
            mapped[ours] = there
    return mapped


def _map_own_names(
    names: "Header", found: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    used = _list_used(found)
    own = {ours: names.find(ours, ours) for ours in KNOWN_COLUMNS if ours not in found}
    return {ours: (one,) for ours, one in own.items() if one and one not in used}


def _find_synonyms(
    names: "Header", found: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """All columns that could be one of ours, of those not found yet."""
    fitting: dict[str, tuple[str, ...]] = {}
    simple = {one: simplify(names.own_name(one)) for one in names.columns}
    for words in (synonyms(), vague_synonyms()):
        used = _list_used({**found, **fitting})
        for ours, known in words.items():
            there = [one for one in names.columns if simple[one] in known and one not in used]
            if there and ours not in found and ours not in fitting:
                fitting[ours] = tuple(there)
    return fitting


def _list_used(found: Mapping[str, Sequence[str]]) -> set[str]:
    return {one for several in found.values() for one in several}


def _describe_missing(
    names: "Header", given: Mapping[str, str], ours: str, ambiguous: Mapping[str, Sequence[str]]
) -> str:
    named = given.get(ours)
    if several := ambiguous.get(ours):
        return (
            f"{names.file}: {len(several)} columns could be {ours} ({', '.join(several)}), "
            f"expected one; choose it with --columns '{ours}={several[0]}'"
        )
    missing = f"column {named!r} (for {ours})" if named else f"a column for {ours}"
    shown = ", ".join(names.columns[:N_NAMES_SHOWN])
    if (more := len(names.columns) - N_NAMES_SHOWN) > 0:
        shown += f" and {more} more"
    return (
        f"{names.file}: {missing} is missing; found {shown}; name it with --columns {ours}=ITS_NAME"
    )


class Header:
    """Names of a table's columns, found without regard to letter case and outer spaces."""

    def __init__(self, columns: Sequence[str], file: str, nested: Collection[str] = ()) -> None:
        self.columns = [one for one in columns if one.strip()]
        self.file = file
        self.nested = nested
        self._fields: dict[str, list[str]] = {}
        for one in nested:
            self._fields.setdefault(normalise_name(self.own_name(one)), []).append(one)
        self._by_name: dict[str, list[str]] = {}
        for one in self.columns:
            base = re.sub(r"#\d+$", "", one)
            for key in dict.fromkeys([normalise_name(one), normalise_name(base)]):
                self._by_name.setdefault(key, []).append(one)
        for one in nested:
            self._by_name.setdefault(normalise_name(self.own_name(one)), [one])

    def own_name(self, column: str) -> str:
        """Of a field of a nested list, without the name of the list."""
        return column.rpartition(".")[2] if column in self.nested else column

    def find(self, ours: str, theirs: str) -> str | None:
        """Raises ColumnsError where two columns have the name."""
        fields = self._fields.get(normalise_name(theirs), [])
        if len(fields) == 1 and ours not in OF_ORDERS:  # an order has a price, too: its total
            return fields[0]
        if theirs in self.columns:
            return theirs
        twins = self._by_name.get(normalise_name(theirs), [])
        if len(twins) > 1:
            raise ColumnsError(
                f"{self.file}: {len(twins)} columns are called {theirs!r} ({', '.join(twins)}), "
                f"expected one for {ours}; say which with --columns {ours}={twins[0]}"
            )
        return twins[0] if twins else None


def normalise_name(name: str) -> str:
    return " ".join(name.replace("\u00a0", " ").split()).casefold()
