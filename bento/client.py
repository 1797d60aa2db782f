"""A client of the service for Python shops, blocking and async; needs httpx and pydantic alone.

    with Client("http://fbt:3000") as fbt:
        for product in fbt.recommend("85123A", k=4, filters={"in_stock": True}).items:
            print(product.product_id, product.name)

A request is checked by the service's own models before it is sent. A request that was refused or
not answered is sent again if it is idempotent. Adding a rule is not: it is sent again only if it
certainly never reached the service.
"""

import asyncio
import email.utils
import random
import time
import urllib.parse
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

import httpx
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bento.answering.catalogue_changes import CatalogueAnswer, CatalogueRequest, ProductChange
from bento.answering.rule_history import RuleChange, RuleHistory
from bento.answering.rules import Rule, RuleList, RuleRequest
from bento.schemas import (
    AboutModel,
    BatchRequest,
    BatchResponse,
    FieldError,
    FoundProduct,
    Problem,
    Product,
    RecommendRequest,
    RecommendResponse,
    SearchResponse,
    SimilarRequest,
    field_errors,
)

Model = TypeVar("Model", bound=BaseModel)
Result = TypeVar("Result")
Params = ParamSpec("Params")

RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class FbtError(Exception):
    """The service gave no usable answer."""


class Unreachable(FbtError):
    """The service could not be reached or did not answer in time, after all retries."""


class ProblemError(FbtError):
    """The service refused a request, or the client did before sending it."""

    def __init__(self, problem: Problem) -> None:
        self.status = problem.status
        self.errors: Sequence[FieldError] = problem.errors
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")


class RetryPolicy(BaseModel):
    """Timeouts and retries of a client."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    connect_s: float = Field(default=0.5, gt=0)
    """Connection timeout in seconds."""
    read_s: float = Field(default=2.0, gt=0)
    """Read timeout in seconds, per try."""
    deadline_s: float = Field(default=5.0, gt=0)
    """Seconds for all tries of one request and the waits between them."""
    bulk_s: float = Field(default=30.0, gt=0)
    """Replaces `read_s` and `deadline_s` for batches and catalogue changes."""
    attempts: int = Field(default=3, ge=1, le=20)
    """Maximum number of tries, the first included."""
    backoff_s: float = Field(default=0.1, gt=0)
    """Upper bound of the first wait; it doubles with every try. Waits are random (full jitter)."""


@dataclass(frozen=True)
class Call(Generic[Model]):
    """One request, ready to be sent, and the model of its answer."""

    method: str
    path: str
    answer: type[Model]
    body: bytes | None = None
    query: Mapping[str, str] | None = None
    protected: bool = False
    """Sent with the admin token."""
    bulk: bool = False
    idempotent: bool = True


class NoContent(BaseModel):
    """The answer to a deletion."""


class RetryState:
    """The tries of one call."""

    def __init__(self, call: Call[Any], policy: RetryPolicy) -> None:
        self._call, self._policy = call, policy
        self._deadline = time.monotonic() + (policy.bulk_s if call.bulk else policy.deadline_s)
        self.n_tries = 0

    def start_try(self) -> httpx.Timeout:
        self.n_tries += 1
        left_s = max(self._deadline - time.monotonic(), 0.001)
        read_s = self._policy.bulk_s if self._call.bulk else self._policy.read_s
        connect_s = min(self._policy.connect_s, left_s)
        return httpx.Timeout(min(read_s, left_s), connect=connect_s, pool=connect_s)

    def wait_after_error(self, error: httpx.TransportError) -> float:
        """Seconds until the next try. Raises Unreachable when there is none."""
        wait_s = self._backoff_s()
        is_safe = self._call.idempotent or isinstance(error, NEVER_SENT)
        if not is_safe or not self._is_allowed(wait_s):
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            call = f"{self._call.method} {self._call.path}"
            raise Unreachable(f"{call}: no answer after {self.n_tries} tries ({reason})") from error
        return wait_s

    def wait_after(self, response: httpx.Response) -> float | None:
        """Seconds until the next try; None if the response is final."""
        # A write that is answered 503 may have been made all the same.
        retried = RETRIED if self._call.idempotent else RETRIED[:1]
        if response.status_code not in retried:
            return None
        wait_s = retry_after_s(response.headers.get("Retry-After", "")) + self._backoff_s()
        return wait_s if self._is_allowed(wait_s) else None

    def _backoff_s(self) -> float:
        return random.uniform(0, self._policy.backoff_s * 2 ** (self.n_tries - 1))

    def _is_allowed(self, wait_s: float) -> bool:
        in_time = time.monotonic() + wait_s < self._deadline
        return self.n_tries < self._policy.attempts and in_time


def retry_after_s(header: str) -> float:
    """Seconds of a Retry-After header, which may hold a date; 0 for none."""
    if header.strip().isdigit():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


def parse_answer(call: Call[Model], response: httpx.Response, n_tries: int) -> Model:
    """Raises ProblemError for a refusal and for an answer that does not fit the model."""
    status = response.status_code
    # A lost answer to an earlier try explains a 404.
    is_gone = status == HTTPStatus.NOT_FOUND and n_tries > 1
    if call.method == "DELETE" and (response.is_success or is_gone):
        return call.answer()
    if not response.is_success:
        raise ProblemError(parse_problem(response))
    try:
        # A newer service may send fields that this release does not know.
        return call.answer.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        found = field_errors(error, call.answer)
        detail = f"{call.method} {call.path} was not answered by fbt, or by another release"
        raise ProblemError(
            Problem(title="Not understood", status=status, detail=detail, errors=found)
        ) from None


def parse_problem(response: httpx.Response) -> Problem:
    """The problem document of a refusal, or one made of any other response's first characters."""
    try:
        return Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        title = response.reason_phrase or "Refused"
        return Problem(title=title, status=response.status_code, detail=response.text[:200])


