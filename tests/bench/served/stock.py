"""The table look-up as a BentoML service written the usual way: all settings as BentoML has them.

Serve `tests.bench.served.stock:Stock`.
"""

import bentoml

from tests.bench.served.plain import Answer, PlainLookUp, Question


@bentoml.service(name="stock")
class Stock:
    """An asynchronous API between pydantic models."""

    def __init__(self) -> None:
        self.look_up = PlainLookUp()

    @bentoml.api(route="/recommend")  # type: ignore[untyped-decorator]
    async def recommend(self, question: Question, /) -> Answer:
        """What is bought together with a product."""
        return self.look_up.answer(question)
