-- Rows of SESSIONS from `chosen` (lists within the window: list_id, session_no, unit, i.e. the number
-- of the row, ts, end_ts, weight) and `gains` (what they earned before `end_ts`).

with firsts as (
    select unit, any_value(session_no) as session_no, min(ts) as first_ts,
        any_value(end_ts) as end_ts, sum(weight) as lists
    from chosen
    group by unit
),
shown as (
    select unit, sum(chosen.weight * impressions) as impressions
    from chosen join seen_lists using (list_id)
    where seen_ts < end_ts
    group by unit
),
gained as (
    select
        unit, sum(weight * clicks) as clicks, sum(weight * adds) as adds,
        sum(weight * purchases) as purchases, sum(weight * revenue) as revenue
    from gains
    group by unit
),
attached_orders as (
    select distinct unit, order_key
    from attached join chosen using (list_id)
),
ordered as (
    select
        unit,
        count(*) filter (orders.ts >= first_ts) as orders,
        sum(value) filter (orders.ts >= first_ts) as order_value,
        count(*) filter (orders.ts >= first_ts and attached_orders.unit is not null)
            as attached_orders,
        count(*) filter (orders.ts < first_ts) as earlier_orders,
        sum(value) filter (orders.ts < first_ts) as earlier_order_value
    from firsts
    join orders using (session_no)
    left join attached_orders using (unit, order_key)
    where orders.ts < end_ts
    group by unit
),
clicked as (
    select unit, count(*) as earlier_clicks
    from firsts join clicks using (session_no)
    where clicks.ts < first_ts
    group by unit
)
select
    unit, session_no, first_ts, shown.unit is not null as is_seen, lists, impressions, gained.clicks,
    adds, purchases, revenue, orders, attached_orders, order_value, earlier_orders,
    earlier_order_value, earlier_clicks
from firsts
left join shown using (unit)
left join gained using (unit)
left join ordered using (unit)
left join clicked using (unit)
