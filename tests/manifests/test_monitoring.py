"""Alerts, dashboard and judgements: of series that exist, and saying what they are to say.

`promtool` (Debian's package `prometheus`) evaluates them on series with an obvious answer.
"""

import contextlib
import json
import re
import shutil
import subprocess

import httpx
import pytest
import yaml

from components.events.open import open_sink
from components.online.exporter import Exporter, serve_metrics
from components.online.live_settings import LiveSettings
from components.package.server import serve_bundle
from components.promoter.metrics import Metrics
from data_checks.drift import NUMBERS
from data_checks.expectations import load_suite
from data_checks.settings import CheckSettings
from tests.factories import make_bundle
from tests.manifests.conftest import K8S, of_kind, rendered

FROM_PROMETHEUS = {"up"}

ALL = rendered("base+canary+events+monitoring+events/gateway+events/monitoring")

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="no promtool; Debian's package prometheus brings it"
)


def alerts():
    return {rule["alert"]: rule for group in groups() for rule in group["rules"]}


def groups():
    return [group for one in of_kind(ALL, "PrometheusRule") for group in one["spec"]["groups"]]


def dashboard():
    (found,) = [
        one for one in of_kind(ALL, "ConfigMap") if one["metadata"]["name"] == "fbt-dashboard"
    ]
    return json.loads(found["data"]["fbt.json"])


def queries():
    """{metric: query} of all AnalysisTemplates."""
    return {
        metric["name"]: metric["provider"]["prometheus"]["query"]
        for template in of_kind(ALL, "AnalysisTemplate")
        for metric in template["spec"].get("metrics", [])
    }


def series_of(expression):
    """Names of the series in a PromQL expression."""
    text = re.sub(r'"[^"]*"|{{[^}]*}}', "", expression)
    return set(re.findall(r"\b(?:fbt|bentoml)_[a-z0-9_]+|\bup\b", text))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Names of all series that service, promoter and exporter export."""
    folder = tmp_path_factory.mktemp("served")
    database = {"FBT_DATABASE_URL": f"sqlite:///{folder / 'fbt.db'}"}
    with serve_bundle(make_bundle(folder / "bundle"), settings=database) as server:
        httpx.post(f"{server.url}/recommend", json={"items": ["tea"], "k": 1})
        text = httpx.get(f"{server.url}/metrics").text
    text += Metrics().render()[2].decode() + export_nothing(folder)
    return set(re.findall(r"^([a-z][a-z0-9_]*)", text, flags=re.MULTILINE)) | set(
        re.findall(r"^# TYPE (\S+)", text, flags=re.MULTILINE)
    )


def export_nothing(folder):
    """Of an exporter that has read an empty sink."""
    with contextlib.closing(open_sink(f"sqlite:///{folder / 'empty.db'}")) as sink:
        exporter = Exporter(LiveSettings(), lambda: contextlib.closing(sink))
        exporter.read_all(sink)
    with serve_metrics(exporter, "127.0.0.1", 0) as port:
        return httpx.get(f"http://127.0.0.1:{port}/metrics").text


def test_only_series_that_exist_are_asked_for(exported):
    asked = {name for rule in alerts().values() for name in series_of(rule["expr"])}
    asked |= {name for query in queries().values() for name in series_of(query)}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            asked |= series_of(target["expr"])
    assert asked - exported - FROM_PROMETHEUS == set()


def test_every_alert_links_to_its_section_of_the_runbook_and_no_section_is_without_alert():
    text = (K8S / "RUNBOOK.md").read_text()
    assert sorted(re.findall(r"^## (\w+)$", text, flags=re.MULTILINE)) == sorted(alerts())
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"k8s/RUNBOOK.md#{name.lower()}"


def test_drift_is_what_compares_two_profiles():
    (about,) = re.findall(r'check=~"([^"]*)"', alerts()["FbtDrift"]["expr"])
    assert f'check!~"{about}"' in alerts()["FbtDataChecks"]["expr"]
    suite = load_suite(CheckSettings(), "order_lines", "baskets", "both_tables")
    names = {check.name for check in suite}
    assert {name for name in names if re.fullmatch(about, name)} == names & set(NUMBERS)


def test_panels_do_not_overlap_and_have_ids_of_their_own():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & covered, panel["title"]
        covered |= cells


# ---------------------------------------------------------------- what alerts say


def promtool(tmp_path, groups, case):
    """Run promtool's unit test of rules; `case` is one of its tests."""
    rules, test = tmp_path / "rules.yaml", tmp_path / "test.yaml"
    rules.write_text(yaml.safe_dump({"groups": groups}))
    test.write_text(yaml.safe_dump({"rule_files": [rules.name], "tests": [case]}))
    done = subprocess.run(
        ["promtool", "test", "rules", test.name], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def assert_firing(tmp_path, series, expected, at):
    """These alerts fire on these series, which are `{series: values}`, and no other."""
    firing = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": at,
        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected],
    }
    written = [{"series": name, "values": values} for name, values in series.items()]
    case = {"interval": "1m", "input_series": written, "promql_expr_test": [firing]}
    promtool(tmp_path, groups(), case)


