"""What schemas cannot see: names that must meet, and the house's rules for pods and rights."""

import itertools
import re
import shlex
import subprocess
import tomllib

import pytest
from mlflow.environment_variables import (
    _MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS,
    _MLFLOW_WEBHOOK_ALLOWED_SCHEMES,
    MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY,
)

from bento.endpoints import ROUTES
from bento.settings import variable_name
from bento.store.store import Store
from bento.workbench.probe import PROBE
from bento.workbench.settings import WorkbenchSettings
from components.model.bundle import compute_sha256
from components.package.server import GRACE_S
from components.promoter.settings import Settings as PromoterSettings
from components.signing.keys import (
    SIGNING_KEY,
    VERIFY_KEYS,
    compute_fingerprint,
    read_signing_key,
    read_verify_keys,
)
from pipelines.cluster import BY_HAND, OF_COMPONENTS
from pipelines.cluster import list_secrets as secrets_made
from tests.manifests.conftest import (
    K8S,
    OVERLAYS,
    ROOT,
    SIGNED,
    WORKBENCH,
    combine,
    containers_of,
    find,
    labels_of,
    name_of,
    of_kind,
    pod_of,
    rendered,
    selected,
    workloads,
)
from tests.postgres import postgres

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def namespace_of(one):
    return one["metadata"].get("namespace")


def pod_labels(workload):
    return labels_of(workload).items()


# ---------------------------------------------------------------- names that must meet


def test_every_selector_finds_pods(objects):
    for one in workloads(objects):
        if one["kind"] != "CronJob":
            assert one["spec"]["selector"]["matchLabels"].items() <= pod_labels(one), name_of(one)
        for spread in pod_of(one).get("topologySpreadConstraints", []):
            assert spread["labelSelector"]["matchLabels"].items() <= pod_labels(one), name_of(one)
    for one in of_kind(objects, "Service"):
        assert selected(objects, one["spec"]["selector"], namespace_of(one)), name_of(one)
    for one in of_kind(objects, "PodDisruptionBudget"):
        labels = one["spec"]["selector"]["matchLabels"]
        assert selected(objects, labels, namespace_of(one)), name_of(one)
    for one in of_kind(objects, "NetworkPolicy"):
        labels = one["spec"]["podSelector"].get("matchLabels", {})
        assert selected(objects, labels, namespace_of(one)), name_of(one)
    for one in of_kind(objects, "ServiceMonitor"):
        wanted = one["spec"]["selector"]["matchLabels"].items()
        services = of_kind(objects, "Service")
        found = [s for s in services if wanted <= s["metadata"].get("labels", {}).items()]
        assert len(found) == 1, f"{name_of(one)} would scrape pods {len(found)} times"


def test_the_workbench_is_added_as_the_readme_says():
    recipe = find_recipe("workbench")
    found = combine(["overlays/local"], recipe)
    (settings,) = (one for one in of_kind(found, "ConfigMap") if "FBT_WORKBENCH_URL" in one["data"])
    assert settings["data"]["FBT_WORKBENCH_URL"] == "https://workbench.shop.example"
    assert find(found, "HTTPRoute", "fbt-workbench")["spec"]["hostnames"] == [
        "workbench.shop.example"
    ]
    references = containers_of(find(found, "Deployment", "fbt-workbench"))[0]["envFrom"]
    assert references == [{"configMapRef": {"name": settings["metadata"]["name"]}}]


def test_bundles_come_as_images_as_the_readme_says():
    found = combine(["overlays/staging"], find_recipe("bundle-image"))
    deployment = find(found, "Deployment", "fbt")
    assert deployment["metadata"]["annotations"] == {
        "fbt/bundle-image": "registry.example.com/fbt/fbt-bundle"
    }
    volumes = {one["name"]: one for one in pod_of(deployment)["volumes"]}
    assert volumes["bundle"] == {"name": "bundle", "image": {"pullPolicy": "IfNotPresent"}}
    for container in containers_of(deployment):
        (mount,) = [one for one in container["volumeMounts"] if one["name"] == "bundle"]
        assert mount["readOnly"], container["name"]


def find_recipe(component):
    """What k8s/README.md has an overlay add."""
    blocks = re.findall(r"```yaml\n(components:\n.*?)```", (K8S / "README.md").read_text(), re.S)
    (recipe,) = [
        one for one in blocks if f"- ../../components/{component} " in one.replace("\n", " ")
    ]
    return recipe


