"""A case as an editor describes it: where its pages come from, and what is refused."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bento.workbench.errors import BadInput
from bento.workbench.judging.queue import QueuedPage
from bento.workbench.versions import LoadedVersion
from components.judging.sheet import draw_rows

MAX_NAME, MAX_GUIDELINES = 120, 4_000
"""Characters."""
MAX_PAGES = 500
MAX_K = 20
SOURCES: Mapping[str, str] = {
    "queue": "the first of “Worth judging”",
    "drawn": "drawn: a third bestsellers, a third rarely bought",
    "ids": "these product ids",
}


class NewCase(NamedTuple):
    name: str
    guidelines: str
    k: int
    source: str
    n: int
    ids: tuple[str, ...]
    seed: int


def parse_case(form: Mapping[str, str]) -> NewCase:
    """Raises BadInput."""
    name, guidelines = parse_texts(form)
    source = form.get("source", "queue")
    if source not in SOURCES:
        raise BadInput(f"source: found {source!r}, expected one of {', '.join(SOURCES)}")
    ids = _split_ids(_get(form, "ids"))
    if source == "ids" and not 1 <= len(ids) <= MAX_PAGES:
        raise BadInput(
            f"product ids: found {len(ids)}, expected 1 to {MAX_PAGES}, one a line or between "
            "commas"
        )
    return NewCase(
        name, guidelines,
        _parse_number(form, "k", "products a list", 5, 1, MAX_K),
        source,
        _parse_number(form, "n", "pages", 30, 1, MAX_PAGES),
        ids,
        _parse_number(form, "seed", "seed", 0, 0, 2**31 - 1),
    )  # fmt: skip


def parse_texts(form: Mapping[str, str]) -> tuple[str, str]:
    """Name and guidelines. Raises BadInput."""
    name, guidelines = " ".join(_get(form, "name").split()), _get(form, "guidelines").strip()
    if not 1 <= len(name) <= MAX_NAME:
        raise BadInput(f"name: found {len(name)} characters, expected 1 to {MAX_NAME}")
    if len(guidelines) > MAX_GUIDELINES:
        raise BadInput(
            f"guidelines: found {len(guidelines):,} characters, expected at most "
            f"{MAX_GUIDELINES:,}; judges read them while they grade"
        )
    return name, guidelines


def _split_ids(text: str) -> tuple[str, ...]:
    """Ids may hold blanks."""
    parts = (part.strip() for part in re.split(r"[\n\r,;\t]", text))
    return tuple(dict.fromkeys(part for part in parts if part))


def _get(form: Mapping[str, str], name: str) -> str:
    # PostgreSQL takes no NUL, and no database a lone surrogate.
    return form.get(name, "").replace("\0", "").encode("utf-8", "replace").decode()


def _parse_number(
    form: Mapping[str, str], name: str, words: str, default: int, low: int, high: int
) -> int:
    text = form.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdecimal() and low <= int(text[:12]) <= high):
        raise BadInput(f"{words}: found {text[:30]!r}, expected a number from {low} to {high:,}")
    return int(text)


def choose_pages(new: NewCase, version: LoadedVersion, queue: Sequence[QueuedPage]) -> list[str]:
    """Raises BadInput."""
    if new.source == "ids":
        return check_ids(new.ids, version)
    if new.source == "queue":
        return [one.page for one in queue[: new.n]]
    bundle = version.bundle
    rows = np.arange(bundle.manifest.n_items)
    if new.n > len(rows):
        raise BadInput(f"pages: found {new.n}, expected at most {len(rows)}, the model's products")
    rng = np.random.default_rng(new.seed)
    drawn = draw_rows(rows, bundle.n_orders, new.n, rng)
    return [str(bundle.records.card(int(row))["product_id"]) for row in drawn]


def check_ids(ids: Sequence[str], version: LoadedVersion) -> list[str]:
    unknown = [one for one in ids if version.selection.catalogue.row(one) is None]
    if unknown:
        first = ", ".join(repr(one[:40]) for one in unknown[:5])
        raise BadInput(
            f"product ids: {len(unknown)} of {len(ids)} are not in the catalogue, as {first}; "
            "correct them or leave them out"
        )
    return list(ids)
