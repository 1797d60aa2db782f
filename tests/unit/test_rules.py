"""What a person may write as a rule, and what rules do to a question."""

import dataclasses
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bento.answering.rules import MAX_FACTOR, Pin, QueryProduct, RuleSet
from bento.schemas.catalogue import CatalogueRequest, ProductChange
from bento.schemas.rules import Rule, RuleRequest, Scope

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEA = QueryProduct("tea", "drinks", "Twig")
MILK = QueryProduct("milk", "dairy", None)


def rule(action, target, when=None, rule_id="1", **more):
    return Rule(
        action=action,
        target=Scope(**target),
        when=when and Scope(**when),
        rule_id=rule_id,
        created_at=NOON,
        updated_at=NOON,
        created_by="ann",
        **more,
    )


class Effects:
    """All effects of rules on a request: those on every request and those of its products."""

    def __init__(self, rules, products=(TEA,), now=NOON):
        rules = rules if isinstance(rules, RuleSet) else RuleSet(rules)
        self.parts = [rules.global_effects(now), *rules.effects_for(products, now)]

    @property
    def rule_ids(self):
        return tuple(id_ for part in self.parts for id_ in part.rule_ids)

    def pins(self):
        pins = sorted(pin for part in self.parts for pin in part.pins)
        return [pin for pin in pins if not self.blocks(QueryProduct(pin.product_id))]

    def blocks(self, product):
        pairs = product._asdict().items()
        return any(name in part.blocked[kind] for part in self.parts for kind, name in pairs)

    def exempts(self, product):
        pairs = product._asdict().items()
        return any(name in part.exempt[kind] for part in self.parts for kind, name in pairs)

    def factor(self, product):
        net = 1.0
        for part in self.parts:
            for kind, name in product._asdict().items():
                if name in part.factors[kind]:
                    net *= part.factors[kind][name].value
        return net


def as_dicts(effects):
    return [dataclasses.asdict(part) for part in effects.parts]


class TestRequest:
    @pytest.mark.parametrize(
        ("text", "where", "what"),
        [
            ('{"target": {"brand": "B"}}', ("action",), "required"),
            ('{"action": "hide", "target": {"brand": "B"}}', ("action",), "'pin', 'block'"),
            ('{"action": "block"}', ("target",), "required"),
            ('{"action": "set"}', (), "settings where action is set"),
            ('{"action": "set", "settings": {}}', ("settings",), "at least one"),
            ('{"action": "set", "settings": {"k": 3}}', ("settings", "k"), "Extra"),
            (
                '{"action": "set", "settings": {"diversity": 2}}',
                ("settings", "diversity"),
                "less than or equal to 1",
            ),
            (
                '{"action": "set", "settings": {"max_same_kind": 0}}',
                ("settings", "max_same_kind"),
                "1 or more",
            ),
            (
                '{"action": "set", "target": {"brand": "B"}, "settings": {"strict": true}}',
                ("target",),
                "no target",
            ),
            (
                '{"action": "block", "target": {"brand": "B"}, "settings": {"strict": true}}',
                (),
                "only there",
            ),
            ('{"action": "block", "target": {}}', ("target",), "exactly one of"),
            (
                '{"action": "block", "target": {"brand": "B", "category": "C"}}',
                ("target",),
                "exactly one of",
            ),
            ('{"action": "block", "target": {"brand": ""}}', ("target", "brand"), "at least 1"),
            ('{"action": "block", "target": {"brand": 7}}', ("target", "brand"), "string"),
            (
                '{"action": "block", "target": {"brand": "\\u0000"}}',
                ("target", "brand"),
                "without NUL",
            ),
            ('{"action": "block", "target": {"brand": "B"}, "when": {}}', ("when",), "exactly one"),
            ('{"action": "pin", "target": {"brand": "B"}}', (), "target is a product_id"),
            (
                '{"action": "pin", "target": {"product_id": "p"}, "position": 101}',
                ("position",),
                "100",
            ),
            ('{"action": "block", "target": {"brand": "B"}, "position": 1}', (), "only where"),
            ('{"action": "block", "target": {"brand": "B"}, "factor": 2}', (), "only for boost"),
            ('{"action": "boost", "target": {"brand": "B"}, "factor": 1}', ("factor",), "greater"),
            (
                '{"action": "boost", "target": {"brand": "B"}, "factor": 1e999}',
                ("factor",),
                "finite",
            ),
            (
                '{"action": "block", "target": {"brand": "B"}, "starts_at": "2026-01-01T00:00:00"}',
                ("starts_at",),
                "timezone",
            ),
            (
                '{"action": "block", "target": {"brand": "B"}, '
                '"ends_at": "0001-01-01T00:00:00+14:00"}',
                ("ends_at",),
                "years 1 to 9999",
            ),
            (
                '{"action": "block", "target": {"brand": "B"}, '
                '"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2026-01-01T01:00:00+01:00"}',
                (),
                "later than starts_at",
            ),
            ('{"action": "block", "target": {"brand": "B"}, "until": 1}', ("until",), "Extra"),
        ],
    )
    def test_what_is_wrong_is_said(self, text, where, what):
        with pytest.raises(ValidationError) as caught:
            RuleRequest.model_validate_json(text)
        (error,) = caught.value.errors()
        assert error["loc"] == where
        assert what in error["msg"]

    def test_position_and_factor_have_usual_values(self):
        assert rule("pin", {"product_id": "p"}).position == 1
        assert rule("boost", {"brand": "B"}).factor == 3
        assert rule("bury", {"brand": "B"}, factor=None).factor == 3
        assert rule("block", {"brand": "B"}).factor is None

    def test_moments_are_kept_in_utc(self):
        text = (
            '{"action": "block", "target": {"brand": "B"}, "ends_at": "2026-01-01T01:00:00+01:00"}'
        )
        assert RuleRequest.model_validate_json(text).ends_at == datetime(2026, 1, 1, tzinfo=UTC)

    @pytest.mark.parametrize("model", [RuleRequest, Rule, ProductChange, CatalogueRequest])
    def test_examples_are_valid(self, model):
        import json

        example = model.model_config["json_schema_extra"]["example"]
        model.model_validate_json(json.dumps(example))


