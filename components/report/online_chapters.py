"""Chapters of the online report, from cleaned events."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.experiments.experiment import Experiment
from components.online.agreement import (
    Agreement,
    MeasuredVersion,
    OnlineValue,
    measure_agreement,
)
from components.online.events import OnlineEvents, count_cleaned
from components.online.measures import Dimension, measure
from components.online.position_bias import correct_click_through, estimate_position_bias
from components.online.propensities import drop_unsure, estimate_needed_lists
from components.progress import log_progress
from components.registry.online import OnlineMeasure, VersionMeasures
from components.report.experiment_chapters import read_experiments
from components.report.formatting import count
from components.report.online_page import Bounds, Day, OnlinePage, Part, Place
from components.report.online_windows import find_open_windows, say_open_windows

AGREEING = ("click_through", "purchase_rate", "revenue_per_1000")
"""Online measures that offline ones are to predict."""
MIN_SESSIONS = 100
"""Below, a version's online measures are not compared with its offline ones."""

THIN_DAY = 0.1
"""A day with less than this share of the usual impressions, such as the first or the last hour of
an experiment, is no point of a line."""
MIN_IMPRESSIONS = 100
"""Below, a category is not shown alone: its rates are chance."""

READ = {
    "rows": "Products in events",
    "kept": "of them usable",
    "lists": "Answers in the log",
    "seen_lists": "of them seen",
    "impressions": "Products seen",
    "nightly_orders": "Orders of the nightly lines",
}
LEFT_OUT = {
    "repeated": "Sent again under the same event id",
    "other_event": "Events of unknown names",
    "future": "More than an hour in the future",
    "bad_value": "Impossible quantities or prices",
    "fast_clicks": "Robots: too many clicks in an hour",
    "fast_events": "Robots: too many events in a minute",
    "blind_clicks": "Robots: clicks without anything seen",
    "repeated_order": "Orders told twice",
    "unknown_request": "Of answers that are not in the log",
    "other_session": "Of another session's answer",
    "not_in_list": "Products that the answer did not hold",
    "before_list": "Before the answer was given",
    "unseen_click": "Clicks on products that were not seen",
    "no_list": "Views and clicks without a list",
    "no_touch": "Products in carts and orders without a recommendation before",
    "unpriced": "Bought products without a price",
    "repeated_lists": "Answers logged twice",
    "robot_sessions": "Sessions of robots",
    "orders_without_session": "Nightly orders without a session",
    "lines_without_event": "Nightly lines that no event told",
}
SUMS = {"click_through": "clicks", "add_rate": "adds", "purchase_rate": "purchases"}


def collect_page(
    online: OnlineEvents,
    experiments: Sequence[Experiment] = (),
    versions: Sequence[VersionMeasures] = (),
    now: datetime | None = None,
) -> OnlinePage:
    """`versions` are those of the registry, for the agreement of offline and online."""
    now = now or datetime.now(UTC)
    log_progress("measures of versions and arms")
    total = measure_parts(online, [], "All")
    groups = measure_parts(online, ["experiment", "arm", "model_version"])
    groups = _sort_groups(groups, experiments)
    log_progress("measures of every day")
    days = measure_days(online)
    log_progress("measures of positions")
    places, place_words = measure_places(online)
    parts = {}
    for name in ("category", "context", "source"):
        log_progress(f"measures by {name}")
        parts[name] = measure_parts(online, [name])
    parts["category"] = sum_small(parts["category"], "categories")
    log_progress("experiments")
    found, holdouts = read_experiments(online, experiments, now)
    first, last = find_window(online)
    counts = count_cleaned(online)
    return OnlinePage(
        made_at=now, first=first, last=last, rule=say_rule(online),
        counts={words: counts[name] for name, words in READ.items() if counts.get(name)},
        cleaning=[(words, counts[name]) for name, words in LEFT_OUT.items() if counts.get(name)],
        total=total[0] if total else None, groups=groups, days=days, places=places,
        place_words=place_words, parts=parts, experiments=found, holdouts=holdouts,
        agreements=compare_offline(online, versions),
        open_words=say_open_windows(find_open_windows(online, now), online.settings.window_h),
    )  # fmt: skip


def make_empty_page(now: datetime | None = None) -> OnlinePage:
    return OnlinePage(
        made_at=now or datetime.now(UTC), first=None, last=None, rule="", counts={}, cleaning=[],
        total=None,
    )  # fmt: skip


