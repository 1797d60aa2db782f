"""A request with its products looked up in the catalogue."""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from bento.answering.awkward_settings import DEFAULT_SETTINGS
from bento.answering.catalogue import Catalogue
from bento.answering.resolved_effects import ResolvedEffects
from bento.answering.rules import QueryProduct
from bento.schemas.requests import RecommendRequest, SimilarRequest
from components.model.recommender import Recommender
from components.model.text_similarity import Attributes


class Query:
    def __init__(
        self,
        request: RecommendRequest | SimilarRequest,
        product_ids: Sequence[str],
        recommender: Recommender,
        catalogue: Catalogue,
    ) -> None:
        self.request, self.recommender, self.catalogue = request, recommender, catalogue
        self.product_ids = list(dict.fromkeys(product_ids))
        self.found = [catalogue.row(id_) for id_ in self.product_ids]
        """The catalogue row of each product, or None."""
        self.rows = [row for row in self.found if row is not None]
        self.known = [row for row in self.rows if row < recommender.n_items]
        pairs = zip(self.product_ids, self.found, strict=True)
        self.unknown = [product_id for product_id, row in pairs if row not in self.known]
        self.attributes: Attributes | None = None
        if (given := request.attributes) is not None:
            self.attributes = Attributes(given.name, given.category, given.brand, given.price)
        self.effects: list[ResolvedEffects] = []
        self.awkward = DEFAULT_SETTINGS
        self.set_by: Sequence[str] = ()
        """Rules whose settings `request` has got."""
        self.rule_counts = defaultdict[str, int](int)
        self.acting_rules: set[str] = set()
        """Rules that moved, inserted or removed a product."""
        self.let_in: Collection[int] = ()
        """Rows that are among the first as rules exempt them."""

    def describe_products(self) -> list[Attributes]:
        return [self.catalogue.find_attributes(row, self.attributes) for row in self.found]

    def list_rule_products(self) -> list[QueryProduct]:
        ids, described = self.product_ids, self.describe_products()
        if not ids and self.attributes is not None:
            ids, described = [""], [self.attributes]
        pairs = zip(ids, described, strict=True)
        return [QueryProduct(id_, one.category, one.brand) for id_, one in pairs]

    def hides_out_of_stock(self) -> bool:
        """Whether products are left out that are known to be out of stock, unasked."""
        filters = self.request.filters
        is_given = filters is not None and filters.in_stock is not None
        wanted = is_given or self.request.include_out_of_stock
        return not wanted and self.catalogue.stock is not None

    def has_price_limit(self) -> bool:
        """Whether dearer products are left out instead of moved to the end."""
        request = self.request
        return isinstance(request, RecommendRequest) and (
            "price_ratio" in request.model_fields_set or request.context == "checkout"
        )

    def max_price(self) -> np.float32:
        """The price up to which products come first; infinite without any limit."""
        request, ratio = self.request, None
        if isinstance(request, RecommendRequest):
            is_checkout = request.context == "checkout"
            is_given = "price_ratio" in request.model_fields_set
            ratio = 1.0 if is_checkout and not is_given else request.price_ratio
        prices = self.catalogue.price[self.rows].tolist()
        known = [price for price in prices if not math.isnan(price)]
        return np.float32(ratio * max(known) if ratio is not None and known else np.inf)