def test_no_pod_is_killed_for_a_slow_start(objects):
    """Two minutes at least: on a busy node Python alone takes half a minute to import."""
    for one in workloads(objects):
        for container in containers_of(one):
            if "livenessProbe" in container:
                probe = container.get("startupProbe", {})
                allowed_s = probe.get("failureThreshold", 0) * probe.get("periodSeconds", 0)
                assert allowed_s >= 120, f"{name_of(one)}: {allowed_s} s"


def test_every_port_is_open(objects):
    for one in workloads(objects):
        for container in containers_of(one):
            names = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                for how in ("httpGet", "tcpSocket"):
                    port = container.get(probe, {}).get(how, {}).get("port")
                    assert port is None or port in names, f"{name_of(one)}: {probe}"
    for service in of_kind(objects, "Service"):
        for workload in selected(objects, service["spec"]["selector"], namespace_of(service)):
            wanted = {port["targetPort"] for port in service["spec"]["ports"]}
            assert wanted <= open_ports(workload), name_of(service)
    for policy in of_kind(objects, "NetworkPolicy"):
        labels = policy["spec"]["podSelector"].get("matchLabels", {})
        for rule in policy["spec"].get("ingress", []):
            for port in (p["port"] for p in rule["ports"] if isinstance(p["port"], str)):
                for workload in selected(objects, labels, namespace_of(policy)):
                    assert port in open_ports(workload), name_of(policy)
    for monitor in of_kind(objects, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        for service in of_kind(objects, "Service"):
            if wanted <= service["metadata"].get("labels", {}).items():
                ports = {port["name"] for port in service["spec"]["ports"]}
                assert {end["port"] for end in monitor["spec"]["endpoints"]} <= ports


def open_ports(workload):
    return {port["name"] for one in containers_of(workload) for port in one.get("ports", [])}


def test_everything_that_is_named_exists(objects):
    for one in workloads(objects):
        pod = pod_of(one)
        assert find(objects, "ServiceAccount", pod["serviceAccountName"]), name_of(one)
        for name in config_maps_of(pod):
            assert find(objects, "ConfigMap", name), f"{name_of(one)}: ConfigMap {name}"
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        volumes |= {v["metadata"]["name"] for v in one["spec"].get("volumeClaimTemplates", [])}
        for container in containers_of(one):
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounts <= volumes, f"{name_of(one)}: {mounts - volumes}"
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert find(objects, target["kind"], target["name"]), name_of(scaler)
    for binding in of_kind(objects, "RoleBinding"):
        assert find(objects, "Role", binding["roleRef"]["name"]), name_of(binding)
        for subject in binding["subjects"]:
            ours = subject["name"].startswith("fbt")
            assert not ours or find(objects, "ServiceAccount", subject["name"]), name_of(binding)
    for route in of_kind(objects, "HTTPRoute"):
        for backend in itertools.chain(*(rule["backendRefs"] for rule in route["spec"]["rules"])):
            service = find(objects, "Service", backend["name"])
            assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}


def config_maps_of(pod):
    for container in pod.get("initContainers", []) + pod["containers"]:
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                yield source["configMapRef"]["name"]
    for volume in pod.get("volumes", []):
        if "configMap" in volume:
            yield volume["configMap"]["name"]


def test_a_rollout_finds_its_pods_its_services_and_its_judges(objects):
    for rollout in of_kind(objects, "Rollout"):
        assert "template" not in rollout["spec"]
        assert "replicas" not in rollout["spec"], "they belong to the autoscaler"
        deployment = find(objects, "Deployment", rollout["spec"]["workloadRef"]["name"])
        assert "replicas" not in deployment["spec"], "two would own them"
        assert rollout["spec"]["selector"] == deployment["spec"]["selector"]
        canary = rollout["spec"]["strategy"]["canary"]
        for service in (canary["stableService"], canary["canaryService"]):
            assert find(objects, "Service", service), service
        for step in (one["analysis"] for one in canary["steps"] if "analysis" in one):
            given = {arg["name"] for arg in step["args"]}
            for template in step["templates"]:
                assert_arguments_meet(objects, template["templateName"], given)
        plugin = canary.get("trafficRouting", {}).get("plugins", {}).get("argoproj-labs/gatewayAPI")
        if plugin:
            route = find(objects, "HTTPRoute", plugin["httpRoute"])
            assert plugin["namespace"] == namespace_of(route) == namespace_of(rollout)


