"""A client of the service for Python shops, blocking and async; needs httpx and pydantic alone.

    with Client("http://fbt:3000") as fbt:
        for product in fbt.recommend("85123A", k=4, filters={"in_stock": True}).items:
            print(product.product_id, product.name)

What is asked is checked before it is sent, by the service's own models. What was refused, or could
not be sent, is tried again where that does no harm: a question, a read, a whole rule put in
the place of another, a deletion, a change of the catalogue (it says how things are, not by how much
they change) mean the same asked twice. Only a rule that is added would be there twice, so adding
one is tried again only where the service certainly has not seen it.
"""

import asyncio
import email.utils
import random
import time
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Generic, Self, TypeVar

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

AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
"""What the service answers to a client that may come back."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class FbtError(Exception):
    """No answer to use; see the subclasses."""


class Unreachable(FbtError):
    """The service could not be reached, or did not answer in time, however often it was tried."""


class ProblemError(FbtError):
    """A request was refused, by the service or, where it cannot be right, before it was sent."""

    def __init__(self, problem: Problem) -> None:
        self.status = problem.status
        self.errors: Sequence[FieldError] = problem.errors
        """Each with `field`, `found` and `expected`."""
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")


class RetryPolicy(BaseModel):
    """How long a client waits, and how often it tries."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    connect_s: float = Field(default=0.5, gt=0)
    """Seconds to connect."""
    read_s: float = Field(default=2.0, gt=0)
    """Seconds without anything coming, per try."""
    deadline_s: float = Field(default=5.0, gt=0)
    """Seconds for all tries of one call and the waits between them."""
    bulk_s: float = Field(default=30.0, gt=0)
    """Instead of `read_s` and `deadline_s`, for batches and changes of the catalogue."""
    attempts: int = Field(default=3, ge=1, le=20)
    """Tries at most, the first included."""
    backoff_s: float = Field(default=0.1, gt=0)
    """The first wait at most; later ones double. Waits are random, lest all come back at once."""


@dataclass(frozen=True)
class Call(Generic[Model]):
    """One request, ready to be sent, and what its answer is."""

    method: str
    path: str
    answer: type[Model] | None
    """None where there is none."""
    body: bytes | None = None
    query: Mapping[str, str] | None = None
    protected: bool = False
    bulk: bool = False
    repeatable: bool = True
    """Whether it does no harm to send it twice."""


class RetryState:
    """The tries of one call: how long each may take, and whether and when there is another."""

    def __init__(self, call: Call[Any], retry_policy: RetryPolicy) -> None:
        self._call, self._patience = call, retry_policy
        whole_s = retry_policy.bulk_s if call.bulk else retry_policy.deadline_s
        self._until = time.monotonic() + whole_s
        self.n = 0
        """Tries begun."""

    def timeout(self) -> httpx.Timeout:
        """Of the next try."""
        self.n += 1
        left_s = max(self._until - time.monotonic(), 0.001)
        read_s = self._patience.bulk_s if self._call.bulk else self._patience.read_s
        connect_s = min(self._patience.connect_s, left_s)
        return httpx.Timeout(min(read_s, left_s), connect=connect_s, pool=connect_s)

    def wait_after_error(self, error: httpx.TransportError) -> float:
        """Seconds until the next try. Raises Unreachable when there is none."""
        wait_s = self._backoff_s()
        harmless = self._call.repeatable or isinstance(error, NEVER_SENT)
        if not harmless or not self._allows(wait_s):
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise Unreachable(
                f"{self._call.method} {self._call.path}: no answer after {self.n} tries ({said})"
            ) from error
        return wait_s

    def wait_after(self, response: httpx.Response) -> float | None:
        """Seconds until the next try; None where the response is the answer."""
        # A write that is answered 503 may have been made all the same.
        again = AGAIN if self._call.repeatable else AGAIN[:1]
        if response.status_code not in again:
            return None
        asked_s = retry_after_s(response.headers.get("Retry-After", ""))
        wait_s = asked_s + self._backoff_s()
        return wait_s if self._allows(wait_s) else None

    def _backoff_s(self) -> float:
        return random.uniform(0, self._patience.backoff_s * 2 ** (self.n - 1))

    def _allows(self, wait_s: float) -> bool:
        return self.n < self._patience.attempts and time.monotonic() + wait_s < self._until


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


