"""Merchandising rules as people write them and as the service stores them."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bento.schemas.base import Request, Response, example
from components.model.kind_limits import MaxOwnKind, MaxSameKind

Action = Literal["pin", "block", "boost", "bury", "exempt", "set"]

ACTIONS: tuple[str, ...] = get_args(Action)

DEFAULTS = {("position", "pin"): 1, ("factor", "boost"): 3.0, ("factor", "bury"): 3.0}


def reject_nul(text: str) -> str:
    """PostgreSQL cannot store NUL."""
    if "\0" in text:
        raise PydanticCustomError("nul", "text without NUL characters")
    return text


def to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("far_moment", "a moment of the years 1 to 9999 in UTC") from None


StoredId = Annotated[
    str, StringConstraints(min_length=1, max_length=256), AfterValidator(reject_nul)
]
StoredText = Annotated[str, AfterValidator(reject_nul)]
UtcDatetime = Annotated[AwareDatetime, AfterValidator(to_utc)]


class Scope(Request):
    """Exactly one of a product, a category and a brand, compared case-sensitively."""

    model_config = example(product_id="85123A")

    product_id: StoredId | None = None
    category: StoredId | None = None
    brand: StoredId | None = None

    @model_validator(mode="after")
    def _check_exactly_one(self) -> Self:
        if (self.product_id, self.category, self.brand).count(None) != 2:
            raise PydanticCustomError("scope", "exactly one of product_id, category, brand")
        return self

    @property
    def key(self) -> tuple[str, str]:
        if self.product_id is not None:
            return "product_id", self.product_id
        if self.category is not None:
            return "category", self.category
        return "brand", self.brand or ""


class RuleSettings(Request):
    """Defaults of requests, by the names of their fields; at least one."""

    model_config = example(max_own_kind=2)

    max_own_kind: MaxOwnKind | None = Field(
        default=None, description="As in a request: -1 is no limit."
    )
    max_same_kind: MaxSameKind | None = Field(
        default=None, description="As in a request: -1 is no limit."
    )
    diversity: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    price_ratio: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="As one given in a request: dearer products are left out. Not at checkout.",
    )
    strict: bool | None = None
    include_out_of_stock: bool | None = None

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if not self.given:
            raise PydanticCustomError("no_setting", "at least one setting")
        return self

    @property
    def given(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class RuleRequest(Request):
    """A merchandising rule."""

    model_config = example(
        action="pin",
        target={"product_id": "22423"},
        when={"product_id": "85123A"},
        position=1,
        ends_at="2030-01-01T00:00:00Z",
        note="The cake stand beside the teacup, until stock is gone",
    )

    action: Action = Field(
        description="`pin` shows a product at a fixed position, `block` never shows it, `boost` "
        "and `bury` move it up and down, `exempt` lifts the limits of kinds for it: with a "
        "category as `target` and `when`, yoghurt may be answered with four yoghurts. A block "
        "overrides a pin. `set` gives requests that do not ask themselves the values of "
        "`settings`."
    )
    target: Scope | None = Field(
        default=None,
        validate_default=True,
        description="The products to act on. A pin takes a single product. Required, except with "
        "`set`, which takes none.",
    )
    when: Scope | None = Field(
        default=None,
        description="The rule applies to requests for such a product; null means all requests. "
        "A product in both `target` and `when` makes a rule for that pair.",
    )
    position: int | None = Field(
        default=None,
        validate_default=True,
        ge=1,
        le=100,
        description="Of a pin, 1 (the default) to 100.",
    )
    factor: float | None = Field(
        default=None,
        validate_default=True,
        gt=1,
        le=1000,
        allow_inf_nan=False,
        description="Of a boost or bury, by default 3. A boost divides the rank by it, a bury "
        "multiplies the rank. The factors of several rules multiply.",
    )
    settings: RuleSettings | None = Field(
        default=None,
        description="Of a `set`, required there. Of several rules that set the same, the one with "
        "the most specific `when` applies: a product before a category or brand, these before "
        "null; of equals the one created last. A field of the request itself comes before all.",
    )
    starts_at: UtcDatetime | None = Field(
        default=None, description="Start, inclusive; null means now."
    )
    ends_at: UtcDatetime | None = Field(
        default=None, description="End, exclusive; null means none."
    )
    note: Annotated[StoredText, StringConstraints(max_length=500)] = Field(
        default="", description="The reason for the rule."
    )

    @field_validator("target")
    @classmethod
    def _check_target(cls, target: Scope | None, info: ValidationInfo) -> Scope | None:
        # An invalid action is missing here and has an error of its own.
        action = info.data.get("action")
        if target is None and action not in ("set", None):
            raise PydanticCustomError("target_missing", "a target, required of all rules but set")
        if target is not None and action == "set":
            raise PydanticCustomError("target_unused", "no target where action is set")
        return target

    @field_validator("position", "factor")
    @classmethod
    def _set_default(cls, given: float | None, info: ValidationInfo) -> float | None:
        key = (str(info.field_name), str(info.data.get("action")))
        return DEFAULTS.get(key) if given is None else given

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.action == "pin" and (self.target is None or self.target.product_id is None):
            raise PydanticCustomError("pin_target", "a pin whose target is a product_id")
        if self.action != "pin" and self.position is not None:
            raise PydanticCustomError("position_unused", "a position only where action is pin")
        if self.action not in ("boost", "bury") and self.factor is not None:
            raise PydanticCustomError("factor_unused", "a factor only for boost or bury")
        if (self.action == "set") != (self.settings is not None):
            raise PydanticCustomError("settings_place", "settings where action is set, only there")
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            raise PydanticCustomError("window", "ends_at later than starts_at")
        return self


RULE_EXAMPLE = {
    "rule_id": "0f5c1e3a9b7d4f60a1c2d3e4f5a6b7c8",
    "action": "bury",
    "target": {"category": "Gift wrap"},
    "factor": 3.0,
    "created_at": "2026-01-01T09:00:00Z",
    "updated_at": "2026-01-01T09:00:00Z",
    "created_by": "ann",
}


class Rule(RuleRequest):
    """A stored rule."""

    model_config = example(**RULE_EXAMPLE)

    rule_id: str
    created_at: UtcDatetime
    updated_at: UtcDatetime
    created_by: str

    def is_active(self, now: datetime) -> bool:
        return (self.starts_at is None or self.starts_at <= now) and (
            self.ends_at is None or now < self.ends_at
        )


class RuleList(Response):
    """All rules, oldest first."""

    model_config = example(revision=42, rules=[RULE_EXAMPLE], malformed=[])

    revision: int = Field(description="The database's; every write increases it.")
    rules: list[Rule]
    malformed: list[str] = Field(
        description="Ids of rules that this release cannot read and does not apply."
    )