class TestEffects:
    def test_no_rules_do_nothing(self):
        assert RuleSet().is_empty
        assert all(part.is_empty for part in Effects([]).parts)

    @pytest.mark.parametrize(
        ("when", "applies"),
        [
            (None, True),
            ({"product_id": "tea"}, True),
            ({"category": "drinks"}, True),
            ({"brand": "Twig"}, True),
            ({"product_id": "drinks"}, False),
            ({"category": "Drinks"}, False),
            ({"brand": "tea"}, False),
        ],
    )
    def test_a_rule_applies_to_questions_that_hold_what_it_names(self, when, applies):
        rules = RuleSet([rule("block", {"product_id": "gin"}, when)])
        assert not rules.is_empty
        assert Effects(rules, [MILK, TEA]).blocks(QueryProduct("gin")) is applies
        assert bool(Effects(rules, []).rule_ids) is (when is None)

    def test_a_rule_counts_once_however_many_products_it_holds_for(self):
        twice = [TEA, TEA._replace(product_id="green tea")]
        found = Effects([rule("bury", {"brand": "B"}, {"category": "drinks"})], twice)
        assert found.factor(QueryProduct("?", None, "B")) == 3
        assert found.rule_ids == ("1",)

    def test_blocks_by_product_category_and_brand(self):
        found = Effects(
            [
                rule("block", {"product_id": "gin"}),
                rule("block", {"category": "toys"}, rule_id="2"),
                rule("block", {"brand": "B"}, rule_id="3"),
            ]
        )
        assert found.blocks(QueryProduct("gin"))
        assert found.blocks(QueryProduct("car", "toys"))
        assert found.blocks(QueryProduct("pen", "office", "B"))
        assert not found.blocks(TEA)

    def test_pins_come_in_order_and_each_product_once(self):
        rules = [
            rule("pin", {"product_id": "b"}, position=2, rule_id="1"),
            rule("pin", {"product_id": "a"}, position=2, rule_id="2"),
            rule("pin", {"product_id": "b"}, position=5, rule_id="3"),
            rule("pin", {"product_id": "c"}, rule_id="4"),
        ]
        expected = (Pin(1, "c", "4"), Pin(2, "a", "2"), Pin(2, "b", "1"))
        assert RuleSet(rules).global_effects(NOON).pins == expected
        when = [Scope(product_id="tea"), Scope(category="drinks"), Scope(brand="Twig")]
        rules = [one.model_copy(update={"when": when[i % 3]}) for i, one in enumerate(rules)]
        found = Effects(rules).pins()
        assert found == sorted(found)
        assert found[:3] == list(expected)

    def test_what_is_blocked_is_not_pinned(self):
        always, here = rule("pin", {"product_id": "a"}), {"product_id": "tea"}
        blocks = rule("block", {"product_id": "a"}, rule_id="2")
        assert RuleSet([always, blocks]).global_effects(NOON).pins == ()
        both = [always.model_copy(update={"when": Scope(brand="Twig")})]
        both += [rule("block", {"product_id": "a"}, here, rule_id="2")]
        assert Effects(both).pins() == []

    def test_factors_multiply(self):
        found = Effects(
            [
                rule("boost", {"brand": "B"}, factor=4.0),
                rule("bury", {"brand": "B"}, {"product_id": "tea"}, rule_id="2", factor=2.0),
                rule("boost", {"product_id": "pen"}, rule_id="3", factor=5.0),
            ]
        )
        assert found.factor(QueryProduct("cup", None, "B")) == 0.5
        assert found.factor(QueryProduct("pen", None, "B")) == pytest.approx(0.1)
        assert found.factor(TEA) == 1

    @pytest.mark.parametrize("when", [None, {"product_id": "tea"}])
    def test_however_many_multiply_the_factor_is_a_number(self, when):
        many = [
            rule(action, {"brand": "B"}, when, rule_id=f"{action}{i}", factor=1000.0)
            for action in ("boost", "bury")
            for i in range(200)
        ]
        assert Effects(many).factor(QueryProduct("?", None, "B")) == 1
        assert Effects(many[:200]).factor(QueryProduct("?", None, "B")) == 1 / MAX_FACTOR

    def test_time_is_honoured_to_the_second_and_backwards(self):
        second = timedelta(seconds=1)
        rules = RuleSet([rule("block", {"brand": "B"}, starts_at=NOON, ends_at=NOON + 2 * second)])
        for moment in (*range(-1, 4), *range(4, -2, -1)):
            found = rules.global_effects(NOON + moment * second)
            assert found.is_empty is (moment not in (0, 1)), moment
        assert not rules.is_empty

    def test_what_holds_for_every_question_is_one_object(self):
        timed = rule("block", {"brand": "C"}, rule_id="2", starts_at=NOON + timedelta(hours=1))
        rules = RuleSet([rule("block", {"brand": "B"}), timed])
        first = rules.global_effects(NOON)
        assert rules.global_effects(NOON + timedelta(minutes=59)) is first
        assert rules.effects_for([TEA], NOON) == []
        later = rules.global_effects(NOON + timedelta(hours=1))
        assert later.blocked["brand"] == {"B": ("1",), "C": ("2",)}


