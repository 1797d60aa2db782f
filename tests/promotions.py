"""What the promoter does, on whatever cluster the fixture `world` brings.

Collected by tests/service (a fake API server) and by tests/cluster (a real one).
"""

import time

import pytest

from components.promoter.cluster import Conflict
from components.promoter.decide import EmitEvent, Pin
from components.promoter.lease import Leadership, LeadershipLost
from components.promoter.workload import STABLE_ANNOTATION, VERSION_LABEL
from components.registry.registry import CHECKS_TAG
from tests.world import Argo, rollout


@pytest.fixture(params=["Rollout", "Deployment"])
def either(world, request):
    """The service with Argo Rollouts, and without."""
    world.deploy(request.param)
    return world


@pytest.fixture
def canary(world):
    """The service with Argo Rollouts, where version 1 serves."""
    world.deploy("Rollout")
    return serving_one(world)


@pytest.fixture
def plain(world):
    """The service without Argo Rollouts, where version 1 serves."""
    world.deploy("Deployment")
    return serving_one(world)


def serving_one(world):
    world.promote(world.mlflow.add())
    world.calm()
    assert (world.pinned, world.tag("1")) == ("1", "live")
    return world


def promoted(world, **version):
    """A new version that is champion, and that the cluster has begun to take."""
    made = world.mlflow.add(**version)
    world.promote(made)
    world.reconcile()
    world.turn()
    return made


