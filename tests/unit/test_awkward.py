"""Awkward pairs: what is sensitive, out of season, or thinly supported is marked, or left out."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from bento.answering.awkward_settings import AwkwardSettings
from bento.answering.catalogue import Catalogue
from bento.answering.rendering import ResponseRenderer
from bento.answering.rules import RuleSet
from bento.answering.selection import Selection
from bento.schemas.catalogue import ChangedProduct
from bento.schemas.requests import RecommendRequest, SimilarRequest
from bento.schemas.responses import RecommendResponse
from bento.schemas.rules import Rule, Scope
from components.contracts import BASKETS, write_table
from components.model.bundle import Pairs, read_bundle
from components.model.recommender import Recommender
from components.model.seasons import AsOfError, Seasons, check_as_of, find_bin
from components.model.sensitive_goods import (
    CLASSES,
    WORDS_FILE,
    build_sensitive_goods,
    classify,
)
from components.model.text_similarity import tokenize
from components.ranking.precompute import precompute_items
from components.ranking.seasons import find_seasons
from components.report.awkward import MAX_PAIRS, check_day, list_awkward_pairs, read_day
from tests.factories import make_bundle


def class_of(name, category=None):
    code = classify(name, category)
    return CLASSES[code - 1] if code else None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Marlboro cigarettes 20 pack", "tobacco"),
        ("Zigaretten, 20 Stück", "tobacco"),
        ("CIGARE CUBAIN", "tobacco"),
        ("Tabaco de liar 30 g", "tobacco"),
        ("Kısa Sigara", "tobacco"),
        ("Craft BEER 6x330 ml", "alcohol"),
        ("Weißwein trocken 0,75 l", "alcohol"),
        ("WEISSWEIN", "alcohol"),
        ("Bière blonde", "alcohol"),
        ("Cerveza rubia", "alcohol"),
        ("Yeni Rakı 70 cl", "alcohol"),
        ("YENI RAKI 70 CL", "alcohol"),
        ("Value glass wine", "alcohol"),
        ("Infant formula milk base", "infant_formula"),
        ("Folgemilch 2", "infant_formula"),
        ("Lait 1er âge 800 g", "infant_formula"),
        ("Bebek Maması", "infant_formula"),
        ("Ibuprofen 400 mg", "medicine"),
        ("Sirop pour la toux", "medicine"),
        ("Ağrı kesici", "medicine"),
        ("Condoms, 12 pieces", "adult"),
        ("Préservatifs x 12", "adult"),
    ],
)
def test_sensitive_goods_are_found_in_any_language(name, expected):
    assert class_of(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "Ginger beer", "ROOT BEER 2 L", "Beer battered cod", "GOLD WINE GOBLET",
        "Red wine vinegar", "Wine gums", "BLACK WINE GLASS", "GIN + TONIC DIET METAL SIGN",
        "Bier alkoholfrei", "Bière sans alcool", "Cerveza sin alcohol", "Bira mayası",
        "Candy cigarettes", "Cigarettes russes", "Sigara böreği", "COSY HOUR CIGAR BOX MATCHES",
        "Baby bib", "SPACEBOY BABY GIFT SET", "Adult cereal", "Medicine ball 3 kg",
        "WOOD AND GLASS MEDICINE CABINET", "PHARMACIE FIRST AID TIN", "Böcek ilacı",
        "Servis tabağı", "Tabak 6'lı", "Wine red T-shirt", "Wine fridge 12 bottles", "Radler Hose",
        "LEKI poles", "Shag pile rug", "Glace rhum raisin", "Coq au vin",
        "Mixers (tonic wtr/gngr ale)", "Cooking wines", "Beerale - non alcoholic", "", None,
    ],
)  # fmt: skip
def test_what_only_sounds_so_is_plain(name):
    assert class_of(name) is None


def test_a_category_counts_where_the_name_says_nothing():
    assert class_of("Chateau Margaux 2015", "IMPORTED WINE") == "alcohol"
    assert class_of("Nicotine gum", "Tobacco") == "medicine"
    assert class_of("Wine glass", "Wine") is None
    assert class_of("Merlot", "Wine and glasses") == "alcohol"


def test_the_words_are_written_as_names_are_read():
    content = json.loads(WORDS_FILE.read_text(encoding="utf-8"))
    assert {*content} == {*CLASSES, "any"}
    for languages in content.values():
        assert {"en", "de", "fr", "es", "tr"} <= languages.keys()
        for lists in languages.values():
            assert lists.keys() == {"words", "unless"}
            for text in [*lists["words"], *lists["unless"]]:
                assert " ".join(tokenize(text)) == text


# In answers

PAIRS = [
    ("baby formula", "cigarettes"),
    ("cheese", "red wine"),
    ("cigars", "tobacco"),
    ("bread", "butter"),
]
IDS = [id_ for pair in PAIRS for id_ in pair]
JUNE, JANUARY = date(2024, 6, 15), date(2024, 1, 15)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Butter and cigars are out of season in June.

    Seven orders have cheese and wine, four bread and butter.
    """
    found = read_bundle(make_bundle(tmp_path_factory.mktemp("awkward") / "bundle", PAIRS, {}))
    quiet = np.zeros(len(IDS), np.uint32)
    quiet[[IDS.index("butter"), IDS.index("cigars")]] = 1 << find_bin(JUNE)
    counts = {("cheese", "red wine"): 7, ("bread", "butter"): 4}
    offsets, rows, support = [0], [], []
    for one in IDS:
        mine = [(other, n) for (asked, other), n in counts.items() if asked == one]
        rows += [IDS.index(other) for other, _ in mine]
        support += [n for _, n in mine]
        offsets.append(len(rows))
    return replace(
        found,
        sensitive=build_sensitive_goods(found.products),
        seasons=Seasons(quiet),
        pairs=Pairs(
            np.array(offsets), np.array(rows, np.int32), np.array(support, np.int32),
            np.full(len(rows), 0.1, np.float32),
        ),
        item_features=replace(found.item_features, recent=np.full(len(rows), 0.1, np.float32)),
    )  # fmt: skip


