"""Versions from a real MLflow server, and the pages that compare and tune them."""

import re
import shutil
from contextlib import contextmanager

import pytest
from mlflow import MlflowClient
from starlette.testclient import TestClient

from bento.client import AsyncClient
from bento.store.drafts import list_drafts
from bento.store.judgements import get_case, read_lists, read_preferences
from bento.store.store import Store
from bento.workbench.app import build_app
from bento.workbench.comparing.preferences import CASE, save_choice
from bento.workbench.context import Workbench
from bento.workbench.database import WorkbenchDatabase
from bento.workbench.mapping.maps import Maps
from bento.workbench.settings import WorkbenchSettings
from bento.workbench.versions import LoadedVersions
from components.model.bundle import compute_sha256
from components.registry import registry
from tests.factories import CATEGORIES, make_bundle

LISTS = {"1": ["milk", "jam"], "2": ["sugar"]}
OTHER_PAIRS = [("coffee", "milk"), ("tea", "sugar"), ("bread", "butter"), ("rice", "pesto")]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    categories = {**CATEGORIES, "rice": "dry goods"}
    first = make_bundle(folder / "a")
    return [first, make_bundle(folder / "b", pairs=OTHER_PAIRS, categories=categories)]


@pytest.fixture(autouse=True, scope="module")
def registry_of_tests(mlflow_url):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", mlflow_url)
        yield


@contextmanager
def use_model(name):
    """A registered model of a test's own."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setattr("components.registry.registry.MODEL", name)
        yield name


def register(bundle, ndcg=0.1, **params):
    tags = {
        registry.VERDICT_TAG: "passed",
        registry.BUNDLE_HASH_TAG: compute_sha256(bundle / "bundle.json"),
    }
    metrics = {"test.item.model.ndcg.mean": ndcg}
    return registry.register({"bundle": bundle}, {"seed": 1, **params}, metrics, tags)


@contextmanager
def open_pages(folder):
    """A browser without scripts, on a workbench that waits for its versions."""
    url = f"sqlite:///{folder / 'fbt.db'}"
    versions = LoadedVersions(folder / "cache", url, 2, patience_s=60)
    parts = (
        WorkbenchSettings(), AsyncClient("http://127.0.0.1:9"), WorkbenchDatabase(url), versions,
        Maps(folder / "maps"),
    )  # fmt: skip
    with TestClient(build_app(Workbench(*parts)), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def model(request):
    with use_model(re.sub(r"\W+", "-", f"fbt-workbench-{request.node.name}")) as name:
        yield name


@pytest.fixture
def own_pages(tmp_path, model):
    with open_pages(tmp_path) as client:
        yield client


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def registered(mlflow_url, bundles):
    """Version 1, the champion, and version 2, the challenger."""
    with use_model("fbt-workbench-compare") as name:
        register(bundles[0])
        register(bundles[1], 0.2, popularity_discount=0.5)
        MlflowClient(mlflow_url).set_registered_model_alias(name, "champion", "1")
    return name


@pytest.fixture(scope="module")
def shared_pages(home, registered):
    with open_pages(home) as client:
        yield client


@pytest.fixture
def pages(shared_pages, registered):
    with use_model(registered):
        yield shared_pages


@pytest.fixture
def store(home):
    store = Store(f"sqlite:///{home / 'fbt.db'}")
    store.migrate()
    yield store
    store.close()


def read(pages, path, status=200):
    answer = pages.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


def words(html):
    """The text of the page's main part, blanks single."""
    main = html.partition("<main")[2]
    return " ".join(re.sub(r"<[^>]*>", " ", main.partition(">")[2]).split())


def send(pages, page, path, /, **fields):
    token = re.search(r'name="csrf" content="([^"]+)"', page)[1]
    return pages.post(path, data={"csrf": token, **fields}, follow_redirects=False)


