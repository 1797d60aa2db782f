"""SQL that brings the rows of a shop's table under our names, as text, by the platform's rules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from components.sources.columns import ColumnMapping, Header
from components.sources.formats import text_of
from components.sources.platforms import LeftOut, Platform
from components.sources.tables import ORDER_ROW, Column, Table, fetch_one, sql_name, sql_text

if TYPE_CHECKING:
    from components.sources.platforms import Ours

UNKNOWN = Platform.model_construct(name="", recognised_by=(), columns={}, note="")
TOTALS = (
    "total", "totals", "total:", "grand total", "sum", "summe", "gesamt", "gesamtsumme",
    "somme", "suma", "totale", "toplam", "genel toplam",
)  # fmt: skip
if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PACKED = "packed_line"
IDS = ("order_id", "user_id", "product_id")
FORMULA = '^="(.*)"$'
BLANKS = " \t\r\n\u00a0\u200b\ufeff"
"""Around ids, of which some are invisible in a spreadsheet."""
APOSTROPHE = "'"
NO_LINES = ("not a purchase", "payment row")
"""Reasons of rows that never were lines of a sale: they count neither as read nor as lost."""


@dataclass(frozen=True)
class Selection:
    """`sql` selects one row a line: our columns as text, and what is subtracted from them."""

    sql: str
    texts: tuple[str, ...]
    """Our columns that are there."""
    columns: dict[str, dict[str, Column]]
    """The shop's columns of each of ours, with their types."""
    minus: dict[str, tuple[str, ...]]
    """Names in the selection of what is to be subtracted from our column."""
    left_out: str
    """An expression of the selection's names: why a row is no line of a sale, or null."""


def select_texts(
    table: Table, mapping: ColumnMapping, number: int = 0, extra: str = "",
    is_marked: bool = False,
) -> Selection:  # fmt: skip
    """`number` keeps orders without id apart from those of other files; `extra` is selected too;
    `is_marked` takes the marks of spreadsheets from ids.

    Raises SourceError for columns of two nested lists.
    """
    return _Selector(table, mapping, number, is_marked).select(extra)


def has_marks(con: "DuckDBPyConnection", selection: Selection) -> bool:
    """Whether ids may begin with the mark of a text, or hold invisible blanks; in one scan."""
    found = [
        f"{ours}[1] in ('=', {sql_text(APOSTROPHE)}) or strlen({ours}) <> length({ours})"
        for ours in IDS
        if ours in selection.texts
    ]
    return bool(fetch_one(con, f"select bool_or({' or '.join(found)}) from ({selection.sql})")[0])


