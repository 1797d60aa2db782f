"""The training pipeline: order lines in, a judged, registered and packaged model out."""

from kfp import dsl

from components.baskets.component import build_baskets
from components.bundle.component import build_bundle
from components.embeddings.component import pick, plan_sweep, sweep, train
from components.evaluation.component import evaluate, gate
from components.neighbours.component import train_neighbours
from components.orders.clean import NON_PRODUCTS
from components.orders.component import read_orders
from components.package.component import package
from components.ranking.component import train_ranking
from components.refit.component import refit
from components.registry.component import fetch_champion, register
from components.report.component import report
from components.weighting.component import choose_tricks
from data_checks.component import check_baskets, check_order_lines
from pipelines.component import judge, start


@dsl.pipeline(name="fbt-training")
def training(
    orders: str,
    products: str = "",
    columns: str = "",
    ts_format: str = "",
    non_products: str = NON_PRODUCTS,
    half_life_days: float = 0.0,
    min_product_orders: int = 5,
    variant_exceptions: str = "",
    trials: int = 8,
    shards: int = 2,
    sweep_share: float = 0.1,
    min_coverage: float = 0.05,
    champion_margin: float = 0.02,
    seed: int = 1,
):
    """Learn from order lines which products are bought together, and judge the result.

    1. start      check every parameter and source, and find the champion
    2. orders     read and map the order lines; quarantine lines that violate the contract
    3. checks     Great Expectations on the lines; a critical failure ends the run
    4. baskets    one row per order: distinct products, weight by age, split by time
    5. checks     Great Expectations on the baskets
    6. tricks     choose the weighting of baskets by age, size and position
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

    Args:
        orders: Parquet or CSV file, folder, glob, http(s)/s3:// address, or jdbc:URL|QUERY
        products: Product table, the same kinds; empty = what the lines say
        columns: Our names for the shop's columns: order_id=Invoice,product_id=Code
        ts_format: Spark pattern of text timestamps; empty = found out
        non_products: Regular expression of ids, names or categories that are no products
        half_life_days: Age in days at which an order counts half; 0 = off
        min_product_orders: Orders a product needs to be learned
        variant_exceptions: Variants to show all the same: A1+A2, B7+B9, or a file of such pairs
        trials: Hyper-parameter settings to try
        shards: Processes or pods that try them
        sweep_share: Share of the training baskets that trials learn from
        min_coverage: Gate: share of the catalogue that must be recommended at all
        champion_margin: Gate: share of the champion's NDCG@10 by which a model may be worse
        seed: Seed of everything random
    """
    started = start(
        orders=orders, products=products, columns=columns, ts_format=ts_format,
        non_products=non_products, half_life_days=half_life_days,
        min_product_orders=min_product_orders, variant_exceptions=variant_exceptions,
        trials=trials, shards=shards, sweep_share=sweep_share, min_coverage=min_coverage,
        champion_margin=champion_margin, seed=seed,
    )  # fmt: skip
    started.set_caching_options(False)
    champion = fetch_champion(run_id=started.outputs["champion"])
    lines = read_orders(
        orders=orders, products=products, columns=columns, ts_format=ts_format,
        non_products=non_products, fingerprint=started.outputs["fingerprint"],
    )  # fmt: skip
    line_checks = check_order_lines(
        order_lines=lines.outputs["order_lines"],
        quarantine=lines.outputs["quarantine"],
        products=lines.outputs["product_table"],
        champion=champion.output,
        settings={},
    )
    baskets = build_baskets(
        order_lines=lines.outputs["order_lines"], half_life_days=half_life_days
    ).after(line_checks)
    basket_checks = check_baskets(
        baskets=baskets.outputs["baskets"],
        products=lines.outputs["product_table"],
        champion=champion.output,
        settings={},
    )
    tricks = choose_tricks(
        baskets=baskets.outputs["baskets"], min_product_orders=min_product_orders, seed=seed
    ).after(basket_checks)
    plan = plan_sweep(trials=trials, shards=shards, seed=seed).after(basket_checks)
    with dsl.ParallelFor(plan.output) as shard:
        tried = sweep(
            shard=shard,
            baskets=baskets.outputs["baskets"],
            min_product_orders=min_product_orders,
            sample_share=sweep_share,
        )
    best = pick(results=dsl.Collected(tried.output))
    trained = train(
        baskets=baskets.outputs["baskets"],
        best=best.output,
        tricks=tricks.outputs["Output"],
        min_product_orders=min_product_orders,
        seed=seed,
    )
    neighbours = train_neighbours(
        baskets=baskets.outputs["baskets"],
        vectors=trained.outputs["vectors"],
    )
    ranking = train_ranking(
        baskets=baskets.outputs["baskets"],
        vectors=trained.outputs["vectors"],
        cooccurrence=trained.outputs["cooccurrence"],
        neighbours=neighbours.outputs["neighbours"],
        product_table=lines.outputs["product_table"],
        tricks=tricks.outputs["Output"],
        variant_exceptions=variant_exceptions,
        fingerprint=started.outputs["exceptions"],
        seed=seed,
    )
    newest = refit(
        baskets=baskets.outputs["baskets"],
        vectors=trained.outputs["vectors"],
        ranking=ranking.outputs["ranking"],
        product_table=lines.outputs["product_table"],
        tricks=tricks.outputs["Output"],
        seed=seed,
    )
    bundle = build_bundle(
        vectors=newest.outputs["sorted_vectors"],
        cooccurrence=newest.outputs["cooccurrence"],
        neighbours=newest.outputs["neighbours"],
        ranking=newest.outputs["pages"],
        product_table=lines.outputs["product_table"],
        basket_counts=baskets.outputs["counts"],
        best=best.output,
        seed=seed,
    )
    evaluation = evaluate(
        bundle=bundle.outputs["bundle"],
        baskets=baskets.outputs["baskets"],
        champion=champion.output,
        seed=seed,
    )
    verdict = judge(
        bundle=bundle.outputs["bundle"],
        evaluation=evaluation.outputs["evaluation"],
        min_coverage=min_coverage,
        champion_margin=champion_margin,
        seed=seed,
    )
    page = report(
        bundle=bundle.outputs["bundle"],
        baskets=baskets.outputs["baskets"],
        order_counts=lines.outputs["counts"],
        basket_counts=baskets.outputs["counts"],
        line_checks=line_checks.outputs["checks"],
        basket_checks=basket_checks.outputs["checks"],
        evaluation=evaluation.outputs["evaluation"],
        verdict=verdict.outputs["verdict"],
        best=best.output,
        tricks=tricks.outputs["measured"],
        parameters=started.outputs["parameters"],
    )
    passed = gate(verdict=verdict.outputs["verdict"]).after(page)
    version = register(
        bundle=bundle.outputs["bundle"],
        page=page.outputs["page"],
        plots=page.outputs["plots"],
        line_page=line_checks.outputs["page"],
        basket_page=basket_checks.outputs["page"],
        line_checks=line_checks.outputs["checks"],
        basket_checks=basket_checks.outputs["checks"],
        line_profile=line_checks.outputs["profile"],
        basket_profile=basket_checks.outputs["profile"],
        evaluation=evaluation.outputs["evaluation"],
        verdict=verdict.outputs["verdict"],
        parameters=started.outputs["parameters"],
        run_key=started.outputs["run_key"],
    ).after(passed)
    # These two write to the registry, which no cache key covers.
    version.set_caching_options(False)
    archive = package(bundle=bundle.outputs["bundle"], version=version.output)
    archive.set_caching_options(False)