def select(bundle, **settings):
    catalogue = Catalogue(bundle.records, bundle.facets, bundle.sensitive)
    selection = Selection(Recommender(bundle), catalogue)
    selection.awkward = AwkwardSettings(**settings)
    return selection


def ask(selection, *items, **more):
    request = RecommendRequest(items=list(items), **more)
    return render(selection.recommend(request))


def render(answer):
    body = ResponseRenderer("3", "default").response(answer, "r", None)
    return RecommendResponse.model_validate_json(body)


def marks(answer):
    return {item.product_id: item.marks for item in answer.items}


def test_only_explained_answers_are_marked(bundle):
    selection = select(bundle, as_of=JUNE)
    assert ask(selection, "cheese", k=1).items[0].marks is None
    assert marks(ask(selection, "cheese", k=1, explain=True)) == {"red wine": ["sensitive"]}


def test_a_sensitive_product_is_marked_beside_every_other_class(bundle):
    selection = select(bundle)
    found = marks(ask(selection, "baby formula", k=7, explain=True))
    sensitive = {id_ for id_, mine in found.items() if "sensitive" in mine}
    assert sensitive == {"cigarettes", "red wine", "cigars", "tobacco"}
    assert "sensitive" not in marks(ask(selection, "cigars", k=1, explain=True))["tobacco"]
    cart = marks(ask(selection, "bread", "cigars", k=6, explain=True))
    assert "sensitive" not in cart["tobacco"]
    assert "sensitive" in cart["red wine"]


def test_switched_off_nothing_is_marked_sensitive(bundle):
    selection = select(bundle, sensitive_pairs="off")
    assert marks(ask(selection, "cheese", k=1, explain=True)) == {"red wine": []}


@pytest.mark.parametrize("precomputed", [False, True])
def test_blocked_products_are_left_out_and_others_fill_the_answer(bundle, precomputed):
    if precomputed:
        bundle = replace(bundle, precomputed=precompute_items(Recommender(bundle), None))
    plain, blocking = select(bundle), select(bundle, sensitive_pairs="block")
    assert ask(plain, "baby formula", k=1).items[0].product_id == "cigarettes"
    for explain in (False, True):
        found = ask(blocking, "baby formula", k=3, explain=explain)
        assert {item.product_id for item in found.items} == {"cheese", "bread", "butter"}
    assert ask(blocking, "cigars", k=1).items[0].product_id == "tobacco"
    short = ask(blocking, "baby formula", k=7)
    assert len(short.items) == 3
    assert "FBT_SENSITIVE_PAIRS" in short.message


