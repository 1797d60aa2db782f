"""Changes of the catalogue since the model was trained.

A change is a patch. The database merges all patches of a product into one row, a `ChangedProduct`,
which overrides the bundle's record.
"""

from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bento.schemas.base import Request, Response, example
from bento.schemas.rules import StoredId, UtcDatetime, reject_nul

MAX_CHANGES = 10_000

ShortText = Annotated[str, StringConstraints(max_length=256), AfterValidator(reject_nul)]
LongText = Annotated[str, StringConstraints(max_length=2000), AfterValidator(reject_nul)]
AttributeName = Annotated[
    str, StringConstraints(min_length=1, max_length=64), AfterValidator(reject_nul)
]


CHANGE_EXAMPLE = {"product_id": "85123A", "price": 2.75, "in_stock": True}


class ProductChange(Request):
    """New values of a product. Missing fields keep their values; null clears them."""

    model_config = example(**CHANGE_EXAMPLE)

    product_id: StoredId
    name: LongText | None = None
    category: ShortText | None = None
    brand: ShortText | None = None
    price: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Per unit, in the shop's currency."
    )
    image_url: LongText | None = None
    in_stock: bool | None = None
    margin: float | None = Field(
        default=None, allow_inf_nan=False, description="In any unit; only its order counts."
    )
    added_at: UtcDatetime | None = Field(
        default=None, description="Time when the shop added the product."
    )
    attributes: dict[AttributeName, ShortText] | None = Field(
        default=None,
        max_length=50,
        description="The shop's own attributes to filter by; they replace all former ones.",
    )

    def to_patch(self) -> dict[str, Any]:
        """The fields that are given, null included, as JSON values."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"product_id"})


class CatalogueRequest(Request):
    """Changes of the catalogue. The last change of a product's field wins."""

    model_config = example(upsert=[CHANGE_EXAMPLE], delete=["22423"])

    upsert: list[ProductChange] = Field(
        default=[],
        max_length=MAX_CHANGES,
        description="Products to add or change. A deleted product comes back with its old values.",
    )
    delete: list[StoredId] = Field(
        default=[], max_length=MAX_CHANGES, description="Products to stop showing."
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        both = {change.product_id for change in self.upsert} & set(self.delete)
        if both:
            raise PydanticCustomError(
                "two_fates",
                "every product in upsert or delete, {example} is in both",
                {"example": min(both)},
            )
        if not self.upsert and not self.delete:
            raise PydanticCustomError("no_change", "at least one product in upsert or delete")
        return self


class CatalogueAnswer(Response):
    """The number of products changed. All service processes apply the changes within seconds."""

    model_config = example(upserted=1, deleted=1, unchanged=0, revision=42)

    upserted: int
    deleted: int
    unchanged: int = Field(description="Products that already had the requested values.")
    revision: int = Field(description="The database's; every write increases it.")


class ChangedProduct(NamedTuple):
    """All changes of a product so far; replaces any earlier one."""

    product_id: str
    card: dict[str, Any]
    """Fields of ProductChange as JSON values (`added_at` as text); missing ones are unchanged."""
    deleted: bool = False
    """A change without fields that is not deleted restores the bundle's record."""
