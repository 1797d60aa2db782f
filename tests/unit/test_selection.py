"""Whatever is asked for, an answer holds to it: filters, rules, lengths, order; by brute force."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bento.answering.catalogue import Catalogue, ProductFilter
from bento.answering.rendering import ResponseRenderer
from bento.answering.rules import RuleSet
from bento.answering.selection import Selection
from bento.schemas.catalogue import ChangedProduct
from bento.schemas.requests import RecommendRequest, SimilarRequest
from bento.schemas.responses import RecommendResponse
from bento.schemas.rules import Rule, RuleRequest
from components.model.bundle import read_bundle, write_bundle
from components.model.chance import Chance
from components.model.kind_limits import DEFAULT_LIMITS, NO_LIMITS, KindLimits
from components.model.kinds import Kinds
from components.model.product_records import build_records, hash_facet
from components.model.recommender import Recommender
from components.model.variants import build_variants
from components.ranking.precompute import precompute_items
from tests.factories import make_bundle, products_table, random_bundle

N = 40
IDS = [f"p{row}" for row in range(N)]
COLOURS = ("red", "blue", None)


def shop_bundle(folder, seed, precomputed=True):
    """A random model over products that have everything that can be filtered and sorted by."""
    bundle = random_bundle(seed, n_items=N)
    table = bundle.products
    columns = {
        "in_stock": [(True, False, None)[row % 3] for row in range(N)],
        "margin": [None if row % 6 == 5 else float((row * 7) % 11) for row in range(N)],
        "added_at": [
            None if row % 7 == 6 else datetime(2024, 1, 1 + row % 28, tzinfo=UTC)
            for row in range(N)
        ],
        "attributes": [
            None if COLOURS[row % 3] is None else json.dumps({"colour": COLOURS[row % 3]})
            for row in range(N)
        ],
    }
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), [values])
    if seed > 1:
        bundle = replace(bundle, chance=random_chance(bundle, seed))
    variants = build_variants(np.array([0, 5]), np.array([1, 9]), N)
    records, facets = build_records(table)
    bundle = replace(bundle, products=table, records=records, facets=facets, variants=variants)
    if seed > 1:
        kinds = Kinds(np.arange(N, dtype=np.int32) % 7)
        limits = DEFAULT_LIMITS._asdict()
        manifest = bundle.manifest.model_copy(update=limits)
        bundle = replace(bundle, kinds=kinds, manifest=manifest)
    if precomputed:
        bundle = replace(bundle, precomputed=precompute_items(Recommender(bundle), None))
    write_bundle(bundle, folder)
    return read_bundle(folder)


def random_chance(bundle, seed):
    rng = np.random.default_rng(seed)
    baskets = rng.integers(5, 90, (N, 2)).astype(np.float32)
    shares, others = rng.random(N, np.float32) / N, np.array([1, 4], np.float32)
    excess = np.zeros(len(bundle.pairs.rows), np.float32)
    return Chance(shares, others, baskets, excess, rng.integers(0, 3, len(excess), np.uint8))


def selection_of(bundle):
    return Selection(Recommender(bundle), Catalogue(bundle.records, bundle.facets))


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shops")
    return [shop_bundle(folder / f"{seed}", seed, precomputed=seed > 0) for seed in range(3)]


def ask(selection, question):
    """The answer as the schema has it, after a check that it is what the schema describes."""
    request = RecommendRequest.model_validate(question)
    body = ResponseRenderer("3", "default").response(
        selection.recommend(request), "r", request.variant
    )
    return RecommendResponse.model_validate_json(body)


def ids_of(answer):
    return [item.product_id for item in answer.items]


# Everything at once

texts = st.sampled_from(["a", "b", "c", "no such"])
text_filters = st.fixed_dictionaries(
    {}, optional={"include": st.lists(texts, max_size=2), "exclude": st.lists(texts, max_size=2)}
)
prices = st.floats(0, 45)
filters = st.fixed_dictionaries(
    {},
    optional={
        "category": text_filters,
        "brand": st.builds(
            lambda one, other: {"include": one, "exclude": other},
            st.lists(st.sampled_from(["brand 0", "brand 1"]), max_size=2),
            st.lists(st.sampled_from(["brand 0", "brand 1"]), max_size=1),
        ),
        "price": st.tuples(prices, prices).map(lambda p: {"min": min(p), "max": max(p)}),
        "in_stock": st.booleans(),
        "attributes": st.just({"colour": {"include": ["red"]}}),
    },
)
scopes = st.one_of(
    st.sampled_from(IDS).map(lambda id_: {"product_id": id_}),
    st.sampled_from("abc").map(lambda name: {"category": name}),
    st.sampled_from(["brand 0", "brand 1"]).map(lambda name: {"brand": name}),
)
blocks = st.builds(
    lambda target, when: {"action": "block", "target": target, "when": when},
    scopes,
    st.none() | scopes,
)
pins = st.builds(
    lambda id_, when, position: {
        "action": "pin",
        "target": {"product_id": id_},
        "when": when,
        "position": position,
    },
    st.sampled_from(IDS),
    st.none() | scopes,
    st.integers(1, 12),
)
moves = st.builds(
    lambda action, target, factor: {"action": action, "target": target, "factor": factor},
    st.sampled_from(["boost", "bury"]),
    scopes,
    st.floats(1.5, 100),
)
questions = st.fixed_dictionaries(
    {"items": st.lists(st.sampled_from([*IDS, "nobody"]), min_size=1, max_size=5)},
    optional={
        "k": st.integers(1, 60),
        "context": st.sampled_from(["product_page", "cart", "checkout"]),
        "filters": filters,
        "exclude": st.lists(st.sampled_from(IDS), max_size=10),
        "sort": st.sampled_from(
            ["relevance", "price", "price_descending", "popularity", "newest", "margin"]
        ),
        "diversity": st.floats(0, 1),
        "price_ratio": st.none() | st.floats(0.1, 5),
        "explain": st.booleans(),
        "include_out_of_stock": st.booleans(),
    },
)
changes = st.lists(
    st.builds(
        ChangedProduct,
        st.sampled_from([*IDS, "new 1", "new 2"]),
        st.fixed_dictionaries(
            {},
            optional={
                "category": st.sampled_from(["a", "d", None]),
                "price": st.floats(0, 45) | st.none(),
                "in_stock": st.booleans() | st.none(),
                "attributes": st.sampled_from([{"colour": "red"}, {}, None]),
            },
        ),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda change: change.product_id,
)


def rule_of(content, number):
    now = datetime.now(UTC)
    request = RuleRequest.model_validate(content)
    return Rule(
        **request.model_dump(), rule_id=f"{number}", created_at=now, updated_at=now, created_by="x"
    )


class Truth:
    """What may be shown, product by product, from the cards alone."""

    def __init__(self, bundle, changed, question, rules):
        self.records = {row["product_id"]: dict(row) for row in bundle.products.to_pylist()}
        for card in self.records.values():
            card["attributes"] = json.loads(card["attributes"] or "{}")
        self.deleted = {one.product_id for one in changed if one.deleted}
        for one in changed:
            card = self.records.setdefault(one.product_id, {"product_id": one.product_id})
            card.update(one.card)
        self.bundle, self.question, self.rules = bundle, question, rules
        row_of = {id_: row for row, id_ in enumerate(bundle.product_ids)}
        known = [row_of[id_] for id_ in question["items"] if id_ in row_of]
        self.variants = {IDS[row] for row in bundle.variants.concat(known)}

    def applies(self, rule):
        if rule.get("when") is None:
            return True
        ((name, value),) = rule["when"].items()
        return any(self.has(id_, name, value) for id_ in self.question["items"])

    def has(self, id_, name, value):
        card = self.records.get(id_, {"product_id": id_})
        return card.get(name) == value

    def may_be_shown(self, id_):
        question, card = self.question, self.records[id_]
        if id_ in self.deleted or id_ in question["items"] or id_ in self.variants:
            return False
        if id_ in question.get("exclude", []):
            return False
        for rule in self.rules:
            if rule["action"] == "block" and self.applies(rule):
                ((name, value),) = rule["target"].items()
                if self.has(id_, name, value):
                    return False
        return self.passes(card, question.get("filters") or {})

    def passes(self, card, wanted):
        texts = {name: wanted.get(name) for name in ("category", "brand")}
        own = {name: card.get(name) for name in texts}
        for name, one in wanted.get("attributes", {}).items():
            texts[f"attributes.{name}"] = one
            own[f"attributes.{name}"] = (card.get("attributes") or {}).get(name)
        for name, one in texts.items():
            if one and one.get("include") and own[name] not in one["include"]:
                return False
            if one and own[name] in one.get("exclude", []):
                return False
        if price := wanted.get("price"):
            found = card.get("price")
            low, high = np.float32(price["min"]), np.float32(price["max"])
            if found is None or not low <= np.float32(found) <= high:
                return False
        in_stock = wanted.get("in_stock")
        if in_stock is None and not self.question.get("include_out_of_stock"):
            in_stock = True
        return in_stock is None or (card.get("in_stock") is not False) == in_stock

    def in_price(self, id_):
        """Whether what the question says of prices lets it in; by default everything is."""
        ratio = 1.0 if self.question.get("context") == "checkout" else None
        if "price_ratio" in self.question:
            ratio = self.question["price_ratio"]
        known = [self.records.get(one, {}).get("price") for one in self.question["items"]]
        known = [price for price in known if price is not None]
        price = self.records[id_].get("price")
        if ratio is None or not known or price is None:
            return True
        return np.float32(price) <= np.float32(ratio * np.float32(max(known)))


@pytest.fixture(params=[100, 4])
def shortlist(request):
    """How many are ranked at first: all, or so few that more have to be ranked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bento.answering.answer_builder.N_CANDIDATES", request.param)
        yield


