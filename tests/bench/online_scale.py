"""Made-up events of any number, and what attribution and measures of them take.

python -m tests.bench.online_scale 10000000 FOLDER
"""

import resource
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.online.events import OnlineEvents, Sources, open_events
from components.online.holdout import estimate_holdout_lift
from components.online.measures import Dimension, measure
from components.online.position_bias import correct_click_through, estimate_position_bias
from components.online.sessions import build_sessions
from components.online.settings import OnlineSettings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

EVENTS_PER_LIST = 10
N_PRODUCTS = 25_000
N_DAYS = 30

REPORT: tuple[tuple[Dimension, ...], ...] = (
    (), ("model_version",), ("arm",), ("model_version", "day"), ("context",), ("source",),
    ("position",), ("category",),
)  # fmt: skip


class Cost(NamedTuple):
    wall_s: float
    cpu_s: float
    peak_mb: float
    """Resident memory of the process."""


def write_traffic(
    root: Path, n_events: int, seed: int = 0, with_request_ids: bool = True
) -> Sources:
    """A month of lists of 10 products for sessions with 4 lists on average; 8.6 products of each
    are seen (an event each), 1 in 14 of these clicked, 1 in 23 put into the cart or bought. Three
    arms, one a holdout of bestsellers, a swap in every twentieth list."""
    import duckdb

    root.mkdir(parents=True, exist_ok=True)

    with duckdb.connect(config={"memory_limit": "1400MB"}) as db:
        db.execute(f"select setseed({seed / 1000})")
        db.execute(f"set variable n_lists = {n_events // EVENTS_PER_LIST}")
        db.execute(f"set variable n_products = {N_PRODUCTS}; set variable n_days = {N_DAYS}")
        db.execute(f"set variable root = '{root}'")
        db.execute(f"set variable with_request_ids = {with_request_ids}")
        db.execute(TRAFFIC_SQL)
    return Sources(products=root / "products.parquet")


TRAFFIC_SQL = """
create table shown as
select
    i as list, (random() * getvariable('n_lists') / 4)::integer as session,
    (random() * getvariable('n_days') * 86400e6)::bigint as us,
    (random() * 8)::integer as pair, random() < 0.05 as swap_drawn, random() < 0.5 as is_swapped
from range(getvariable('n_lists')) as made(i);

create table answers as
select
    md5('request' || list) as request_id, us, 'session-' || md5('s' || session)[:16] as session_id,
    list, hash(session) % 20 as slot, pair, swap_drawn, is_swapped
from shown;

copy (
    select
        request_id, make_timestamp(1790000000000000 + us)::timestamptz as ts, session_id,
        'recommend' as endpoint,
        ['product_page', 'cart', 'checkout'][1 + list % 3] as context,
        if(slot < 9, '7', '8') as model_version,
        case when slot = 19 then 'holdout' when slot < 9 then 'control' else 'new' end as arm,
        'spring' as experiment, 1.0::double as share,
        ['p' || list % getvariable('n_products')] as asked,
        ['p' || hash(list * 10 + k) % getvariable('n_products') for k in range(10)] as items,
        [
            if(slot = 19, 'bestsellers', if(k < 8, 'model', 'attribute_neighbours'))
            for k in range(10)
        ] as sources,
        []::varchar[] as rules,
        if(swap_drawn and is_swapped, pair, null) as swapped, swap_drawn,
        null::varchar[] as teams, if(swap_drawn, pair, null) as drawn_pair,
        make_timestamp(1790000000000000 + us)::date::varchar as day
    from answers
) to (getvariable('root') || '/recommendations') (format parquet, partition_by (day));

create view views as
select answers.*, k as position, list * 10 + k as item
from answers, range(10) as places(k)
where hash(list, k) % 100 < 86;

copy (
    with happened as (
        select *, 'view_item_list' as event, 2 + position as after_s from views
        union all
        select *, 'select_item', 30 from views where hash(item, 1) % 14 < 1
        union all
        select *, 'add_to_cart', 60 from views where hash(item, 2) % 45 < 1
        union all
        select *, 'purchase', 900 from views where hash(item, 3) % 45 < 1
        union all
        select answers.*, 0, -list, 'purchase', 900 from answers where hash(list, 4) % 4 < 1
    )
    select
        md5(event || if(event = 'purchase', list, item)) as event_id, event,
        make_timestamp(1790000000000000 + us + after_s * 1000000)::timestamptz as ts,
        make_timestamp(1790000000000000 + us + (after_s + 1) * 1000000)::timestamptz as received_at,
        session_id,
        if(
            event in ('view_item_list', 'select_item') and getvariable('with_request_ids'),
            request_id, null
        ) as request_id,
        if(event = 'purchase', 'o' || list, null) as order_id,
        'p' || hash(item) % getvariable('n_products') as product_id, position::integer as position,
        1.0::double as quantity, (5 + hash(item) % 4000 / 100)::double as price,
        make_timestamp(1790000000000000 + us + after_s * 1000000)::date::varchar as day
    from happened
) to (getvariable('root') || '/events') (format parquet, partition_by (day));

copy (
    select
        'p' || i as product_id, null::varchar as name, 'category ' || i % 40 as category,
        null::varchar as brand, null::double as price, null::varchar as image_url,
        null::boolean as in_stock, null::double as margin, null::timestamptz as added_at,
        null::varchar as attributes
    from range(getvariable('n_products')) as made(i)
) to (getvariable('root') || '/products.parquet') (format parquet);
"""


def measure_report(root: Path, sources: Sources, settings: OnlineSettings | None = None) -> Cost:
    """Attribution, all measures, sessions, holdout and position bias, in a process of their own."""
    receiver, sender = (context := get_context("spawn")).Pipe(duplex=False)
    process = context.Process(target=_report, args=(sender, root, sources, settings))
    process.start()
    sender.close()
    try:
        cost: Cost = receiver.recv()
    finally:
        process.join()
    return cost


def _report(
    sender: "Connection", root: Path, sources: Sources, settings: OnlineSettings | None
) -> None:
    started = time.perf_counter()
    with open_events(root, settings, sources) as online:
        make_report(online)
    wall_s = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    sender.send(Cost(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))


def make_report(online: OnlineEvents) -> None:
    for by in REPORT:
        measure(online, by)
    sessions = build_sessions(online, "spring")
    estimate_holdout_lift(sessions, "holdout")
    correct_click_through(online, estimate_position_bias(online), ("source",))


if __name__ == "__main__":
    n_events, folder = int(sys.argv[1]), Path(sys.argv[2])
    print(measure_report(folder, write_traffic(folder, n_events)))