class TestVersions:
    def test_the_page_compares_champion_and_challenger(self, pages):
        text = words(read(pages, "/compare"))
        assert "Version 1 (champion)" in text
        assert "Version 2 (challenger)" in text
        assert "NDCG@10 higher is better 0.1000 0.2000 +0.1000" in text
        assert "popularity discount — 0.5" in text

    def test_an_empty_registry_is_no_error(self, own_pages, model):
        assert "No version is registered yet" in words(read(own_pages, "/compare"))
        assert "No version is registered yet" in words(read(own_pages, "/tune"))

    def test_one_version_has_nothing_to_compare_with(self, own_pages, model, bundles):
        register(bundles[0])
        assert "Only version 1 is registered" in words(read(own_pages, "/compare"))
        assert "Tuned" in words(read(own_pages, "/tune"))

    def test_an_unknown_version_is_named_with_those_there_are(self, pages):
        assert "No version or alias &#39;9&#39; is registered (versions: 2, 1)" in read(
            pages, "/compare?a=9&b=1", 404
        )

    def test_a_damaged_bundle_is_named_with_its_file(self, own_pages, model, bundles, tmp_path):
        register(bundles[0])
        damaged = shutil.copytree(bundles[1], tmp_path / "damaged")
        (damaged / "n_orders.npy").write_bytes(b"broken")
        register(damaged)
        text = words(read(own_pages, "/compare?a=1&b=2", 502))
        assert "version 2 cannot be opened: bundle: n_orders.npy is damaged" in text
        assert "take another version" in text
        assert "Tea" in words(read(own_pages, "/compare?a=1&b=1&product=tea"))

    def test_a_bundle_without_a_manifest_is_refused(self, own_pages, model, bundles, tmp_path):
        register(bundles[0])
        partial = shutil.copytree(bundles[1], tmp_path / "partial")
        register(partial)
        run_id = registry.get_version("2").run_id
        with registry.registry_client() as client:
            location = client.get_run(run_id).info.artifact_uri
        if location.startswith("mlflow-artifacts"):
            pytest.skip("the server keeps its artefacts to itself")
        (type(tmp_path)(location.removeprefix("file://")) / "bundle" / "bundle.json").unlink()
        assert "its run has no bundle in the registry" in words(
            read(own_pages, "/compare?b=2", 502)
        )

    def test_equal_files_of_two_versions_are_kept_once(self, pages, home):
        read(pages, "/compare")
        first, second = (home / "cache" / "versions" / one for one in "12")
        same = "records_price.npy"
        assert (first / same).stat().st_ino == (second / same).stat().st_ino
        other = "out_vectors.npy"
        assert (first / "bundle.json").stat().st_ino != (second / "bundle.json").stat().st_ino
        assert (first / other).exists()

    def test_a_bundle_of_another_registry_is_fetched_anew(
        self, own_pages, model, bundles, tmp_path
    ):
        register(bundles[0])
        shutil.copytree(bundles[1], tmp_path / "cache" / "versions" / "1")
        text = words(read(own_pages, "/compare?a=1&b=1&product=tea"))
        assert text.index("Milk") < text.index("Sugar")


class TestLists:
    def test_what_moved_is_said_in_words(self, pages):
        text = words(read(pages, "/compare?product=tea"))
        assert "Milk, the good one" in text
        assert "1 place higher than in version" in text or "places higher than in" in text

    def test_a_product_that_one_version_does_not_know_says_so(self, pages):
        text = words(read(pages, "/compare?product=rice"))
        assert "This version does not know the product" in text

    def test_a_product_of_neither_is_not_found(self, pages):
        text = read(pages, "/compare?product=%3Cb%3E", 404)
        assert "Neither version has a product &#39;&lt;b&gt;&#39;" in text

    def test_a_cart_is_compared(self, pages):
        text = words(read(pages, "/compare?items=tea,bread"))
        assert "Butter, the good one" in text

    def test_a_url_with_aliases_and_swapped_sides_works(self, pages):
        text = words(read(pages, "/compare?a=challenger&b=champion&product=tea"))
        assert text.index("Version 2 (challenger)") < text.index("version 1’s list")