REQUESTS = 'fbt_requests_total{{namespace="fbt",endpoint="{endpoint}",status="{code}"}}'
CHECK = 'fbt_newest_version_check_failed{{namespace="fbt",table="baskets",check="{check}"}}'
BUCKETS = (
    'bentoml_service_request_duration_seconds_bucket{{namespace="fbt",service_name="fbt",'
    'endpoint="/recommend",le="{le}"}}'
)
ANSWERS = 'fbt_recommend_requests_total{{namespace="fbt",source="{source}",model_version="3"}}'
RECEIVED = 'fbt_events_received_total{{namespace="fbt",event="select_item",outcome="{outcome}"}}'
IMPRESSIONS = 'fbt_impressions_total{{namespace="fbt",model_version="{version}"}}'

WELL = {
    'up{job="fbt"}': "1x300",
    'up{job="fbt-promoter"}': "1x300",
    'up{job="fbt-ingest"}': "1x300",
    REQUESTS.format(endpoint="/events", code=202): "0+60x300",
    RECEIVED.format(outcome="stored"): "0+600x300",
    IMPRESSIONS.format(version="3"): "0+300x300",
    'fbt_online_behind_seconds{namespace="fbt"}': "4x300",
    REQUESTS.format(endpoint="/recommend", code=200): "0+600x300",
    REQUESTS.format(endpoint="/recommend", code=500): "0x300",
    REQUESTS.format(endpoint="/rules/{rule_id}", code=200): "0+1x300",
    REQUESTS.format(endpoint="/rules/{rule_id}", code=503): "0x300",
    'fbt_shed_total{namespace="fbt",reason="lag"}': "0x300",
    'fbt_database_stale_seconds{namespace="fbt"}': "0x300",
    CHECK.format(check="drift_sizes"): "0x300",
    CHECK.format(check="named_share"): "0x300",
    'fbt_newest_version_created_timestamp_seconds{namespace="fbt"}': "1x300",
    'fbt_promoter_leader{namespace="fbt"}': "1x300",
    BUCKETS.format(le="0.01"): "0+600x300",
    BUCKETS.format(le="0.5"): "0+600x300",
    BUCKETS.format(le="+Inf"): "0+600x300",
    ANSWERS.format(source="model"): "0+570x300",
    ANSWERS.format(source="bestsellers"): "0+30x300",
    'fbt_bundle_created_timestamp_seconds{namespace="fbt",model_version="3"}': "0x300",
    'fbt_promoter_phase{namespace="fbt",phase="paused"}': "0x300",
    'fbt_promoter_phase{namespace="fbt",phase="failed"}': "0x300",
    'fbt_promoter_last_reconcile_timestamp_seconds{namespace="fbt"}': "0+60x300",
}


