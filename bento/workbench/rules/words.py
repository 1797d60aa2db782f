"""Rules in words, as parts of a sentence: the names in them are marked."""

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, Literal, NamedTuple

import pydantic_core
from pydantic import ValidationError

from bento.schemas.rules import RuleRequest, Scope

State = Literal["active", "upcoming", "ended"]

FindName = Callable[[str], str | None]
"""The name of a product, by its id."""


class Part(NamedTuple):
    text: str
    is_name: bool = False


Words = list[Part]


def describe(rule: RuleRequest, find_name: FindName) -> Words:
    """What the rule does and where, without its dates."""
    if rule.action == "set":
        return [Part(_describe_settings(rule)), *_describe_when(rule.when, find_name, "")]
    target = _describe_target(rule.target, find_name)
    place = _describe_when(rule.when, find_name, " on every page")
    start, end = PHRASES[rule.action]
    return [
        Part(start),
        *target,
        Part(end.format(rule=rule, factor=f"{rule.factor or 1:g}")),
        *place,
    ]


PHRASES: Mapping[str, tuple[str, str]] = {
    "block": ("Never show ", ""),
    "pin": ("Show ", " at position {rule.position}"),
    "boost": ("Move ", " up, {factor} ×"),
    "bury": ("Move ", " down, {factor} ×"),
    "exempt": ("Show ", " without the limit of its kind"),
}

SETTINGS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "max_own_kind": ("of the page's own kind", lambda n: _limit(n)),
    "max_same_kind": ("of any one kind", lambda n: _limit(n)),
    "diversity": ("diversity", lambda value: f"{value:g}"),
    "price_ratio": ("times dearer than the page's product", lambda value: f"at most {value:g}"),
    "strict": ("companions of proven evidence only", lambda value: "" if value else "not"),
    "include_out_of_stock": ("products out of stock", lambda value: "also" if value else "no"),
}


def _limit(n: int) -> str:
    return "any number" if n < 0 else f"at most {n}"


def _describe_settings(rule: RuleRequest) -> str:
    parts = []
    for name, value in rule.settings.given.items() if rule.settings else ():
        words, show = SETTINGS[name]
        shown = show(value)
        parts.append(f"{words} {shown}" if name == "diversity" else f"{shown} {words}".strip())
    return "Unless asked otherwise: " + ", ".join(parts)


def _describe_target(scope: Scope | None, find_name: FindName) -> Words:
    if scope is None:
        return [Part("everything")]
    kind, name = scope.key
    if kind == "product_id":
        return [Part(find_name(name) or name, True)]
    return [Part("everything in " if kind == "category" else "everything of "), Part(name, True)]


def _describe_when(scope: Scope | None, find_name: FindName, everywhere: str) -> Words:
    if scope is None:
        return [Part(everywhere)] if everywhere else []
    kind, name = scope.key
    if kind == "product_id":
        return [Part(" beside "), Part(find_name(name) or name, True)]
    preposition = "in" if kind == "category" else "of"
    return [Part(f" beside products {preposition} "), Part(name, True)]


def describe_body(body: str | Mapping[str, Any] | None, find_name: FindName) -> Words:
    """Of a stored rule, which may be unreadable, or none."""
    if body is None:
        return [Part("no rule")]
    rule = parse_body(body)
    return describe(rule, find_name) if rule else [Part("a rule that cannot be read")]


def parse_body(body: str | Mapping[str, Any] | None) -> RuleRequest | None:
    if body is None:
        return None
    text = body if isinstance(body, str) else pydantic_core.to_json(body)
    try:
        return RuleRequest.model_validate_json(text)
    except ValidationError:
        return None


def plain(words: Words) -> str:
    return "".join(part.text for part in words)


def find_state(rule: RuleRequest, now: datetime) -> State:
    if rule.ends_at is not None and rule.ends_at <= now:
        return "ended"
    return "upcoming" if rule.starts_at is not None and rule.starts_at > now else "active"


def describe_dates(rule: RuleRequest, now: datetime, zone: tzinfo) -> str:
    parts = []
    if rule.starts_at is not None:
        word = "from" if rule.starts_at > now else "since"
        parts.append(f"{word} {format_moment(rule.starts_at, zone, now)}")
    if rule.ends_at is not None:
        word = "until" if rule.ends_at > now else "ended"
        parts.append(f"{word} {format_moment(rule.ends_at, zone, now)}")
    return ", ".join(parts)


def format_moment(moment: datetime, zone: tzinfo, now: datetime) -> str:
    """The year only if it is another one, the time only if it is not midnight."""
    try:
        local = moment.astimezone(zone)
    except OverflowError:  # at the ends of the calendar
        local = moment
    year = f" {local.year}" if local.year != now.astimezone(zone).year else ""
    clock = f", {local:%H:%M}" if (local.hour, local.minute) != (0, 0) else ""
    return f"{local.day} {local:%b}{year}{clock}"


def list_product_ids(rule: RuleRequest) -> list[str]:
    scopes = (rule.target, rule.when)
    return [one.product_id for one in scopes if one is not None and one.product_id is not None]
