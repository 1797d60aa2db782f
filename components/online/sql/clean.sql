-- Each rule puts rows into `dropped`; the first that takes a row is the one that counts.

create table dropped (row bigint, rule varchar);

create table other_bodies as
select event_key, min(received) as first_received
from staged
group by event_key
having min(received) < max(received);

insert into dropped
select staged.rowid, 'repeated'
from staged join other_bodies using (event_key)
where received > first_received;

create table repeated_products as
select hash(event_key, product_key, received) as row_key
from staged
group by row_key
having count(*) > 1;

insert into dropped
select unnest(list(rowid order by rowid)[2:]), 'repeated'
from staged
where hash(event_key, product_key, received) in (from repeated_products)
    and rowid not in (select row from dropped)
group by event_key, product_key;

create view left_over as
select staged.rowid as row, staged.*
from staged anti join dropped on staged.rowid = dropped.row;

insert into dropped select row, 'other_event' from left_over where kind is null;

insert into dropped select row, 'future' from left_over where ts > received + 3600000000;

insert into dropped
select row, 'bad_value'
from left_over
where quantity <= 0 or price < 0 or not isfinite(quantity) or not isfinite(price);

-- Robots, by session. A row more than the limit is where counting events is worth its while.
create table robots as
with fast_clicks as (
    select session_key
    from left_over
    where kind = 1 and session_key is not null
    group by session_key, ts // 3600000000
    having count(distinct event_key) > getvariable('max_clicks_h')
),
busy as (
    select session_key, ts // 60000000 as minute
    from left_over
    where session_key is not null
    group by all
    having count(*) > getvariable('max_events_min')
),
fast_events as (
    select left_over.session_key
    from left_over
    join busy on left_over.session_key = busy.session_key and ts // 60000000 = minute
    group by left_over.session_key, minute
    having count(distinct event_key) > getvariable('max_events_min')
),
blind_clicks as (
    select session_key
    from left_over
    where session_key is not null
    group by session_key
    having count(*) filter (kind = 1) > getvariable('max_blind_clicks')
        and count(*) filter (kind = 0) = 0
),
found as (
    select session_key, 1 as place, 'fast_clicks' as rule from fast_clicks
    union all select session_key, 2, 'fast_events' from fast_events
    union all select session_key, 3, 'blind_clicks' from blind_clicks
)
select session_key, arg_min(rule, place) as rule
from found
group by session_key;

insert into dropped
select row, rule from left_over join robots using (session_key);

-- A page of thanks that is loaded again, or an order that several sessions claim.
create table first_of_order as
select order_key, arg_min(event_key, (ts, event_key)) as event_key
from left_over
where kind = 3 and order_key is not null
group by order_key
having min(event_key) < max(event_key);

insert into dropped
select row, 'repeated_order'
from left_over join first_of_order using (order_key)
where kind = 3 and left_over.event_key <> first_of_order.event_key;

create view clean as from left_over;

create table lists as
select row_number() over ()::integer as list_id, staged_lists.* replace (
    coalesce(session_key, request_key) as session_key
), session_key is not null as has_session
from staged_lists
anti join repeated_lists on staged_lists.rowid = repeated_lists.row
anti join robots using (session_key);
