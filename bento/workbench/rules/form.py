"""The form of a rule: what a person typed, and the rule that it makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from pydantic import ValidationError

from bento.schemas.problems import FieldError, field_errors
from bento.schemas.rules import RuleRequest, RuleSettings
from bento.workbench.errors import BadInput

SCOPES = {"target": "target_kind", "when": "when_kind"}

MAX_DIGITS = 18
"""Larger numbers are none of a database's."""

FLAGS = ("strict", "include_out_of_stock")

EMPTY: Mapping[str, str] = {
    "action": "block",
    "target_kind": "product_id",
    "target": "",
    "when_kind": "",
    "when": "",
    "position": "1",
    "factor": "3",
    "starts_at": "",
    "ends_at": "",
    "note": "",
    **{f"set_{name}": "" for name in RuleSettings.model_fields},
}
"""The fields, and their values where none is given."""


@dataclass(frozen=True)
class RuleForm:
    values: Mapping[str, str]
    """As typed; moments are in `zone`."""
    zone: tzinfo

    @classmethod
    def read(cls, given: Mapping[str, Any], zone: tzinfo) -> "RuleForm":
        """From a form or a query; a `when` without a kind is a product's id."""
        values = {**EMPTY, **{name: str(given[name]) for name in EMPTY if name in given}}
        if values["when"] and "when_kind" not in given:
            values["when_kind"] = "product_id"
        return cls({name: value.replace("\r\n", "\n") for name, value in values.items()}, zone)

    @classmethod
    def fill(cls, rule: RuleRequest, zone: tzinfo) -> "RuleForm":
        values = {**EMPTY, "action": rule.action, "note": rule.note}
        for field, kind_field in SCOPES.items():
            if (scope := getattr(rule, field)) is not None:
                values[kind_field], values[field] = scope.key
        if rule.position is not None:
            values["position"] = str(rule.position)
        if rule.factor is not None:
            values["factor"] = f"{rule.factor:g}"
        for field in ("starts_at", "ends_at"):
            if (moment := getattr(rule, field)) is not None:
                values[field] = _format_moment(moment, zone)
        for name, value in (rule.settings.given if rule.settings else {}).items():
            values[f"set_{name}"] = _format_setting(value)
        return cls(values, zone)

    def parse(self) -> tuple[RuleRequest | None, list[FieldError]]:
        """The rule, or what is wrong with the fields."""
        values, errors = self.values, list[FieldError]()
        action = values["action"]
        given: dict[str, Any] = {"action": action, "note": values["note"].strip()}
        for field, kind_field in SCOPES.items():
            if (kind := values[kind_field]) and not (field == "target" and action == "set"):
                given[field] = {kind: values[field].strip()}
        if action == "pin":
            given["position"] = self._number("position", int, "1 to 100", errors)
        if action in ("boost", "bury"):
            given["factor"] = self._number("factor", float, "above 1, at most 1000", errors)
        for field in ("starts_at", "ends_at"):
            given[field] = self._moment(field, errors)
        start, end = given["starts_at"], given["ends_at"]
        if start and end and end <= start:
            expected = "a moment later than the start"
            errors.append(FieldError(field="ends_at", found=values["ends_at"], expected=expected))
            del given["ends_at"]
        if action == "set":
            given["settings"] = self._settings(errors)
        try:
            rule = RuleRequest.model_validate(given)
        except ValidationError as error:
            named = {one.field for one in errors}
            more = [_rename(one) for one in field_errors(error, RuleRequest)]
            return None, [*errors, *(one for one in more if one.field not in named)]
        return (None, errors) if errors else (rule, [])

    def _number(self, field: str, kind: type, expected: str, errors: list[FieldError]) -> Any:
        text = self.values[field].strip()
        try:
            return kind(text) if text else None
        except ValueError:
            errors.append(
                FieldError(field=field, found=text[:80], expected=f"a number, {expected}")
            )
            return None

    def _moment(self, field: str, errors: list[FieldError]) -> datetime | None:
        text = self.values[field].strip()
        try:
            local = datetime.fromisoformat(text).replace(tzinfo=self.zone) if text else None
            return local and local.astimezone(UTC)
        except (ValueError, OverflowError):
            expected = "a date and a time like 2030-01-31T09:00, of the years 1 to 9999"
            errors.append(FieldError(field=field, found=text[:80], expected=expected))
            return None

    def _settings(self, errors: list[FieldError]) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for name in RuleSettings.model_fields:
            text = self.values[f"set_{name}"].strip()
            if name in FLAGS and text:
                settings[name] = text == "true"
            elif text:
                kind = int if name.startswith("max_") else float
                settings[name] = self._number(f"set_{name}", kind, "or empty", errors)
        return settings


def parse_number(field: str, text: str) -> int:
    """Of a revision or a version. Raises BadInput."""
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise BadInput(f"{field}: found {text[:20]!r}, expected a number of the page before")
    return int(text)


def _format_moment(moment: datetime, zone: tzinfo) -> str:
    try:
        return moment.astimezone(zone).replace(tzinfo=None).isoformat(timespec="minutes")
    except OverflowError:  # at the ends of the calendar
        return moment.replace(tzinfo=None).isoformat(timespec="minutes")


def _format_setting(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _rename(error: FieldError) -> FieldError:
    """To the form's field; an error of the whole rule has the field `body`."""
    first, _, rest = error.field.partition(".")
    if first == "settings":
        first = f"set_{rest}" if rest else "settings"
    if first == "note":
        error = error.model_copy(update={"expected": error.expected.replace("items", "characters")})
    if first in SCOPES and '""' in error.found:
        error = error.model_copy(update={"found": "nothing"})
    return error.model_copy(update={"field": first})
