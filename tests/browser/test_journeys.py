"""What people come for, from the page to the answers of the service."""

import re
import time
import urllib.parse
import uuid

import pytest
from playwright.sync_api import expect

from bento.client import Client
from bento.schemas.rules import RuleRequest, Scope
from tests.browser.environment import EFFECTIVE_S
from tests.browser.shop import MARKUP, SQL


def list_companions(service, product_id, k=5):
    return [item.product_id for item in service.recommend(product_id, k=k).items]


def wait_for_answer(service, product_id, is_right):
    """Fails where no answer is right in time."""
    end = time.monotonic() + EFFECTIVE_S
    while not is_right(found := list_companions(service, product_id)):
        assert time.monotonic() < end, found
        time.sleep(0.05)


def notice(page):
    """What the workbench says of the last click."""
    return page.locator("main > .notice").first


def search_for(page, words, name):
    """Type into the search field of the page, and choose the product found."""
    page.keyboard.press("/")
    page.keyboard.type(words)
    page.get_by_role("option", name=name).click()


def open_menu(page, name):
    page.locator(f'summary[aria-label="Correct {name}"]').first.click()


def judge_case(page, name, ids, n_lists):
    """Make a case of these pages and grade all its lists by keys."""
    page.get_by_role("link", name="Judge", exact=True).first.click()
    page.get_by_role("link", name=re.compile("New case|first case")).first.click()
    page.get_by_label("Name").fill(f"{name} {uuid.uuid4().hex[:6]}")
    page.locator('input[name="source"][value="ids"]').check()
    page.get_by_label("Product ids, one a line").fill("\n".join(ids))
    page.get_by_role("button", name="Make the case").click()
    page.wait_for_selector("#judging")
    for _ in range(n_lists):
        page.keyboard.press("2")
    expect(page.locator("#saved")).to_have_text("Saved")


def test_look_up_compare_judge_pin_undo(visitor, environment, store):
    page, shop = visitor.page, [Client(url) for url in environment.services]
    visitor.go("/")
    search_for(page, "foldng pram", "Folding pram")
    expect(page).to_have_url(re.compile("/product/pram$"))
    expect(page.get_by_text("Infant formula, from birth").first).to_be_visible()

    visitor.go("/compare?a=1&b=2&product=pram")
    assert "Red wine, Chianti" in page.get_by_role("region", name="Version 2").inner_text()
    assert "Red wine, Chianti" not in page.get_by_role("region", name="Version 1").inner_text()

    judge_case(page, "Prams", ["pram"], n_lists=2)

    visitor.go("/product/pram")
    before = list_companions(shop[0], "pram")
    assert before[0] != "bib"
    open_menu(page, "Cotton bib")
    page.get_by_role("link", name="Pin …").locator("visible=true").click()
    expect(page.get_by_role("heading", name="New rule")).to_be_visible()
    page.get_by_label("Why").fill("They ask for it at the till")
    page.get_by_role("button", name="Save and publish …").click()
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(notice(page)).to_contain_text("Published")
    for service in shop:
        wait_for_answer(service, "pram", lambda found: found[0] == "bib")

    notice(page).get_by_role("button", name="Undo").click()
    page.wait_for_load_state()
    for service in shop:
        wait_for_answer(service, "pram", lambda found: found == before)
        service.close()
    assert store.rules().rules == []


@pytest.mark.parametrize(
    "path", ["/product/pram", "/cart?items=pram", "/compare?a=1&b=2&product=pram"]
)
def test_a_recommendation_is_blocked_in_two_clicks_on_any_view(path, visitor, service, store):
    visitor.go(path)
    page = visitor.page
    assert "bib" in list_companions(service, "pram")
    open_menu(page, "Cotton bib")
    page.get_by_role("button", name=re.compile("^Block (here|everywhere)")).locator(
        "visible=true"
    ).first.click()
    expect(notice(page)).to_contain_text("Cotton bib")
    assert page.url.endswith(path)
    wait_for_answer(service, "pram", lambda found: "bib" not in found)


def test_the_model_can_be_told_from_rules(visitor, store):
    pram = Scope(product_id="pram")
    store.add_rule(RuleRequest(action="pin", target=Scope(product_id="tea"), when=pram), "ann")
    deadline = time.monotonic() + EFFECTIVE_S
    while "Breakfast tea" not in (visitor.go("/product/pram"), visitor.text())[1]:
        assert time.monotonic() < deadline
    assert "pinned" in visitor.text()
    visitor.page.get_by_role("link", name="Without", exact=True).click()
    expect(visitor.page.get_by_text("the model alone").first).to_be_visible()
    first = visitor.page.locator("ol.cards li").first
    expect(first).not_to_contain_text("Breakfast tea")


