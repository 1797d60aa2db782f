"""KFP steps: checks of the order lines and of the baskets."""

from kfp import dsl

from components.step import step


@step
def check_order_lines(
    order_lines: dsl.Input[dsl.Dataset],
    quarantine: dsl.Input[dsl.Dataset],
    products: dsl.Input[dsl.Dataset],
    champion: dsl.Input[dsl.Artifact],
    timezone: str,
    settings: dict,
    page: dsl.Output[dsl.HTML],
    checks: dsl.Output[dsl.Artifact],
    profile: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Check the order lines; a failed critical check ends the run.

    Args:
        champion: Folder of the model in use; drift is measured from its profile.
        timezone: Of the shop, in which its days begin.
        settings: Thresholds that differ from the defaults, by name.
    """
    from components.report.report import write_checks_page
    from components.results import log_metrics
    from data_checks.check import check_order_lines, read_previous_profile
    from data_checks.settings import CheckSettings

    before = read_previous_profile(champion.path, "order_lines")
    paths = order_lines.path, quarantine.path, products.path
    found = check_order_lines(*paths, before, CheckSettings(timezone=timezone, **settings))
    found.write(checks.path, profile.path)
    write_checks_page(found.to_json(), page.path)
    log_metrics(metrics, found.metrics())
    found.raise_if_critical()


@step
def check_baskets(
    baskets: dsl.Input[dsl.Dataset],
    basket_counts: dsl.Input[dsl.Artifact],
    products: dsl.Input[dsl.Dataset],
    champion: dsl.Input[dsl.Artifact],
    timezone: str,
    as_of: str,
    settings: dict,
    page: dsl.Output[dsl.HTML],
    checks: dsl.Output[dsl.Artifact],
    profile: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Check the baskets; a failed critical check ends the run.

    Args:
        champion: Folder of the model in use; drift is measured from its profile.
        timezone: Of the shop, in which its days begin.
        as_of: Day of the report's seasons, which must not be before the data.
        settings: Thresholds that differ from the defaults, by name.
    """
    from components.report.awkward import check_day
    from components.report.report import write_checks_page
    from components.results import log_metrics, read_json
    from data_checks.check import check_baskets, read_previous_profile
    from data_checks.settings import CheckSettings

    check_day(as_of, read_json(basket_counts.path))
    before = read_previous_profile(champion.path, "baskets")
    thresholds = CheckSettings(timezone=timezone, **settings)
    found = check_baskets(baskets.path, products.path, before, thresholds)
    found.write(checks.path, profile.path)
    write_checks_page(found.to_json(), page.path)
    log_metrics(metrics, found.metrics())
    found.raise_if_critical()
