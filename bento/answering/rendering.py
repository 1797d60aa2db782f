"""Answers as JSON bytes.

Product cards are stored as JSON, so that an answer is joined, not encoded: a tenth of the cost.
"""

from collections.abc import Sequence
from math import isfinite

import pydantic_core

from bento.answering.answer import Answer, AnswerItem
from bento.answering.catalogue import Catalogue
from bento.answering.product_search import SearchHit

NULL = b"null"


class ResponseRenderer:
    """Renders answers as `bento.schemas.responses.RecommendResponse`."""

    def __init__(self, model_version: str, variant: str) -> None:
        self._version = to_json(model_version)
        self._variant = to_json(variant)

    def response(self, answer: Answer, request_id: str, variant: str | None) -> bytes:
        fallback = {"used": answer.source, "reason": answer.reason}
        return b"".join(
            [
                b'{"request_id":',
                to_json(request_id),
                b',"model_version":',
                self._version,
                b',"variant":',
                self._variant if variant is None else to_json(variant),
                b',"items":[',
                *_render_shown(answer),
                b'],"source":"',
                answer.source.encode(),
                b'","fallback":',
                to_json(fallback) if answer.reason else NULL,
                b',"message":',
                to_json(answer.message) if answer.message else NULL,
                b',"unknown":',
                to_json(answer.unknown) if answer.unknown else b"[]",
                b"" if answer.left_out is None else _render_left_out(answer),
                b"}",
            ]
        )


def _render_left_out(answer: Answer) -> bytes:
    left_out = [
        {"product_id": answer.catalogue.product_id(row), "rule_id": rule_id}
        for row, rule_id in answer.left_out or ()
    ]
    return b',"left_out":' + to_json(left_out)


def _render_shown(answer: Answer) -> list[bytes | memoryview]:
    if answer.catalogues is None:
        return _render_items(answer.shown, answer.catalogue, answer.set_by)
    pieces: list[bytes | memoryview] = []
    for item, catalogue in zip(answer.shown, answer.catalogues, strict=True):
        pieces += (b",", *_render_items([item], catalogue, answer.set_by))
    return pieces[1:]


def _render_items(
    items: Sequence[AnswerItem], catalogue: Catalogue, set_by: Sequence[str]
) -> list[bytes | memoryview]:
    pieces: list[bytes | memoryview] = []
    comma = b""
    for item in items:
        row, score, source, _, _, marks, _, _ = item
        number = b"%.7g" % score if score is not None and isfinite(score) else NULL
        # `marks` are there if the answer is explained.
        explanation = b"" if marks is None else _render_explanation(item, set_by)
        pieces += (
            comma,
            catalogue.card_json(row),
            b',"score":%b,"source":"%b"%b}' % (number, source.encode(), explanation),
        )
        comma = b","
    return pieces


def _render_explanation(item: AnswerItem, set_by: Sequence[str]) -> bytes:
    why = {} if item.why is None else {"because_of": item.why._asdict()}
    proposed_by = {"proposed_by": item.proposed_by} if item.proposed_by else {}
    parts = {} if item.score_parts is None else {"score_parts": dict(item.score_parts)}
    rules = {"moved_by": [*item.moved_by, *set_by]}
    return b"," + to_json({**why, **proposed_by, "marks": item.marks, **rules, **parts})[1:-1]


def render_search(hits: Sequence[SearchHit], catalogue: Catalogue) -> bytes:
    """A `bento.schemas.responses.SearchResponse`."""
    cards = (
        b'%b,"match":"%b"}' % (bytes(catalogue.card_json(row)), match.encode())
        for row, match in hits
    )
    return b'{"items":[' + b",".join(cards) + b"]}"


def render_product(row: int, orders: int | None, catalogue: Catalogue) -> bytes:
    """A `bento.schemas.responses.Product`; without `orders` the model does not know it."""
    known = to_json({"known_to_model": orders is not None, "orders": orders})
    return bytes(catalogue.card_json(row)) + b"," + known[1:]


def to_json(content: object) -> bytes:
    encoded: bytes = pydantic_core.to_json(content)
    return encoded
