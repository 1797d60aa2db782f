"""Arms of an experiment: who gets which, what each changes, and that draws are fair."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from pydantic import SecretStr

from bento.answering.arms import Arms, Deployment, ServedModel, apply_settings
from bento.answering.interleaving import INTERLEAVED, draft_teams
from bento.answering.rules import RuleSet
from bento.schemas.catalogue import ChangedProduct
from bento.schemas.requests import RecommendRequest, SimilarRequest
from bento.schemas.responses import RecommendResponse
from bento.schemas.rules import Rule
from bento.served_arms import OpenBundles, build_arms, load_experiment
from bento.settings import Settings, SettingsError
from components.experiments.experiment import ArmSettings, Experiment
from tests.factories import make_bundle

OTHER_PAIRS = (("tea", "butter"), ("coffee", "pesto"), ("bread", "milk"), ("pasta", "sugar"))
CATALOGUE = ["tea", "milk", "coffee", "sugar", "bread", "butter", "pasta", "pesto"]
N = 4000

README = Path(__file__).parents[2] / "bento" / "README.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Version 1, where tea goes with milk, and version 2, where it goes with butter."""
    folder = tmp_path_factory.mktemp("arms")
    make_bundle(folder / "one")
    make_bundle(folder / "two", OTHER_PAIRS)
    return folder


@pytest.fixture
def bundles():
    return OpenBundles(Settings())


@pytest.fixture
def experiment(folder):
    """Of arms that are given as JSON objects."""

    def write(*arms, **more):
        path = folder / "experiment.json"
        path.write_text(json.dumps({"name": "spring", "arms": arms, **more}))
        return Settings(experiment=path, bundle=folder / "one", model_version="1")

    return write


@pytest.fixture
def open_arms(folder, bundles, experiment):
    def open_(*arms, **more):
        loaded = load_experiment(experiment(*arms, **more))
        return build_arms(loaded, folder / "one", "1", bundles, lambda *_: None)

    return open_


CONTROL = {"name": "control"}
NEW = {"name": "new", "model_version": "2", "bundle": "two"}


def ask(arms, session="s", request_id="r", items=("tea",), **more):
    request = RecommendRequest(items=list(items), session_id=session, **more)
    return arms.recommend(request, request_id)


def ids_of(shown):
    return shown.answer.list_product_ids()


def sessions_of(arms, **question):
    """A session's answer for each arm."""
    return {shown.variant: shown for shown in (ask(arms, f"s{i}", **question) for i in range(200))}


# Who gets which arm


def test_sessions_are_shared_out_by_weight_and_stay(open_arms):
    arms = open_arms({**CONTROL, "weight": 3}, NEW)
    first = [ask(arms, f"s{i}", f"a{i}").variant for i in range(N)]
    again = [ask(arms, f"s{i}", f"b{i}").variant for i in range(N)]
    assert first == again
    # Within four standard errors.
    assert Counter(first)["control"] / N == pytest.approx(3 / 4, abs=0.028)


def test_each_arm_answers_with_its_version(open_arms):
    found = sessions_of(open_arms(CONTROL, NEW), k=1)
    assert {name: (one.model.model_version, ids_of(one)) for name, one in found.items()} == {
        "control": ("1", ["milk"]),
        "new": ("2", ["butter"]),
    }
    assert {one.experiment for one in found.values()} == {"spring"}


def test_a_session_without_id_gets_the_control_and_does_not_count(open_arms):
    arms = open_arms(CONTROL, NEW, swap_share=1)
    for session in (None, ""):
        shown = ask(arms, session)
        assert (shown.variant, shown.experiment, shown.swap) == ("control", None, None)


def test_a_named_arm_is_forced_and_does_not_count(open_arms):
    arms = open_arms(CONTROL, NEW)
    for i in range(20):
        shown = ask(arms, f"s{i}", variant="new", k=1)
        assert (shown.variant, shown.experiment, ids_of(shown)) == ("new", None, ["butter"])


def test_another_variant_changes_nothing(open_arms):
    arms = open_arms(CONTROL, NEW)
    for i in range(20):
        assert ask(arms, f"s{i}", variant="blue").variant == ask(arms, f"s{i}").variant


