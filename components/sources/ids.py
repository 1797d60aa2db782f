"""Ids that passed through a spreadsheet: put right where other ids prove how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import duckdb

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
            return f"(CASE WHEN {condition} THEN {column}[:-3] ELSE {column} END)"
        if self.kind == "lost_zeros":
            is_short = f"regexp_full_match({column}, '\\d{{1,{self.width - 1}}}')"
            padded = f"lpad({column}, {self.width}, '0')"
            return f"(CASE WHEN {is_short} THEN {padded} ELSE {column} END)"
        whens = " ".join(f"WHEN '{shown}' THEN '{id_}'" for shown, id_ in self.mapping.items())
        return f"(CASE {column} {whens} ELSE {column} END)"


def detect_id_damage(
    con: duckdb.DuckDBPyConnection, table: str, column: str, *, known: str | None
) -> list[IdRepair]:
    """`known` is what stands after FROM for the products, with a column `product_id`."""
    ids = (
        f"(SELECT {column} AS v, count(*) AS n FROM {table} WHERE trim({column}) <> '' GROUP BY 1)"
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE seen_ids AS SELECT v, n::BIGINT AS n FROM {ids}")
    source = (
        f"SELECT product_id AS id FROM {known}" if known else "SELECT NULL::VARCHAR WHERE false"
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE known_ids(id) AS {source}")
    zeros = find_trailing_zeros(con), find_lost_zeros(con)
    return [repair for repair in zeros if repair] + find_exponents(con)


def find_trailing_zeros(con: duckdb.DuckDBPyConnection) -> IdRepair | None:
    is_damaged = f"regexp_full_match(v, '{TRAILING_ZERO}')"
    n_ids, n_values, n_known, n_found, n_whole = count_ids(con, is_damaged, "v[:-3]")
    if not n_ids or n_known == n_ids:
        return None
    is_all = n_whole == n_ids
    is_proven = not n_known and (is_all or n_found >= MIN_PROVEN_SHARE * n_ids)
    proof = f"{n_found:,} of {n_ids:,} ids occur without .0, {n_known:,} are known with it"
    return IdRepair(
        kind="trailing_zero",
        n_values=n_values,
        examples=list_examples(con, is_damaged),
        is_proven=is_proven,
        proof="all ids end in .0" if is_all and is_proven else proof,
    )


def find_lost_zeros(con: duckdb.DuckDBPyConnection) -> IdRepair | None:
    """Products have one width, or else the other ids of the column."""
    has_known = fetch_row(con, "SELECT count(*) FROM known_ids")[0] > 0
    source = "SELECT id FROM known_ids" if has_known else "SELECT v AS id FROM seen_ids"
    width = find_width(con, source, by_longest=not has_known)
    if not width:
        return None
    is_damaged = f"regexp_full_match(v, '\\d{{1,{width - 1}}}')"
    n_ids, n_values, n_known, n_found, _ = count_ids(con, is_damaged, f"lpad(v, {width}, '0')")
    if not n_ids or n_known == n_ids:
        return None
    needed = MIN_PROVEN_SHARE * n_ids if has_known else n_ids
    return IdRepair(
        kind="lost_zeros",
        n_values=n_values,
        examples=list_examples(con, is_damaged),
        is_proven=not n_known and n_found >= needed,
        proof=f"{n_found:,} of {n_ids:,} ids occur with zeros up to {width} digits, "
        f"{n_known:,} are known without",
        width=width,
    )


def find_width(con: duckdb.DuckDBPyConnection, source: str, *, by_longest: bool) -> int:
    """The one number of digits of all ids (or of the longest, where the rest may be damaged), if
    some of them begin with 0; else 0."""
    longest = (
        f"(SELECT * FROM ({source}) WHERE length(id) = (SELECT max(length(id)) FROM ({source})))"
    )
    row = fetch_row(
        con,
        "SELECT min(length(id)), max(length(id)), bool_and(regexp_full_match(id, '\\d+'))::INT, "
        f"bool_or(starts_with(id, '0'))::INT FROM {longest if by_longest else f'({source})'}",
    )
    least, most, are_digits, have_zeros = (number or 0 for number in row)
    return most if least == most and are_digits and have_zeros else 0


def find_exponents(con: duckdb.DuckDBPyConnection) -> list[IdRepair]:
    has_exponent = f"regexp_full_match(v, '{EXPONENT}')"
    if not con.execute(f"SELECT 1 FROM seen_ids WHERE {has_exponent} LIMIT 1").fetchall():
        return []
    is_damaged = f"{has_exponent} AND v NOT IN (SELECT id FROM known_ids)"
    mapping = map_exponents(con, is_damaged)
    found, proof = [], "exactly one product is shown so"
    for is_proven in (True, False):
        chosen = f"{is_damaged} AND {'' if is_proven else 'NOT '}v IN {list_texts(mapping)}"
        n_values = fetch_row(
            con, f"SELECT coalesce(sum(n), 0)::BIGINT FROM seen_ids WHERE {chosen}"
        )
        if n_values[0]:
            repair = IdRepair(
                kind="exponent",
                n_values=n_values[0],
                examples=list_examples(con, chosen),
                is_proven=is_proven,
                proof=proof if is_proven else "no product or several are shown so",
                mapping=mapping if is_proven else {},
            )
            found.append(repair)
    return found


def map_exponents(con: duckdb.DuckDBPyConnection, is_damaged: str) -> dict[str, str]:
    """Shown ids to the only known id that a spreadsheet shows so."""
    damaged = (
        "SELECT v, replace(replace(upper(v), ',', '.'), 'E+', 'E')::DOUBLE AS x, "
        "length(regexp_extract(v, '[.,](\\d+)', 1)) AS d, "
        f"regexp_extract(v, '(\\d+)$', 1)::INT AS e FROM seen_ids WHERE {is_damaged}"
    )
    numbers = "SELECT id, id::DOUBLE AS k FROM known_ids WHERE regexp_full_match(id, '\\d{3,18}')"
    rows = con.execute(
        f"SELECT v, min(id) FROM ({damaged}) JOIN ({numbers}) ON e < 18 "
        "AND k BETWEEN x - 0.5 * pow(10, e - d) AND x + 0.5 * pow(10, e - d) "
        f"GROUP BY v HAVING count(DISTINCT id) = 1 ORDER BY v LIMIT {MAX_MAPPED}"
    ).fetchall()
    return dict(rows)


def count_ids(con: duckdb.DuckDBPyConnection, is_damaged: str, repaired: str) -> list[int]:
    """Damaged ids, their rows, those known as they are, those that occur repaired, and all ids."""
    return fetch_row(
        con,
        f"SELECT count(*) FILTER ({is_damaged}), "
        f"coalesce(sum(n) FILTER ({is_damaged}), 0)::BIGINT, "
        f"count(*) FILTER ({is_damaged} AND v IN (SELECT id FROM known_ids)), "
        f"count(*) FILTER ({is_damaged} AND ({repaired} IN (SELECT id FROM known_ids) "
        f"OR {repaired} IN (SELECT v FROM seen_ids))), count(*) FROM seen_ids",
    )


def fetch_row(con: duckdb.DuckDBPyConnection, query: str) -> list[int]:
    return list(con.execute(query).fetchall()[0])


def list_examples(con: duckdb.DuckDBPyConnection, condition: str) -> list[str]:
    query = f"SELECT v FROM seen_ids WHERE {condition} ORDER BY n DESC, v LIMIT {N_EXAMPLES}"
    return [v for (v,) in con.execute(query).fetchall()]


def list_texts(texts: dict[str, str]) -> str:
    """They are made of digits, marks and E: nothing to escape."""
    return "(" + ", ".join(f"'{text}'" for text in (texts or {"": ""})) + ")"