class TestGood:
    def test_nothing_happens_before_the_first_champion(self, either):
        either.mlflow.add()
        either.calm()
        assert (either.pinned, either.champion) == ("", "")
        assert "nobody is champion" in either.said()["NoChampion"]

    def test_the_first_version_of_a_rollout_is_no_canary(self, world):
        """The manifests come first, so that what Argo calls stable has no version."""
        world.deploy("Rollout")
        world.calm()
        assert world.argo._status()["stableRS"] == world.argo._status()["currentPodHash"]
        world.promote(world.mlflow.add())
        world.until(lambda: world.tag("1") == "live")
        assert "version 1 is the first, and no canary" in world.said()["FirstVersion"]

    def test_a_deployment_with_a_rollout_keeps_no_pod_that_walks_around_the_canary(self, world):
        world.deploy("Rollout")
        assert world.cluster.get("Deployment", "fbt")["spec"]["replicas"] == 1
        world.calm()
        assert world.cluster.get("Deployment", "fbt")["spec"]["replicas"] == 0

    def test_a_deployment_that_serves_keeps_its_pods_until_its_rollout_does(self, world):
        world.deploy("Deployment")
        serving_one(world)
        world.argo = Argo(world.cluster)
        world.cluster.create("Rollout", rollout())
        world.argo.observe()
        world.reconcile()
        assert world.cluster.get("Deployment", "fbt")["spec"]["replicas"] == 1
        world.argo.finish()
        world.calm()
        assert world.cluster.get("Deployment", "fbt")["spec"]["replicas"] == 0

    def test_a_rollout_begins_with_as_many_pods_as_the_deployment_had(self, world):
        world.deploy("Deployment")
        world.cluster.patch("Deployment", "fbt", {"spec": {"replicas": 4}})
        serving_one(world)
        world.argo = Argo(world.cluster)
        world.cluster.create("Rollout", rollout())
        world.argo.observe()
        world.reconcile()
        assert replicas(world) == {"Deployment": 4, "Rollout": 4}
        # From now on the count is the autoscaler's.
        world.cluster.patch("Rollout", "fbt", {"spec": {"replicas": 3}})
        world.turn()
        world.reconcile()
        assert replicas(world) == {"Deployment": 4, "Rollout": 3}
        world.argo.finish()
        world.calm()
        assert replicas(world) == {"Deployment": 0, "Rollout": 3}

    def test_the_champion_comes_and_the_next_replaces_it(self, either):
        serving_one(either)
        either.promote(either.mlflow.add())
        either.calm()
        assert (either.pinned, either.champion) == ("2", "2")
        assert (either.tag("1"), either.tag("2")) == ("replaced", "live")
        assert either.said()["VersionLive"] in {f"version {v} serves all traffic" for v in "12"}
        assert either.reconcile() == []

    def test_a_plain_update_says_that_it_is_one(self, plain):
        assert "without Argo Rollouts: a plain rolling update" in plain.said()["RollingOut"]
        assert plain.cluster.get("Deployment", "fbt")["metadata"]["annotations"] == {
            **plain.cluster.get("Deployment", "fbt")["metadata"]["annotations"],
            STABLE_ANNOTATION: "1",
        }

    def test_a_canary_goes_its_way_and_meanwhile_nothing_else_is_done(self, canary):
        promoted(canary)
        assert (canary.pinned, canary.tag("2"), canary.tag("1")) == ("2", "rolling out", "live")
        assert "version 2 begins as a canary" in canary.said().values()
        assert canary.reconcile() == []
        canary.argo.finish()
        canary.calm()
        assert (canary.tag("1"), canary.tag("2")) == ("replaced", "live")

    def test_every_step_is_counted(self, canary):
        promoted(canary)
        page = canary.metrics.render()[2].decode()
        assert 'fbt_promoter_steps_total{reason="",step="Pin"} 2.0' in page
        assert 'fbt_promoter_version{role="champion"} 2.0' in page
        assert "fbt_promoter_in_sync 0.0" in page
        canary.calm()
        page = canary.metrics.render()[2].decode()
        assert "fbt_promoter_in_sync 1.0" in page
        assert 'fbt_promoter_phase{phase="done"} 1.0' in page

    def test_what_the_newest_version_was_warned_by_is_shown_until_the_next(self, plain):
        plain.mlflow.add(**{CHECKS_TAG: "order_lines.drift_products baskets.volume_ratio"})
        plain.reconcile()
        page = plain.metrics.render()[2].decode()
        drift = 'fbt_newest_version_check_failed{check="drift_products",table="order_lines"}'
        assert f"{drift} 1.0" in page
        assert 'check_failed{check="volume_ratio",table="baskets"} 1.0' in page
        assert 'fbt_promoter_version{role="newest"} 2.0' in page
        assert "fbt_newest_version_created_timestamp_seconds 0.0" not in page
        plain.mlflow.add()
        plain.reconcile()
        page = plain.metrics.render()[2].decode()
        assert f"{drift} 0.0" in page
        assert 'fbt_promoter_version{role="newest"} 3.0' in page

    def test_two_promotions_within_a_second_end_at_the_second(self, either):
        serving_one(either)
        second, third = either.mlflow.add(), either.mlflow.add()
        either.promote(second)
        either.reconcile()
        either.promote(third)
        either.calm()
        assert (either.pinned, either.champion, either.tag(third)) == (third, third, "live")
        # A real cluster may have been faster than the second promotion.
        assert either.tag(second) in ("superseded", *([] if either.fake else ["replaced"]))

    def test_a_rollback_by_hand_goes_back(self, either):
        serving_one(either)
        either.promote(either.mlflow.add())
        either.calm()
        either.promote("1")
        either.calm()
        assert (either.pinned, either.tag("1"), either.tag("2")) == ("1", "live", "replaced")

    def test_a_promotion_taken_back_during_its_canary(self, canary):
        promoted(canary)
        canary.promote("1")
        canary.calm()
        assert (canary.pinned, canary.tag("1"), canary.tag("2")) == ("1", "live", "superseded")