@settings(max_examples=300, deadline=None)
@given(data=st.data())
@pytest.mark.usefixtures("shortlist")
def test_an_answer_holds_to_all_that_was_asked(shops, data):
    bundle = data.draw(st.sampled_from(shops))
    question, changed = data.draw(questions), data.draw(changes)
    rules = data.draw(st.lists(blocks | pins | moves, max_size=4))
    selection = selection_of(bundle)
    selection.catalogue = selection.catalogue.with_changes(changed)
    selection.rules = RuleSet([rule_of(rule, number) for number, rule in enumerate(rules)])
    answer = ask(selection, question)
    found, k = ids_of(answer), question.get("k", 10)
    truth = Truth(bundle, changed, question, rules)
    assert len(set(found)) == len(found) <= k
    assert all(truth.may_be_shown(id_) for id_ in found)
    eligible = {id_ for id_ in IDS if truth.may_be_shown(id_)}
    if answer.source == "model":
        in_price = {id_ for id_ in eligible if truth.in_price(id_)}
        assert {i.product_id for i in answer.items if i.source != "pin"} <= in_price
        assert len(found) >= min(k, len(in_price))
    elif question.get("context") != "checkout" and "price_ratio" not in question:
        assert len(found) >= min(k, len(eligible))
    assert (answer.message is None) == (len(found) == k)
    pinned = [i.product_id for i in answer.items if i.source == "pin"]
    wanted = {
        rule["target"]["product_id"]
        for rule in rules
        if rule["action"] == "pin" and truth.applies(rule)
    }
    assert set(pinned) <= wanted


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_order_and_repetition_of_a_cart_do_not_matter(shops, data):
    selection = selection_of(data.draw(st.sampled_from(shops)))
    items = data.draw(st.lists(st.sampled_from(IDS), min_size=2, max_size=6, unique=True))
    shuffled = data.draw(st.permutations([*items, *data.draw(st.lists(st.sampled_from(items)))]))
    one = ask(selection, {"items": items, "k": 15})
    assert ask(selection, {"items": list(shuffled), "k": 15}).items == one.items


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_answer_without_wishes_is_the_recommenders(shops, data):
    bundle = data.draw(st.sampled_from(shops))
    items = data.draw(st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True))
    k = data.draw(st.integers(1, 20))
    expected = Recommender(bundle).recommend(items, k)
    question = {"items": items, "k": k, "price_ratio": None, "include_out_of_stock": True}
    answer = ask(selection_of(bundle), question)
    n = len(expected.rows)
    assert ids_of(answer)[:n] == [IDS[row] for row in expected.rows]
    np.testing.assert_allclose([i.score for i in answer.items][:n], expected.scores, rtol=1e-5)


