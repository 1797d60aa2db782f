"""The command `fbt`: parses, calls, prints. Errors that tell what to do come without traceback."""

import argparse
import getpass
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.step import STEPS_IMAGE
from pipelines.home import Home, code_version, open_home
from pipelines.parameters import TrainingParameters, checked_parameters


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

    given = {name: getattr(options, name) for name in TrainingParameters.model_fields}
    parameters = checked_parameters({k: v for k, v in given.items() if v is not None})
    finished = run(parameters, home, options.again)
    print(f"version {finished.version.version} is registered; report: {finished.report}")
    print(f"promote it with: fbt promote {finished.version.version}")


def _demo(home: Home, options: argparse.Namespace) -> None:
    from pipelines.demo import demo

    demo(home, options.check)


def _compile(home: Home, options: argparse.Namespace) -> None:
    from pipelines.compile import compile_pipeline

    for path in compile_pipeline(options.to, options.image, options.version or code_version()):
        print(path)


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


def _mlflow(home: Home, options: argparse.Namespace) -> None:
    from pipelines.mlflow_server import mlflow_server

    with mlflow_server(home, options.port) as server:
        print(f"MLflow answers on {server.url}; Ctrl-C ends it", flush=True)
        server.wait()


def _bench(home: Home, options: argparse.Namespace) -> None:
    from pipelines.bench import run_bench

    run_bench(options.name, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fbt", description="Frequently bought together.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(_command(commands, "run", _run, "train on order lines, on this machine"))
    demo = _command(commands, "demo", _demo, "the whole way on the demo data")
    demo.add_argument("--check", action="store_true", help="end after the answer was verified")
    compiled = _command(commands, "compile", _compile, "write the pipeline for a cluster")
    compiled.add_argument("--to", type=Path, default=Path("build"), help="folder (default: build)")
    compiled.add_argument(
        "--image", default=STEPS_IMAGE, help=f"of all steps (default: {STEPS_IMAGE})"
    )
    compiled.add_argument(
        "--version", default="", help="of the pipeline (default: hash of the code)"
    )
    _command(commands, "models", _models, "list versions and who promoted what")
    promote = _command(commands, "promote", _promote, "make a version the champion")
    promote.add_argument("version", help="number or alias, e.g. challenger")
    promote.add_argument("--force", action="store_true", help="even if it failed its gate")
    rollback = _command(commands, "rollback", _rollback, "make the champion before champion again")
    for one in (promote, rollback):
        one.add_argument("--by", default=getpass.getuser(), help="who decides (default: you)")
    serve = _command(commands, "serve", _serve, "serve the champion, and follow the alias")
    serve.add_argument("--port", type=int, default=3000, help="default: 3000")
    mlflow = _command(commands, "mlflow", _mlflow, "the MLflow server and its pages")
    mlflow.add_argument("--port", type=int, default=5000, help="default: 5000")
    bench = _command(commands, "bench", _bench, "measure, and print a table")
    bench.add_argument("name", help="demo, baskets or scale")
    bench.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser


def _command(
    commands: Any, name: str, call: Callable[[Home, argparse.Namespace], None], about: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(command=call)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    for name, field in TrainingParameters.model_fields.items():
        default = "" if field.is_required() else f" (default: {field.default!r})"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            required=field.is_required(),
            # Checked with all others by TrainingParameters, so that errors read alike.
            help=f"{field.description}{default}".replace("%", "%%"),
        )
    parser.add_argument("--again", action="store_true", help="even if nothing has changed")


if __name__ == "__main__":
    main()
