"""Each main task without a mouse, and every control of every view by Tab."""

import re
import uuid

import pytest
from playwright.sync_api import expect

from bento.schemas.rules import RuleRequest, Scope
from tests.browser.test_journeys import list_companions, notice, wait_for_answer
from tests.browser.test_views import PAGES, REFUSALS

MOST_STEPS = 400

NUMBER_CONTROLS = """() => {
  const seen = new Set();
  let n = 0;
  for (const one of document.querySelectorAll(
      "a[href], button, input, select, textarea, summary, [tabindex='0']")) {
    const isShown = one.checkVisibility({ visibilityProperty: true });
    if (!isShown || one.disabled || one.type === "hidden" || one.tabIndex < 0) continue;
    if (one.type === "radio") {
      if (seen.has(one.name)) continue;
      const chosen = document.querySelector(`input[name="${one.name}"]:checked`);
      if (chosen && chosen !== one) continue;
      seen.add(one.name);
    }
    one.dataset.control = n++;
  }
  return n;
}"""
FOCUSED = """() => {
  const one = document.activeElement, style = getComputedStyle(one);
  const name = one.getAttribute("aria-label") ?? one.labels?.[0]?.innerText ?? one.innerText;
  const isMarked = style.outlineStyle !== "none" || style.boxShadow !== "none";
  return { control: one.dataset.control ?? null, name: name.trim(), isMarked };
}"""
NAMES = """(missed) => missed.map(
  (n) => document.querySelector(`[data-control="${n}"]`)?.outerHTML.slice(0, 150) ?? n)"""


def tab_to(page, name):
    """Press Tab until the focus is on what has the name."""
    for _ in range(MOST_STEPS):
        page.keyboard.press("Tab")
        if re.search(name, page.evaluate(FOCUSED)["name"]):
            return
    pytest.fail(f"Tab never reaches {name!r} on {page.url}")


@pytest.mark.parametrize("name", PAGES)
def test_tab_reaches_every_control_and_shows_where_it_is(name, visitor):
    visitor.expected = REFUSALS
    visitor.go(PAGES[name])
    page = visitor.page
    page.wait_for_load_state("networkidle")
    page.evaluate("document.activeElement.blur()")
    missing = {str(number) for number in range(page.evaluate(NUMBER_CONTROLS))}
    for _ in range(MOST_STEPS):
        if not missing:
            break
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUSED)
        missing.discard(focus["control"])
        assert focus["control"] is None or focus["isMarked"], focus
    assert not page.evaluate(NAMES, sorted(missing))


def test_look_up_reasons_and_block(visitor, service, store):
    page = visitor.page
    visitor.go("/health")
    page.keyboard.press("/")
    page.keyboard.type("folding")
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/product/pram$"))
    tab_to(page, "^Why Cotton bib")
    page.keyboard.press("Enter")
    expect(page.locator("details.why[open]")).to_contain_text("Bought together")
    page.keyboard.press("Escape")
    expect(page.locator("details.why[open]")).to_have_count(0)
    tab_to(page, "^Correct Cotton bib")
    page.keyboard.press("Enter")
    tab_to(page, "^Block here")
    page.keyboard.press("Enter")
    expect(notice(page)).to_contain_text("Cotton bib")
    wait_for_answer(service, "pram", lambda found: "bib" not in found)
    tab_to(page, "^Undo")
    page.keyboard.press("Enter")
    wait_for_answer(service, "pram", lambda found: "bib" in found)


def test_write_a_rule_and_undo_it_in_the_history(visitor, service, store):
    page = visitor.page
    visitor.go("/rules")
    before = list_companions(service, "pram")
    tab_to(page, "^New rule")
    page.keyboard.press("Enter")
    page.wait_for_url("**/rules/new")
    tab_to(page, "^What$")
    page.keyboard.type("Show at a")
    tab_to(page, "^target:")
    page.keyboard.type("tea")
    tab_to(page, "^Kind of when")
    page.keyboard.type("beside the product")
    tab_to(page, "^when:")
    page.keyboard.type("pram")
    tab_to(page, "^Save and publish")
    page.keyboard.press("Enter")
    page.wait_for_url("**/rules/publish**")
    tab_to(page, "^Publish$")
    page.keyboard.press("Enter")
    expect(notice(page)).to_contain_text("Published")
    wait_for_answer(service, "pram", lambda found: found[0] == "tea")
    visitor.go("/rules/history")
    tab_to(page, "^Undo change")
    page.keyboard.press("Enter")
    wait_for_answer(service, "pram", lambda found: found == before)


def test_compare_and_prefer_blind(visitor):
    page = visitor.page
    visitor.go("/compare?a=1&b=2&product=pram")
    tab_to(page, "^Blind$")
    page.keyboard.press("Enter")
    page.wait_for_url("**blind=1**")
    tab_to(page, "^Right is better")
    page.keyboard.press("Enter")
    expect(notice(page)).to_contain_text("was better")


def test_judge_a_case(visitor):
    page = visitor.page
    visitor.go("/judge")
    tab_to(page, "^(New case|Make the first case)")
    page.keyboard.press("Enter")
    page.wait_for_url("**/judge/new**")
    tab_to(page, "^Name")
    page.keyboard.type(f"By keys {uuid.uuid4().hex[:6]}")
    tab_to(page, "^Product ids")
    page.keyboard.type("pram\nmotor-oil")
    page.locator('input[name="source"]:checked').focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator('input[name="source"][value="ids"]')).to_be_checked()
    tab_to(page, "^Make the case")
    page.keyboard.press("Enter")
    page.wait_for_selector("#judging")
    for keys, n_judged in ((("3", "0"), "2"), (("Enter",), "2"), (("1", "u", "z"), "3")):
        for key in keys:
            page.keyboard.press(key)
        expect(page.locator("#judged")).to_have_text(n_judged)
        if keys == ("Enter",):
            expect(page.locator("main")).to_contain_text("Page 2 of 2")
    expect(page.locator("#saved")).to_have_text(re.compile("Saved|Undone"))


def test_tune_and_see(visitor):
    page = visitor.page
    visitor.go("/tune?product=pram")
    tab_to(page, "^Diversity")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.wait_for_url("**diversity=0.5**")
    expect(page.locator("#parts")).not_to_have_attribute("aria-busy", "true")


def test_the_skip_link_leads_past_the_navigation(visitor):
    page = visitor.page
    visitor.go("/product/pram")
    page.keyboard.press("Tab")
    assert "Skip" in page.evaluate(FOCUSED)["name"]
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_a_rule_of_a_thousand_is_found(visitor, store):
    for number in range(1_000):
        product = Scope(product_id=["tea", "milk", "bib", "mug"][number % 4])
        note = f"reason {number}" + " and more" * (number % 40)
        store.add_rule(
            RuleRequest(action="boost", target=product, note=note), f"person {number % 7}"
        )
    visitor.go("/rules")
    visitor.check_width()
    visitor.screenshot("thousand-rules/rules")
    assert "1000 rules" in visitor.text().replace(",", "")
    visitor.check_accessibility()
    visitor.go("/rules?q=reason+777")
    expect(visitor.page.locator("tbody tr")).to_have_count(1)
    visitor.go("/product/tea")
    visitor.screenshot("thousand-rules/product")