def say_rule(online: OnlineEvents) -> str:
    settings = online.settings
    text = (
        f"A product that goes into the cart or is bought counts for the {settings.touch} "
        f"recommendation of it that the session saw, within {settings.window_h:g} hours."
    )
    [(share,)] = online.db.execute("select min(share) from recommendation_files").fetchall()
    if share is not None and share < 1:
        text += (
            f" The log holds {share:.0%} of some answers, so that attach rates are too low; "
            "rates per product seen are not."
        )
    return text


def find_window(online: OnlineEvents) -> tuple[datetime | None, datetime | None]:
    [moments] = online.db.execute("select min(ts), max(ts) from served").fetchall()
    if moments[0] is None:
        return None, None
    first, last = (datetime.fromtimestamp(us / 1e6, UTC) for us in moments)
    return first, last


def measure_parts(online: OnlineEvents, by: Sequence[Dimension], label: str = "") -> list[Part]:
    """One for each group; without dimensions, one named `label`."""
    parts: dict[tuple[Any, ...], Part] = {}
    rows = measure(online, by).to_pylist()
    has_several = _has_several_experiments(rows)
    for row in rows:
        key = tuple(row[name] for name in by)
        name = label or _label(by, row, has_several)
        part = parts.setdefault(key, Part(name, {}, {}))
        _add(part, row)
    return [part for part in parts.values() if part.counts.get("impressions")]


def _sort_groups(groups: Sequence[Part], experiments: Sequence[Experiment]) -> list[Part]:
    """Controls first, then by impressions."""
    names = [(one.name, name_group(one.arms[0].name, "")) for one in experiments]
    controls = tuple(text for name, group in names for text in (group, f"{name}: {group}"))
    return sorted(
        groups,
        key=lambda one: (
            not (controls and one.label.startswith(controls)),
            -one.counts["impressions"],
            one.label,
        ),
    )


def sum_small(parts: Sequence[Part], words: str) -> list[Part]:
    """Those with few impressions as one part, without ranges."""
    small = [one for one in parts if one.counts["impressions"] < MIN_IMPRESSIONS]
    if len(small) < 2:
        return list(parts)
    names = ("impressions", *SUMS.values())
    sums = {name: sum(one.counts.get(name, 0) for one in small) for name in names}
    nan = float("nan")
    rates = {
        name: Bounds(sums[counted] / sums["impressions"], nan, nan)
        for name, counted in SUMS.items()
    }
    rest = Part(f"Others: {count(len(small))} {words}", sums, rates, is_rest=True)
    return [one for one in parts if one not in small] + [rest]


def _add(part: Part, row: Mapping[str, Any]) -> None:
    """Into the dictionaries of the part."""
    assert isinstance(part.measures, dict)
    assert isinstance(part.counts, dict)
    part.measures[row["measure"]] = _bound(row)
    if row["measure"] in SUMS:
        part.counts[SUMS[row["measure"]]] = row["numerator"]
        part.counts["impressions"] = row["denominator"]
        part.counts["sessions"] = row["n_sessions"]


def _label(by: Sequence[str], row: Mapping[str, Any], has_several: bool) -> str:
    if list(by) == ["experiment", "arm", "model_version"]:
        return _name_row(row, has_several)
    return " · ".join(_name_value(name, row[name]) for name in by)


def _name_value(dimension: str, value: Any) -> str:
    text = "not known" if value is None else str(value)
    return text.replace("_", " ") if dimension in ("context", "source") else text


def _has_several_experiments(rows: Sequence[Mapping[str, Any]]) -> bool:
    """No experiment is one as well."""
    return len({row.get("experiment") for row in rows}) > 1


def _name_row(row: Mapping[str, Any], has_several: bool) -> str:
    experiment = row["experiment"] if has_several else None
    group = name_group(row["arm"], row["model_version"])
    return f"{experiment}: {group}" if experiment else group


def name_group(arm: str, version: str) -> str:
    return f"{arm} · version {version}"


