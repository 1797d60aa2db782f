"""Day first, month first or year first: decided for a whole column, over all of its rows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from components.sources.errors import SourceError
from components.sources.tables import fetch_one
from components.sources.time_drafts import Draft
from components.sources.time_refusals import describe_unread
from components.sources.time_spellings import ORDERS
from components.sources.time_values import Values

MIN_SPAN_RATIO = 5.0
"""Days taken for years make thirty years of one; a shop's true span is far below."""

N_ORDERED = 20_000
"""First rows that may show the order of time."""


class Decision(NamedTuple):
    order: str
    """Of `ORDERS`."""
    evidence: str
    is_certain: bool


def decide_order(values: Values, draft: Draft, sample: Sequence[str]) -> Decision:
    """Raises SourceError where no order reads all spellings."""
    if not draft.orders:
        if any(spelling.orders for spelling in draft.spellings):
            raise SourceError(describe_unread(values.name, sample[0]))
        return Decision("dmy", f"values like {sample[0].strip()}", True)
    most = max(draft.orders.values())
    tied = [order for order, n in draft.orders.items() if n == most]
    spans = _measure_spans(values, draft, tied) if len(tied) > 1 else {}
    tied = list(spans) or tied
    if "ymd" in spans and len(spans) > 1:
        tied, said = _compare_spans(spans, draft)
        if len(tied) == 1:
            return Decision(tied[0], f"{ORDERS[tied[0]]}: {said}", "; but" not in said)
    if len(tied) > 1:
        order, why = _break_tie(values, draft, spans)
        said = f"no day above 12 decides; {ORDERS[order]}, because {why}"
        return Decision(order, said, False)
    return Decision(tied[0], f"{ORDERS[tied[0]]}: {_find_proof(values, draft, tied[0])}", True)


def _find_proof(values: Values, draft: Draft, order: str) -> str:
    others = " or ".join(
        f"{draft.read_by(other)} is null" for other in draft.orders if other != order
    )
    rows = values.fetch("v", f"{draft.read_by(order)} is not null and ({others}) limit 1")
    return f"values like {rows[0][0].strip()}" if rows else "most values"


def _measure_spans(values: Values, draft: Draft, orders: Sequence[str]) -> dict[str, int]:
    """Days between the first and the last, of the orders that read the most over all rows."""
    instants = [draft.read_by(order) for order in orders]
    what = ", ".join(f"count({x}), date_diff('day', min({x}), max({x}))" for x in instants)
    row = [n or 0 for n in values.fetch(what)[0]]
    found = list(zip(row[::2], row[1::2], orders, strict=True))
    return {order: days for n, days, order in found if n == max(row[::2])}


def _compare_spans(spans: Mapping[str, int], draft: Draft) -> tuple[list[str], str]:
    """Two-digit years: the right reading spans the fewest days."""
    rest = [order for order in spans if order != "ymd"]
    least, most = sorted([spans["ymd"], min(spans[order] for order in rest)])
    doubt = "" if most >= MIN_SPAN_RATIO * max(least, 1) else "; but both are possible"
    said = f"the dates span {least:,} days, read otherwise {most:,}{doubt}"
    is_compact = any("{a}{b}{c}" in spelling.template for spelling in draft.spellings)
    year_first = spans["ymd"] == least and (least < most or is_compact)
    return (["ymd"] if year_first else rest), said


def _break_tie(values: Values, draft: Draft, spans: Mapping[str, int]) -> tuple[str, str]:
    """Day first or month first, and why."""
    templates = [s.template for s in draft.spellings if s.orders]
    if all("." in template.split(" ")[0] for template in templates):
        return "dmy", "dates with dots are written so"
    if any("%p" in t for t in templates) and all("/" in t for t in templates):
        return "mdy", "12-hour clocks with slashes are written so"
    day_first, month_first = (_count_reversals(values, draft, order) for order in ("dmy", "mdy"))
    if min(day_first, month_first) == 0 < max(day_first, month_first):
        return ("dmy" if day_first == 0 else "mdy"), "the rows then stand in the order of time"
    least, most = sorted([spans["dmy"], spans["mdy"]])
    if least < most:
        order = "dmy" if spans["dmy"] == least else "mdy"
        return order, f"the dates then span {least:,} days instead of {most:,}"
    return "dmy", "most countries write so"


def _count_reversals(values: Values, draft: Draft, order: str) -> int:
    """Steps against the direction of most steps, among the first rows."""
    first = (
        f"select {draft.read_by(order)} as t, row_number() over () as i "
        f"from (from {values.relation} limit {N_ORDERED})"
    )
    steps = f"select t, lag(t) over (order by i) as before from ({first})"
    counts = "count(*) filter (t < before), count(*) filter (t > before)"
    falls, rises = fetch_one(values.con, f"select {counts} from ({steps})")
    return int(min(falls, rises))
