"""The command `fbt`: parses, calls, prints. Errors that tell what to do come without traceback."""

import argparse
import getpass
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.step import STEPS_IMAGE
from pipelines.home import Home, code_version, open_home
from pipelines.parameters import TrainingParameters, parse_parameters
from pipelines.placement import Placement, parse_placement

if TYPE_CHECKING:
    from pipelines.submit import Target

STEPS_NAME = STEPS_IMAGE.partition(":")[0]


def main(arguments: list[str] | None = None) -> None:
    """Entry point; exits 0 on success, 1 on an error that was explained, 130 on Ctrl-C."""
    options = _parser().parse_args(arguments)
    # `kill` ends us like Ctrl-C does: servers and steps are ended on the way out.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    home = open_home()
    os.environ.update(home.environment())
    try:
        options.command(home, options)
    except KeyboardInterrupt:
        print("\nended", file=sys.stderr)
        sys.exit(130)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"fbt: {error}", file=sys.stderr)
        sys.exit(1)


def _interrupt(*_: object) -> None:
    # One is enough: a second Ctrl-C must not stop what the first one began.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run(home: Home, options: argparse.Namespace) -> None:
    from pipelines.run import run

    finished = run(_parameters(options), home, options.again)
    print(f"version {finished.version.version} is registered; report: {finished.report}")
    print(f"promote it with: fbt promote {finished.version.version}")


def _demo(home: Home, options: argparse.Namespace) -> None:
    from pipelines.demo import demo

    demo(home, options.check)


def _compile(home: Home, options: argparse.Namespace) -> None:
    from pipelines.compile import compile_pipeline

    version = options.version or code_version()
    for path in compile_pipeline(options.to, options.image, version, _placement(options)):
        print(path)


def _submit(home: Home, options: argparse.Namespace) -> None:
    from pipelines.submit import submit

    submit(_parameters(options), _target(options), options.wait)


def _schedule(home: Home, options: argparse.Namespace) -> None:
    from pipelines.schedule import schedule, unschedule

    if options.remove:
        unschedule(options.name, _target(options))
    else:
        schedule(options.name, options.cron, _parameters(options), _target(options))


def _images(home: Home, options: argparse.Namespace) -> None:
    from pipelines.images import build_images

    for tag in build_images(options.target, options.registry, options.push, options.extra):
        print(tag)


def _cluster(home: Home, options: argparse.Namespace) -> None:
    from pipelines.cluster import cluster_up

    cluster_up(options.overlay, options.context, options.wait)


def _doctor(home: Home, options: argparse.Namespace) -> None:
    from pipelines.doctor import doctor

    doctor(options.overlay, options.context)


def _models(home: Home, options: argparse.Namespace) -> None:
    from components.registry.promotion import history
    from components.registry.registry import list_versions
    from pipelines.tables import moves_table, versions_table

    print(versions_table(list_versions()))
    print()
    print(moves_table(history()))


def _promote(home: Home, options: argparse.Namespace) -> None:
    from components.registry.promotion import promote

    move = promote(options.version, options.by, options.force)
    print(f"version {move.to} is champion (before: {move.came_from or 'none'})")


def _rollback(home: Home, options: argparse.Namespace) -> None:
    from components.registry.promotion import rollback

    move = rollback(options.by)
    print(f"version {move.to} is champion again (before: {move.came_from})")


def _serve(home: Home, options: argparse.Namespace) -> None:
    from pipelines.serve import follow_champion

    follow_champion(home, options.port)


def _export(home: Home, options: argparse.Namespace) -> None:
    from pipelines.export import export_bundle, fetch_bundle

    more = (options.to, options.k, options.rules, options.spark)
    if options.bundle is not None:
        n_rows = export_bundle(options.bundle, *more)
    else:
        with fetch_bundle(home, options.version) as bundle:
            n_rows = export_bundle(bundle, *more)
    print(f"{n_rows:,} rows in {options.to}")


def _mlflow(home: Home, options: argparse.Namespace) -> None:
    from pipelines.mlflow_server import mlflow_server

    with mlflow_server(home, options.port) as server:
        print(f"MLflow answers on {server.url}; Ctrl-C ends it", flush=True)
        server.wait()


def _bench(home: Home, options: argparse.Namespace) -> None:
    from pipelines.bench import run_bench

    names = ("orders", "products", "columns", "chart", "work", "quick", "minutes")
    given = {name: getattr(options, name) for name in names}
    taken = {name: value for name, value in given.items() if value is not None}
    run_bench(options.name, options.json, taken)


def _parameters(options: argparse.Namespace) -> TrainingParameters:
    given = {name: getattr(options, name) for name in TrainingParameters.model_fields}
    return parse_parameters({k: v for k, v in given.items() if v is not None})


def _placement(options: argparse.Namespace) -> Placement:
    given = {name: getattr(options, name) for name in Placement.model_fields}
    return parse_placement({k: v for k, v in given.items() if v is not None})


