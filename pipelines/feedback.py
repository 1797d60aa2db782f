"""The feedback pipeline: what shoppers did in, measures and examples for training out."""

from kfp import dsl

from components.compaction.component import compact_events
from components.feedback.component import build_examples
from pipelines.component import measure
from pipelines.parameters import FeedbackParameters, document_parameters


@dsl.pipeline(name="fbt-feedback")
@document_parameters(FeedbackParameters)
def feedback(
    archive: str,
    products: str = "",
    order_lines: str = "",
    experiments: str = "",
    days: float = 56.0,
    window_h: float = 24.0,
    half_life_days: float = 28.0,
    season_share: float = 0.25,
    keep_days: float = 7.0,
    spark: bool = False,
):
    """Learn from shoppers what their recommendations were worth.

    1. compact    move events and the recommendation log from the sink to files by day
    2. measure    what each version and arm earned: a page for people, metrics for the registry
    3. examples   what was seen, clicked and bought, weighted, for the next training run
    """
    moved = compact_events(to=archive, keep_days=keep_days, spark=spark)
    measured = measure(
        archive=archive, products=products, order_lines=order_lines, experiments=experiments,
        days=days, window_h=window_h,
    ).after(moved)  # fmt: skip
    examples = build_examples(
        archive=archive, days=days, window_h=window_h, half_life_days=half_life_days,
        season_share=season_share,
    ).after(moved)  # fmt: skip
    for task in (moved, measured, examples):
        # The archive grows, which no cache key covers.
        task.set_caching_options(False)
