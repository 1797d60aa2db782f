-- What the products that each rule moved earned in the lists where it moved them.

with logged as (
    select make_key(request_id) as request_key, any_value(rule_ids) as rule_ids
    from recommendation_files
    where rule_ids is not null
    group by request_key
),
placed as (
    select
        list_id, weight, unnest(rule_ids) as rules,
        unnest(range(len(rule_ids)))::utinyint as position
    from logged join lists using (request_key)
),
moved as (
    select distinct list_id, weight, position, unnest(rules) as rule_id
    from placed
),
shown as (
    select rule_id, sum(weight) as lists
    from (select distinct rule_id, list_id, weight from moved)
    group by rule_id
),
earned as (
    select
        rule_id, sum(impressions.weight) as impressions,
        sum(impressions.weight * clicks) as clicks, sum(impressions.weight * adds) as adds,
        sum(impressions.weight * purchases) as purchases,
        sum(impressions.weight * revenue) as revenue
    from moved join impressions using (list_id, position)
    group by rule_id
)
select
    rule_id, lists::double as lists, coalesce(impressions, 0)::double as impressions,
    coalesce(clicks, 0)::double as clicks, coalesce(adds, 0)::double as adds,
    coalesce(purchases, 0)::double as purchases, coalesce(revenue, 0)::double as revenue
from shown left join earned using (rule_id)
order by rule_id
