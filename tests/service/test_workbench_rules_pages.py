"""Drafts and undo in SQLite and in a real PostgreSQL, the pages of rules, and two services."""

import asyncio
import contextlib
import re
import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from bento.client import AsyncClient, Client
from bento.retry import RetryPolicy
from bento.schemas.rule_history import RuleHistoryRequest
from bento.schemas.rules import RuleRequest, RuleSettings, Scope
from bento.store.drafts import (
    begin_draft,
    change_draft,
    discard_draft,
    find_draft,
    list_drafts,
    publish_drafts,
    rebase_draft,
)
from bento.store.errors import (
    DraftChanged,
    DraftUnknown,
    NothingToUndo,
    RuleChanged,
    RuleUnknown,
    TooManyRules,
)
from bento.store.rule_rows import to_body
from bento.store.store import Store
from bento.workbench.access.person import Person, Role
from bento.workbench.access.policy import AccessPolicy
from bento.workbench.app import build_app
from bento.workbench.context import Workbench
from bento.workbench.database import WorkbenchDatabase
from bento.workbench.errors import NotFound
from bento.workbench.mapping.maps import Maps
from bento.workbench.settings import WorkbenchSettings
from bento.workbench.versions import LoadedVersions
from components.registry import registry
from components.registry.promotion import promote
from tests.factories import make_bundle
from tests.postgres import find_free_port, postgres
from tests.service.serving import TOKEN, served

BLOCK = RuleRequest(action="block", target=Scope(product_id="milk"))
PIN = RuleRequest(
    action="pin", target=Scope(product_id="pesto"), when=Scope(product_id="tea"), position=1
)
EVIL = "<script>alert(1)</script>'; drop table fbt_rules; --"


def make_url(request, folder):
    """Of a database of the test's own."""
    if request.param == "sqlite":
        return f"sqlite:///{folder}/fbt.db"
    return request.getfixturevalue("postgres_server").new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    with contextlib.closing(Store(make_url(request, tmp_path))) as made:
        made.migrate()
        yield made


def history(store, **wanted):
    return store.rule_history(RuleHistoryRequest(), **wanted).changes


def newest(store, rule_id):
    return history(store, rule_id=rule_id)[0].revision


def draft_of(store, rule, request, by="ann"):
    """A draft that replaces the rule, or with None deletes it."""
    body = to_body(request) if request else None
    return begin_draft(store, rule.rule_id, body, by, newest(store, rule.rule_id)), 1


