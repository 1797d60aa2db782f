"""What is typed finds what was meant."""

import string
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bento.answering.catalogue import Catalogue
from bento.answering.product_search import ProductSearch
from bento.schemas.catalogue import ChangedProduct
from bento.schemas.requests import SearchRequest
from components.contracts import PRODUCTS
from components.model.bundle import BundleError, read_bundle, write_bundle
from components.model.product_records import build_records
from components.model.token_index import build_token_index, normalize_id, spelling
from tests.factories import make_bundle

SHOP = {
    "1001": ("Red kidney beans", "Canned food", "Bean & Sons"),
    "1002": ("Kidney beans", "Canned food", None),
    "1003": ("Red lentils", "Dry food", None),
    "AB-12/x": ("Butter", "Dairy", "Alpine"),
    "1004": ("Peanut butter, crunchy", "Spreads", None),
    "1005": ("Crème brûlée", "Desserts", "Alpine"),
    "1006": ("高級紅茶セット", "飲み物", None),
    "1007": ("iPhone用ケース", None, None),
    "1008": ("🫖", None, None),
    "1009": (None, "Household", None),
    "1010": ("Thunderstorm lamp", "Household", None),
}
"""Most bought first."""


def table(products):
    """The product table of names, categories and brands by id."""
    columns = {name: [None] * len(products) for name in PRODUCTS.names}
    columns["product_id"] = list(products)
    for i, name in enumerate(("name", "category", "brand")):
        columns[name] = [texts[i] for texts in products.values()]
    return pa.table(columns, schema=pa.schema(list(PRODUCTS)))


class Shop:
    """A catalogue that changes, and its search."""

    def __init__(self, products):
        n = len(products)
        bundle = replace(EMPTY, token_index=build_token_index(table(products)))
        self.catalogue = Catalogue(*build_records(table(products)))
        self.search = ProductSearch(bundle)
        assert len(self.catalogue) == n

    def change(self, *changes):
        self.catalogue = self.catalogue.with_changes(changes)

    def find(self, text, limit=10):
        """Ids and matches."""
        found = self.search.find(self.catalogue, text, limit)
        assert len(found) <= limit
        assert len({one.row for one in found}) == len(found)
        return [(self.catalogue.card(row)["product_id"], match) for row, match in found]

    def ids(self, text, limit=10):
        return [product_id for product_id, _ in self.find(text, limit)]


@pytest.fixture(scope="module", autouse=True)
def _empty(tmp_path_factory):
    global EMPTY
    EMPTY = read_bundle(make_bundle(tmp_path_factory.mktemp("search") / "bundle"))


@pytest.fixture
def shop():
    return Shop(SHOP)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("1002", ("1002", "id")),
        ("AB-12/x", ("AB-12/x", "id")),
        ("ab12", ("AB-12/x", "id_start")),
        ("Kidney beans", ("1002", "name")),
        ("KIDNEY  beans!", ("1002", "name")),
        ("butter", ("AB-12/x", "name")),
        ("creme brulee", ("1005", "name")),
        ("beans red", ("1001", "words")),
        ("red len", ("1003", "words")),
        ("alpine dessert", ("1005", "words")),
        ("sons", ("1001", "words")),
        ("kidny beans", ("1002", "typos")),
        ("kindey bean", ("1001", "typos")),
        ("kidney bea", ("1002", "words")),
        ("thundrestrom", ("1010", "typos")),
        ("lentils zanzibar", ("1003", "some_words")),
        ("🫖", ("1008", "name")),
        ("紅茶", ("1006", "words")),
        ("茶", ("1006", "words")),
        ("ケース", ("1007", "words")),
        ("iphone", ("1007", "words")),
        ("household", ("1009", "words")),
    ],
)
def test_what_was_meant_comes_first(shop, typed, expected):
    assert shop.find(typed)[0] == expected


@pytest.mark.parametrize("typed", ["zzz", "qwertyuiop asdf", "-", "\0", "%", '"', "茶茶茶", "🍕"])
def test_what_nothing_is_like_finds_nothing(shop, typed):
    assert shop.find(typed) == []


def test_equally_good_ones_come_by_how_often_they_are_bought(shop):
    assert shop.ids("food") == ["1001", "1002", "1003"]
    assert shop.ids("alpine") == ["AB-12/x", "1005"]


