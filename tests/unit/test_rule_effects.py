"""What rules do to answers, which rule did it, and settings by rule."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bento.answering.catalogue import Catalogue
from bento.answering.kept_answers import KeptAnswers
from bento.answering.rendering import ResponseRenderer
from bento.answering.rules import RuleSet
from bento.answering.selection import Selection
from bento.schemas.catalogue import ChangedProduct
from bento.schemas.requests import RecommendRequest, SimilarRequest
from bento.schemas.responses import SCORE_PARTS, RecommendResponse
from bento.schemas.rules import Rule
from components.model.bundle import read_bundle
from components.model.kind_limits import DEFAULT_LIMITS, KindLimits
from components.model.kinds import Kinds
from components.model.recommender import Recommender
from components.model.variants import build_variants
from components.ranking.precompute import precompute_items
from tests.factories import make_bundle, random_bundle

MADE = datetime(2026, 1, 1, tzinfo=UTC)
N = 300


def make_rule(action, rule_id, created=0, **fields):
    at = (MADE + timedelta(hours=created)).isoformat()
    content = {
        "action": action, "rule_id": rule_id, "created_at": at, "updated_at": at,
        "created_by": "ann", **fields,
    }  # fmt: skip
    return Rule.model_validate_json(json.dumps(content))


def product(id_):
    return {"product_id": id_}


def ask(selection, *items, **more):
    request = RecommendRequest.model_validate({"items": list(items), **more})
    return to_response(selection.recommend(request))


def to_response(answer):
    body = ResponseRenderer("3", "default").response(answer, "r", None)
    return RecommendResponse.model_validate_json(body)


def ids_of(answer):
    return [item.product_id for item in answer.items]


@pytest.fixture(scope="module")
def snacks(tmp_path_factory):
    """Cola's page: lemonade first, then water, juice and the rest by sales; drinks are a kind."""
    pairs = [("cola", "lemonade"), ("water", "juice"), ("chips", "dip"), ("nuts", "bread")]
    drinks = dict.fromkeys(("cola", "lemonade", "water", "juice"), "drinks")
    others = {id_: id_ for id_ in ("chips", "dip", "nuts", "bread")}
    folder = tmp_path_factory.mktemp("snacks") / "bundle"
    bundle = read_bundle(make_bundle(folder, pairs, {**drinks, **others}, {}))
    kinds = Kinds(np.array([0, 0, 0, 0, 1, 2, 3, 4], np.int32))
    manifest = bundle.manifest.model_copy(update=DEFAULT_LIMITS._asdict())
    return replace(bundle, kinds=kinds, manifest=manifest)


@pytest.fixture
def shop(snacks):
    return Selection(Recommender(snacks), Catalogue(snacks.records, snacks.facets))


LIMITED = ["lemonade", "chips", "dip", "nuts", "bread"]
FREE = ["lemonade", "water", "juice", "chips", "dip"]


# Leaving rules out, and attribution


def test_a_request_without_rules_gets_the_model_alone(shop):
    shop.rules = RuleSet(
        [
            make_rule("block", "1", target=product("lemonade")),
            make_rule("pin", "2", target=product("juice")),
            make_rule("set", "3", settings={"max_own_kind": 0}),
        ]
    )
    assert ids_of(ask(shop, "cola", k=5, rules=False)) == LIMITED
    assert ids_of(ask(shop, "cola", k=5)) == ["juice", "chips", "dip", "nuts", "bread"]
    similar = SimilarRequest(item="cola", k=3, rules=False)
    assert "lemonade" in ids_of(to_response(shop.similar(similar)))


def test_each_product_names_the_rules_that_moved_it(shop):
    shop.rules = RuleSet(
        [
            make_rule("pin", "pin", target=product("bread"), position=2),
            make_rule("boost", "boost", target={"category": "dip"}, factor=100),
            make_rule("bury", "bury", target=product("dip"), factor=2),
            make_rule("boost", "elsewhere", target=product("nuts"), when=product("bread")),
        ]
    )
    answer = ask(shop, "cola", k=5, explain=True)
    assert {item.product_id: set(item.moved_by) for item in answer.items} == {
        "dip": {"boost", "bury"}, "bread": {"pin"}, "lemonade": set(), "chips": set(),
        "nuts": set(),
    }  # fmt: skip
    assert ask(shop, "cola", k=5).items[0].moved_by is None


