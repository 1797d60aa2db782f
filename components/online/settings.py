"""Rules: which events are a person's, and for which recommendation they count."""

from pathlib import Path
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

Touch = Literal["last", "first"]


class OnlineSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    since: AwareDatetime | None = None
    """Lists from this moment count."""
    until: AwareDatetime | None = None
    """Lists before this moment count, with what followed within the window."""
    history_days: float = Field(default=14, ge=0, le=400)
    """Events of so many days before `since` are read, for what sessions did earlier."""

    window_h: float = Field(default=24, gt=0, le=24 * 90)
    """Carts and orders up to so long after a product was seen count for the recommendation."""
    touch: Touch = "last"
    """Of several lists that were seen within the window, the one that counts."""
    list_window_h: float = Field(default=1, gt=0, le=24)
    """Impressions and clicks without a request id belong to the session's last list with the
    product, up to so long before."""
    clock_skew_s: float = Field(default=60, ge=0, le=3600)
    """Clocks of shoppers and service may differ by so much."""

    max_clicks_h: int = Field(default=200, ge=1)
    """A session with more clicks within an hour of the clock is a robot."""
    max_events_min: int = Field(default=120, ge=1)
    """A session with more events within a minute of the clock is a robot."""
    max_blind_clicks: int = Field(default=5, ge=0)
    """A session with more clicks and not one impression is a robot."""

    memory_mb: int = Field(default=1200, ge=200)
    """DuckDB's own limit; the process takes some 300 MB more."""
    threads: int | None = Field(default=None, ge=1)
    """Default: as many as there are cores."""
    scratch: Path | None = None
    """Folder for intermediate tables, about 60 bytes an event. Default: the system's."""

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.since and self.until and self.until <= self.since:
            raise ValueError(f"until: found {self.until}, expected after since, {self.since}")
        return self
