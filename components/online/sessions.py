"""Lists and actions of each session: the table that experiments are read from."""

from pathlib import Path

import pyarrow as pa

from components.contracts import SESSIONS, write_table
from components.online.events import SQL, OnlineEvents

HOUR_US = 3_600_000_000
SUMS = SESSIONS.names[SESSIONS.names.index("lists") :]

GAINS_SQL = """
select
    unit, list_id, position, any_value(weight) as weight,
    bool_or(kind = 1)::utinyint as clicks, count(*) filter (kind = 2) as adds,
    count(*) filter (kind = 3) as purchases,
    coalesce(sum(revenue) filter (kind = 3), 0)::double as revenue
from credited
join chosen using (list_id)
semi join earned using (list_id, position)
where credited.ts < end_ts
group by unit, list_id, position
"""


def build_sessions(
    online: OnlineEvents,
    experiment: str | None = None,
    path: Path | None = None,
    window_h: float | None = None,
) -> pa.Table:
    """SESSIONS in order of `first_ts`, also written to `path`.

    Of an experiment: one row for each session and arm, under the version of its first list. Else
    one for each session, experiment, version and arm of all lists. Only what comes within
    `window_h` (default: the settings') after `first_ts` counts: lists, what they earned, orders.
    Sessions without an id are left out. A list counts 1 / share of the log.
    """
    _choose_lists(online, experiment, window_h)
    online.db.execute(
        f"create or replace temp table session_rows as {(SQL / 'sessions.sql').read_text()}"
    )
    _name_sessions(online)
    sums = ", ".join(f"coalesce({name}, 0)::double as {name}" for name in SUMS)
    table = online.db.sql(
        "select session_id, experiment, model_version, arm, make_timestamp(first_ts) as first_ts, "
        f"is_seen, {sums} from session_rows "
        "join (select unit, place_id from units) using (unit) join places using (place_id) "
        "join session_names using (session_no) order by first_ts, session_id, arm, model_version"
    ).to_arrow_table()
    table = _set_utc(table).cast(pa.schema(list(SESSIONS)))
    if path is not None:
        write_table(table, SESSIONS, path)
    return table


def _choose_lists(online: OnlineEvents, experiment: str | None, window_h: float | None) -> None:
    """Tables `units`, `chosen` (lists of sessions with an id, and their unit) and `gains` (what
    products of those lists earned), within the window after the unit's first list."""
    hours = online.settings.window_h if window_h is None else window_h
    unit = "session_no, arm" if experiment else "session_no, experiment_no, arm, model_version"
    online.db.execute(
        "create or replace temp table candidates as select * from served "
        "join (select *, dense_rank() over (order by experiment) as experiment_no from places) "
        "using (place_id) join sessions using (session_no) "
        "where has_id and (experiment = $experiment or $experiment is null)",
        {"experiment": experiment},
    )
    online.db.execute(
        "create or replace temp table units as "
        f"select row_number() over ()::integer as unit, {unit}, first[3] as place_id, "
        f"-first[1] as first_ts, -first[1] + {round(hours * HOUR_US)}::bigint as end_ts from "
        f"(select {unit}, max((-ts, -list_id, place_id)) as first from candidates group by {unit})"
    )
    online.db.execute(
        "create or replace temp table chosen as "
        "select list_id, session_no, ts, end_ts, weight, unit "
        f"from candidates join units using ({unit}) where ts < end_ts"
    )
    online.db.execute(f"create or replace temp table gains as {GAINS_SQL}")


def _name_sessions(online: OnlineEvents) -> None:
    online.db.execute(
        "create temp table if not exists session_names as select session_no, session_id "
        "from (select session_id, make_key(session_id) as session_key from recommendation_files "
        "where session_id is not null group by session_id) join sessions using (session_key)"
    )


def count_team_clicks(
    online: OnlineEvents, experiment: str, window_h: float | None = None
) -> pa.Table:
    """Under interleaving: `session_id`, `first_ts`, `team`, `impressions`, `clicks`, `adds`,
    `purchases`, `revenue`, one row for each session and team that it saw, in order of `first_ts`
    (the session's first list), within the window after it as in `build_sessions`."""
    _choose_lists(online, experiment, window_h)
    _name_sessions(online)
    names = ("clicks", "adds", "purchases", "revenue")
    sums = ", ".join(f"coalesce(sum(gains.weight * {name}), 0)::double as {name}" for name in names)
    table = online.db.sql(
        "with firsts as (select session_no, min(ts) as first_ts from chosen group by session_no) "
        "select session_id, make_timestamp(first_ts) as first_ts, label as team, "
        f"sum(seen.weight)::double as impressions, {sums} from seen "
        "semi join chosen using (list_id) left join gains using (list_id, position) "
        "join labels on team = label_id "
        "join firsts using (session_no) join session_names using (session_no) "
        "group by session_id, first_ts, label order by first_ts, session_id, team"
    ).to_arrow_table()
    return _set_utc(table)


def _set_utc(table: pa.Table) -> pa.Table:
    place = table.column_names.index("first_ts")
    return table.set_column(place, "first_ts", table["first_ts"].cast(pa.timestamp("us", "UTC")))
