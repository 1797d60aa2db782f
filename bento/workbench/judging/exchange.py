"""A case as files: JSON and CSV, and the sheet, key and grades of `fbt judge`, which read back."""

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bento.store.judgements import (
    Case,
    CaseUnknown,
    Judgement,
    add_case,
    get_case,
    save_judgements,
    save_lists,
)
from bento.store.store import Store
from bento.workbench.judging.results import CaseFiles, make_grades, make_key
from components.judging.lists import hash_list
from components.judging.page import render_page
from components.judging.read import Grades
from components.judging.sheet import Card, Key, Sheet, label_lists

FIELDS = (
    "page",
    "content",
    "systems",
    "products",
    "judge",
    "state",
    "grade",
    "reason",
    "judged_at",
)

Cards = Mapping[str, Mapping[str, Any]]


def to_rows(files: CaseFiles) -> list[dict[str, Any]]:
    """A row for each judgement, with the list's products and the systems that show it."""
    return [
        {
            **one._asdict(),
            "judged_at": one.judged_at.isoformat(timespec="seconds"),
            "products": list(files.lists.products.get((one.page, one.content), ())),
            "systems": [
                system for system in files.systems
                if files.lists.shown[system].get(one.page) == one.content
            ],
        }
        for one in files.judgements
    ]  # fmt: skip


def to_json(files: CaseFiles) -> dict[str, Any]:
    case = files.case
    return {
        "case_id": case.case_id,
        "name": case.name,
        "guidelines": case.guidelines,
        "k": case.k,
        "pages": list(case.pages),
        "lists": [
            {"page": page, "content": content, "products": list(products)}
            for (page, content), products in files.lists.products.items()
        ],
        "shown": files.lists.shown,
        "judgements": to_rows(files),
        "preferences": [
            one._asdict() | {"judged_at": one.judged_at.isoformat(timespec="seconds")}
            for one in files.preferences
        ],
    }


def to_csv(files: CaseFiles) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS)
    writer.writeheader()
    for row in to_rows(files):
        texts = {name: _join(row[name]) for name in FIELDS}
        writer.writerow({name: _disarm(text) for name, text in texts.items()})
    return out.getvalue()


def _join(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _disarm(text: str) -> str:
    """A spreadsheet takes a text that starts like this for a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text


def make_sheet(files: CaseFiles, systems: Sequence[str], cards: Cards) -> tuple[Sheet, Key]:
    """As `fbt judge` draws them, of the case's pages; `cards` are by product id."""
    key = make_key(files, systems)
    lists = {
        page: {
            one: files.lists.products[page, content]
            for one, content in labels.items()
        }
        for page, labels in key.labels.items()
    }  # fmt: skip
    return label_lists(lists, systems, lambda one: cards.get(one, {}), key.seed, files.case.k)


def make_files(files: CaseFiles, systems: Sequence[str], cards: Cards) -> dict[str, str]:
    """page.html, key.json and a file of grades for each judge, by name."""
    sheet, key = make_sheet(files, systems, cards)
    made = {
        "page.html": render_page(sheet),
        "sheet.json": sheet.model_dump_json(indent=1),
        "key.json": key.model_dump_json(indent=1),
    }
    contents = make_key(files, systems)
    label_of = {
        (page, content): key.labels[page][system]
        for page, labels in contents.labels.items()
        for system, content in labels.items()
    }
    for number, grades in enumerate(make_grades(files, contents), 1):
        relabelled = [
            one.model_copy(update={"label": label_of[one.product_id, one.label]})
            for one in grades.grades
        ]
        saved = Grades(
            sheet_id=key.sheet_id, seed=key.seed, judge=grades.judge, grades=tuple(relabelled)
        )
        made[f"grades-{number}.json"] = saved.model_dump_json(indent=1)
    return made


def to_zip(texts: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text.encode("utf-8", "replace"))
    return out.getvalue()


def import_grades(
    store: Store, name: str, sheet: Sheet, key: Key, grades: Sequence[Grades], by: str
) -> Case:
    """Into the case of this name, which is made if there is none. Raises ValueError."""
    case = _find_case(store, name, sheet, by)
    products = {
        (question.product.product_id, one.label): tuple(card.product_id for card in one.products)
        for question in sheet.questions
        for one in question.lists
    }
    pages = set(case.pages)
    for system in key.systems:
        shown = {
            page: products[page, labels[system]]
            for page, labels in key.labels.items()
            if page in pages
        }
        lists = {page: (hash_list(ids), ids) for page, ids in shown.items()}
        save_lists(store, case.case_id, system, lists)
    now = datetime.now(UTC)
    judgements = [
        Judgement(
            one.product_id, hash_list(products[one.product_id, one.label]), given.judge, "graded",
            one.grade, None, now,
        )
        for given in grades
        for one in given.grades
        if one.grade is not None and one.product_id in pages
    ]  # fmt: skip
    save_judgements(store, case.case_id, judgements)
    return case


def _find_case(store: Store, name: str, sheet: Sheet, by: str) -> Case:
    pages = [one.product.product_id for one in sheet.questions]
    try:
        case = get_case(store, name)
    except CaseUnknown:
        return add_case(store, name, "", sheet.k, pages, by)
    if case.k != sheet.k or not set(case.pages) & set(pages):
        raise ValueError(
            f"judge: case {case.name!r} has {len(case.pages)} pages with {case.k} products a list, "
            f"the sheet {len(pages)} with {sheet.k}, and {len(set(case.pages) & set(pages))} in "
            "common; import it into a case of another name"
        )
    return case


def collect_cards(sheet: Sheet) -> dict[str, Card]:
    """By product id."""
    cards = {one.product.product_id: one.product for one in sheet.questions}
    for question in sheet.questions:
        for shown in question.lists:
            cards |= {card.product_id: card for card in shown.products}
    return cards
