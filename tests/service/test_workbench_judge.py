"""Judging in the workbench: its tables on both databases, its pages beside a real registry."""

import contextlib
import csv
import io
import json
import re
import threading
import time
import uuid
import zipfile
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn
from mlflow import MlflowClient
from starlette.middleware import Middleware

from bento.store.judgements import (
    CaseChanged,
    CaseTaken,
    CaseUnknown,
    Judgement,
    ListUnknown,
    Preference,
    add_case,
    change_case,
    count_judgements,
    delete_case,
    get_case,
    list_cases,
    read_judgements,
    read_lists,
    read_preferences,
    remove_judgement,
    remove_preference,
    save_judgements,
    save_lists,
    save_preference,
)
from bento.store.store import Store
from bento.workbench.access.identify import Identify
from bento.workbench.access.person import Person, Role
from bento.workbench.app import build_app
from bento.workbench.server import build_workbench
from bento.workbench.settings import WorkbenchSettings
from components.judging.graded import look_up_grades
from components.judging.read import read_grades, read_key
from components.package.server import find_free_port
from components.registry import registry
from components.registry.registry import get_champion_reference, get_version, register
from pipelines.cli import main
from tests.factories import CATEGORIES, PAIRS, make_bundle

OTHER_PAIRS = (("tea", "sugar"), ("coffee", "milk"), *PAIRS[2:])
"""Other companions than in PAIRS for tea, milk, coffee and sugar."""
MODEL = "fbt-judge"
EVIL = "<script>alert(1)</script> & 'x'; drop table fbt_judgements"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fbt.db"
    return request.getfixturevalue("postgres_server").new_database()


@pytest.fixture
def store(url):
    with contextlib.closing(Store(url)) as made:
        made.migrate()
        yield made


def judgement(page, content, judge, grade=None, state="graded", reason=None):
    return Judgement(page, content, judge, state, grade, reason, datetime.now(UTC))


LISTS = {"tea": ("c1", ("milk", "sugar")), "b/\u200e☕": ("c2", ("مرحبا",))}


@pytest.fixture
def case(store):
    made = add_case(store, "first", "be strict", 5, list(LISTS), "ann")
    save_lists(store, made.case_id, "1", LISTS)
    save_lists(store, made.case_id, "2", {**LISTS, "tea": ("c3", ("sugar", "milk"))})
    return made


# The tables


def test_a_case_is_found_by_id_and_by_name(store, case):
    assert get_case(store, case.case_id) == get_case(store, "first") == case
    assert [one.name for one in list_cases(store)] == ["first"]
    with pytest.raises(CaseUnknown, match="there are: first"):
        get_case(store, "second")


def test_names_are_given_once_and_the_later_of_two_editors_is_told(store, case):
    with pytest.raises(CaseTaken, match="choose another name"):
        add_case(store, "first", "", 5, ["tea"], "ben")
    change_case(store, case, EVIL, "new words")
    assert get_case(store, case.case_id).name == EVIL
    with pytest.raises(CaseChanged, match="somebody else"):
        change_case(store, case, "third", "")


def test_equal_lists_of_two_versions_are_one_list(store, case):
    lists = read_lists(store, case.case_id)
    page = "b/\u200e☕"
    assert lists.shown["1"][page] == lists.shown["2"][page] == "c2"
    assert lists.products == {
        ("tea", "c1"): ("milk", "sugar"),
        ("tea", "c3"): ("sugar", "milk"),
        (page, "c2"): ("مرحبا",),
    }


def test_a_version_that_ranks_anew_shows_its_new_list(store, case):
    save_lists(store, case.case_id, "2", LISTS)
    assert read_lists(store, case.case_id).shown["2"]["tea"] == "c1"


def test_a_judge_has_one_judgement_a_list_and_may_take_it_back(store, case):
    for grade in (3, 1):
        save_judgements(store, case.case_id, [judgement("tea", "c1", "ann", grade)])
    save_judgements(store, case.case_id, [judgement("tea", "c1", "ben", state="later")])
    save_judgements(store, case.case_id, [judgement("tea", "c3", "ben", state="unrateable")])
    assert [(one.judge, one.grade) for one in read_judgements(store, case.case_id)] == [
        ("ann", 1), ("ben", None), ("ben", None),
    ]  # fmt: skip
    assert len(read_judgements(store, case.case_id, "ben")) == 2
    assert count_judgements(store) == {case.case_id: {"ann": 1, "ben": 1}}
    remove_judgement(store, case.case_id, "tea", "c1", "ann")
    assert [one.judge for one in read_judgements(store, case.case_id)] == ["ben", "ben"]


