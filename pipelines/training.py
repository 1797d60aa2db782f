"""The training pipeline: order lines in, a judged, registered and packaged model out."""

from kfp import dsl

from components.baskets.component import build_baskets
from components.bundle.component import build_bundle
from components.embeddings.component import pick, plan_sweep, sweep, train
from components.evaluation.component import evaluate, gate
from components.neighbours.component import train_neighbours
from components.orders.component import read_orders
from components.orders.reasons import NON_PRODUCTS
from components.package.component import package
from components.ranking.component import train_ranking
from components.refit.component import refit
from components.registry.component import fetch_champion, register
from components.report.component import report
from components.weighting.component import choose_weighting
from data_checks.component import check_baskets, check_order_lines
from pipelines.component import judge, start
from pipelines.parameters import TrainingParameters, document_parameters


@dsl.pipeline(name="fbt-training")
@document_parameters(TrainingParameters)
def training(
    orders: str,
    products: str = "",
    columns: str = "",
    timezone: str = "UTC",
    ts_format: str = "",
    decimal: str = "",
    encoding: str = "",
    non_products: str = NON_PRODUCTS,
    half_life_days: float = 0.0,
    min_product_orders: int = 5,
    variant_exceptions: str = "",
    feedback: str = "",
    popularity_discount: float = 1.0,
    max_own_kind: int = 1,
    max_same_kind: int = 2,
    trials: int = 8,
    shards: int = 2,
    sweep_share: float = 0.1,
    min_coverage: float = 0.05,
    champion_margin: float = 0.02,
    min_judged_grade: float = 0.0,
    as_of: str = "",
    seed: int = 1,
):
    """Learn from order lines which products are bought together, and judge the result.

    1. start      check every parameter and source, and find the champion
    2. orders     read and map the order lines; quarantine lines that violate the contract
    3. checks     Great Expectations on the lines; a critical failure ends the run
    4. baskets    one row per order: distinct products, weight by age, split by time
    5. checks     Great Expectations on the baskets
    6. weighting  choose the weighting of baskets by age, size and position
    7. sweep      try hyper-parameters on a sample, in parallel shards; pick the best
    8. train      item2vec on all training baskets, and the co-occurrence table
    9. neighbours a small regression per product
    10. ranking   tune the blend and fit the re-rankers on validation baskets
    11. refit     count again with validation baskets; precompute recommendations per item
    12. bundle    everything that serving needs, in one hashed directory
    13. judge     compare with baselines and the champion, and test a real service process
    14. report    one page for people, whatever the verdict
    15. gate      end the run here if the model is not good enough
    16. register  an MLflow version with all artifacts and the alias challenger
    17. package   a BentoML archive of that version
    """
    started = start(
        orders=orders, products=products, columns=columns, timezone=timezone,
        ts_format=ts_format, decimal=decimal, encoding=encoding, non_products=non_products,
        half_life_days=half_life_days,
        min_product_orders=min_product_orders, variant_exceptions=variant_exceptions,
        feedback=feedback,
        popularity_discount=popularity_discount,
        max_own_kind=max_own_kind, max_same_kind=max_same_kind,
        trials=trials, shards=shards, sweep_share=sweep_share, min_coverage=min_coverage,
        champion_margin=champion_margin, min_judged_grade=min_judged_grade, as_of=as_of,
        seed=seed,
    )  # fmt: skip
    started.set_caching_options(False)
    run = started.outputs
    champion = fetch_champion(run_id=run["champion"]).output
    lines = read_orders(
        orders=orders, products=products, columns=columns, timezone=timezone,
        ts_format=ts_format, decimal=decimal, encoding=encoding, non_products=non_products,
        fingerprint=run["fingerprint"],
    ).outputs  # fmt: skip
    product_table = lines["product_table"]
    line_checks = check_order_lines(
        order_lines=lines["order_lines"], quarantine=lines["quarantine"], products=product_table,
        champion=champion, timezone=timezone, settings={},
    )  # fmt: skip
    built = build_baskets(
        order_lines=lines["order_lines"], half_life_days=half_life_days, timezone=timezone
    )
    built.after(line_checks)
    baskets, basket_counts = built.outputs["baskets"], built.outputs["counts"]
    basket_checks = check_baskets(
        baskets=baskets, basket_counts=basket_counts, products=product_table, champion=champion,
        timezone=timezone, as_of=as_of, settings={},
    )  # fmt: skip
    chosen = choose_weighting(
        baskets=baskets, min_product_orders=min_product_orders,
        popularity_discount=popularity_discount, seed=seed,
    )  # fmt: skip
    weighting = chosen.after(basket_checks).outputs["Output"]
    plan = plan_sweep(trials=trials, shards=shards, seed=seed).after(basket_checks)
    with dsl.ParallelFor(plan.output) as shard:
        tried = sweep(
            shard=shard, baskets=baskets, min_product_orders=min_product_orders,
            sample_share=sweep_share, popularity_discount=popularity_discount,
        )  # fmt: skip
    best = pick(results=dsl.Collected(tried.output)).output
    trained = train(
        baskets=baskets,
        best=best,
        weighting=weighting,
        min_product_orders=min_product_orders,
        popularity_discount=popularity_discount,
        seed=seed,
    ).outputs
    neighbours = train_neighbours(baskets=baskets, vectors=trained["vectors"])
    ranking = train_ranking(
        baskets=baskets, vectors=trained["vectors"], cooccurrence=trained["cooccurrence"],
        neighbours=neighbours.outputs["neighbours"], product_table=product_table,
        weighting=weighting, variant_exceptions=variant_exceptions, feedback=feedback,
        popularity_discount=popularity_discount, fingerprint=run["exceptions"],
        seed=seed,
    )  # fmt: skip
    newest = refit(
        baskets=baskets, vectors=trained["vectors"], ranking=ranking.outputs["ranking"],
        product_table=product_table, weighting=weighting, seed=seed,
    ).outputs  # fmt: skip
    bundle = build_bundle(
        vectors=newest["sorted_vectors"], cooccurrence=newest["cooccurrence"],
        neighbours=newest["neighbours"], ranking=newest["pages"], product_table=product_table,
        basket_counts=basket_counts, best=best, seed=seed, max_own_kind=max_own_kind,
        max_same_kind=max_same_kind,
    ).outputs["bundle"]  # fmt: skip
    evaluated = evaluate(bundle=bundle, baskets=baskets, champion=champion, seed=seed)
    evaluation = evaluated.outputs["evaluation"]
    judged = judge(
        bundle=bundle, evaluation=evaluation, champion=champion, min_coverage=min_coverage,
        champion_margin=champion_margin, min_judged_grade=min_judged_grade, seed=seed,
    )  # fmt: skip
    verdict = judged.outputs["verdict"]
    page = report(
        bundle=bundle, baskets=baskets, reading=lines["reading"], order_counts=lines["counts"],
        basket_counts=basket_counts,
        line_checks=line_checks.outputs["checks"], basket_checks=basket_checks.outputs["checks"],
        evaluation=evaluation, verdict=verdict, best=best, weighting=chosen.outputs["measured"],
        parameters=run["parameters"],
    )  # fmt: skip
    passed = gate(verdict=verdict).after(page)
    version = register(
        bundle=bundle, page=page.outputs["page"], plots=page.outputs["plots"],
        reading=lines["reading"],
        line_page=line_checks.outputs["page"], basket_page=basket_checks.outputs["page"],
        line_checks=line_checks.outputs["checks"], basket_checks=basket_checks.outputs["checks"],
        line_profile=line_checks.outputs["profile"],
        basket_profile=basket_checks.outputs["profile"],
        evaluation=evaluation, verdict=verdict, parameters=run["parameters"],
        run_key=run["run_key"],
    )  # fmt: skip
    version.after(passed)
    # These two write to the registry, which no cache key covers.
    version.set_caching_options(False)
    archive = package(bundle=bundle, version=version.output)
    archive.set_caching_options(False)