def assert_arguments_meet(objects, name, given):
    """Every template of the tree exists; what it needs is given, and what it uses is declared."""
    template = find(objects, "AnalysisTemplate", name)
    assert template, f"no AnalysisTemplate {name}"
    declared = {arg["name"]: arg.get("value") for arg in template["spec"]["args"]}
    needed = {arg for arg, value in declared.items() if value is None}
    assert needed <= given, f"{name}: nobody gives {needed - given}"
    used = set(re.findall(r"{{args\.([a-z-]+)}}", str(template["spec"].get("metrics", ""))))
    assert used <= set(declared), f"{name}: {used - set(declared)} are not declared"
    for one in template["spec"].get("templates", []):
        assert_arguments_meet(objects, one["templateName"], given | set(declared))


def test_the_public_route_has_what_shoppers_need_and_nothing_that_changes_anything(objects):
    route = find(objects, "HTTPRoute", "fbt")
    if route:
        matches = [match for rule in route["spec"]["rules"] for match in rule["matches"]]
        assert {match["path"]["type"] for match in matches} == {"PathPrefix"}
        public = [match["path"]["value"] for match in matches]
        # Events go to pods of their own.
        for one in (one for one in ROUTES if not one.pattern.startswith("/events")):
            # Whole parts of a path, as the Gateway API has it.
            is_public = any(f"{one.pattern}/".startswith(f"{prefix}/") for prefix in public)
            assert is_public is not (one.protected or one.always), one.pattern


def test_browsers_send_events_and_do_nothing_else(objects):
    route = find(objects, "HTTPRoute", "fbt-events")
    if route:
        (rule,) = route["spec"]["rules"]
        exact = {"type": "Exact", "value": "/events"}
        assert rule["matches"] == [
            {"path": exact, "method": "POST"},
            {"path": exact, "method": "OPTIONS"},
        ]
        assert [one["name"] for one in rule["backendRefs"]] == ["fbt-ingest"]


def test_events_and_the_log_go_to_one_sink_or_nowhere(objects):
    takers = [one for one in workloads(objects) if "ingest" in one["metadata"]["name"]]
    settings = [one["data"] for one in of_kind(objects, "ConfigMap") if is_settings(one)]
    assert all(one["FBT_EVENTS_URL"] == "off" for one in settings)
    names = ("fbt", "fbt-ingest", "fbt-online", "fbt-events-compact", "fbt-events-retention")
    sinks = [
        variable["valueFrom"]["secretKeyRef"]
        for one in workloads(objects)
        if one["metadata"]["name"] in names
        for container in containers_of(one, init=False)
        for variable in container.get("env", [])
        if variable["name"] == "FBT_EVENTS_URL"
    ]
    assert len(sinks) == (len(names) if takers else 0)
    assert all(one == sinks[0] for one in sinks)


def is_settings(one):
    return one["metadata"]["name"].startswith("fbt-settings")


def test_traffic_moves_from_5_to_100_per_cent_with_a_judgement_after_each_step(objects):
    for rollout in of_kind(objects, "Rollout"):
        steps = rollout["spec"]["strategy"]["canary"]["steps"]
        assert [step.get("setWeight", "judge") for step in steps] == [
            *(5, "judge", 25, "judge", 50, "judge"),
            100,
        ]


@pytest.mark.parametrize("overlay", [one for one in OVERLAYS if "platform" not in one])
def test_no_canary_is_judged_by_events_that_nothing_reports(overlay):
    """Every judgement would be inconclusive, and every step would wait for a person."""
    reported = find(rendered(overlay), "ServiceMonitor", "fbt-online")
    for template in of_kind(rendered(overlay), "AnalysisTemplate"):
        used = [one["templateName"] for one in template["spec"].get("templates", [])]
        assert "fbt-online" not in used or reported, name_of(template)


def test_production_is_judged_by_what_shoppers_do():
    template = find(rendered("overlays/production"), "AnalysisTemplate", "fbt")
    assert "fbt-online" in [one["templateName"] for one in template["spec"]["templates"]]


