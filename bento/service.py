"""The BentoML service: a thin skin over `Recommender`, one bundle a process, for its whole life."""

import functools
import gc
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bentoml

from bento.endpoints import RECOMMEND, SIMILAR
from bento.observe import LATENCY_BUCKETS_S, Meters
from bento.outermost import Outermost
from bento.protection import AdminToken
from bento.recommender import Recommendation, Recommender
from bento.schemas import (
    ProductAttributes,
    RecommendRequest,
    RecommendResponse,
    SimilarRequest,
)
from bento.settings import Settings, read_settings
from components.attributes.text import Attributes
from components.bundle.bundle import read_bundle

BUNDLE_MODEL = "bundle"
"""Alias under which a packaged Bento carries its bundle."""

CARD_FIELDS = ("product_id", "name", "category", "brand", "price", "image_url")


@bentoml.service(
    name="fbt",
    service_class=Outermost,
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
        """Check the settings and every hash of the bundle once, before any worker starts."""
        settings = read_settings()
        AdminToken(settings)
        read_bundle(bundle_path(settings))

    def __init__(self) -> None:
        settings = read_settings()
        bundle = read_bundle(bundle_path(settings), verify=False)
        self.model_version = settings.model_version or bentoml.server_context.bento_version
        self.variant = settings.variant
        self.details: dict[str, Callable[[], Any]] = {}
        """What `GET /readyz` tells of the parts: register a function that says it, async or not."""
        self.recommender = Recommender(bundle)
        columns = [bundle.products[name].combine_chunks() for name in CARD_FIELDS]
        self._card = functools.lru_cache(maxsize=100_000)(functools.partial(card, columns))
        self.meters = Meters(self.model_version, self.variant)
        self.meters.bundle_made(bundle.manifest.created_at)
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
        self.meters.answered("recommend", found.source, len(found.rows), len(found.unknown))
        return self._response(found, request_id)

    def answer_similar(self, request: SimilarRequest, request_id: str) -> dict[str, Any]:
        """As `answer`, for substitutes."""
        given = attributes_of(request.attributes)
        found = self.recommender.similar(request.item, request.k, given)
        self.meters.answered("similar", found.source, len(found.rows), len(found.unknown))
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


def bundle_path(settings: Settings) -> Path:
    """The bundle to serve: the one that is set, or the one that the packaged Bento carries."""
    if settings.bundle is not None:
        return settings.bundle
    try:
        return Path(bentoml.models.get(BUNDLE_MODEL).path)
    except bentoml.exceptions.NotFound:
        raise RuntimeError(
            "no bundle to serve: set FBT_BUNDLE to a bundle directory, or serve a packaged Bento"
        ) from None


def attributes_of(given: ProductAttributes | None) -> Attributes | None:
    """What a request says of a product, as the recommender takes it."""
    if given is None:
        return None
    return Attributes(given.name, given.category, given.brand, given.price)


def card(columns: list[Any], row: int) -> dict[str, Any]:
    """A product as an answer shows it, from the Arrow columns of CARD_FIELDS."""
    values = (column[row].as_py() for column in columns)
    return dict(zip(CARD_FIELDS, values, strict=True))