class TestBlind:
    PATH = "/compare?a=1&b=2&product=tea&blind=1"

    def lists(self, html):
        """The products of both sides."""
        sides = html.split("<section")[1:3]
        return [re.findall(r'href="/product/([^"]+)"', side) for side in sides]

    def test_sides_have_no_trace_of_their_versions(self, pages):
        page = read(pages, self.PATH)
        for side in page.split("<section")[1:3]:
            assert not re.search(r"[Vv]ersion|champion|challenger", side.partition("</section")[0])
        assert "Evidence" not in page

    def test_sides_stay_and_differ_between_products(self, pages):
        assert self.lists(read(pages, self.PATH)) == self.lists(read(pages, self.PATH))

    def test_a_choice_is_kept_for_the_right_version(self, pages, store):
        page = read(pages, self.PATH)
        left, _ = self.lists(page)
        better = "1" if left[0] == "milk" else "2"
        answer = send(
            pages, page, "/compare/prefer", a=1, b=2, product="tea", choice="left", blind=1
        )
        assert answer.status_code == 303
        text = words(read(pages, answer.headers["location"]))
        assert f"Version {better} was better: left was version {better}" in text
        (kept,) = read_preferences(store, get_case(store, CASE).case_id)
        assert kept.page == "tea"
        assert kept.preferred in (kept.first, kept.second)

    def test_after_a_look_no_choice_is_taken(self, pages):
        page = read(pages, self.PATH.replace("tea", "sugar"))
        fields = {"a": 1, "b": 2, "product": "sugar", "blind": 1}
        answer = send(pages, page, "/compare/reveal", **fields)
        revealed = words(read(pages, answer.headers["location"]))
        assert "Version 1 (champion)" in revealed.partition("Blind")[2]
        assert "Left is better" not in revealed
        refused = send(pages, page, "/compare/prefer", **fields, choice="left")
        assert refused.status_code == 409

    def test_a_choice_that_is_none_is_refused(self, pages):
        page = read(pages, self.PATH.replace("tea", "milk"))
        fields = {"a": 1, "b": 2, "product": "milk", "choice": "up"}
        assert send(pages, page, "/compare/prefer", **fields).status_code == 422

    def test_without_a_token_nothing_is_kept(self, pages):
        answer = pages.post("/compare/prefer", data={"a": 1, "b": 2, "product": "tea"})
        assert answer.status_code == 403


class TestChoices:
    """Kept on both databases."""

    @pytest.fixture(params=["sqlite", "postgresql"])
    def database(self, request, tmp_path):
        url = f"sqlite:///{tmp_path / 'fbt.db'}"
        if request.param == "postgresql":
            url = request.getfixturevalue("postgres_server").new_database()
        store = Store(url)
        store.migrate()
        yield store
        store.close()

    def test_each_page_is_one_of_the_case(self, database):
        assert save_choice(database, "tea", LISTS, "2", "ann")
        assert save_choice(database, "cake", LISTS, None, "ann")
        assert save_choice(database, "tea", LISTS, "1", "bob")
        assert get_case(database, CASE).pages == ("tea", "cake")

    def test_a_person_has_one_choice_a_page(self, database):
        save_choice(database, "tea", LISTS, "2", "ann")
        save_choice(database, "tea", LISTS, None, "ann")
        (kept,) = read_preferences(database, get_case(database, CASE).case_id)
        assert kept.preferred == ""

    def test_the_preferred_list_is_the_better_versions(self, database):
        save_choice(database, "tea", LISTS, "2", "ann")
        case_id = get_case(database, CASE).case_id
        (kept,) = read_preferences(database, case_id)
        assert read_lists(database, case_id).products["tea", kept.preferred] == ("sugar",)

    def test_equal_lists_leave_no_choice(self, database):
        assert not save_choice(database, "tea", {"1": ["milk"], "2": ["milk"]}, "1", "ann")


class TestTune:
    def test_settings_show_beside_the_present_answer(self, pages):
        lists = read(pages, "/tune?page=tea&exclude=drinks").partition("<h3>Now")[2]
        now, _, tuned = lists.partition("<h3>Tuned")
        assert "Milk, the good one" in now
        assert "Milk, the good one" not in tuned
        assert "not in the tuned answer" in now

    def test_a_new_page_keeps_the_state_in_the_url(self, pages):
        answer = pages.get("/tune?page=tea&own=2&add=bread", follow_redirects=False)
        assert answer.headers["location"] == "/tune?page=tea&page=bread&own=2"

    def test_a_setting_becomes_a_rule_of_the_person(self, pages, store):
        page = read(pages, "/tune?page=tea&diversity=0.5")
        fields = {"page": "tea", "diversity": "0.5", "scope": "category:drinks", "how": "publish"}
        assert send(pages, page, "/tune/default", **fields).status_code == 303
        (rule,) = store.rules().rules
        assert (rule.action, rule.settings.given) == ("set", {"diversity": 0.5})
        assert rule.when.key == ("category", "drinks")
        assert rule.created_by

    def test_a_setting_can_wait_as_a_draft(self, pages, store):
        page = read(pages, "/tune?page=tea&own=-1")
        send(pages, page, "/tune/default", page="tea", own="-1", how="draft")
        assert all(rule.settings.max_own_kind is None for rule in store.rules().rules)
        (draft,) = list_drafts(store)
        assert '"max_own_kind":-1' in draft.body

    def test_a_wrong_value_is_named(self, pages):
        assert "diversity: found &#39;two&#39;" in read(pages, "/tune?diversity=two", 422)