def test_a_judge_never_passes_on_nothing(objects):
    for template in of_kind(objects, "AnalysisTemplate"):
        metrics = template["spec"].get("metrics", [])
        assert not metrics or any(metric["inconclusiveLimit"] == 0 for metric in metrics)
        for metric in metrics:
            # The bounds come in the course of a step; another metric demands them at its end.
            limit = metric["count"] if metric["name"] == "event-lift" else 0
            assert metric["inconclusiveLimit"] == limit, metric["name"]
            for condition in (metric["successCondition"], metric["failureCondition"]):
                for guard in ("len(result) > 0 &&", "!isNaN(result[0])", "!isInf(result[0])"):
                    assert guard in condition, f"{metric['name']}: {condition}"


def test_a_query_stands_in_one_place():
    queries = re.findall(
        r"query: \|\n((?: {12,}.*\n)+)", "".join(f.read_text() for f in K8S.rglob("*.yaml"))
    )
    assert len(queries) == len(set(queries)) == 6


def test_mlflow_is_told_where_the_promoter_listens_and_may_go_there(objects):
    promoter, mlflow = (find(objects, "Deployment", name) for name in ("fbt-promoter", "mlflow"))
    if promoter:
        (container,) = containers_of(promoter)
        names = [one["name"] for one in container["env"]]
        assert names.index("FBT_NAMESPACE") < names.index("FBT_WEBHOOK_URL"), "it is expanded"
        url = container["env"][names.index("FBT_WEBHOOK_URL")]["value"]
        assert url == "http://fbt-promoter.$(FBT_NAMESPACE).svc/webhook"
        service = find(objects, "Service", "fbt-promoter")
        assert selected(objects, service["spec"]["selector"], namespace_of(service)) == [promoter]
        assert [port["port"] for port in service["spec"]["ports"]] == [80]
    if mlflow:
        (container,) = containers_of(mlflow, init=False)
        values = {one["name"]: one.get("value") for one in container["env"]}
        assert values[_MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS.name] == "true"
        assert "http" in values[_MLFLOW_WEBHOOK_ALLOWED_SCHEMES.name].split(",")
        assert MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY.name in values


# ---------------------------------------------------------------- pods


ALLOWED_VOLUMES = {
    "configMap", "secret", "emptyDir", "projected", "persistentVolumeClaim", "image",
}  # fmt: skip


def test_pods_are_restricted_as_the_pod_security_standard_says(objects):
    for one in workloads(objects):
        pod = pod_of(one)
        assert pod["securityContext"]["runAsNonRoot"] is True, name_of(one)
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        kinds = {kind for v in pod.get("volumes", []) for kind in v if kind != "name"}
        assert kinds <= ALLOWED_VOLUMES
        for container in containers_of(one):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True


def test_namespaces_of_ours_enforce_it(objects):
    for one in of_kind(objects, "Namespace"):
        assert one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_containers_say_what_they_need_and_how_they_are(objects):
    for one in workloads(objects):
        for container in containers_of(one):
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= set(container["resources"][kind]), name_of(one)
        for container in containers_of(one, init=False):
            probed = {"readinessProbe", "livenessProbe"} <= set(container)
            assert probed is (one["kind"] != "CronJob"), name_of(one)


def test_scratch_space_is_limited(objects):
    for one in workloads(objects):
        for volume in pod_of(one).get("volumes", []):
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"], name_of(one)


def test_images_are_pinned(objects):
    for one in workloads(objects):
        for image in (container["image"] for container in containers_of(one)):
            name, _, tag = image.rpartition(":")
            assert re.search(r"\d", tag), image
            assert tag != "latest"
            if "fbt-" in name:
                assert tag == VERSION, f"{image}: this is version {VERSION}"


def test_no_drain_is_blocked(objects):
    for one in of_kind(objects, "PodDisruptionBudget"):
        # A minAvailable would have to be compared with replicas that autoscalers change.
        assert one["spec"]["maxUnavailable"] >= 1
        assert "minAvailable" not in one["spec"]


def test_several_pods_are_spread(objects):
    for one in of_kind(objects, "Deployment"):
        if find(objects, "PodDisruptionBudget", one["metadata"]["name"]):
            keys = {c["topologyKey"] for c in pod_of(one)["topologySpreadConstraints"]}
            assert "kubernetes.io/hostname" in keys, name_of(one)


def test_a_pod_that_ends_has_time_for_it(objects):
    for one in workloads(objects):
        pod = pod_of(one)
        for container in pod["containers"]:
            sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
            total = sleep.get("seconds", 0) + GRACE_S
            assert pod.get("terminationGracePeriodSeconds", 30) > total, name_of(one)


