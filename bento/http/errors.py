"""Refusals, answered as problem JSON (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import pydantic_core
from starlette.responses import Response

from bento.schemas.problems import FieldError, Problem

PROBLEM_JSON = "application/problem+json"


class HttpError(Exception):
    """The request is answered with a problem of this status."""

    def __init__(
        self,
        status: int,
        *errors: FieldError,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        title = HTTPStatus(status).phrase
        super().__init__(title)
        texts = (f"{one.field}: found {one.found}, expected {one.expected}" for one in errors)
        detail = detail or "; ".join(texts)
        self.problem = Problem(title=title, status=status, detail=detail, errors=list(errors))
        self.headers = dict(headers or {})

    def to_response(self) -> Response:
        return Response(to_json(self.problem), self.problem.status, self.headers, PROBLEM_JSON)


class Overloaded(HttpError):
    """Refused, unread, for lack of time or of connections."""

    def __init__(self) -> None:
        detail = "The service is overloaded; try again after the seconds in Retry-After"
        super().__init__(503, detail=detail, headers={"retry-after": "1"})


def to_json(content: Any) -> bytes:
    """Compact UTF-8; NaN and infinity become null."""
    encoded: bytes = pydantic_core.to_json(content, inf_nan_mode="null")
    return encoded


def body_size_error(found: str, limit: int) -> HttpError:
    error = FieldError(field="body", found=f"{found} bytes", expected=f"at most {limit} bytes")
    return HttpError(413, error)