def parse_answer(call: Call[Model], response: httpx.Response, n_tries: int) -> Model | None:
    """What the service answered. Raises ProblemError for a refusal, or what is not its answer."""
    status = response.status_code
    if call.method == "DELETE" and status == HTTPStatus.NOT_FOUND and n_tries > 1:
        # An earlier try has deleted it, whose answer was lost.
        return None
    if not response.is_success:
        raise ProblemError(parse_problem(response))
    if call.answer is None:
        return None
    try:
        # A newer service may say more than this release knows of.
        return call.answer.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        found = field_errors(error, call.answer)
        detail = f"{call.method} {call.path} was not answered by fbt, or by another release"
        raise ProblemError(
            Problem(title="Not understood", status=status, detail=detail, errors=found)
        ) from None


def parse_problem(response: httpx.Response) -> Problem:
    """The refusal in a response; of one that is not from the service, its beginning."""
    try:
        return Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        title = response.reason_phrase or "HttpError"
        return Problem(title=title, status=response.status_code, detail=response.text[:200])


def build_call(
    path: str, model: type[BaseModel], answer: type[Model], asked: Mapping[str, Any], **more: Any
) -> Call[Model]:
    """A POST (or as `more` says) of the fields `asked`. Raises ProblemError where one is wrong."""
    # NaN must reach the model, which refuses it; null would be another thing.
    body = pydantic_core.to_json(to_plain(asked), inf_nan_mode="constants")
    try:
        model.model_validate_json(body)
    except ValidationError as error:
        errors = field_errors(error, model)
        detail = "; ".join(f"{e.field}: found {e.found}, expected {e.expected}" for e in errors)
        title, status = HTTPStatus.BAD_REQUEST.phrase, HTTPStatus.BAD_REQUEST
        raise ProblemError(
            Problem(title=title, status=status, detail=detail, errors=errors)
        ) from None
    return Call(**{"method": "POST", "path": path, "answer": answer, "body": body, **more})


def to_plain(asked: Any) -> Any:
    """Dicts and lists of what may hold models too: of those, only the fields that were given."""
    if isinstance(asked, BaseModel):
        return {name: to_plain(getattr(asked, name)) for name in asked.model_fields_set}
    if isinstance(asked, Mapping):
        return {name: to_plain(value) for name, value in asked.items()}
    if isinstance(asked, list | tuple | set | frozenset):
        return [to_plain(one) for one in asked]
    return asked


def path_to(folder: str, name: str) -> str:
    """The path of one thing; its name may hold anything but nothing."""
    if not name:
        error = FieldError(field="id", found="nothing", expected="an id")
        raise ProblemError(
            Problem(title="Bad Request", status=400, detail="id: found nothing", errors=[error])
        )
    quoted = urllib.parse.quote(name, safe="")
    # Else it would be taken for this folder, or the one above.
    return f"/{folder}/{quoted.replace('.', '%2E') if name in ('.', '..') else quoted}"


class Calls:
    """What can be asked, as requests; nothing is sent."""

    @staticmethod
    def recommend(items: Sequence[str], asked: Mapping[str, Any]) -> Call[RecommendResponse]:
        given = {"items": items, **asked} if items else asked
        return build_call("/recommend", RecommendRequest, RecommendResponse, given)

    @staticmethod
    def batch(questions: Iterable[RecommendRequest | Mapping[str, Any]]) -> Call[BatchResponse]:
        asked = {"requests": list(questions)}
        return build_call("/recommend/batch", BatchRequest, BatchResponse, asked, bulk=True)

    @staticmethod
    def similar(item: str | None, asked: Mapping[str, Any]) -> Call[RecommendResponse]:
        given = asked if item is None else {"item": item, **asked}
        return build_call("/similar", SimilarRequest, RecommendResponse, given)

    @staticmethod
    def product(product_id: str) -> Call[Product]:
        return Call("GET", path_to("products", product_id), Product)

    @staticmethod
    def products(q: str, limit: int) -> Call[SearchResponse]:
        return Call("GET", "/products", SearchResponse, query={"q": q, "limit": str(limit)})

    @staticmethod
    def model() -> Call[AboutModel]:
        return Call("GET", "/model", AboutModel)

    @staticmethod
    def change_catalogue(
        upsert: Iterable[ProductChange | Mapping[str, Any]], delete: Iterable[str]
    ) -> Call[CatalogueAnswer]:
        asked = {"upsert": list(upsert), "delete": list(delete)}
        more = {"protected": True, "bulk": True}
        return build_call("/catalogue", CatalogueRequest, CatalogueAnswer, asked, **more)

    @staticmethod
    def rules() -> Call[RuleList]:
        return Call("GET", "/rules", RuleList, protected=True)

    @staticmethod
    def rule_history(limit: int, before: int | None) -> Call[RuleHistory]:
        query = {"limit": str(limit)} | ({} if before is None else {"before": str(before)})
        return Call("GET", "/rules/history", RuleHistory, query=query, protected=True)

    @staticmethod
    def rule(rule_id: str) -> Call[Rule]:
        return Call("GET", path_to("rules", rule_id), Rule, protected=True)

    @staticmethod
    def add_rule(asked: Mapping[str, Any]) -> Call[Rule]:
        more = {"protected": True, "repeatable": False}
        return build_call("/rules", RuleRequest, Rule, asked, **more)

    @staticmethod
    def replace_rule(rule_id: str, asked: Mapping[str, Any]) -> Call[Rule]:
        more = {"protected": True, "method": "PUT"}
        return build_call(path_to("rules", rule_id), RuleRequest, Rule, asked, **more)

    @staticmethod
    def delete_rule(rule_id: str) -> Call[BaseModel]:
        return Call("DELETE", path_to("rules", rule_id), None, protected=True)