class TestDrafts:
    def test_a_draft_changes_no_rule(self, store):
        draft_id = begin_draft(store, None, to_body(BLOCK), "ann", 0)
        (draft,) = list_drafts(store)
        assert (draft.draft_id, draft.created_by, draft.action) == (draft_id, "ann", "add")
        assert (draft.before, draft.current, draft.is_outdated) == (None, None, False)
        assert store.rules().rules == []
        assert history(store) == []

    def test_several_are_published_together(self, store):
        kept, gone = store.add_rule(PIN, "bob"), store.add_rule(BLOCK, "bob")
        added = begin_draft(store, None, to_body(BLOCK), "ann", 0), 1
        drafts = [added, draft_of(store, kept, BLOCK), draft_of(store, gone, None)]
        before = store.revision()
        revisions = publish_drafts(store, drafts, "eve")
        assert list_drafts(store) == []
        new, replaced = sorted(store.rules().rules, key=lambda one: one.created_by)
        assert (new.created_by, replaced.created_by) == ("bob", "eve") or (
            new.rule_id == kept.rule_id and replaced.created_by == "eve"
        )
        assert {one.action for one in store.rules().rules} == {"block"}
        changes = history(store)[:3]
        assert [one.action for one in changes] == ["delete", "replace", "add"]
        assert {one.changed_by for one in changes} == {"eve"}
        assert revisions == sorted(one.revision for one in changes)
        assert store.revision().rules == before.rules + 3

    def test_a_poller_sees_all_of_them_at_once(self, store):
        drafts = [(begin_draft(store, None, to_body(BLOCK), "ann", 0), 1) for _ in range(3)]
        since = store.read_delta().revision
        publish_drafts(store, drafts, "ann")
        assert len(store.read_delta(since).rules) == 3

    def test_of_several_none_is_published_if_one_rule_changed_since(self, store):
        rule = store.add_rule(PIN, "bob")
        added = begin_draft(store, None, to_body(BLOCK), "ann", 0), 1
        replacing = draft_of(store, rule, BLOCK)
        store.replace_rule(rule.rule_id, PIN.model_copy(update={"position": 5}), "bob")
        with pytest.raises(RuleChanged):
            publish_drafts(store, [added, replacing], "ann")
        assert [one.position for one in store.rules().rules] == [5]
        assert len(list_drafts(store)) == 2
        outdated = find_draft(store, replacing[0])
        assert outdated.is_outdated
        assert (outdated.before, outdated.body) == (to_body(PIN), to_body(BLOCK))
        assert '"position":5' in outdated.current

    def test_an_outdated_draft_is_put_over_the_newest_rule(self, store):
        rule = store.add_rule(PIN, "bob")
        draft_id, version = draft_of(store, rule, BLOCK)
        store.delete_rule(rule.rule_id, "bob")
        with pytest.raises(RuleChanged):
            rebase_draft(store, (draft_id, version), newest(store, rule.rule_id) - 1)
        rebase_draft(store, (draft_id, version), newest(store, rule.rule_id))
        draft = find_draft(store, draft_id)
        assert (draft.action, draft.is_outdated, draft.version) == ("add", False, 2)
        publish_drafts(store, [(draft_id, 2)], "ann")
        (back,) = store.rules().rules
        assert (back.rule_id, back.action, back.created_by) == (rule.rule_id, "block", "bob")

    def test_two_tabs_do_not_overwrite_each_other(self, store):
        draft_id = begin_draft(store, None, to_body(BLOCK), "ann", 0)
        change_draft(store, (draft_id, 1), to_body(PIN))
        for call in (
            lambda: change_draft(store, (draft_id, 1), to_body(BLOCK)),
            lambda: discard_draft(store, (draft_id, 1)),
            lambda: publish_drafts(store, [(draft_id, 1)], "ann"),
        ):
            with pytest.raises(DraftChanged):
                call()
        assert find_draft(store, draft_id).body == to_body(PIN)

    def test_a_person_has_one_draft_of_a_rule_and_others_have_theirs(self, store):
        rule = store.add_rule(PIN, "bob")
        first = draft_of(store, rule, BLOCK)
        with pytest.raises(DraftChanged, match="already"):
            draft_of(store, rule, None)
        second = draft_of(store, rule, None, by="eve")
        assert {one.created_by for one in list_drafts(store)} == {"ann", "eve"}
        with pytest.raises(RuleChanged):
            publish_drafts(store, [first, second], "ann")
        publish_drafts(store, [first], "ann")
        assert find_draft(store, second[0]).is_outdated

    def test_what_is_published_or_discarded_is_gone(self, store):
        first, second = (begin_draft(store, None, to_body(BLOCK), "ann", 0) for _ in range(2))
        publish_drafts(store, [(first, 1)], "ann")
        discard_draft(store, (second, 1))
        for draft_id in (first, second, "'; drop table fbt_rule_drafts"):
            with pytest.raises(DraftUnknown):
                find_draft(store, draft_id)
            with pytest.raises(DraftUnknown):
                publish_drafts(store, [(draft_id, 1)], "ann")
        assert len(store.rules().rules) == 1

    def test_there_is_an_end_to_how_many_rules(self, store, monkeypatch):
        monkeypatch.setattr("bento.store.rule_rows.MAX_RULES", 1)
        drafts = [(begin_draft(store, None, to_body(BLOCK), "ann", 0), 1) for _ in range(2)]
        with pytest.raises(TooManyRules):
            publish_drafts(store, drafts, "ann")
        assert store.rules().rules == []

    def test_of_two_who_publish_at_once_the_later_is_told(self, store):
        rule = store.add_rule(PIN, "bob")
        drafts = [draft_of(store, rule, BLOCK, by) for by in ("ann", "eve")]

        def publish(draft):
            try:
                return publish_drafts(store, [draft], "x")
            except RuleChanged:
                return None

        with ThreadPoolExecutor(2) as threads:
            done = list(threads.map(publish, drafts))
        assert sorted(map(bool, done)) == [False, True]
        assert len(history(store)) == 2

    def test_a_rule_written_by_hand_can_be_drafted(self, store):
        rule = store.add_rule(PIN, "bob")
        with store.database.writing() as connection:
            connection.execute(text("delete from fbt_rule_changes"))
        draft_id = begin_draft(store, rule.rule_id, to_body(BLOCK), "ann", 0)
        draft = find_draft(store, draft_id)
        assert (draft.action, draft.before, draft.is_outdated) == ("replace", to_body(PIN), False)
        publish_drafts(store, [(draft_id, 1)], "ann")
        assert [one.action for one in store.rules().rules] == ["block"]


