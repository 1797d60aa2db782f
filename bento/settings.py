"""Settings of a deployment, from environment variables, read once when the service starts."""

import ipaddress
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from components.model.kind_limits import MaxOwnKind, MaxSameKind

PREFIX = "FBT_"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

AnySettings = TypeVar("AnySettings", bound=BaseSettings)


class SettingsError(RuntimeError):
    """A variable has an unusable value."""


class Rate(NamedTuple):
    requests: int
    seconds: int


def parse_rate(text: Any) -> Any:
    """Of `100/s`, `100/m` or `100/h`. Raises ValueError."""
    if not isinstance(text, str):
        return text
    if not (found := re.fullmatch(r"([1-9]\d{0,8})/([smh])", text)):
        raise ValueError("a number of requests per second, minute or hour, such as 100/s or 3000/m")
    return Rate(int(found[1]), {"s": 1, "m": 60, "h": 3600}[found[2]])


def split_commas(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)


def parse_networks(text: Any) -> Any:
    """Raises ValueError."""
    try:
        return tuple(ipaddress.ip_network(one) for one in split_commas(text))
    except ValueError:
        raise ValueError(
            "addresses or networks between commas, such as 10.0.0.0/8,127.0.0.1"
        ) from None


class Settings(BaseSettings):
    """A field's variable is FBT_ and its name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_ignore_empty=True
    )

    bundle: Path | None = None
    """Directory of the bundle. Default: that of the packaged Bento."""

    model_version: str = Field(default="", max_length=128)
    """Name of the model in answers and metrics. Default: the packaged Bento's version."""

    variant: str = Field(default="default", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Name of this deployment in answers and metrics, such as an experiment's arm."""

    max_own_kind: MaxOwnKind | None = None
    """Most products of each kind asked for among the first five, unless a request gives its own; -1
    is no limit. Default: as the model was trained."""

    max_same_kind: MaxSameKind | None = None
    """As FBT_MAX_OWN_KIND, of any kind."""

    database_url: SecretStr | None = None
    """postgresql://USER:PASSWORD@HOST/NAME, sqlite:///FILE or `off`. Default: an SQLite file in
    BentoML's home, which replicas do not share."""

    max_connections: int = Field(default=4096, ge=1, le=1_000_000)
    """Per worker. More are answered 503 and closed."""

    read_timeout_s: float = Field(default=10.0, ge=0.1, le=3600)
    """For a request to arrive, and for a client to read its answer."""

    max_lag_ms: float = Field(default=250.0, ge=1, le=60_000)
    """Lag of the event loop beyond which requests are answered 503."""

    rate_limit: Annotated[Rate | None, NoDecode, BeforeValidator(parse_rate)] = None
    """Of one client address, per worker, such as 100/s; more is answered 429."""

    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(parse_networks)] = ()
    """Addresses or networks, between commas, whose X-Forwarded-For is believed."""

    admin_token: SecretStr | None = None
    """Bearer token for rules and catalogue, which are answered 403 without it."""

    admin_token_file: Path | None = None
    """File with the token instead, read again when it changes."""

    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)] = ()
    """Origins, between commas, whose pages may call the service; * is all."""

    events_url: SecretStr | None = None
    """Where shoppers' events and the recommendation log go: sqlite:///FILE,
    postgresql://USER:PASSWORD@HOST/NAME, kafka://HOST:PORT,HOST:PORT/PREFIX or `off`. Default: the
    database of FBT_DATABASE_URL where that is PostgreSQL, else an SQLite file in BentoML's home."""

    events_key: SecretStr | None = None
    """Public key that event requests must name; it allows nothing but to send events."""

    events_rate_limit: Annotated[Rate | None, NoDecode, BeforeValidator(parse_rate)] = None
    """Event requests of one client address, per worker, such as 10/s; more is answered 429."""

    events_index_base: int = Field(default=0, ge=0, le=1)
    """The `index` of the first product in the shop's events, unless a request declares its own."""

    events_max_age_h: float = Field(default=72, ge=1, le=24 * 30)
    """Older events are refused, those more than an hour in the future, too."""

    log_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the answers in the recommendation log; of an experiment's sessions it holds all."""

    experiment: Path | None = None
    """JSON file of an experiment; see bento/README.md."""

    sensitive_pairs: Literal["off", "warn", "block"] = "warn"
    """Tobacco, alcohol, infant formula, medicine and adult goods beside goods that are not of the
    same class: `warn` marks them in explained answers, `block` leaves them out."""

    as_of: date | None = None
    """Day whose season counts for the mark `out_of_season`, as 2026-12-01. Default: today."""

    tracing: bool = False
    """OpenTelemetry spans, exported as BentoML's `tracing` configuration says."""

    access_log: bool = False
    """One line of log for every request."""

    @model_validator(mode="after")
    def _check_tokens(self) -> Self:
        if self.admin_token is not None and self.admin_token_file is not None:
            raise ValueError("only one of FBT_ADMIN_TOKEN and FBT_ADMIN_TOKEN_FILE")
        return self

    def dump_changed(self) -> dict[str, Any]:
        """Settings that are not the default ones; secrets are masked."""
        return self.model_dump(mode="json", exclude_defaults=True)


def variable_name(field: str) -> str:
    return PREFIX + field.upper()


def read_settings() -> Settings:
    return read_environment(Settings)


def read_environment(kind: type[AnySettings]) -> AnySettings:
    """Raises SettingsError, naming every wrong variable. An empty variable counts as unset."""
    try:
        return kind()
    except ValidationError as error:
        texts = map(_describe_error, error.errors(include_url=False))
        raise SettingsError("; ".join(texts)) from None


def _describe_error(error: Any) -> str:
    expected = re.sub(r"^(Value error, |Input should (be )?)", "", error["msg"])
    if not error["loc"]:
        return f"settings: found both, expected {expected}"
    name = variable_name(str(error["loc"][0]))
    is_secret = any(word in name for word in ("TOKEN", "URL", "SECRET", "KEY"))
    found = "something else" if is_secret else repr(error["input"])
    return f"{name}: found {found}, expected {expected}"
