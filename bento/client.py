"""A client of the service for Python shops, blocking and async; needs httpx and pydantic alone.

    with Client("http://fbt:3000") as fbt:
        for product in fbt.recommend("85123A", k=4, filters={"in_stock": True}).items:
            print(product.product_id, product.name)

Requests are checked by the service's own models before they are sent, and idempotent ones are sent
again. Adding a rule is not idempotent: it is sent again only if it never reached the service.
"""

import asyncio
import time
import urllib.parse
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from bento.retry import RetryPolicy, RetryState
from bento.schemas.catalogue import CatalogueAnswer, CatalogueRequest, ProductChange
from bento.schemas.events import ErasedSession, EventBatch, EventsAnswer
from bento.schemas.problems import FieldError, Problem, field_errors
from bento.schemas.requests import BatchRequest, RecommendRequest, SimilarRequest
from bento.schemas.responses import (
    AboutModel,
    BatchResponse,
    FoundProduct,
    Product,
    Ready,
    RecommendResponse,
    SearchResponse,
)
from bento.schemas.rule_history import RuleChange, RuleHistory
from bento.schemas.rules import Rule, RuleList, RuleRequest

Model = TypeVar("Model", bound=BaseModel)
Result = TypeVar("Result")
Params = ParamSpec("Params")

FIELDS = TypeAdapter(dict[str, Any], config=ConfigDict(ser_json_inf_nan="constants"))
"""NaN must reach the models, which refuse it; null would mean something else."""


@dataclass(frozen=True)
class Call(Generic[Model]):
    method: str
    path: str
    answer: type[Model]
    body: bytes | None = None
    query: Mapping[str, str] | None = None
    protected: bool = False
    names_key: bool = False
    bulk: bool = False
    idempotent: bool = True


class NoContent(BaseModel):
    """The answer to a deletion."""


class FbtError(Exception):
    pass