@needs_promtool
@pytest.mark.parametrize(
    ("alert", "changed"),
    [
        (None, {}),
        ("FbtDown", {'up{job="fbt"}': "0x300"}),
        ("FbtErrors", {REQUESTS.format(endpoint="/recommend", code=500): "0+30x300"}),
        ("FbtErrors", {REQUESTS.format(endpoint="/similar", code=500): "0+30x300"}),
        ("FbtShed", {'fbt_shed_total{namespace="fbt",reason="lag"}': "0+30x300"}),
        ("FbtIngestDown", {'up{job="fbt-ingest"}': "0x300"}),
        ("FbtEventsFail", {REQUESTS.format(endpoint="/events", code=503): "0+5x300"}),
        ("FbtEventsFail", {REQUESTS.format(endpoint="/events", code=429): "0+5x300"}),
        ("FbtEventsRefused", {RECEIVED.format(outcome="refused"): "0+60x300"}),
        ("FbtEventsRefused", {RECEIVED.format(outcome="conflict"): "0+60x300"}),
        ("FbtLogDropped", {'fbt_log_dropped_total{namespace="fbt"}': "0+1x300"}),
        ("FbtOnlineBehind", {'fbt_online_behind_seconds{namespace="fbt"}': "0+60x300"}),
        ("FbtNoImpressions", {IMPRESSIONS.format(version="3"): "500x300"}),
        (
            "FbtNoImpressions",
            {
                IMPRESSIONS.format(version="3"): "500x300",
                IMPRESSIONS.format(version="unknown"): "0+300x300",
            },
        ),
        ("FbtDatabaseStale", {'fbt_database_stale_seconds{namespace="fbt"}': "0+60x300"}),
        ("FbtChangesFail", {REQUESTS.format(endpoint="/rules/{rule_id}", code=503): "0+1x300"}),
        ("FbtDrift", {CHECK.format(check="drift_sizes"): "1x300"}),
        ("FbtDataChecks", {CHECK.format(check="named_share"): "1x300"}),
        # What a promoter saw that acts no longer.
        (
            None,
            {
                CHECK.format(check="drift_sizes"): "1x300",
                'fbt_promoter_phase{namespace="fbt",phase="paused"}': "1x300",
                'fbt_promoter_leader{namespace="fbt"}': "0x300",
            },
        ),
        (
            "FbtNoNewVersion",
            # promtool's clock begins in 1970: eight days before.
            {
                'fbt_newest_version_created_timestamp_seconds{namespace="fbt"}': (
                    f"{-8 * 24 * 3600}x300"
                )
            },
        ),
        ("FbtSlow", {BUCKETS.format(le="0.01"): "0+300x300"}),
        ("FbtFallbacks", {ANSWERS.format(source="bestsellers"): "0+300x300"}),
        ("FbtCanaryPaused", {'fbt_promoter_phase{namespace="fbt",phase="paused"}': "1x300"}),
        ("FbtRolloutFailed", {'fbt_promoter_phase{namespace="fbt",phase="failed"}': "1x300"}),
        ("FbtRolloutFailed", {'fbt_promoter_phase{namespace="fbt",phase="aborted"}': "1x300"}),
        (
            "FbtPromoterBlind",
            {'fbt_promoter_last_reconcile_timestamp_seconds{namespace="fbt"}': "0x300"},
        ),
        ("FbtPromoterDown", {'up{job="fbt-promoter"}': "0x300"}),
        (
            "FbtModelStale",
            # promtool's clock begins in 1970: a model of three weeks before.
            {
                'fbt_bundle_created_timestamp_seconds{namespace="fbt",model_version="3"}': (
                    f"{-21 * 24 * 3600}x300"
                )
            },
        ),
    ],
)
def test_an_alert_fires_for_what_it_is_named_after_and_for_nothing_else(tmp_path, alert, changed):
    slow = ("FbtModelStale", "FbtNoNewVersion", "FbtNoImpressions", "FbtEventsRefused")
    at = "2h" if alert in slow else "30m"
    assert_firing(tmp_path, {**WELL, **changed}, [alert] if alert else [], at)


