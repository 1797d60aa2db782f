"""`fbt demo`: trains on a year of baskets, and serves the model."""

import getpass
import json
import os
import socket
import statistics
import time
import urllib.request
from collections.abc import Sequence
from typing import Any

from components.registry.promotion import history, promote
from components.registry.registry import fetch_artifact
from pipelines.demo_data import write_demo_data
from pipelines.home import Home
from pipelines.mlflow_server import mlflow_server
from pipelines.parameters import TrainingParameters
from pipelines.run import run
from pipelines.serve import serve_champion

MLFLOW_PORT, SERVICE_PORT = 5000, 3000
MIN_CATEGORIES = 4
"""Of the first answer's five products."""


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
        with serve_champion(home, find_port_near(SERVICE_PORT)) as (server, served):
            examples = fetch_examples(home, version)
            answers = [request_companions(server.url, one["product_id"]) for one in examples]
            product, answer = choose_example(examples, answers)
            verify(answer, product["product_id"], served)
            print(f"  ✓ Bento service        {server.url}\n", flush=True)
            print(format_summary(answer, product, server.url, registry.url, str(finished.report)))
            print(f"\ntook {time.monotonic() - started:.0f} s", flush=True)
            if not check:
                print("Ctrl-C ends both servers.", flush=True)
                server.wait()
                raise DemoFailed(f"the service ended by itself; log: {server.log}")


def request_companions(url: str, product_id: str, k: int = 5) -> dict[str, Any]:
    body = json.dumps({"items": [product_id], "k": k}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/recommend", body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        content: dict[str, Any] = json.load(answer)
    return content


def verify(answer: dict[str, Any], product_id: str, version: str) -> None:
    items = answer["items"]
    ids, scores = ([item[name] for item in items] for name in ("product_id", "score"))
    found = answer["model_version"]
    checks = [
        (found == version, f"model_version is {found}, not {version}"),
        (answer["source"] == "model", f"source is {answer['source']}, not model"),
        (len(set(ids)) == 5, f"it has {len(set(ids))} different products, not 5"),
        (product_id not in ids, "it contains the product itself"),
        (scores == sorted(scores, reverse=True), "the scores are not sorted"),
        (all(item["name"] for item in items), "a product has no name"),
    ]
    if errors := [text for right, text in checks if not right]:
        raise DemoFailed(f"the service's answer for {product_id} is wrong: {'; '.join(errors)}")


def fetch_examples(home: Home, version: str) -> list[dict[str, Any]]:
    """The more popular half of the report's examples."""
    target = home.root / "downloads" / f"evaluation-{version}"
    fetch_artifact(version, "evaluation.json", target)
    evaluation = json.loads(next(target.rglob("evaluation.json")).read_text())
    examples: list[dict[str, Any]] = evaluation["examples"]
    return examples[: len(examples) // 2]


def choose_example(
    examples: Sequence[dict[str, Any]], answers: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The varied answer with the highest median lift, else that with most names."""

    def median_lift(example: dict[str, Any]) -> float:
        return statistics.median(one["lift"] or 0.0 for one in example["recommendations"][:5])

    pairs = list(zip(examples, answers, strict=True))
    varied = [pair for pair in pairs if is_varied(pair[1], pair[0]["label"])]
    if varied:
        return max(varied, key=lambda pair: median_lift(pair[0]))
    return max(pairs, key=lambda pair: len({item["name"] for item in pair[1]["items"]}))


def is_varied(answer: dict[str, Any], label: str) -> bool:
    """Whether all names differ, the query's included, in enough categories."""
    names = {label, *(item["name"] for item in answer["items"])}
    categories = {item["category"] for item in answer["items"]}
    return len(names) == 1 + len(answer["items"]) and len(categories) >= MIN_CATEGORIES


def format_summary(
    answer: dict[str, Any], product: dict[str, Any], service: str, registry: str, report: str
) -> str:
    lines = [f"Bought together with {product['label']} ({product['product_id']}):"]
    lines += [
        f"  {place}. {item['name']:<40} {item['category'] or ''}"
        for place, item in enumerate(answer["items"], 1)
    ]
    body = json.dumps({"items": [product["product_id"]], "k": 5})
    lines += [
        "",
        "Try it yourself:",
        f"  curl -s {service}/recommend -H 'Content-Type: application/json' -d '{body}'",
        "",
        f"API docs       {service}/",
        f"MLflow         {registry}/#/models/fbt",
        f"Run's report   {report}",
    ]
    return "\n".join(lines)


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
