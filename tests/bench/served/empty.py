"""The least that can be served with BentoML. Serve `tests.bench.served.empty:Empty`."""

import bentoml


@bentoml.service(name="empty")
class Empty:
    """Knows nothing."""

    @bentoml.api(route="/recommend")  # type: ignore[untyped-decorator]
    def recommend(self, items: list[str], k: int = 10) -> list[str]:
        """No companions."""
        return []
