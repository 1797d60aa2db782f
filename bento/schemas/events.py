"""Shoppers' events as shops send them in fbt's own format, and the answer."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from bento.schemas.base import Request, Response, example
from bento.schemas.problems import FieldError
from bento.schemas.requests import ProductId
from bento.schemas.rules import reject_nul
from components.events.event import EventName

MAX_EVENTS = 1000
MAX_ITEMS = 1000
MAX_INDEX = 10_000
MAX_AMOUNT = 1e9

Format = Literal["native", "ga4", "segment"]


def reject_addresses(text: str) -> str:
    """Ids are stored: they must not say who the shopper is."""
    if "@" in text or "%40" in text:
        raise PydanticCustomError("address", "an anonymous id, which an e-mail address is not")
    if "\0" in text:
        raise PydanticCustomError("nul", "text without NUL characters")
    return text


def reject_booleans(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("not_a_number", "a number")
    return value


Id = Annotated[
    str, StringConstraints(min_length=1, max_length=128), AfterValidator(reject_addresses)
]
ListId = Annotated[
    str, StringConstraints(min_length=1, max_length=256), AfterValidator(reject_addresses)
]
Amount = Annotated[
    float, Field(ge=0, le=MAX_AMOUNT, allow_inf_nan=False), BeforeValidator(reject_booleans)
]
Time = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})]
"""Checked later, by `bento.events.times`."""


class Sent(BaseModel):
    """Numbers may come as text, and ids as numbers: data layers hold both."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class SentItem(Sent):
    item_id: Annotated[ProductId, AfterValidator(reject_nul)] = Field(
        description="The product's id."
    )
    index: Annotated[int, BeforeValidator(reject_booleans)] | None = Field(
        default=None,
        ge=0,
        le=MAX_INDEX,
        description="Position in the list of recommendations, from 0 or from 1: see `index_base`.",
    )
    quantity: Amount | None = None
    price: Amount | None = Field(default=None, description="Per unit, in the shop's currency.")


class SentEvent(Sent):
    """Other fields are ignored."""

    event: EventName = Field(
        description="An impression (the products were in the viewport), a click, products put "
        "into the cart, an order. GA4's `name` is understood, too; events of other names are "
        "ignored."
    )
    event_id: Id = Field(
        description="Of the shop's making, and the same when the event is sent again: it is stored "
        "once."
    )
    timestamp: Time | None = Field(
        default=None,
        description="ISO 8601 with a time zone, or seconds, milliseconds or microseconds since "
        "1970. Default: now.",
    )
    session_id: Id | None = Field(
        default=None, description="The visit, anonymous, as in requests for recommendations."
    )
    request_id: ListId | None = Field(
        default=None,
        description="Of the answer that was shown. GA4's `item_list_id` is understood, too.",
    )
    order_id: Id | None = Field(
        default=None,
        description="Required of a purchase. GA4's `transaction_id` is understood, too.",
    )
    items: list[SentItem] = Field(min_length=1, max_length=MAX_ITEMS)


class EventBatch(Sent):
    """Actions of shoppers."""

    model_config = example(
        events=[
            {
                "event": "view_item_list",
                "event_id": "5e1f8c3a-1",
                "session_id": "s-83f1",
                "request_id": "7d0c5a9e0f6b4a7f8a52c7e1f0b3d911",
                "items": [{"item_id": "22423", "index": 0}, {"item_id": "22699", "index": 1}],
            }
        ]
    )

    events: list[SentEvent] = Field(min_length=1, max_length=MAX_EVENTS)
    sent_at: Time | None = Field(
        default=None,
        description="The client's clock when it sends: times are corrected by its difference from "
        "the service's clock.",
    )


class EventsQuery(Request):
    model_config = ConfigDict(strict=False)

    format: Format = Field(
        default="native",
        description="`ga4`: a body of Google Analytics 4's Measurement Protocol. `segment`: a "
        "track call of Segment's e-commerce specification v2, or a batch of them.",
    )
    index_base: int | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The position of the first product. Default: the service's "
        "FBT_EVENTS_INDEX_BASE.",
    )
    key: str | None = Field(
        default=None, max_length=256, description="The service's FBT_EVENTS_KEY."
    )
    api_secret: str | None = Field(
        default=None, max_length=256, description="As `key`, under GA4's name."
    )
    measurement_id: str | None = Field(
        default=None, max_length=256, description="GA4's; it is ignored."
    )
    firebase_app_id: str | None = Field(
        default=None, max_length=256, description="GA4's; it is ignored."
    )


class RefusedEvent(Response):
    """An event that is not stored."""

    index: int = Field(description="Its place in the request, from 0.")
    event_id: str | None
    errors: list[FieldError]


class EventsAnswer(Response):
    """The outcome of each event. Accepted ones are stored."""

    model_config = example(
        accepted=49,
        duplicates=0,
        conflicts=0,
        ignored_events=3,
        ignored_fields=12,
        refused=[
            {
                "index": 7,
                "event_id": "5e1f8c3a-8",
                "errors": [
                    {
                        "field": "items.0.price",
                        "found": "-2",
                        "expected": "greater than or equal to 0",
                    }
                ],
            }
        ],
    )

    accepted: int
    duplicates: int = Field(description="Stored before; sending again does no harm.")
    conflicts: int = Field(description="Another event has the same id: the first one stays.")
    ignored_events: int = Field(description="Events of other kinds, such as `page_view`.")
    ignored_fields: int = Field(description="Fields that fbt does not know.")
    refused: list[RefusedEvent]


class ErasedSession(Response):
    """A session that was erased."""

    model_config = example(session_id="s-83f1", erased=17)

    session_id: str
    erased: int = Field(description="Events and logged recommendations.")
