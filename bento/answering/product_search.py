"""Typo-tolerant, search-as-you-type product search by name, id, category and brand.

A query is matched in stages: as an id, a whole name, the prefix of an id, by all tokens (the last
one may be a prefix), by all tokens with typos, and by some tokens. Products come by stage, then by
sales. In scripts without spaces, tokens are pairs of characters.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bento.answering.catalogue import Catalogue
from bento.answering.segment_query import SegmentQuery
from bento.schemas.responses import Match
from components.model.arrays import Int32Array
from components.model.bundle import Bundle
from components.model.token_index import hash_name, normalize_id, spelling
from components.model.top_k import find_top_k

MIN_ID_PREFIX = 3


class SearchHit(NamedTuple):
    row: int
    match: Match


class RankedRow(NamedTuple):
    """A catalogue row; the lowest comes first."""

    cost: float
    row: int


class ProductSearch:
    def __init__(self, bundle: Bundle) -> None:
        self._index = bundle.token_index

    def find(self, catalogue: Catalogue, text: str, limit: int) -> list[SearchHit]:
        """Up to `limit` products, best first, without deleted ones."""
        tokens, segments = spelling(text), catalogue.list_segments(self._index)
        queries = [SegmentQuery(segment, text, tokens) for segment in segments]
        found: dict[int, SearchHit] = {}
        row = catalogue.row(text)
        if row is not None and not catalogue.is_deleted(row):
            found[row] = SearchHit(row, "id")
        for match, search in STAGES:
            if len(found) >= (1 if search in FALLBACK_STAGES else limit):
                break
            n = limit + len(found)
            for _, row in sorted(search(queries, n))[:n]:
                found.setdefault(row, SearchHit(row, match))
        return list(found.values())[:limit]


def match_name(queries: Sequence[SegmentQuery], limit: int) -> Iterator[RankedRow]:
    for query in queries:
        name = hash_name(query.all_tokens, query.text)
        yield from _take(query, query.index.find_by_name([name]), limit)


def match_id_prefix(queries: Sequence[SegmentQuery], limit: int) -> Iterator[RankedRow]:
    for query in queries:
        prefix = normalize_id(query.text)
        if len(prefix) >= MIN_ID_PREFIX:
            yield from _take(query, np.sort(query.index.find_by_id_prefix(prefix)), limit)


def match_all_tokens(queries: Sequence[SegmentQuery], limit: int) -> Iterator[RankedRow]:
    for query in queries:
        rows = query.match_all(query.postings)
        yield from _names_first(query, rows, query.hash_completed_names, limit)


def match_unknown_fuzzily(queries: Sequence[SegmentQuery], limit: int) -> Iterator[RankedRow]:
    for query in queries:
        if query.unknown:
            rows = query.match_all(query.fuzzy_unknown_postings)
            yield from _names_first(query, rows, query.hash_corrected_names, limit)


def match_all_fuzzily(queries: Sequence[SegmentQuery], limit: int) -> Iterator[RankedRow]:
    for query in queries:
        rows = query.match_all(query.fuzzy_postings)
        yield from _names_first(query, rows, query.hash_corrected_names, limit)


def match_some_tokens(queries: Sequence[SegmentQuery], limit: int) -> Iterator[RankedRow]:
    """By the sum of the inverse document frequencies of the tokens found."""
    if len(queries[0].tokens) < 2:
        return
    by_token = zip(*(query.fuzzy_unknown_postings for query in queries), strict=True)
    n_rows = np.array([sum(one.size for one in segments) for segments in by_token], np.float32)
    n_products = sum(query.index.n_products for query in queries)
    weights = np.log1p(n_products / np.maximum(n_rows, 1))
    for query in queries:
        rows, sums = query.match_some(weights)
        top = find_top_k(sums, limit)
        catalogue_rows = query.segment.to_catalogue_rows(rows[top])
        yield from map(RankedRow, (-sums[top]).tolist(), catalogue_rows)


STAGES: tuple[tuple[Match, Callable[[Sequence[SegmentQuery], int], Iterator[RankedRow]]], ...] = (
    ("name", match_name),
    ("id_start", match_id_prefix),
    ("words", match_all_tokens),
    ("typos", match_unknown_fuzzily),
    ("typos", match_all_fuzzily),
    ("some_words", match_some_tokens),
)
"""In the order in which they are tried, with their names in the answer."""

FALLBACK_STAGES = (match_all_fuzzily, match_some_tokens)


def _take(query: SegmentQuery, rows: Int32Array, limit: int, cost: int = 0) -> Iterator[RankedRow]:
    live = query.segment.keep_live(rows)[:limit]
    return (RankedRow(cost, row) for row in query.segment.to_catalogue_rows(live))


def _names_first(
    query: SegmentQuery, rows: Int32Array, hash_names: Callable[[], list[int]], limit: int
) -> Iterator[RankedRow]:
    if len(rows):
        yield from _take(query, np.unique(query.index.find_by_name(hash_names())), limit)
        yield from _take(query, rows, limit, cost=1)