def test_a_list_that_nobody_shows_cannot_be_judged(store, case):
    with pytest.raises(ListUnknown, match="no list 'c9' on page 'tea'"):
        save_judgements(store, case.case_id, [judgement("tea", "c9", "ann", 3)])
    with pytest.raises(ListUnknown):
        save_preference(store, case.case_id, preference("c1", "c9", ""))
    assert read_judgements(store, case.case_id) == []


def preference(first, second, preferred):
    return Preference("tea", first, second, "ann", preferred, datetime.now(UTC))


def test_a_preference_is_replaced_and_taken_back(store, case):
    for preferred in ("c1", ""):
        save_preference(store, case.case_id, preference("c1", "c3", preferred))
    assert [one.preferred for one in read_preferences(store, case.case_id, "ann")] == [""]
    remove_preference(store, case.case_id, "tea", "c1", "c3", "ann")
    assert read_preferences(store, case.case_id) == []


def test_a_deleted_case_leaves_nothing(store, case):
    save_judgements(store, case.case_id, [judgement("tea", "c1", "ann", 3)])
    delete_case(store, case.case_id)
    assert list_cases(store) == []
    assert read_judgements(store, case.case_id) == []
    assert read_lists(store, case.case_id) == ({}, {})


# The pages


def register_two(folder):
    """Version 1 is champion; version 2 answers the first four products otherwise."""
    for number, pairs in enumerate((PAIRS, OTHER_PAIRS), 1):
        cold = {EVIL: None, "x, y": None}
        bundle = make_bundle(folder / f"v{number}" / "bundle", pairs, CATEGORIES, cold)
        register({"bundle": bundle}, {}, {}, {registry.VERDICT_TAG: "passed"})
    MlflowClient().set_registered_model_alias(registry.MODEL, "champion", "1")


@pytest.fixture(scope="module")
def bundles(mlflow_url, tmp_path_factory):
    """Registered, in a model of this module's own."""
    folder = tmp_path_factory.mktemp("judge")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", mlflow_url)
        environment.setattr("components.registry.registry.MODEL", MODEL)
        register_two(folder)
    return folder