def test_an_exemption_is_named_where_it_let_a_product_in(shop):
    shop.rules = RuleSet([make_rule("exempt", "1", target={"category": "drinks"})])
    answer = ask(shop, "cola", k=5, explain=True)
    assert ids_of(answer) == FREE
    assert [item.moved_by for item in answer.items] == [[], ["1"], ["1"], [], []]


def test_what_a_block_removed_is_listed_with_the_rule(shop):
    shop.rules = RuleSet(
        [
            make_rule("block", "1", target=product("chips")),
            make_rule("block", "2", target={"category": "drinks"}, when=product("cola")),
        ]
    )
    answer = ask(shop, "cola", k=3, explain=True)
    assert ids_of(answer) == ["dip", "nuts", "bread"]
    assert [(one.product_id, one.rule_id) for one in answer.left_out] == [
        ("lemonade", "2"), ("chips", "1"),
    ]  # fmt: skip
    assert ask(shop, "bread", k=3, explain=True).left_out == []  # chips are not among its first
    assert ask(shop, "cola", k=3).left_out is None


@pytest.mark.parametrize(
    ("rule", "n_moved"),
    [
        (make_rule("pin", "1", target=product("dip")), 1),
        (make_rule("block", "1", target=product("lemonade")), 1),
        (make_rule("block", "1", target=product("bread")), 0),
        (make_rule("boost", "1", target=product("bread"), factor=1000), 1),
        (make_rule("bury", "1", target=product("lemonade"), factor=1000), 1),
        (make_rule("bury", "1", target=product("bread"), factor=2), 0),
        (make_rule("exempt", "1", target=product("water")), 1),
        (make_rule("exempt", "1", target=product("chips")), 0),
        (make_rule("set", "1", settings={"max_own_kind": -1}), 1),
        (make_rule("set", "1", settings={"diversity": 0.5}), 1),
    ],
)
def test_a_rule_acts_where_it_changes_what_is_shown(shop, rule, n_moved):
    shop.rules = RuleSet([rule])
    answer = shop.recommend(RecommendRequest(items=["cola"], k=3))
    assert [one.rule_ids for one in answer.applied] == [("1",)]
    assert list(answer.acting_rules) == ["1"] * n_moved


def test_a_rule_for_other_products_is_not_applied(shop):
    shop.rules = RuleSet([make_rule("pin", "1", target=product("dip"), when=product("bread"))])
    assert shop.recommend(RecommendRequest(items=["cola"])).applied == []
    assert len(shop.recommend(RecommendRequest(items=["cola", "bread"])).applied) == 1


# Settings


def set_rule(rule_id, when=None, created=0, **given):
    return make_rule("set", rule_id, created, when=when, settings=given)


@pytest.mark.parametrize("more", [{}, {"exclude": []}])
def test_a_rule_sets_limits_of_kinds_for_a_category(shop, more):
    shop.rules = RuleSet([set_rule("1", {"category": "drinks"}, max_own_kind=0)])
    assert ids_of(ask(shop, "cola", k=5, **more)) == ["chips", "dip", "nuts", "bread", "lemonade"]
    assert ids_of(ask(shop, "bread", k=5, **more)) == ids_of(
        ask(shop, "bread", k=5, rules=False, **more)
    )


@pytest.mark.parametrize("more", [{}, {"exclude": []}])
def test_a_field_of_the_request_comes_before_a_rule(shop, more):
    shop.rules = RuleSet([set_rule("1", max_own_kind=0)])
    assert ids_of(ask(shop, "cola", k=5, max_own_kind=1, **more)) == LIMITED
    assert ids_of(ask(shop, "cola", k=5, max_own_kind=None, **more))[0] == "chips"


def test_the_most_specific_rule_applies_and_of_equals_the_one_made_last(shop):
    rules = [
        set_rule("for all, later", created=9, max_own_kind=3, max_same_kind=5),
        set_rule("category", {"category": "drinks"}, created=5, max_own_kind=2),
        set_rule("category, later", {"category": "drinks"}, created=6, max_own_kind=0),
        set_rule("product", product("water"), created=1, max_own_kind=-1),
    ]
    shop.rules = RuleSet(rules)
    cola = ask(shop, "cola", k=5, explain=True)
    assert ids_of(cola)[0] == "chips"
    assert set(cola.items[0].moved_by) == {"for all, later", "category, later"}
    water = ask(shop, "water", k=5, explain=True)
    assert ids_of(water)[:3] == ["juice", "cola", "lemonade"]
    assert set(water.items[0].moved_by) == {"for all, later", "product"}


