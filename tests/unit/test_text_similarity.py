"""Products by what is written on them: who is like whom, and who is the same thing over again."""

import numpy as np
import pyarrow as pa
import pytest

from components.model import text_similarity
from components.model.cold_start import to_weights
from components.model.text_similarity import (
    AttributeIndex,
    Attributes,
    build_attribute_index,
    read_attributes,
    tokenize,
)
from components.model.variants import (
    LEVELS,
    MAX_GROUP_SIZE,
    Variants,
    build_variants,
    drop_variants,
    find_name_pairs,
    match_exceptions,
)


def cards(*products):
    columns = zip(*(Attributes(*product) for product in products), strict=True)
    types = [pa.string(), pa.string(), pa.string(), pa.float64()]
    return pa.table(
        [pa.array(list(column), type_) for column, type_ in zip(columns, types, strict=True)],
        names=Attributes._fields,
    )


SHOP = cards(
    ("Green tea", "drinks", "Leaf", 4.0),
    ("Black tea", "drinks", "Leaf", 4.0),
    ("Coffee beans", "drinks", "Roast", 9.0),
    ("Rye bread", "bakery", "Oven", 3.0),
    ("Teapot", "kitchen", None, 25.0),
)
INDEX = build_attribute_index(SHOP, 5)


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        (Attributes("Green tea"), 0),
        (Attributes("BLACK TEA!"), 1),
        (Attributes("white bread"), 3),
        (Attributes(category="kitchen"), 4),
        (Attributes(brand="roast"), 2),
        (Attributes("Espresso", "Drinks", "Roast"), 2),
    ],
)
def test_the_most_alike_comes_first(asked, first):
    rows, similar = INDEX.nearest(asked)
    assert rows[0] == first
    assert (np.diff(similar) <= 0).all()
    assert ((similar > 0) & (similar <= 1)).all()


def test_a_product_is_most_like_itself_and_wholly():
    for row, attributes in enumerate(read_attributes(SHOP)):
        rows, similar = INDEX.nearest(attributes)
        assert rows[0] == row
        assert similar[0] == pytest.approx(1, abs=2e-3)


def test_equal_ones_come_in_order_of_rows():
    index = build_attribute_index(cards(*[("tea",)] * 50), 50)
    assert index.nearest(Attributes("tea"), 5)[0].tolist() == [0, 1, 2, 3, 4]


def test_a_like_price_makes_more_alike():
    index = build_attribute_index(cards(("mug", "a", None, 2.0), ("mug", "a", None, 20.0)), 2)
    assert index.nearest(Attributes("mug", price=18.0))[0].tolist() == [1, 0]
    assert index.nearest(Attributes("mug", price=3.0))[0].tolist() == [0, 1]
    assert index.nearest(Attributes("mug"))[0].tolist() == [0, 1]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 0.0, -1.0, None])
def test_what_is_no_price_changes_nothing(odd):
    rows, similar = INDEX.nearest(Attributes("Black tea", price=odd))
    plain = INDEX.nearest(Attributes("Black tea"))
    np.testing.assert_array_equal(rows, plain[0])
    np.testing.assert_array_equal(similar, plain[1])
    index = build_attribute_index(cards(("Black tea", None, None, odd), ("Bread",)), 2)
    assert index.nearest(Attributes("tea", price=3.0))[0].tolist() == [0]


@pytest.mark.parametrize(
    "nothing",
    [Attributes(), Attributes("", "", ""), Attributes(" ", "…", "\x00"), Attributes("zz")],
)
def test_who_says_nothing_is_like_nothing(nothing):
    rows, similar = INDEX.nearest(nothing)
    assert len(rows) == len(similar) == 0


@pytest.mark.parametrize("n_items", [0, 1, 3])
def test_a_table_without_attributes_is_an_empty_index(n_items):
    index = build_attribute_index(cards(*[()] * 3), n_items)
    assert len(index.rows) == 0
    assert len(index.nearest(Attributes("tea", "drinks", "Leaf", 1.0))[0]) == 0


