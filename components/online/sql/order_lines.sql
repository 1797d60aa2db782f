-- An order of the nightly lines takes products, quantities and prices from there.

create table nightly as
select
    make_key(order_id) as order_key, make_key(product_id) as product_key, min(epoch_us(ts)) as ts,
    sum(quantity * price) as revenue
from order_line_files
where quantity > 0
    and coalesce(epoch_us(ts), getvariable('first_read'))
        between getvariable('first_read') and getvariable('last_read')
group by all;

create table known_orders as
select order_key, arg_min(session_key, ts) as session_key, min(ts) as ts, true as has_event
from clean
where order_key is not null and session_key is not null
group by order_key;

insert into known_orders
select make_key(order_id), min(make_key(session_id)), null, false
from order_session_files
where make_key(order_id) not in (select order_key from known_orders)
    and make_key(session_id) not in (select session_key from robots)
group by order_id;

create table nightly_acts as
select
    -1 - row_number() over () as act_id, 3::utinyint as kind, nightly.order_key as event_key,
    coalesce(known_orders.ts, nightly.ts) as ts, known_orders.session_key,
    acts.request_key, nightly.order_key, nightly.product_key, nightly.revenue,
    acts.act_id is null as is_new
from nightly
join known_orders using (order_key)
left join (
    select order_key, product_key, any_value(act_id) as act_id, any_value(request_key) as request_key
    from acts where kind = 3 group by all
) as acts using (order_key, product_key)
where coalesce(known_orders.ts, nightly.ts) is not null;

delete from acts where kind = 3 and order_key in (select order_key from nightly_acts);

insert into acts select * exclude (is_new) from nightly_acts;