class TestUndo:
    def test_of_an_addition_deletes_the_rule(self, store):
        rule = store.add_rule(BLOCK, "ann")
        added = newest(store, rule.rule_id)
        undone = store.undo_change(added, added, "bob")
        assert store.rules().rules == []
        change = history(store)[0]
        assert (change.revision, change.undoes) == (undone, added)
        assert (change.action, change.changed_by) == ("delete", "bob")

    def test_of_a_replacement_brings_the_former_rule(self, store):
        rule = store.add_rule(PIN, "ann")
        store.replace_rule(rule.rule_id, BLOCK, "bob")
        revision = newest(store, rule.rule_id)
        store.undo_change(revision, revision, "eve")
        assert RuleRequest.model_validate(PIN) == RuleRequest(
            **{name: getattr(store.rule(rule.rule_id), name) for name in RuleRequest.model_fields}
        )

    def test_of_a_deletion_brings_the_rule_back_under_its_id_with_its_author(self, store):
        rule = store.add_rule(PIN, "ann")
        store.delete_rule(rule.rule_id, "bob")
        revision = newest(store, rule.rule_id)
        store.undo_change(revision, revision, "eve")
        (back,) = store.rules().rules
        assert (back.rule_id, back.created_by) == (rule.rule_id, "ann")
        assert abs(back.created_at - rule.created_at) < timedelta(seconds=1)
        assert history(store)[0].changed_by == "eve"

    def test_of_an_undo_does_it_again(self, store):
        rule = store.add_rule(BLOCK, "ann")
        first = newest(store, rule.rule_id)
        second = store.undo_change(first, first, "ann")
        third = store.undo_change(second, second, "ann")
        assert [one.rule_id for one in store.rules().rules] == [rule.rule_id]
        assert [one.undoes for one in history(store)] == [second, first, None]
        store.undo_change(third, third, "ann")
        assert store.rules().rules == []

    def test_is_refused_if_the_rule_changed_since_until_that_is_seen(self, store):
        rule = store.add_rule(PIN, "ann")
        added = newest(store, rule.rule_id)
        store.replace_rule(rule.rule_id, BLOCK, "bob")
        with pytest.raises(RuleChanged):
            store.undo_change(added, added, "ann")
        assert [one.action for one in store.rules().rules] == ["block"]
        store.undo_change(added, newest(store, rule.rule_id), "ann")
        assert store.rules().rules == []

    def test_of_what_is_undone_already_says_so(self, store):
        rule = store.add_rule(BLOCK, "ann")
        added = newest(store, rule.rule_id)
        undone = store.undo_change(added, added, "ann")
        with pytest.raises(NothingToUndo):
            store.undo_change(added, undone, "ann")
        with pytest.raises(RuleUnknown):
            store.undo_change(999, 999, "ann")
        assert len(history(store)) == 2

    def test_brings_an_unreadable_rule_back_as_it_was(self, store):
        rule = store.add_rule(BLOCK, "ann")
        with store.database.writing() as connection:
            connection.execute(text("""update fbt_rules set body = '{"action": "hide"}'"""))
        store.delete_rule(rule.rule_id, "ann")
        revision = newest(store, rule.rule_id)
        store.undo_change(revision, revision, "ann")
        assert store.rules().malformed == [rule.rule_id]


IMPATIENT = RetryPolicy(connect_s=0.2, read_s=0.5, deadline_s=0.6, attempts=1)


@pytest.fixture(autouse=True, scope="module")
def registry_of_tests(mlflow_url):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
        name_model(patch, "fbt-rules")
        yield


def name_model(patch, name):
    for module in ("registry", "promotion"):
        patch.setattr(f"components.registry.{module}.MODEL", name)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """With the champion's bundle in `champion`."""
    folder = tmp_path_factory.mktemp("cache")
    make_champion(folder)
    return folder


def make_champion(folder, *shop):
    bundle = make_bundle(folder / "champion", *shop)
    version = registry.register({"bundle": bundle}, {}, {}, {registry.VERDICT_TAG: "passed"})
    promote(version, "eve")


