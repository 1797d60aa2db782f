"""Who may only look sees nothing to change with, and is refused by the server all the same."""

import pytest

from bento.schemas.rules import RuleRequest, Scope
from tests.browser.environment import run_workbench, wait_for_page

CHANGES = r"\b(block|pin|promote|roll back|publish|undo|new rule|new case|save|delete|discard)\b"
"""Names of controls that only editors and releasers have."""
VIEWS = ("/product/pram", "/cart?items=pram", "/compare?a=1&b=2&product=pram", "/rules",
         "/rules/drafts", "/rules/history", "/judge", "/judge/queue", "/tune?product=pram",
         "/health")  # fmt: skip
FOR_OTHERS = ("/rules/new", "/judge/new", "/rules/publish", "/health/promote/2",
              "/health/rollback")  # fmt: skip
POSTS = {
    "/rules/block": {"target": "bib"},
    "/rules/save": {"action": "block", "target": "bib"},
    "/rules/publish": {"draft": "1"},
    "/tune/default": {"diversity": "0.5"},
    "/judge/new": {"name": "mine", "source": "ids", "ids": "pram"},
    "/health/promote": {"version": "2", "typed": "2"},
    "/health/rollback": {"typed": "1"},
}
NAME_CONTROLS = """(words) => [...document.querySelectorAll("main button, main a, main summary")]
  .map((one) => `${one.getAttribute("aria-label") ?? one.textContent}`.trim())
  .filter((name) => new RegExp(words, "i").test(name))"""
POST = """async ([path, fields]) => {
  const csrf = document.querySelector('meta[name="csrf"]').content;
  const body = new URLSearchParams({ ...fields, csrf });
  return (await fetch(path, { method: "POST", body, redirect: "manual" })).status;
}"""


@pytest.fixture(scope="module")
def viewers_url(environment, tmp_path_factory):
    """A workbench where everybody is a viewer."""
    with run_workbench(
        tmp_path_factory.mktemp("viewers"), environment.services[0], environment.database,
        environment.registry, settings={"FBT_WORKBENCH_OPEN": "viewer"},
    ) as server:  # fmt: skip
        wait_for_page(server.url, "/compare?a=1&b=2&product=pram")
        yield server.url


@pytest.fixture
def rule(store):
    return store.add_rule(RuleRequest(action="boost", target=Scope(product_id="tea")), "ann")


@pytest.fixture
def viewer(visitors, viewers_url):
    visitor = visitors(viewers_url)
    visitor.expected = {403}
    return visitor


@pytest.mark.parametrize("path", VIEWS)
def test_a_viewer_is_shown_no_way_to_change_anything(path, viewer, rule):
    viewer.go(path)
    viewer.check_accessibility()
    viewer.screenshot(f"viewer/{path.partition('?')[0].strip('/').replace('/', '-')}")
    assert viewer.page.evaluate(NAME_CONTROLS, CHANGES) == []


def test_a_releaser_is_shown_them(visitor, rule):
    """So that the test above looks for names that there are."""
    for path in ("/product/pram", "/rules", "/health"):
        visitor.go(path)
        assert visitor.page.evaluate(NAME_CONTROLS, CHANGES) != [], path


@pytest.mark.parametrize("path", FOR_OTHERS)
def test_a_page_for_others_says_who_may_open_it(path, viewer):
    assert viewer.go(path).status == 403
    assert "everybody is viewer, expected" in viewer.text()
    viewer.check_accessibility()


def test_what_a_viewer_sends_by_hand_is_refused(viewer, store, rule):
    viewer.go("/rules")
    changes = {**POSTS, f"/rules/changes/{store.revision().value}/undo": {}}
    refused = {path: viewer.page.evaluate(POST, [path, body]) for path, body in changes.items()}
    assert set(refused.values()) == {403}, refused
    assert [one.rule_id for one in store.rules().rules] == [rule.rule_id]
