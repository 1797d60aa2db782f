"""Answers as the bytes that are sent.

Cards lie ready as JSON, so that an answer is put together, not encoded: a tenth of the cost.
"""

from collections.abc import Sequence
from math import isfinite

import pydantic_core

from bento.answering.catalogue import Catalogue
from bento.answering.product_search import SearchHit
from bento.answering.selection import Answer, AnswerItem

NULL = b"null"


class ResponseRenderer:
    """Turns answers into JSON as `bento.schemas.RecommendResponse` describes it."""

    def __init__(self, model_version: str, variant: str) -> None:
        self._version = as_json(model_version)
        self._variant = as_json(variant)

    def response(self, answer: Answer, request_id: str, variant: str | None) -> bytes:
        """The whole body; `variant` is the request's."""
        return b"".join(
            [
                b'{"request_id":',
                as_json(request_id),
                b',"model_version":',
                self._version,
                b',"variant":',
                self._variant if variant is None else as_json(variant),
                b',"items":[',
                *products(answer.shown, answer.catalogue),
                b'],"source":"',
                answer.source.encode(),
                b'","fallback":',
                fallback(answer) if answer.reason else NULL,
                b',"message":',
                as_json(answer.message) if answer.message else NULL,
                b',"unknown":',
                as_json(answer.unknown) if answer.unknown else b"[]",
                b"}",
            ]
        )


def products(shown: Sequence[AnswerItem], catalogue: Catalogue) -> list[bytes | memoryview]:
    """Pieces of the list: cards with their scores and, where asked for, their reasons."""
    pieces: list[bytes | memoryview] = []
    comma = b""
    for row, score, source, why, part in shown:
        number = b"%.7g" % score if score is not None and isfinite(score) else NULL
        because = b"" if why is None else b',"because_of":' + as_json(why._asdict())
        if part:
            because += b',"proposed_by":"%b"' % part.encode()
        pieces += (
            comma,
            catalogue.shown(row),
            b',"score":%b,"source":"%b"%b}' % (number, source.encode(), because),
        )
        comma = b","
    return pieces


def found(products: Sequence[SearchHit], catalogue: Catalogue) -> bytes:
    """What search found, as `bento.schemas.SearchResponse` describes it."""
    cards = (
        b'%b,"match":"%b"}' % (bytes(catalogue.shown(row)), by.encode()) for row, by in products
    )
    return b'{"items":[' + b",".join(cards) + b"]}"


def render_product(row: int, orders: int | None, catalogue: Catalogue) -> bytes:
    """One product, as `bento.schemas.Product` describes it; `orders` where the model knows it."""
    known = as_json({"known_to_model": orders is not None, "orders": orders})
    return bytes(catalogue.shown(row)) + b"," + known[1:]


def fallback(answer: Answer) -> bytes:
    """Which one answered, and why."""
    return as_json({"used": answer.source, "reason": answer.reason})


def as_json(content: object) -> bytes:
    """Compact UTF-8."""
    encoded: bytes = pydantic_core.to_json(content)
    return encoded