def test_neither_a_pin_nor_a_substitute_is_an_exception_to_blocking(bundle):
    selection = select(bundle, sensitive_pairs="block")
    now = datetime.now(UTC)
    target = Scope(product_id="red wine")
    pin = Rule(
        action="pin", target=target, when=None, rule_id="1", created_at=now, updated_at=now,
        created_by="ann",
    )  # fmt: skip
    selection.rules = RuleSet([pin])
    assert "red wine" not in marks(ask(selection, "bread", k=3))
    answer = render(selection.similar(SimilarRequest(item="bread", k=3)))
    assert {item.product_id for item in answer.items} == {"cheese", "butter"}


def test_thin_evidence_is_marked_in_the_first_places(bundle):
    selection = select(bundle, as_of=JANUARY)
    assert marks(ask(selection, "bread", k=1, explain=True)) == {"butter": ["thin_evidence"]}
    assert "thin_evidence" not in marks(ask(selection, "cheese", k=1, explain=True))["red wine"]
    found = ask(selection, "bread", k=7, explain=True).items
    assert ["thin_evidence" in item.marks for item in found] == [True] * 5 + [False] * 2


def test_a_product_out_of_season_is_marked_at_that_time_of_the_year(bundle):
    in_june = ask(select(bundle, as_of=JUNE), "bread", k=1, explain=True)
    assert marks(in_june) == {"butter": ["thin_evidence", "out_of_season"]}
    in_january = ask(select(bundle, as_of=JANUARY), "bread", k=1, explain=True)
    assert marks(in_january) == {"butter": ["thin_evidence"]}
    assert marks(ask(select(bundle), "bread", k=1, explain=True)), "today"


def test_beside_a_product_out_of_season_others_are_in_their_place(bundle):
    found = marks(ask(select(bundle, as_of=JUNE), "cigars", k=7, explain=True))
    assert "out_of_season" not in found["butter"]


def test_products_of_old_bundles_are_not_marked(bundle):
    old = replace(bundle, sensitive=None, seasons=None)
    assert marks(ask(select(old, as_of=JUNE), "cheese", k=1, explain=True)) == {"red wine": []}


def test_changed_and_added_products_are_classified(bundle):
    selection = select(bundle)
    first = selection.catalogue
    change = ChangedProduct("bread", {"name": "Rye whisky"})
    added = ChangedProduct("new", {"name": "Snuff", "category": "Tobacco"})
    dearer = ChangedProduct("red wine", {"price": 3.0})
    changed = first.with_changes([change, added, dearer])
    codes = {id_: int(changed.sensitive[changed.row(id_)]) for id_ in ("bread", "new", "red wine")}
    assert codes == {"bread": 2, "new": 1, "red wine": 2}
    back = changed.with_changes([ChangedProduct("bread", {"price": 1.0})])
    assert back.sensitive[back.row("bread")] == 0
    assert back.sensitive[back.row("new")] == 1
    assert first.sensitive[first.row("bread")] == 0, "a request in progress keeps what it had"


# Seasons


def write_year(path, sold_on, days=365, start=datetime(2023, 1, 1, tzinfo=UTC)):
    """Ten baskets of bread and milk a day; `sold_on(product, day)` more products in each."""
    rows = []
    for day in range(days):
        for order in range(10):
            items = ["bread", "milk", *sold_on(day, order)]
            ts = start + timedelta(days=day, hours=order)
            rows.append({"order_id": f"{day}-{order}", "ts": ts, "items": items, "weight": 1.0,
                         "split": "train" if day < 0.9 * days else "validation"})  # fmt: skip
    table = pa.Table.from_pylist(rows, pa.schema(list(BASKETS)))
    write_table(table, BASKETS, path / "baskets")
    return path / "baskets"


def sell(day, order):
    """A Christmas cake in winter, sun cream in summer, tea always, rare jam, new soap."""
    is_winter = day < 30 or day > 320
    yield from ["cake"] * is_winter
    yield from ["sun cream"] * (150 < day < 240 and order < 5)
    yield from ["tea"] * (order == 0)
    yield from ["jam"] * (day % 60 == 0 and order == 0)
    yield from ["soap"] * (day > 200)


SOLD = pa.array(["bread", "milk", "cake", "sun cream", "tea", "jam", "soap"])


def test_products_are_out_of_season_where_they_hardly_sell(tmp_path):
    seasons = find_seasons(write_year(tmp_path, sell), SOLD)

    def quiet(day):
        found = seasons.find_quiet(np.arange(len(SOLD)), day)
        return {SOLD[row].as_py() for row in np.flatnonzero(found)}

    assert quiet(date(2024, 7, 1)) == {"cake"}
    assert quiet(date(2024, 12, 20)) == {"sun cream"}
    assert quiet(date(2024, 10, 10)) == {"cake", "sun cream"}
    assert quiet(date(2024, 3, 15)) == {"cake"}, "sun cream and soap were not yet sold then"


