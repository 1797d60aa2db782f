"""The promoter's judgement and the webhook's, without any server."""

import contextlib
from dataclasses import replace
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.promoter.decide import (
    GIVEN_UP,
    EmitEvent,
    HandOver,
    MarkStable,
    Phase,
    Pin,
    RevertChampion,
    ScaleDown,
    SkipSteps,
    State,
    Tag,
    VersionInfo,
    Workload,
    decide,
    in_sync,
)
from components.promoter.webhook import (
    MAX_AGE_S,
    MAX_REMEMBERED,
    WebhookRejected,
    WebhookVerifier,
    signature,
)
from components.promoter.workload import (
    HANDED_OVER_ANNOTATION,
    POD_HASH_LABEL,
    REVISION_ANNOTATION,
    VERSION_LABEL,
    workload_from_deployment,
    workload_from_rollout,
)
from components.registry.registry import FAILED_TAG, ROLLOUT_TAG

NOW = 1_700_000_000
BODY = b'{"entity": "model_version_alias", "action": "created", "data": {"alias": "champion"}}'


def acts(state):
    return [one for one in decide(state) if not isinstance(one, EmitEvent)]


def serving(**changes):
    versions = {"1": VersionInfo(rollout="live"), "2": VersionInfo()}
    workload = Workload("Rollout", "1", "1", Phase.DONE)
    return replace(State("1", versions, workload), **changes)


def rolling(phase, message="", champion="2", **info):
    workload = Workload("Rollout", "2", "1", phase, message)
    versions = {"1": VersionInfo(rollout="live"), "2": VersionInfo(rollout="rolling out")}
    versions["2"] = replace(versions["2"], **info)
    return State(champion, versions, workload)


