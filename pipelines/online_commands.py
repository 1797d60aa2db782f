"""Commands around what shoppers do: events, reports, experiments, simulation."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter, validators

from pipelines.home import open_home

EventsUrl = Annotated[
    str, Parameter(help="where events go (default: FBT_EVENTS_URL, else events.db in FBT_HOME)")
]
Parquet = Annotated[
    str, Parameter(help="folder or s3://BUCKET/PREFIX of Parquet (default: online in FBT_HOME)")
]
BASELINE = Parameter(group="Baseline")
SOURCE = Group("Source", validator=validators.LimitedChoice(1, 1))

events = App(name="events", help="Keep shoppers' events and the recommendation log.")


@events.command
def compact(
    *, url: EventsUrl = "", to: Parquet = "", keep_days: float = 7, spark: bool = False
) -> None:
    """Move what is new to Parquet by day, for reports and training.

    Args:
        keep_days: how long events stay where they were written, to know repeated ones; longer than
            FBT_EVENTS_MAX_AGE_H
        spark: from Kafka, by Spark's executors, which must see the broker and Parquet
    """
    from components.compaction.compact import compact_events
    from pipelines.events import find_url, format_compaction, open_parquet

    home = open_home()
    found = compact_events(find_url(url, home), open_parquet(to, home), keep_days, spark)
    print(format_compaction(found))


@events.command
def metrics(*, url: EventsUrl = "", port: int = 9101, host: str = "127.0.0.1") -> None:
    """Compare model versions by what shoppers do, while they do it, for Prometheus.

    FBT_ONLINE_… are further settings; see components/online/live_settings.py.

    Args:
        host: 0.0.0.0 lets other machines in
    """
    from components.online.exporter import export
    from components.online.live_settings import read_settings
    from pipelines.events import open_events

    home = open_home()
    print(f"metrics at http://{host}:{port}/metrics; Ctrl-C ends them")
    settings = read_settings().model_copy(update={"port": port, "host": host})
    export(settings, lambda: open_events(url, home))


@events.command
def erase(session_id: str, /, *, url: EventsUrl = "", to: Parquet = "") -> None:
    """Erase a session from the store and from Parquet.

    In Kafka it stays until the topics' retention; nothing reads it any more.
    """
    from pipelines.events import erase_session, open_events, open_parquet

    home = open_home()
    with open_events(url, home) as sink:
        n_records, n_rows = erase_session(sink, open_parquet(to, home), session_id)
    print(f"erased: {n_records:,} records in the store, {n_rows:,} rows of Parquet")


@events.command
def remove(*, older_than_days: float, url: EventsUrl = "", to: Parquet = "") -> None:
    """Remove old events and recommendations from the store and from Parquet."""
    from pipelines.events import open_events, open_parquet, remove_events

    home = open_home()
    with open_events(url, home) as sink:
        n_records, n_rows = remove_events(sink, open_parquet(to, home), older_than_days)
    print(f"removed: {n_records:,} records in the store, {n_rows:,} rows of Parquet")


@events.command
def status(*, url: EventsUrl = "", to: Parquet = "") -> None:
    """Show how much waits for compaction, and what Parquet holds by day."""
    from pipelines.events import format_status, open_events, open_parquet

    home = open_home()
    with open_events(url, home) as sink:
        print(format_status(sink, open_parquet(to, home)))


report = App(name="report", help="Write reports as pages.")


@report.command
def online(
    *,
    events: Path | None = None,
    to: Path | None = None,
    products: Path | None = None,
    order_lines: Path | None = None,
    experiment: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    since: datetime | None = None,
    until: datetime | None = None,
    window: float = 24,
    record: bool = False,
) -> None:
    """Outcomes of recommendations: rates, positions, experiments, holdout.

    Args:
        events: folder of compacted events (default: FBT_HOME's)
        to: FILE.html (default: online.html in FBT_HOME)
        products: product table of a run, runs/RUN/read-orders/product_table in FBT_HOME, for
            categories and coverage
        order_lines: order lines of a run, whose orders need no pixel
        experiment: JSON files of experiments to read
        since: first moment, as 2026-11-01 (UTC)
        until: moment after the last
        window: hours after a recommendation within which carts and orders count for it
        record: keep the measures with the versions in the registry
    """
    from components.online.settings import OnlineSettings
    from pipelines.online import OnlineReport, find_products, report_online

    home = open_home()
    settings = OnlineSettings(window_h=window, since=_as_utc(since), until=_as_utc(until))
    page = to or home.root / "online.html"
    wanted = OnlineReport(
        events or home.root / "online", page, settings, products, order_lines,
        experiment or (), record,
    )  # fmt: skip
    recorded = report_online(wanted)
    if products is None and (found := find_products(home)):
        print(f"without categories and coverage; the newest run has them: --products {found}")
    if record:
        print(f"recorded with versions: {', '.join(recorded) or 'none of those that were shown'}")
    print(f"report: {page}")


def _as_utc(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


experiment = App(name="experiment", help="Plan experiments and read them.")


@experiment.command
def plan(
    *,
    metric: str = "clicks",
    effect: float = 0.05,
    experiment: Path | None = None,
    arms: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    alpha: float = 0.05,
    power: float = 0.8,
    days: float | None = None,
    online: Annotated[Path | None, BASELINE] = None,
    sessions: Annotated[Path | None, BASELINE] = None,
    window: Annotated[float, BASELINE] = 24,
    now: Annotated[datetime | None, BASELINE] = None,
    mean: Annotated[float | None, BASELINE] = None,
    variance: Annotated[float | None, BASELINE] = None,
    sessions_per_day: Annotated[float | None, BASELINE] = None,
) -> None:
    """How many sessions and days an experiment takes.

    Args:
        metric: clicks, revenue, orders, order_value, click_rate, revenue_per_1000, attach_rate, …
        effect: relative effect to find: 0.05 is 5 %
        experiment: JSON file of the experiment, for its arms
        arms: NAME=WEIGHT, the control first (default: two alike)
        alpha: probability to find an effect where there is none
        power: probability to find the effect
        days: also print which effect so many days show, and how large a holdout must be
        online: folder of compacted events, of which the last four weeks count (default: FBT_HOME's)
        sessions: instead, a table of sessions as Parquet
        window: hours that a session's outcomes count; sessions that began later are left out
        now: read as if it were then, in UTC (default: now)
        mean: instead of events, the metric at present, per session
        variance: its variance between sessions
        sessions_per_day: of all arms (default: as the events say)
    """
    from pipelines.experiments import Given, Source, choose_arms, describe_plans, find_baseline

    source = Source(online or open_home().root / "online", sessions)
    given = Given(mean, variance, sessions_per_day)
    weights = choose_arms(experiment, arms or (), metric)
    baseline = find_baseline(metric, given, source, window, _as_utc(now))
    print(describe_plans(baseline, weights, effect, alpha, power, days))


@experiment.command
def read(
    experiment: Path,
    /,
    *,
    online: Path | None = None,
    sessions: Path | None = None,
    window: float = 24,
    now: datetime | None = None,
    credit: Literal["clicks", "adds", "purchases", "revenue"] = "clicks",
    once: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    json: Path | None = None,
) -> None:
    """The verdict of an experiment so far; it may be read as often as you like.

    Args:
        experiment: its JSON file, as it was served
        online: folder of compacted events (default: FBT_HOME's)
        sessions: instead, a table of sessions as Parquet
        window: hours that a session's outcomes count; sessions that began later are left out
        now: read as if it were then, in UTC (default: now)
        credit: by which interleaved arms are compared
        once: metrics to read by fixed intervals, which hold for one look at the planned end
        json: also write the verdict to this file
    """
    from pipelines import experiments

    source = experiments.Source(online or open_home().root / "online", sessions)
    then = now.replace(tzinfo=now.tzinfo or UTC) if now else None
    if once:
        print(experiments.read_once(experiment, source, window, then, once))
        return
    answer = experiments.read(experiment, source, window, then, credit)
    print(answer.text)
    if json:
        experiments.write_result(answer.result, json)


def simulate(
    *,
    bundle: Annotated[Path | None, Parameter(group=SOURCE)] = None,
    version: Annotated[str | None, Parameter(group=SOURCE)] = None,
    url: str = "http://127.0.0.1:3000",
    sessions: int = 1000,
    baskets: Path | None = None,
    behaviour: Path | None = None,
    seed: int = 0,
    k: int = 10,
    events_url: str = "",
    events_key: str = "",
    connections: int = 16,
    truth: Path | None = None,
    order_lines: Path | None = None,
) -> None:
    """Send shoppers with known preferences to a running service.

    Args:
        bundle: folder of a bundle: the catalogue that shoppers know
        version: number or alias in the registry, e.g. champion
        url: of the service
        sessions: number of visits
        baskets: of a run: shoppers want what its test baskets hold, not what the model counted
        behaviour: FILE.json, see components/simulation/behaviour.py
        seed: of the shoppers; those of one seed do the same again
        k: products per list
        events_url: of the ingest where it is a process of its own
        events_key: FBT_EVENTS_KEY of the service
        connections: of the simulation to the service
        truth: also write the truth to FILE.json
        order_lines: also write all orders to FILE.parquet, as of a nightly export
    """
    from pipelines.export import fetch_bundle
    from pipelines.simulate import Shop, format_truth, read_behaviour, read_market, run

    def drive(folder: Path) -> None:
        shop = Shop(
            url.rstrip("/"), read_market(folder, baskets), read_behaviour(behaviour), seed, k,
            events_url.rstrip("/"), events_key, connections,
        )  # fmt: skip
        print(format_truth(run(shop, sessions, truth, order_lines)))

    if bundle is not None:
        drive(bundle)
    else:
        assert version is not None
        with fetch_bundle(open_home(), version) as fetched:
            drive(fetched)


def add_commands(app: App, group: Group) -> None:
    for one in (events, report, experiment):
        one.group = (group,)
        app.command(one)
    app.command(simulate, group=group)
