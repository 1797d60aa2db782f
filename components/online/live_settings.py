"""Settings of the exporter of online metrics."""

import os

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

PREFIX = "FBT_ONLINE_"


class LiveSettings(BaseModel):
    """A field's variable is FBT_ONLINE_ and its name in capitals; that of `events_url`, which the
    service reads, too, is FBT_EVENTS_URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events_url: SecretStr = SecretStr("")
    """The sink, as the service's setting of that name."""
    host: str = "0.0.0.0"
    port: int = Field(default=9101, ge=0, le=65535)
    poll_s: float = Field(default=5, gt=0, le=300)

    window_h: float = Field(default=48, gt=0, le=24 * 31)
    """Sessions of so many hours are compared."""
    outcome_min: float = Field(default=30, gt=0, le=24 * 60)
    """A session counts once so much time has passed since its first list, with what happened
    until then."""
    late_min: float = Field(default=2, ge=0, le=60)
    """Events may arrive by so much later."""
    request_window_h: float = Field(default=24, gt=0, le=24 * 31)
    """Events up to so long after their list are counted by version."""

    max_requests: int = Field(default=300_000, ge=1)
    """Lists in memory, about 700 bytes each; the oldest are dropped, and counted."""
    max_sessions: int = Field(default=200_000, ge=1)
    max_waiting: int = Field(default=50_000, ge=0)
    """Events in memory that came before their list."""
    max_lists: int = Field(default=200, ge=1)
    """A session with more lists is a robot, and is not compared."""
    max_arms: int = Field(default=20, ge=1, le=200)
    """Pairs of model version and arm with series of their own; further ones are `other`."""
    max_compared: int = Field(default=5, ge=2, le=20)
    """Versions, and pairs of version and arm, that are compared with each other: those with the
    most sessions of the last hours."""

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """The bounds of two versions are wrong at any time with this probability."""


def read_settings() -> LiveSettings:
    """Raises ValueError that names every wrong variable."""
    given = {name: os.environ.get(PREFIX + name.upper()) for name in LiveSettings.model_fields}
    given["events_url"] = os.environ.get("FBT_EVENTS_URL")
    try:
        return LiveSettings.model_validate({name: value for name, value in given.items() if value})
    except ValidationError as error:
        texts = (f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise ValueError("; ".join(texts)) from None
