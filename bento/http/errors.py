"""Refusals, answered as problem JSON (RFC 9457)."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import pydantic_core
from starlette.responses import Response

from bento.schemas import FieldError, Problem

PROBLEM_JSON = "application/problem+json"


class HttpError(Exception):
    """The request is answered with a problem of this status."""

    def __init__(
        self,
        status: HTTPStatus,
        errors: list[FieldError],
        detail: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status.phrase)
        texts = (f"{one.field}: found {one.found}, expected {one.expected}" for one in errors)
        self.problem = Problem(
            title=status.phrase, status=status, detail=detail or "; ".join(texts), errors=errors
        )
        self.headers = dict(headers or {})

    def to_response(self) -> Response:
        problem = self.problem
        return Response(to_json(problem), problem.status, self.headers, PROBLEM_JSON)


class Overloaded(HttpError):
    """The request is refused for lack of time or of connections, before it is looked at."""


def to_json(content: Any) -> bytes:
    """Compact UTF-8; NaN and infinity become null."""
    encoded: bytes = pydantic_core.to_json(content, inf_nan_mode="null")
    return encoded


def body_size_error(found: str, limit: int) -> HttpError:
    error = FieldError(field="body", found=f"{found} bytes", expected=f"at most {limit} bytes")
    return HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, [error])


def method_error(method: str, allowed: Iterable[str]) -> HttpError:
    allow = ", ".join(sorted(allowed))
    error = FieldError(field="method", found=method, expected=f"one of {allow}")
    return HttpError(HTTPStatus.METHOD_NOT_ALLOWED, [error], headers={"allow": allow})


def path_error() -> HttpError:
    return HttpError(HTTPStatus.NOT_FOUND, [], "No such path; GET /docs.json lists all paths")


def internal_error(request_id: str) -> HttpError:
    detail = f"The service failed; its log has the reason under request id {request_id}"
    return HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, [], detail)


def handler_timeout(seconds: float) -> HttpError:
    return HttpError(HTTPStatus.GATEWAY_TIMEOUT, [], f"No answer within {seconds:g} s")


def overload_error() -> Overloaded:
    detail = "The service is overloaded; try again after the seconds in Retry-After"
    return Overloaded(HTTPStatus.SERVICE_UNAVAILABLE, [], detail, {"retry-after": "1"})


def request_timeout(seconds: float) -> HttpError:
    detail = f"The request was not complete within {seconds:g} s"
    return HttpError(HTTPStatus.REQUEST_TIMEOUT, [], detail)