class TestFailed:
    def test_an_aborted_canary_gives_the_alias_back(self, canary):
        promoted(canary)
        canary.argo.abort()
        canary.calm()
        assert (canary.pinned, canary.champion) == ("1", "1")
        assert (canary.tag("1"), canary.tag("2")) == ("live", "failed")
        assert 'Metric "success-rate" assessed Failed' in canary.tag("2", "fbt.rollout_failed")
        assert "assessed Failed" in canary.said()["RolloutFailed"]
        assert "from version 2 to 1, which serves" in canary.said()["ChampionGivenBack"]

    def test_it_is_not_tried_again_unless_forced(self, canary):
        promoted(canary)
        canary.argo.abort()
        canary.calm()
        canary.promote("2")
        actions = canary.reconcile()
        assert not [one for one in actions if isinstance(one, Pin)]
        assert (canary.pinned, canary.champion) == ("1", "1")
        # What `fbt promote --force` does.
        canary.mlflow.versions["2"] |= {"fbt.forced_by": "ann"}
        del canary.mlflow.versions["2"]["fbt.rollout_failed"]
        canary.promote("2")
        canary.calm()
        assert (canary.pinned, canary.champion, canary.tag("2")) == ("2", "2", "live")

    def test_the_next_version_is_not_blamed_for_the_abort_before(self, canary):
        promoted(canary)
        canary.argo.abort()
        third = canary.mlflow.add()
        canary.promote(third)
        canary.reconcile()  # Argo has not seen the third yet: its status is the second's
        canary.reconcile()
        assert canary.pinned == third
        assert canary.tag(third, "fbt.rollout_failed") == ""
        canary.calm()
        assert (canary.pinned, canary.tag("2"), canary.tag(third)) == (third, "failed", "live")

    def test_an_abort_while_the_alias_is_deleted_goes_back_too(self, canary):
        promoted(canary)
        del canary.mlflow.aliases["champion"]
        canary.argo.abort()
        canary.calm()
        assert (canary.pinned, canary.champion, canary.tag("2")) == ("1", "", "failed")

    def test_a_canary_that_waits_is_said_and_left_alone(self, canary):
        promoted(canary)
        canary.argo.pause()
        canary.reconcile()
        assert canary.said()["CanaryPaused"] == "version 2 waits: InconclusiveAnalysisRun"
        assert canary.reconcile() == [
            EmitEvent("CanaryPaused", "version 2 waits: InconclusiveAnalysisRun", warning=True)
        ]
        assert (canary.pinned, canary.champion) == ("2", "2")

    def test_a_bundle_that_no_pod_can_read(self, plain):
        plain.broken = {"2"}
        plain.promote(plain.mlflow.add())
        plain.calm()
        assert (plain.pinned, plain.champion) == ("1", "1")
        assert plain.tag("2", "fbt.rollout_failed") == "fetch: n_orders.npy is damaged"

    def test_pods_that_never_get_ready(self, world):
        world.deploy("Deployment", deadline_s=2)
        serving_one(world)
        world.never_ready = {"2"}
        world.promote(world.mlflow.add())
        world.until(lambda: world.champion == "1")
        world.calm()
        assert (world.pinned, world.tag("2")) == ("1", "failed")
        assert "progress" in world.tag("2", "fbt.rollout_failed").lower()

    def test_the_first_version_of_all_has_nothing_to_go_back_to(self, world):
        world.deploy("Deployment")
        world.broken = {"1"}
        world.promote(world.mlflow.add())
        world.until(lambda: "NothingToGoBackTo" in world.said())
        assert (world.pinned, world.champion, world.tag("1")) == ("1", "1", "failed")
        world.promote(world.mlflow.add())
        world.calm()
        assert (world.pinned, world.tag("2")) == ("2", "live")


class TestAbortedByHand:
    def test_the_alias_goes_back_and_the_version_is_not_called_failed(self, canary):
        promoted(canary)
        canary.argo.abort_by_hand()
        canary.calm()
        assert (canary.pinned, canary.champion) == ("1", "1")
        assert (canary.tag("1"), canary.tag("2")) == ("live", "aborted by hand")
        assert canary.tag("2", "fbt.rollout_failed") == ""
        assert "RolloutFailed" not in canary.said()
        assert canary.said()["ChampionGivenBack"].endswith(": aborted by hand")
        last = list(canary.mlflow.tags.values())[-1]
        assert '"by": "promoter", "why": "aborted by hand"' in last

    def test_argo_has_seen_it_before_the_promoter(self, canary):
        promoted(canary)
        canary.argo.abort_by_hand()
        canary.argo.abort(message="")
        canary.calm()
        assert (canary.champion, canary.tag("2")) == ("1", "aborted by hand")

    def test_it_may_be_promoted_again(self, canary):
        promoted(canary)
        canary.argo.abort_by_hand()
        canary.calm()
        canary.promote("2")
        canary.calm()
        assert (canary.pinned, canary.champion, canary.tag("2")) == ("2", "2", "live")

    def test_the_next_champion_comes_all_the_same(self, canary):
        promoted(canary)
        canary.argo.abort_by_hand()
        third = canary.mlflow.add()
        canary.promote(third)
        canary.calm()
        assert (canary.pinned, canary.champion, canary.tag("2")) == (
            third,
            third,
            "aborted by hand",
        )