class _Selector:
    def __init__(self, table: Table, mapping: ColumnMapping, number: int, is_marked: bool) -> None:
        self.is_marked = is_marked
        self.table, self.mapping, self.number = table, mapping, number
        self.platform = mapping.platform or UNKNOWN
        self.packed = self.platform.packed
        self.header = Header(list(table.columns), table.name)
        self.rules = {f"rule:{name}": column.text for name, column in self._find_rule_columns()}
        self.texts = dict(self._list_texts())

    def select(self, extra: str) -> Selection:
        named = [f"{sql} as {sql_name(name)}" for name, sql in (self.texts | self.rules).items()]
        named += [extra] if extra else []
        lines = self._fill_orders(f"select {', '.join(named)} from {self._unnest()}")
        return Selection(
            lines, tuple(self.texts), self._list_columns(), self._list_minus(), self._leave_out()
        )

    def _find_rule_columns(self) -> Iterator[tuple[str, Column]]:
        """Of the conditions and of `minus`, as far as they are there."""
        wanted = [rule.column for rule in self.platform.left_out]
        wanted += [one for several in self.platform.minus.values() for one in several]
        for one in dict.fromkeys(wanted):
            if found := self.header.find(one, one):
                yield found, self.table.columns[found]

    def _list_texts(self) -> Iterator[tuple[str, str]]:
        if self.mapping.is_numbered:
            prefix = f"{self.number}-" if self.number else ""
            yield "order_id", f"{sql_text(prefix)} || {ORDER_ROW}"
        for ours, names in self.mapping.columns.items():
            columns = [self.table.columns[one] for one in names]
            text = self._cut_prefix(ours, self._combine(ours, columns))
            yield ours, _unmark(text) if self.is_marked and ours in IDS else text
        for field, patterns in (self.packed.fields if self.packed else {}).items():
            yield field, self._cut_prefix(field, _extract(patterns))

    def _combine(self, ours: str, columns: Sequence[Column]) -> str:
        if ours in self.platform.joined:
            return f"concat_ws(' ', {', '.join(text_of([one]) for one in columns)})"
        return text_of(columns, self.platform.null_values.get(cast("Ours", ours), ()))

    def _cut_prefix(self, ours: str, sql: str) -> str:
        prefix = self.platform.prefix.get(cast("Ours", ours), "")
        if not prefix:
            return sql
        start = f"starts_with({sql}, {sql_text(prefix)})"
        return f"case when {start} then substr({sql}, {len(prefix) + 1}) else {sql} end"

    def _unnest(self) -> str:
        used = [one for several in self.mapping.columns.values() for one in several]
        rules = [name.removeprefix("rule:") for name in self.rules]
        relation = self.table.unnest([*used, *rules])
        if not self.packed:
            return relation
        column = self.header.find("items", self.packed.column) or ""
        text = text_of([self.table.columns[column]])
        parts = f"regexp_split_to_array({text}, {sql_text(self.packed.separator)})"
        return f"(select *, unnest({parts}) as {PACKED} from {relation})"

    def _fill_orders(self, lines: str) -> str:
        """Give all lines of an order the values that only its first line has."""
        once = {self.header.find(one, one) for one in self.platform.on_first_line}
        names = [one for one in self.rules if one.removeprefix("rule:") in once]
        names += [ours for ours, theirs in self.mapping.columns.items() if once & {*theirs}]
        filled = ", ".join(f"{_fill_order(one)} as {one}" for one in map(sql_name, names))
        return f"select * replace ({filled}) from ({lines})" if filled else lines

    def _leave_out(self) -> str:
        """The first reason that holds, or null."""
        cases = [
            f"when {_condition(rule, sql_name(name))} then {sql_text(rule.reason)}"
            for rule in self.platform.left_out
            if (name := self._find_condition_column(rule))
        ]
        if self.table.dialect:
            cases += [f"when {self._repeats_header()} then 'header repeated'"]
            cases += [f"when {self._is_total()} then 'totals line'"]
        return f"case {' '.join(cases)} end" if cases else "cast(null as varchar)"

    def _find_condition_column(self, rule: LeftOut) -> str:
        column, _, field = rule.column.rpartition(".")
        if self.packed and column == self.packed.column:
            return field
        name = f"rule:{self.header.find(rule.column, rule.column)}"
        return name if name in self.rules else ""

    def _repeats_header(self) -> str:
        """Files put one behind the other have header lines among the others."""
        ids = [one for one in ("order_id", "product_id") if one in self.mapping.columns]
        names = ((ours, self.mapping.columns[ours][0]) for ours in ids)
        same = (f"trim({ours}) = {sql_text(theirs)}" for ours, theirs in names)
        return " and ".join(same) or "false"

    def _is_total(self) -> str:
        """A word for it in place of an id, and no time."""
        words = ", ".join(map(sql_text, TOTALS))
        ids = [one for one in ("order_id", "product_id") if one in self.texts]
        is_word = " or ".join(f"lower(trim({one})) in ({words})" for one in ids) or "false"
        has_time = "coalesce(trim(ts), '') <> ''" if "ts" in self.texts else "false"
        return f"({is_word}) and not {has_time}"

    def _list_columns(self) -> dict[str, dict[str, Column]]:
        found = {
            ours: {one: self.table.columns[one] for one in names}
            for ours, names in self.mapping.columns.items()
        }
        if self.packed:
            found |= {field: {self.packed.column: Column(PACKED)} for field in self.packed.fields}
        return found

    def _list_minus(self) -> dict[str, tuple[str, ...]]:
        return {
            ours: tuple(f"rule:{one}" for name in names if (one := self.header.find(ours, name)))
            for ours, names in self.platform.minus.items()
        }


def _fill_order(name: str) -> str:
    own = f"nullif(trim({name}), '')"
    return f"coalesce({own}, any_value({own}) over (partition by order_id))"


def _unmark(sql: str) -> str:
    """Without blanks, and the marks by which spreadsheets keep a number a text.

    They are `="0100"` and `'0100`.
    """
    sql = f"trim({sql}, {sql_text(BLANKS)})"
    formula = f"regexp_extract({sql}, {sql_text(FORMULA)}, 1)"
    return (
        f"case when starts_with({sql}, {sql_text(FORMULA[1:3])}) then {formula} "
        f"when starts_with({sql}, {sql_text(APOSTROPHE)}) then substr({sql}, 2) else {sql} end"
    )


def _extract(patterns: Sequence[str]) -> str:
    """The first match that is not blank."""
    found = (f"nullif(trim(regexp_extract({PACKED}, {sql_text(one)}, 1)), '')" for one in patterns)
    return f"coalesce({', '.join(found)})"


def _condition(rule: LeftOut, name: str) -> str:
    value = f"coalesce(trim({name}), '')"
    if rule.filled:
        return f"{value} <> ''"
    if rule.empty:
        return f"{value} = ''"
    if rule.matches is not None:
        return f"regexp_full_match({value}, {sql_text(rule.matches)})"
    if rule.above is not None:
        return f"coalesce(try_cast({value} as double) > {rule.above}, false)"
    if rule.below is not None:
        return f"coalesce(try_cast({value} as double) < {rule.below}, false)"
    values = ", ".join(sql_text(one.casefold()) for one in rule.values or rule.other_than)
    is_among = f"lower({value}) in ({values})"
    return is_among if rule.values else f"not {is_among}"
