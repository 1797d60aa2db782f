"""How often product pages were looked at, read once in a while: a log takes seconds to read."""

import time
from collections.abc import Mapping

from bento.workbench.judging.page_views import count_views
from bento.workbench.judging.queue import MIN_VIEWS

AGE_S = 1800.0


class PageViews:
    def __init__(self) -> None:
        self._read_at, self._views = -AGE_S, dict[str, int]()

    @property
    def is_old(self) -> bool:
        return time.monotonic() - self._read_at > AGE_S

    def get(self, url: str | None) -> Mapping[str, int] | None:
        """By product id; None where there are too few to tell more than orders do."""
        if self.is_old:
            self._views, self._read_at = count_views(url), time.monotonic()
        return self._views if sum(self._views.values()) >= MIN_VIEWS else None
