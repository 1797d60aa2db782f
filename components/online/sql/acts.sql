-- `acts`: clicks, carts and bought products. An order without an id is its event.

create table acts as
select
    row as act_id, kind, event_key, ts, session_key, request_key,
    coalesce(order_key, event_key) as order_key, product_key,
    coalesce(quantity, 1) * price as revenue
from clean
where kind > 0;