names = st.sampled_from(["a", "b", "c"])
scopes = st.builds(
    lambda kind, name: Scope(**{kind: name}),
    st.sampled_from(["product_id", "category", "brand"]),
    names,
)
moments = st.none() | st.integers(-3, 3).map(lambda hours: NOON + timedelta(hours=hours))


@st.composite
def rule_sets(draw):
    """Any rules over three names, their windows within three hours of noon."""
    rules = []
    for i in range(draw(st.integers(0, 8))):
        action = draw(st.sampled_from(["pin", "block", "boost", "bury", "exempt"]))
        target = Scope(product_id=draw(names)) if action == "pin" else draw(scopes)
        starts, ends = draw(moments), draw(moments)
        if starts and ends and ends <= starts:
            ends = None
        more = {"position": draw(st.integers(1, 4))} if action == "pin" else {}
        rules.append(
            rule(
                action,
                target.model_dump(exclude_none=True),
                (draw(st.none() | scopes) or Scope(brand="a")).model_dump(exclude_none=True)
                if draw(st.booleans())
                else None,
                rule_id=f"r{i}",
                starts_at=starts,
                ends_at=ends,
                **more,
            )
        )
    return rules


products = st.builds(QueryProduct, names, st.none() | names, st.none() | names)


@given(rule_sets(), st.lists(products, max_size=3), products, st.integers(-4, 4))
def test_rules_do_what_each_of_them_says(rules, asked, product, hours):
    """Against a reading of every rule, one by one."""
    now = NOON + timedelta(hours=hours)

    def holds(scope, one):
        kind, name = scope.key
        return getattr(one, kind) == name

    here = [
        one
        for one in rules
        if one.is_active(now) and (one.when is None or any(holds(one.when, each) for each in asked))
    ]
    found = Effects(rules, asked, now)
    assert sorted(found.rule_ids) == [one.rule_id for one in here]
    assert found.blocks(product) == any(
        one.action == "block" and holds(one.target, product) for one in here
    )
    assert found.exempts(product) == any(
        one.action == "exempt" and holds(one.target, product) for one in here
    )
    factor = 1.0
    for one in here:
        if holds(one.target, product) and one.factor:
            factor *= 1 / one.factor if one.action == "boost" else one.factor
    assert found.factor(product) == pytest.approx(factor)
    pinned = {one.target.product_id for one in here if one.action == "pin"}
    pins = found.pins()
    assert {pin.product_id for pin in pins} == {
        id_ for id_ in pinned if not found.blocks(QueryProduct(id_))
    }
    for part in found.parts:
        assert list(part.pins) == sorted(part.pins)
        assert len({pin.product_id for pin in part.pins}) == len(part.pins)


