"""The same answers with nothing around: ASGI by hand. Factory: `tests.bench.served.bare:app`.

`POST /recommend` looks one product up; `POST /cart` does the whole search for a cart. Neither
checks, limits, counts or logs anything.
"""

import gc
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bento.answering.answer import Answer, AnswerItem
from bento.answering.catalogue import Catalogue
from bento.answering.rendering import ResponseRenderer
from bento.answering.rules import RuleSet
from bento.answering.selection import Selection
from bento.schemas.requests import RecommendRequest
from bento.schemas.rules import Rule
from components.model.bundle import read_bundle
from components.model.recommender import Recommender
from tests.bench.served.plain import VARIANT, VERSION

RULES = "FBT_BENCH_RULES"
"""Variable: a file with a JSON list of rules."""


def app() -> Any:
    """The application over the bundle in FBT_BUNDLE."""
    bundle = read_bundle(Path(os.environ["FBT_BUNDLE"]), verify=False)
    assert bundle.precomputed is not None
    catalogue = Catalogue(bundle.records, bundle.facets)
    selection = Selection(Recommender(bundle), catalogue)
    selection.rules = _rules()
    rendering = ResponseRenderer(VERSION, VARIANT)
    precomputed, row_of = bundle.precomputed, bundle.records.row

    def look_up(body: bytes) -> bytes:
        asked = json.loads(body)
        row, k = row_of(asked["items"][0]), asked["k"]
        rows, scores = precomputed.rows[row, :k].tolist(), precomputed.scores[row, :k].tolist()
        shown = [AnswerItem(one, score, "model") for one, score in zip(rows, scores, strict=True)]
        return rendering.response(Answer(shown, "model", catalogue), _request_id(), None)

    def search(body: bytes) -> bytes:
        found = selection.recommend(RecommendRequest.model_validate_json(body))
        return rendering.response(found, _request_id(), None)

    gc.collect()
    gc.freeze()
    return _application({"/recommend": look_up, "/cart": search, "/readyz": lambda body: b"{}"})


def _application(answers: dict[str, Callable[[bytes], bytes]]) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await _live(receive, send)
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        content = answers[scope["path"]](body)
        length = (b"content-length", b"%d" % len(content))
        headers = [(b"content-type", b"application/json"), length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return application


async def _live(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _rules() -> RuleSet:
    file = os.environ.get(RULES)
    return (
        RuleSet(
            Rule.model_validate_json(json.dumps(one)) for one in json.loads(Path(file).read_bytes())
        )
        if file
        else RuleSet()
    )


def _request_id() -> str:
    return f"{random.getrandbits(128):032x}"
