"""What Argo Rollouts does with an analysis, played with a real Prometheus.

Queries and conditions are those of the AnalysisTemplates as they are applied to a cluster.
"""

import contextlib
import json
import math
import re
import shutil
import sys
import time
from pathlib import Path

import httpx
import yaml

from components.package.server import build_store_env, find_free_port, run_server

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "k8s" / "components" / "canary" / "analysis.yaml"

PATIENT = {"max-latency-ratio": "4", "max-latency": "0.4"}
"""A busy test machine delays single answers; the slow version is slower than that."""


def prometheus(stack, root, targets):
    """Its address; targets are by the hash of their pods."""
    port = find_free_port()
    jobs = [
        {
            "targets": [address(url)],
            "labels": {"namespace": "fbt", "rollouts_pod_template_hash": name},
        }
        for name, url in targets.items()
    ]
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "fbt", "static_configs": jobs}],
    }
    (root / "prometheus.yml").write_text(json.dumps(configuration))
    command = [
        shutil.which("prometheus"), f"--config.file={root}/prometheus.yml",
        f"--storage.tsdb.path={root}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    stack.enter_context(
        run_server(command, url, env={}, log=root / "prometheus.log", cwd=root, ready="/-/ready")
    )
    return url


def address(url):
    return url.removeprefix("http://")


@contextlib.contextmanager
def exporter(root, sink_url, **settings):
    """The address of a real exporter process that has read the sink."""
    port = find_free_port()
    settings = {"events_url": sink_url, "online_poll_s": 0.5, "online_port": port, **settings}
    env = {f"FBT_{name.upper()}": str(value) for name, value in settings.items()}
    with run_server(
        [sys.executable, "-m", "components.online.exporter"],
        f"http://127.0.0.1:{port}",
        env={**build_store_env(root), "PYTHONPATH": str(ROOT), **env},
        log=root / "exporter.log",
        cwd=root,
    ) as server:
        yield server.url


def wait_for_scrape(url, n_targets):
    until = time.monotonic() + 30
    while answer(url, "sum(up)") != [n_targets]:
        assert time.monotonic() < until, "not all targets are scraped"
        time.sleep(0.2)


def answer(prometheus_url, query, at=None):
    """The result as Argo Rollouts sees it: the values of an instant vector."""
    params = {"query": query} | ({"time": at} if at else {})
    response = httpx.get(f"{prometheus_url}/api/v1/query", params=params, timeout=10)
    assert response.status_code == 200, response.text
    return [float(one["value"][1]) for one in response.json()["data"]["result"]]


def metrics_of(canary, window_s, without=()):
    """All metrics of the template `fbt`, arguments filled in, as Argo does."""
    documents = list(yaml.safe_load_all(TEMPLATES.read_text()))
    templates = {one["metadata"]["name"]: one["spec"] for one in documents}
    given = {one["name"]: one.get("value") for one in templates["fbt"]["args"]}
    given |= {"namespace": "fbt", "canary-hash": canary, "stable-hash": "stable", **PATIENT}
    names = [one["templateName"] for one in templates["fbt"]["templates"]]
    for name in set(names) - set(without):
        for metric in templates[name]["metrics"]:
            text = json.dumps(metric)
            for argument in templates[name]["args"]:
                text = text.replace(f"{{{{args.{argument['name']}}}}}", given[argument["name"]])
            assert "{{" not in text, "an argument that Argo would not know"
            # The minutes of a real canary are the seconds of this one.
            yield json.loads(re.sub(r"\[\d+m\]", f"[{window_s}s]", text))


def judged(metric, result):
    """What Argo makes of a measurement: neither success nor failure is inconclusive."""
    if holds(metric["failureCondition"], result):
        return "Failed"
    return "Successful" if holds(metric["successCondition"], result) else "Inconclusive"


def holds(condition, result):
    """The expression language of Argo's conditions, as far as they use it."""
    python = condition.replace("&&", " and ").replace("||", " or ").replace("!is", " not is")
    names = {"result": result, "len": len, "isNaN": math.isnan, "isInf": math.isinf}
    return eval(python, {"__builtins__": {}}, names)


def outcome(prometheus_url, canary, window_s, at=None, without=()):
    """(of the whole analysis, of every metric)."""
    each = {}
    for metric in metrics_of(canary, window_s, without):
        query = metric["provider"]["prometheus"]["query"]
        result = answer(prometheus_url, query, at)
        each[metric["name"]] = judged(metric, result)
    for worst in ("Failed", "Inconclusive"):
        if worst in each.values():
            return worst, each
    return "Successful", each


def failed(each):
    return {name for name, one in each.items() if one == "Failed"}