def test_every_setting_does_what_the_field_of_a_request_does(snacks):
    shop = Selection(Recommender(snacks), Catalogue(snacks.records, snacks.facets))
    shop.catalogue = shop.catalogue.with_changes(
        [ChangedProduct("water", {"in_stock": False}), ChangedProduct("cola", {"price": 2.0})]
    )
    for name, value in {
        "max_own_kind": 3, "max_same_kind": 1, "diversity": 0.9, "price_ratio": 1.5,
        "strict": True, "include_out_of_stock": True,
    }.items():  # fmt: skip
        shop.rules = RuleSet([set_rule("1", **{name: value})])
        asked = ask(shop, "cola", k=5, rules=False, **{name: value})
        assert ids_of(ask(shop, "cola", k=5)) == ids_of(asked), name
        assert ids_of(ask(shop, "cola", k=5, rules=False, **{name: value})) == ids_of(asked)


def test_at_checkout_no_rule_lifts_the_price_limit(shop):
    shop.rules = RuleSet([set_rule("1", price_ratio=100.0)])
    assert ids_of(ask(shop, "cola", "chips", context="checkout")) == ids_of(
        ask(shop, "cola", "chips", context="checkout", rules=False)
    )


def test_limits_that_tell_arms_apart_are_no_rules_to_set(snacks):
    catalogue = Catalogue(snacks.records, snacks.facets)
    shop = Selection(Recommender(snacks), catalogue, KindLimits(1, 2), ["max_own_kind"])
    shop.rules = RuleSet([set_rule("1", max_own_kind=0)])
    for more in ({}, {"exclude": []}):
        assert ids_of(ask(shop, "cola", k=5, **more)) == LIMITED


# The quick way


@pytest.fixture(scope="module")
def large():
    """Many products, of which a page's list has a third."""
    bundle = random_bundle(7, n_items=N)
    kinds = Kinds(np.arange(N, dtype=np.int32) % 11)
    manifest = bundle.manifest.model_copy(update=DEFAULT_LIMITS._asdict())
    variants = build_variants(np.array([0]), np.array([1]), N)
    bundle = replace(bundle, kinds=kinds, manifest=manifest, variants=variants)
    return replace(bundle, precomputed=precompute_items(Recommender(bundle), None))


ids = st.integers(0, N - 1).map(lambda row: f"p{row}")
scopes = st.one_of(
    ids.map(product), st.sampled_from("abc").map(lambda name: {"category": name}),
    st.sampled_from(["brand 0", "no such"]).map(lambda name: {"brand": name}),
)  # fmt: skip
near = st.integers(0, 12).map(lambda row: product(f"p{row}"))  # often shown
limits = st.fixed_dictionaries(
    {}, optional={"max_own_kind": st.integers(-1, 3), "max_same_kind": st.integers(1, 3)}
).filter(bool)


@st.composite
def rules(draw):
    made = []
    for number in range(draw(st.integers(1, 4))):
        when = draw(st.none() | scopes)
        action = draw(st.sampled_from(["pin", "block", "boost", "bury", "exempt", "set"]))
        if action == "set":
            fields = {"settings": draw(limits)}
        else:
            # Many products are not of the page's list, so that some rules do not concern it.
            fields = {"target": draw(ids.map(product) if action == "pin" else scopes | near)}
        made.append(make_rule(action, f"{number}", number, when=when, **fields))
    return made


@settings(max_examples=300, deadline=None)
@given(rules(), ids, st.integers(1, 60), st.booleans())
def test_the_quick_way_answers_as_the_long_one_under_any_rules(large, made, asked, k, is_changed):
    selection = Selection(Recommender(large), Catalogue(large.records, large.facets))
    if is_changed:
        selection.catalogue = selection.catalogue.with_changes(
            [ChangedProduct("p9", {"in_stock": False})]
        )
    selection.rules = RuleSet(made)
    quick = selection.recommend(RecommendRequest(items=[asked], k=k))
    assert selection.recommend(RecommendRequest(items=[asked], k=k)) == quick
    slow = selection.recommend(RecommendRequest(items=[asked], k=k, exclude=[]))
    assert [one._replace(moved_by=set(one.moved_by)) for one in quick.shown] == [
        one._replace(moved_by=set(one.moved_by)) for one in slow.shown
    ]
    assert quick.rules == slow.rules
    assert list(quick.applied) == list(slow.applied)
    assert set(quick.acting_rules) == set(slow.acting_rules)