def test_without_an_experiment_a_variant_is_repeated(bundles, folder):
    deployment = Deployment(ServedModel("1", "default", bundles.select(folder / "one")))
    assert ask(deployment).variant == "default"
    assert ask(deployment, variant="blue").variant == "blue"
    assert ask(deployment).experiment is None


def test_substitutes_come_from_the_arms_version_too(open_arms):
    arms = open_arms(CONTROL, NEW)
    found = {
        arms.similar(SimilarRequest(item="tea", session_id=f"s{i}"), "r").model.model_version
        for i in range(50)
    }
    assert found == {"1", "2"}


# What an arm changes


def test_settings_are_defaults_that_a_request_overrides():
    settings = ArmSettings(diversity=0.5, price_ratio=2)
    changed = apply_settings(RecommendRequest(items=["tea"]), settings)
    assert (changed.diversity, changed.price_ratio) == (0.5, 2)
    own = RecommendRequest(items=["tea"], diversity=0, price_ratio=None)
    assert apply_settings(own, settings) is own
    cart = RecommendRequest(items=["tea"], context="checkout")
    assert "price_ratio" not in apply_settings(cart, settings).model_fields_set


def test_limits_of_kinds_are_the_arms(open_arms):
    arms = open_arms(CONTROL, {"name": "free", "settings": {"max_same_kind": 3}})
    limits = {name: one.model.selection.limits for name, one in sessions_of(arms).items()}
    assert limits["free"].max_same_kind == 3
    assert (
        limits["control"]
        == arms._models["control"].selection.recommender.bundle.manifest.kind_limits
    )


def test_an_arms_price_ratio_leaves_dearer_products_out(open_arms):
    arms = open_arms(CONTROL, {"name": "cheap", "settings": {"price_ratio": 2}})
    found = sessions_of(arms, k=8)  # tea costs 1.50, and each product 1 more than the one before
    assert set(ids_of(found["cheap"])) == {"milk"}
    assert len(ids_of(found["control"])) == 7


def test_changes_and_rules_reach_all_arms(open_arms, bundles):
    arms = open_arms(CONTROL, NEW)
    bundles.apply_products([ChangedProduct("milk", {}, True), ChangedProduct("butter", {}, True)])
    found = sessions_of(arms, k=8)
    assert not {"milk", "butter"} & {id_ for one in found.values() for id_ in ids_of(one)}
    bundles.apply_rules(RuleSet([rule("block", "pasta")]))
    assert all("pasta" not in ids_of(one) for one in sessions_of(arms, k=8).values())


def test_arms_of_one_bundle_share_its_arrays(open_arms, bundles):
    open_arms(CONTROL, NEW, {"name": "varied", "settings": {"diversity": 0.5}})
    selections = bundles.selections
    assert len({id(one.recommender) for one in selections}) == 2
    bundles.apply_products([ChangedProduct("milk", {}, True)])
    assert len({id(one.catalogue) for one in selections}) == 2


def rule(action, product_id, **more):
    fields = {"action": action, "target": {"product_id": product_id}, "rule_id": product_id}
    times = dict.fromkeys(("created_at", "updated_at"), "2024-01-01T00:00:00Z")
    return Rule.model_validate_json(json.dumps({**fields, **times, "created_by": "ann", **more}))


# Holdouts


def test_an_empty_holdout_answers_nothing_and_says_so(open_arms):
    shown = sessions_of(open_arms(CONTROL, {"name": "none", "holdout": "empty"}))["none"]
    assert (shown.answer.shown, shown.experiment) == ((), "spring")
    assert "held out" in shown.answer.message


def test_a_holdout_of_bestsellers_answers_them_by_filters_and_blocks(open_arms, bundles):
    arms = open_arms(CONTROL, {"name": "top", "holdout": "bestsellers"}, swap_share=1)
    shown = sessions_of(arms, items=["pesto"], k=3)["top"]
    assert ids_of(shown) == CATALOGUE[:3]
    assert {shown.answer.source, *(item.source for item in shown.answer.shown)} == {"bestsellers"}
    assert shown.swap is None
    bundles.apply_rules(RuleSet([rule("block", "milk"), rule("pin", "pasta")]))
    assert ids_of(sessions_of(arms, items=["tea"], k=2)["top"]) == ["coffee", "sugar"]


