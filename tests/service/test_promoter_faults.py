"""The promoter while requests get lost, servers are away and watches break: on fakes, at will."""

import contextlib
import threading
import time

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.promoter.cluster import ClusterError, Gone
from components.promoter.decide import EmitEvent
from components.promoter.settings import settings_from_environment
from components.promoter.webhook import signature
from components.registry.registry import RegistryError
from tests.factories import make_bundle
from tests.fakes import AWAY, BROKEN, LOST, OK
from tests.promotions import replicas
from tests.world import PASSING, Argo, await_, looping, new_world


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("promoter") / "bundle")


@pytest.fixture(params=["Rollout", "Deployment"])
def world(bundle, request):
    """A world in which version 1 serves, with Argo Rollouts and without."""
    with new_world(bundle, request.param) as world:
        world.promote(world.mlflow.add())
        world.calm()
        yield world


@pytest.fixture
def canary(bundle):
    with new_world(bundle, "Rollout") as world:
        world.promote(world.mlflow.add())
        world.calm()
        yield world


def fail(world, version):
    """From now on the cluster cannot serve that version."""
    world.bad, world.broken = {version}, {version} if world.argo is None else set()


@contextlib.contextmanager
def faulty(server, faults):
    """The promoter's next requests to that server fare so; the test's own come before or after."""
    server.faults.extend(faults)
    try:
        yield
    finally:
        server.faults.clear()


class TestKilledAtEveryStep:
    """The look that begins a rollout, and the look that gives one up, cut at every request."""

    @pytest.mark.parametrize("server", ["fake", "mlflow"])
    @pytest.mark.parametrize("fails", [False, True])
    def test_a_new_promoter_goes_on(self, world, server, fails):
        for cut in range(30):
            version = world.mlflow.add()
            if fails:
                fail(world, version)
            world.promote(version)
            before = stable_of(world)
            if fails:  # up to the look that sees it fail
                world.reconcile()
                world.turn()
                world.argo.abort() if world.argo else world.turn()
            ended_early = look_cut_off(world, server, cut)
            world.restart()
            world.calm()
            expected = before if fails else version
            assert (world.pinned, world.champion) == (expected, expected), f"cut at {cut}"
            assert stable_of(world) == expected
            if not ended_early:
                break
        assert not ended_early, "no look makes that many requests"
        assert cut > 3

    @pytest.mark.parametrize("server", ["fake", "mlflow"])
    def test_a_new_promoter_sees_the_arrival(self, world, server):
        def arrive():
            version = world.mlflow.add()
            world.promote(version)
            world.reconcile()
            world.turn()
            world.argo.finish() if world.argo else world.turn()
            return version

        for version in cut_at_every_request(world, server, arrive):
            assert (world.pinned, world.champion, stable_of(world)) == (version,) * 3

    @pytest.mark.parametrize("server", ["fake", "mlflow"])
    def test_a_new_promoter_takes_an_abort_by_hand_for_one(self, canary, server):
        def abort():
            version = canary.mlflow.add()
            canary.promote(version)
            canary.reconcile()
            canary.turn()
            canary.argo.abort_by_hand()
            return version

        for version in cut_at_every_request(canary, server, abort):
            assert (canary.pinned, canary.champion, stable_of(canary)) == ("1",) * 3
            assert canary.tag(version) == "aborted by hand"

    def test_a_new_promoter_hands_the_replicas_over(self, bundle):
        with new_world(bundle, "Deployment") as world:
            world.promote(world.mlflow.add())
            world.calm()
            world.argo = Argo(world.cluster)

            def change_over():
                with contextlib.suppress(ClusterError):
                    world.cluster._request("DELETE", "Rollout", "fbt")
                world.cluster.patch("Deployment", "fbt", {"spec": {"replicas": 3}})
                world.restore("Rollout")
                world.argo.observe()

            for _ in cut_at_every_request(world, "fake", change_over):
                assert replicas(world) == {"Deployment": 0, "Rollout": 3}

    @pytest.mark.parametrize("server", ["fake", "mlflow"])
    def test_a_new_promoter_brings_the_first_version(self, bundle, server):
        for cut in range(40):
            with new_world(bundle, "Rollout") as world:
                world.promote(world.mlflow.add())
                world.reconcile()
                world.turn()
                ended_early = look_cut_off(world, server, cut)
                world.restart()
                world.calm()
                assert (world.pinned, world.champion, stable_of(world)) == ("1",) * 3
                if not ended_early:
                    return
        raise AssertionError("no look makes that many requests")


def cut_at_every_request(world, server, prepare):
    """What `prepare` returned, once the world is calm again after a look that was cut off."""
    for cut in range(40):
        prepared = prepare()
        ended_early = look_cut_off(world, server, cut)
        world.restart()
        world.calm()
        yield prepared
        if not ended_early:
            assert cut > 2
            return
    raise AssertionError("no look makes that many requests")