def test_a_page_follows_a_rule_that_ends(large):
    selection = Selection(Recommender(large), Catalogue(large.records, large.facets))
    now = datetime.now(UTC)
    ends_at = (now + timedelta(seconds=0.5)).isoformat()
    selection.rules = RuleSet([make_rule("pin", "1", target=product("p9"), ends_at=ends_at)])
    page = RecommendRequest(items=["p20"], k=3)
    assert [len(selection.recommend(page).applied) for _ in range(2)] == [1, 1]
    time.sleep(0.6)
    answer = selection.recommend(page)
    assert (answer.applied, answer.acting_rules) == ([], ())


def test_a_kept_page_follows_a_rule_that_starts_for_it(large):
    selection = Selection(Recommender(large), Catalogue(large.records, large.facets))
    starts_at = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    always = make_rule("pin", "1", target=product("p9"))
    later = make_rule("pin", "2", target=product("p8"), when=product("p20"), starts_at=starts_at)
    selection.rules = RuleSet([always, later])
    page = RecommendRequest(items=["p20"], k=3)
    assert [selection.recommend(page).acting_rules for _ in range(2)] == [("1",)] * 2
    time.sleep(0.6)
    assert [set(selection.recommend(page).acting_rules) for _ in range(2)] == [{"1", "2"}] * 2


def test_a_kept_page_follows_the_catalogue(large):
    selection = Selection(Recommender(large), Catalogue(large.records, large.facets))
    selection.rules = RuleSet([make_rule("pin", "1", target=product("p9"))])
    assert [ids_of(ask(selection, "p20", k=3))[0] for _ in range(2)] == ["p9", "p9"]
    gone = ChangedProduct("p9", {"in_stock": False})
    selection.catalogue = selection.catalogue.with_changes([gone])
    assert "p9" not in ids_of(ask(selection, "p20", k=3))


def test_no_more_pages_are_kept_than_there_is_room_for(large, monkeypatch):
    monkeypatch.setattr("bento.answering.kept_answers.MAX_ITEMS", 6)
    selection = Selection(Recommender(large), Catalogue(large.records, large.facets))
    selection.rules = RuleSet([make_rule("pin", "1", target=product("p9"))])
    pages = [RecommendRequest(items=[f"p{row}"], k=3) for row in range(20, 30)]
    first = [selection.recommend(page) for page in pages]
    assert [selection.recommend(page) for page in pages] == first
    kept = KeptAnswers(selection.resolve_rules(), datetime.now(UTC))
    for answer, page in zip(first, range(10), strict=True):
        kept.keep((page, 3), answer)
        kept.find((0, 3))
    # Two generations of two pages; what was asked for all the time stayed.
    left = [page for page in range(10) if kept.find((page, 3))]
    assert len(left) <= 4
    assert {0, 9} <= set(left)


def test_rules_that_do_not_concern_a_page_leave_it_the_quick_way(large):
    selection = Selection(Recommender(large), Catalogue(large.records, large.facets))
    row = 20
    shown = set(selection.recommender.items.rank_one(row, 100)[0].tolist())
    others = [one for one in range(N) if one not in shown and one != row]
    assert len(others) > 100
    for action in ("block", "boost", "bury", "exempt"):
        here = [make_rule(action, f"{one}", target=product(f"p{one}")) for one in others]
        there = make_rule("pin", "pin", target=product("p9"), when=product(f"p{others[0]}"))
        selection.rules = RuleSet([*here, there])
        assert selection._answer_plain(RecommendRequest(items=[f"p{row}"])) is not None


# Parts of scores


@given(st.lists(ids, min_size=1, max_size=4, unique=True))
@settings(max_examples=30, deadline=None)
def test_parts_add_up_to_the_blend(large, asked):
    selection = Selection(Recommender(large), Catalogue(large.records, large.facets))
    more = {"max_own_kind": -1, "max_same_kind": -1, "price_ratio": None}
    answer = ask(selection, *asked, explain=True, k=10, **more)
    assume(all(item.source in ("model", "embeddings") for item in answer.items))
    for item in answer.items:
        parts = dict(item.score_parts)
        assert parts.keys() <= SCORE_PARTS.keys()
        assert parts.pop("blend") == pytest.approx(item.score, rel=1e-4, abs=1e-5)
        assert sum(parts.values()) == pytest.approx(item.score, rel=1e-4, abs=1e-5)


def test_parts_of_similar_products_add_up(large):
    selection = Selection(Recommender(large), Catalogue(large.records, large.facets))
    answer = to_response(selection.similar(SimilarRequest(item="p3", k=5, explain=True)))
    for item in answer.items:
        assert item.score_parts.keys() == {"cosine", "description"}
        assert sum(item.score_parts.values()) == pytest.approx(item.score, rel=1e-5)