def browser(url, cache, name="ann", role=Role.editor, service_url=None):
    """Of a person, at a workbench over the database at `url`."""
    settings, versions = WorkbenchSettings(), LoadedVersions(cache, url, 2, patience_s=60)
    with contextlib.suppress(NotFound):
        asyncio.run(versions.get("champion"))
    workbench = Workbench(
        settings,
        AsyncClient(service_url or f"http://127.0.0.1:{find_free_port()}", retry_policy=IMPATIENT),
        WorkbenchDatabase(url),
        versions,
        Maps(cache / "maps"),
    )
    policy = AccessPolicy(settings, Person(name, role), frozenset(), "k" * 32, True)
    return Browser(build_app(workbench, policy), base_url="http://127.0.0.1")


class Browser(TestClient):
    """Fills the token of forms in, and follows to the page after a change."""

    def submit(self, path, **fields):
        page = self.get("/rules/history").text
        token = re.search(r'name="csrf" content="([^"]+)"', page)[1]
        return self.post(path, data={"csrf": token, **fields})

    def words(self, path):
        return to_words(self.get(path).text)


def to_words(page):
    """What a person reads."""
    body = re.sub(r"<(head|script)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def find_field(page, name):
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    return unescape(found[1])


@pytest.fixture
def url(tmp_path):
    made = f"sqlite:///{tmp_path}/fbt.db"
    with contextlib.closing(Store(made)) as store:
        store.migrate()
    return made


@pytest.fixture
def rules(url):
    with contextlib.closing(Store(url)) as made:
        yield made


@pytest.fixture
def ann(url, cache):
    with browser(url, cache) as made:
        yield made


class TestPages:
    def test_no_rules_at_all(self, ann):
        assert "There are no rules" in ann.words("/rules")
        assert "There are no drafts" in ann.words("/rules/drafts")
        assert "Nobody changed a rule" in ann.words("/rules/history")

    def test_rules_are_in_words_with_names(self, ann, rules):
        rules.add_rule(PIN, "bob")
        words = ann.words("/rules")
        assert "Show Pesto, the good one at position 1 beside Tea, the good one" in words
        assert "active" in words

    def test_the_list_is_filtered_sorted_and_paged(self, ann, rules):
        past = datetime.now(UTC) - timedelta(days=1)
        for number in range(60):
            rules.add_rule(BLOCK.model_copy(update={"note": f"number {number}"}), "bob")
        rules.add_rule(PIN.model_copy(update={"ends_at": past}), "eve")
        assert "61 rules" in ann.words("/rules")
        assert "Page 2 of 2" in ann.words("/rules?page=2")
        assert "Page 2 of 2" in ann.words("/rules?page=99")
        assert "1 rule of 61" in ann.words("/rules?state=ended")
        assert "1 rule of 61" in ann.words("/rules?action=pin")
        assert "1 rule of 61" in ann.words("/rules?product=tea")
        assert "1 rule of 61" in ann.words("/rules?author=eve")
        assert "1 rule of 61" in ann.words("/rules?q=NUMBER+59")
        assert "60 rules of 61" in ann.words("/rules?conflicts=on")
        assert "No rule is like that" in ann.words("/rules?q=number+99")
        oldest, newest_one = ann.words("/rules?sort=oldest"), ann.words("/rules")
        assert "number 0" in oldest
        assert "number 0" not in newest_one

    def test_a_rule_that_cannot_be_read_is_listed_and_can_be_deleted(self, ann, rules):
        rule = rules.add_rule(BLOCK, "bob")
        with rules.database.writing() as connection:
            connection.execute(text("""update fbt_rules set body = '{"action": "hide"}'"""))
        assert "1 rule cannot be read" in ann.words("/rules")
        page = ann.get(f"/rules/{rule.rule_id}").text
        assert "cannot be read" in page
        summary = ann.submit("/rules/delete", rule_id=rule.rule_id, base=find_field(page, "base"))
        publish(ann, summary)
        assert rules.rules().malformed == []

    def test_an_unknown_rule_is_not_found(self, ann):
        assert ann.get("/rules/absent").status_code == 404

    def test_a_deleted_rule_still_has_its_history(self, ann, rules):
        rule = rules.add_rule(BLOCK, "bob")
        rules.delete_rule(rule.rule_id, "eve")
        words = ann.words(f"/rules/{rule.rule_id}")
        assert "A deleted rule" in words
        assert "eve" in words

    def test_what_shoppers_of_html_and_sql_type_is_text(self, ann, rules):
        rules.add_rule(
            RuleRequest(
                action="block", target=Scope(category=EVIL), when=Scope(brand=EVIL), note=EVIL
            ),
            EVIL[:40],
        )
        for path in ("/rules", "/rules/history", f"/rules/{rules.rules().rules[0].rule_id}"):
            page = ann.get(path).text
            assert "<script>alert" not in page
            assert "drop table fbt_rules" in page
        for name in ("q", "product", "action", "state", "author", "sort", "by", "rule"):
            for path in ("/rules", "/rules/history", "/rules/new"):
                answer = ann.get(path, params={name: EVIL, "target": EVIL})
                assert answer.status_code == 200
                assert "<script>alert" not in answer.text
        assert len(rules.rules().rules) == 1


def publish(person, summary, **more):
    """The drafts of a summary page."""
    versions = re.findall(r'name="draft" value="([^"]+)"', summary.text)
    return person.submit("/rules/publish", draft=versions, **more)


def save(person, **fields):
    given = {"action": "block", "target_kind": "product_id", "when_kind": "", "then": "publish"}
    return person.submit("/rules/save", **{**given, **fields})


class TestWriting:
    def test_a_rule_is_previewed_saved_published_and_undone(self, ann, rules):
        fields = {"action": "pin", "target": "pesto", "when_kind": "product_id", "when": "tea"}
        words = to_words(ann.submit("/rules/preview", target_kind="product_id", **fields).text)
        assert "Show Pesto, the good one at position 1 beside Tea, the good one" in words
        assert "It applies to one page, and changes it" in words
        assert "Pesto, the good one ↑ up" in words
        assert list_drafts(rules) == []
        summary = save(ann, **fields)
        assert "Publish 1 draft" in to_words(summary.text)
        assert len(list_drafts(rules)) == 1
        done = publish(ann, summary)
        assert "Published" in to_words(done.text)
        (rule,) = rules.rules().rules
        assert (rule.action, rule.created_by) == ("pin", "ann")
        undo = re.search(r'action="(/rules/changes/\d+/undo)"', done.text)[1]
        assert "Undone" in to_words(ann.submit(undo, back="/rules").text)
        assert rules.rules().rules == []
        assert "undo of" in ann.words("/rules/history")

    def test_a_link_fills_the_form(self, ann):
        page = ann.get("/rules/new?action=boost&target=milk&when=tea").text
        assert find_field(page, "target") == "milk"
        assert "Move Milk, the good one up, 3 × beside Tea, the good one" in to_words(page)

    def test_an_unknown_product_is_refused_with_the_nearest_unless_it_is_kept(self, ann, rules):
        refused = save(ann, target="butt")
        assert refused.status_code == 422
        assert "The catalogue has no product butt" in to_words(refused.text)
        assert 'value="butter"' in refused.text
        assert list_drafts(rules) == []
        page = ann.submit(
            "/rules/preview", target_kind="product_id", target="butt", pick_target="butter"
        )
        assert find_field(page.text, "target") == "butter"
        summary = save(ann, target="butt", kept="on")
        publish(ann, summary)
        assert [one.target.product_id for one in rules.rules().rules] == ["butt"]

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"target": "milk", "note": "n" * 10_000}, "at most 500 characters"),
            (
                {"target": "milk", "starts_at": "2030-02-01T00:00", "ends_at": "2030-01-01T00:00"},
                "a moment later than the start",
            ),
            ({"target": ""}, "at least 1 character"),
            ({"target": "milk", "action": EVIL}, "expected"),
            ({"target_kind": EVIL, "target": "milk"}, "expected"),
        ],
    )
    def test_what_is_wrong_is_said_and_what_was_typed_stays(self, ann, rules, fields, words):
        answer = save(ann, **fields)
        assert answer.status_code == 422
        assert words in to_words(answer.text)
        assert "<script>alert" not in answer.text
        if "note" in fields:
            assert fields["note"] in answer.text
        assert list_drafts(rules) == []

    def test_two_pins_on_one_position_must_be_confirmed(self, ann, rules):
        rules.add_rule(PIN, "bob")
        summary = save(ann, action="pin", target="bread")
        assert "Two pins want position 1" in to_words(summary.text)
        refused = publish(ann, summary)
        assert refused.status_code == 422
        assert len(rules.rules().rules) == 1
        publish(ann, summary, confirmed="on")
        assert len(rules.rules().rules) == 2

    def test_a_rule_that_blocks_everything_must_be_confirmed(
        self, url, tmp_path, rules, monkeypatch
    ):
        name_model(monkeypatch, "fbt-rules-two-products")
        categories = dict.fromkeys(("tea", "milk"), "drinks")
        make_champion(tmp_path, [("tea", "milk")], categories, {})
        with browser(url, tmp_path) as ann:
            summary = save(ann, target_kind="category", target="drinks")
            assert "2 pages would show nothing at all" in to_words(summary.text)
            assert publish(ann, summary).status_code == 422
            assert rules.rules().rules == []
            publish(ann, summary, confirmed="on")
        assert len(rules.rules().rules) == 1

    def test_drafts_are_published_together(self, ann, rules):
        save(ann, target="milk", then="draft")
        save(ann, action="pin", target="pesto", when_kind="product_id", when="tea", then="draft")
        page = ann.get("/rules/drafts").text
        chosen = re.findall(r'type="checkbox" name="draft" value="([^"]+)"', page)
        summary = ann.get("/rules/publish", params={"draft": chosen})
        assert "Publish 2 drafts together" in to_words(summary.text)
        assert "2 changes together" in to_words(publish(ann, summary).text)
        assert len(rules.rules().rules) == 2

    def test_of_two_editors_the_later_is_told_and_nothing_is_lost(self, url, cache, rules):
        rule = rules.add_rule(PIN, "eve")
        with browser(url, cache, "ann") as ann, browser(url, cache, "bob") as bob:
            base = find_field(ann.get(f"/rules/{rule.rule_id}").text, "base")
            mine = {"action": "pin", "when_kind": "product_id", "when": "tea", "base": base}
            anns = save(ann, target="bread", rule_id=rule.rule_id, **mine)
            bobs = save(bob, target="pasta", rule_id=rule.rule_id, **mine)
            publish(bob, bobs)
            refused = publish(ann, anns)
            assert refused.status_code == 409
            words = to_words(refused.text)
            assert "Nothing was changed, and the drafts are still here" in words
            for sight in ("When it was begun", "Pesto", "Now", "Pasta", "The draft", "Bread"):
                assert sight in words
            assert rules.rules().rules[0].target.product_id == "pasta"
            seen, version = (find_field(refused.text, name) for name in ("seen", "version"))
            (draft,) = list_drafts(rules)
            path = f"/rules/drafts/{draft.draft_id}/rebase"
            publish(ann, ann.submit(path, seen=seen, version=version))
        assert rules.rules().rules[0].target.product_id == "bread"
        assert [one.changed_by for one in history(rules)] == ["ann", "bob", "eve"]

    def test_two_tabs_with_one_draft(self, ann, rules):
        save(ann, target="milk", then="draft")
        (draft,) = list_drafts(rules)
        page = ann.get(f"/rules/drafts/{draft.draft_id}").text
        hidden = {name: find_field(page, name) for name in ("draft", "version", "rule_id", "base")}
        save(ann, target="bread", **hidden, then="draft")
        refused = save(ann, target="pasta", **hidden, then="draft")
        assert refused.status_code == 409
        assert "Not saved" in to_words(refused.text)
        assert find_field(refused.text, "target") == "pasta"
        assert "Bread" in to_words(refused.text)
        again = {**hidden, "version": find_field(refused.text, "version")}
        save(ann, target="pasta", **again, then="draft")
        assert '"pasta"' in find_draft(rules, draft.draft_id).body

    def test_another_persons_draft_can_be_seen_and_published_but_not_discarded(
        self, url, cache, rules
    ):
        with browser(url, cache, "ann") as ann, browser(url, cache, "bob") as bob:
            save(ann, target="milk", then="draft")
            (draft,) = list_drafts(rules)
            assert "ann" in bob.words("/rules/drafts")
            page = bob.get(f"/rules/drafts/{draft.draft_id}").text
            assert 'id="rule-form"' not in page
            path = f"/rules/drafts/{draft.draft_id}/discard"
            assert bob.submit(path, version="1").status_code == 409
            publish(bob, bob.get("/rules/publish", params={"draft": draft.draft_id}))
        assert history(rules)[0].changed_by == "bob"

    def test_a_setting_is_written(self, ann, rules):
        summary = save(ann, action="set", set_max_own_kind="0")
        publish(ann, summary, confirmed="on")
        (rule,) = rules.rules().rules
        assert rule.settings == RuleSettings(max_own_kind=0)

    def test_moments_are_of_the_persons_time_zone(self, ann, rules):
        ann.cookies.set("zone", "Asia%2FTokyo")
        assert "From (Asia/Tokyo)" in ann.words("/rules/new")
        save(ann, target="milk", starts_at="2030-01-01T09:00", then="draft")
        assert "2030-01-01T00:00:00Z" in list_drafts(rules)[0].body
        ann.cookies.set("zone", "../../etc/passwd")
        assert "From (UTC)" in ann.words("/rules/new")