def test_the_service_waits_before_it_ends(objects):
    deployment = find(objects, "Deployment", "fbt")
    if deployment:
        (container,) = pod_of(deployment)["containers"]
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] >= 5


# ---------------------------------------------------------------- rights and secrets


def test_rights_name_what_they_are_for(objects):
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")
    for role in of_kind(objects, "Role"):
        for rule in role["rules"]:
            for words in (rule["apiGroups"], rule["resources"], rule["verbs"]):
                assert "*" not in words, name_of(role)
            assert "secrets" not in rule["resources"], name_of(role)


def test_the_promoter_may_do_its_work_by_the_names_it_knows(objects):
    role, known = find(objects, "Role", "fbt-promoter"), PromoterSettings(identity="any")
    if role is None:
        return
    named = {
        resource: rule["resourceNames"]
        for rule in role["rules"]
        for resource in rule["resources"]
        if "resourceNames" in rule
    }
    assert named == {
        "deployments": [known.deployment],
        "rollouts": [known.rollout],
        "rollouts/status": [known.rollout],
        "rollouts/scale": [known.rollout],
        "leases": [known.lease],
    }


def test_the_promoter_creates_and_changes_no_more_than_it_has_to(objects):
    role = find(objects, "Role", "fbt-promoter")
    writes = {
        (resource, verb)
        for rule in (role["rules"] if role else [])
        for resource in rule["resources"]
        for verb in set(rule["verbs"]) - {"get", "list", "watch"}
    }
    assert not role or writes == {
        ("deployments", "patch"),
        ("rollouts/status", "patch"),
        ("rollouts/scale", "patch"),
        ("leases", "create"),
        ("leases", "update"),
        ("leases", "patch"),
        ("events", "create"),
        ("events", "patch"),
    }


def test_only_who_talks_to_the_cluster_has_a_token(objects):
    for one in workloads(objects):
        if one["metadata"]["name"] != "fbt-promoter":
            assert pod_of(one)["automountServiceAccountToken"] is False, name_of(one)


def test_no_secret_is_written_down(objects):
    assert not of_kind(objects, "Secret")
    for one in workloads(objects):
        for container in containers_of(one):
            for variable in container.get("env", []):
                secret = re.search(
                    "SECRET|PASSWORD|TOKEN|KEY|STORE_URI|DATABASE_URL|EVENTS_URL", variable["name"]
                )
                # Where a secret lies is none.
                secret = secret and not variable["name"].endswith("_FILE")
                assert not (secret and "value" in variable), f"{name_of(one)}: {variable['name']}"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_secret_that_an_overlay_wants_is_in_the_readme(overlay):
    text = (K8S / "README.md").read_text()
    for one in workloads(rendered(overlay)):
        for name in list_secrets(pod_of(one)):
            assert f"`{name}`" in text, name


def list_secrets(pod):
    for container in pod.get("initContainers", []) + pod["containers"]:
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield variable["valueFrom"]["secretKeyRef"]["name"]
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                yield source["secretRef"]["name"]
    for volume in pod.get("volumes", []):
        if "secret" in volume:
            yield volume["secret"]["secretName"]


def test_what_the_secrets_of_an_overlay_are_is_known_to_the_command(objects):
    """Whatever a workload needs, `fbt cluster up` makes, or says that it is made by hand."""
    known = {*secrets_made("local"), *BY_HAND, *OF_COMPONENTS}
    known.add(("fbt-platform", "fbt-object-store-config"))
    for one in workloads(objects):
        for name in list_secrets(pod_of(one)):
            assert (namespace_of(one), name) in known, name_of(one)


def test_the_pod_knows_how_large_a_bundle_may_be(objects):
    if deployment := find(objects, "Deployment", "fbt"):
        pod = pod_of(deployment)
        (fetch,) = pod["initContainers"]
        (limit,) = [one["value"] for one in fetch["env"] if one["name"] == "FBT_BUNDLE_LIMIT"]
        (volume,) = [one for one in pod["volumes"] if one["name"] == "bundle"]
        # An image is mounted as it is: nothing is fetched into it.
        assert "image" in volume or limit == volume["emptyDir"]["sizeLimit"]


# ---------------------------------------------------------------- rules and catalogue changes