# One wish at a time, on pairs that are obvious


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return read_bundle(make_bundle(tmp_path_factory.mktemp("pairs") / "bundle"))


EVERY = ["milk", "coffee", "sugar", "bread", "butter", "pasta", "pesto"]
"""What goes with tea: its partner, then the others, the most bought first; prices rise too."""


def with_rules(bundle, *rules):
    selection = selection_of(bundle)
    selection.rules = RuleSet([rule_of(rule, number) for number, rule in enumerate(rules)])
    return selection


def test_a_filter_that_few_pass_is_filled_from_them_alone(pairs):
    question = {"items": ["tea"], "k": 5, "filters": {"category": {"include": ["dry goods"]}}}
    answer = ask(selection_of(pairs), question)
    assert ids_of(answer) == ["pasta", "pesto"]
    assert answer.message == "2 products pass filters, 5 were asked for"


def test_filters_that_leave_nothing_say_so(pairs):
    answer = ask(selection_of(pairs), {"items": ["tea"], "filters": {"price": {"max": 0.1}}})
    assert answer.items == []
    assert answer.message == "no products pass filters, 10 were asked for"


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("relevance", ["milk", "coffee", "sugar"]),
        ("price", ["milk", "coffee", "sugar"]),
        ("price_descending", ["sugar", "coffee", "milk"]),
        ("popularity", ["milk", "coffee", "sugar"]),
    ],
)
def test_the_best_are_sorted_not_the_catalogue(pairs, sort, expected):
    assert ids_of(ask(selection_of(pairs), {"items": ["tea"], "k": 3, "sort": sort})) == expected