@pytest.fixture
def versions(bundles, mlflow_url, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    monkeypatch.setattr("components.registry.registry.MODEL", MODEL)
    return bundles


class As:
    """Everybody is this person."""

    def __init__(self, app, person):
        self._app, self._person = app, person

    async def __call__(self, scope, receive, send):
        scope.setdefault("state", {})["person"] = self._person
        await self._app(scope, receive, send)


@pytest.fixture
def visit(versions, tmp_path):
    """Pages of a workbench on the test's database, for a person."""
    with contextlib.ExitStack() as stack:

        def open_pages(name="ann", role=Role.editor, cache=versions / "cache"):
            settings = WorkbenchSettings(
                database_url=f"sqlite:///{tmp_path}/fbt.db", service_url="http://127.0.0.1:9",
                workbench_cache=cache,
            )  # fmt: skip
            app = build_app(build_workbench(settings, tmp_path))
            app.user_middleware = [
                Middleware(As, person=Person(name, role)) if one.cls is Identify else one
                for one in app.user_middleware
            ]
            return stack.enter_context(Visitor(app, stack.enter_context(serve(app))))

        yield open_pages


@contextlib.contextmanager
def serve(app):
    """Its URL; in this process, so that it sees the test's model."""
    port = find_free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


class Visitor(httpx.Client):
    def __init__(self, app, url):
        super().__init__(base_url=url, follow_redirects=True, timeout=30)
        self.app = app

    def request(self, *arguments, **more):
        """Again, while a version is being fetched."""
        response = super().request(*arguments, **more)
        while "is being fetched" in response.text:
            time.sleep(0.1)
            response = super().request("GET", response.url)
        return response

    def read(self, path, status=200):
        response = self.get(path)
        assert response.status_code == status, response.text
        return response.text

    def submit(self, path, status=200, headers=None, **fields):
        token = re.search(r'name="csrf" content="([^"]*)"', self.read("/judge"))
        response = self.post(path, data={"csrf": token[1], **fields}, headers=headers)
        assert response.status_code == status, response.text
        return response

    def make_case(self, ids="tea\nbread", **fields):
        given = {"name": "first", "guidelines": "be strict", "source": "ids", "ids": ids, "k": 1}
        return str(self.submit("/judge/new", **given | fields).url).split("/")[-1]

    def grade_all(self, case, grades):
        """By the first product of a list. Pages are opened by number, until there are no more."""
        number = 1
        while (page := self.get(f"/judge/{case}?page={number}")).status_code == 200:
            for one in find_lists(page.text):
                self.submit(f"/judge/{case}/grade", **one, grade=grades[one["page"], names(one)])
            number += 1


def find_lists(page):
    """The hidden fields of each list's form, with the products' names."""
    found = []
    for part in page.split('<section class="list')[1:]:
        fields = dict(re.findall(r'name="(page|content|number)" value="([^"]*)"', part))
        found.append({**fields, "shown": "|".join(re.findall(r'class="name">([^<,]*)', part))})
    return found


def names(one):
    return one.pop("shown").lower()


TEA = {("tea", "milk"): "3", ("tea", "sugar"): "1", ("bread", "butter"): "2"}


def test_a_judge_is_shown_distinct_lists_and_no_version(visit):
    pages = visit()
    case = pages.make_case(guidelines=EVIL)
    shown = pages.read(f"/judge/{case}?versions=1,2&page=1")
    assert {names(one) for one in find_lists(shown)} == {"milk", "sugar"}
    assert {names(one) for one in find_lists(pages.read(f"/judge/{case}?page=2"))} == {"butter"}
    source = shown.replace(case, "")
    assert not re.search(r"version\s*\d|champion|challenger|versions=", source, re.IGNORECASE)
    assert "<script>alert" not in shown


def test_the_order_of_lists_differs_among_judges_and_is_the_same_on_reload(visit):
    ann = visit()
    case = ann.make_case("tea")
    orders = set()
    for number in range(12):
        pages = visit(f"judge {number}", Role.viewer)
        first = [names(one) for one in find_lists(pages.read(f"/judge/{case}"))]
        assert first == [names(one) for one in find_lists(pages.read(f"/judge/{case}"))]
        orders.add(tuple(first))
    assert len(orders) == 2


def test_grades_of_two_judges_become_results_with_agreement(visit):
    ann, ben = visit(), visit("ben", Role.viewer)
    case = ann.make_case()
    ann.grade_all(case, TEA)
    assert "3 lists" in ann.read("/judge")
    assert "left to judge" in (ben.read(f"/judge/{case}"), ben.read(f"/judge/{case}/results"))[1]
    ben.grade_all(case, {**TEA, ("tea", "milk"): "0"})
    results = re.sub(r"<[^>]*>|\s+", " ", ben.read(f"/judge/{case}/results"))
    results = re.sub(r"\s+", " ", results)
    assert "version 1 2 1.75" in results  # (3 + 0 + 2 + 2) / 4
    assert "version 2 2 1.50" in results
    assert "alpha" in results
    assert "Most disputed Tea" in results


def test_a_viewer_judges_but_makes_no_case(visit):
    visit().make_case()
    ben = visit("ben", Role.viewer)
    assert "New case" not in ben.read("/judge")
    ben.read("/judge/new", 403)
    ben.submit("/judge/new", 403, name="mine", source="ids", ids="tea")


def test_a_new_version_with_the_same_list_is_graded_already(visit):
    pages = visit()
    case = pages.make_case()
    pages.read(f"/judge/{case}?versions=1")
    pages.grade_all(case, TEA)
    shown = pages.read(f"/judge/{case}?versions=2")
    assert "1 of 2 lists" in re.sub(r"<[^>]*>", "", shown).replace("\n", " ")
    assert {names(one) for one in find_lists(shown)} == {"sugar"}


def test_a_grade_is_taken_back_and_put_off_and_gets_a_reason(visit):
    pages = visit()
    case = pages.make_case("bread")
    (one,) = find_lists(pages.read(f"/judge/{case}"))
    names(one)
    path, script = f"/judge/{case}/grade", {"x-csrf-token": ""}
    pages.submit(path, 403, script, **one, grade="3")
    pages.submit(path, **one, grade="0", reason="bestseller")
    assert 'value="bestseller" selected' in pages.read(f"/judge/{case}")
    pages.submit(path, **one, grade="later")
    assert 'data-state="later"' in pages.read(f"/judge/{case}")
    pages.submit(path, **one, grade="none")
    assert 'data-state="none"' in pages.read(f"/judge/{case}")
    for wrong in ({"grade": "4"}, {"grade": ""}, {"grade": "3", "reason": "ugly"}):
        pages.submit(path, 422, **one | wrong)
    pages.submit(path, 422, **one | {"content": "other"}, grade="3")


def test_one_of_two_lists_is_preferred(visit):
    pages = visit()
    case = pages.make_case()
    shown = pages.read(f"/judge/{case}?mode=ab")
    fields = dict(re.findall(r'name="(page|first|second)" value="([^"]*)"', shown))
    found = r'class="name">([^<,]*).*?name="preferred" value="(\w+)"'
    parts = shown.split('<section class="list')[1:]
    lists = dict(re.search(found, one, re.DOTALL).groups() for one in parts)
    pages.submit(f"/judge/{case}/prefer", **fields, preferred=lists["Sugar"])
    assert "You have judged all pages" in pages.read(f"/judge/{case}?mode=ab")
    results = pages.read(f"/judge/{case}/results?reveal=1")
    assert "version 2 was preferred to version 1 in 100" in results
    pages.submit(f"/judge/{case}/prefer", 422, **fields, preferred="neither")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": " "}, "name: found 0 characters"),
        ({"name": "x" * 121}, "name: found 121 characters"),
        ({"guidelines": "x" * 10_000}, "guidelines: found 10,000 characters"),
        ({"ids": ""}, "product ids: found 0"),
        ({"ids": "tea\nnothing"}, "1 of 2 are not in the catalogue, as"),
        ({"k": "0"}, "a number from 1 to 20"),
        ({"source": "drawn", "n": "9"}, "pages: found 9, expected at most 8"),
        ({"source": "elsewhere"}, "source: found"),
    ],
)
def test_a_case_that_cannot_be_is_explained_and_nothing_typed_is_lost(visit, fields, message):
    pages = visit()
    given = {"name": "mine", "guidelines": "my words", "source": "ids", "ids": "tea", **fields}
    answer = pages.submit("/judge/new", 422, **given)
    assert message in answer.text.replace("&#39;", "'")
    assert "my words" in answer.text or "guidelines" in fields
    assert "There is none yet" in pages.read("/judge")