class TestBlock:
    def test_in_one_click_and_undone_by_another(self, ann, rules):
        done = ann.submit("/rules/block", target="milk", when="tea", back="/rules?q=milk")
        assert done.url.path == "/rules"
        assert done.url.query == b"q=milk"
        assert "Never show Milk, the good one beside Tea, the good one" in to_words(done.text)
        (rule,) = rules.rules().rules
        assert (rule.when.product_id, rule.created_by) == ("tea", "ann")
        again = ann.submit("/rules/block", target="milk", when="tea", back="/rules")
        assert "Blocked already" in to_words(again.text)
        undo = re.search(r'action="(/rules/changes/\d+/undo)"', done.text)[1]
        ann.submit(undo, back="/rules")
        assert rules.rules().rules == []

    @pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "/\\evil", ""])
    def test_never_leads_to_another_site(self, ann, back):
        done = ann.submit("/rules/block", target="milk", back=back)
        assert (done.url.host, done.url.path) == ("127.0.0.1", "/rules")

    @pytest.mark.parametrize("target", ["", "absent", "m" * 300, EVIL])
    def test_of_no_product_is_refused(self, ann, rules, target):
        assert ann.submit("/rules/block", target=target, back="/rules").status_code == 422
        assert rules.rules().rules == []

    def test_without_a_version_the_service_knows_the_products(self, url, rules, cache, monkeypatch):
        name_model(monkeypatch, "fbt-none")
        with (
            served(cache / "champion", database_url="off") as service,
            browser(url, cache, service_url=service.url) as ann,
        ):
            assert ann.submit("/rules/block", target="absent").status_code == 422
            assert rules.rules().rules == []
            assert ann.submit("/rules/block", target="milk").status_code == 200
            assert len(rules.rules().rules) == 1
        with browser(url, cache) as ann:
            assert ann.submit("/rules/block", target="tea").status_code == 503
            assert len(rules.rules().rules) == 1


