"""Rules in words, the form of a rule, conflicts, and the preview of their effect."""

from datetime import UTC, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import pytest

from bento.schemas.rules import Rule, RuleRequest, RuleSettings, Scope
from bento.workbench.rules.conflicts import RuleIndex, find_unknown_names
from bento.workbench.rules.form import RuleForm
from bento.workbench.rules.listing import RuleFilter
from bento.workbench.rules.preview import preview_change
from bento.workbench.rules.words import (
    describe,
    describe_body,
    describe_dates,
    find_state,
    plain,
)
from bento.workbench.versions import LoadedVersion
from components.model.bundle import read_bundle
from tests.factories import make_bundle

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NUMBERS = count()

NAMES = {"tea": "Tea", "milk": "Milk"}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The pairs of `make_bundle`, as a registered version."""
    folder = make_bundle(tmp_path_factory.mktemp("bundle") / "bundle")
    return LoadedVersion("7", read_bundle(folder, products=False))


def product(product_id):
    return Scope(product_id=product_id)


def rule(action, target=None, when=None, **fields):
    """Scopes are products' ids, or Scope."""
    scopes = {
        name: product(one) if isinstance(one, str) else one
        for name, one in (("target", target), ("when", when))
    }
    made = RuleRequest(action=action, **scopes, **fields)
    own = {name: getattr(made, name) for name in RuleRequest.model_fields}
    return Rule(
        **own, rule_id=f"r{next(NUMBERS)}", created_at=NOW, updated_at=NOW, created_by="ann"
    )


def say(made):
    return plain(describe(made, NAMES.get))


class TestWords:
    @pytest.mark.parametrize(
        ("made", "said"),
        [
            (rule("block", "tea"), "Never show Tea on every page"),
            (rule("block", "tea", "milk"), "Never show Tea beside Milk"),
            (rule("pin", "tea", "milk", position=2), "Show Tea at position 2 beside Milk"),
            (
                rule("boost", Scope(category="drinks"), Scope(brand="B"), factor=2.5),
                "Move everything in drinks up, 2.5 × beside products of B",
            ),
            (
                rule("bury", Scope(brand="B"), Scope(category="drinks")),
                "Move everything of B down, 3 × beside products in drinks",
            ),
            (
                rule("set", settings=RuleSettings(max_own_kind=2)),
                "Unless asked otherwise: at most 2 of the page's own kind",
            ),
            (rule("block", "gone"), "Never show gone on every page"),
        ],
    )
    def test_a_rule_reads_as_a_sentence(self, made, said):
        assert say(made) == said

    def test_names_are_marked_and_the_words_around_them_are_not(self):
        words = describe(rule("block", "tea", "milk"), NAMES.get)
        assert [part.text for part in words if part.is_name] == ["Tea", "Milk"]

    def test_a_body_that_no_release_reads_says_so(self):
        assert plain(describe_body('{"action": "hide"}', NAMES.get)) == "a rule that cannot be read"
        assert plain(describe_body(None, NAMES.get)) == "no rule"

    def test_dates_are_in_the_time_zone_of_the_person(self):
        made = rule("block", "tea", ends_at=datetime(2027, 1, 1, tzinfo=UTC))
        assert describe_dates(made, NOW, UTC) == "until 1 Jan 2027"
        assert describe_dates(made, NOW, ZoneInfo("Europe/Berlin")) == "until 1 Jan 2027, 01:00"

    @pytest.mark.parametrize(
        ("dates", "state"),
        [
            ({}, "active"),
            ({"starts_at": NOW + timedelta(1)}, "upcoming"),
            ({"ends_at": NOW}, "ended"),
            ({"starts_at": NOW, "ends_at": NOW + timedelta(1)}, "active"),
        ],
    )
    def test_a_rule_is_active_upcoming_or_ended(self, dates, state):
        assert find_state(rule("block", "tea", **dates), NOW) == state