def test_holdouts_are_answered_as_the_schema_has_it(open_arms):
    holdouts = ({"name": kind, "holdout": kind} for kind in ("empty", "bestsellers"))
    arms = open_arms(CONTROL, *holdouts)
    for name, shown in sessions_of(arms, k=100).items():
        body = shown.model.renderer.response(shown.answer, "r", shown.variant)
        answer = RecommendResponse.model_validate_json(body)
        assert (answer.variant, bool(answer.message)) == (name, True)


# Swaps


def draw_swaps(arms, n=N, **question):
    question = {"k": 5, **question}
    return [ask(arms, "s", f"r{i}", **question) for i in range(n)]


def test_swaps_are_drawn_uniformly_and_half_of_them_made(open_arms):
    plain = ids_of(ask(open_arms(CONTROL), k=5))
    shown = draw_swaps(open_arms(CONTROL, swap_share=0.5))
    drawn = [one for one in shown if one.swap is not None]
    assert len(drawn) / N == pytest.approx(0.5, abs=0.032)
    pairs = Counter(one.swap.pair for one in drawn)
    assert set(pairs) == {0, 1, 2, 3}
    assert all(n / len(drawn) == pytest.approx(1 / 4, abs=0.039) for n in pairs.values())
    swapped = [one for one in drawn if one.swap.is_swapped]
    assert len(swapped) / len(drawn) == pytest.approx(0.5, abs=0.045)
    for one in shown:
        expected = list(plain)
        if one.swap is not None and one.swap.is_swapped:
            i = one.swap.pair
            expected[i], expected[i + 1] = plain[i + 1], plain[i]
        assert ids_of(one) == expected


def test_the_same_request_id_is_swapped_the_same_way(open_arms):
    arms = open_arms(CONTROL, swap_share=0.5)
    assert [one.swap for one in draw_swaps(arms, 50)] == [one.swap for one in draw_swaps(arms, 50)]


def test_pins_and_ordered_lists_are_not_swapped(open_arms, bundles):
    arms = open_arms(CONTROL, swap_share=1)
    assert {one.swap for one in draw_swaps(arms, 20, sort="price")} == {None}
    assert {one.swap for one in draw_swaps(arms, 20, k=1)} == {None}
    bundles.apply_rules(RuleSet([rule("pin", "pesto", position=2)]))
    shown = draw_swaps(arms, 50)
    assert {one.swap.pair for one in shown} == {2, 3}
    assert {ids_of(one)[1] for one in shown} == {"pesto"}


# Interleaving


def test_each_list_drafts_its_best_in_turn():
    lists = [["a", "b", "c"], ["x", "y", "z"]]
    drafted = [draft_teams(lists, 4, f"{i}") for i in range(N)]
    for one in drafted:
        assert [value for value, team in one if team == 0] == ["a", "b"]
        assert [value for value, team in one if team == 1] == ["x", "y"]
        assert {team for _, team in one[:2]} == {team for _, team in one[2:]} == {0, 1}
    first = Counter(one[0][1] for one in drafted)
    assert first[0] / N == pytest.approx(0.5, abs=0.032)


def test_equal_lists_stay_and_favour_nobody():
    values = list("abcdef")
    drafted = [draft_teams([values, values], 6, f"{i}") for i in range(N)]
    assert all([value for value, _ in one] == values for one in drafted)
    for place in range(6):
        of_first = sum(one[place][1] == 0 for one in drafted)
        assert of_first / N == pytest.approx(0.5, abs=0.032)


def test_what_had_no_rival_is_in_no_team():
    drafted = draft_teams([["a"], ["x", "y", "z"]], 9, "")
    assert [value for value, _ in drafted][-2:] == ["y", "z"]
    assert [team for _, team in drafted][-2:] == [None, None]
    assert draft_teams([[], ["x"]], 9, "") == [("x", None)]
    assert draft_teams([[], []], 9, "") == []


def test_two_versions_make_one_list(open_arms):
    arms = open_arms(CONTROL, NEW, method="interleave")
    shown = [ask(arms, "s", f"r{i}", k=2) for i in range(200)]
    assert {(one.variant, one.model.model_version) for one in shown} == {(INTERLEAVED, "1+2")}
    given = Counter((*ids_of(one), *one.teams) for one in shown)
    assert set(given) == {
        ("milk", "butter", "control", "new"),
        ("butter", "milk", "new", "control"),
    }
    # Each product's card is that of the version that gave it: tea is first and butter second in 2.
    body = shown[0].model.renderer.response(shown[0].answer, "r", shown[0].variant)
    cards = {one.product_id: one for one in RecommendResponse.model_validate_json(body).items}
    assert (cards["milk"].price, cards["butter"].price) == (2.5, 2.5)
    assert {one.score for one in cards.values()} == {None}