def test_pods_share_a_database_or_have_none(objects):
    deployment = find(objects, "Deployment", "fbt")
    if deployment is None:
        return
    (service,) = pod_of(deployment)["containers"]
    variables = {one["name"]: one for one in service["env"]}
    (settings,) = [one["configMapRef"]["name"] for one in service["envFrom"]]
    assert find(objects, "ConfigMap", settings)["data"]["FBT_DATABASE_URL"] == "off"
    mounts = {mount["mountPath"] for mount in service["volumeMounts"] if mount.get("readOnly")}
    if "FBT_DATABASE_URL" in variables:
        assert variables["FBT_ADMIN_TOKEN_FILE"]["value"].rpartition("/")[0] in mounts


def test_the_service_gets_to_its_database_and_to_nothing_more(objects):
    policy = find(objects, "NetworkPolicy", "fbt")
    if policy:
        ports = [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"]]
        assert ports == [[5000], [5432]]
        assert all(rule["to"] for rule in policy["spec"]["egress"])


@pytest.fixture(scope="module")
def database():
    with postgres() as server:
        server.sql("CREATE DATABASE mlflow;")
        yield server


def test_the_service_has_a_role_and_a_database_of_its_own(database, monkeypatch):
    statements = (K8S / "platform" / "stores" / "fbt.sql").read_text()
    for password in ("first", "it's another"):
        monkeypatch.setenv("FBT_PASSWORD", password)
        database.sql(statements)
    database.sql(
        """DO $$ BEGIN
        ASSERT NOT has_database_privilege('fbt', 'mlflow', 'CONNECT');
        ASSERT has_database_privilege('fbt', 'fbt', 'CREATE');
        ASSERT (SELECT rolcanlogin AND NOT rolsuper FROM pg_roles WHERE rolname = 'fbt');
        END $$;"""
    )
    Store(f"postgresql://fbt@127.0.0.1:{database.port}/fbt").migrate()


def test_without_a_password_no_role_is_made(database, monkeypatch):
    monkeypatch.delenv("FBT_PASSWORD", raising=False)
    statements = (K8S / "platform" / "stores" / "fbt.sql").read_text()
    with pytest.raises(subprocess.CalledProcessError):
        database.sql(statements)


# ---------------------------------------------------------------- the workbench


def test_the_workbench_is_in_no_overlay_until_somebody_adds_it():
    assert not [one for one in OVERLAYS if find(rendered(one), "Deployment", "fbt-workbench")]


def test_the_workbench_takes_every_setting_that_the_manifest_gives():
    objects = rendered(WORKBENCH)
    (container,) = containers_of(find(objects, "Deployment", "fbt-workbench"))
    (config,) = [one for one in of_kind(objects, "ConfigMap") if is_workbench(one)]
    names = {one["name"] for one in container["env"]} | set(config["data"])
    own = {name for name in names if name.startswith("FBT_")}
    assert own <= {variable_name(name) for name in WorkbenchSettings.model_fields}
    assert names - own == {"MLFLOW_TRACKING_URI"}


def is_workbench(one):
    return one["metadata"]["name"].startswith("fbt-workbench")


def test_the_workbench_lets_people_log_in_with_secrets_from_files():
    objects = rendered(WORKBENCH)
    deployment = find(objects, "Deployment", "fbt-workbench")
    (container,) = containers_of(deployment)
    (config,) = [one["data"] for one in of_kind(objects, "ConfigMap") if is_workbench(one)]
    assert "FBT_WORKBENCH_OPEN" not in config
    assert config["FBT_OIDC_ISSUER"].startswith("https://")
    files = [one["value"] for one in container["env"] if one["name"].endswith("_FILE")]
    mounts = {one["mountPath"] for one in container["volumeMounts"] if one.get("readOnly")}
    assert {file.rpartition("/")[0] for file in files} == mounts
    assert config["FBT_WORKBENCH_CACHE"] in {one["mountPath"] for one in container["volumeMounts"]}


def test_people_come_to_the_workbench_by_the_address_that_it_knows():
    objects = rendered(WORKBENCH)
    (config,) = [one["data"] for one in of_kind(objects, "ConfigMap") if is_workbench(one)]
    (host,) = find(objects, "HTTPRoute", "fbt-workbench")["spec"]["hostnames"]
    assert config["FBT_WORKBENCH_URL"] == f"https://{host}"
    (rule,) = find(objects, "NetworkPolicy", "fbt-workbench")["spec"]["ingress"]
    (source,) = rule["from"]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "gateway"}