class TestForm:
    def parse(self, zone=UTC, **fields):
        return RuleForm.read(fields, zone).parse()

    def test_the_fields_make_a_rule(self):
        made, errors = self.parse(
            action="pin", target="milk", when_kind="product_id", when="tea", position="2",
            ends_at="2030-01-01T00:00", note=" for tea\r\ntime ",
        )  # fmt: skip
        assert errors == []
        assert made == RuleRequest(
            action="pin", target=product("milk"), when=product("tea"), position=2,
            ends_at=datetime(2030, 1, 1, tzinfo=UTC), note="for tea\ntime",
        )  # fmt: skip

    def test_fields_of_other_actions_are_left_out(self):
        made, _ = self.parse(action="block", target="milk", position="no", factor="none")
        assert made == RuleRequest(action="block", target=product("milk"))

    def test_moments_are_those_of_the_zone(self):
        made, _ = self.parse(ZoneInfo("Asia/Tokyo"), target="milk", starts_at="2030-01-01T09:00")
        assert made.starts_at == datetime(2030, 1, 1, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("fields", "field", "words"),
        [
            ({"target": ""}, "target", "at least 1 character"),
            ({"note": "n" * 10_000}, "note", "at most 500"),
            ({"action": "pin", "position": "101"}, "position", "less than or equal to 100"),
            ({"action": "pin", "position": "first"}, "position", "a number, 1 to 100"),
            ({"action": "boost", "factor": "1"}, "factor", "greater than 1"),
            ({"action": "boost", "factor": "nan"}, "factor", "finite"),
            ({"action": "hide"}, "action", "'pin'"),
            ({"starts_at": "soon"}, "starts_at", "a date and a time"),
            ({"starts_at": "2030-02-01T00:00", "ends_at": "2030-01-01T00:00"}, "ends_at", "later"),
            ({"ends_at": "0001-01-01T00:00"}, "ends_at", "the years 1 to 9999"),
            ({"target": "a\0b"}, "target", "without NUL"),
            ({"action": "set"}, "set", "at least one setting"),
            ({"action": "set", "set_diversity": "2"}, "set_diversity", "less than or equal to 1"),
        ],
    )
    def test_what_is_wrong_is_said_of_its_field(self, fields, field, words):
        zone = ZoneInfo("Asia/Tokyo")
        made, errors = self.parse(zone, **{"target": "milk", **fields})
        assert made is None
        (error,) = [one for one in errors if one.field.startswith(field)]
        assert words in error.expected
        assert len(error.found) < 150

    @pytest.mark.parametrize(
        "made",
        [
            rule("pin", "milk", "tea", position=3, note="<b>'; drop table fbt_rules; --"),
            rule("boost", Scope(category="drinks"), Scope(brand="B"), factor=1.5),
            rule("block", "tea", starts_at=NOW, ends_at=NOW + timedelta(days=1)),
            rule("set", when=Scope(category="drinks"), settings=RuleSettings(max_own_kind=0)),
            rule("set", settings=RuleSettings(diversity=0.25, strict=False)),
        ],
    )
    def test_a_stored_rule_comes_back_from_its_form(self, made):
        form = RuleForm.fill(made, ZoneInfo("Europe/Berlin"))
        parsed, errors = form.parse()
        assert errors == []
        assert parsed == RuleRequest(
            **{name: getattr(made, name) for name in RuleRequest.model_fields}
        )