class BaseClient:
    """What both clients have in common: where the service is, and what goes with every request."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        user: str | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        """Connect to the service at `url`, once there is something to ask.

        `token` is the admin token, for the catalogue and rules; `user` is who changes them, for
        the record.
        """
        self._url = url.rstrip("/")
        self._patience = retry_policy or RetryPolicy()
        self._admin: dict[str, bytes] = {}
        if token is not None:
            self._admin["Authorization"] = b"Bearer " + token.encode()
        if user is not None:
            self._admin["X-Fbt-User"] = user.encode()

    def _sent(self, call: Call[Any], turns: RetryState) -> dict[str, Any]:
        """The arguments of httpx's `request`."""
        headers: dict[str, str | bytes] = dict(self._admin) if call.protected else {}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        return {
            "method": call.method,
            "url": self._url + call.path,
            "params": call.query,
            "content": call.body,
            "headers": headers,
            "timeout": turns.timeout(),
        }


class Client(BaseClient):
    """Asks the service, and waits for what it answers. Threads may share one.

    Every method raises ProblemError where it is refused, Unreachable where there is no answer.
    """

    def __init__(self, url: str, **more: Any) -> None:
        super().__init__(url, **more)
        self._http = httpx.Client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def recommend(self, *items: str, **asked: Any) -> RecommendResponse:
        """Companions of a product or of a cart; `asked` are the fields of RecommendRequest."""
        return self._answer(Calls.recommend(items, asked))

    def recommend_batch(
        self, questions: Iterable[RecommendRequest | Mapping[str, Any]]
    ) -> list[RecommendResponse]:
        """The answers to up to 1,000 questions, in their order."""
        return self._answer(Calls.batch(questions)).responses

    def similar(self, item: str | None = None, **asked: Any) -> RecommendResponse:
        """What could replace a product; `asked` are the fields of SimilarRequest."""
        return self._answer(Calls.similar(item, asked))

    def product(self, product_id: str) -> Product:
        """What the catalogue knows of a product."""
        return self._answer(Calls.product(product_id))

    def products(self, q: str, limit: int = 10) -> list[FoundProduct]:
        """Products by name, id or category, however misspelt; best first."""
        return self._answer(Calls.products(q, limit)).items

    def model(self) -> AboutModel:
        """What answers."""
        return self._answer(Calls.model())

    def change_catalogue(
        self,
        upsert: Iterable[ProductChange | Mapping[str, Any]] = (),
        delete: Iterable[str] = (),
    ) -> CatalogueAnswer:
        """Change product cards and stock, or delete products."""
        return self._answer(Calls.change_catalogue(upsert, delete))

    def rules(self) -> list[Rule]:
        """All rules that this release can read, oldest first."""
        return self._answer(Calls.rules()).rules

    def rule_history(self, limit: int = 100, before: int | None = None) -> list[RuleChange]:
        """Changes of rules, newest first; only those before a revision, for the next page."""
        return self._answer(Calls.rule_history(limit, before)).changes

    def rule(self, rule_id: str) -> Rule:
        """One rule."""
        return self._answer(Calls.rule(rule_id))

    def add_rule(self, **asked: Any) -> Rule:
        """Pin, block, boost or bury; `asked` are the fields of RuleRequest."""
        return self._answer(Calls.add_rule(asked))

    def replace_rule(self, rule_id: str, **asked: Any) -> Rule:
        """Put another rule in the place of one."""
        return self._answer(Calls.replace_rule(rule_id, asked))

    def delete_rule(self, rule_id: str) -> None:
        """End a rule."""
        self._tried(Calls.delete_rule(rule_id))

    def _answer(self, call: Call[Model]) -> Model:
        answer = self._tried(call)
        assert answer is not None
        return answer

    def _tried(self, call: Call[Model]) -> Model | None:
        turns = RetryState(call, self._patience)
        while True:
            try:
                response = self._http.request(**self._sent(call, turns))
            except httpx.TransportError as error:
                time.sleep(turns.wait_after_error(error))
                continue
            if (wait_s := turns.wait_after(response)) is None:
                return parse_answer(call, response, turns.n)
            time.sleep(wait_s)


