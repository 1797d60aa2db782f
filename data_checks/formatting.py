"""Numbers, bounds and examples as texts for the report."""

from collections.abc import Mapping, Sequence

from data_checks.expectations import Expectation, Unit


def format_bounds(check: Expectation) -> str:
    least, most, unit = check.min_value, check.max_value, check.unit
    if least is None:
        return f"at most {format_number(most, unit)}" if most else "none"
    if most is None:
        return f"at least {format_number(least, unit)}"
    start = f"{least:g}" if unit == "times" else format_number(least, unit)
    return f"{start} to {format_number(most, unit)}"


def format_examples(check: Expectation, found: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each list of the profile that the check names, if it holds any."""
    return [
        f"{title}: {', '.join(f'“{one}”' for one in found[name])}."
        for name, title in check.examples.items()
        if found.get(name)
    ]


def format_number(value: float, unit: Unit) -> str:
    if unit == "share":
        return _format_percent(value)
    if unit == "count":
        return f"{value:,.0f}" if value else "none"
    whole = abs(value) >= 100 or value == int(value)
    plain = f"{value:,.0f}" if whole else _format_decimal(value)
    ending = {"times": " ×", "days": " day" if plain == "1" else " days"}
    return plain + ending.get(unit, "")


def _format_percent(share: float) -> str:
    if 0 < share < 0.0001:
        return "under 0.01 %"
    if 0.9999 < share < 1:
        return "over 99.99 %"
    return f"{_format_decimal(100 * share)} %"


def _format_decimal(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