def look_cut_off(world, server, cut):
    """A look of a promoter that is killed after so many requests; whether it had not ended."""
    world.leadership.renew()
    with faulty(getattr(world, server), [OK] * cut + [LOST] + [AWAY] * 50):
        try:
            world.promoter.reconcile()
        except PASSING:
            return True
    return False


def stable_of(world):
    tags = {v: t["fbt.rollout"] for v, t in world.mlflow.versions.items()}
    live = [version for version, rollout in tags.items() if rollout == "live"]
    assert len(live) <= 1, tags
    return live[0] if live else ""


class TestAway:
    def test_mlflow_away_for_minutes_changes_nothing(self, world):
        world.mlflow.down = True
        for _ in range(5):
            with pytest.raises(RegistryError, match="cannot be reached"):
                world.reconcile()
        assert world.pinned == "1"
        world.mlflow.down = False
        world.promote(world.mlflow.add())
        world.calm()
        assert world.pinned == "2"

    def test_a_failing_registry_moves_nothing(self, world):
        world.promote(world.mlflow.add())
        with faulty(world.mlflow, [BROKEN] * 9), pytest.raises(RegistryError):
            world.reconcile()
        assert world.pinned == "1"

    def test_the_api_server_away_for_minutes(self, world):
        world.promote(world.mlflow.add())
        world.leadership.renew()
        world.fake.down = True
        for _ in range(5):
            with pytest.raises(ClusterError, match="had no answer"):
                world.promoter.reconcile()
            with pytest.raises(ClusterError):
                world.leadership.renew()
        assert world.leadership.is_held, "a lease that was held runs its time"
        world.fake.down = False
        world.calm()
        assert (world.pinned, world.champion) == ("2", "2")

    def test_a_pause_during_a_canary(self, bundle):
        with new_world(bundle, "Rollout") as world:
            world.promote(world.mlflow.add())
            world.calm()
            world.promote(world.mlflow.add())
            world.reconcile()
            world.turn()
            world.fake.down = world.mlflow.down = True
            assert world.try_reconcile() is None
            world.fake.down = False
            world.argo.abort()
            assert world.try_reconcile() is None, "the registry is still away"
            world.mlflow.down = False
            world.calm()
            assert (world.pinned, world.champion, world.tag("2")) == ("1", "1", "failed")

    def test_no_kind_rollout_is_a_plain_update(self, bundle):
        with new_world(bundle, "Deployment") as world:
            world.fake.absent_kinds = {"rollouts"}
            world.promote(world.mlflow.add())
            world.calm()
            assert world.pinned == "1"
            assert "without Argo Rollouts" in world.said()["RollingOut"]

    def test_argo_taken_out_of_the_cluster(self, bundle):
        with new_world(bundle, "Rollout") as world:
            world.promote(world.mlflow.add())
            world.calm()
            world.fake.absent_kinds = {"rollouts"}
            world.argo = None
            world.cluster.patch("Deployment", "fbt", {"spec": {"replicas": 1}})
            world.promote(world.mlflow.add())
            world.calm()
            assert (world.pinned, world.tag("2")) == ("2", "live")
            assert "without Argo Rollouts" in world.said()["RollingOut"]

    def test_no_right_to_make_events_is_no_reason_to_stand_still(self, world, monkeypatch):
        answer = world.fake.answer

        def forbid(handler, method, path, *rest):
            if path.endswith("/events") and method == "POST":
                return 403, {"message": "events is forbidden"}
            return answer(handler, method, path, *rest)

        monkeypatch.setattr(world.fake, "answer", forbid)
        world.promote(world.mlflow.add())
        world.calm()
        assert world.pinned == "2"

    def test_a_second_write_in_between_is_a_conflict_and_then_done(self, world):
        world.promote(world.mlflow.add())

        def somebody():
            key = ("shop", "deployments", "fbt")
            found = world.fake.objects[key]
            metadata = {**found["metadata"], "annotations": {"somebody": "else"}}
            world.fake.store(key, found, {**found, "metadata": metadata}, None)

        for _ in range(3):
            world.fake.before_write = somebody
            world.try_reconcile()
        world.fake.before_write = None
        world.calm()
        assert world.pinned == "2"


VERSIONS = st.sampled_from(["1", "2", "3", "4", "5"])
FAULTS = st.lists(st.sampled_from([OK, OK, OK, OK, AWAY, LOST, BROKEN]), max_size=14)
DEEDS = st.one_of(
    st.tuples(st.just("promote"), VERSIONS),
    st.tuples(st.just("force"), VERSIONS),
    st.tuples(st.just("look"), FAULTS, FAULTS),
    st.tuples(st.just("look"), st.just([]), st.just([])),
    st.sampled_from([("turn",), ("finish",), ("abort",), ("pause",), ("restart",)]),
    st.just(("abort_by_hand",)),
    st.sampled_from([("delete alias",), ("delete rollout",), ("restore rollout",)]),
    st.tuples(st.just("edit"), VERSIONS),
)


