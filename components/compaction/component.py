"""KFP step: move events from their sink to Parquet."""

from kfp import dsl

from components.step import step


@step
def compact_events(to: str, keep_days: float, spark: bool, metrics: dsl.Output[dsl.Metrics]):
    """Move events from the sink at FBT_EVENTS_URL, a secret of the pod, to Parquet at `to`."""
    import os

    from components.compaction.compact import compact_events, open_archive
    from components.results import log_metrics

    url = os.environ.get("FBT_EVENTS_URL", "")
    found = compact_events(url, open_archive(to), keep_days, spark)
    log_metrics(metrics, found._asdict())
