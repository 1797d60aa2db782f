"""The exports that are known by their header, and other names of our columns.

All of it stands in platforms.yaml.
"""

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from components.sources.errors import SourceError

TABLE = Path(__file__).with_name("platforms.yaml")

Reason = Literal[
    "cancellation",
    "refund",
    "test order",
    "gift card",
    "payment row",
    "not a purchase",
    "part of a bundle product",
    "not a product",
]
Ours = Literal[
    "order_id",
    "user_id",
    "product_id",
    "ts",
    "position",
    "quantity",
    "price",
    "name",
    "category",
    "brand",
    "image_url",
    "in_stock",
]
Columns = Annotated[tuple[str, ...], Field(min_length=1)]

NOTHING_LEFT: Reason = "refund"
"""Why a line is left out whose quantity `minus` brings to 0 or below."""


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_check_pattern)]
"""A regular expression of RE2: neither look-around nor back-references."""


class Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LeftOut(Closed):
    """Lines that are no sale: a column of the shop and one condition on it."""

    reason: Reason
    column: str
    values: tuple[str, ...] = ()
    """Whole values, in any case."""
    other_than: tuple[str, ...] = ()
    """All other values, and blanks; in any case."""
    matches: Pattern | None = None
    """Matched with the whole value."""
    filled: Literal[True] | None = None
    empty: Literal[True] | None = None
    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _check_one_condition(self) -> Self:
        conditions = self.model_dump(exclude={"reason", "column"}, exclude_defaults=True)
        if len(conditions) != 1:
            raise ValueError(
                f"{self.reason} by {self.column!r} has the conditions {sorted(conditions)}; "
                "expected exactly one"
            )
        return self


class Packed(Closed):
    """Several lines of an order in the text of one column.

    In conditions, a field is named COLUMN.FIELD.
    """

    column: str
    separator: Pattern
    fields: dict[Ours, Annotated[tuple[Pattern, ...], Field(min_length=1)]]
    """For each of our columns patterns with one group; the first match that is not blank counts."""


class Platform(Closed):
    """Names of the shop's columns are compared trimmed and in any case.

    `LIST.FIELD` is a field of a nested list, `STRUCT.FIELD` one of a struct. Columns that the
    header lacks are passed over, but for those of `recognised_by`.
    """

    name: str
    recognised_by: Annotated[tuple[str, ...], Field(min_length=3)]
    """All of them stand in the header."""
    columns: dict[Ours, Columns]
    """Ours: theirs by preference; the first value of a line that is not blank counts."""
    joined: dict[Ours, Columns] = {}
    """Ours: theirs, put together with a space, such as a date and a time."""
    prefix: dict[Ours, str] = {}
    """Cut off the front of the values."""
    null_values: dict[Ours, tuple[str, ...]] = {}
    """Values that mean the same as a blank, such as the customer 0 of guests."""
    minus: dict[Ours, Columns] = {}
    """Subtracted; a line with nothing left is left out as NOTHING_LEFT."""
    per_line: tuple[Ours, ...] = ()
    """Amounts of the whole line, divided by the shop's quantity."""
    position_from: int = 0
    """The position of the first product of an order."""
    utc: tuple[str, ...] = ()
    """Columns whose times are UTC though they do not say so; others have the shop's clock."""
    on_first_line: tuple[str, ...] = ()
    """Given once per order: filled on its other lines before `left_out` is judged."""
    lines: str | None = None
    """The nested list that holds the lines of an order."""
    packed: Packed | None = None
    left_out: tuple[LeftOut, ...] = ()
    """The first condition that holds gives the reason."""
    note: str

    @model_validator(mode="after")
    def _check_ours(self) -> Self:
        mapped = [*self.columns, *self.joined, *(self.packed.fields if self.packed else ())]
        _check_once(mapped, f"{self.name} gives the column")
        changed = (*self.prefix, *self.null_values, *self.minus, *self.per_line)
        for needed in ("order_id", "product_id", *changed):
            if needed not in mapped:
                raise ValueError(
                    f"{self.name} maps {sorted(mapped)}; expected {needed!r} among them"
                )
        return self

    @model_validator(mode="after")
    def _check_theirs(self) -> Self:
        # A name may also stand in for a missing product id.
        columns = {ours: theirs for ours, theirs in self.columns.items() if ours != "name"}
        theirs = [*columns.values(), *self.joined.values()]
        _check_once(map(_fold_case, sum(theirs, ())), f"{self.name} maps the shop's column")
        return self


Synonyms = dict[Ours, tuple[tuple[str, ...], ...]]


class Table(Closed):
    platforms: tuple[Platform, ...]
    synonyms: Synonyms
    vague: Synonyms = {}
    """Names that count where no synonym fits."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        _check_once((platform.name for platform in self.platforms), "The table has the platform")
        rows = [*self.synonyms.values(), *self.vague.values()]
        words = itertools.chain(self.synonyms, *itertools.chain(*rows))
        _check_once(map(simplify, words), "The table has the name")
        return self


def _check_once(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name!r} twice; expected it once")
        seen.add(name)


def load_platforms() -> tuple[Platform, ...]:
    return _load_table().platforms


@functools.cache
def synonyms() -> dict[str, tuple[str, ...]]:
    """All names of our columns, as `simplify` writes them."""
    return {
        ours: tuple(simplify(word) for word in (ours, *itertools.chain(*rows)))
        for ours, rows in _load_table().synonyms.items()
    }


@functools.cache
def vague_synonyms() -> dict[str, tuple[str, ...]]:
    """Names that count where no synonym fits."""
    return {
        ours: tuple(map(simplify, itertools.chain(*rows)))
        for ours, rows in _load_table().vague.items()
    }


@functools.cache
def _load_table() -> Table:
    import yaml  # type: ignore[import-untyped]

    return Table.model_validate(yaml.safe_load(TABLE.read_text(encoding="utf-8")))


def recognise(header: Sequence[str]) -> Platform | None:
    """The platform that most names of the header speak for; raises SourceError for two."""
    found = {_fold_case(name) for name in header}
    fitting = [one for one in load_platforms() if found.issuperset(_own_names(one))]
    most = max((len(one.recognised_by) for one in fitting), default=0)
    best = [one for one in fitting if len(one.recognised_by) == most]
    if len(best) > 1:
        raise SourceError(
            f"The header is that of {' and of '.join(repr(one.name) for one in best)}; expected "
            "one known export; name the columns with --columns"
        )
    return best[0] if best else None


def simplify(name: str) -> str:
    """A name without case, accents and separators; the signs of a number become `no`."""
    name = re.sub(r"#|n[°º]|№", "no", name, flags=re.IGNORECASE)
    letters = unicodedata.normalize("NFKD", name.casefold()).replace("ı", "i")
    return "".join(letter for letter in letters if letter.isalnum())


def _own_names(platform: Platform) -> set[str]:
    return {_fold_case(name) for name in platform.recognised_by}


def _fold_case(name: str) -> str:
    return name.strip().casefold()
