"""A sheet as one HTML page that works offline, or as text."""

import json
import re
from pathlib import Path

from components.judging.sheet import GRADES, QUESTION, Card, Sheet

TEMPLATE = Path(__file__).with_name("page.html")
PLACEHOLDER = "{{ content }}"


def render_page(sheet: Sheet) -> str:
    """Keeps the grades in the browser and saves them as the JSON file of `read.Grades`."""
    content = json.dumps({"sheet": sheet.model_dump(), "question": QUESTION, "meanings": GRADES})
    # No text of the shop may end the script element.
    return TEMPLATE.read_text().replace(PLACEHOLDER, content.replace("<", "\\u003c"))


def read_page(path: Path) -> Sheet:
    """The sheet of a page that `render_page` made. Raises ValueError."""
    try:
        found = re.search(r'id="content">(.*?)</script>', path.read_text(encoding="utf-8"), re.S)
        return Sheet.model_validate(json.loads(found[1])["sheet"] if found else None)
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"judge: {path} is no sheet, expected the page.html that was written with the key"
        ) from None


def render_text(sheet: Sheet) -> str:
    """For a judge at a terminal; it ends with the JSON to fill in."""
    meanings = [f"  {grade}  {meaning}" for grade, meaning in GRADES.items()]
    lines = [QUESTION, *meanings]
    n = len(sheet.questions)
    for number, question in enumerate(sheet.questions, 1):
        lines += ["", f"{number}/{n}  {_describe(question.product)}"]
        for one in question.lists:
            lines.append(f"  {one.label}")
            lines += [f"    {rank}. {_describe(card)}" for rank, card in enumerate(one.products, 1)]
    return "\n".join([*lines, "", "Grades file:", _build_form(sheet), ""])


def _describe(card: Card) -> str:
    category = f" · {card.category}" if card.category else ""
    return f"{card.name or card.product_id}{category}"


def _build_form(sheet: Sheet) -> str:
    places = [
        json.dumps({"product_id": one.product.product_id, "label": shown.label, "grade": None})
        for one in sheet.questions
        for shown in one.lists
    ]
    head = json.dumps({"sheet_id": sheet.sheet_id, "seed": sheet.seed, "judge": ""})
    return f'{head[:-1]}, "grades": [\n' + ",\n".join(places) + "\n]}"