def _target(options: argparse.Namespace) -> "Target":
    from pipelines.submit import Target

    selector = dict(one.partition("=")[::2] for one in options.node_selector)
    return Target(options.endpoint, options.namespace, options.image, _placement(options), selector)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fbt", description="Frequently bought together.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = _command(commands, "run", _run, "train on order lines, on this machine")
    _add_parameters(run)
    run.add_argument(
        "--again", action="store_true", help="repeat every step, even if nothing has changed"
    )
    demo = _command(commands, "demo", _demo, "the whole way on the demo data")
    demo.add_argument("--check", action="store_true", help="end after the answer was verified")
    compiled = _command(commands, "compile", _compile, "write the pipeline for a cluster")
    compiled.add_argument("--to", type=Path, default=Path("build"), help="folder (default: build)")
    _add_placement(compiled)
    compiled.add_argument(
        "--version", default="", help="of the pipeline (default: hash of the code)"
    )
    _add_cluster_commands(commands)
    _command(commands, "models", _models, "list versions and who promoted what")
    promote = _command(commands, "promote", _promote, "make a version the champion")
    promote.add_argument("version", help="number or alias, e.g. challenger")
    promote.add_argument("--force", action="store_true", help="even if it failed its gate")
    rollback = _command(commands, "rollback", _rollback, "make the champion before champion again")
    for one in (promote, rollback):
        one.add_argument("--by", default=getpass.getuser(), help="who decides (default: you)")
    serve = _command(commands, "serve", _serve, "serve the champion, and follow the alias")
    serve.add_argument("--port", type=int, default=3000, help="default: 3000")
    _add_export(_command(commands, "export", _export, "write every product's companions to a file"))
    mlflow = _command(commands, "mlflow", _mlflow, "the MLflow server and its pages")
    mlflow.add_argument("--port", type=int, default=5000, help="default: 5000")
    _add_bench(_command(commands, "bench", _bench, "measure, and print a table"))
    return parser


def _command(
    commands: Any, name: str, call: Callable[[Home, argparse.Namespace], None], about: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(command=call)
    return parser


def _add_export(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bundle", type=Path, help="folder of a bundle")
    source.add_argument("--version", help="number or alias in the registry, e.g. champion")
    parser.add_argument("--to", type=Path, required=True, help="FILE.parquet")
    parser.add_argument("--k", type=int, default=20, help="per product (default: 20)")
    parser.add_argument(
        "--rules",
        metavar="URL",
        help="database of rules and catalogue changes, or off (default: FBT_DATABASE_URL)",
    )
    parser.add_argument(
        "--spark", action="store_true", help="by Spark's executors, which see the same files"
    )


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        help="demo, baskets, scale; quality: fbt and its peers on your own orders; serving: the "
        "service and its peers under load; soak: the service for long",
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    of_quality = parser.add_argument_group("quality, serving")
    of_quality.add_argument(
        "--orders", help="order lines, as `fbt run` takes them; quality needs them, serving takes "
        "the demo data else",
    )  # fmt: skip
    of_quality.add_argument("--products", help="product table, as `fbt run` takes it")
    of_quality.add_argument(
        "--columns", help="our names for the shop's columns: order_id=Invoice,product_id=Code"
    )
    of_quality.add_argument(
        "--chart", type=Path, help="quality alone: also draw a chart, FILE.svg or FILE.png"
    )
    of_serving = parser.add_argument_group("serving, soak")
    of_serving.add_argument("--work", type=Path, help="folder in which made-up bundles stay")
    of_serving.add_argument(
        "--quick", action="store_const", const=True, help="small and short: tries the bench itself"
    )
    of_serving.add_argument("--minutes", type=float, help="soak alone: how long (default: 30)")


def _add_cluster_commands(commands: Any) -> None:
    submit = _command(commands, "submit", _submit, "train on a cluster: upload this code and run")
    wait = "seconds to wait for the end (default: 0)"
    submit.add_argument("--wait", type=float, default=0, help=wait)
    planned = _command(commands, "schedule", _schedule, "train on a cluster again and again")
    planned.add_argument("--name", default="nightly", help="of the schedule (default: nightly)")
    planned.add_argument(
        "--cron", default="30 2 * * *", help="five fields, in UTC (default: 30 2 * * *)"
    )
    planned.add_argument("--remove", action="store_true", help="do not run it any more")
    for one in (submit, planned):
        _add_server(one)
        _add_placement(one)
        # To remove a schedule, nobody has to say what it trained on.
        _add_parameters(one, required=one is submit)
    images = _command(commands, "images", _images, "build the container images")
    images.add_argument("target", nargs="*", help="steps, serve, promoter, mlflow (default: all)")
    images.add_argument("--registry", default="", help="prefix of their names")
    images.add_argument("--push", action="store_true", help="and push them there")
    images.add_argument(
        "--extra", action="append", default=[], help="option for the builder as it is; repeat"
    )
    cluster = _command(commands, "cluster", _cluster, "install on the cluster that kubectl knows")
    cluster.add_argument("what", choices=["up"], help="install what is missing, and wait for it")
    cluster.add_argument("--wait", type=float, default=900, help="seconds at most (default: 900)")
    doctor = _command(commands, "doctor", _doctor, "say what is missing, and the command for it")
    for one in (cluster, doctor):
        one.add_argument("--overlay", default="local", help="of k8s/overlays (default: local)")
        one.add_argument("--context", default="", help="of kubectl (default: the current one)")


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--endpoint", default="", help="KFP server (default: KF_PIPELINES_ENDPOINT)"
    )
    parser.add_argument("--namespace", default="", help="yours, where KFP has several users")
    parser.add_argument(
        "--node-selector", action="append", default=[], metavar="LABEL=VALUE",
        help="nodes that steps may run on; repeat",
    )  # fmt: skip


def _add_placement(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image", default=STEPS_NAME,
        help=f"of all steps; without a tag, that of this code (default: {STEPS_NAME})",
    )  # fmt: skip
    for name, field in Placement.model_fields.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", help=f"{field.description} (default: {field.default!r})"
        )


def _add_parameters(parser: argparse.ArgumentParser, required: bool = True) -> None:
    for name, field in TrainingParameters.model_fields.items():
        default = "" if field.is_required() else f" (default: {field.default!r})"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            required=required and field.is_required(),
            default="" if field.is_required() else None,
            # Checked with all others by TrainingParameters, so that errors read alike.
            help=f"{field.description}{default}".replace("%", "%%"),
        )


if __name__ == "__main__":
    main()
