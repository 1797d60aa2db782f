"""Ids that passed through a spreadsheet: put right where other ids prove how."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from components.sources.tables import fetch_one, sql_text

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MIN_PROVEN_SHARE = 0.95
"""Of the damaged ids, the others being products that left the shop."""

MAX_MAPPED = 1000
N_EXAMPLES = 3

TRAILING_ZERO = r"\d+\.0"
EXPONENT = r"\d(?:[.,]\d+)?[eE]\+\d{2}"


class IdRepair(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["trailing_zero", "exponent", "lost_zeros"]
    n_values: int
    """Rows, not different ids."""
    examples: list[str]
    is_proven: bool
    proof: str
    """Or why there is none."""
    width: int = 0
    """Digits of an id that has its zeros."""
    mapping: dict[str, str] = {}
    """Ids with an exponent to the known ids."""

    def sql(self, column: str) -> str:
        """The id put right; where nothing is proven, as it is."""
        if not self.is_proven:
            return column
        if self.kind == "trailing_zero":
            condition = f"regexp_full_match({column}, '{TRAILING_ZERO}')"
            return f"(case when {condition} then {column}[:-3] else {column} end)"
        if self.kind == "lost_zeros":
            is_short = f"regexp_full_match({column}, '\\d{{1,{self.width - 1}}}')"
            padded = f"lpad({column}, {self.width}, '0')"
            return f"(case when {is_short} then {padded} else {column} end)"
        whens = " ".join(f"when '{shown}' then '{id_}'" for shown, id_ in self.mapping.items())
        return f"(case {column} {whens} else {column} end)"


def detect_id_damage(
    con: "DuckDBPyConnection", table: str, column: str, *, known: str | None
) -> list[IdRepair]:
    """`column` is an expression of text, `known` a relation with a column `product_id`."""
    con.execute(
        f"create or replace temp table seen_ids as select {column} as v, count(*)::bigint as n "
        f"from {table} where trim({column}) <> '' group by 1"
    )
    ids = f"select product_id as id from {known}" if known else "select null::varchar where false"
    con.execute(f"create or replace temp table known_ids(id) as {ids}")
    zeros = _find_trailing_zeros(con), _find_lost_zeros(con)
    return [repair for repair in zeros if repair] + _find_exponents(con)


def _find_trailing_zeros(con: "DuckDBPyConnection") -> IdRepair | None:
    is_damaged = f"regexp_full_match(v, '{TRAILING_ZERO}')"
    n_ids, n_values, n_known, n_found, n_whole = _count_ids(con, is_damaged, "v[:-3]")
    if not n_ids or n_known == n_ids:
        return None
    is_all = n_whole == n_ids
    is_proven = not n_known and (is_all or n_found >= MIN_PROVEN_SHARE * n_ids)
    proof = f"{n_found:,} of {n_ids:,} ids occur without .0, {n_known:,} are known with it"
    return IdRepair(
        kind="trailing_zero",
        n_values=n_values,
        examples=_list_examples(con, is_damaged),
        is_proven=is_proven,
        proof="all ids end in .0" if is_all and is_proven else proof,
    )


def _find_lost_zeros(con: "DuckDBPyConnection") -> IdRepair | None:
    has_known = fetch_one(con, "select count(*) from known_ids")[0] > 0
    width = _find_width(con, has_known)
    if not width:
        return None
    is_damaged = f"regexp_full_match(v, '\\d{{1,{width - 1}}}')"
    n_ids, n_values, n_known, n_found, _ = _count_ids(con, is_damaged, f"lpad(v, {width}, '0')")
    if not n_ids or n_known == n_ids:
        return None
    pads = f"select count(distinct lpad(v, {width}, '0')) from seen_ids where {is_damaged}"
    is_unique = fetch_one(con, pads)[0] == n_ids  # else 7 and 007 would both be 0007
    needed = (MIN_PROVEN_SHARE if has_known else 1) * n_ids
    return IdRepair(
        kind="lost_zeros",
        n_values=n_values,
        examples=_list_examples(con, is_damaged),
        is_proven=is_unique and not n_known and n_found >= needed,
        proof=f"{n_found:,} of {n_ids:,} ids occur with zeros up to {width} digits, "
        f"{n_known:,} are known without",
        width=width,
    )


def _find_width(con: "DuckDBPyConnection", has_known: bool) -> int:
    """Digits of all known ids, else of the longest seen, for shorter ones may be damaged.

    0 where they differ in length, where none begins with 0, or where some are no numbers.
    """
    ids = "(select id from known_ids)" if has_known else "(select v as id from seen_ids)"
    if not has_known:
        ids = f"(from {ids} where length(id) = (select max(length(id)) from {ids}))"
    least, most, are_digits, have_zeros = fetch_one(
        con,
        "select min(length(id)), max(length(id)), bool_and(regexp_full_match(id, '\\d+')), "
        f"bool_or(starts_with(id, '0')) from {ids}",
    )
    return int(most) if least == most and are_digits and have_zeros else 0


def _find_exponents(con: "DuckDBPyConnection") -> list[IdRepair]:
    is_damaged = f"regexp_full_match(v, '{EXPONENT}') and v not in (select id from known_ids)"
    if not _list_examples(con, is_damaged):
        return []
    mapping = _map_exponents(con, is_damaged)
    mapped = f"v in ({_list_texts(mapping)})"
    proven = _describe_exponents(con, f"{is_damaged} and {mapped}", mapping)
    unclear = _describe_exponents(con, f"{is_damaged} and not {mapped}", {})
    return [repair for repair in (proven, unclear) if repair.n_values]


def _describe_exponents(
    con: "DuckDBPyConnection", condition: str, mapping: dict[str, str]
) -> IdRepair:
    counted = f"select coalesce(sum(n), 0)::bigint from seen_ids where {condition}"
    return IdRepair(
        kind="exponent",
        n_values=fetch_one(con, counted)[0],
        examples=_list_examples(con, condition),
        is_proven=bool(mapping),
        proof=f"{'exactly one product is' if mapping else 'no product or several are'} shown so",
        mapping=mapping,
    )


def _map_exponents(con: "DuckDBPyConnection", is_damaged: str) -> dict[str, str]:
    """Shown ids to the only known id that a spreadsheet shows so."""
    damaged = (
        "select v, replace(replace(upper(v), ',', '.'), 'E+', 'E')::double as x, "
        "length(regexp_extract(v, '[.,](\\d+)', 1)) as d, "
        f"regexp_extract(v, '(\\d+)$', 1)::int as e from seen_ids where {is_damaged}"
    )
    numbers = "select id, id::double as k from known_ids where regexp_full_match(id, '\\d{3,18}')"
    rows = con.execute(
        f"select v, min(id) from ({damaged}) join ({numbers}) on e < 18 "
        "and k between x - 0.5 * pow(10, e - d) and x + 0.5 * pow(10, e - d) "
        f"group by v having count(distinct id) = 1 order by v limit {MAX_MAPPED}"
    ).fetchall()
    return dict(rows)


def _count_ids(con: "DuckDBPyConnection", is_damaged: str, repaired: str) -> tuple[int, ...]:
    """Damaged ids, their rows, those known as they are, those that occur repaired, and all ids."""
    return fetch_one(
        con,
        f"select count(*) filter ({is_damaged}), "
        f"coalesce(sum(n) filter ({is_damaged}), 0)::bigint, "
        f"count(*) filter ({is_damaged} and v in (select id from known_ids)), "
        f"count(*) filter ({is_damaged} and ({repaired} in (select id from known_ids) "
        f"or {repaired} in (select v from seen_ids))), count(*) from seen_ids",
    )


def _list_examples(con: "DuckDBPyConnection", condition: str) -> list[str]:
    query = f"select v from seen_ids where {condition} order by n desc, v limit {N_EXAMPLES}"
    return [v for (v,) in con.execute(query).fetchall()]


def _list_texts(texts: Collection[str]) -> str:
    return ", ".join(map(sql_text, texts or [""]))