@pytest.mark.parametrize(("sort", "column"), [("newest", "added_at"), ("margin", "margin")])
def test_what_is_not_known_comes_last(shops, sort, column):
    selection = selection_of(shops[0])
    found = ids_of(ask(selection, {"items": ["p20"], "k": 30, "sort": sort}))
    values = [getattr(selection.catalogue, column)[IDS.index(id_)] for id_ in found]
    known = [value for value in values if not np.isnan(value)]
    assert known == sorted(known, reverse=True)
    assert 0 < len(known) < len(values)
    assert np.isnan(values[len(known) :]).all()


def test_by_default_the_far_too_dear_comes_behind_all_others(pairs):
    selection = selection_of(pairs)
    selection.catalogue = selection.catalogue.with_changes([ChangedProduct("milk", {"price": 900})])
    assert ids_of(ask(selection, {"items": ["tea"], "k": 10})) == [*EVERY[1:], "milk"]
    any_price = {"items": ["tea"], "price_ratio": None}
    assert ids_of(ask(selection, any_price)) == EVERY
    stated = ask(selection, {"items": ["tea"], "price_ratio": 30.0})
    assert ids_of(stated) == EVERY[1:]


def test_at_the_checkout_nothing_dearer_than_the_cart_is_added(pairs):
    answer = ask(selection_of(pairs), {"items": ["coffee", "tea"], "context": "checkout"})
    assert ids_of(answer) == ["milk"]


def test_on_a_product_page_the_last_product_is_the_page(pairs):
    question = {"items": ["bread", "tea"], "context": "product_page", "k": 2}
    answer = ask(selection_of(pairs), question)
    assert ids_of(answer) == ["milk", "coffee"]