class AsyncClient(BaseClient):
    """As Client, for asyncio."""

    def __init__(self, url: str, **more: Any) -> None:
        super().__init__(url, **more)
        self._http = httpx.AsyncClient()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def recommend(self, *items: str, **asked: Any) -> RecommendResponse:
        """Companions of a product or of a cart; `asked` are the fields of RecommendRequest."""
        return await self._answer(Calls.recommend(items, asked))

    async def recommend_batch(
        self, questions: Iterable[RecommendRequest | Mapping[str, Any]]
    ) -> list[RecommendResponse]:
        """The answers to up to 1,000 questions, in their order."""
        return (await self._answer(Calls.batch(questions))).responses

    async def similar(self, item: str | None = None, **asked: Any) -> RecommendResponse:
        """What could replace a product; `asked` are the fields of SimilarRequest."""
        return await self._answer(Calls.similar(item, asked))

    async def product(self, product_id: str) -> Product:
        """What the catalogue knows of a product."""
        return await self._answer(Calls.product(product_id))

    async def products(self, q: str, limit: int = 10) -> list[FoundProduct]:
        """Products by name, id or category, however misspelt; best first."""
        return (await self._answer(Calls.products(q, limit))).items

    async def model(self) -> AboutModel:
        """What answers."""
        return await self._answer(Calls.model())

    async def change_catalogue(
        self,
        upsert: Iterable[ProductChange | Mapping[str, Any]] = (),
        delete: Iterable[str] = (),
    ) -> CatalogueAnswer:
        """Change product cards and stock, or delete products."""
        return await self._answer(Calls.change_catalogue(upsert, delete))

    async def rules(self) -> list[Rule]:
        """All rules that this release can read, oldest first."""
        return (await self._answer(Calls.rules())).rules

    async def rule_history(self, limit: int = 100, before: int | None = None) -> list[RuleChange]:
        """Changes of rules, newest first; only those before a revision, for the next page."""
        return (await self._answer(Calls.rule_history(limit, before))).changes

    async def rule(self, rule_id: str) -> Rule:
        """One rule."""
        return await self._answer(Calls.rule(rule_id))

    async def add_rule(self, **asked: Any) -> Rule:
        """Pin, block, boost or bury; `asked` are the fields of RuleRequest."""
        return await self._answer(Calls.add_rule(asked))

    async def replace_rule(self, rule_id: str, **asked: Any) -> Rule:
        """Put another rule in the place of one."""
        return await self._answer(Calls.replace_rule(rule_id, asked))

    async def delete_rule(self, rule_id: str) -> None:
        """End a rule."""
        await self._tried(Calls.delete_rule(rule_id))

    async def _answer(self, call: Call[Model]) -> Model:
        answer = await self._tried(call)
        assert answer is not None
        return answer

    async def _tried(self, call: Call[Model]) -> Model | None:
        turns = RetryState(call, self._patience)
        while True:
            try:
                response = await self._http.request(**self._sent(call, turns))
            except httpx.TransportError as error:
                await asyncio.sleep(turns.wait_after_error(error))
                continue
            if (wait_s := turns.wait_after(response)) is None:
                return parse_answer(call, response, turns.n)
            await asyncio.sleep(wait_s)