class TestDecide:
    def test_nothing_to_do(self):
        assert decide(serving()) == []
        assert in_sync(serving())

    def test_a_new_champion_is_pinned(self):
        assert acts(serving(champion="2")) == [Tag("2", ROLLOUT_TAG, "rolling out"), Pin("2")]
        assert not in_sync(serving(champion="2"))

    @pytest.mark.parametrize("phase", [Phase.MOVING, Phase.PAUSED])
    def test_the_first_version_skips_the_steps_of_a_canary(self, phase):
        workload = Workload("Rollout", "1", "", phase, is_first=True)
        state = State("1", {"1": VersionInfo(rollout="rolling out")}, workload)
        assert acts(state) == [SkipSteps("1")]
        assert "CanaryPaused" not in {
            one.reason for one in decide(state) if isinstance(one, EmitEvent)
        }

    def test_a_deployment_is_scaled_down_once_its_rollout_serves_or_it_never_did(self):
        def with_pods(pinned, phase):
            versions = {"1": VersionInfo(rollout="live")}
            return State(pinned, versions, Workload("Rollout", pinned, "1", phase, own_pods=2))

        assert acts(with_pods("1", Phase.DONE)) == [ScaleDown()]
        assert acts(with_pods("1", Phase.MOVING)) == []
        assert acts(with_pods("", Phase.MOVING)) == [ScaleDown()]

    @pytest.mark.parametrize("phase", [Phase.DONE, Phase.MOVING])
    def test_a_rollout_first_takes_the_deployments_count_over(self, phase):
        workload = Workload("Rollout", "1", "1", phase, own_pods=8, hand_over_to="uid")
        assert acts(serving(workload=workload)) == [HandOver(8, "uid")]

    def test_a_new_rollout_brings_the_live_version_back_before_it_takes_a_canary(self):
        workload = Workload("Rollout", "1", "1", Phase.MOVING, is_new=True)
        assert acts(serving(champion="2", workload=workload)) == []
        workload = replace(workload, is_new=False)
        assert acts(serving(champion="2", workload=workload))[-1] == Pin("2")

    @pytest.mark.parametrize("phase", [Phase.MOVING, Phase.PAUSED, Phase.IDLE])
    def test_a_rollout_takes_its_time(self, phase):
        assert acts(rolling(phase)) == []

    def test_a_failure_is_tagged_before_the_alias_leaves_and_that_before_the_cluster_does(self):
        assert acts(rolling(Phase.FAILED, "p99 too high")) == [
            Tag("2", FAILED_TAG, "p99 too high"),
            Tag("2", ROLLOUT_TAG, "failed"),
            RevertChampion("2", "1", "rollout failed"),
            Pin("1"),
        ]

    def test_killed_after_the_tags_it_goes_on_with_the_alias(self):
        state = rolling(Phase.FAILED, "p99 too high", failed="p99 too high", rollout="failed")
        assert acts(state) == [RevertChampion("2", "1", "rollout failed"), Pin("1")]

    def test_killed_after_the_alias_it_goes_on_with_the_cluster(self):
        state = rolling(Phase.FAILED, "p99", champion="1", failed="p99", rollout="failed")
        assert acts(state) == [Pin("1")]

    def test_an_abort_by_hand_is_no_failure_of_the_version(self):
        assert acts(rolling(Phase.ABORTED)) == [
            Tag("2", ROLLOUT_TAG, "aborted by hand"),
            RevertChampion("2", "1", "aborted by hand"),
            Pin("1"),
        ]
        assert acts(rolling(Phase.ABORTED, champion="", rollout="aborted by hand")) == [Pin("1")]

    def test_a_plain_update_that_arrived_is_marked(self):
        workload = Workload("Deployment", "2", "1", Phase.DONE)
        state = replace(rolling(Phase.DONE), workload=workload)
        assert acts(state) == [
            MarkStable("2"),
            Tag("1", ROLLOUT_TAG, "replaced"),
            Tag("2", ROLLOUT_TAG, "live"),
        ]

    def test_who_serves_is_never_refused(self):
        gone_bad = VersionInfo(verdict="failed", failed="long ago", rollout="live")
        moving = Workload("Rollout", "1", "1", Phase.MOVING)
        assert acts(serving(versions={"1": gone_bad}, workload=moving)) == []

    def test_an_unknown_cluster_is_waited_for(self):
        workload = Workload("Rollout", "1", "", Phase.UNKNOWN, "not there yet")
        assert decide(serving(workload=workload)) == [
            EmitEvent("WaitingForCluster", "not there yet")
        ]

    def test_no_deployment_is_said(self):
        assert [one.reason for one in decide(serving(workload=None))] == ["WorkloadMissing"]

    @pytest.mark.parametrize("pinned", ["1", "2"])
    def test_without_its_rollout_a_deployment_of_no_pods_keeps_the_live_version(self, pinned):
        workload = Workload("Deployment", pinned, "", Phase.IDLE, "scaled to 0")
        actions = decide(replace(rolling(Phase.IDLE), workload=workload))
        assert actions == [
            *([Pin("1")] if pinned == "2" else []),
            EmitEvent("RolloutMissing", "scaled to 0", True),
        ]

    def test_a_version_that_the_registry_does_not_have(self):
        assert acts(serving(champion="9")) == [RevertChampion("9", "1", "refused")]


PHASES = st.sampled_from(list(Phase))
NUMBERS = st.sampled_from(["1", "2", "3"])
CANDIDATES = st.builds(
    VersionInfo,
    verdict=st.sampled_from(["passed", "failed", "unknown"]),
    forced_by=st.sampled_from(["", "ann"]),
    failed=st.sampled_from(["", "p99"]),
    rollout=st.sampled_from(["registered", "rolling out", "live", "failed", "superseded"]),
    problem=st.sampled_from(["", "no bundle"]),
)
WORKLOADS = st.builds(
    Workload,
    kind=st.sampled_from(["Rollout", "Deployment"]),
    pinned=st.one_of(st.just(""), NUMBERS),
    stable=st.one_of(st.just(""), NUMBERS),
    phase=PHASES,
    message=st.just("so it is"),
)
STATES = st.builds(
    State,
    champion=st.one_of(st.just(""), NUMBERS),
    versions=st.fixed_dictionaries({"1": CANDIDATES, "2": CANDIDATES, "3": CANDIDATES}),
    workload=WORKLOADS.filter(lambda w: w.phase not in GIVEN_UP or w.pinned != w.stable),
)


def done(state, action):
    """What is seen after the action, the cluster not having moved yet."""
    versions, seen = dict(state.versions), state.workload
    match action:
        case Tag(version, key, value):
            name = "failed" if key == FAILED_TAG else "rollout"
            versions[version] = replace(versions[version], **{name: value or ""})
        case RevertChampion(rejected, to):
            return replace(state, champion=to) if state.champion == rejected else state
        case Pin(version):
            seen = replace(seen, pinned=version, phase=Phase.MOVING, message="")
        case MarkStable(version):
            seen = replace(seen, stable=version)
    return replace(state, versions=versions, workload=seen)