class TestHistory:
    def test_undo_asks_if_the_rule_changed_since(self, ann, rules):
        rule = rules.add_rule(PIN, "eve")
        added = newest(rules, rule.rule_id)
        rules.replace_rule(rule.rule_id, BLOCK, "bob")
        asked = ann.submit(f"/rules/changes/{added}/undo", back="/rules/history")
        assert asked.status_code == 409
        words = to_words(asked.text)
        assert "The rule changed since" in words
        assert "bob" in words
        assert len(rules.rules().rules) == 1
        seen = find_field(asked.text, "seen")
        ann.submit(f"/rules/changes/{added}/undo", seen=seen, back="/rules/history")
        assert rules.rules().rules == []

    def test_pages_of_changes_by_person(self, ann, rules):
        for _ in range(60):
            rules.add_rule(BLOCK, "bob")
        rules.add_rule(PIN, "eve")
        page = ann.get("/rules/history").text
        older = unescape(re.search(r'href="(/rules/history\?before=[^"]+)"', page)[1])
        assert ann.get(older).text.count("<time") == 11
        assert ann.get("/rules/history?by=eve").text.count("<time") == 1

    @pytest.mark.parametrize(("revision", "status"), [("99", 404), (str(2**70), 422), ("²", 422)])
    def test_of_no_change(self, ann, revision, status):
        assert ann.submit(f"/rules/changes/{revision}/undo").status_code == status


