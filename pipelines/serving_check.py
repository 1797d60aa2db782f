"""Compares the answers of a real service process with the model's."""

import http.client
import json
import time
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np

from bento.answering.answer import Answer
from bento.answering.catalogue import Catalogue
from bento.answering.selection import Selection
from bento.schemas.requests import RecommendRequest
from components.model.arrays import BoolArray
from components.model.bundle import Bundle, BundleError, read_bundle
from components.model.recommender import Recommender
from components.package.server import Server, ServerError, serve_bundle
from components.progress import log_progress

Query = dict[str, Any]

TOLERANCE = 1e-4
"""Relative; two processes may sum an inner product in different order."""

MAX_K = 100
"""Largest `k` of a request."""

SHOWN_ERRORS = 5


def check_serving(bundle_dir: Path, n_requests: int, seed: int) -> dict[str, Any]:
    """Times are of sequential requests, NaN without any. Failures are reported, not raised."""
    report = {"started": False, "asked": 0, "correct": 0, "p50_ms": np.nan, "p99_ms": np.nan}
    try:
        selection = build_selection(read_bundle(bundle_dir))
        queries = sample_queries(selection, n_requests, seed)
        with serve_bundle(bundle_dir) as server:
            report["started"] = True
            return {**report, **_send_queries(server, selection, queries)}
    except (BundleError, ServerError, OSError) as error:
        return {**report, "errors": [str(error)]}


def build_selection(bundle: Bundle) -> Selection:
    """Without rules and catalogue changes."""
    return Selection(
        Recommender(bundle), Catalogue(bundle.records, bundle.facets, bundle.sensitive)
    )


def sample_queries(selection: Selection, n: int, seed: int) -> list[Query]:
    """Every tenth query contains an unknown product."""
    rng = np.random.default_rng(seed)
    ids = selection.recommender.bundle.product_ids
    queries: list[Query] = []
    for number in range(n):
        size = 1 if rng.random() < 0.6 else int(rng.integers(2, 8))
        items = [ids[row] for row in rng.integers(0, len(ids), size)]
        if number % 10 == 0:
            items[int(rng.integers(size))] = f"no such product {number}"
        queries.append({"items": items, "k": int(rng.choice([1, 5, 10, 20, 100]))})
    return queries


def _send_queries(server: Server, selection: Selection, queries: list[Query]) -> dict[str, Any]:
    address = urllib.parse.urlsplit(server.url).netloc
    connection = http.client.HTTPConnection(address, timeout=10)
    times_ms, errors = [], []
    for query in queries:
        start = time.perf_counter()
        status, answer = _post(connection, query)
        times_ms.append(1000 * (time.perf_counter() - start))
        if error := find_difference(query, status, answer, selection):
            errors.append(f"{json.dumps(query, ensure_ascii=False)}: {error}")
    connection.close()
    p50, p99 = np.percentile(times_ms, [50, 99]) if times_ms else (np.nan, np.nan)
    n_correct = len(queries) - len(errors)
    log_progress(f"{n_correct} of {len(queries)} answers of a real service are correct")
    return {
        "asked": len(queries),
        "correct": n_correct,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "errors": errors[:SHOWN_ERRORS],
    }


def _post(connection: http.client.HTTPConnection, query: Query) -> tuple[int, Any]:
    """Status 0 and the error if the connection fails."""
    body = json.dumps(query).encode()
    try:
        connection.request("POST", "/recommend", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (http.client.HTTPException, OSError, ValueError) as error:
        connection.close()
        return 0, repr(error)


def find_difference(query: Query, status: int, answer: Any, selection: Selection) -> str:
    """Empty if the answer is correct."""
    if status != 200:
        return f"status {status}, expected 200: {str(answer)[:200]}"
    expected = _recommend(query, selection, query["k"])
    found = [item["product_id"] for item in answer["items"]]
    if len(set(found)) < len(found):
        return f"contains a product twice: {found}"
    if asked_for := set(found) & set(query["items"]):
        return f"contains products of the request: {sorted(asked_for)}"
    for name, value in (("source", expected.source), ("unknown", list(expected.unknown))):
        if answer[name] != value:
            return f"{name} is {answer[name]!r}, expected {value!r}"
    wanted = [expected.catalogue.card(one.row)["product_id"] for one in expected.shown]
    if len(found) != len(wanted):
        return f"{len(found)} products, expected {len(wanted)}"
    scores = [item["score"] for item in answer["items"]]
    expected_scores = [one.score for one in expected.shown]
    correct = _is_close(scores, expected_scores)
    if found != wanted:
        # Products of equal score may swap.
        every = _recommend(query, selection, MAX_K)
        own = {every.catalogue.card(one.row)["product_id"]: one.score for one in every.shown}
        tied = _is_close([own.get(one) for one in found], expected_scores)
        correct &= (np.array(found) == np.array(wanted)) | tied
    if not correct.all():
        at = int(np.flatnonzero(~correct)[0])
        return f"place {at} is {found[at]} ({scores[at]}), expected {wanted[at]}"
    return ""


def _recommend(query: Query, selection: Selection, k: int) -> Answer:
    return selection.recommend(RecommendRequest(items=query["items"], k=k))


def _is_close(scores: list[float | None], expected: list[float | None]) -> BoolArray:
    found, due = np.array(scores, float), np.array(expected, float)
    close: BoolArray = np.isclose(found, due, rtol=TOLERANCE, atol=TOLERANCE)
    return close