class TestAnySequence:
    """Version 1 and 2 are good, 3 cannot be served, 4 failed its gate, 5 failed it and is bad."""

    @pytest.mark.parametrize("kind", ["Rollout", "Deployment"])
    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(deeds=st.lists(DEEDS, min_size=3, max_size=14))
    def test_ends_at_the_alias_or_at_the_last_good_version(self, bundle, kind, deeds):
        with new_world(bundle, kind) as world:
            for verdict in ("passed", "passed", "passed", "failed", "failed"):
                world.mlflow.add(verdict=verdict)
            world.bad = {"3", "5"}
            world.broken = set() if world.argo else {"3", "5"}
            forced, edited = set(), set()
            for name, *what in deeds:
                self.do(world, name, what)
                forced |= set(what) if name == "force" else set()
                edited |= set(what) if name == "edit" else set()
                assert world.pinned not in {"4", "5"} - forced - edited
            self.do(world, "restore rollout", [])
            world.calm()
            self.check_end(world, forced)

    def do(self, world, name, what):
        if name == "promote":
            world.promote(*what)
        elif name == "force":  # what `fbt promote --force` does
            world.mlflow.versions[what[0]] |= {"fbt.forced_by": "ann"}
            world.mlflow.versions[what[0]].pop("fbt.rollout_failed", None)
            world.promote(*what)
        elif name == "look":
            world.leadership.renew()
            world.fake.faults.extend(what[0])
            world.mlflow.faults.extend(what[1])
            with contextlib.suppress(*PASSING):
                world.promoter.reconcile()
            world.fake.faults.clear()
            world.mlflow.faults.clear()
        elif name in ("turn", "restart"):
            getattr(world, name)()
        elif name == "delete alias":
            world.mlflow.aliases.clear()
        elif name in ("delete rollout", "restore rollout"):
            is_there = world.cluster.get("Rollout", "fbt") is not None
            if world.argo and is_there and name == "delete rollout":
                world.cluster._request("DELETE", "Rollout", "fbt")
                world.try_reconcile()
            elif world.argo and not is_there and name == "restore rollout":
                world.restore("Rollout")
        elif name == "edit":
            labels = {"labels": {"fbt/model-version": what[0]}}
            world.cluster.patch("Deployment", "fbt", {"spec": {"template": {"metadata": labels}}})
        elif world.argo and (name != "finish" or world.pinned not in world.bad):
            # The analysis never lets a bad version through.
            getattr(world.argo, name)()

    def check_end(self, world, forced):
        """All of the world agrees, and on a version that was allowed and can be served."""
        champion, pinned, live = world.champion, world.pinned, stable_of(world)
        if live:
            assert pinned == live, "a half"
            assert champion in (live, ""), "alias and cluster disagree"
            assert live not in world.bad
        elif pinned:  # no version ever arrived: the first is bad, or nobody asked for it any more
            assert champion in (pinned, "") or world.tag(champion).startswith(("refused", "failed"))
        assert not world.reconcile() or all(isinstance(one, EmitEvent) for one in world.reconcile())


def alias_message(delivery="d1", at=None, secret="secret", body=None):
    body = body or b'{"entity": "model_version_alias", "action": "created", "data": {}}'
    sent_at = str(int(time.time() if at is None else at))
    headers = {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": sent_at,
        "X-MLflow-Signature": signature(secret, delivery, sent_at, body),
    }
    return {"content": body, "headers": headers}


@pytest.fixture
def fresh(bundle):
    with new_world(bundle, "Deployment") as world:
        world.restart()
        yield world