# ---------------------------------------------------------------- what a canary has to show


def judged(tmp_path, metric, series, expected):
    """Assert the value of a metric's query after 40 minutes; None is no result at all."""
    template = {
        name: value
        for one in of_kind(ALL, "AnalysisTemplate")
        for name, value in ((a["name"], a.get("value")) for a in one["spec"]["args"])
        if value
    }
    template |= {"namespace": "fbt", "canary-hash": "new", "stable-hash": "old"}
    query = queries()[metric]
    for name, value in template.items():
        query = query.replace(f"{{{{args.{name}}}}}", value)
    samples = [] if expected is None else [{"labels": "", "value": expected}]
    promtool(
        tmp_path,
        [],
        {
            "interval": "1m",
            "input_series": [{"series": k, "values": v} for k, v in series.items()],
            "promql_expr_test": [
                {"expr": f"round({query}, 0.01)", "eval_time": "40m", "exp_samples": samples}
            ],
        },
    )


def pods(name, labels, canary, stable):
    """A series of the canary's pods and one of the stable ones."""
    return {
        f'{name}{{{labels},namespace="fbt",rollouts_pod_template_hash="{pods}"}}': values
        for pods, values in (("new", canary), ("old", stable))
    }


ROUTE = 'endpoint="/recommend"'
TOTAL = "bentoml_service_request_total"
BUCKET, COUNT = (f"bentoml_service_request_duration_seconds_{one}" for one in ("bucket", "count"))
ANSWERED = "fbt_recommend_requests_total"


BOTH_SLOW = {
    **pods(COUNT, ROUTE, "0+60x60", "0+600x60"),
    **pods(BUCKET, f'{ROUTE},le="0.1"', "0x60", "0x60"),
    **pods(BUCKET, f'{ROUTE},le="0.2"', "0+60x60", "0+600x60"),
    **pods(BUCKET, f'{ROUTE},le="+Inf"', "0+60x60", "0+600x60"),
}


def shoppers(lower, upper, canary="4"):
    """Stable is version 3; bounds are of clicks, and of several pairs."""
    made = {}
    for version, pod in ((canary, "new"), ("3", "old")):
        labels = f'namespace="fbt",model_version="{version}",rollouts_pod_template_hash="{pod}"'
        made[f"{ANSWERED}{{{labels}}}"] = "0+9x60"
    for bound, value in (("lower", lower), ("upper", upper)):
        if value is not None:
            for labels, other in (
                ('event="select_item",model_version="4",against="3"', value),
                ('event="select_item",model_version="3",against="4"', 9),
                ('event="select_item",model_version="4",against="2"', 9),
                ('event="purchase",model_version="4",against="3"', 9),
                ('event="select_item",model_version="4",variant="a",against="3"', 9),
            ):
                series = f'fbt_online_lift_{bound}{{namespace="fbt",{labels}}}'
                made[series] = f"{other}x60"
    return made


@needs_promtool
def test_pods_of_another_namespace_are_not_judged(tmp_path):
    ours = pods(TOTAL, f'{ROUTE},http_response_code="200"', "0+60x60", "0x60")
    theirs = pods(TOTAL, f'{ROUTE},http_response_code="503"', "0+600x60", "0x60")
    theirs = {name.replace('namespace="fbt"', 'namespace="other"'): x for name, x in theirs.items()}
    judged(tmp_path, "success-rate", {**ours, **theirs}, 1)


def test_the_operators_own_labels_hide_none_of_the_metrics():
    """It names the port in `endpoint`, and Prometheus then renames a metric's own label."""
    monitors = {one["metadata"]["name"]: one["spec"] for one in of_kind(ALL, "ServiceMonitor")}
    for name in ("fbt", "fbt-ingest"):
        for endpoint in monitors[name]["endpoints"]:
            assert {"action": "labeldrop", "regex": "endpoint"} in endpoint["relabelings"]