def test_pins_stand_where_they_are_put_and_blocks_win(pairs):
    pin = {"action": "pin", "target": {"product_id": "pesto"}, "position": 2}
    answer = ask(with_rules(pairs, pin), {"items": ["tea"], "k": 3})
    assert [(i.product_id, i.source, i.score is None) for i in answer.items] == [
        ("milk", "model", False),
        ("pesto", "pin", True),
        ("coffee", "model", False),
    ]
    block = {"action": "block", "target": {"category": "dry goods"}}
    assert ids_of(ask(with_rules(pairs, pin, block), {"items": ["tea"], "k": 3})) == EVERY[:3]
    pair = {**pin, "when": {"product_id": "bread"}}
    assert ids_of(ask(with_rules(pairs, pair), {"items": ["tea"], "k": 3})) == EVERY[:3]
    assert "pesto" in ids_of(ask(with_rules(pairs, pair), {"items": ["tea", "bread"], "k": 3}))


def test_a_pinned_product_that_filters_exclude_or_the_cart_holds_is_not_shown(pairs):
    selection = with_rules(pairs, {"action": "pin", "target": {"product_id": "pesto"}})
    for more in ({"exclude": ["pesto"]}, {"filters": {"price": {"max": 3}}}):
        assert "pesto" not in ids_of(ask(selection, {"items": ["tea"], **more}))
    assert "pesto" not in ids_of(ask(selection, {"items": ["tea", "pesto"]}))


def test_boosts_and_burials_move_by_their_factor(pairs):
    boost = {"action": "boost", "target": {"product_id": "pesto"}, "factor": 3}
    found = ids_of(ask(with_rules(pairs, boost), {"items": ["tea"]}))
    assert found == ["milk", "coffee", "pesto", "sugar", "bread", "butter", "pasta"]
    bury = {"action": "bury", "target": {"category": "drinks"}, "factor": 100}
    found = ids_of(ask(with_rules(pairs, bury), {"items": ["tea"]}))
    assert found == ["sugar", "bread", "butter", "pasta", "pesto", "milk", "coffee"]


def test_diversity_spreads_over_categories(shops):
    bundle = shops[2]
    selection = selection_of(bundle)

    def n_alike(diversity):
        rows = [IDS.index(i) for i in ids_of(ask(selection, {**question, "diversity": diversity}))]
        codes = bundle.item_features.category_codes[rows]
        return int((codes[:, None] == codes).sum())

    question = {"items": ["p3"], "k": 6, "price_ratio": None, "include_out_of_stock": True}
    assert ids_of(ask(selection, question)) == ids_of(ask(selection, {**question, "diversity": 0}))
    assert n_alike(1.0) < max(n_alike(0.0), 13)
    assert n_alike(1.0) <= 12  # six products of three categories, two of each


def test_strict_shows_only_what_was_bought_together_and_why(shops):
    bundle = shops[1]
    selection, n = selection_of(bundle), bundle.manifest.n_orders
    answer = ask(selection, {"items": ["p33", "p36"], "strict": True, "explain": True, "k": 100})
    assert 0 < len(answer.items) < 20
    for item in answer.items:
        why = item.because_of
        asked, row = IDS.index(why.product_id), IDS.index(item.product_id)
        pairs = bundle.pairs.entries(asked)
        at = list(bundle.pairs.rows[pairs]).index(row)
        assert why.bought_together == bundle.pairs.support[pairs][at] >= 2
        assert why.support == pytest.approx(why.bought_together / n)
        assert why.confidence == pytest.approx(why.bought_together / bundle.n_orders[asked])
        assert why.lift == pytest.approx(why.confidence * n / bundle.n_orders[row])
        assert why.lift > 1
    nobody = ask(selection, {"items": ["nobody"], "strict": True})
    assert (nobody.items, nobody.fallback.used) == ([], nobody.source)


