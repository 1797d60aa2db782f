"""The BentoML service around `Recommender`: a process serves one bundle."""

import gc
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml

# Once BentoML has the service it forgets where a Bento's code lies; later imports are found beside
# earlier ones.
import components.model  # noqa: F401
from bento.http.constants import BATCH, LATENCY_BUCKETS_S, RECOMMEND, SIMILAR
from bento.http.private_parts import ServiceFactory, find_bentoml_home
from bento.schemas.requests import (
    BaseRequest,
    BatchRequest,
    RecommendRequest,
    SearchRequest,
    SimilarRequest,
)
from bento.schemas.responses import AboutModel, BatchResponse, RecommendResponse
from bento.settings import Settings, read_settings, variable_name

if TYPE_CHECKING:
    # Workers load these themselves: readiness also waits for the process that starts workers.
    from bento.answering.answer import Answer
    from bento.answering.rules import RuleSet
    from bento.schemas.catalogue import ChangedProduct
    from bento.store.poller import ChangePoller

BUNDLE_MODEL = "bundle"
"""Alias under which a packaged Bento carries its bundle."""

FIRST_READ_S = 3.0
"""Readiness waits so long for the database; afterwards, rules apply once it answers."""


@bentoml.service(
    name="fbt",
    service_class=ServiceFactory,
    # BentoML never cancels a request's timer: with a long timeout, thousands of them keep Python's
    # garbage collector busy.
    traffic={"timeout": 1},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
    envs=[
        {"name": "BENTOML_DO_NOT_TRACK", "value": "True"},
        # Workers are processes: with one BLAS thread each, a cart costs a third of the CPU.
        {"name": "OPENBLAS_NUM_THREADS", "value": "1"},
        # For the image, which compiles hnswlib: no machine code that only the builder's CPU has.
        {"name": "HNSWLIB_NO_NATIVE", "value": "1"},
    ],
    metrics={"duration": {"buckets": LATENCY_BUCKETS_S}},
)
class Fbt:
    """Frequently-bought-together recommendations.

    `POST /recommend` finds companions of a product or a cart, `POST /similar` substitutes of a
    product.
    """

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def verify_deployment() -> None:
        """Check the settings and the bundle's hashes once, before workers start."""
        from bento.http.limits import AdminToken
        from components.model.bundle import read_manifest
        from components.model.seasons import check_as_of
        from components.model.verification import verify_bundle

        settings = read_settings()
        AdminToken(settings)
        verify_bundle(find_bundle(settings))
        window = read_manifest(find_bundle(settings)).data_window
        check_as_of(settings.as_of, window, variable_name("as_of"))

    def __init__(self) -> None:
        from bento.answering.awkward_settings import AwkwardSettings
        from bento.answering.catalogue import Catalogue
        from bento.answering.product_search import ProductSearch
        from bento.answering.rendering import ResponseRenderer
        from bento.answering.selection import Selection
        from bento.http.metrics import ServiceMetrics
        from bento.store.async_store import AsyncStore
        from components.model.bundle import read_bundle
        from components.model.recommender import Recommender

        settings = read_settings()
        self.model_version = settings.model_version or bentoml.server_context.bento_version
        self.variant = settings.variant
        self.details: dict[str, Callable[[], Any]] = {}
        """For `GET /readyz`: functions, async or not, that return the state of a part."""
        self.metrics = ServiceMetrics(self.model_version, self.variant)
        bundle = read_bundle(find_bundle(settings), verify=False, products=False)
        self.manifest = bundle.manifest
        limits = bundle.manifest.kind_limits.override(settings.max_own_kind, settings.max_same_kind)
        catalogue = Catalogue(bundle.records, bundle.facets, bundle.sensitive)
        self.selection = Selection(Recommender(bundle), catalogue, limits)
        self.selection.awkward = AwkwardSettings(settings.sensitive_pairs, settings.as_of)
        self._search = ProductSearch(bundle)
        self.rendering = ResponseRenderer(self.model_version, self.variant)
        self.poller = self._follow_changes(settings)
        self.store = AsyncStore(self.poller)
        self.metrics.set_bundle_created(bundle.manifest.created_at)
        self._warm_up()
        if self.poller is not None:
            self.poller.wait(FIRST_READ_S)
        # The bundle stays in memory: the garbage collector need not visit it again.
        gc.freeze()

    def _follow_changes(self, settings: Settings) -> "ChangePoller | None":
        from bento.store.poller import ChangePoller

        if (url := find_database_url(settings)) is None:
            self.details["database"] = lambda: {"state": "off"}
            return None
        poller = ChangePoller(
            url, self._apply_products, self._apply_rules, on_stale=self.metrics.set_staleness
        )
        self.details["database"] = poller.status
        return poller.start()

    def _apply_products(self, changes: "Sequence[ChangedProduct]") -> None:
        self.selection.catalogue = self.selection.catalogue.with_changes(changes)

    def _apply_rules(self, rules: "RuleSet") -> None:
        self.selection.rules = rules

    def _warm_up(self) -> None:
        """Answer an item, a cart and for substitutes before the first request does."""
        catalogue, n_items = self.selection.catalogue, self.manifest.n_items
        ids = [catalogue.card(row)["product_id"] for row in range(min(n_items, 3))]
        for items in (ids[:1], ids):
            if items:
                self.selection.recommend(RecommendRequest(items=items))
                self.selection.similar(SimilarRequest(item=items[0]))

    @bentoml.api(route=RECOMMEND)  # type: ignore[untyped-decorator]
    def recommend(self, request: RecommendRequest, /) -> RecommendResponse:
        return RecommendResponse.model_validate_json(self.answer(request, uuid.uuid4().hex))

    @bentoml.api(route=BATCH)  # type: ignore[untyped-decorator]
    def recommend_batch(self, request: BatchRequest, /) -> BatchResponse:
        return BatchResponse(responses=[self.recommend(one) for one in request.requests])

    @bentoml.api(route=SIMILAR)  # type: ignore[untyped-decorator]
    def similar(self, request: SimilarRequest, /) -> RecommendResponse:
        ranking, request_id = self.selection.similar(request), uuid.uuid4().hex
        answer = self.render_answer("similar", ranking, request, request_id)
        return RecommendResponse.model_validate_json(answer)

    def answer(self, request: RecommendRequest, request_id: str) -> bytes:
        """A RecommendResponse as JSON."""
        ranking = self.selection.recommend(request)
        return self.render_answer("recommend", ranking, request, request_id)

    def search(self, request: SearchRequest) -> bytes:
        """A SearchResponse as JSON."""
        from bento.answering.rendering import render_search

        catalogue = self.selection.catalogue
        return render_search(self._search.find(catalogue, request.q, request.limit), catalogue)

    def product(self, product_id: str) -> bytes | None:
        """A Product as JSON; None for an unknown or deleted one."""
        from bento.answering.rendering import render_product

        catalogue = self.selection.catalogue
        row = catalogue.row(product_id)
        if row is None or catalogue.is_deleted(row):
            return None
        n_orders = self.selection.recommender.bundle.n_orders
        orders = int(n_orders[row]) if row < self.manifest.n_items else None
        return render_product(row, orders, catalogue)

    def describe_model(self) -> dict[str, Any]:
        """An AboutModel."""
        own = {
            "model_version": self.model_version,
            "variant": self.variant,
            "n_changed": self.selection.catalogue.n_changes,
        }
        return own | self.manifest.model_dump(include=AboutModel.model_fields.keys() - own)

    def render_answer(
        self, endpoint: str, found: "Answer", request: BaseRequest, request_id: str
    ) -> bytes:
        """A RecommendResponse as JSON, after it was counted."""
        self.metrics.count_answer(endpoint, found.source, len(found.shown), len(found.unknown))
        self.metrics.count_products(endpoint, found.shown)
        for action, n in found.rules.items():
            self.metrics.count_rules(action, n)
        return self.rendering.response(found, request_id, request.variant)


def find_bundle(settings: Settings) -> Path:
    if settings.bundle is not None:
        return settings.bundle
    try:
        return Path(bentoml.models.get(BUNDLE_MODEL).path)
    except bentoml.exceptions.NotFound:
        raise RuntimeError(
            "no bundle to serve: set FBT_BUNDLE to a bundle directory, or serve a packaged Bento"
        ) from None


def find_database_url(settings: Settings) -> str | None:
    """None where the database is switched off."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        return None if url == "off" else url
    from bento.store.poller import store_url

    return store_url(find_bentoml_home())
