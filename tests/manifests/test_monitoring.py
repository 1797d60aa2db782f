"""Alerts, dashboard and judgements: of series that exist, and saying what they are to say.

`promtool` (Debian's package `prometheus`) evaluates them on series with an obvious answer.
"""

import json
import re
import shutil
import subprocess

import httpx
import pytest
import yaml

from components.package.server import serve_bundle
from components.promoter.metrics import Metrics
from data_checks.drift import NUMBERS
from data_checks.expectations import load_suite
from data_checks.settings import CheckSettings
from tests.factories import make_bundle
from tests.manifests.conftest import K8S, of_kind, rendered

FROM_THE_EVENTS = {"fbt_impressions_total", "fbt_events_total"}
"""Settled names of series that come with the collection of events."""

FROM_PROMETHEUS = {"up"}

ALL = rendered("base+canary+monitoring")

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="no promtool; Debian's package prometheus brings it"
)


def alerts():
    (rules,) = of_kind(ALL, "PrometheusRule")
    return {rule["alert"]: rule for group in rules["spec"]["groups"] for rule in group["rules"]}


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
    """Names of all series that the service and the promoter export."""
    folder = tmp_path_factory.mktemp("served")
    database = {"FBT_DATABASE_URL": f"sqlite:///{folder / 'fbt.db'}"}
    with serve_bundle(make_bundle(folder / "bundle"), settings=database) as server:
        httpx.post(f"{server.url}/recommend", json={"items": ["tea"], "k": 1})
        text = httpx.get(f"{server.url}/metrics").text
    text += Metrics().render()[2].decode()
    return set(re.findall(r"^([a-z][a-z0-9_]*)", text, flags=re.MULTILINE)) | set(
        re.findall(r"^# TYPE (\S+)", text, flags=re.MULTILINE)
    )


def test_only_series_that_exist_are_asked_for(exported):
    asked = {name for rule in alerts().values() for name in series_of(rule["expr"])}
    asked |= {name for query in queries().values() for name in series_of(query)}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            asked |= series_of(target["expr"])
    assert asked - exported - FROM_THE_EVENTS - FROM_PROMETHEUS == set()


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
    (rules,) = of_kind(ALL, "PrometheusRule")
    firing = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": at,
        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected],
    }
    written = [{"series": name, "values": values} for name, values in series.items()]
    case = {"interval": "1m", "input_series": written, "promql_expr_test": [firing]}
    promtool(tmp_path, rules["spec"]["groups"], case)


REQUESTS = 'fbt_requests_total{{namespace="fbt",endpoint="{endpoint}",status="{code}"}}'
CHECK = 'fbt_newest_version_check_failed{{namespace="fbt",table="baskets",check="{check}"}}'
BUCKETS = (
    'bentoml_service_request_duration_seconds_bucket{{namespace="fbt",service_name="fbt",'
    'endpoint="/recommend",le="{le}"}}'
)
ANSWERS = 'fbt_recommend_requests_total{{namespace="fbt",source="{source}",model_version="3"}}'

WELL = {
    'up{job="fbt"}': "1x300",
    'up{job="fbt-promoter"}': "1x300",
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
    at = "2h" if alert in ("FbtModelStale", "FbtNoNewVersion") else "30m"
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
    template |= {"canary-hash": "new", "stable-hash": "old"}
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
        f'{name}{{{labels},rollouts_pod_template_hash="{pods}"}}': values
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


def shoppers(impressions, clicks):
    """Canary is version 4, stable 3; counts are a minute's."""
    made = {}
    for version, pod, shown, clicked in zip(
        (4, 3), ("new", "old"), impressions, clicks, strict=True
    ):
        labels = f'model_version="{version}"'
        made[f'{ANSWERED}{{{labels},rollouts_pod_template_hash="{pod}"}}'] = "0+9x60"
        # Reported to whichever pod is near: half of it to the stable ones.
        for near in ("new", "old"):
            near = f'rollouts_pod_template_hash="{near}",{labels}'
            made[f"fbt_impressions_total{{{near}}}"] = f"0+{shown / 2}x60"
            if clicked is not None:
                made[f'fbt_events_total{{event="click",{near}}}'] = f"0+{clicked / 2}x60"
    return made


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
        ("event-rate-against-stable", shoppers((1000, 9000), (20, 180)), 1),
        ("event-rate-against-stable", shoppers((1000, 9000), (5, 180)), 0.25),
        # Not one click of the canary was ever counted, so it has not even a series.
        ("event-rate-against-stable", shoppers((1000, 9000), (None, 180)), 0),
        # 30 minutes of 100 impressions make 60 clicks at stable's rate: too few.
        ("event-rate-against-stable", shoppers((100, 9000), (0, 180)), None),
        ("event-rate-against-stable", {}, None),
    ],
)
def test_what_a_query_says(tmp_path, metric, series, expected):
    judged(tmp_path, metric, series, expected)