def test_names_without_other_words_come_before_longer_ones():
    shop = Shop({"1": ("Cream cheese spread", None, None), "2": ("Cream cheese", None, None)})
    for typed in ("cream cheese", "cream che", "craem cheese"):
        assert shop.ids(typed) == ["2", "1"]


def test_all_of_one_name_come_whatever_is_misspelt():
    shakes = {f"s{i}": ("Chocolate milk shake", None, None) for i in range(20)}
    milks = {f"m{i}": ("Chocolate milk", None, None) for i in range(9)}
    assert Shop(shakes | milks).ids("chocolaet milk") == [*milks, "s0"]


def test_short_words_and_numbers_are_taken_as_they_are_typed():
    shop = Shop({"a": ("Beer 500 ml", None, None), "b": ("Bear 12345", None, None)})
    assert shop.ids("bear") == ["b"]
    assert shop.ids("12346") == []


def test_no_more_come_than_asked_for(shop):
    assert len(shop.ids("food", 2)) == 2
    assert len(shop.ids("e", 100)) == 0


def test_a_new_product_is_found_and_a_deleted_one_is_not(shop):
    shop.change(ChangedProduct("new/1", {"name": "Zanzibar cloves", "brand": "Alpine"}))
    for typed in ("new/1", "new1", "zanzibar cloves", "zanz", "zanzibra", "cloves alpine"):
        assert shop.ids(typed)[0] == "new/1", typed
    assert shop.ids("alpine") == ["AB-12/x", "1005", "new/1"]
    shop.change(ChangedProduct("new/1", {"name": "Zanzibar cloves"}, deleted=True))
    shop.change(ChangedProduct("1002", {}, deleted=True))
    for typed in ("new/1", "new1", "zanzibar cloves", "zanz", "zanzibra"):
        assert "new/1" not in shop.ids(typed), typed
    for typed in ("1002", "kidney beans", "kidney", "kidny beans"):
        assert "1002" not in shop.ids(typed), typed


def test_a_renamed_product_is_found_by_its_new_name_only(shop):
    shop.change(ChangedProduct("1002", {"name": "Haricots verts"}))
    assert shop.find("haricots")[0] == ("1002", "words")
    assert "1002" not in shop.ids("kidney beans")
    assert shop.ids("canned food") == ["1001", "1002"]
    shop.change(ChangedProduct("1002", {"name": "Green beans"}))
    assert shop.ids("haricots") == []
    assert shop.ids("green beans") == ["1002"]
    shop.change(ChangedProduct("1002", {}))
    assert shop.ids("kidney beans")[0] == "1002"
    assert shop.ids("green beans")[0] != "1002"


def test_a_new_price_changes_nothing(shop):
    before = shop.find("beans")
    shop.change(ChangedProduct("1002", {"price": 3.0, "in_stock": False}))
    assert shop.find("beans") == before


def test_many_changes_one_by_one_are_as_one_change():
    by_one, at_once = Shop(SHOP), Shop(SHOP)
    changes = [ChangedProduct(f"n{i}", {"name": f"Novelty {i % 7} {i}"}) for i in range(200)]
    changes += [ChangedProduct(f"n{i}", {"name": f"Rarity {i}"}, i % 2 == 0) for i in range(100)]
    for change in changes:
        by_one.change(change)
    at_once.change(*changes[:200])
    at_once.change(*changes[200:])
    assert len(by_one.catalogue.list_segments(build_token_index(table(SHOP)))) <= 5
    for typed in (
        "novelty",
        "rarity",
        "novelty 3",
        "rarity 51",
        "raritty 50",
        "n7",
        "n19",
        "beans",
    ):
        assert by_one.find(typed, 100) == at_once.find(typed, 100)


WORDS = ["cream", "cheese", "butter", "kitchen", "lantern", "red", "12", "tea", "straße", "Ünique"]
NAMES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
NAMES |= st.text(max_size=40).filter(lambda name: name.strip())
IDS = st.text(min_size=1, max_size=12) | st.integers(0, 10**6).map(str)
SHOPS = st.dictionaries(
    IDS, st.tuples(NAMES, st.none() | st.sampled_from(WORDS), st.none()), min_size=1, max_size=30
)
EXAMPLES = settings(max_examples=150, deadline=None)


def same_name(shop, name):
    """How many products have it, or are near it, as far as search tells them apart."""
    wanted = spelling(name) or name.strip().lower()
    every = (shop.catalogue.card(row)["name"] or "" for row in range(len(shop.catalogue)))
    return sum((spelling(one) or one.strip().lower()) == wanted for one in every)