def _bound(row: Mapping[str, Any]) -> Bounds:
    return Bounds(*(_number(row[name]) for name in ("value", "lower", "upper")))


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def measure_days(online: OnlineEvents) -> list[Day]:
    """Without thin days."""
    days: dict[tuple[Any, str], dict[str, Bounds]] = {}
    impressions: dict[str, dict[Any, float]] = {}
    rows = measure(online, ["day", "experiment", "arm", "model_version"]).to_pylist()
    has_several = _has_several_experiments(rows)
    for row in rows:
        day, label = row["day"], _name_row(row, has_several)
        days.setdefault((day, label), {})[row["measure"]] = _bound(row)
        if row["measure"] == "click_through":
            impressions.setdefault(label, {})[day] = row["denominator"]
    usual = {label: median(found.values()) for label, found in impressions.items()}
    return [
        Day(day, label, found)
        for (day, label), found in days.items()
        if impressions.get(label, {}).get(day, 0) >= THIN_DAY * usual.get(label, 0)
    ]


def measure_places(online: OnlineEvents) -> tuple[list[Place], str]:
    """And how the bias was measured, in words."""
    propensities = estimate_position_bias(online, "seen")
    raw = measure(online, ["position"])
    raw = raw.filter(pc.equal(raw["measure"], "click_through"))
    sure = drop_unsure(propensities)
    looks = _by_position(propensities)
    corrected = _by_position(correct_click_through(online, sure, ["position"]))
    places = [
        Place(
            row["position"], row["denominator"], _bound(row),
            _bound(corrected[row["position"]]) if row["position"] in corrected else None,
            _bound_propensity(looks[row["position"]]) if row["position"] in looks else None,
        )
        for row in raw.sort_by("position").to_pylist()
    ]  # fmt: skip
    return places, _say_swaps(propensities)


def _bound_propensity(row: Mapping[str, Any]) -> Bounds:
    return Bounds(*(_number(row[name]) for name in ("propensity", "lower", "upper")))


def _by_position(table: pa.Table) -> dict[int, dict[str, Any]]:
    return {row["position"]: row for row in table.to_pylist()}


def _say_swaps(propensities: pa.Table) -> str:
    drawn = ("n_swapped", "n_unswapped")
    n = sum(pc.sum(propensities[name]).as_py() or 0 for name in drawn)
    if not n:
        return (
            "How much more is not known, as no neighbours were swapped at random: an experiment "
            "with swap_share measures it."
        )
    text = f"How much more was measured by swapping neighbours at random, in {count(n)} lists."
    return f"{text} {_say_needed(estimate_needed_lists(propensities), n)}".strip()


def _say_needed(needed: Mapping[int, float], n: float) -> str:
    """`needed` are lists by the position that they make sure."""
    unsure = {position: lists for position, lists in needed.items() if lists > n}
    if not unsure:
        return ""
    first, last = min(unsure), max(unsure)
    text = (
        "Unsure places, whose range ends at more than twice its beginning, are not corrected: "
        f"place {first + 1} needs about {_round(unsure[first])} such lists"
    )
    most = max(unsure.values())
    return text + (f", all to place {last + 1} about {_round(most)}." if last > first else ".")


def _round(value: float) -> str:
    """To two digits: it is an estimate."""
    return count(float(f"{value:.1e}"))


def compare_offline(
    online: OnlineEvents, versions: Sequence[VersionMeasures]
) -> dict[str, list[Agreement]]:
    """By online measure, over versions with this window's or else recorded online measures."""
    found = {part.label: part for part in measure_parts(online, ["model_version"])}
    agreements = {}
    for name in AGREEING:
        measured = [
            MeasuredVersion(one.version, one.offline, value)
            for one in versions
            if one.offline and (value := _find_online(one, found.get(one.version), name))
        ]
        if measured:
            agreements[name] = measure_agreement(measured)
    return agreements


def _find_online(version: VersionMeasures, part: Part | None, name: str) -> OnlineValue | None:
    recorded = version.online.get(name)
    if part and part.counts["sessions"] >= MIN_SESSIONS and name in part.measures:
        found = part.measures[name]
        return OnlineValue(found.mean, found.low, found.high)
    if recorded and recorded.lower is not None and recorded.upper is not None:
        return OnlineValue(recorded.value, recorded.lower, recorded.upper)
    return None


def measure_versions(online: OnlineEvents) -> dict[str, tuple[dict[str, OnlineMeasure], int]]:
    """Measures and sessions by version, to be recorded."""
    return {
        part.label: (
            {
                name: OnlineMeasure(
                    found.mean, *(None if np.isnan(x) else x for x in (found.low, found.high))
                )
                for name, found in part.measures.items()
                if not np.isnan(found.mean)
            },
            int(part.counts["sessions"]),
        )
        for part in measure_parts(online, ["model_version"])
    }