def to_body(model: type[BaseModel], fields: Mapping[str, Any]) -> bytes:
    """The fields as JSON. Raises ProblemError if they do not fit the model."""
    # NaN must reach the model, which refuses it; null would mean something else.
    body: bytes = pydantic_core.to_json(to_plain(fields), inf_nan_mode="constants")
    try:
        model.model_validate_json(body)
    except ValidationError as error:
        raise bad_request(field_errors(error, model)) from None
    return body


def bad_request(errors: list[FieldError]) -> ProblemError:
    status = HTTPStatus.BAD_REQUEST
    detail = "; ".join(f"{e.field}: found {e.found}, expected {e.expected}" for e in errors)
    return ProblemError(Problem(title=status.phrase, status=status, detail=detail, errors=errors))


def to_plain(value: Any) -> Any:
    """Dicts and lists instead of models; of a model only the fields that were given."""
    if isinstance(value, BaseModel):
        return {name: to_plain(getattr(value, name)) for name in value.model_fields_set}
    if isinstance(value, Mapping):
        return {name: to_plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(one) for one in value]
    return value


def path_to(folder: str, name: str) -> str:
    """The path of one resource. Raises ProblemError for an empty id."""
    if not name:
        raise bad_request([FieldError(field="id", found="nothing", expected="an id")])
    quoted = urllib.parse.quote(name, safe="")
    # Unescaped, dots would mean this folder or the one above.
    return f"/{folder}/{quoted.replace('.', '%2E') if name in ('.', '..') else quoted}"


class BaseClient:
    """The address, the credentials and the retry loop of both clients."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        user: str | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        """Does not connect yet.

        `token` is the admin token for catalogue and rules; `user` is the name that the audit trail
        records.
        """
        self._url = url.rstrip("/")
        self._retry_policy = retry_policy or RetryPolicy()
        self._admin: dict[str, bytes] = {}
        if token is not None:
            self._admin["Authorization"] = b"Bearer " + token.encode()
        if user is not None:
            self._admin["X-Fbt-User"] = user.encode()

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
        state = RetryState(call, self._retry_policy)
        while True:
            try:
                response = await self._request(**self._arguments(call, state.start_try()))
            except httpx.TransportError as error:
                await self._sleep(state.wait_after_error(error))
                continue
            if (wait_s := state.wait_after(response)) is None:
                return parse_answer(call, response, state.n_tries)
            await self._sleep(wait_s)

    def _arguments(self, call: Call[Any], timeout: httpx.Timeout) -> dict[str, Any]:
        headers: dict[str, str | bytes] = dict(self._admin) if call.protected else {}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        return {
            "method": call.method,
            "url": self._url + call.path,
            "params": call.query,
            "content": call.body,
            "headers": headers,
            "timeout": timeout,
        }

    async def _request(self, **arguments: Any) -> httpx.Response:
        raise NotImplementedError

    async def _sleep(self, seconds: float) -> None:
        raise NotImplementedError


class AsyncClient(BaseClient):
    """The client for asyncio. Methods raise ProblemError for a refusal, Unreachable for silence."""

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
        """A product's record in the catalogue."""
        return await self._get(path_to("products", product_id), Product)

    async def products(self, q: str, limit: int = 10) -> list[FoundProduct]:
        """Typo-tolerant search by name, id, category or brand; best first."""
        query = {"q": q, "limit": str(limit)}
        return (await self._get("/products", SearchResponse, query=query)).items

    async def model(self) -> AboutModel:
        return await self._get("/model", AboutModel)

    async def change_catalogue(
        self,
        upsert: Iterable[ProductChange | Mapping[str, Any]] = (),
        delete: Iterable[str] = (),
    ) -> CatalogueAnswer:
        given = {"upsert": list(upsert), "delete": list(delete)}
        kind = {"protected": True, "bulk": True}
        return await self._post("/catalogue", CatalogueRequest, CatalogueAnswer, given, **kind)

    async def rules(self) -> list[Rule]:
        """All rules that the service's release can read, oldest first."""
        return (await self._get("/rules", RuleList, protected=True)).rules

    async def rule_history(self, limit: int = 100, before: int | None = None) -> list[RuleChange]:
        """Changes of rules, newest first; the revision of the last one is the next `before`."""
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
        """`fields` are those of RuleRequest."""
        body = to_body(RuleRequest, fields)
        return await self._send(Call("PUT", path_to("rules", rule_id), Rule, body, protected=True))

    async def delete_rule(self, rule_id: str) -> None:
        path = path_to("rules", rule_id)
        await self._send(Call("DELETE", path, NoContent, protected=True))

    async def _request(self, **arguments: Any) -> httpx.Response:
        return await self._http.request(**arguments)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def blocking(
    method: Callable[Concatenate[Any, Params], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[Any, Params], Result]:
    """The method for a client whose `_request` and `_sleep` block: its coroutine never waits."""

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
    change_catalogue = blocking(AsyncClient.change_catalogue)
    rules = blocking(AsyncClient.rules)
    rule_history = blocking(AsyncClient.rule_history)
    rule = blocking(AsyncClient.rule)
    add_rule = blocking(AsyncClient.add_rule)
    replace_rule = blocking(AsyncClient.replace_rule)
    delete_rule = blocking(AsyncClient.delete_rule)

    async def _request(self, **arguments: Any) -> httpx.Response:
        return self._http.request(**arguments)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)
