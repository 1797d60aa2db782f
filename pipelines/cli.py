"""The command `fbt`: reads the command line, calls, prints."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter, validators
from pydantic import ValidationError

from components.sources.errors import SourceError
from pipelines import feedback_commands, online_commands
from pipelines.home import code_version, open_home
from pipelines.parameters import (
    TrainingParameters,
    describe_errors,
    suggest_inspect,
)
from pipelines.placement import Placement
from pipelines.submit import Target

app = App(
    name="fbt",
    help="Frequently bought together: recommendations learned from a shop's order lines.",
    version_flags=(),
    default_parameter=Parameter(negative=(), show_default=lambda value: value or None),
)
app.register_install_completion_command()

TRAIN = Group.create_ordered("Train")
MODELS = Group.create_ordered("Models")
SERVE = Group.create_ordered("Serve")
SHOPPERS = Group.create_ordered("Shoppers")
CLUSTER = Group.create_ordered("Cluster")
MEASURE = Group.create_ordered("Measure")

Training = Annotated[TrainingParameters, Parameter(name="*", group="Training")]
Place = Annotated[Placement, Parameter(name="*", group="Placement")]
Server = Annotated[Target, Parameter(name="*", group="Server and placement")]
DEFAULT_PLACEMENT, DEFAULT_TARGET = Placement(), Target()
By = Annotated[str, Parameter(help="name in the history (default: yours)")]
Overlay = Annotated[str, Parameter(help="folder below k8s/overlays")]
Context = Annotated[str, Parameter(help="context of kubectl (default: the current one)")]
SOURCE = Group("Source", validator=validators.LimitedChoice(1, 1))
SHEET, PEERS, GRADES, CASE = (
    Group.create_ordered(name) for name in ("Sheet", "Peers", "Grades", "Case of the workbench")
)
QUALITY, SERVING = (
    Parameter(group="quality, serving"),
    Parameter(group="serving, soak, online, workbench"),
)
EXPERIMENT = Parameter(group="Experiment")

online_commands.add_commands(app, SHOPPERS)
feedback_commands.add_commands(app, SHOPPERS)
OURS = (__name__, online_commands.__name__, feedback_commands.__name__)


def main(arguments: list[str] | None = None) -> None:
    """Exits with 0 on success, 1 on an explained error, 2 on a wrong usage, 130 on Ctrl-C."""
    try:
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        if command.__module__ in OURS:  # neither help nor completion
            # `kill` ends the command like Ctrl-C: servers and steps are stopped on the way out.
            signal.signal(signal.SIGTERM, _interrupt)
            signal.signal(signal.SIGINT, _interrupt)
            os.environ.update(open_home().environment())
        command(*bound.args, **bound.kwargs)
    except KeyboardInterrupt:
        print("\nended", file=sys.stderr)
        sys.exit(130)
    except CycloptsError as error:
        if isinstance(error.__cause__, ValidationError):
            _fail(describe_errors(error.__cause__), 1)
        _fail(f"{error} See fbt --help.", 2)
    except ValidationError as error:
        _fail(describe_errors(error), 1)
    except (ValueError, RuntimeError, OSError) as error:
        _fail(error, 1)


def _fail(error: object, code: int) -> NoReturn:
    print(f"fbt: {error}", file=sys.stderr)
    sys.exit(code)


def _interrupt(*_: object) -> None:
    # A second Ctrl-C must not interrupt the clean-up of the first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


@app.command(group=TRAIN)
def demo(*, check: bool = False) -> None:
    """Train on the demo data, promote the model, serve it and open the workbench on it.

    Args:
        check: end after the answers and a page were verified
    """
    from pipelines.demo import demo

    demo(open_home(), check)


@app.command(group=TRAIN)
def run(*, parameters: Training, again: bool = False) -> None:
    """Train on order lines, on this machine.

    Args:
        again: repeat every step, even if nothing has changed
    """
    from pipelines.run import run

    try:
        result = run(parameters, open_home(), again)
    except SourceError as error:
        raise SourceError(f"{error}\n{suggest_inspect(parameters)}") from None
    print(f"version {result.version.version} is registered; report: {result.report}")
    print(f"promote it with: fbt promote {result.version.version}")


@app.command(group=TRAIN)
def inspect(
    source: str,
    /,
    *,
    products: str = "",
    columns: str = "",
    timezone: str = "UTC",
    ts_format: str = "",
    decimal: str = "",
    encoding: str = "",
    json: bool = False,
) -> None:
    """Show how an export would be read, without a run.

    Args:
        source: as of fbt run --orders
        products: as of fbt run, like all below
        json: print JSON, for programs
    """
    from components.orders.clean import OrderSettings
    from pipelines.inspection import inspect_source
    from pipelines.inspection_text import print_inspection

    settings = OrderSettings(
        columns=columns, timezone=timezone, ts_format=ts_format, decimal=decimal, encoding=encoding
    )
    found = inspect_source(source, products, settings)
    if json:
        print(found.model_dump_json(indent=2))
    else:
        print_inspection(found)


@app.command(group=MODELS)
def models() -> None:
    """List versions and promotions."""
    from components.registry.promotion import history
    from components.registry.registry import list_versions
    from pipelines.tables import moves_table, versions_table

    print(versions_table(list_versions()))
    print()
    print(moves_table(history()))


@app.command(group=MODELS)
def promote(version: str, /, *, by: By = "", force: bool = False) -> None:
    """Make a version the champion.

    Args:
        version: number or alias
        force: even if the version failed its gate
    """
    from components.registry.promotion import promote

    move = promote(version, by or _user(), force)
    print(f"version {move.to} is champion (before: {move.came_from or 'none'})")


@app.command(group=MODELS)
def rollback(*, by: By = "") -> None:
    """Make the previous champion champion again."""
    from components.registry.promotion import rollback

    move = rollback(by or _user())
    print(f"version {move.to} is champion again (before: {move.came_from})")


@app.command(group=MODELS)
def sign(version: str, /) -> None:
    """Sign a registered version by the key in FBT_SIGNING_KEY.

    Args:
        version: number or alias
    """
    from components.registry.signing import sign_version

    print(f"version {version} is signed by key {sign_version(version)}")


def _user() -> str:
    import getpass

    return getpass.getuser()


@app.command(group=MODELS)
def mlflow(*, port: int = 5000) -> None:
    """Run the MLflow server with its web pages."""
    from pipelines.mlflow_server import mlflow_server

    with mlflow_server(open_home(), port) as server:
        print(f"MLflow answers on {server.url}; Ctrl-C ends it", flush=True)
        server.wait()


@app.command(group=SERVE)
def serve(
    *,
    port: int = 3000,
    arm: Annotated[list[str] | None, EXPERIMENT] = None,
    name: Annotated[str, EXPERIMENT] = "",
    swap_share: Annotated[float, EXPERIMENT] = 0,
    interleave: Annotated[bool, EXPERIMENT] = False,
    experiment: Annotated[Path | None, EXPERIMENT] = None,
) -> None:
    """Serve the champion; change over whenever another version becomes champion.

    Args:
        arm: instead, serve an experiment's arm NAME=VERSION, the control first; may be repeated.
            VERSION is a number, an alias, or for a holdout none or bestsellers. After commas,
            weight=2, diversity=0.3, max_own_kind=1, max_same_kind=2 or price_ratio=5
        name: of the experiment; another one draws other sessions (default: its arms)
        swap_share: share of the answers with a random swap, to measure position bias
        interleave: mix the lists of two arms instead of sharing out sessions
        experiment: JSON file instead of --arm; see bento/README.md
    """
    from pipelines.serve import follow_champion
    from pipelines.serve_arms import describe_arms, make_plan, plan_file, serve_experiment

    plan = make_plan(arm or (), name, swap_share, interleave, experiment)
    if plan is None:
        follow_champion(open_home(), port)
        return
    home = open_home()
    with serve_experiment(plan, home, port) as server:
        print(f"{describe_arms(plan)} on {server.url}; Ctrl-C ends it")
        print(f"its file, for `fbt experiment read`: {plan_file(plan, home)}", flush=True)
        if code := server.wait():
            raise RuntimeError(f"serve: the server ended with code {code}; log: {server.log}")


@app.command(group=SERVE)
def workbench(*, port: int = 3002, host: str = "127.0.0.1", service: str = "") -> None:
    """Open the pages where people look, compare, judge and correct.

    Args:
        service: URL of the service (default: FBT_SERVICE_URL, or http://127.0.0.1:3000)
    """
    from pipelines.workbench import run_workbench

    run_workbench(open_home(), service, host, port)


@app.command(group=SERVE)
def ingest(*, port: int = 3001, host: str = "127.0.0.1", workers: int = 1) -> None:
    """Take shoppers' events, without recommendations, into the store of fbt serve.

    Args:
        host: 0.0.0.0 lets other machines in
        workers: processes
    """
    from bento.ingest import run
    from pipelines.serve import build_store_settings

    os.environ.update(build_store_settings(open_home()))
    run(host, port, workers)


@app.command(group=SERVE)
def export(
    *,
    bundle: Annotated[Path | None, Parameter(group=SOURCE)] = None,
    version: Annotated[str | None, Parameter(group=SOURCE)] = None,
    to: Path,
    k: int = 20,
    rules: str | None = None,
    spark: bool = False,
) -> None:
    """Write the recommendations for every product to a file.

    Args:
        bundle: folder of a bundle
        version: number or alias in the registry, e.g. champion
        to: FILE.parquet
        k: recommendations per product
        rules: URL of the service's database, or off (default: FBT_DATABASE_URL)
        spark: compute on Spark's executors, which must see the files
    """
    from pipelines.export import export_bundle, fetch_bundle

    if bundle is not None:
        n_rows = export_bundle(bundle, to, k, rules, spark)
    else:
        assert version is not None
        with fetch_bundle(open_home(), version) as fetched:
            n_rows = export_bundle(fetched, to, k, rules, spark)
    print(f"{n_rows:,} rows in {to}")


@app.command(group=CLUSTER)
def images(
    *targets: str,
    registry: str = "",
    push: bool = False,
    extra: Annotated[list[str] | None, Parameter(allow_leading_hyphen=True)] = None,
) -> None:
    """Build the container images.

    Args:
        targets: steps, serve, promoter, mlflow, workbench (default: all)
        registry: prefix of the image names
        push: push to the registry
        extra: option of the builder; may be repeated
    """
    from pipelines.images import build_images

    for tag in build_images(targets, registry, push, extra or ()):
        print(tag)


@app.command(group=CLUSTER)
def bundle_image(
    version: str,
    /,
    *,
    registry: str = "",
    push: bool = False,
    extra: Annotated[list[str] | None, Parameter(allow_leading_hyphen=True)] = None,
) -> None:
    """Build an image of a registered model's bundle, for clusters that mount it.

    Args:
        version: number or alias in the registry, e.g. challenger
        registry: prefix of the image name
        push: push to the registry
        extra: option of the builder; may be repeated
    """
    from pipelines.bundle_image import build_bundle_image

    print(build_bundle_image(version, registry, push, extra or ()))


cluster = App(name="cluster", help="Install fbt on a Kubernetes cluster.", group=CLUSTER)
app.command(cluster)


@cluster.command
def up(
    *,
    overlay: Overlay = "local",
    context: Context = "",
    wait: float = 900,
    kfp_source: str = "",
) -> None:
    """Install everything that is missing, and wait until it is ready.

    Args:
        wait: seconds at most
        kfp_source: folder or URL of KFP's manifests, for clusters without GitHub; k8s/README.md
            has the commands that write them (default: GitHub)
    """
    from pipelines.cluster import cluster_up

    cluster_up(overlay, context, wait, kfp_source=kfp_source)


@app.command(group=CLUSTER)
def doctor(*, overlay: Overlay = "local", context: Context = "") -> None:
    """Check this machine and the cluster; print a remedy for what is missing or broken."""
    from pipelines.doctor import doctor

    doctor(overlay, context)


@app.command(group=CLUSTER)
def compile(
    *,
    to: Path = Path("build"),
    version: str = "",
    placement: Place = DEFAULT_PLACEMENT,
) -> None:
    """Write the pipelines as files for a cluster.

    Args:
        to: folder
        version: version of the pipeline (default: hash of the code)
    """
    from pipelines.compile import compile_pipeline

    for name in ("training", "feedback"):
        for path in compile_pipeline(to, version or code_version(), placement, name):
            print(path)


@app.command(group=CLUSTER)
def submit(*, parameters: Training, target: Server = DEFAULT_TARGET, wait: float = 0) -> None:
    """Train on a cluster: upload this code and run it.

    Args:
        wait: seconds for the end of the run
    """
    from pipelines.submit import submit

    submit(parameters, target, wait)


@app.command(group=CLUSTER)
def wait(run_id: str, /, *, endpoint: str = "", namespace: str = "", wait: float = 7200) -> None:
    """Wait for the end of a run that was submitted before.

    Args:
        run_id: as fbt submit printed it
        endpoint: KFP server (default: KF_PIPELINES_ENDPOINT)
        namespace: your namespace, if KFP has several users
        wait: seconds at most
    """
    from pipelines.run_wait import wait_for

    wait_for(run_id, endpoint, namespace, wait)


@app.command(group=CLUSTER)
def schedule(
    *,
    parameters: Training | None = None,
    target: Server = DEFAULT_TARGET,
    name: str = "nightly",
    cron: str = "30 2 * * *",
    remove: bool = False,
) -> None:
    """Train on a cluster regularly.

    Args:
        name: name of the schedule
        cron: minute, hour, day, month and weekday, in UTC
        remove: delete the schedule
    """
    from pipelines.schedule import schedule, unschedule

    if remove:
        unschedule(name, "training", target)
    else:
        schedule(name, cron, parameters or TrainingParameters(orders=""), target)


@app.command(group=MEASURE)
def bench(
    name: str,
    /,
    *,
    json: Path | None = None,
    orders: Annotated[str | None, QUALITY] = None,
    products: Annotated[str | None, QUALITY] = None,
    columns: Annotated[str | None, QUALITY] = None,
    chart: Annotated[Path | None, QUALITY] = None,
    work: Annotated[Path | None, SERVING] = None,
    quick: Annotated[bool | None, SERVING] = None,
    minutes: Annotated[float | None, SERVING] = None,
    parts: Annotated[str | None, SERVING] = None,
) -> None:
    """Run a benchmark and print its table.

    Args:
        name: quality compares fbt with its peers on your orders; in a checkout also serving (load
            on the service and its peers), soak (load for long), online (events, and whether
            online measures are true), workbench (its pages), reading, baskets, scale, demo
        json: also write the figures to this file
        orders: as of fbt run (serving: default demo data)
        products: as of fbt run
        columns: as of fbt run
        chart: quality alone: FILE.svg or FILE.png
        work: folder that keeps generated bundles
        quick: small and short, to try the benchmark itself
        minutes: soak alone (default: 30)
        parts: online alone, some of rates,tail,log,kills,estimators,report
    """
    from pipelines.bench import run_bench

    options = {
        "orders": orders, "products": products, "columns": columns, "chart": chart,
        "work": work, "quick": quick, "minutes": minutes, "parts": parts,
    }  # fmt: skip
    run_bench(name, json, {key: value for key, value in options.items() if value is not None})


@app.command(group=MEASURE)
def judge(
    *,
    bundles: Annotated[list[Path] | None, Parameter(group=SHEET, consume_multiple=True)] = None,
    peers: Annotated[list[str] | None, Parameter(group=SHEET, consume_multiple=True)] = None,
    products: Annotated[int, Parameter(group=SHEET)] = 30,
    seed: Annotated[int, Parameter(group=SHEET)] = 0,
    k: Annotated[int, Parameter(group=SHEET)] = 5,
    to: Annotated[Path | None, Parameter(group=SHEET)] = None,
    text: Annotated[Path | None, Parameter(group=SHEET)] = None,
    orders: Annotated[str, Parameter(group=PEERS)] = "",
    product_table: Annotated[str, Parameter(group=PEERS)] = "",
    columns: Annotated[str, Parameter(group=PEERS)] = "",
    baskets: Annotated[Path | None, Parameter(group=PEERS)] = None,
    read: Annotated[list[Path] | None, Parameter(group=GRADES, consume_multiple=True)] = None,
    key: Annotated[Path | None, Parameter(group=GRADES)] = None,
    json: Annotated[Path | None, Parameter(group=GRADES)] = None,
    case: Annotated[str, Parameter(group=CASE)] = "",
    record: Annotated[bool, Parameter(group=CASE)] = False,
) -> None:
    """Have people grade models and simple methods blind, or read their grades.

    Args:
        bundles: folders of bundles to compare
        peers: methods of fbt bench quality, e.g. cosine or cosine:lean=0.5,shrink=20
        products: how many to draw: a third bestsellers, a third rarely bought ones
        seed: of the drawing and of the systems' order
        k: products per list
        to: folder of page.html, for the judges, and key.json, not for them (default: judging)
        text: also write the lists to FILE.txt or FILE.json, for a terminal
        orders: as of fbt run, for the peers to learn from
        product_table: as --products of fbt run
        columns: as of fbt run
        baskets: instead of --orders, the baskets of a run
        read: grades that judges have saved; prints the systems' results
        key: key of the grades (default: key.json beside the first file)
        json: also write the results to this file
        case: name of a case of the workbench: prints its results; with --read takes those grades
            into it first, with --to writes it as files
        record: write the case's grades to the registry, for the next run's report and gate
    """
    from pipelines.judging import Orders, format_result, read_judgement, write_sheet

    if case:
        if bundles or peers or text:
            raise ValueError("judge: --case takes no --bundles, --peers and --text; it has lists")
        from pipelines.judging_case import judge_case

        print(judge_case(case, open_home(), read or (), key, json, to, record))
        return
    if record:
        raise ValueError("judge: --record belongs to --case; name the case whose grades to write")
    if read:
        if bundles or peers:
            raise ValueError("judge: --read takes no --bundles and no --peers; the key names them")
        print(format_result(read_judgement(read, key, json)))
        return
    if key or json:
        raise ValueError("judge: --key and --json belong to --read; name the grades with --read")
    source = Orders(orders, product_table, columns, baskets)
    folder = to or Path("judging")
    page = write_sheet(bundles or (), peers or (), source, products, seed, k, folder, text)
    print(f"give {page} to the judges, and keep {page.with_name('key.json')} to yourself")


if __name__ == "__main__":
    main()
