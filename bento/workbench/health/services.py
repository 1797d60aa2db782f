"""What a service says of itself: its version, its database, its fallbacks."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from bento.schemas.responses import AboutModel, Ready

ANSWERS = "fbt_recommend_requests_total"


@dataclass(frozen=True)
class FallbackShare:
    n_answers: int
    share: float
    """Of answers for products that the model does not know."""


@dataclass(frozen=True)
class ServiceState:
    url: str
    """Without a password."""
    problem: str = ""
    """Why it does not answer; then nothing else is known."""
    ready: Ready | None = None
    model: AboutModel | None = None
    fallbacks: Mapping[str, FallbackShare] = field(default_factory=dict)
    """By version, of one process since it started."""

    @property
    def version(self) -> str:
        return self.ready.model_version if self.ready else ""

    @property
    def database(self) -> Mapping[str, Any]:
        found = self.ready.details.get("database") if self.ready else None
        return found if isinstance(found, Mapping) else {}


async def ask_services(client: httpx.AsyncClient, urls: list[str]) -> list[ServiceState]:
    return await asyncio.gather(*(ask_service(client, url) for url in urls))


async def ask_service(client: httpx.AsyncClient, url: str) -> ServiceState:
    """Never raises. Metrics and the model's record may be closed to us: the rest shows."""
    shown = hide_password(url)
    ready, model, metrics = await asyncio.gather(
        *(client.get(url.rstrip("/") + path) for path in ("/readyz", "/model", "/metrics")),
        return_exceptions=True,
    )
    if isinstance(ready, BaseException):
        return ServiceState(shown, str(ready) or type(ready).__name__)
    try:
        state = Ready.model_validate_json(ready.content, extra="ignore")
    except ValidationError:
        return ServiceState(shown, f"it answers {ready.status_code}, and not as fbt does")
    return ServiceState(shown, "", state, parse_model(model), read_fallbacks(to_text(metrics)))


def parse_model(response: httpx.Response | BaseException) -> AboutModel | None:
    try:
        return AboutModel.model_validate_json(to_text(response), extra="ignore")
    except ValidationError:
        return None


def to_text(response: httpx.Response | BaseException) -> str:
    is_good = isinstance(response, httpx.Response) and response.is_success
    return response.text if isinstance(response, httpx.Response) and is_good else ""


def read_fallbacks(metrics: str) -> dict[str, FallbackShare]:
    """Of Prometheus' text."""
    counts: dict[str, list[float]] = {}
    for labels, value in re.findall(rf"^{ANSWERS}\{{(.*)\}} (\S+)$", metrics, re.MULTILINE):
        given = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))
        by_model = counts.setdefault(given.get("model_version", ""), [0.0, 0.0])
        by_model[given.get("source") == "model"] += float(value)
    return {
        version: FallbackShare(int(others + own), others / (others + own))
        for version, (others, own) in counts.items()
        if others + own
    }


def hide_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