class TestDecideInAnyState:
    @settings(deadline=None)
    @given(state=STATES, cut=st.integers(0, 12))
    def test_a_look_cut_anywhere_and_the_next_ones_end_where_one_whole_look_does(self, state, cut):
        whole = settled(state)
        for action in decide(state)[:cut]:
            state = done(state, action)
        end = settled(state)
        assert end.champion == whole.champion
        assert end.workload.pinned == whole.workload.pinned

    @settings(deadline=None)
    @given(state=STATES)
    def test_nothing_is_done_twice(self, state):
        end = settled(state)
        assert acts(end) == []

    @settings(deadline=None)
    @given(state=STATES)
    def test_no_version_is_pinned_that_was_not_allowed(self, state):
        for action in decide(state):
            if isinstance(action, Pin) and action.version != state.workload.stable:
                info = state.versions[action.version]
                if state.workload.phase is Phase.IDLE and info.rollout == "live":
                    continue
                assert action.version == state.champion
                assert not info.failed
                assert not info.problem
                assert info.verdict == "passed" or info.forced_by

    @settings(deadline=None)
    @given(state=STATES)
    def test_an_alias_that_was_deleted_is_never_set(self, state):
        if not state.champion:
            assert not [one for one in decide(state) if isinstance(one, RevertChampion)]

    @settings(deadline=None)
    @given(state=STATES)
    def test_the_alias_goes_back_only_to_what_serves(self, state):
        for action in decide(state):
            if isinstance(action, RevertChampion):
                assert action.to == state.workload.stable
                assert action.rejected == state.champion != action.to


def settled(state):
    for _ in range(5):
        for action in decide(state):
            state = done(state, action)
    return state


def template(version):
    return {"metadata": {"labels": {"app": "fbt", VERSION_LABEL: version}}}


def deployment(version, **status):
    metadata = {"generation": 4, "annotations": {"fbt/stable-version": "1"}}
    return {
        "metadata": metadata,
        "spec": {"replicas": 2, "template": template(version)},
        "status": {"observedGeneration": 4, **status},
    }


def rollout(**status):
    metadata = {"generation": 1, "uid": "uid"}
    return {"metadata": metadata, "spec": {}, "status": {"stableRS": "one", **status}}


REPLICA_SETS = [
    {"metadata": {"labels": {POD_HASH_LABEL: name}}, "spec": {"template": template(version)}}
    for name, version in (("one", "1"), ("two", "2"))
]


def aborted(message):
    return [{"type": "Progressing", "reason": "RolloutAborted", "message": message}]


LATE = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]


