"""The configuration that request and response models share."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Response(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": fields})
