"""Neighbours that are gone or have nothing: the page says so, and recovers by itself."""

import contextlib
import urllib.parse

import pytest
from playwright.sync_api import expect

from tests.browser import shop
from tests.browser.environment import (
    register_versions,
    run_registry,
    run_service,
    run_workbench,
    wait_for_page,
)
from tests.browser.test_journeys import judge_case

RECOVERY_MS = 40_000
VIEWS = ("/", "/product/lonely", "/cart?items=lonely", "/search?q=lonely", "/compare", "/judge",
         "/judge/queue", "/rules", "/rules/new", "/tune", "/map", "/health")  # fmt: skip
EMPTY = ("/", "/compare", "/judge", "/judge/queue", "/rules", "/tune", "/map", "/health")
GONE = {
    "service": ("/", "/product/lonely", "/cart?items=lonely", "/search?q=lonely"),
    "registry": ("/compare", "/tune", "/judge/queue", "/map"),
    "database": ("/rules", "/rules/drafts", "/rules/history", "/judge"),
}
"""Views that cannot do without."""


class Switch:
    """A server that can be stopped, and started again at the same port."""

    def __init__(self, run):
        self._run, self._port, self._stack = run, 0, contextlib.ExitStack()

    def start(self):
        server = self._stack.enter_context(self._run(self._port))
        self._port = urllib.parse.urlsplit(server.url).port
        return server.url

    def stop(self):
        self._stack.close()


class LonelyShop:
    """One product, one version, one service; a database of PostgreSQL where it is installed."""

    def __init__(self, folder, postgres):
        self.postgres = postgres
        bundle = shop.train_single(folder)
        database = postgres.new_database() if postgres else f"sqlite:///{folder / 'fbt.db'}"
        self.parts = {
            "registry": Switch(lambda port: run_registry(folder / "registry", port)),
            "service": Switch(lambda port: run_service(bundle, "1", database, port)),
            "database": postgres,
        }
        self.registry = self.parts["registry"].start()
        register_versions(self.registry, [bundle])
        self.workbench = Switch(
            lambda port: run_workbench(folder / "wb", self.service, database, self.registry, port)
        )
        self.service = self.parts["service"].start()
        self.url = self.workbench.start()
        wait_for_page(self.url, "/tune")

    def close(self):
        for one in (self.workbench, self.parts["service"], self.parts["registry"]):
            one.stop()


@pytest.fixture(scope="module")
def lonely(tmp_path_factory, request):
    try:
        postgres = request.getfixturevalue("postgres_server")
    except pytest.skip.Exception:
        postgres = None
    made = LonelyShop(tmp_path_factory.mktemp("lonely"), postgres)
    yield made
    made.close()


def name_picture(path):
    return path.partition("?")[0].strip("/").replace("/", "-") or "start"


@pytest.mark.parametrize("path", VIEWS)
def test_one_version_of_one_product(path, visitors, lonely):
    visitor = visitors(lonely.url)
    assert visitor.go(path).status == 200
    visitor.page.wait_for_load_state("networkidle")
    visitor.check_accessibility()
    visitor.check_width()
    visitor.screenshot(f"one-product/{name_picture(path)}")


def test_there_is_nothing_to_compare_with(visitors, lonely):
    visitor = visitors(lonely.url)
    visitor.go("/compare")
    assert "Only version 1 is registered" in visitor.text()


@pytest.mark.parametrize("path", EMPTY)
def test_an_empty_registry(path, visitors, empty_registry):
    visitor = visitors(empty_registry)
    assert visitor.go(path).status < 500
    visitor.check_accessibility()
    visitor.screenshot(f"empty-registry/{name_picture(path)}")


@pytest.fixture(scope="module")
def empty_registry(tmp_path_factory, lonely):
    """A workbench whose registry has no version."""
    folder = tmp_path_factory.mktemp("empty")
    registry, database = f"sqlite:///{folder / 'mlflow.db'}", f"sqlite:///{folder / 'fbt.db'}"
    with run_workbench(folder / "wb", lonely.service, database, registry) as server:
        wait_for_page(server.url, "/compare")
        yield server.url


@pytest.mark.parametrize("part", GONE)
def test_a_part_that_is_gone_is_named_and_missed_no_longer_than_that(part, visitors, lonely):
    if lonely.parts[part] is None:
        pytest.skip("no PostgreSQL server (Debian: postgresql)")
    # Refused at once, or out of time.
    visitor = visitors(lonely.url)
    visitor.expected = {502, 503}
    open_tabs = {}
    lonely.parts[part].stop()
    try:
        for path in GONE[part]:
            visitor.go(path)
            assert part in visitor.text(), path
            visitor.check_accessibility()
            visitor.screenshot(f"{part}-gone/{name_picture(path)}")
        for path in GONE[part][:1]:
            open_tabs[path] = visitor.page.context.new_page()
            open_tabs[path].goto(lonely.url + path)
    finally:
        lonely.parts[part].start()
    for tab in open_tabs.values():
        expect(tab.locator("[data-retry]")).to_have_count(0, timeout=RECOVERY_MS)
    for path in GONE[part]:
        assert visitor.go(path).status == 200, path


def test_other_views_go_on_while_the_registry_is_gone(visitors, lonely):
    visitor = visitors(lonely.url)
    lonely.parts["registry"].stop()
    try:
        for path in ("/", "/product/lonely", "/rules"):
            assert visitor.go(path).status == 200, path
    finally:
        lonely.parts["registry"].start()


def test_what_is_judged_while_the_workbench_restarts_is_saved(visitors, environment, tmp_path):
    """The new process has another key, so that the page's CSRF token is renewed, too."""
    one, database, registry = environment.services[0], environment.database, environment.registry
    workbench = Switch(lambda port: run_workbench(tmp_path, one, database, registry, port))
    try:
        visitor = visitors(workbench.start())
        wait_for_page(visitor.url, "/compare?a=1&b=2&product=pram")
        visitor.expected = {403}
        page, saved = visitor.page, visitor.page.locator("#saved")
        visitor.go("/")
        judge_case(page, "Restart", ["pram"], n_lists=1)
        workbench.stop()
        page.keyboard.press("1")
        expect(saved).to_contain_text("Not saved yet")
        visitor.screenshot("judging/not-saved-yet")
        workbench.start()
        expect(saved).to_have_text("Saved", timeout=RECOVERY_MS)
        page.reload()
        expect(page.locator("#judged")).to_have_text("2")
    finally:
        workbench.stop()
    visitor.faults[:] = [one for one in visitor.faults if "ERR_CONNECTION_REFUSED" not in one]
