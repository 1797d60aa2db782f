"""Settings of a deployment about awkward pairs."""

from datetime import date
from typing import Literal, NamedTuple


class AwkwardSettings(NamedTuple):
    sensitive_pairs: Literal["off", "warn", "block"] = "warn"
    as_of: date | None = None
    """The day whose season counts; None is today, in UTC."""

    @property
    def marks_sensitive(self) -> bool:
        return self.sensitive_pairs != "off"

    @property
    def blocks_sensitive(self) -> bool:
        return self.sensitive_pairs == "block"


DEFAULT_SETTINGS = AwkwardSettings()