class TestWhatTheClusterSays:
    def workload_from_rollout(self, pinned="2", pods=(), **status):
        found = workload_from_rollout(deployment(pinned), rollout(**status), REPLICA_SETS, pods)
        assert found.stable == "1" or found.phase is Phase.UNKNOWN
        return found.phase, found.message

    def test_a_stable_replica_set_without_a_version_never_served(self):
        blank = {
            "metadata": {"labels": {POD_HASH_LABEL: "none"}},
            "spec": {"template": {"metadata": {}}},
        }
        status = {"stableRS": "none", "currentPodHash": "two", "phase": "Paused"}
        found = workload_from_rollout(
            deployment("2"), rollout(**status), [*REPLICA_SETS, blank], []
        )
        assert (found.is_first, found.stable, found.own_pods) == (True, "", 2)
        asked = workload_from_rollout(
            deployment("2"), rollout(**status, promoteFull=True), [*REPLICA_SETS, blank], []
        )
        assert not asked.is_first
        status["stableRS"] = "one"
        assert not workload_from_rollout(
            deployment("2"), rollout(**status), REPLICA_SETS, []
        ).is_first

    @pytest.mark.parametrize(
        ("conditions", "seen"),
        [
            ([], (Phase.ABORTED, "")),
            (aborted("Rollout aborted update to revision 2"), (Phase.ABORTED, "")),
            (aborted("Rollout aborted update to revision 2: p99: 3"), (Phase.FAILED, "p99: 3")),
            (LATE, (Phase.FAILED, "its pods did not get ready in time")),
        ],
    )
    def test_an_abort_of_this_version(self, conditions, seen):
        """By hand, before and after Argo Rollouts saw it; by an analysis; by the deadline."""
        status = {"currentPodHash": "two", "abort": True, "conditions": conditions}
        assert self.workload_from_rollout(**status) == seen

    def test_what_a_rollout_has_to_take_over(self):
        def found(**annotations):
            given = deployment("1")
            given["metadata"]["annotations"] |= annotations
            return workload_from_rollout(given, rollout(), REPLICA_SETS, [])

        assert (found().own_pods, found().hand_over_to) == (2, "uid")
        assert found(**{HANDED_OVER_ANNOTATION: "uid"}).hand_over_to == ""
        assert found(**{HANDED_OVER_ANNOTATION: "one before"}).hand_over_to == "uid"

    def test_a_rollout_is_new_until_its_first_revision_is_there_or_late(self):
        def is_new(revision, phase):
            given = rollout(currentPodHash="one", phase=phase)
            given["metadata"]["annotations"] = {REVISION_ANNOTATION: revision}
            return workload_from_rollout(deployment("1"), given, REPLICA_SETS, []).is_new

        assert is_new("1", "Progressing")
        assert not is_new("1", "Healthy")
        assert not is_new("1", "Degraded")
        assert not is_new("2", "Progressing")

    def test_an_abort_of_the_version_before(self):
        status = {"currentPodHash": "two", "abort": True, "phase": "Degraded"}
        assert self.workload_from_rollout(pinned="1", **status)[0] is Phase.MOVING

    def test_an_abort_from_before_the_same_version_was_pinned_again(self):
        status = {"currentPodHash": "two", "abort": True, "workloadObservedGeneration": "3"}
        assert self.workload_from_rollout(**status)[0] is Phase.MOVING

    def test_pods_late(self):
        status = {"currentPodHash": "two", "phase": "Degraded", "conditions": LATE}
        assert self.workload_from_rollout(**status)[0] is Phase.FAILED

    def test_an_invalid_rollout_is_not_the_versions_fault(self):
        status = {"currentPodHash": "two", "phase": "Degraded", "message": "InvalidSpec"}
        assert self.workload_from_rollout(**status) == (Phase.MOVING, "InvalidSpec")

    def test_a_stable_hash_without_its_replica_set(self):
        assert self.workload_from_rollout(stableRS="three")[0] is Phase.UNKNOWN

    def test_another_template_of_the_version_that_serves_cannot_fail_it(self):
        sets = [*REPLICA_SETS, {**REPLICA_SETS[0], "metadata": {"labels": {POD_HASH_LABEL: "new"}}}]
        status = {"currentPodHash": "new", "abort": True, "phase": "Degraded", "message": "image"}
        found = workload_from_rollout(deployment("1"), rollout(**status), sets, [])
        assert (found.phase, found.message) == (Phase.MOVING, "image")

    @pytest.mark.parametrize("when", ["state", "lastState"])
    def test_a_bundle_that_the_init_container_refuses(self, when):
        ended = {"name": "fetch", when: {"terminated": {"exitCode": 65, "message": "no bundle\n"}}}
        pod = {
            "metadata": {"labels": {VERSION_LABEL: "2"}},
            "status": {"initContainerStatuses": [ended]},
        }
        status = {"currentPodHash": "two", "phase": "Progressing"}
        assert self.workload_from_rollout(pods=[pod], **status) == (Phase.FAILED, "no bundle")
        pod["metadata"]["deletionTimestamp"] = "now"
        assert self.workload_from_rollout(pods=[pod], **status)[0] is Phase.MOVING

    def test_a_plain_update(self):
        counts = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
        found = [
            workload_from_deployment(deployment("2", **{**counts, **change}), []).phase
            for change in ({}, {"replicas": 3}, {"availableReplicas": 1}, {"observedGeneration": 3})
        ]
        assert found == [Phase.DONE, Phase.MOVING, Phase.MOVING, Phase.MOVING]
        late = workload_from_deployment(deployment("2", updatedReplicas=1, conditions=LATE), [])
        assert (late.phase, late.stable) == (Phase.FAILED, "1")

    def test_scaled_to_nothing_says_nothing(self):
        nothing = deployment("2")
        nothing["spec"]["replicas"] = 0
        assert workload_from_deployment(nothing, []).phase is Phase.IDLE


