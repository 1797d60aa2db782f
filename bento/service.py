"""The BentoML service: a thin skin over `Recommender`, one bundle a process, for its whole life."""

import functools
import gc
import os
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import bentoml

from bento.endpoints import RECOMMEND, SIMILAR, Endpoints
from bento.recommender import Recommendation, Recommender
from bento.schemas import (
    SOURCES,
    ProductAttributes,
    RecommendRequest,
    RecommendResponse,
    SimilarRequest,
)
from components.attributes.text import Attributes
from components.bundle.bundle import read_bundle

BUNDLE_MODEL = "bundle"
"""Alias under which a packaged Bento carries its bundle."""

CARD_FIELDS = ("product_id", "name", "category", "brand", "price", "image_url")

LATENCY_BUCKETS_S = [
    *(0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0),
]
"""An answer takes a millisecond; BentoML's own buckets start at five."""


@bentoml.service(
    name="fbt",
    # BentoML never cancels the timer of a request: a long timeout keeps thousands alive, and
    # Python's garbage collector busy.
    traffic={"timeout": 1},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
    envs=[
        {"name": "BENTOML_DO_NOT_TRACK", "value": "True"},
        # A worker is a process: BLAS threads of its own only stand in the way of the others. A cart
        # costs a third of the CPU so.
        {"name": "OPENBLAS_NUM_THREADS", "value": "1"},
        # For the image, where hnswlib is compiled: no machine code that only the builder's CPU has.
        {"name": "HNSWLIB_NO_NATIVE", "value": "1"},
    ],
    metrics={"duration": {"buckets": LATENCY_BUCKETS_S}},
)
class Fbt:
    """What do people buy together with this?

    Ask `POST /recommend` with one product or with a cart. `POST /similar` finds what could replace
    a product.
    """

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def refuse_damaged() -> None:
        """Check every hash of the bundle once, before any worker starts."""
        read_bundle(bundle_path())

    def __init__(self) -> None:
        bundle = read_bundle(bundle_path(), verify=False)
        self.model_version = model_version()
        self.recommender = Recommender(bundle)
        columns = [bundle.products[name].combine_chunks() for name in CARD_FIELDS]
        self._card = functools.lru_cache(maxsize=100_000)(functools.partial(card, columns))
        self._count_answers()
        self._show_age(bundle.manifest.created_at)
        # What was loaded stays: the garbage collector need not look at it ever again.
        gc.collect()
        gc.freeze()

    @bentoml.api(route=RECOMMEND)  # type: ignore[untyped-decorator]
    def recommend(self, request: RecommendRequest, /) -> RecommendResponse:
        """Products that are bought together with the products asked for, best first.

        A product that the model does not know is no error: it is named in `unknown`. When none is
        known, the answer comes from products that are described alike, by the product table or by
        `attributes`; failing that, from bestsellers; `source` says which.
        """
        return RecommendResponse.model_validate(self.answer(request, uuid.uuid4().hex))

    @bentoml.api(route=SIMILAR)  # type: ignore[untyped-decorator]
    def similar(self, request: SimilarRequest, /) -> RecommendResponse:
        """Products that could replace the product asked for, best first.

        They are bought in the same company and described alike. For a product that the model does
        not know, what is described alike must do; failing that, bestsellers; `source` says which.
        """
        return RecommendResponse.model_validate(self.answer_similar(request, uuid.uuid4().hex))

    def answer(self, request: RecommendRequest, request_id: str) -> dict[str, Any]:
        """The RecommendResponse, as the dictionary that it is made of."""
        given = attributes_of(request.attributes)
        found = self.recommender.recommend(request.items, request.k, given)
        self._answers[found.source].inc()
        if found.unknown:
            self._unknown_items.inc(len(found.unknown))
        return self._response(found, request_id)

    def answer_similar(self, request: SimilarRequest, request_id: str) -> dict[str, Any]:
        """As `answer`, for substitutes."""
        given = attributes_of(request.attributes)
        found = self.recommender.similar(request.item, request.k, given)
        self._answers_similar[found.source].inc()
        return self._response(found, request_id)

    def _response(self, found: Recommendation, request_id: str) -> dict[str, Any]:
        rows, scores = found.rows.tolist(), found.scores.tolist()
        return {
            "request_id": request_id,
            "model_version": self.model_version,
            "items": [
                {**self._card(row), "score": score} for row, score in zip(rows, scores, strict=True)
            ],
            "source": found.source,
            "unknown": found.unknown,
        }

    def _count_answers(self) -> None:
        # Imported in the worker only: the client library decides at its import whether it counts
        # across workers.
        from prometheus_client import Counter

        requests = Counter(
            "fbt_recommend_requests_total",
            "Recommendations answered, by where they came from.",
            ["source", "model_version"],
        )
        similar = Counter(
            "fbt_similar_requests_total",
            "Questions for substitutes answered, by where the answers came from.",
            ["source", "model_version"],
        )
        unknown = Counter(
            "fbt_recommend_unknown_items_total",
            "Products asked for that the model does not know.",
            ["model_version"],
        )
        self._answers, self._answers_similar = (
            {source: counter.labels(source, self.model_version) for source in SOURCES}
            for counter in (requests, similar)
        )
        self._unknown_items = unknown.labels(self.model_version)

    def _show_age(self, created_at: str) -> None:
        from prometheus_client import Gauge

        created = Gauge(
            "fbt_bundle_created_timestamp_seconds",
            "When the bundle that serves was made.",
            ["model_version"],
            multiprocess_mode="max",
        )
        created.labels(self.model_version).set(datetime.fromisoformat(created_at).timestamp())


Fbt.add_asgi_middleware(Endpoints)  # type: ignore[attr-defined]


def bundle_path() -> Path:
    """The bundle to serve: the directory FBT_BUNDLE, or the one that the packaged Bento carries."""
    if directory := os.environ.get("FBT_BUNDLE"):
        return Path(directory)
    try:
        return Path(bentoml.models.get(BUNDLE_MODEL).path)
    except bentoml.exceptions.NotFound:
        raise RuntimeError(
            "no bundle to serve: set FBT_BUNDLE to a bundle directory, or serve a packaged Bento"
        ) from None


def model_version() -> str:
    """What answers call the model: FBT_MODEL_VERSION, or the version of the packaged Bento."""
    return os.environ.get("FBT_MODEL_VERSION") or bentoml.server_context.bento_version


def attributes_of(given: ProductAttributes | None) -> Attributes | None:
    """What a request says of a product, as the recommender takes it."""
    if given is None:
        return None
    return Attributes(given.name, given.category, given.brand, given.price)


def card(columns: list[Any], row: int) -> dict[str, Any]:
    """A product as an answer shows it, from the Arrow columns of CARD_FIELDS."""
    values = (column[row].as_py() for column in columns)
    return dict(zip(CARD_FIELDS, values, strict=True))
