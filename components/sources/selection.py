"""SQL that brings the rows of a shop's table under our names, as text, by the platform's rules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from components.sources.columns import ColumnMapping, Header
from components.sources.formats import text_of
from components.sources.platforms import LeftOut
from components.sources.tables import ORDER_ROW, Column, Table, sql_name, sql_text

PACKED = "packed_line"
NO_LINES = ("not a purchase", "payment row")
"""Reasons of rows that never were lines of a sale: they count neither as read nor as lost."""


@dataclass(frozen=True)
class Selection:
    """`sql` selects one row a line: our columns as text, `left_out`, and `minus` of columns."""

    sql: str
    columns: dict[str, dict[str, Column]]
    """The shop's columns of each of ours, with their types."""
    minus: dict[str, tuple[str, ...]]
    """Names in the selection of what is to be subtracted from our column."""
    has_orders: bool


def select_texts(
    table: Table, mapping: ColumnMapping, number: int = 0, extra: str = ""
) -> Selection:
    """`number` keeps orders without id apart from those of other files; `extra` is selected too.

    Raises SourceError for columns of two nested lists.
    """
    return _Selector(table, mapping, number).select(extra)


class _Selector:
    def __init__(self, table: Table, mapping: ColumnMapping, number: int) -> None:
        self.table, self.mapping, self.number = table, mapping, number
        self.platform = mapping.platform
        self.header = Header(list(table.columns), table.name)

    def select(self, extra: str) -> Selection:
        texts = dict(self._texts())
        rules = {name: column.text for name, column in self._rule_columns().items()}
        used = [one for several in self.mapping.columns.values() for one in several]
        relation = self._relation([*used, *rules])
        listed = [f"{sql} as {sql_name(name)}" for name, sql in (texts | _rules(rules)).items()]
        inner = f"select {', '.join([*listed, *([extra] if extra else [])])} from {relation}"
        filled = (
            f"select * replace ({self._fills(rules)}) from ({inner})"
            if self._fills(rules)
            else inner
        )
        some_value = ", ".join(sql_name(name) for name in texts)
        sql = (
            f"select *, {self._left_out(texts, rules)} as left_out from ({filled}) "
            f"where coalesce({some_value}) is not null"
        )
        has_orders = "order_id" in texts
        return Selection(sql, self._shop_columns(), self._minus(), has_orders)

    def _texts(self) -> Iterator[tuple[str, str]]:
        if self.mapping.is_numbered:
            prefix = f"{self.number}-" if self.number else ""
            yield "order_id", f"{sql_text(prefix)} || {ORDER_ROW}"
        for ours, names in self.mapping.columns.items():
            columns = [self.table.columns[one] for one in names]
            yield ours, self._cut_prefix(ours, self._combine(ours, columns))
        if self.platform and self.platform.packed:
            for field, patterns in self.platform.packed.fields.items():
                yield field, self._cut_prefix(field, _extract(patterns))

    def _combine(self, ours: str, columns: Sequence[Column]) -> str:
        nothing = self.platform.null_values.get(ours, ()) if self.platform else ()
        if self.platform and ours in self.platform.joined:
            return f"concat_ws(' ', {', '.join(text_of([one]) for one in columns)})"
        return text_of(columns, nothing)

    def _cut_prefix(self, ours: str, sql: str) -> str:
        prefix = self.platform.prefix.get(ours, "") if self.platform else ""
        if not prefix:
            return sql
        start = f"starts_with({sql}, {sql_text(prefix)})"
        return f"case when {start} then substr({sql}, {len(prefix) + 1}) else {sql} end"

    def _rule_columns(self) -> dict[str, Column]:
        """The shop's columns of the conditions and of `minus`, as far as they are there."""
        if not self.platform:
            return {}
        wanted = [rule.column for rule in self.platform.left_out]
        wanted += [one for several in self.platform.minus.values() for one in several]
        found = (self.header.find(one, one) for one in dict.fromkeys(wanted))
        return {one: self.table.columns[one] for one in found if one}

    def _relation(self, used: Sequence[str]) -> str:
        relation = self.table.unnest(used)
        if self.platform and self.platform.packed:
            column = self.header.find("items", self.platform.packed.column)
            text = text_of([self.table.columns[column or ""]])
            parts = f"regexp_split_to_array({text}, {sql_text(self.platform.packed.separator)})"
            return f"(select *, unnest({parts}) as {PACKED} from {relation})"
        return relation

    def _fills(self, rules: dict[str, str]) -> str:
        """Values that only the first line of an order has."""
        if not self.platform or not self.platform.on_first_line:
            return ""
        once = {self.header.find(one, one) for one in self.platform.on_first_line}
        names = [f"rule:{one}" for one in rules if one in once]
        names += [ours for ours, theirs in self.mapping.columns.items() if once & set(theirs)]
        whole = "any_value(nullif(trim({0}), '')) over (partition by order_id)"
        return ", ".join(
            f"coalesce(nullif(trim({sql_name(one)}), ''), {whole.format(sql_name(one))}) as {sql_name(one)}"
            for one in names
        )

    def _left_out(self, texts: dict[str, str], rules: dict[str, str]) -> str:
        """The first reason that holds, or null."""
        cases = [
            f"when {_condition(rule, name)} then {sql_text(rule.reason)}"
            for rule in (self.platform.left_out if self.platform else ())
            if (name := self._condition_column(rule, texts, rules))
        ]
        header = self._repeats_header(texts)
        cases += [f"when {header} then 'header repeated'"] if header else []
        return f"case {' '.join(cases)} end" if cases else "cast(null as varchar)"

    def _condition_column(self, rule: LeftOut, texts: dict[str, str], rules: dict[str, str]) -> str:
        field = rule.column.rpartition(".")[2]
        if self.platform and self.platform.packed and field in texts and "." in rule.column:
            return sql_name(field)
        found = self.header.find(rule.column, rule.column)
        return sql_name(f"rule:{found}") if found in rules else ""

    def _repeats_header(self, texts: dict[str, str]) -> str:
        """Files put one behind the other have header lines among the others."""
        if self.table.dialect is None:
            return ""
        same = [
            f"trim({ours}) = {sql_text(self.mapping.columns[ours][0])}"
            for ours in ("order_id", "product_id")
            if ours in self.mapping.columns
        ]
        return " and ".join(same) if same else ""

    def _shop_columns(self) -> dict[str, dict[str, Column]]:
        found = {
            ours: {one: self.table.columns[one] for one in names}
            for ours, names in self.mapping.columns.items()
        }
        if self.platform and self.platform.packed:
            packed = {self.platform.packed.column: Column(PACKED)}
            found |= {field: packed for field in self.platform.packed.fields}
        return found

    def _minus(self) -> dict[str, tuple[str, ...]]:
        if not self.platform:
            return {}
        return {
            ours: tuple(f"rule:{one}" for name in names if (one := self.header.find(ours, name)))
            for ours, names in self.platform.minus.items()
        }


def _rules(rules: dict[str, str]) -> dict[str, str]:
    return {f"rule:{name}": sql for name, sql in rules.items()}


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
