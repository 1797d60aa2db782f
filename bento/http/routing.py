"""Declarations of routes, from which requests are dispatched and the OpenAPI document is built."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

API, INFRASTRUCTURE = "Service APIs", "Infrastructure"
"""OpenAPI tags, as BentoML names them."""

MAX_BODY_BYTES = 256 * 1024
"""A full cart of the longest ids, escaped, has 150 kB."""

Handler = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Route:
    method: str
    pattern: str
    """In Starlette's syntax, such as `/products/{product_id:path}`."""
    handler: Handler
    """From the service and a `RequestContext` to JSON bytes, a Starlette response, or anything that
    becomes JSON. It is async unless it takes only milliseconds of the event loop's time. Its
    docstring is summary and description of the operation."""
    body: type[BaseModel] | None = None
    """The handler gets an instance as `request.data`."""
    parses_body: bool = True
    """Else `body` is documentation, and the handler reads `request.body`."""
    examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Bodies by their purpose."""
    query: type[BaseModel] | None = None
    """The handler gets an instance as `request.data`: not beside a body that is parsed."""
    answer: type[BaseModel] | None = None
    media_type: str = "application/json"
    status: int = HTTPStatus.OK
    refusals: Sequence[int] = ()
    """Error statuses that the other fields do not imply."""
    tag: str = API
    protected: bool = False
    """Requires the admin token."""
    admit: Callable[[Any, Any], None] | None = None
    """Called with what a handler gets before the body is read; raises HttpError to refuse."""
    names_user: bool = False
    """Reads the header X-Fbt-User."""
    always: bool = False
    """Answered under overload, too, and exempt from the rate limit."""
    max_body: int = MAX_BODY_BYTES
    timeout_s: float = 10.0
    """An async handler is then cancelled, and answered 504."""

    @cached_property
    def path(self) -> str:
        """In documentation and metrics."""
        return self.pattern.replace(":path}", "}")

    @cached_property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.handler)

    @property
    def methods(self) -> tuple[str, ...]:
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


def group_by_pattern(routes: Iterable[Route]) -> dict[str, dict[str, Route]]:
    """Raises ValueError where two routes have pattern and method in common."""
    grouped: dict[str, dict[str, Route]] = {}
    for route in routes:
        by_method = grouped.setdefault(route.pattern, {})
        for method in route.methods:
            if method in by_method:
                raise ValueError(f"{method} {route.pattern} is routed twice")
            by_method[method] = route
    return grouped
