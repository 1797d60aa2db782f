"""What a deployment sets, by environment variables: read once, when the service starts."""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

PREFIX = "FBT_"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SettingsError(RuntimeError):
    """An environment variable holds what the service cannot use."""


class Rate(NamedTuple):
    """So many requests in so many seconds."""

    requests: int
    seconds: int


def parse_rate(text: Any) -> Any:
    """A Rate from `100/s`, `100/m` or `100/h`. Raises ValueError."""
    if not isinstance(text, str):
        return text
    if not (found := re.fullmatch(r"([1-9]\d{0,8})/([smh])", text)):
        raise ValueError("a number of requests per second, minute or hour, such as 100/s or 3000/m")
    return Rate(int(found[1]), {"s": 1, "m": 60, "h": 3600}[found[2]])


def split_commas(text: Any) -> Any:
    """What stands between commas."""
    if not isinstance(text, str):
        return text
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)


def parse_networks(text: Any) -> Any:
    """Networks from addresses and networks between commas. Raises ValueError."""
    try:
        return tuple(ipaddress.ip_network(one) for one in split_commas(text))
    except ValueError:
        raise ValueError(
            "addresses or networks between commas, such as 10.0.0.0/8,127.0.0.1"
        ) from None


class Settings(BaseModel):
    """Every setting of the service. A field is the variable FBT_ and its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path | None = None
    """Directory of the bundle to serve. Not set: the one that the packaged Bento carries."""

    model_version: str = Field(default="", max_length=128)
    """What answers and metrics call the model. Not set: the version of the packaged Bento."""

    variant: str = Field(default="default", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Name of this deployment in answers and metrics, such as that of an experiment's arm."""

    database_url: SecretStr | None = None
    """Where rules and catalogue changes live: postgresql://USER:PASSWORD@HOST/NAME, sqlite:///FILE,
    or `off`. Not set: an SQLite file in BentoML's home, which replicas do not share."""

    max_connections: int = Field(default=4096, ge=1, le=1_000_000)
    """Connections open at once, per worker. One more is answered 503 and closed."""

    read_timeout_s: float = Field(default=10.0, ge=0.1, le=3600)
    """Seconds in which a request, head and body, must have arrived, and an answer been taken."""

    max_lag_ms: float = Field(default=250.0, ge=1, le=60_000)
    """Milliseconds that the worker may be behind its own clock before it answers 503, at once."""

    rate_limit: Annotated[Rate | None, BeforeValidator(parse_rate)] = None
    """Requests of one client address, per worker, such as 100/s; more are answered 429. Off."""

    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(parse_networks)] = ()
    """Addresses or networks, between commas, whose X-Forwarded-For names the client. Nobody."""

    admin_token: SecretStr | None = None
    """Bearer token for what changes rules and catalogue. Not set: those answer 403."""

    admin_token_file: Path | None = None
    """File that holds the token instead, read again when it changes, as a mounted secret does."""

    cors_origins: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = ()
    """Origins, between commas, whose pages may call the service in a browser; * is every one."""

    tracing: bool = False
    """OpenTelemetry spans of requests, sent as BentoML's `tracing` configuration says."""

    access_log: bool = False
    """One line of log for every request."""

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.admin_token is not None and self.admin_token_file is not None:
            raise ValueError("only one of FBT_ADMIN_TOKEN and FBT_ADMIN_TOKEN_FILE")
        return self

    def shown(self) -> dict[str, Any]:
        """The settings that are not the default ones, for a log; without the token."""
        shown: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        return shown


def variable_name(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of an environment; what is set to nothing counts as not set.

    Raises SettingsError, naming every variable that is wrong.
    """
    found = os.environ if environment is None else environment
    given = {name: found.get(variable_name(name), "") for name in Settings.model_fields}
    try:
        return Settings.model_validate({name: text for name, text in given.items() if text})
    except ValidationError as error:
        complaints = "; ".join(map(_complaint, error.errors(include_url=False)))
        raise SettingsError(complaints) from None


def _complaint(one: Any) -> str:
    expected = re.sub(r"^(Value error, |Input should (be )?)", "", one["msg"])
    if not one["loc"]:
        return f"settings: found both, expected {expected}"
    name = variable_name(str(one["loc"][0]))
    # A secret is not repeated.
    found = "something else" if "token" in name.lower() else repr(one["input"])
    return f"{name}: found {found}, expected {expected}"