def test_the_workbench_reaches_what_it_asks():
    objects = rendered(f"{WORKBENCH}+network-policy")
    egress = find(objects, "NetworkPolicy", "fbt-workbench")["spec"]["egress"]
    ports = {port["port"] for rule in egress for port in rule["ports"]}
    assert ports == {53, 443, 3000, 5000, 5432}
    (service,) = selected(
        objects, egress[0]["to"][0]["podSelector"]["matchLabels"], namespace_of(objects[0]) or "fbt"
    )
    assert service["metadata"]["name"] == "fbt"
    lets_in = find(objects, "NetworkPolicy", "fbt")["spec"]["ingress"][0]["from"]
    workbench = labels_of(find(objects, "Deployment", "fbt-workbench"))
    assert any(
        one.get("podSelector", {}).get("matchLabels", {"": ""}).items() <= workbench.items()
        for one in lets_in
    )


def test_the_workbench_answers_the_probes_of_the_manifest():
    (container,) = containers_of(find(rendered(WORKBENCH), "Deployment", "fbt-workbench"))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == PROBE.path


# ---------------------------------------------------------------- signed bundles


def verifiers(objects):
    """What fetches bundles, by its workload: the pod and the container."""
    for name, place in (("fbt", 0), ("fbt-promoter", -1), ("fbt-workbench", -1)):
        workload = find(objects, "Deployment", name)
        if workload:
            yield name, pod_of(workload), containers_of(workload)[place]


def test_whatever_fetches_a_bundle_verifies_it_or_does_not_start():
    found = list(verifiers(rendered(SIGNED)))
    assert [name for name, *_ in found] == ["fbt", "fbt-promoter", "fbt-workbench"]
    for name, pod, container in found:
        files = {one["name"]: one.get("value", "") for one in container["env"]}
        folder, _, file = files[f"{VERIFY_KEYS}_FILE"].rpartition("/")
        (mount,) = [one for one in container["volumeMounts"] if one["mountPath"] == folder]
        (volume,) = [one["secret"] for one in pod["volumes"] if one["name"] == mount["name"]]
        assert not volume.get("optional"), f"{name} would verify nothing without the Secret"
        assert [one["path"] for one in volume["items"]] == [file]
        # Not every pod has the group of its user.
        assert volume["defaultMode"] & 0o004, name


def test_nothing_is_verified_until_somebody_adds_the_component():
    for one in OVERLAYS:
        for name, _, container in verifiers(rendered(one)):
            assert not [v for v in container["env"] if VERIFY_KEYS in v["name"]], f"{one}: {name}"


def test_the_commands_of_the_readme_make_keys_that_sign_and_verify(tmp_path, monkeypatch):
    section = (K8S / "README.md").read_text().partition("## Signed bundles\n")[2]
    commands = re.findall(r"^openssl .*", section.partition("\n## ")[0], flags=re.MULTILINE)
    for command in commands:
        subprocess.run(shlex.split(command), cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setenv(f"{SIGNING_KEY}_FILE", str(tmp_path / "signing.pem"))
    monkeypatch.setenv(f"{VERIFY_KEYS}_FILE", str(tmp_path / "verify.pem"))
    assert list(read_verify_keys()) == [compute_fingerprint(read_signing_key().public_key())]
    # As the README says of the tag.
    assert list(read_verify_keys()) == [compute_sha256(tmp_path / "verify.pem")]


# ---------------------------------------------------------------- the model's version


def test_the_version_is_the_promoters_and_in_no_manifest(objects):
    deployment = find(objects, "Deployment", "fbt")
    if deployment is None:
        return
    assert "fbt/model-version" not in labels_of(deployment)
    for container in containers_of(deployment):
        variables = {one["name"]: one for one in container["env"]}
        path = variables["FBT_MODEL_VERSION"]["valueFrom"]["fieldRef"]["fieldPath"]
        assert path == "metadata.labels['fbt/model-version']"
    init, service = containers_of(deployment)
    assert init["image"] == service["image"], "a new model needs no image of its own"
    bundle = {one["name"]: one.get("value") for one in service["env"]}["FBT_BUNDLE"]
    mounts = {mount["mountPath"] for mount in init["volumeMounts"]}
    assert bundle.rpartition("/")[0] in mounts