class TestViewer:
    def test_sees_rules_and_nothing_to_change_them(self, url, cache, rules):
        rule = rules.add_rule(PIN, "bob")
        draft_id = begin_draft(rules, None, to_body(BLOCK), "ann", 0)
        paths = ("/rules", f"/rules/{rule.rule_id}", "/rules/drafts", "/rules/history")
        with browser(url, cache, "vic", Role.viewer) as vic:
            for path in (*paths, f"/rules/drafts/{draft_id}"):
                page = vic.get(path)
                assert page.status_code == 200
                forms = re.findall(r'<form[^>]*method="post"[^>]*action="([^"]+)"', page.text)
                assert forms == []
                assert "/rules/new" not in page.text

    def test_is_refused_by_every_change(self, url, cache, rules):
        rule = rules.add_rule(PIN, "bob")
        draft_id = begin_draft(rules, None, to_body(BLOCK), "vic", 0)
        revision = newest(rules, rule.rule_id)
        with browser(url, cache, "vic", Role.viewer) as vic:
            for path in (
                "/rules/save",
                "/rules/preview",
                "/rules/publish",
                "/rules/delete",
                "/rules/block",
                f"/rules/changes/{revision}/undo",
                f"/rules/drafts/{draft_id}/discard",
                f"/rules/drafts/{draft_id}/rebase",
            ):
                answer = vic.submit(path, target="milk", draft=f"{draft_id}:1", version="1")
                assert answer.status_code == 403, path
            assert vic.get("/rules/new").status_code == 403
        assert len(list_drafts(rules)) == 1
        assert len(history(rules)) == 1


