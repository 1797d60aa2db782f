"""A column of timestamps as text, over all of its rows: counts, examples and samples."""

from typing import TYPE_CHECKING, Any

from components.sources.time_formats import TimeFormat

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

N_SAMPLED = 20_000
N_FIRST_ROWS = 5_000

MIN_READ_SHARE = 0.5
"""A format that reads less of a column is not that of the column."""


class Values:
    """The relation has a column `v`; `name` is that of errors."""

    def __init__(self, con: "DuckDBPyConnection", relation: str, name: str) -> None:
        self.con, self.relation, self.name = con, relation, name

    def fetch(self, what: str, where: str = "true") -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.con.execute(
            f"select {what} from {self.relation} where {where}"
        ).fetchall()
        return rows

    def count(self, *conditions: str) -> list[int]:
        what = ", ".join(f"count(*) filter ({condition})" for condition in conditions)
        return list(self.fetch(what)[0])

    def list_examples(self, where: str) -> str:
        return ", ".join(v for (v,) in self.fetch("distinct v", f"{where} limit 2"))

    def keep_unread(self, format_: TimeFormat) -> "Values":
        """The filled values that a format does not read, so that all rows are read but once.

        The count goes first because DuckDB reads a value several times in a filter.
        """
        read = format_.sql("v", "UTC")
        n_filled, n_read = self.fetch(f"count(*), count({read})", "v <> ''")[0]
        limit = "limit 0" if n_filled == n_read else ""
        self.con.execute(
            f"create or replace temp table unread_timestamps as select v from {self.relation} "
            f"where v <> '' and {read} is null {limit}"
        )
        return Values(self.con, "unread_timestamps", self.name)

    def sample(self) -> list[str]:
        """Distinct values that are not blank: of the first rows, and some of all."""
        step = max(1, self.count("v <> ''")[0] // N_SAMPLED)
        rows = self.fetch("v", f"v <> '' limit {N_FIRST_ROWS}")
        rows += self.fetch("distinct v", f"v <> '' and hash(v) % {step} = 0 limit {2 * N_SAMPLED}")
        return sorted({v for (v,) in rows if v.strip()})