class TestLoop:
    def test_a_webhook_makes_it_look_at_once(self, fresh):
        with looping(fresh) as (_, url):
            await_(lambda: "NoChampion" in fresh.said())
            fresh.promote(fresh.mlflow.add())
            answer = httpx.post(f"{url}/webhook", **alias_message())
            assert (answer.status_code, answer.text) == (202, "accepted\n")
            await_(lambda: fresh.pinned == "1")

    def test_a_lost_webhook_costs_a_poll(self, fresh):
        with looping(fresh, poll_s=0.1):
            fresh.promote(fresh.mlflow.add())
            await_(lambda: fresh.pinned == "1")

    def test_a_webhook_to_the_standby_wakes_the_leader(self, fresh):
        second = looping(fresh, identity="standby", standby=True)
        with looping(fresh), second as (standby, url):
            await_(lambda: "NoChampion" in fresh.said())
            time.sleep(0.3)
            assert not standby.leadership.is_held
            fresh.promote(fresh.mlflow.add())
            assert httpx.post(f"{url}/webhook", **alias_message()).status_code == 202
            await_(lambda: fresh.pinned == "1")

    def test_when_the_leader_ends_the_standby_goes_on(self, fresh):
        with contextlib.ExitStack() as stack:
            leader = contextlib.ExitStack()
            leader.enter_context(looping(fresh))
            other, _ = stack.enter_context(looping(fresh, identity="standby", standby=True))
            leader.close()
            await_(lambda: other.leadership.is_held)
            fresh.promote(fresh.mlflow.add())
            other.notify()
            await_(lambda: fresh.pinned == "1")

    def test_an_edit_by_hand_is_seen_without_a_poll(self, fresh):
        with looping(fresh):
            fresh.promote(fresh.mlflow.add())
            edit = {"spec": {"template": {"metadata": {"labels": {"fbt/model-version": "9"}}}}}
            await_(lambda: fresh.fake.requests.count(watch_of("deployments")) > 0)
            time.sleep(0.1)
            fresh.cluster.patch("Deployment", "fbt", edit)
            await_(lambda: fresh.pinned == "1")

    def test_watches_that_break_or_forget_are_begun_again(self, fresh):
        with looping(fresh, poll_s=1.0):
            await_(lambda: fresh.fake.requests.count(watch_of("deployments")) > 0)
            begun = fresh.fake.requests.count(watch_of("deployments"))
            fresh.fake.forget_the_past()
            await_(lambda: fresh.fake.requests.count(watch_of("deployments")) > begun)
            fresh.promote(fresh.mlflow.add())
            await_(lambda: fresh.pinned == "1")

    def test_it_survives_both_servers_being_away(self, fresh):
        with looping(fresh, poll_s=0.1) as (loop, url):
            fresh.fake.down = fresh.mlflow.down = True
            await_(lambda: 'outcome="error"} 0' not in httpx.get(f"{url}/metrics").text)
            assert httpx.get(f"{url}/healthz").status_code == 200
            await_(lambda: not loop.leadership.is_held)
            fresh.promote(fresh.mlflow.add())
            fresh.fake.down = fresh.mlflow.down = False
            await_(lambda: fresh.pinned == "1")

    def test_bad_messages_are_refused_and_counted(self, fresh):
        with looping(fresh) as (_, url):
            send = f"{url}/webhook"
            wrong = alias_message("w", secret="guessed")
            old = alias_message("o", at=time.time() - 400)
            assert httpx.post(send, **wrong).status_code == 401
            assert httpx.post(send, **old).status_code == 400
            assert httpx.post(send, **alias_message("twice")).status_code == 202
            assert httpx.post(send, **alias_message("twice")).status_code == 409
            assert httpx.post(send, **alias_message("x", body=b"{}")).text == "ignored\n"
            with contextlib.suppress(httpx.WriteError):  # it hangs up on who goes on sending
                huge = httpx.post(send, **alias_message("big", body=b"x" * 10_000_000))
                assert huge.status_code == 413
            assert httpx.post(f"{url}/other").status_code == 404
            assert httpx.get(f"{url}/other").status_code == 404
            page = httpx.get(f"{url}/metrics").text
            for outcome in ("wrong signature", "old timestamp", "replay", "too large", "ignored"):
                assert f'fbt_promoter_webhooks_total{{outcome="{outcome}"}} 1.0' in page


def watch_of(plural):
    return ("GET", f"/apis/apps/v1/namespaces/shop/{plural}")


class TestWatch:
    def test_changes_of_the_one_object_come_as_they_happen(self, fresh):
        seen = []
        watch = threading.Thread(
            target=lambda: seen.extend(fresh.promoter_cluster.watch("Deployment", "fbt", 1))
        )
        watch.start()
        time.sleep(0.3)
        for number in range(2):
            patch = {"metadata": {"annotations": {"n": str(number)}}}
            fresh.cluster.patch("Deployment", "fbt", patch)
        watch.join(5)
        assert seen == ["MODIFIED", "MODIFIED"]

    def test_a_forgotten_past_is_gone(self, fresh):
        threading.Timer(0.3, fresh.fake.forget_the_past).start()
        with pytest.raises(Gone):
            list(fresh.promoter_cluster.watch("Deployment", "fbt", 5))


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("FBT_NAMESPACE", "shop")
    monkeypatch.setenv("FBT_POLL_S", "7")
    monkeypatch.setenv("FBT_WEBHOOK_SECRET", "very")
    monkeypatch.setenv("POD_NAME", "promoter-x")
    found = settings_from_environment()
    assert (found.namespace, found.poll_s, found.identity) == ("shop", 7.0, "promoter-x")
    assert "very" not in repr(found)
    monkeypatch.setenv("FBT_POLL_S", "never")
    with pytest.raises(ValueError, match="poll_s"):
        settings_from_environment()