class TestRefused:
    def test_a_version_that_failed_its_gate(self, either):
        serving_one(either)
        either.promote(either.mlflow.add(verdict="failed"))
        either.calm()
        assert (either.pinned, either.champion) == ("1", "1")
        assert either.tag("2").startswith("refused: has the gate verdict 'failed'")
        assert "version 2 has the gate verdict 'failed'" in either.said()["VersionRefused"]

    def test_unless_it_was_forced_and_then_it_says_so(self, either):
        serving_one(either)
        either.promote(either.mlflow.add(verdict="failed", **{"fbt.forced_by": "ann"}))
        either.calm()
        assert (either.pinned, either.champion, either.tag("2")) == ("2", "2", "live")
        assert any("version 2" in text and "forced by ann" in text for text in said_all(either))

    def test_it_never_reaches_the_cluster_even_where_nothing_serves(self, either):
        either.promote(either.mlflow.add(verdict="failed"))
        either.calm()
        assert (either.pinned, either.champion) == ("", "1")
        assert "none served before" in either.said()["NothingToGoBackTo"]

    def test_a_bundle_that_is_not_in_the_registry(self, either):
        serving_one(either)
        made = either.mlflow.add()
        either.mlflow.bundles[made] = None
        either.promote(made)
        either.calm()
        assert (either.pinned, either.champion) == ("1", "1")
        assert "has no bundle in the registry" in either.tag("2")

    def test_a_bundle_of_which_a_file_is_missing(self, either, tmp_path):
        serving_one(either)
        made, partial = either.mlflow.add(), tmp_path / "partial"
        partial.mkdir()
        whole = either.mlflow.bundle
        for file in whole.iterdir():
            if file.name != "n_orders.npy":
                (partial / file.name).write_bytes(file.read_bytes())
        either.mlflow.bundles[made] = partial
        either.promote(made)
        either.calm()
        assert (either.pinned, either.champion) == ("1", "1")
        assert "has no n_orders.npy" in either.tag("2")


class TestAliasDeleted:
    def test_nothing_moves_and_it_is_said(self, either):
        serving_one(either)
        del either.mlflow.aliases["champion"]
        either.calm()
        assert (either.pinned, either.champion) == ("1", "")
        assert either.said()["NoChampion"] == "nobody is champion; version 1 stays"

    def test_a_canary_that_goes_on_may_arrive(self, canary):
        promoted(canary)
        del canary.mlflow.aliases["champion"]
        canary.calm()
        assert (canary.pinned, canary.champion, canary.tag("2")) == ("2", "", "live")


def replicas(world):
    kinds = ("Deployment", "Rollout")
    return {kind: world.cluster.get(kind, "fbt")["spec"]["replicas"] for kind in kinds}


def said_all(world):
    return [one["message"] for one in world.cluster.list_objects("Event")]


def edit(world, kind, patch):
    world.cluster.patch(kind, "fbt", patch)


def label(version):
    return {"spec": {"template": {"metadata": {"labels": {VERSION_LABEL: version}}}}}


class TestByHand:
    @pytest.mark.parametrize("version", ["77", None])
    def test_the_version_in_the_template(self, either, version):
        serving_one(either)
        edit(either, "Deployment", label(version))
        either.calm()
        assert (either.pinned, either.champion) == ("1", "1")

    def test_the_mark_of_the_stable_version(self, plain):
        edit(plain, "Deployment", {"metadata": {"annotations": {STABLE_ANNOTATION: None}}})
        plain.calm()
        found = plain.cluster.get("Deployment", "fbt")
        assert found["metadata"]["annotations"][STABLE_ANNOTATION] == "1"

    def test_a_deployment_deleted_is_waited_for(self, either):
        serving_one(either)
        delete(either, "Deployment")
        for _ in range(3):
            either.reconcile()
        assert either.cluster.get("Deployment", "fbt") is None, "it is not the promoter's to create"
        assert "there is no Deployment" in either.said()["WorkloadMissing"]
        assert 'fbt_promoter_phase{phase="missing"} 1.0' in either.metrics.render()[2].decode()
        either.restore("Deployment")
        either.calm()
        assert (either.pinned, either.champion) == ("1", "1")

    def test_a_deployment_deleted_during_an_update(self, plain):
        promoted(plain)
        delete(plain, "Deployment")
        plain.restore("Deployment")
        plain.calm()
        assert (plain.pinned, plain.champion) == ("2", "2")

    def test_a_rollout_deleted_is_waited_for(self, canary):
        delete(canary, "Rollout")
        canary.promote(canary.mlflow.add())
        for _ in range(3):
            canary.reconcile()
        assert canary.cluster.get("Rollout", "fbt") is None, "it is not the promoter's to create"
        assert "no Rollout refers to it" in canary.said()["RolloutMissing"]
        assert (canary.pinned, canary.champion) == ("1", "2")
        canary.restore("Rollout")
        canary.calm()
        assert (canary.pinned, canary.tag("2")) == ("2", "live")

    def test_a_rollout_deleted_never_makes_a_canary_stable(self, canary):
        promoted(canary)
        delete(canary, "Rollout")
        canary.reconcile()
        assert canary.pinned == "1", "a new Rollout takes the template that it finds for judged"
        canary.restore("Rollout")
        canary.reconcile()
        canary.turn()
        canary.reconcile()
        assert canary.pinned == "1", "version 1 has to be taken up first"
        assert "WaitingForStable" in canary.said()
        canary.argo.finish()
        canary.reconcile()
        canary.turn()
        assert canary.pinned == "2"
        canary.argo.abort()
        canary.calm()
        assert (canary.pinned, canary.champion) == ("1", "1")

    def test_a_live_version_that_never_comes_back_holds_up_no_other(self, canary):
        delete(canary, "Rollout")
        canary.promote(canary.mlflow.add())
        canary.reconcile()
        canary.restore("Rollout")
        canary.turn()
        canary.argo.time_out()
        canary.reconcile()
        assert canary.pinned == "2"

    def test_a_rollout_of_another_deployment_is_none(self, canary):
        edit(canary, "Rollout", {"spec": {"workloadRef": {"name": "other"}}})
        canary.reconcile()
        assert "no Rollout refers to it" in canary.said()["RolloutMissing"]
        edit(canary, "Rollout", {"spec": {"workloadRef": {"name": "fbt"}}})
        canary.calm()
        assert (canary.pinned, canary.reconcile()) == ("1", [])


