"""KFP step: from the archive of events to examples for the re-ranker."""

from kfp import dsl

from components.step import step


@step
def build_examples(
    archive: str,
    days: float,
    window_h: float,
    half_life_days: float,
    season_share: float,
    feedback: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Weigh what was seen, clicked and bought, and write it as examples, also to the archive."""
    from components.feedback.examples import make_examples
    from components.feedback.weights import FeedbackSettings
    from components.results import log_metrics

    settings = FeedbackSettings(half_life_days=half_life_days, season_share=season_share)
    log_metrics(metrics, make_examples(archive, days, window_h, settings, feedback.path))
