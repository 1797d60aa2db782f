"""The BentoML service around `Recommender`: a process serves one bundle."""

import gc
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml

# Once BentoML has the service it forgets where a Bento's code lies; later imports are found beside
# earlier ones.
import components.model  # noqa: F401
from bento.http.constants import BATCH, LATENCY_BUCKETS_S, RECOMMEND, SIMILAR
from bento.http.private_parts import ServiceFactory, find_bentoml_home
from bento.schemas.requests import (
    BatchRequest,
    RecommendRequest,
    SearchRequest,
    SimilarRequest,
)
from bento.schemas.responses import AboutModel, BatchResponse, RecommendResponse
from bento.settings import Settings, read_settings, variable_name

if TYPE_CHECKING:
    # Workers load these themselves: readiness also waits for the process that starts workers.
    from bento.answering.arms import Answerer, Shown
    from bento.answering.selection import AnyRequest
    from bento.recommendation_log import RecommendationLog
    from bento.rule_effect_counter import RuleEffectCounter
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
        """Check the settings and the bundles' hashes once, before workers start."""
        from bento.events.location import verify_events_url
        from bento.http.limits import AdminToken
        from bento.served_arms import list_bundles, load_experiment
        from components.model.bundle import read_manifest
        from components.model.seasons import check_as_of
        from components.model.verification import verify_bundle

        settings = read_settings()
        AdminToken(settings)
        verify_events_url(settings)
        for bundle in (find_bundle(settings), *list_bundles(load_experiment(settings))):
            verify_bundle(bundle)
            window = read_manifest(bundle).data_window
            check_as_of(settings.as_of, window, variable_name("as_of"))

    def __init__(self) -> None:
        from bento.answering.product_search import ProductSearch
        from bento.events.collector import EventCollector
        from bento.http.metrics import ServiceMetrics
        from bento.served_arms import OpenBundles
        from bento.store.async_store import AsyncStore

        settings = read_settings()
        self.model_version = settings.model_version or bentoml.server_context.bento_version
        self.variant = settings.variant
        self.details: dict[str, Callable[[], Any]] = {}
        """For `GET /readyz`: functions, async or not, that return the state of a part."""
        self.metrics = ServiceMetrics(self.model_version, self.variant)
        path, self._bundles = find_bundle(settings), OpenBundles(settings)
        bundle = self._bundles.open(path)
        self.manifest = bundle.manifest
        self.selection = self._bundles.select(path)
        self._search = ProductSearch(bundle)
        self.answerer = self._open_answerer(settings, path)
        self.events = EventCollector(settings)
        self.metrics.add(self.events.metrics)
        self.details["events"] = self.events.status
        self.log = self._open_log(settings)
        self.poller = self._follow_changes(settings)
        self.store = AsyncStore(self.poller)
        self.rule_effects = self._count_rule_effects()
        self.metrics.set_bundle_created(bundle.manifest.created_at)
        self._warm_up()
        if self.poller is not None:
            self.poller.wait(FIRST_READ_S)
        # The bundle stays in memory: the garbage collector need not visit it again.
        gc.freeze()

    def _open_answerer(self, settings: Settings, path: Path) -> "Answerer":
        from bento.answering.arms import Deployment, ServedModel
        from bento.served_arms import build_arms, load_experiment

        version, create_metrics = self.model_version, self.metrics.create_answer_metrics
        experiment = load_experiment(settings)
        if experiment is None:
            metrics = create_metrics(version, self.variant)
            return Deployment(ServedModel(version, self.variant, self.selection, metrics))
        arms = build_arms(experiment, path, version, self._bundles, create_metrics)
        self.details["experiment"] = arms.describe
        return arms

    def _open_log(self, settings: Settings) -> "RecommendationLog | None":
        from bento.recommendation_log import RecommendationLog

        if not self.events.is_on:
            return None
        count_dropped = self.events.metrics.count_unlogged
        return RecommendationLog(self.events, settings.log_share, count_dropped).start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Store what is queued."""
        if self.log is not None:
            self.log.close()
        if self.rule_effects is not None:
            self.rule_effects.close()
        self.events.stop()

    def _follow_changes(self, settings: Settings) -> "ChangePoller | None":
        from bento.store.poller import ChangePoller

        if (url := find_database_url(settings)) is None:
            self.details["database"] = lambda: {"state": "off"}
            return None
        poller = ChangePoller(
            url,
            self._bundles.apply_products,
            self._bundles.apply_rules,
            on_stale=self.metrics.set_staleness,
        )
        self.details["database"] = poller.status
        return poller.start()

    def _count_rule_effects(self) -> "RuleEffectCounter | None":
        from bento.rule_effect_counter import RuleEffectCounter

        if (poller := self.poller) is None:
            return None
        return RuleEffectCounter(lambda: poller.store).start()

    def _warm_up(self) -> None:
        """Answer an item, a cart and for substitutes before the first request does."""
        for selection in self._bundles.selections:
            n_items = selection.recommender.n_items
            ids = [selection.catalogue.product_id(row) for row in range(min(n_items, 3))]
            for items in (ids[:1], ids):
                if items:
                    selection.recommend(RecommendRequest(items=items))
                    selection.similar(SimilarRequest(item=items[0]))

    @bentoml.api(route=RECOMMEND)  # type: ignore[untyped-decorator]
    def recommend(self, request: RecommendRequest, /) -> RecommendResponse:
        return RecommendResponse.model_validate_json(self.answer(request, uuid.uuid4().hex))

    @bentoml.api(route=BATCH)  # type: ignore[untyped-decorator]
    def recommend_batch(self, request: BatchRequest, /) -> BatchResponse:
        return BatchResponse(responses=[self.recommend(one) for one in request.requests])

    @bentoml.api(route=SIMILAR)  # type: ignore[untyped-decorator]
    def similar(self, request: SimilarRequest, /) -> RecommendResponse:
        request_id = uuid.uuid4().hex
        shown = self.answerer.similar(request, request_id)
        answer = self.render("similar", shown, request, request_id)
        return RecommendResponse.model_validate_json(answer)

    def answer(self, request: RecommendRequest, request_id: str, is_preview: bool = False) -> bytes:
        """A RecommendResponse as JSON."""
        shown = self.answerer.recommend(request, request_id)
        return self.render("recommend", shown, request, request_id, is_preview)

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

    def render(
        self, endpoint: str, shown: "Shown", request: "AnyRequest", request_id: str,
        is_preview: bool = False,
    ) -> bytes:  # fmt: skip
        """A RecommendResponse as JSON, after a shopper's was counted and logged."""
        if not is_preview:
            self._count(endpoint, shown, request, request_id)
        return shown.model.renderer.response(shown.answer, request_id, shown.variant)

    def _count(self, endpoint: str, shown: "Shown", request: "AnyRequest", request_id: str) -> None:
        shown.model.metrics.count_answer(endpoint, shown.answer)
        if self.log is not None:
            self.log.add(endpoint, shown, request, request_id)
        if self.rule_effects is not None and shown.answer.applied:
            self.rule_effects.add(shown.model.model_version, shown.answer)


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