def message(delivery="d", at=NOW, secret="secret", body=BODY):
    names = ("x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature")
    values = (delivery, str(at), signature(secret, delivery, str(at), body))
    return dict(zip(names, values, strict=True))


@pytest.fixture
def inbox():
    return WebhookVerifier("secret", clock=lambda: NOW)


def refusal(inbox, headers, body=BODY):
    with pytest.raises(WebhookRejected) as refused:
        inbox.accept(headers, body)
    return refused.value.status, refused.value.reason


class TestInbox:
    def test_mlflows_own_signature_is_taken(self, inbox):
        from mlflow.webhooks.delivery import _generate_hmac_signature as sign

        theirs = sign("secret", "d", str(NOW), BODY.decode())
        assert theirs == signature("secret", "d", str(NOW), BODY)
        assert inbox.accept(message(), BODY)

    @pytest.mark.parametrize("change", range(3))
    def test_whatever_was_changed_the_signature_tells(self, inbox, change):
        headers = message()
        name = list(headers)[change]
        headers[name] = headers[name][:-1] + ("1" if headers[name][-1] != "1" else "2")
        assert refusal(inbox, headers) == (HTTPStatus.UNAUTHORIZED, "wrong signature")
        assert refusal(inbox, message(), BODY + b" ") == (401, "wrong signature")
        assert refusal(inbox, {}) == (401, "wrong signature")
        assert refusal(inbox, message(secret="guess")) == (401, "wrong signature")

    @pytest.mark.parametrize("age", [MAX_AGE_S + 1, -MAX_AGE_S - 1])
    def test_an_old_message_and_one_of_the_future(self, inbox, age):
        assert refusal(inbox, message(at=NOW - age)) == (400, "old timestamp")
        assert inbox.accept(message(at=NOW - age // 2), BODY)

    @pytest.mark.parametrize("skew_s", [120, -120])
    def test_clocks_that_are_two_minutes_apart_are_borne(self, inbox, skew_s):
        assert inbox.accept(message(at=NOW + skew_s), BODY)

    @pytest.mark.parametrize(("skew_s", "said"), [(400, "400 s ahead of"), (-400, "400 s behind")])
    def test_clocks_that_are_further_apart_are_named(self, inbox, skew_s, said):
        with pytest.raises(WebhookRejected, match=f"MLflow's clock is {said} this pod's"):
            inbox.accept(message(at=NOW + skew_s), BODY)

    def test_a_timestamp_that_is_none(self, inbox):
        for at in ("", "soon", "²", "-1"):
            assert refusal(inbox, message(at=at)) == (400, "no timestamp")

    def test_a_replay(self, inbox):
        assert inbox.accept(message(), BODY)
        assert refusal(inbox, message()) == (HTTPStatus.CONFLICT, "replay")
        assert inbox.accept(message("another"), BODY)

    def test_the_memory_of_replays_is_bounded_and_forgets_only_what_is_too_old(self, inbox):
        inbox._seen = {str(number): NOW for number in range(MAX_REMEMBERED)}
        assert refusal(inbox, message()) == (429, "too many")
        inbox.clock = lambda: NOW + 2 * MAX_AGE_S + 1
        assert inbox.accept(message(at=NOW + 2 * MAX_AGE_S), BODY)
        assert len(inbox._seen) == 1

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"[" * 60_000, b'{"entity": "prompt"}'])
    def test_a_message_about_something_else(self, inbox, body):
        assert not inbox.accept(message(body=body), body)

    def test_without_a_secret_nobody_is_believed(self):
        inbox = WebhookVerifier("", clock=lambda: NOW)
        assert refusal(inbox, message(secret=""))[0] == HTTPStatus.SERVICE_UNAVAILABLE

    @settings(deadline=None)
    @given(headers=st.dictionaries(st.sampled_from(list(message())), st.text()), body=st.binary())
    def test_rubbish_is_refused_never_an_accident(self, headers, body):
        with contextlib.suppress(WebhookRejected):
            pytest.fail(f"took {WebhookVerifier('secret').accept(headers, body)}")