def delete(world, kind):
    world.cluster._request("DELETE", kind, "fbt")


class TestRaces:
    def test_somebody_else_writes_between_look_and_write(self, either):
        serving_one(either)
        either.promote(either.mlflow.add())
        stale = either.cluster.get("Deployment", "fbt")
        edit(either, "Deployment", {"metadata": {"annotations": {"somebody": "else"}}})
        with pytest.raises(Conflict):
            either.promoter._execute(Pin("2"), stale)
        either.calm()
        assert either.pinned == "2"

    def test_a_promotion_while_the_one_before_is_refused_is_kept(self, either, monkeypatch):
        serving_one(either)
        refused, wanted = either.mlflow.add(verdict="failed"), either.mlflow.add()
        record = either.mlflow.POST_registered_models_set_tag

        def promote_in_between(given):
            if '"why": "refused"' in given["value"]:
                either.promote(wanted)
            return record(given)

        monkeypatch.setattr(either.mlflow, "POST_registered_models_set_tag", promote_in_between)
        either.promote(refused)
        either.calm()
        assert (either.pinned, either.champion) == (wanted, wanted)
        assert '"why": "refused"' not in str(either.mlflow.tags)

    def test_without_the_lease_nothing_is_written(self, either):
        either.promote(either.mlflow.add())
        with pytest.raises(LeadershipLost):
            either.promoter.reconcile()
        assert (either.pinned, either.said()) == ("", {})

    def test_of_two_promoters_one_acts(self, world):
        clock = [0.0]
        one, two = (
            Leadership(world.cluster, "of-two", name, duration_s=15, clock=lambda: clock[0])
            for name in ("one", "two")
        )
        one.renew()
        two.renew()
        assert (one.is_held, two.is_held) == (True, False)
        clock[0] += 11
        assert not one.is_held, "it stops before the other may begin"
        two.renew()
        assert not two.is_held
        clock[0] += 5
        two.renew()
        assert (one.is_held, two.is_held) == (False, True)
        one.renew()
        assert (one.is_held, two.is_held) == (False, True)
        two.release()
        one.renew()
        assert (one.is_held, two.is_held) == (True, False)

    def test_a_lease_that_is_renewed_is_kept(self, world):
        clock = [0.0]
        one, two = (
            Leadership(world.cluster, "of-two", name, duration_s=3, clock=lambda: clock[0])
            for name in ("one", "two")
        )
        for _ in range(8):
            one.renew()
            two.renew()
            assert (one.is_held, two.is_held) == (True, False)
            clock[0] += 1
            time.sleep(0.001)

    def test_the_standby_wakes_the_holder(self, world):
        one, two = (Leadership(world.cluster, "of-two", name) for name in ("one", "two"))
        assert not one.renew()
        two.notify_holder()
        assert one.renew()
        assert not one.renew(), "once"
