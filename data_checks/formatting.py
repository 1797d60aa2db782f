"""Figures as a reader wants to see them."""

from data_checks.expectations import Expectation, Unit


def format_bounds(item: Expectation) -> str:
    """What the expectation allows, as it is shown."""
    least, most = item["kwargs"]["min_value"], item["kwargs"]["max_value"]
    unit = item["meta"]["unit"]
    if least is None:
        return "none" if not most else f"at most {format_number(most, unit)}"
    if most is None:
        return f"at least {format_number(least, unit)}"
    ending = f" to {format_number(most, unit)}"
    return (f"{least:g}" if unit == "times" else format_number(least, unit)) + ending


def format_number(value: float, unit: Unit) -> str:
    """The number as it is shown, with its unit."""
    if unit == "share":
        return _percent(value)
    if unit == "count":
        return f"{value:,.0f}" if value else "none"
    whole = abs(value) >= 100 or value == int(value)
    plain = f"{value:,.0f}" if whole else _format_decimal(value)
    ending = {"times": " ×", "days": " day" if plain == "1" else " days"}
    return plain + ending.get(unit, "")


def _percent(share: float) -> str:
    if 0 < share < 0.0001:
        return "under 0.01 %"
    if 0.9999 < share < 1:
        return "over 99.99 %"
    return f"{_format_decimal(100 * share)} %"


def _format_decimal(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