def test_names_with_html_and_sql_are_names(visit):
    pages = visit()
    case = pages.make_case("", name=EVIL, source="queue")
    for path in ("/judge", f"/judge/{case}", f"/judge/{case}/results?reveal=1"):
        assert "<script>alert" not in pages.read(path)
        assert "&lt;script&gt;alert(1)" in pages.read(path)
    pages.submit("/judge/new", 422, name=EVIL, source="ids", ids="tea")


def test_a_case_may_have_one_product(visit):
    pages = visit()
    case = pages.make_case("bread")
    pages.grade_all(case, TEA)
    assert "version 1" in pages.read(f"/judge/{case}/results")


def test_the_queue_puts_changed_pages_first_and_says_why(visit):
    pages = visit()
    for _ in range(50):
        if "data-retry" not in (queue := pages.read("/judge/queue?k=1")):
            break
    rows = queue.split("<li>")[1:]
    assert ["1 of 1 products differ" in row for row in rows] == [True] * 4 + [False] * 4
    assert "80 orders" in rows[0]
    case = pages.make_case("", source="queue", n=4)
    assert "of 8 lists" in re.sub(r"<[^>]*>", "", pages.read(f"/judge/{case}"))


def test_a_damaged_version_is_left_out(visit, monkeypatch, tmp_path):
    monkeypatch.setattr("components.registry.registry.MODEL", f"fbt-judge-{uuid.uuid4().hex}")
    register_two(tmp_path)
    run_id = get_version("2").run_id
    MlflowClient().log_text(run_id, "damaged", "bundle/bundle.json")
    pages = visit(cache=tmp_path / "cache")
    shown = pages.read(f"/judge/{pages.make_case()}?versions=1,2")
    assert "A version cannot be opened" in shown
    assert {names(one) for one in find_lists(shown)} == {"milk"}


def test_a_grade_is_refused_while_the_database_is_gone_and_saved_once_it_is_back(visit, tmp_path):
    pages = visit()
    case = pages.make_case("bread")
    (one,) = find_lists(pages.read(f"/judge/{case}"))
    names(one)
    token = re.search(r'name="csrf" content="([^"]*)"', pages.read("/judge"))[1]
    send = {"url": f"/judge/{case}/grade", "data": {**one, "grade": "2"}}
    send["headers"] = {"x-csrf-token": token}
    store = pages.app.state.workbench.database.store
    file, aside = tmp_path / "fbt.db", tmp_path / "aside"
    store.close()
    file.rename(aside)
    file.mkdir()
    assert pages.post(**send).status_code == 503
    assert "database" in pages.read(f"/judge/{case}", 503)
    file.rmdir()
    aside.rename(file)
    assert pages.post(**send).json() == {"saved": True}
    assert 'data-state="2"' in pages.read(f"/judge/{case}")


