with counted as (
    select 'rows' as name, count(*) as n from staged
    union all select 'kept', (select count(*) from staged) - (select count(*) from dropped)
    union all select rule, count(*) from dropped group by rule
    union all select status::varchar, count(*) from linked_views
    where status <> 'ok' and ts between getvariable('first_ts') and getvariable('last_ts') group by status
    union all select 'no_list', count(*) from linked_blind
    where list_id is null and ts between getvariable('first_ts') and getvariable('last_ts')
    union all select status, count(*) from linked_acts
    where kind = 1 and status <> 'ok' and ts between getvariable('first_ts') and getvariable('last_ts')
    group by status
    union all select 'unseen_click', count(*)
    from credited anti join seen using (list_id, position) where kind = 1
    union all select 'no_touch', count(*) from linked_acts anti join credited using (act_id)
    where kind >= 2 and ts between getvariable('first_ts') and getvariable('last_ts')
    union all select 'unpriced', count(*) from linked_acts where kind = 3 and revenue is null
    union all select 'repeated_lists', count(*) from repeated_lists
    union all select 'robot_sessions', count(*) from robots
    union all select 'lists', count(*) from lists
    union all select 'seen_lists', count(*) from seen_lists
    union all select 'impressions', count(*) from seen
)
select name, sum(n)::bigint from counted group by name order by name;