def test_every_product_is_explained_by_the_part_that_proposed_it(shops):
    """Whatever the counts do not hold comes from neighbours or embeddings, and says so."""
    bundle = shops[1]
    selection, found = selection_of(bundle), set()
    for asked in ("p33", "p0", "p5"):
        plain = ask(selection, {"items": [asked], "k": 100})
        assert {item.proposed_by for item in plain.items} == {None}
        row = IDS.index(asked)
        counted = {IDS[other] for other in bundle.pairs.concat([row])}
        for item in ask(selection, {"items": [asked], "k": 100, "explain": True}).items:
            assert (item.because_of is not None) == (item.product_id in counted)
            assert (item.proposed_by == "counts") == (item.product_id in counted)
            found.add(item.proposed_by)
    assert found == {"counts", "embeddings"}, "regressions propose for carts only"
    cart = ask(selection, {"items": ["p33", "p36"], "k": 100, "explain": True}).items
    assert {item.proposed_by for item in cart} <= {"counts", "neighbours", "embeddings"}


def test_a_substitute_is_proposed_by_no_part_of_companions(shops):
    request = SimilarRequest(item="p33", k=20, explain=True)
    shown = selection_of(shops[1]).similar(request).shown
    assert len(shown) == 20
    assert {one.proposed_by for one in shown} == {""}


def test_min_score_cuts_the_list_and_does_not_fill_it(pairs):
    selection = selection_of(pairs)
    second = ask(selection, {"items": ["tea"]}).items[1].score
    answer = ask(selection, {"items": ["tea"], "min_score": second + 1})
    assert ids_of(answer) == ["milk"]
    assert answer.message == "1 product pass min_score, 10 were asked for"


def test_who_is_unknown_gets_a_fallback_that_says_why(pairs):
    answer = ask(selection_of(pairs), {"items": ["nobody"], "k": 3})
    assert answer.unknown == ["nobody"]
    assert answer.fallback.used == answer.source == "bestsellers"
    assert "known to the model" in answer.fallback.reason
    some = ask(selection_of(pairs), {"items": ["nobody", "tea"], "k": 1})
    assert (some.unknown, some.fallback, ids_of(some)) == (["nobody"], None, ["milk"])


def test_substitutes_hold_to_filters_and_rules(pairs):
    selection = with_rules(pairs, {"action": "block", "target": {"product_id": "coffee"}})
    request = SimilarRequest(item="tea", k=100, filters={"in_stock": True}, exclude=["milk"])
    found = [one.row for one in selection.similar(request).shown]
    assert sorted(found) == [3, 4, 5, 6, 7]


# The catalogue

DRINKS = hash_facet("category", "drinks")


def test_changes_are_seen_and_the_old_catalogue_stays(pairs):
    old = Catalogue(pairs.records, pairs.facets)
    new = old.with_changes(
        [
            ChangedProduct("milk", {"category": "dairy", "price": None, "in_stock": False}),
            ChangedProduct("oat milk", {"name": "Oat milk", "category": "drinks", "price": 2.0}),
            ChangedProduct("tea", {}, deleted=True),
        ]
    )
    assert old.find_rows(DRINKS).tolist() == [0, 1, 2]
    assert new.find_rows(DRINKS).tolist() == [0, 2, 10]
    assert (old.price[1], old.in_stock[1]) == (2.5, 1)
    assert np.isnan(new.price[1])
    assert new.in_stock[1] == 0
    assert new.row("oat milk") == 10
    assert json.loads(new.card_json(10) + b"}")["name"] == "Oat milk"
    assert json.loads(new.card_json(1) + b"}")["price"] is None
    assert [row for block in new.iterate_matching(ProductFilter()) for row in block] == list(
        range(1, 11)
    )
    back = new.with_changes([ChangedProduct("milk", {}), ChangedProduct("tea", {})])
    assert back.find_rows(DRINKS).tolist() == [0, 1, 2, 10]
    assert (back.price[1], back.in_stock[1], back.deleted) == (2.5, 1, None)
    assert back.card_json(1) == old.card_json(1)


