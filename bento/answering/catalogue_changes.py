"""What a shop says has changed in its catalogue since the model was trained.

A change is a patch: what is given changes, what is left out stays, null clears. Patches of one
product add up, in the database, to one row; `ChangedProduct` is that row, to be laid over the card
that the model's bundle holds.
"""

from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bento.answering.rules import StoredId, UtcDatetime, reject_nul
from bento.schemas import STRICT

MAX_CHANGES = 10_000

ShortText = Annotated[str, StringConstraints(max_length=256), AfterValidator(reject_nul)]
LongText = Annotated[str, StringConstraints(max_length=2000), AfterValidator(reject_nul)]
AttributeName = Annotated[
    str, StringConstraints(min_length=1, max_length=64), AfterValidator(reject_nul)
]


class ProductChange(BaseModel):
    """What is new about one product. What is left out stays as it is; null clears."""

    model_config = STRICT | ConfigDict(
        json_schema_extra={"example": {"product_id": "85123A", "price": 2.75, "in_stock": True}}
    )

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
        default=None, allow_inf_nan=False, description="In whatever unit; only its order counts."
    )
    added_at: UtcDatetime | None = Field(default=None, description="Since when the shop has it.")
    attributes: dict[AttributeName, ShortText] | None = Field(
        default=None, max_length=50, description="To filter by; they replace all from before."
    )

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are given, null included, as JSON keeps them."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"product_id"})


class CatalogueRequest(BaseModel):
    """Changes of the catalogue; of several of one product the last one wins, field by field."""

    model_config = STRICT | ConfigDict(
        json_schema_extra={
            "example": {
                "upsert": [{"product_id": "85123A", "price": 2.75, "in_stock": True}],
                "delete": ["22423"],
            }
        }
    )

    upsert: list[ProductChange] = Field(
        default=[],
        max_length=MAX_CHANGES,
        description="Also brings back what was deleted, as it was.",
    )
    delete: list[StoredId] = Field(
        default=[], max_length=MAX_CHANGES, description="Products never to be shown any more."
    )

    @model_validator(mode="after")
    def _one_fate(self) -> Self:
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


class CatalogueAnswer(BaseModel):
    """What a request changed; every process that serves knows it within seconds."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {"upserted": 1, "deleted": 1, "unchanged": 0, "revision": 42}
        },
    )

    upserted: int
    deleted: int
    unchanged: int = Field(description="Products that were as they are asked to be.")
    revision: int = Field(description="Of the database; every write increases it.")


class ChangedProduct(NamedTuple):
    """All that was ever changed of a product: replaces what was known of its changes before."""

    product_id: str
    card: dict[str, Any]
    """Fields of ProductChange as JSON has them (`added_at` as text); an absent one is unchanged."""

    deleted: bool = False
    """An empty card that is not deleted: the product is as the bundle says."""