@given(rule_sets(), st.lists(products, min_size=2, max_size=3))
def test_neither_the_order_of_the_cart_nor_that_of_the_rules_matters(rules, asked):
    expected = as_dicts(Effects(rules, asked))
    backwards = RuleSet(rules[::-1])
    assert all(as_dicts(Effects(backwards, cart)) == expected for cart in permutations(asked))


class TestCatalogue:
    @pytest.mark.parametrize(
        ("text", "where", "what"),
        [
            ("{}", (), "at least one"),
            ('{"upsert": [{}]}', ("upsert", 0, "product_id"), "required"),
            (
                '{"upsert": [{"product_id": "a", "price": -1}]}',
                ("upsert", 0, "price"),
                "equal to 0",
            ),
            ('{"upsert": [{"product_id": "a", "price": 1e999}]}', ("upsert", 0, "price"), "finite"),
            ('{"upsert": [{"product_id": "a", "in_stock": 1}]}', ("upsert", 0, "in_stock"), "bool"),
            ('{"delete": [""]}', ("delete", 0), "at least 1"),
            ('{"delete": ["\\u0000"]}', ("delete", 0), "without NUL"),
            ('{"upsert": [{"product_id": "a"}], "delete": ["a"]}', (), "a is in both"),
            (
                '{"upsert": [{"product_id": "a", "attributes": {"size": 3}}]}',
                ("upsert", 0, "attributes", "size"),
                "string",
            ),
        ],
    )
    def test_what_is_wrong_is_said(self, text, where, what):
        with pytest.raises(ValidationError) as caught:
            CatalogueRequest.model_validate_json(text)
        (error,) = caught.value.errors()
        assert error["loc"] == where
        assert what in error["msg"]

    def test_only_what_is_given_is_a_change(self):
        text = '{"product_id": "a", "price": null, "added_at": "2026-01-01T01:00:00+01:00"}'
        change = ProductChange.model_validate_json(text)
        assert change.to_patch() == {"price": None, "added_at": "2026-01-01T00:00:00Z"}

    @pytest.mark.parametrize(("field", "n"), [("upsert", 10_001), ("delete", 10_001)])
    def test_too_many_are_refused(self, field, n):
        some = {"upsert": [{"product_id": "a"}] * n, "delete": ["a"] * n}[field]
        with pytest.raises(ValidationError, match="at most 10000"):
            CatalogueRequest.model_validate({field: some})
