"""The table look-up with FastAPI. Factory: `tests.bench.served.with_fastapi:app`."""

from typing import Any

from tests.bench.served.plain import Answer, PlainLookUp, Question


def app() -> Any:
    """The application over the bundle in FBT_BUNDLE."""
    return application(PlainLookUp())


def application(look_up: Any) -> Any:
    """POST /recommend, answered by `look_up.answer`, and GET /readyz."""
    from fastapi import FastAPI

    made = FastAPI()

    @made.post("/recommend")
    async def recommend(question: Question) -> Answer:
        answer: Answer = look_up.answer(question)
        return answer

    @made.get("/readyz")
    async def ready() -> str:
        return "ready"

    return made