class TestConflicts:
    def kinds(self, loaded, made, *others):
        catalogue = loaded.selection.catalogue
        found = RuleIndex(others, catalogue, NOW).find(made)
        assert all(one.other_id in {None, *(other.rule_id for other in others)} for one in found)
        return {one.kind for one in found}

    @pytest.mark.parametrize(
        ("when", "other_when", "meet"),
        [
            (None, None, True),
            ("tea", None, True),
            (None, "tea", True),
            ("tea", "tea", True),
            ("tea", "coffee", False),
            ("tea", Scope(category="drinks"), True),
            (Scope(category="drinks"), "tea", True),
            ("sugar", Scope(category="drinks"), False),
        ],
    )
    def test_two_pins_want_one_position_of_the_same_page(self, loaded, when, other_when, meet):
        one, other = rule("pin", "bread", when), rule("pin", "pasta", other_when)
        assert self.kinds(loaded, one, other) == ({"same_position"} if meet else set())

    def test_pins_at_other_positions_do_not_conflict(self, loaded):
        one, other = rule("pin", "bread", position=1), rule("pin", "pasta", position=2)
        assert self.kinds(loaded, one, other) == set()

    def test_rules_of_different_times_do_not_conflict(self, loaded):
        one = rule("pin", "bread", ends_at=NOW + timedelta(days=1))
        other = rule("pin", "pasta", starts_at=NOW + timedelta(days=1))
        assert self.kinds(loaded, one, other) == set()
        ended = rule("pin", "pasta", ends_at=NOW - timedelta(days=1))
        assert self.kinds(loaded, one, ended) == set()

    @pytest.mark.parametrize("target", ["milk", Scope(category="drinks")])
    def test_a_pin_of_a_blocked_product_is_said_on_both_sides(self, loaded, target):
        pin, block = rule("pin", "milk", "bread"), rule("block", target)
        assert self.kinds(loaded, pin, block) == {"blocked_pin"}
        assert self.kinds(loaded, block, pin) == {"blocks_pin"}
        everything = RuleIndex([pin, block], loaded.selection.catalogue, NOW).find_all()
        assert {rule_id: some[0].other_id for rule_id, some in everything.items()} == {
            pin.rule_id: block.rule_id,
            block.rule_id: pin.rule_id,
        }

    def test_a_block_elsewhere_does_not_hide_a_pin(self, loaded):
        pin, block = rule("pin", "milk", "bread"), rule("block", "milk", "tea")
        assert self.kinds(loaded, pin, block) == set()

    def test_boost_and_bury_of_the_same(self, loaded):
        one, other = rule("boost", "milk"), rule("bury", "milk", "tea")
        assert self.kinds(loaded, one, other) == {"opposite"}
        assert self.kinds(loaded, rule("boost", "tea"), other) == set()

    def test_the_same_rule_twice(self, loaded):
        one, other = rule("boost", "milk", "tea"), rule("boost", "milk", "tea", factor=9.0)
        assert self.kinds(loaded, one, other) == {"same"}

    def test_a_setting_is_shadowed_by_one_for_fewer_pages(self, loaded):
        broad = rule("set", settings=RuleSettings(max_own_kind=1))
        narrow = rule("set", when="tea", settings=RuleSettings(max_own_kind=2))
        other = rule("set", when="milk", settings=RuleSettings(diversity=0.5))
        assert self.kinds(loaded, broad, narrow, other) == {"shadowed"}
        assert self.kinds(loaded, narrow, broad) == set()
        drinks = rule("set", when=Scope(category="drinks"), settings=RuleSettings(max_own_kind=3))
        assert self.kinds(loaded, drinks, narrow) == {"shadowed"}

    def test_an_ended_rule_and_a_page_of_its_own(self, loaded):
        assert self.kinds(loaded, rule("block", "tea", ends_at=NOW)) == {"ended"}
        assert self.kinds(loaded, rule("pin", "tea", "tea")) == {"own_page"}

    def test_a_rule_does_not_conflict_with_itself(self, loaded):
        made = rule("pin", "bread")
        assert self.kinds(loaded, made, made) == set()

    def test_many_rules_conflict_in_a_few_words(self, loaded):
        rules = [rule("pin", "bread", position=1) for _ in range(30)]
        rules += [rule("pin", "pasta", position=1) for _ in range(30)]
        found = RuleIndex(rules, loaded.selection.catalogue, NOW).find(rules[0])
        assert len(found) <= 10

    def test_names_that_the_catalogue_does_not_have(self, loaded):
        catalogue = loaded.selection.catalogue
        made = rule("block", "tae", Scope(category="drinsk"))
        found = find_unknown_names(made, catalogue)
        assert [(one.field, one.kind, one.name) for one in found] == [
            ("target", "product_id", "tae"),
            ("when", "category", "drinsk"),
        ]
        assert find_unknown_names(rule("block", "rye bread"), catalogue) == []


