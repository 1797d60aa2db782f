-- Which list each row counts for. Views and clicks: the list of their request, else the session's
-- last list with the product. Carts and orders: the list of their request, else the touch.

create macro link_status(list_id, position, event_session, list_session, has_session, ts, list_ts) as
    case
        when list_id is null then 'unknown_request'
        when has_session and event_session <> list_session then 'other_session'
        when position is null then 'not_in_list'
        when ts < list_ts - getvariable('skew') then 'before_list'
        else 'ok'
    end;

create type status as enum ('ok', 'unknown_request', 'other_session', 'not_in_list', 'before_list');

create table linked_views as
select
    list_id, product_key, (list_position(items, product_key) - 1)::utinyint as position, clean.ts,
    if(has_session, null, clean.session_key) as session_key,
    link_status(
        list_id, list_position(items, product_key), clean.session_key, lists.session_key,
        has_session, clean.ts, lists.ts
    )::status as status
from clean left join lists using (request_key)
where kind = 0 and request_key is not null;

-- The service was asked without a session, the shop's page has one.
create table adopted as
select list_id, min(session_key) as session_key
from linked_views
where status = 'ok' and session_key is not null
group by list_id;

update lists set session_key = adopted.session_key
from adopted where adopted.list_id = lists.list_id;

create table linked_blind as
with blind as (
    select row, kind, session_key, product_key, ts
    from clean
    where kind <= 1 and request_key is null
),
shown as (
    select
        list_id, session_key, ts as list_ts, unnest(items) as product_key,
        unnest(range(len(items)))::utinyint as position
    from lists
    where session_key in (select session_key from blind)
),
last as (
    select row, max((list_ts, list_id, position)) as shown
    from blind join shown using (session_key, product_key)
    where list_ts between ts - getvariable('list_window') and ts + getvariable('skew')
    group by row
)
select row, kind, ts, product_key, shown[2] as list_id, shown[3] as position
from blind left join last using (row);

create table sessions as
select row_number() over ()::integer as session_no, session_key, bool_or(has_session) as has_id
from lists
group by session_key;

create table served as
select list_id, session_no, place_id, ts, weight
from lists join sessions using (session_key);

create table seen as
with firsts as (
    select list_id, position, min(ts) as ts, min(product_key) as product_key
    from (
        select list_id, position, ts, product_key from linked_views where status = 'ok'
        union all
        select list_id, position, ts, product_key
        from linked_blind where kind = 0 and list_id is not null
    )
    group by list_id, position
),
tagged as (
    select firsts.*, session_no, place_id, weight, tags[position + 1] as tag
    from firsts
    join lists using (list_id)
    join sessions using (session_key)
)
select
    * exclude (tag), (tag % 256)::utinyint as source, (tag // 256)::utinyint as team,
    list_contains(getvariable('fallbacks'), tag % 256) as is_fallback
from tagged;

create table linked_acts as
select
    act_id, kind, acts.ts, product_key, order_key, revenue, acts.request_key is not null as has_request,
    coalesce(acts.session_key, lists.session_key) as session_key,
    list_id, (list_position(items, product_key) - 1)::utinyint as position,
    if(acts.request_key is null, null, link_status(
        list_id, list_position(items, product_key), acts.session_key, lists.session_key,
        has_session, acts.ts, lists.ts
    )) as status
from acts left join lists using (request_key);

create table touches as
select
    act_id, order_key, kind, linked_acts.ts, revenue, seen.list_id, seen.position,
    seen.ts as seen_ts,
    coalesce(
        status = 'ok' and linked_acts.list_id = seen.list_id, false
    ) as is_direct
from linked_acts
join sessions using (session_key)
join seen using (session_no, product_key)
where kind >= 2
    and linked_acts.ts <= seen.ts + getvariable('touch_window')
    and linked_acts.ts >= seen.ts - if(
        status = 'ok' and linked_acts.list_id = seen.list_id, getvariable('skew'), 0
    );

create table credited as
with clicks as (
    select act_id, ts, list_id, position
    from linked_acts where kind = 1 and has_request and status = 'ok'
    union all
    select row, ts, list_id, position from linked_blind where kind = 1 and list_id is not null
),
touched as (
    select
        act_id, kind, ts, revenue,
        max((is_direct, if(getvariable('touch') = 'first', -seen_ts, seen_ts), list_id, position))
            as touch
    from touches
    group by act_id, kind, ts, revenue
)
select act_id, 1 as kind, ts, null as revenue, list_id, position from clicks
union all
select act_id, kind, ts, revenue, touch[3], touch[4] from touched;

-- Few of the products that were seen earn anything.
create table earned as
with earned as (
    select
        list_id, position,
        bool_or(kind = 1)::utinyint as clicks, count(*) filter (kind = 2) as adds,
        count(*) filter (kind = 3) as purchases,
        coalesce(sum(revenue) filter (kind = 3), 0)::double as revenue
    from credited
    group by list_id, position
)
select seen.*, clicks, adds, purchases, revenue
from seen join earned using (list_id, position);

create view impressions as
select
    seen.*, coalesce(clicks, 0) as clicks, coalesce(adds, 0) as adds,
    coalesce(purchases, 0) as purchases, coalesce(revenue, 0) as revenue
from seen
left join (
    select list_id, position, clicks, adds, purchases, revenue from earned
) using (list_id, position);

create table orders as
select
    order_key, session_no, min(ts) as ts, coalesce(sum(revenue), 0)::double as value,
    date '1970-01-01' + (min(ts) // 86400000000)::integer as day
from linked_acts join sessions using (session_key)
where kind = 3
group by all;

create table attached as
select distinct order_key, list_id from touches where kind = 3;

create table clicks as
select session_no, linked_acts.ts
from linked_acts join sessions using (session_key)
where kind = 1;

create table seen_lists as
select
    list_id, min(ts) as seen_ts, any_value(place_id) as place_id,
    any_value(session_no) as session_no, any_value(weight) as weight, count(*) as impressions, count_if(is_fallback) as fallbacks
from seen
group by list_id;

create table categories as
select
    make_key(product_id) as product_key, any_value(category) as category,
    dense_rank() over (order by any_value(category))::integer as category_id
from product_files
group by product_id;
