"""The list of rules: filtered, sorted and paged as the address says."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from bento.schemas.rules import Rule
from bento.workbench.rules.rule_book import RuleBook
from bento.workbench.rules.words import find_state

PAGE_SIZE = 50

STATES = ("active", "upcoming", "ended")

SORTS = ("newest", "oldest", "author", "effect")


class RuleFilter(NamedTuple):
    q: str = ""
    action: str = ""
    state: str = ""
    product: str = ""
    """The id of a product that the rule is about, as a target or a `when`."""
    author: str = ""
    conflicts: str = ""
    """Anything: only rules with conflicts."""
    sort: str = "newest"
    page: int = 1

    @classmethod
    def read(cls, query: Mapping[str, str]) -> "RuleFilter":
        texts = {name: query.get(name, "").strip() for name in cls._fields if name != "page"}
        page = query.get("page", "1")
        number = int(page) if page.isascii() and page.isdigit() and len(page) < 6 else 1
        texts["sort"] = texts["sort"] if texts["sort"] in SORTS else "newest"
        return cls(**texts, page=max(number, 1))

    @property
    def is_any(self) -> bool:
        """Whether rules are left out."""
        return any(self[:6])

    def find_address(self, **other: Any) -> str:
        """Of the list with other values, without those that are as by default."""
        values = {**self._asdict(), **other}
        default = RuleFilter()._asdict()
        query = {name: value for name, value in values.items() if value != default[name]}
        return f"/rules?{urlencode(query)}" if query else "/rules"


class RulePage(NamedTuple):
    rules: Sequence[Rule]
    n_found: int
    n_pages: int
    page: int


def list_page(
    book: RuleBook, wanted: RuleFilter, now: datetime, effects: Mapping[str, int]
) -> RulePage:
    """`effects` is how often a rule acted."""
    found = [rule for rule in book.rules if _matches(book, rule, wanted, now)]
    key, is_reversed = _find_sort_key(wanted.sort, effects)
    found.sort(key=key, reverse=is_reversed)
    n_pages = max(1, -(-len(found) // PAGE_SIZE))
    page = min(wanted.page, n_pages)
    start = (page - 1) * PAGE_SIZE
    return RulePage(found[start : start + PAGE_SIZE], len(found), n_pages, page)


def _matches(book: RuleBook, rule: Rule, wanted: RuleFilter, now: datetime) -> bool:
    return (
        (not wanted.action or rule.action == wanted.action)
        and (not wanted.state or find_state(rule, now) == wanted.state)
        and (not wanted.author or rule.created_by == wanted.author)
        and (not wanted.product or _is_about(rule, wanted.product))
        and (not wanted.conflicts or rule.rule_id in book.conflicts)
        and all(word in book.texts[rule.rule_id] for word in wanted.q.casefold().split())
    )


def _is_about(rule: Rule, product_id: str) -> bool:
    scopes = (rule.target, rule.when)
    return any(one is not None and one.product_id == product_id for one in scopes)


def _find_sort_key(sort: str, effects: Mapping[str, int]) -> tuple[Callable[[Rule], Any], bool]:
    if sort == "author":
        return lambda rule: (rule.created_by.casefold(), rule.created_at), False
    if sort == "effect":
        return lambda rule: effects.get(rule.rule_id, 0), True
    return lambda rule: rule.created_at, sort == "newest"