def test_settings_alone_can_be_interleaved(open_arms):
    cheap = {"name": "cheap", "settings": {"price_ratio": 2}}
    arms = open_arms(CONTROL, cheap, method="interleave")
    shown = ask(arms, k=5)
    assert len(ids_of(shown)) == 5
    assert shown.model.model_version == "1"
    assert shown.teams.count("cheap") <= 1


def test_pins_keep_their_places_and_are_in_no_team(open_arms, bundles):
    arms = open_arms(CONTROL, NEW, method="interleave")
    bundles.apply_rules(RuleSet([rule("pin", "pasta", position=3)]))
    for i in range(20):
        shown = ask(arms, "s", f"r{i}", k=4)
        assert (ids_of(shown)[2], shown.teams[2]) == ("pasta", "")
        assert sorted(shown.teams)[1:] in (["control", "control", "new"], ["control", "new", "new"])


def test_swaps_keep_teams_with_their_products(open_arms):
    arms = open_arms(CONTROL, NEW, method="interleave", swap_share=1)
    for shown in draw_swaps(arms, 50, k=2):
        givers = dict(zip(ids_of(shown), shown.teams, strict=True))
        assert givers == {"milk": "control", "butter": "new"}
        assert shown.swap.pair == 0


def test_holdouts_and_ordered_lists_are_not_interleaved(open_arms):
    arms = open_arms(CONTROL, NEW, {"name": "none", "holdout": "empty"}, method="interleave")
    assert set(sessions_of(arms)) == {INTERLEAVED, "none"}
    ordered = sessions_of(arms, sort="price")
    assert set(ordered) == {"control", "none"}
    assert ordered["control"].experiment is None


# Bad experiments


@pytest.mark.parametrize(
    ("arms", "more", "message"),
    [
        ([{**NEW, "bundle": "gone"}], {}, "arm new: no bundle in .*gone"),
        ([{"name": "x", "bundle": "two"}], {}, "arm x: a bundle of its own takes a model_version"),
        ([{"name": "x", "model_version": "2"}], {}, "arm x: .* serves 1; name the folder"),
        ([{"name": "interleaved"}, NEW], {"method": "interleave"}, "arm interleaved: .* another"),
        ([CONTROL, {"name": "x", "wait": 1}], {}, r"experiment.json: arms.1.wait: Extra"),
        ([CONTROL, CONTROL], {}, "expected each name once"),
    ],
)  # fmt: skip
def test_a_bad_experiment_is_explained(experiment, arms, more, message):
    with pytest.raises(SettingsError, match=f"^FBT_EXPERIMENT: .*{message}"):
        load_experiment(experiment(*arms, **more))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"FBT_EXPERIMENT: experiment: cannot read .*gone.json"):
        load_experiment(Settings(experiment=tmp_path / "gone.json"))


def test_an_experiment_needs_its_log(experiment):
    settings = experiment(CONTROL, NEW).model_copy(update={"events_url": SecretStr("off")})
    with pytest.raises(SettingsError, match="FBT_EXPERIMENT: found FBT_EVENTS_URL off"):
        load_experiment(settings)


def test_one_arm_is_enough_for_a_deployment_among_several(open_arms):
    arms = open_arms({"name": "new"})
    shown = [ask(arms, f"s{i}") for i in range(20)]
    assert {(one.variant, one.experiment) for one in shown} == {("new", "spring")}


def test_an_experiment_needs_no_more_than_arms():
    assert isinstance(Arms(Experiment(name="x", arms=[CONTROL]), {}), Arms)


def test_the_documented_experiment_is_one():
    (text,) = re.findall(r"## Experiments\n.*?```json\n(.*?)```", README.read_text(), re.DOTALL)
    experiment = Experiment.model_validate_json(text)
    assert [arm.name for arm in experiment.arms] == ["control", "new", "varied", "nobody"]
