"""The BentoML service: a thin skin over `Recommender`, one bundle a process, for its whole life."""

import gc
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml

# BentoML forgets where a Bento's code lies once it has the service: what is loaded later is found
# beside what was loaded then.
import components.model  # noqa: F401
from bento.http.latency_buckets import LATENCY_BUCKETS_S
from bento.http.paths import BATCH, RECOMMEND, SIMILAR
from bento.http.service_factory import ServiceFactory
from bento.schemas import (
    BaseRequest,
    BatchRequest,
    BatchResponse,
    RecommendRequest,
    RecommendResponse,
    SearchRequest,
    SimilarRequest,
)
from bento.settings import Settings, read_settings

if TYPE_CHECKING:
    # What workers need is loaded by them: the process that starts them would load it, too, and
    # readiness waits for both.
    from bento.answering.catalogue_changes import ChangedProduct
    from bento.answering.rules import RuleSet
    from bento.answering.selection import Answer
    from bento.store.poller import ChangePoller

BUNDLE_MODEL = "bundle"
"""Alias under which a packaged Bento carries its bundle."""

FIRST_READ_S = 3.0
"""How long readiness waits for the database; without it, there are no rules until it answers."""


@bentoml.service(
    name="fbt",
    service_class=ServiceFactory,
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
    def verify_deployment() -> None:
        """Check the settings and every hash of the bundle once, before any worker starts."""
        from bento.http.limits import AdminToken
        from components.model.verification import verify_bundle

        settings = read_settings()
        AdminToken(settings)
        verify_bundle(find_bundle(settings))

    def __init__(self) -> None:
        from bento.answering.catalogue import Catalogue
        from bento.answering.product_search import ProductSearch
        from bento.answering.rendering import ResponseRenderer
        from bento.answering.selection import Selection
        from bento.http.metrics import ServiceMetrics
        from bento.store.changes_api import ChangesApi
        from components.model.bundle import read_bundle
        from components.model.recommender import Recommender

        settings = read_settings()
        self.model_version = settings.model_version or bentoml.server_context.bento_version
        self.variant = settings.variant
        self.details: dict[str, Callable[[], Any]] = {}
        """What `GET /readyz` tells of the parts: register a function that says it, async or not."""
        self.metrics = ServiceMetrics(self.model_version, self.variant)
        bundle = read_bundle(find_bundle(settings), verify=False, products=False)
        self.manifest = bundle.manifest
        assert bundle.records is not None
        assert bundle.facets is not None
        self.selection = Selection(Recommender(bundle), Catalogue(bundle.records, bundle.facets))
        self._search = ProductSearch(bundle)
        self.rendering = ResponseRenderer(self.model_version, self.variant)
        self.poller = self._follow_changes(settings)
        self.changes = ChangesApi(self.poller)
        self.metrics.set_bundle_created(bundle.manifest.created_at)
        self._warm_up()
        if self.poller is not None:
            self.poller.wait(FIRST_READ_S)
        # What was loaded stays: the garbage collector need not look at it ever again.
        gc.freeze()

    def _follow_changes(self, settings: Settings) -> "ChangePoller | None":
        """Rules and catalogue changes, from the database and as long as this process lives."""
        from bento.store.poller import ChangePoller

        if (url := database_url(settings)) is None:
            self.details["database"] = lambda: {"state": "off"}
            return None
        poller = ChangePoller(
            url, self._apply_products, self._apply_rules, on_stale=self.metrics.stale
        )
        self.details["database"] = poller.status
        return poller.start()

    def _apply_products(self, changes: "Sequence[ChangedProduct]") -> None:
        self.selection.catalogue = self.selection.catalogue.with_changes(changes)

    def _apply_rules(self, rules: "RuleSet") -> None:
        self.selection.rules = rules

    def _warm_up(self) -> None:
        """Answer a page and a cart before anybody asks."""
        catalogue, n_items = self.selection.catalogue, self.manifest.n_items
        ids = [catalogue.card(row)["product_id"] for row in range(min(n_items, 3))]
        for items in (ids[:1], ids):
            if items:
                self.selection.recommend(RecommendRequest(items=items))

    @bentoml.api(route=RECOMMEND)  # type: ignore[untyped-decorator]
    def recommend(self, request: RecommendRequest, /) -> RecommendResponse:
        """Products that are bought together with the products asked for, best first.

        A product that the model does not know is no error: it is named in `unknown`. When none is
        known, the answer comes from products that are described alike, by the product table or by
        `attributes`; failing that, from bestsellers; `source` says which.
        """
        return RecommendResponse.model_validate_json(self.answer(request, uuid.uuid4().hex))

    @bentoml.api(route=BATCH)  # type: ignore[untyped-decorator]
    def recommend_batch(self, request: BatchRequest, /) -> BatchResponse:
        """As /recommend, for up to 1,000 questions; answers come in the order of the questions.

        What is wrong with one question refuses them all.
        """
        every = (self.recommend(one) for one in request.requests)
        return BatchResponse(responses=list(every))

    @bentoml.api(route=SIMILAR)  # type: ignore[untyped-decorator]
    def similar(self, request: SimilarRequest, /) -> RecommendResponse:
        """Products that could replace the product asked for, best first.

        They are bought in the same company and described alike. For a product that the model does
        not know, what is described alike must do; failing that, bestsellers; `source` says which.
        """
        return RecommendResponse.model_validate_json(self.answer_similar(request, uuid.uuid4().hex))

    def answer(self, request: RecommendRequest, request_id: str) -> bytes:
        """The RecommendResponse, as it is sent."""
        return self.render_answer(
            "recommend", self.selection.recommend(request), request, request_id
        )

    def answer_similar(self, request: SimilarRequest, request_id: str) -> bytes:
        """As `answer`, for substitutes."""
        return self.render_answer("similar", self.selection.similar(request), request, request_id)

    def search(self, request: SearchRequest) -> bytes:
        """The SearchResponse, as it is sent."""
        from bento.answering.rendering import found

        catalogue = self.selection.catalogue
        return found(self._search.find(catalogue, request.q, request.limit), catalogue)

    def product(self, product_id: str) -> bytes | None:
        """The Product, as it is sent; None where there is none, or none any more."""
        from bento.answering.rendering import render_product

        catalogue = self.selection.catalogue
        row = catalogue.row(product_id)
        if row is None or catalogue.is_deleted(row):
            return None
        n_orders = self.selection.recommender.bundle.n_orders
        orders = int(n_orders[row]) if row < self.manifest.n_items else None
        return render_product(row, orders, catalogue)

    def about(self) -> dict[str, Any]:
        """What `GET /model` tells; see `bento.schemas.AboutModel`."""
        manifest = self.manifest
        return {
            "model_version": self.model_version,
            "variant": self.variant,
            "created_at": manifest.created_at,
            "data_window": manifest.data_window,
            "n_items": manifest.n_items,
            "n_products": manifest.n_products,
            "n_changed": self.selection.catalogue.n_changes,
            "n_orders": manifest.n_orders,
            "dims": manifest.dims,
            "format_version": manifest.format_version,
            "git_revision": manifest.git_revision,
            "code_version": manifest.code_version,
            "config": manifest.config,
            "ranking": manifest.ranking,
            "index": None if manifest.index is None else manifest.index.model_dump(),
            "files": manifest.files,
        }

    def render_answer(
        self, endpoint: str, found: "Answer", request: BaseRequest, request_id: str
    ) -> bytes:
        """An answer as it is sent, after it was counted."""
        self.metrics.record_answer(endpoint, found.source, len(found.shown), len(found.unknown))
        for action, n in found.rules.items():
            self.metrics.count_rules(action, n)
        return self.rendering.response(found, request_id, request.variant)


def find_bundle(settings: Settings) -> Path:
    """The bundle to serve: the one that is set, or the one that the packaged Bento carries."""
    if settings.bundle is not None:
        return settings.bundle
    try:
        return Path(bentoml.models.get(BUNDLE_MODEL).path)
    except bentoml.exceptions.NotFound:
        raise RuntimeError(
            "no bundle to serve: set FBT_BUNDLE to a bundle directory, or serve a packaged Bento"
        ) from None


def database_url(settings: Settings) -> str | None:
    """Where rules and catalogue changes live; None where that is switched off."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        return None if url == "off" else url
    from bentoml._internal.configuration.containers import BentoMLContainer

    from bento.store.poller import store_url

    return store_url(Path(BentoMLContainer.bentoml_home.get()))
