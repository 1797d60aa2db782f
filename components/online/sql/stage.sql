-- Keys are 64 bits of an id's MD5: two of 10 million are the same with a probability of 3 in a
-- million. DuckDB's own hash() gave 1,324 of 800,000 similar ids the number of another one.
-- Times are microseconds since 1970.

create macro make_key(id) as md5_number_lower(id);

create view logged as
select
    make_key(request_id) as request_key,
    epoch_us(ts) as ts,
    make_key(session_id) as session_key,
    model_version, arm, experiment, context, endpoint, share,
    date '1970-01-01' + (epoch_us(ts) // 86400000000)::integer as day,
    make_key(concat_ws(
        chr(0), model_version, arm, coalesce(experiment, chr(0)), context, endpoint, share,
        epoch_us(ts) // 86400000000
    )) as place_key,
    items, sources, teams, swapped, swap_drawn, drawn_pair
from recommendation_files
where epoch_us(ts) between getvariable('first_ts') and getvariable('last_ts');

create table places as
select row_number() over (order by place_key)::integer as place_id, *
from (
    select
        place_key, any_value(model_version) as model_version, any_value(arm) as arm,
        any_value(experiment) as experiment, any_value(context) as context,
        any_value(endpoint) as endpoint, any_value(day) as day
    from logged
    group by place_key
);

-- Names of sources and teams by number, from 1. A product's tag is its source + 256 · its team.
create table labels as
select label, row_number() over (order by label)::utinyint as label_id
from (
    select distinct unnest(sources) as label from logged
    union
    select distinct unnest(teams) from logged
)
where label is not null and label <> '';

set variable labels = (select coalesce(list(label order by label_id), []) from labels);

set variable fallbacks = (
    select coalesce(list(label_id), [])
    from labels
    where label in ('attribute_neighbours', 'category_bestsellers', 'bestsellers')
);

create table staged_lists as
select
    request_key, ts, session_key, place_id, 1 / share as weight,
    [make_key(item) for item in items] as items,
    [
        256 * coalesce(list_position(getvariable('labels'), teams[place]), 0)
        + coalesce(list_position(getvariable('labels'), sources[place]), 0)
        for place in range(1, len(items) + 1)
    ]::usmallint[] as tags,
    swapped, swap_drawn, drawn_pair
from logged join places using (place_key);

create table repeated_lists as
select unnest(list(rowid order by ts, rowid)[2:]) as row
from staged_lists
where request_key in (
    select request_key from staged_lists group by request_key having count(*) > 1
)
group by request_key;

create table staged as
select
    make_key(event_id) as event_key,
    case event
        when 'view_item_list' then 0 when 'select_item' then 1
        when 'add_to_cart' then 2 when 'purchase' then 3
    end::utinyint as kind,
    epoch_us(ts) as ts,
    epoch_us(received_at) as received,
    make_key(session_id) as session_key,
    make_key(request_id) as request_key,
    make_key(order_id) as order_key,
    make_key(product_id) as product_key,
    quantity, price
from event_files
where epoch_us(ts) between getvariable('first_read') and getvariable('last_read');
