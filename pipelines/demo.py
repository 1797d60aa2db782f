"""`fbt demo`: trains on a year of baskets, serves the model, and opens the workbench on it."""

import getpass
import html
import json
import os
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any, NamedTuple

from components.model.bundle import read_bundle
from components.registry.promotion import history, promote
from pipelines.demo_data import write_demo_data
from pipelines.export import fetch_bundle
from pipelines.home import Home
from pipelines.mlflow_server import mlflow_server
from pipelines.parameters import TrainingParameters
from pipelines.run import run
from pipelines.serve import serve_champion
from pipelines.serving_check import build_selection
from pipelines.showcase import pick_showcase
from pipelines.workbench import serve_workbench

MLFLOW_PORT, SERVICE_PORT, WORKBENCH_PORT = 5000, 3000, 3002
WIDTH, INDENT = 96, 5 * " "

Names = dict[str, str]
"""Of products, by id."""


class Example(NamedTuple):
    """The products asked for, one or a cart, and the five answered."""

    asked: Names
    items: Sequence[Mapping[str, Any]]


class DemoFailed(RuntimeError):
    """The service ended or gave a wrong answer."""


def demo(home: Home, check: bool) -> None:
    started = time.monotonic()
    print("fbt demo: a year of groceries, from order lines to recommendations", flush=True)
    lines, products = write_demo_data(home.root / "demo")
    with mlflow_server(home, find_port_near(MLFLOW_PORT)) as registry:
        os.environ["MLFLOW_TRACKING_URI"] = registry.url
        print(f"  ✓ MLflow server        {registry.url}", flush=True)
        finished = run(TrainingParameters(orders=str(lines), products=str(products)), home)
        version = finished.version.version
        if not (moves := history()) or moves[0].to != version:
            promote(version, by=f"{getpass.getuser()} (demo)")
        print(f"  ✓ promoted version {version} to champion", flush=True)
        with (
            serve_champion(home, find_port_near(SERVICE_PORT)) as (server, served),
            serve_workbench(home, server.url, find_port_near(WORKBENCH_PORT)) as workbench,
        ):
            examples = ask_for_examples(server.url, pick_products(home, served), served)
            print(f"  ✓ Bento service        {server.url}", flush=True)
            verify_page(workbench.url, examples[0])
            print(f"  ✓ workbench            {workbench.url}\n", flush=True)
            print("\n\n".join(map(format_example, examples)))
            urls = {"service": server.url, "workbench": workbench.url, "registry": registry.url}
            print(format_links(examples[0], report=str(finished.report), **urls))
            print(f"\ntook {time.monotonic() - started:.0f} s", flush=True)
            if not check:
                print("Ctrl-C ends all servers.", flush=True)
                server.wait()
                raise DemoFailed(f"the service ended by itself; log: {server.log}")


def pick_products(home: Home, version: str) -> Names:
    with fetch_bundle(home, version) as path:
        pages = pick_showcase(build_selection(read_bundle(path)))
    if not pages:
        raise DemoFailed(f"version {version} has no companions for any product")
    return {page.product_id: page.name for page in pages}


def ask_for_examples(url: str, names: Names, version: str) -> list[Example]:
    """A page each, and a cart of all; every answer is checked."""
    carts = [list(names)] if len(names) > 1 else []
    examples = []
    for items in [*([one] for one in names), *carts]:
        answer = request_companions(url, items)
        verify(answer, items, version)
        examples.append(Example({one: names[one] for one in items}, answer["items"]))
    return examples


def request_companions(url: str, items: Sequence[str], k: int = 5) -> dict[str, Any]:
    body = json.dumps({"items": items, "k": k, "explain": True}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/recommend", body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        content: dict[str, Any] = json.load(answer)
    return content


def verify(answer: dict[str, Any], asked: Sequence[str], version: str) -> None:
    items = answer["items"]
    ids, scores = ([item[name] for item in items] for name in ("product_id", "score"))
    found = answer["model_version"]
    checks = [
        (found == version, f"model_version is {found}, not {version}"),
        (answer["source"] == "model", f"source is {answer['source']}, not model"),
        (len(set(ids)) == 5, f"it has {len(set(ids))} different products, not 5"),
        (not set(asked) & set(ids), "it contains a product asked for"),
        (all(item["name"] for item in items), "a product has no name"),
        (all(score is not None for score in scores), "a product has no score"),
    ]
    if errors := [text for right, text in checks if not right]:
        product_ids = ", ".join(asked)
        raise DemoFailed(f"the service's answer for {product_ids} is wrong: {'; '.join(errors)}")


def verify_page(url: str, example: Example) -> None:
    """Raises DemoFailed unless the workbench shows the example's products, in their order."""
    path = _page_path(example)
    with urllib.request.urlopen(f"{url}{path}?k=5", timeout=10) as answer:
        page = html.unescape(answer.read().decode())
    places = [page.find(f">{item['name']}<") for item in example.items]
    if -1 in places or places != sorted(places):
        names = ", ".join(str(item["name"]) for item in example.items)
        raise DemoFailed(f"the workbench's page {path} does not show, in this order: {names}")


def _page_path(example: Example) -> str:
    return f"/product/{urllib.parse.quote(next(iter(example.asked)), safe='')}"


def format_example(example: Example) -> str:
    names = [f"{name} (product {product_id})" for product_id, name in example.asked.items()]
    lines = [f"Bought together with {names[0]}:"]
    if len(names) > 1:
        lines = ["A cart:", *(INDENT + name for name in names), "Bought together with these:"]
    for place, item in enumerate(example.items, 1):
        reason = format_reason(item, example.asked)
        lines += [
            f"  {place}. {item['name']}",
            *wrap(INDENT + reason, WIDTH, subsequent_indent=INDENT),
        ]
    return "\n".join(lines)


def format_reason(item: Mapping[str, Any], asked: Names) -> str:
    """In words; a cart's reason is the product of it with the strongest evidence."""
    if not (why := item.get("because_of")):
        return "not seen together; bought in similar baskets"
    partner = asked[why["product_id"]] if len(asked) > 1 else ""
    n = why["bought_together"]
    text = f"in {n:,} basket{'s' * (n != 1)} {f'with {partner}' if partner else 'together'}"
    if (expected := why.get("expected")) and (ratio := why.get("times_more_often")):
        text += f"; by chance it would be {_round(expected)}: {_round(ratio)} times as often"
    return text


def _round(number: float) -> str:
    if number < 0.05:
        return "under 0.1"
    return f"{number:.1f}" if number < 9.95 else f"{number:,.0f}"


def format_links(example: Example, service: str, workbench: str, registry: str, report: str) -> str:
    body = json.dumps({"items": list(example.asked), "k": 5, "explain": True})
    return "\n".join(
        [
            "",
            "Try it yourself:",
            f"  curl -s {service}/recommend -H 'Content-Type: application/json' \\",
            f"    -d '{body}'",
            "",
            f"Workbench      {workbench}{_page_path(example)}",
            f"API docs       {service}/",
            f"MLflow         {registry}/#/models/fbt",
            f"Run's report   {report}",
        ]
    )


def find_port_near(wanted: int) -> int:
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise DemoFailed(f"no free port between {wanted} and {wanted + 100}; stop a server there")