def test_without_a_version_the_page_says_how_to_get_one(visit, monkeypatch):
    pages = visit()
    case = pages.make_case()
    monkeypatch.setattr("components.registry.registry.MODEL", "fbt-judge-none")
    other = visit("ben")
    assert "No version is registered yet" in other.read(f"/judge/{case}", 404)
    other.read("/judge")


# Files, the registry, the command


def test_the_export_has_every_judgement(visit):
    pages = visit()
    case = pages.make_case()
    pages.grade_all(case, TEA)
    content = json.loads(pages.read(f"/judge/{case}/export/json"))
    graded = {(one["page"], tuple(one["products"])): one["grade"] for one in content["judgements"]}
    assert graded == {("tea", ("milk",)): 3, ("tea", ("sugar",)): 1, ("bread", ("butter",)): 2}
    rows = list(csv.DictReader(io.StringIO(pages.read(f"/judge/{case}/export/csv"))))
    assert {(one["products"], one["systems"]) for one in rows} == {
        ("milk", "1"), ("sugar", "2"), ("butter", "1 2"),
    }  # fmt: skip
    pages.read(f"/judge/{case}/export/exe", 404)


@pytest.fixture
def judge(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FBT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FBT_DATABASE_URL", f"sqlite:///{tmp_path}/fbt.db")

    def run(*arguments):
        with contextlib.suppress(SystemExit):
            main(["judge", *map(str, arguments)])
        return capsys.readouterr()

    return run


def test_the_command_and_the_pages_read_each_others_grades(visit, judge, tmp_path):
    pages = visit()
    case = pages.make_case()
    pages.grade_all(case, TEA)
    archive = zipfile.ZipFile(io.BytesIO(pages.get(f"/judge/{case}/export/zip").content))
    archive.extractall(tmp_path / "files")
    grades = read_grades(tmp_path / "files" / "grades-1.json")
    assert grades.judge == "ann"
    read = judge("--read", tmp_path / "files" / "grades-1.json").out
    assert re.search(r"^1 +2\.50", read, re.M)
    by_case = judge("--case", "first").out
    assert by_case == read

    other = grades.model_copy(update={"judge": "ben"})
    (tmp_path / "files" / "ben.json").write_text(other.model_dump_json())
    both = judge("--case", "first", "--read", tmp_path / "files" / "ben.json")
    assert "alpha 1.00" in both.out
    assert "ben" in pages.read("/judge")
    assert "alpha 1.00" in judge("--case", "copy", "--read", tmp_path / "files" / "ben.json",
                                 tmp_path / "files" / "grades-1.json").out  # fmt: skip
    assert "copy" in pages.read("/judge")


def test_the_command_writes_a_case_as_files(visit, judge, tmp_path):
    pages = visit()
    pages.grade_all(pages.make_case(), TEA)
    judge("--case", "first", "--to", tmp_path / "out")
    assert read_key(tmp_path / "out" / "key.json").systems == ("1", "2")
    assert "case 'second' does not exist" in judge("--case", "second").err


def test_what_is_recorded_reaches_the_next_run(visit, judge, tmp_path, versions):
    pages = visit()
    case = pages.make_case("tea\nmilk\nbread\nbutter")
    grades = {**TEA, ("milk", "tea"): "3", ("milk", "coffee"): "0", ("butter", "bread"): "2"}
    pages.grade_all(case, grades)
    assert "−1.25" in pages.read(f"/judge/{case}/results")
    assert "Recorded with versions 1, 2" in pages.submit(f"/judge/{case}/record").text
    tags = get_version("1").tags
    assert tags["fbt.judged_grade"].startswith("2.50 (")
    assert (tags["fbt.judged_pages"], tags["fbt.judged_judges"]) == ("4", "1")
    assert tags["fbt.judged_case"] == "first"
    reference = get_champion_reference()
    assert reference.endswith(tags[registry.JUDGED_AT_TAG])
    registry.fetch_champion(reference, tmp_path / "champion")
    found = look_up_grades(versions / "v2" / "bundle", tmp_path / "champion")
    assert (found["champion"]["mean"], found["model"]["mean"]) == (2.5, 1.25)
    assert found["difference"]["mean"] == -1.25
    assert (found["model"]["n_pages"], found["n_pages"]) == (4, 4)
    assert "recorded with 1, 2" in judge("--case", "first", "--record").out