class Unreachable(FbtError):
    """No answer in time, after all retries."""

    def __init__(self, call: Call[Any], n_tries: int, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        super().__init__(f"{call.method} {call.path}: no answer after {n_tries} tries ({reason})")


class ProblemError(FbtError):
    """The service refused the request, or the client did before sending it."""

    def __init__(self, problem: Problem) -> None:
        self.status = problem.status
        self.errors: Sequence[FieldError] = problem.errors
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")


def parse_answer(call: Call[Model], response: httpx.Response, n_tries: int) -> Model:
    """Raises ProblemError for a refusal and for an answer that does not fit the model."""
    status = response.status_code
    # A lost answer to an earlier try explains a 404.
    is_gone = status == HTTPStatus.NOT_FOUND and n_tries > 1
    if call.method == "DELETE" and (status == HTTPStatus.NO_CONTENT or is_gone):
        return call.answer()
    if not response.is_success:
        raise ProblemError(parse_problem(response))
    try:
        # A newer service may send fields that this release does not know.
        return call.answer.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        found = field_errors(error, call.answer)
        detail = f"{call.method} {call.path} was not answered by fbt, or by another release"
        problem = Problem(title="Not understood", status=status, detail=detail, errors=found)
        raise ProblemError(problem) from None


def parse_problem(response: httpx.Response) -> Problem:
    """The problem document, or one made of the start of another body."""
    try:
        return Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        title = response.reason_phrase or "Refused"
        return Problem(title=title, status=response.status_code, detail=response.text[:200])


def to_body(model: type[BaseModel], fields: Mapping[str, Any]) -> bytes:
    """The fields as JSON. Raises ProblemError if they do not fit the model."""
    body = FIELDS.dump_json(dict(fields), exclude_unset=True, fallback=dict)
    try:
        model.model_validate_json(body)
    except ValidationError as error:
        raise bad_request(field_errors(error, model)) from None
    return body


def bad_request(errors: list[FieldError]) -> ProblemError:
    status = HTTPStatus.BAD_REQUEST
    detail = "; ".join(f"{e.field}: found {e.found}, expected {e.expected}" for e in errors)
    return ProblemError(Problem(title=status.phrase, status=status, detail=detail, errors=errors))


def path_to(folder: str, name: str) -> str:
    """Raises ProblemError for an empty id."""
    if not name:
        raise bad_request([FieldError(field="id", found="nothing", expected="an id")])
    quoted = urllib.parse.quote(name, safe="")
    # Unescaped, dots would mean this folder or the one above.
    return f"/{folder}/{quoted.replace('.', '%2E') if name in ('.', '..') else quoted}"


class BaseClient:
    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        user: str | None = None,
        events_key: str | None = None,
        preview: bool = False,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        """`token` is the admin token; `user` is the name for the audit trail of rules.

        With `preview`, answers are for people who look: the service neither counts nor logs them.
        """
        self._shared = {"X-Fbt-Preview": b"1"} if preview else {}
        self._url = url.rstrip("/")
        self._retry_policy = retry_policy or RetryPolicy()
        self._admin: dict[str, bytes] = {}
        if token is not None:
            self._admin["Authorization"] = b"Bearer " + token.encode()
        if user is not None:
            self._admin["X-Fbt-User"] = user.encode()
        self._key = {} if events_key is None else {"X-Fbt-Key": events_key.encode()}

    async def _get(self, path: str, answer: type[Model], **more: Any) -> Model:
        return await self._send(Call("GET", path, answer, **more))

    async def _post(
        self,
        path: str,
        model: type[BaseModel],
        answer: type[Model],
        fields: Mapping[str, Any],
        **more: Any,
    ) -> Model:
        return await self._send(Call("POST", path, answer, to_body(model, fields), **more))

    async def _send(self, call: Call[Model]) -> Model:
        state = RetryState(self._retry_policy, call.bulk, call.idempotent)
        while True:
            try:
                response = await self._request(**self._arguments(call, state.start_try()))
            except httpx.TransportError as error:
                if (wait_s := state.wait_after_error(error)) is None:
                    raise Unreachable(call, state.n_tries, error) from error
            else:
                if (wait_s := state.wait_after(response)) is None:
                    return parse_answer(call, response, state.n_tries)
            await self._sleep(wait_s)

    def _arguments(self, call: Call[Any], timeout: httpx.Timeout) -> dict[str, Any]:
        headers: dict[str, str | bytes] = {**self._shared}
        if call.protected:
            headers.update(self._admin)
        if call.names_key:
            headers.update(self._key)
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        request = {"method": call.method, "url": self._url + call.path, "params": call.query}
        return {**request, "content": call.body, "headers": headers, "timeout": timeout}

    async def _request(self, **arguments: Any) -> httpx.Response:
        raise NotImplementedError

    async def _sleep(self, seconds: float) -> None:
        raise NotImplementedError


class AsyncClient(BaseClient):
    """Methods raise ProblemError for a refusal, Unreachable for no answer."""

    def __init__(self, url: str, **more: Any) -> None:
        super().__init__(url, **more)
        self._http = httpx.AsyncClient()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def recommend(self, /, *items: str, **fields: Any) -> RecommendResponse:
        """Companions of a product or a cart; `fields` are those of RecommendRequest."""
        given = {"items": items, **fields} if items else fields
        return await self._post("/recommend", RecommendRequest, RecommendResponse, given)

    async def recommend_batch(
        self, requests: Iterable[RecommendRequest | Mapping[str, Any]]
    ) -> list[RecommendResponse]:
        """The answers to up to 1,000 requests, in their order."""
        given = {"requests": list(requests)}
        path = "/recommend/batch"
        return (await self._post(path, BatchRequest, BatchResponse, given, bulk=True)).responses

    async def similar(self, /, item: str | None = None, **fields: Any) -> RecommendResponse:
        """Substitutes for a product; `fields` are those of SimilarRequest."""
        given = fields if item is None else {"item": item, **fields}
        return await self._post("/similar", SimilarRequest, RecommendResponse, given)

    async def product(self, product_id: str) -> Product:
        return await self._get(path_to("products", product_id), Product)

    async def products(self, q: str, limit: int = 10) -> list[FoundProduct]:
        """Search by name, id, category or brand, tolerating typos; best first."""
        query = {"q": q, "limit": str(limit)}
        return (await self._get("/products", SearchResponse, query=query)).items

    async def model(self) -> AboutModel:
        return await self._get("/model", AboutModel)

    async def ready(self) -> Ready:
        """The state of the service's parts; ProblemError with status 503 if it is not ready."""
        return await self._get("/readyz", Ready)

    async def change_catalogue(
        self,
        upsert: Iterable[ProductChange | Mapping[str, Any]] = (),
        delete: Iterable[str] = (),
    ) -> CatalogueAnswer:
        given = {"upsert": list(upsert), "delete": list(delete)}
        kind = {"protected": True, "bulk": True}
        return await self._post("/catalogue", CatalogueRequest, CatalogueAnswer, given, **kind)

    async def rules(self) -> list[Rule]:
        return (await self._get("/rules", RuleList, protected=True)).rules

    async def rule_history(self, limit: int = 100, before: int | None = None) -> list[RuleChange]:
        """Newest first; the revision of the last change is the `before` of the next page."""
        query = {"limit": str(limit)} | ({} if before is None else {"before": str(before)})
        history = await self._get("/rules/history", RuleHistory, query=query, protected=True)
        return history.changes

    async def rule(self, rule_id: str) -> Rule:
        return await self._get(path_to("rules", rule_id), Rule, protected=True)

    async def add_rule(self, /, **fields: Any) -> Rule:
        """Pin, block, boost or bury; `fields` are those of RuleRequest."""
        kind = {"protected": True, "idempotent": False}
        return await self._post("/rules", RuleRequest, Rule, fields, **kind)

    async def replace_rule(self, /, rule_id: str, **fields: Any) -> Rule:
        body = to_body(RuleRequest, fields)
        return await self._send(Call("PUT", path_to("rules", rule_id), Rule, body, protected=True))

    async def delete_rule(self, rule_id: str) -> None:
        path = path_to("rules", rule_id)
        await self._send(Call("DELETE", path, NoContent, protected=True))

    async def send_events(self, events: Iterable[Mapping[str, Any]]) -> EventsAnswer:
        """Up to 1,000 events, such as bento.client_events makes; fields are those of SentEvent.

        They are stored when this returns. Whatever went wrong, they may be sent again.
        """
        given = {"events": list(events), "sent_at": datetime.now(UTC).isoformat()}
        kind = {"bulk": True, "names_key": True}
        return await self._post("/events", EventBatch, EventsAnswer, given, **kind)

    async def erase_session(self, session_id: str) -> ErasedSession:
        path = path_to("events/sessions", session_id)
        return await self._send(Call("DELETE", path, ErasedSession, protected=True))

    async def _request(self, **arguments: Any) -> httpx.Response:
        return await self._http.request(**arguments)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def blocking(
    method: Callable[Concatenate[Any, Params], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[Any, Params], Result]:
    """The method of a client whose `_request` and `_sleep` block, so that its coroutine ends."""

    @wraps(method)
    def run(self: Any, /, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:
            method(self, *args, **kwargs).send(None)
        except StopIteration as done:
            result: Result = done.value
            return result
        raise AssertionError(f"{method.__name__} waited for an event loop")

    return run


class Client(BaseClient):
    """The blocking client. Threads may share one."""

    def __init__(self, url: str, **more: Any) -> None:
        super().__init__(url, **more)
        self._http = httpx.Client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    recommend = blocking(AsyncClient.recommend)
    recommend_batch = blocking(AsyncClient.recommend_batch)
    similar = blocking(AsyncClient.similar)
    product = blocking(AsyncClient.product)
    products = blocking(AsyncClient.products)
    model = blocking(AsyncClient.model)
    ready = blocking(AsyncClient.ready)
    change_catalogue = blocking(AsyncClient.change_catalogue)
    rules = blocking(AsyncClient.rules)
    rule_history = blocking(AsyncClient.rule_history)
    rule = blocking(AsyncClient.rule)
    add_rule = blocking(AsyncClient.add_rule)
    replace_rule = blocking(AsyncClient.replace_rule)
    delete_rule = blocking(AsyncClient.delete_rule)
    send_events = blocking(AsyncClient.send_events)
    erase_session = blocking(AsyncClient.erase_session)

    async def _request(self, **arguments: Any) -> httpx.Response:
        return self._http.request(**arguments)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)
