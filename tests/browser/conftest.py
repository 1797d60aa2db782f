"""A workbench with real neighbours and a real browser, once for all tests of the pages."""

import contextlib
import shutil
import time

import pytest

from bento.client import Client
from bento.store.store import Store
from tests.browser import shop
from tests.browser.environment import (
    EFFECTIVE_S,
    TOKEN,
    Environment,
    register_versions,
    run_registry,
    run_service,
    run_workbench,
    wait_for_page,
)
from tests.browser.visitor import FAILED, open_visitor

# Playwright's event loop runs as long as its fixture; other folders' tests have their own loops.
FOLDER = {"scope": "package"}


@pytest.fixture(**FOLDER)
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(**FOLDER)
def bundles(folder):
    """Of two versions that differ."""
    return [
        shop.train(folder / "first", seed=1),
        shop.train(folder / "second", seed=2, moved=2),
    ]


@pytest.fixture(**FOLDER)
def registry(folder, bundles):
    """Both versions, the first of them champion."""
    with run_registry(folder / "registry") as server:
        register_versions(server.url, bundles)
        yield server.url


@pytest.fixture(**FOLDER)
def environment(folder, bundles, registry):
    """Two services, as replicas, and the workbench, on one SQLite database."""
    with start_environment(folder, bundles, registry, f"sqlite:///{folder / 'fbt.db'}") as made:
        yield made


@contextlib.contextmanager
def start_environment(folder, bundles, registry, database):
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        one, other = (start(run_service(bundles[0], "1", database)).url for _ in range(2))
        workbench = start(run_workbench(folder / "workbench", one, database, registry)).url
        wait_for_page(workbench, "/compare?a=1&b=2&product=tea")
        yield Environment(workbench, (one, other), database, registry)


@pytest.fixture(**FOLDER)
def browser():
    """Chromium of the system."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if not (chromium := shutil.which("chromium")):
        pytest.skip("no browser (Debian: chromium)")
    sync_api.expect.set_options(timeout=15_000)
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def visitors(browser, request):
    """Opens visitors; at the end, none may have met a fault."""
    opened = []

    def open_another(url):
        opened.append(open_visitor(browser, url))
        return opened[-1]

    yield open_another
    if getattr(request.node, "failed", False):
        for number, one in enumerate(opened):
            name = f"{request.node.name[:80].replace('/', ' ')}-{number}.png"
            one.save_picture(FAILED / name)
    for one in opened:
        one.page.context.close()
    assert not [fault for one in opened for fault in one.faults]


@pytest.fixture
def visitor(visitors, environment):
    """Somebody at a laptop, in light colours."""
    return visitors(environment.workbench)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed = outcome.get_result().failed


@pytest.fixture
def store(environment):
    """The database of the environment, without rules before and after, for the services too."""
    with contextlib.closing(Store(environment.database)) as opened:
        opened.migrate()
        delete_rules(opened, environment.services)
        yield opened
        delete_rules(opened, environment.services)


def delete_rules(store, services):
    """Until the services have read that they are gone: the next answer must not be of the past."""
    for rule in store.rules().rules:
        store.delete_rule(rule.rule_id, "test")
    for url in services:
        with Client(url) as client:
            wait_for_revision(client, store.rules().revision)


def wait_for_revision(client, revision):
    end = time.monotonic() + EFFECTIVE_S
    while client.ready().details["database"]["revision"] < revision:
        assert time.monotonic() < end, client.ready()
        time.sleep(0.05)


@pytest.fixture
def service(environment):
    """A client of the first service."""
    with Client(environment.services[0], token=TOKEN, user="test") as client:
        yield client