def test_only_the_catalogue_is_found():
    index = build_attribute_index(SHOP, 2)
    assert set(index.nearest(Attributes("Rye bread tea", "bakery"))[0].tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Crème brûlée, 2x100g", ["creme", "brulee", "2x100g"]),
        ("GRÜNER ТЕЕ №1", ["gruner", "тее", "no1"]),
        ("snake_case", ["snake", "case"]),
        ("007", ["007"]),
        ("緑茶ティー", ["緑茶", "茶テ", "ティ", "ィー"]),
        ("🫖 ☕", []),
        (None, []),
        ("\ud800 tea", ["tea"]),
    ],
)
def test_words(text, words):
    assert tokenize(text) == words


def test_scripts_without_spaces_are_compared_too():
    index = build_attribute_index(cards(("ほうじ茶",), ("緑茶ティーバッグ",), ("食パン",)), 3)
    assert index.nearest(Attributes("緑茶"))[0][0] == 1


def test_a_long_text_takes_no_longer():
    index = build_attribute_index(cards(("tea " + "w" * 100_000 + " x y" * 50_000,), ("tea",)), 2)
    assert index.nearest(Attributes("tea x " * 50_000))[0].tolist() == [0, 1]


def test_common_words_are_passed_over_where_too_many_have_them(monkeypatch):
    monkeypatch.setattr("components.model.text_similarity.MAX_POSTINGS", 10)
    index = build_attribute_index(cards(*[("the tea",)] * 20, ("the bread",)), 21)
    assert index.nearest(Attributes("the bread"))[0].tolist() == [20]
    assert len(index.nearest(Attributes("the"))[0]) == 0


def test_one_in_a_large_catalogue_is_found_as_in_a_small_one():
    """Sums are made another way where few of many products are met."""
    large = cards(*[(f"w{row}",) for row in range(2000)], ("green tea",), ("black tea",))
    index = build_attribute_index(large, 2002)
    rows, similar = index.nearest(Attributes("green tea"))
    assert rows.tolist() == [2000, 2001]
    assert similar[0] == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_common_words_change_only_products_that_can_be_among_the_best(monkeypatch, k):
    """Those with rare words, which are read first, and then with as many common ones."""
    rng = np.random.default_rng(2)
    names = [" ".join(f"w{int(300**draw)}" for draw in rng.random(4)) for _ in range(3000)]
    index = build_attribute_index(cards(*((name,) for name in names)), 3000)
    for first in (0, 50, 500):
        for name in names[:100]:
            monkeypatch.setattr(text_similarity, "FIRST_POSTINGS", 10**9)
            rows, similar = index.nearest(Attributes(name), k)
            monkeypatch.setattr(text_similarity, "FIRST_POSTINGS", first)
            found, similar_too = index.nearest(Attributes(name), k)
            np.testing.assert_allclose(similar_too, similar, rtol=1e-5)
            assert (found == rows).mean() > 0.9, "only ties may be rounded to another order"


def test_an_index_is_read_as_it_was_written(tmp_path):
    INDEX.save(tmp_path)
    read = AttributeIndex.load(tmp_path)
    for attributes in read_attributes(SHOP):
        np.testing.assert_array_equal(read.nearest(attributes)[1], INDEX.nearest(attributes)[1])


def test_what_stands_for_cold_products():
    rows, similarity = INDEX.nearest(Attributes("Green tea", "drinks"), 2)
    weights = to_weights(similarity)
    assert rows.tolist() == [0, 1]
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > 0.7


def test_weights_of_nothing_and_of_one():
    assert to_weights(np.empty(0, np.float32)).tolist() == []
    assert to_weights(np.array([0.01], np.float32)).tolist() == [1]


def pairs_of(level, *names):
    table = cards(*[name if isinstance(name, tuple) else (name,) for name in names])
    return {
        (int(a), int(b)) for a, b in zip(*find_name_pairs(table, len(names), level), strict=True)
    }