class TestPreview:
    def pages(self, preview):
        return {page.card["product_id"]: page for page in preview.pages}

    def moves(self, page):
        return {one.card["product_id"]: one.move for one in (*page.before, *page.after) if one.move}

    def test_a_block_takes_the_product_off_the_pages_that_had_it(self, loaded):
        preview = preview_change(loaded, [], [rule("block", "milk", "tea")])
        assert (preview.n_sampled, preview.n_changed, preview.n_emptied) == (1, 1, 0)
        page = self.pages(preview)["tea"]
        assert page.before[0].card["product_id"] == "milk"
        assert self.moves(page) == {"milk": "left"}
        assert preview.n_shortened == 1

    def test_a_pin_moves_one_product_and_no_other(self, loaded):
        preview = preview_change(loaded, [], [rule("pin", "pesto", "tea")])
        page = self.pages(preview)["tea"]
        assert page.after[0].card["product_id"] == "pesto"
        assert self.moves(page) == {"pesto": "up"}

    def test_a_product_without_vectors_enters_by_a_pin(self, loaded):
        preview = preview_change(loaded, [], [rule("pin", "mystery box", "tea")])
        assert self.moves(self.pages(preview)["tea"]) == {"mystery box": "entered"}

    def test_what_changes_nothing_shows_nothing(self, loaded):
        kept = rule("block", "milk")
        preview = preview_change(loaded, [kept], [kept, rule("block", "milk", "tea")])
        assert (preview.n_changed, preview.pages) == (0, [])

    def test_a_deletion_brings_back_what_the_rule_took(self, loaded):
        preview = preview_change(loaded, [rule("block", "milk", "tea")], [])
        assert self.moves(self.pages(preview)["tea"]) == {"milk": "entered"}

    def test_blocking_everything_empties_pages(self, loaded):
        kinds = ("drinks", "baking", "bakery", "dry goods")
        every = [rule("block", Scope(category=kind)) for kind in kinds]
        preview = preview_change(loaded, [], every)
        assert preview.n_emptied == preview.n_sampled == preview.n_changed == 8

    def test_a_rule_that_has_not_begun_is_shown_as_if_it_had(self, loaded):
        later = datetime.now(UTC) + timedelta(days=1)
        preview = preview_change(loaded, [], [rule("block", "milk", "tea", starts_at=later)])
        assert preview.is_later
        assert preview.n_changed == 1

    def test_a_page_asked_for_is_shown_though_it_stays(self, loaded):
        preview = preview_change(loaded, [], [rule("block", "milk", "tea")], ["bread", "absent"])
        assert list(self.pages(preview)) == ["bread", "tea"]
        assert self.moves(self.pages(preview)["bread"]) == {}

    def test_a_rule_beside_a_category_is_looked_at_on_its_pages(self, loaded):
        preview = preview_change(loaded, [], [rule("block", "milk", Scope(category="drinks"))])
        assert (preview.n_sampled, preview.n_changed) == (3, 2)
        assert "tea" in self.pages(preview)

    def test_a_setting_is_previewed(self, loaded):
        made = rule("set", settings=RuleSettings(include_out_of_stock=True))
        assert preview_change(loaded, [], [made]).n_sampled == 8

    def test_drafts_are_previewed_together(self, loaded):
        both = [rule("block", "milk", "tea"), rule("pin", "pesto", "tea")]
        page = self.pages(preview_change(loaded, [], both))["tea"]
        assert self.moves(page) == {"milk": "left", "pesto": "up"}

    def test_the_rules_in_force_stay_as_they_are(self, loaded):
        before = loaded.selection.rules
        preview_change(loaded, [], [rule("block", "milk")])
        assert loaded.selection.rules is before


@pytest.mark.parametrize(
    ("query", "page"), [({}, 1), ({"page": "3"}, 3), ({"page": "-1"}, 1), ({"page": "٣"}, 1)]
)
def test_the_address_says_the_page_of_the_list(query, page):
    assert RuleFilter.read(query).page == page


def test_an_address_holds_only_what_is_not_usual():
    wanted = RuleFilter.read({"q": "milk & tea", "sort": "age'; --", "page": "2"})
    assert wanted.find_address(page=3) == "/rules?q=milk+%26+tea&page=3"
    assert RuleFilter().find_address() == "/rules"