def test_a_deleted_product_is_gone_and_its_page_still_answers(pairs):
    selection = selection_of(pairs)
    selection.catalogue = selection.catalogue.with_changes([ChangedProduct("milk", {}, True)])
    assert ids_of(ask(selection, {"items": ["tea"]})) == EVERY[1:]
    assert ids_of(ask(selection, {"items": ["milk"], "k": 1})) == ["tea"]


def test_a_new_product_is_described_by_what_the_shop_said_of_it(tmp_path):
    bundle = read_bundle(make_bundle(tmp_path / "bundle"))
    selection = selection_of(bundle)
    change = ChangedProduct("rolls", {"name": "Bread, the good one", "category": "bakery"})
    selection.catalogue = selection.catalogue.with_changes([change])
    answer = ask(selection, {"items": ["rolls"], "k": 1})
    assert (answer.source, ids_of(answer)) == ("attribute_neighbours", ["butter"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=20, unique=True))
def test_every_id_is_found_at_its_row_and_no_other(ids):
    records, _ = build_records(products_table(ids, {}, {}))
    assert [records.row(id_) for id_ in ids] == list(range(len(ids)))
    assert all(records.row(f"{id_}x") is None for id_ in ids if f"{id_}x" not in ids)
    assert [records.card(row)["product_id"] for row in range(len(ids))] == ids


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_quick_way_answers_as_the_long_one(shops, data):
    selection = selection_of(data.draw(st.sampled_from(shops)))
    changed = data.draw(st.lists(st.sampled_from(IDS), max_size=2, unique=True))
    selection.catalogue = selection.catalogue.with_changes(
        [ChangedProduct(id_, {"price": 2000.0}) for id_ in changed]
    )
    question = {"items": [data.draw(st.sampled_from(IDS))], "k": data.draw(st.integers(1, 60))}
    assert ask(selection, question) == ask(selection, {**question, "exclude": []})


# Kinds

SOLD_DRINKS = ("cola", "lemonade", "water", "juice")
SNACKS = [("cola", "lemonade"), ("water", "juice"), ("chips", "dip"), ("nuts", "bread")]
OF_DRINKS = {"when": {"category": "drinks"}}


@pytest.fixture(scope="module")
def snacks(tmp_path_factory):
    """Drinks sell best and go with each other; every other product is a kind of its own."""
    folder = tmp_path_factory.mktemp("snacks") / "bundle"
    others = ("chips", "dip", "nuts", "bread")
    categories = {**dict.fromkeys(SOLD_DRINKS, "drinks"), **{id_: id_ for id_ in others}}
    cold = {"iced tea": "drinks", "mystery box": None}
    bundle = read_bundle(make_bundle(folder, SNACKS, categories, cold))
    codes = np.array([0, 0, 0, 0, 1, 2, 3, 4, 0, 5], np.int32)
    manifest = bundle.manifest.model_copy(update=DEFAULT_LIMITS._asdict())
    return replace(bundle, kinds=Kinds(codes), manifest=manifest)


FREE = ["lemonade", "water", "juice", "chips", "dip"]
LIMITED = ["lemonade", "chips", "dip", "nuts", "bread"]
NO_DRINK = ["chips", "dip", "nuts", "bread", "lemonade"]


def ask_cola(bundle, **more):
    return ids_of(ask(selection_of(bundle), {"items": ["cola"], "k": 5, **more}))