def test_months_without_data_prove_nothing(tmp_path):
    baskets = write_year(tmp_path, sell, days=310)
    seasons = find_seasons(baskets, SOLD)
    assert not seasons.find_quiet(np.arange(len(SOLD)), date(2024, 12, 10)).any()


def test_short_data_and_data_without_times_have_no_seasons(tmp_path):
    assert find_seasons(write_year(tmp_path / "short", sell, days=200), SOLD) is None
    table = pa.Table.from_pylist(
        [{"order_id": "1", "items": ["a", "b"], "weight": 1.0, "split": "train"}],
        pa.schema(list(BASKETS)),
    )
    write_table(table, BASKETS, tmp_path / "timeless")
    assert find_seasons(tmp_path / "timeless", pa.array(["a", "b"])) is None


def test_products_without_vectors_have_no_season():
    seasons = Seasons(np.array([1], np.uint32))
    assert seasons.find_quiet(np.array([0, 7]), date(2024, 1, 1)).tolist() == [True, False]


def test_every_day_has_a_fortnight():
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(366)]
    assert [find_bin(days[0]), find_bin(days[-1])] == [0, 25]
    assert np.bincount([find_bin(day) for day in days]).min() >= 14


WINDOW = ("2023-03-01T09:00:00Z", "2024-02-28T20:00:00Z")


def test_a_day_before_the_data_is_refused_with_the_days_that_are_there():
    with pytest.raises(AsOfError) as caught:
        check_as_of(date(2023, 2, 28), WINDOW, "FBT_AS_OF")
    for part in ("FBT_AS_OF: found 2023-02-28", "2023-03-01 to 2024-02-28", "leave it empty"):
        assert part in str(caught.value)


@pytest.mark.parametrize("day", [date(2023, 3, 1), date(2030, 1, 1), None])
def test_days_from_the_first_order_on_are_allowed(day):
    check_as_of(day, WINDOW, "FBT_AS_OF")


# In the report


def test_the_report_lists_pairs_by_mark_with_names_places_and_counts(bundle):
    ranked = replace(bundle, precomputed=precompute_items(Recommender(bundle), None))
    found = list_awkward_pairs(ranked, JUNE)
    beside = {(one.asked_id, one.other_id): one for one in found["sensitive"]}
    assert next(iter(beside)) == ("baby formula", "cigarettes"), "two sensitive classes come first"
    pair = beside["cheese", "red wine"]
    assert (pair.place, pair.together, pair.goods) == (1, 7, "alcohol")
    assert pair.other == "Red Wine, the good one"
    assert ("cigars", "tobacco") not in beside
    thin = {(one.asked_id, one.other_id): one.together for one in found["thin_evidence"]}
    assert thin["red wine", "cheese"] == 0
    assert ("cheese", "red wine") not in thin
    assert {one.other_id for one in found["out_of_season"]} == {"butter", "cigars"}
    assert not {"butter", "cigars"} & {one.asked_id for one in found["out_of_season"]}
    assert not list_awkward_pairs(ranked, JANUARY)["out_of_season"]
    for mark, pairs in found.items():
        assert len(pairs) == len({one.asked_id for one in pairs}) <= MAX_PAIRS[mark]
    assert max(Counter(one.other_id for one in found["thin_evidence"]).values()) <= 2


def test_without_pages_seasons_or_classes_nothing_is_listed(bundle):
    assert list_awkward_pairs(bundle, JUNE) == {}
    old = replace(bundle, sensitive=None, seasons=None)
    old = replace(old, precomputed=precompute_items(Recommender(old), None))
    found = list_awkward_pairs(old, JUNE)
    assert found["sensitive"] == found["out_of_season"] == []


def test_the_day_of_the_report_is_given_or_that_of_the_newest_order():
    assert read_day("2024-06-15", WINDOW[1]) == JUNE
    assert read_day("", WINDOW[1]) == date(2024, 2, 28)
    assert read_day("", "") is None


def test_a_run_for_a_day_before_the_data_is_refused():
    counts = dict(zip(("first_order", "last_order"), WINDOW, strict=True))
    with pytest.raises(AsOfError, match="parameter as_of: found 2022-01-01"):
        check_day("2022-01-01", counts)
    check_day("", counts)
    check_day("2022-01-01", {"first_order": "", "last_order": ""})