@EXAMPLES
@given(SHOPS)
def test_every_product_is_found_by_its_id_and_its_name(products):
    shop = Shop(products)
    for product_id, (name, _, _) in products.items():
        assert shop.find(product_id)[0] == (product_id, "id")
        if same_name(shop, name) < 10:
            assert product_id in shop.ids(name), name


def misspelt(word, chance):
    """One letter is missing, too many, another, or has changed places."""
    at, letter = chance.randrange(len(word) - 1), chance.choice(string.ascii_lowercase)
    return chance.choice(
        [
            word[:at] + word[at + 1 :],
            word[:at] + letter + word[at:],
            word[:at] + letter + word[at + 1 :],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        ]
    )


@EXAMPLES
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True), max_size=30),
       st.randoms(use_true_random=False))  # fmt: skip
def test_every_product_is_found_with_a_misspelt_word(names, chance):
    shop = Shop({f"p{i}": (" ".join(words), None, None) for i, words in enumerate(names)})
    for i, words in enumerate(names):
        at = chance.randrange(len(words))
        if len(words[at]) < 5:
            continue
        typed = [*words[:at], misspelt(words[at], chance), *words[at + 1 :]]
        alike = names.count(words)
        assert alike > 10 or f"p{i}" in shop.ids(" ".join(typed)), typed


@EXAMPLES
@given(SHOPS, st.data())
def test_nothing_deleted_is_ever_found(products, data):
    shop = Shop(products)
    deleted = data.draw(st.sets(st.sampled_from(sorted(products))))
    renamed = data.draw(st.dictionaries(st.sampled_from(sorted(products)), NAMES))
    new = data.draw(st.dictionaries(IDS, NAMES, max_size=5))
    shop.change(*(ChangedProduct(i, {"name": name}) for i, name in {**new, **renamed}.items()))
    shop.change(*(ChangedProduct(i, {}, deleted=True) for i in deleted))
    texts = [*products, *new, *new.values(), *(name for name, _, _ in products.values())]
    for text in texts:
        assert deleted.isdisjoint(shop.ids(text, 100))
    for product_id in set(new) - deleted:
        assert shop.find(product_id)[0] == (product_id, "id")


@EXAMPLES
@given(st.text(max_size=300) | st.text("\"'*()^:-+\0ANDORNT% ", max_size=60), st.integers(1, 100))
def test_whatever_is_typed_is_answered(text, limit):
    shop = Shop(SHOP)
    shop.change(ChangedProduct("new", {"name": "Something new"}))
    shop.find(text, limit)


def test_a_question_of_a_thousand_words_is_answered(shop):
    assert shop.ids("kidney beans " + " ".join(f"w{i}" for i in range(1000)))[0] == "1001"


def test_an_empty_shop_has_nothing_until_something_comes():
    shop = Shop({})
    assert shop.find("tea") == []
    shop.change(ChangedProduct("tea", {"name": "Tea"}))
    assert shop.ids("tea") == ["tea"]


def test_a_bundle_keeps_its_words(tmp_path):
    bundle = read_bundle(make_bundle(tmp_path / "bundle"))
    made = build_token_index(bundle.products)
    for name, array in vars(made).items():
        np.testing.assert_array_equal(getattr(bundle.token_index, name), array)


def test_words_of_another_catalogue_are_refused(tmp_path):
    bundle = read_bundle(make_bundle(tmp_path / "bundle"))
    write_bundle(replace(bundle, token_index=build_token_index(table(SHOP))), tmp_path / "wrong")
    with pytest.raises(BundleError, match=r"token_index\.id_rows"):
        read_bundle(tmp_path / "wrong")


@pytest.mark.parametrize(
    ("product_id", "plain"), [("AB-12/x", "ab12x"), ("Ünï 7", "uni7"), ("--", "--"), ("🫖", "🫖")]
)
def test_ids_are_folded(product_id, plain):
    assert normalize_id(product_id) == plain


def test_a_question_has_bounds():
    assert SearchRequest(q="x" * 256).limit == 10
    for wrong in ({"q": ""}, {"q": " \t"}, {"q": "x" * 257}, {"q": "x", "limit": 0}):
        with pytest.raises(ValueError, match=r"^1 validation error"):
            SearchRequest(**wrong)
