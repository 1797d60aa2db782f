"""What a person tunes: the state of the page, which is its URL."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from bento.schemas.requests import FilterText, RecommendRequest
from bento.workbench.errors import BadInput
from components.model.kind_limits import MaxOwnKind, MaxSameKind
from components.model.manifest import PopularityDiscount

Stock = Literal["", "in", "any"]
"""As by default, only what is in stock, all the same."""


Categories = Annotated[tuple[FilterText, ...], Field(max_length=100)]


class Tuning(BaseModel):
    """What is None or empty stays as the model and the rules have it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    discount: PopularityDiscount | None = None
    own: MaxOwnKind | None = None
    same: MaxSameKind | None = None
    diversity: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    ratio: Annotated[float, Field(gt=0, le=1e6)] | None = None
    strict: bool | None = None
    include: Categories = ()
    exclude: Categories = ()
    """Categories."""
    low: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    high: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Prices."""
    stock: Stock = ""

    @model_validator(mode="after")
    def _check_prices(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("a lowest price that is not above the highest")
        return self

    @property
    def is_empty(self) -> bool:
        return self == Tuning()

    @property
    def request_fields(self) -> dict[str, Any]:
        """Of a RecommendRequest, those that differ from the defaults."""
        fields: dict[str, Any] = {
            "max_own_kind": self.own,
            "max_same_kind": self.same,
            "diversity": self.diversity,
            "price_ratio": self.ratio,
            "strict": self.strict or None,
            "filters": self._filters() or None,
            "include_out_of_stock": True if self.stock == "any" else None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def defaults(self) -> dict[str, Any]:
        """Those that a rule can set as the service's."""
        own = self.request_fields
        return {name: value for name, value in own.items() if name != "filters"}

    @property
    def run_parameters(self) -> dict[str, Any]:
        """By their names in a training run."""
        own = {
            "popularity_discount": self.discount,
            "max_own_kind": self.own,
            "max_same_kind": self.same,
        }
        return {name: value for name, value in own.items() if value is not None}

    def query(self) -> list[tuple[str, str]]:
        """For a URL."""
        pairs: list[tuple[str, str]] = []
        for name, value in self.model_dump(exclude_defaults=True).items():
            values = value if isinstance(value, tuple) else (value,)
            pairs += [(name, _to_text(one)) for one in values]
        return pairs

    def ask(self, items: Sequence[str], k: int, **fields: Any) -> RecommendRequest:
        return RecommendRequest(items=list(items), k=k, **self.request_fields, **fields)

    def _filters(self) -> dict[str, Any]:
        filters: dict[str, Any] = {}
        if self.include or self.exclude:
            filters["category"] = {"include": list(self.include), "exclude": list(self.exclude)}
        if self.low is not None or self.high is not None:
            filters["price"] = {"min": self.low, "max": self.high}
        if self.stock == "in":
            filters["in_stock"] = True
        return filters


def parse_tuning(params: Mapping[str, str], lists: Mapping[str, Sequence[str]]) -> Tuning:
    """Raises BadInput, naming the field, the found and the expected."""
    single = {
        name: params[name].strip()
        for name in Tuning.model_fields.keys() - {"include", "exclude"}
        if params.get(name, "").strip()
    }
    several = {name: tuple(one for one in values if one) for name, values in lists.items()}
    try:
        return Tuning.model_validate(single | several)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"][:1])) or "prices"
        found = f"found {first['input']!r}, " if first["loc"] else ""
        expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise BadInput(f"{name}: {found}expected {expected}") from None


def _to_text(value: Any) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float)
        else str(int(value))
        if isinstance(value, bool)
        else str(value)
    )
