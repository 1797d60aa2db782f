"""Error bodies (RFC 9457), and validation errors as fields of them."""

import json
import re
from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationError

from bento.schemas.base import Response, example

MAX_FIELD_ERRORS = 20


class FieldError(Response):
    """One error in a request."""

    field: str = Field(description="The field, or a position in it such as `items.3`.")
    found: str
    expected: str


class Problem(Response):
    """The reason for a refusal (RFC 9457, application/problem+json)."""

    model_config = example(
        type="about:blank",
        title="Bad Request",
        status=400,
        detail="k: found 101, expected less than or equal to 100",
        errors=[{"field": "k", "found": "101", "expected": "less than or equal to 100"}],
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = Field(default_factory=list)


def field_errors(error: ValidationError, model: type[BaseModel]) -> list[FieldError]:
    """The first MAX_FIELD_ERRORS errors of a `model`."""
    errors = error.errors(include_url=False)[:MAX_FIELD_ERRORS]
    return [_to_field_error(one, model) for one in errors]


def shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _to_field_error(error: Any, model: type[BaseModel]) -> FieldError:
    kind, message = error["type"], error["msg"]
    field = ".".join(shorten(str(part)) for part in error["loc"]) or "body"
    if kind == "missing":
        return FieldError(field=field, found="nothing", expected="a value, as it is required")
    if kind == "extra_forbidden":
        known = ", ".join(sorted(_find_model(model, error["loc"][:-1]).model_fields))
        return FieldError(field=field, found="an unknown field", expected=f"only {known}")
    if kind == "json_invalid":
        found = message.removeprefix("Invalid JSON: ")
        return FieldError(field=field, found=found, expected="a JSON object in UTF-8")
    expected = re.sub(r"^\w+ should (be|have) | after validation, not .*$", "", message)
    return FieldError(field=field, found=_describe(error["input"]), expected=expected)


def _find_model(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    for part in location:
        field = model.model_fields.get(str(part))
        inner = _list_models(field.annotation) if field else []
        model = inner[0] if inner else model
    return model


def _list_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _list_models(part)]


def _describe(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    return shorten(json.dumps(value, ensure_ascii=False))