@needs_promtool
@pytest.mark.parametrize(
    ("metric", "series", "expected"),
    [
        ("success-rate", pods(TOTAL, f'{ROUTE},http_response_code="200"', "0+60x60", "0x60"), 1),
        (
            "success-rate",
            {
                **pods(TOTAL, f'{ROUTE},http_response_code="200"', "0+45x60", "0x60"),
                **pods(TOTAL, f'{ROUTE},http_response_code="503"', "0+15x60", "0x60"),
            },
            0.75,
        ),
        ("success-rate", pods(TOTAL, f'{ROUTE},http_response_code="200"', "0+6x60", "0x60"), None),
        ("success-rate", {}, None),
        (
            # All of the canary's in 100 to 200 ms, all of stable's below 10: 199 against 9.9, which
            # counts as 10.
            "latency-p99-against-stable",
            {
                **pods(COUNT, ROUTE, "0+60x60", "0+600x60"),
                **pods(BUCKET, f'{ROUTE},le="0.01"', "0x60", "0+600x60"),
                **pods(BUCKET, f'{ROUTE},le="0.1"', "0x60", "0+600x60"),
                **pods(BUCKET, f'{ROUTE},le="0.2"', "0+60x60", "0+600x60"),
                **pods(BUCKET, f'{ROUTE},le="+Inf"', "0+60x60", "0+600x60"),
            },
            19.9,
        ),
        (
            "latency-p99-against-stable",
            {
                **pods(COUNT, ROUTE, "0+60x60", "0x60"),
                **pods(BUCKET, f'{ROUTE},le="0.1"', "0+60x60", "0x60"),
                **pods(BUCKET, f'{ROUTE},le="+Inf"', "0+60x60", "0x60"),
            },
            None,
        ),
        # Both take 100 to 200 ms: no slower than stable, and too slow.
        ("latency-p99-against-stable", BOTH_SLOW, 1),
        ("latency-p99", BOTH_SLOW, 0.2),
        ("latency-p99", dict.fromkeys(BOTH_SLOW, "0+6x60"), None),
        ("latency-p99", {}, None),
        (
            "fallback-share-against-stable",
            {
                **pods(ANSWERED, 'source="model"', "0+30x60", "0+90x60"),
                **pods(ANSWERED, 'source="bestsellers"', "0+30x60", "0+10x60"),
            },
            0.4,
        ),
        (
            "fallback-share-against-stable",
            {
                **pods(ANSWERED, 'source="model"', "0+90x60", "0+90x60"),
                **pods(ANSWERED, 'source="bestsellers"', "0+10x60", "0+10x60"),
            },
            0,
        ),
        ("event-lift", shoppers(-0.2, 0.1), 0.1),
        ("event-lift", shoppers(-0.6, -0.3), -0.3),
        ("event-lift", shoppers(-0.9, 0.8), 0.8),
        ("event-lift", shoppers(None, None), None),
        ("event-lift", {}, None),
        # The same version with other settings of its pods.
        ("event-lift", shoppers(None, None, canary="3"), 0),
        ("event-lift-at-the-end", shoppers(-0.2, 0.1), 0.1),
        ("event-lift-at-the-end", shoppers(-0.4, -0.3), -0.3),
        # What may be a loss of more than half is not known well enough.
        ("event-lift-at-the-end", shoppers(-0.6, 0.8), None),
        ("event-lift-at-the-end", shoppers(None, None), None),
        ("event-lift-at-the-end", {}, None),
        ("event-lift-at-the-end", shoppers(None, None, canary="3"), 0),
    ],
)
def test_what_a_query_says(tmp_path, metric, series, expected):
    judged(tmp_path, metric, series, expected)