@pytest.mark.parametrize(
    ("one", "other", "level"),
    [
        ("Tea, green", "GREEN tea", "same_name"),
        ("Tea, 8 oz #2", "Tea, 8 oz #13", "same_name"),
        ("Tea, 8 oz", "Tea, 8 oz #2", "same_name"),
        ("Tea #2 green", "Tea #3 green", "but_numbers"),
        ("Frozen peas 12 oz", "Frozen peas 500g", "but_numbers"),
        ("Set of 3 cake tins", "Cake tins", "but_numbers"),
        ("Pink regency teacup", "Green regency teacup", "but_colours"),
        ("Madras notebook large", "Assorted mini madras notebook", "but_colours"),
        ("Strawberry yoghurt cup", "Cherry yoghurt cup", "but_one_word"),
        ("Strawberry yoghurt", "Cherry yoghurt", None),
        ("Regency teacup", "Regency cakestand", None),
        ("12 oz", "3 oz", None),
    ],
)
def test_levels_of_likeness(one, other, level):
    first = LEVELS.index(level) if level else len(LEVELS)
    for i, tried in enumerate(LEVELS):
        assert bool(pairs_of(tried, one, other)) == (i >= first), tried


def test_another_shelf_is_another_product():
    assert pairs_of("same_name", ("Tea", "drinks", "A"), ("Tea", "drinks", "A")) == {(0, 1)}
    assert not pairs_of("same_name", ("Tea", "drinks", "A"), ("Tea", "drinks", "B"))
    assert not pairs_of("same_name", ("Tea", "drinks", "A"), ("Tea", "garden", "A"))


@pytest.mark.parametrize("level", LEVELS)
def test_products_without_names_have_no_variants(level):
    assert not pairs_of(level, (None, "drinks"), (None, "drinks"), ("", "drinks"), ("…",))


def test_a_name_of_very_many_is_none():
    assert not pairs_of("same_name", *["Soft drink"] * (MAX_GROUP_SIZE + 1))
    assert len(pairs_of("same_name", *["Soft drink"] * 20)) == 190


def test_the_table_goes_both_ways():
    table = build_variants(np.array([0, 2]), np.array([2, 3]), 5)
    assert table.offsets.tolist() == [0, 1, 1, 3, 4, 4]
    assert table.rows.tolist() == [2, 0, 3, 2]
    assert sorted(table.concat([0, 3])) == [2, 2]
    assert table.concat([]).tolist() == []


@pytest.mark.parametrize("n_items", [0, 3])
def test_a_table_of_nothing(n_items):
    table = build_variants(np.empty(0, np.int32), np.empty(0, np.int32), n_items)
    assert table.offsets.tolist() == [0] * (n_items + 1)


def test_exceptions_are_found_either_way_round():
    ids = ["pink cup", "blue cup", "tea"]
    one, other = np.array([0, 1]), np.array([1, 2])
    wanted = [("blue cup", "pink cup"), ("no such", "tea")]
    assert match_exceptions(one, other, wanted, ids).tolist() == [True, False]
    assert match_exceptions(one, other, [], ids).tolist() == [False, False]


def test_an_answer_without_variants_moves_up():
    table = build_variants(np.array([0]), np.array([2]), 5)
    found = np.array([[2, 3, 4, -1], [2, 3, 4, 1]])
    scores = np.array([[4, 3, 2, -np.inf], [4, 3, 2, 1]], np.float32)
    rows, kept = drop_variants(found, scores, [0, 1], table, 3)
    assert rows.tolist() == [[3, 4, -1], [2, 3, 4]]
    assert kept.tolist() == [[3, 2, -np.inf], [4, 3, 2]]


def test_variants_are_read_as_they_were_written(tmp_path):
    table = build_variants(np.array([0, 2]), np.array([2, 3]), 5)
    table.save(tmp_path)
    assert Variants.load(tmp_path).concat([2]).tolist() == [0, 3]