class TestPartsGone:
    def test_a_read_only_database_is_said_and_what_was_typed_stays(
        self, postgres_server, cache, tmp_path
    ):
        name = f"test_{uuid.uuid4().hex}"
        postgres_server.sql(f"create database {name}")
        url = postgres_server.url(name)
        with contextlib.closing(Store(url)) as store:
            store.migrate()
            store.add_rule(PIN, "bob")
        postgres_server.sql(f"alter database {name} set default_transaction_read_only = on")
        with browser(url, cache) as ann:
            assert "Pesto" in ann.words("/rules")
            answer = save(ann, target="milk", note="not to be lost")
            assert answer.status_code == 503
            assert "not to be lost" in answer.text
            assert "read-only" in to_words(answer.text)
            assert ann.submit("/rules/block", target="milk").status_code == 503
        postgres_server.sql(f"alter database {name} set default_transaction_read_only = off")
        with contextlib.closing(Store(url)) as store:
            assert (list_drafts(store), len(history(store))) == ([], 1)

    def test_a_database_that_is_gone_is_said_and_comes_back(self, cache):
        with postgres() as server:
            url = server.url()
            with browser(url, cache) as ann:
                assert ann.get("/rules").status_code == 200
                server.stop()
                try:
                    gone = ann.get("/rules")
                    assert gone.status_code == 503
                    assert "The database does not answer" in to_words(gone.text)
                    typed = ann.get("/rules/new?target=milk")
                    assert typed.status_code == 503
                    assert find_field(typed.text, "target") == "milk"
                finally:
                    server.start()
                assert ann.get("/rules").status_code == 200

    def test_without_any_version_rules_can_still_be_written(
        self, url, tmp_path, rules, monkeypatch
    ):
        name_model(monkeypatch, "fbt-rules-without-versions")
        with browser(url, tmp_path / "empty") as ann:
            rules.add_rule(PIN, "bob")
            assert "Show pesto at position 1 beside tea" in ann.words("/rules")
            summary = save(ann, target="milk")
            assert "there is no preview" in to_words(summary.text)
            publish(ann, summary)
        assert len(rules.rules().rules) == 2


class TestTwoServices:
    @pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
    def test_a_published_rule_counts_on_both_within_five_seconds(
        self, request, cache, tmp_path, kind
    ):
        request.param = kind
        url = make_url(request, tmp_path)
        shutil.copytree(cache / "champion", tmp_path / "bundle")
        settings = {"admin_token": TOKEN, "database_url": url}
        with contextlib.ExitStack() as stack:
            servers = [
                stack.enter_context(served(tmp_path / "bundle", **settings)) for _ in range(2)
            ]
            clients = [stack.enter_context(Client(one.url)) for one in servers]
            ann = stack.enter_context(browser(url, cache, service_url=servers[0].url))

            def first(client):
                return client.recommend("tea", k=3).items[0].product_id

            def wait_for(product_id):
                started = time.monotonic()
                while {first(one) for one in clients} != {product_id}:
                    assert time.monotonic() - started < 5
                    time.sleep(0.02)
                return time.monotonic() - started

            assert wait_for("milk") < 5
            summary = save(ann, action="pin", target="pesto", when_kind="product_id", when="tea")
            done = publish(ann, summary)
            published_s = wait_for("pesto")
            undo = re.search(r'action="(/rules/changes/\d+/undo)"', done.text)[1]
            ann.submit(undo, back="/rules")
            assert first(clients[0]) == "milk", "the page after a change shows it"
            undone_s = wait_for("milk")
        print(f"{kind}: published {published_s:.2f} s, undone {undone_s:.2f} s")