def test_nothing_names_a_version_while_it_is_judged_blind(visitor):
    visitor.go("/compare?a=1&b=2&product=motor-oil&blind=1")
    page = visitor.page
    columns = page.locator(".columns").first
    assert not re.search(r"version|champion|challenger", columns.inner_text(), re.IGNORECASE)
    page.get_by_role("button", name="Left is better").click()
    expect(notice(page)).to_contain_text(re.compile("left was version [12]"))
    expect(page.locator(".columns").first).to_contain_text(re.compile("Version 1"))


def test_a_judge_sees_neither_versions_nor_results_before_the_end(visitor):
    page = visitor.page
    visitor.go("/")
    judge_case(page, "Tea time", ["tea", "mug"], n_lists=1)
    assert not re.search(r"version|champion", page.locator("main").inner_text(), re.IGNORECASE)
    assert "version" not in page.url
    case = page.url.partition("?")[0]
    for name, path in (("page", case), ("pair", f"{case}?mode=ab"), ("edit", f"{case}/edit")):
        page.goto(path)
        visitor.check_accessibility()
        visitor.screenshot(f"judging/{name}")
    page.goto(f"{case}/results")
    expect(page.locator("main")).not_to_contain_text("best")
    visitor.check_accessibility()
    visitor.screenshot("judging/results")


def test_the_later_of_two_people_is_told_and_loses_nothing(visitors, environment, store):
    rule = store.add_rule(RuleRequest(action="block", target=Scope(product_id="bib")), "ann")
    first, second = (visitors(environment.workbench) for _ in range(2))
    second.expected = {409}
    for one, note in ((first, "mine"), (second, "hers")):
        one.go(f"/rules/{rule.rule_id}")
        one.page.get_by_label("Why").fill(f"{note} is the reason")
    first.page.get_by_role("button", name="Save and publish …").click()
    first.page.get_by_role("button", name="Publish", exact=True).click()
    expect(notice(first.page)).to_contain_text("Published")
    second.page.get_by_role("button", name="Save and publish …").click()
    expect(second.page.locator("main")).to_contain_text("changed")
    expect(second.page.get_by_role("button", name="Publish", exact=True)).to_have_count(0)
    assert store.rule(rule.rule_id).note == "mine is the reason"
    draft_id = urllib.parse.parse_qs(urllib.parse.urlsplit(second.page.url).query)["draft"][0]
    second.go(f"/rules/drafts/{draft_id}")
    expect(second.page.get_by_label("Why")).to_have_value("hers is the reason")


def test_two_pins_on_one_position_are_a_conflict(visitor, store):
    pram = Scope(product_id="pram")
    store.add_rule(RuleRequest(action="pin", target=Scope(product_id="tea"), when=pram), "ann")
    visitor.go("/rules/new?action=pin&target=milk&when=pram")
    expect(visitor.page.locator(".conflicts")).to_contain_text("Breakfast tea")


def test_markup_and_sql_are_shown_as_they_are(visitor, store):
    note = f"{MARKUP} {SQL}"
    rule = store.add_rule(
        RuleRequest(action="boost", target=Scope(product_id="towel"), note=note), "<i>ann</i>"
    )
    for path in (
        "/product/towel",
        "/product/tea",
        "/rules",
        f"/rules/{rule.rule_id}",
        "/rules/history",
    ):
        visitor.go(path)
        assert visitor.page.title() != "owned"
        assert MARKUP in visitor.page.locator("main").inner_text()
    visitor.go("/search?q=" + "%3Cscript%3Edrop")
    assert "<script>drop" in visitor.text()


def test_a_session_of_ten_tabs(visitor, environment, store):
    """What was opened first still works after the others were."""
    context, names = visitor.page.context, []
    tabs = [context.new_page() for _ in range(10)]
    for tab in tabs:
        tab.goto(f"{environment.workbench}/product/tea")
    for number, tab in enumerate(tabs):
        menu = tab.locator("details.menu:not(.why)").nth(number)
        names.append(menu.locator("summary").get_attribute("aria-label"))
        menu.locator("summary").click()
        menu.get_by_role("button", name="Block here").click()
        expect(notice(tab)).to_contain_text("counts on every replica")
    assert len(set(names)) == 10
    assert len(store.rules().rules) == 10