def test_a_drink_is_answered_by_one_drink(snacks):
    assert ask_cola(snacks) == LIMITED
    assert ask_cola(snacks, k=7) == [*LIMITED, "water", "juice"]
    assert ask_cola(snacks, k=1) == ["lemonade"]
    assert ask_cola(snacks, exclude=["chips"]) == ["lemonade", "dip", "nuts", "bread", "water"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max_own_kind": -1, "max_same_kind": -1}, FREE),
        ({"max_own_kind": -1}, ["lemonade", "water", "chips", "dip", "nuts"]),
        ({"max_own_kind": 2}, ["lemonade", "water", "chips", "dip", "nuts"]),
        ({"max_own_kind": 0}, NO_DRINK),
        ({"max_own_kind": 100, "max_same_kind": 100}, FREE),
        ({"max_own_kind": None, "max_same_kind": None}, LIMITED),
        ({"max_same_kind": 1}, LIMITED),
    ],
)
def test_a_request_may_set_limits_of_its_own(snacks, given, expected):
    assert ask_cola(snacks, **given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_own_kind": -2}, "greater than or equal to -1"),
        ({"max_own_kind": "some"}, "valid integer"),
        ({"max_same_kind": 0}, "1 or more, or -1 for no limit"),
        ({"max_same_kind": 101}, "less than or equal to 100"),
    ],
)
def test_a_limit_that_is_none_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        RecommendRequest.model_validate({"items": ["cola"], **given})


def test_a_service_may_have_limits_of_its_own(snacks):
    for limits, expected in [(NO_LIMITS, FREE), (KindLimits(0, 2), NO_DRINK)]:
        recommender = Recommender(snacks)
        selection = Selection(recommender, Catalogue(snacks.records, snacks.facets), limits)
        for more in ({}, {"exclude": []}):
            assert ids_of(ask(selection, {"items": ["cola"], "k": 5, **more})) == expected


def test_a_filter_for_one_kind_is_answered_with_it(snacks):
    drinks = {"category": {"include": ["drinks"]}}
    assert ask_cola(snacks, filters=drinks) == ["lemonade", "water", "juice"]


def test_a_rule_exempts_products_from_limits(snacks):
    def answer(rule, items):
        rule = {"action": "exempt", **rule}
        return ids_of(ask(with_rules(snacks, rule), {"items": items, "k": 5}))

    drinks = {"target": {"category": "drinks"}}
    assert answer(drinks, ["cola"]) == FREE
    assert answer({**drinks, **OF_DRINKS}, ["cola"]) == FREE
    assert answer({**drinks, "when": {"category": "bread"}}, ["cola"]) == LIMITED
    juice = {"target": {"product_id": "juice"}}
    assert answer(juice, ["cola"]) == ["lemonade", "juice", "chips", "dip", "nuts"]
    assert ask(with_rules(snacks, {"action": "exempt", **drinks}), {"items": ["cola"]}).items


def test_boosts_come_before_limits_and_pins_after(snacks):
    boost = {"action": "boost", "target": {"product_id": "juice"}, "factor": 100}
    found = ids_of(ask(with_rules(snacks, boost), {"items": ["cola"], "k": 5}))
    assert found == ["juice", "chips", "dip", "nuts", "bread"]
    pin = {"action": "pin", "target": {"product_id": "water"}, "position": 1}
    found = ids_of(ask(with_rules(snacks, pin), {"items": ["cola"], "k": 5}))
    assert found == ["water", "lemonade", "chips", "dip", "nuts"]


def test_diverse_answers_are_limited_too(snacks):
    assert ask_cola(snacks, diversity=0.01, max_own_kind=0) == NO_DRINK


def test_a_drink_that_the_model_does_not_know_is_of_the_kind_of_its_category(snacks):
    def n_drinks(question):
        found = ids_of(ask(selection_of(snacks), {"k": 5, **question}))
        return len(set(found) & set(SOLD_DRINKS))

    new = {"attributes": {"name": "Tonic", "category": "drinks"}}
    for question in ({"items": ["iced tea"]}, {"items": ["tonic"], **new}, {"items": [], **new}):
        assert n_drinks(question) == 1
        assert n_drinks({**question, "max_own_kind": -1, "max_same_kind": -1}) > 1


def test_substitutes_are_of_any_kind(snacks):
    found = selection_of(snacks).similar(SimilarRequest(item="cola", k=3))
    assert len(found.shown) == 3
    alike = replace(snacks, kinds=None)
    expected = selection_of(alike).similar(SimilarRequest(item="cola", k=3))
    assert [one.row for one in found.shown] == [one.row for one in expected.shown]
