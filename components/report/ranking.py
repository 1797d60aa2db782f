"""What ranking measured on validation baskets, as the rows and sentences of the report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from components.report.formatting import count, figure, is_number, minus, value

Measurements = Mapping[str, Any]

WEIGHTINGS: Mapping[str, tuple[str, str, str]] = {
    "size_exponent": (
        "How large baskets count",
        "untouched at 1: a product spreads one vote over its companions; 0: each gets a whole one",
        "exponent {:g}",
    ),
    "half_life_days": (
        "Old orders count less",
        "an order of that age counts half",
        "half at {:g} days",
    ),
    "window_days": (
        "Old orders are left out",
        "orders older than that do not count at all",
        "only {:g} days",
    ),
    "join_hours": (
        "Orders of one customer are joined",
        "what was ordered within so many hours is one basket",
        "within {:g} hours",
    ),
    "reach": (
        "What lies near counts",
        "only products at most so far apart in a basket make a pair, the nearer the more",
        "{:g} places",
    ),
    "cart_recency": (
        "The latest in a cart counts most",
        "what a product says loses so much with each one put in later",
        "times {:g}",
    ),
}
"""A trick's title, what its value does, and the value in a few letters."""

WEIGHTS: Mapping[str, Mapping[str, str]] = {
    "a": {
        "vectors": "Vectors",
        "page_cooccurrence": "Bought-together counts",
        "beta_single": "Popularity",
        "page_trend": "Trend: bought more often lately",
    },
    "b": {
        "neighbours": "Neighbours",
        "cooccurrence": "Bought-together counts",
        "cosine": "Similar company (cosine)",
        "vectors": "Vectors",
        "trend": "Trend: bought more often lately",
    },
}
"""What is mixed, by task and by the name of its weight."""

BLEND = "blend"
PARTS = {
    BLEND: "The blend",
    "vectors": "Vectors alone",
    "co-occurrence": "Counts alone",
    "neighbours": "Neighbours alone",
    "neighbours, sum": "Neighbours, summed",
    "co-occurrence, sum": "Counts, summed",
    "co-occurrence, max": "Counts, largest",
    "vectors, max of softmax": "Vectors, likeliest",
    "vectors, sum of softmax": "Vectors, summed",
    "vectors, mean": "Vectors, averaged",
}
"""What is measured alone."""

FEATURES = {
    "neighbours_sum": "neighbours, summed over the cart",
    "neighbours_max": "neighbours, strongest voice",
    "neighbours_min": "neighbours, weakest voice",
    "probability_sum": "bought together, summed",
    "probability_max": "bought together, strongest",
    "recent_sum": "bought together lately, summed",
    "recent_max": "bought together lately, strongest",
    "cosine_sum": "similar company, summed",
    "cosine_max": "similar company, strongest",
    "lift_sum": "more often than by chance, summed",
    "lift_max": "more often than by chance, strongest",
    "support_max": "number of baskets with both",
    "reverse_max": "bought together, seen from the other",
    "share_paired": "share of the cart that speaks for it",
    "vector_max": "vectors, strongest",
    "vector_sum": "vectors, summed",
    "vector_mean": "vectors, averaged",
    "reverse_vector_max": "vectors, seen from the other",
    "alike_max": "likeness of vectors",
    "log_popularity": "its popularity",
    "trend_short": "its trend, two weeks",
    "trend_long": "its trend, six weeks",
    "basket_size": "size of the baskets it is in",
    "days_unsold": "days since it was last sold",
    "n_asked": "number of products in the cart",
    "asked_popularity": "popularity of what is asked",
    "asked_trend": "trend of what is asked",
    "asked_basket_size": "size of baskets of what is asked",
    "category_lift": "categories that go together",
    "category_share": "share of the cart in its category",
    "same_category": "same category",
    "same_brand": "same brand",
    "price_ratio": "its price to that of what is asked",
    "described_alike": "likeness of what is written on it",
}
"""What the re-ranker looks at; a feature speaks of a candidate unless it says otherwise."""

LEVELS = {
    "none": "nothing is left out",
    "same_name": "the same",
    "but_numbers": "the same but for numbers",
    "but_colours": "the same but for numbers, colours, sizes",
    "but_one_word": "the same but for numbers, colours, sizes, one word",
}
"""How alike the names of variants are, by the names of `variants.LEVELS`."""

COLD_START_METHODS = {
    "model": "If the model knew it",
    "attribute_neighbours": "What look-alikes go with",
    "category_bestsellers": "Its category's bestsellers",
    "bestsellers": "Bestsellers",
}
"""Ways to answer for a product that the model does not know, and what knowing it is worth."""

SHOWN_FEATURES = 8


@dataclass(frozen=True)
class Change:
    """A line of a picture of changes: bounds are {"mean", "low", "high"}, as shares."""

    label: str
    bounds: Measurements
    own: bool = False
    """Whether it is what the model does."""


def weighting_groups(tricks: Iterable[Measurements]) -> list[tuple[str, str, list[Measurements]]]:
    """Title, explanation and rows of every trick that was tried."""
    found = []
    for name, rows in groupby(tricks or [], key=lambda row: str(row["trick"])):
        title, meaning, _ = WEIGHTINGS.get(name, (name.replace("_", " ").capitalize(), "", ""))
        found.append((title, meaning, list(rows)))
    return found


def weighting_value(row: Measurements) -> str:
    """The value tried, in a few letters."""
    _, _, template = WEIGHTINGS.get(str(row["trick"]), ("", "", f"{row['trick']} {{:g}}"))
    return template.format(row["value"])


def explain_no_change(row: Measurements, basket_counts: Measurements) -> str:
    """Why a trick did nothing at all; empty where it did something."""
    bounds = [(row.get(task) or {}).get(name) for task in "ab" for name in ("mean", "low", "high")]
    if any(bounds):
        return ""
    if row["trick"] == "size_exponent":
        return "not measured: no validation basket asks"
    if not basket_counts.get("first_order"):
        return "not measured: the orders have no times"
    if row["trick"] == "join_hours":
        return "nothing changed: no customer is known to have ordered twice so soon"
    return "nothing changed: no order is that old, or some orders have no times"


def weighting_changes(
    tricks: Iterable[Measurements], task: str, basket_counts: Measurements
) -> list[Change]:
    """What every trick that did something did to a task."""
    return [
        Change(weighting_value(row), row.get(task) or {}, bool(row.get("used")))
        for row in tricks or []
        if not explain_no_change(row, basket_counts)
    ]


def task_measurements(manifest_ranking: Measurements, task: str) -> Measurements:
    """What was measured of pages (`a`) or carts (`b`); empty where nothing was."""
    found: Measurements = manifest_ranking.get({"a": "pages", "b": "carts"}[task]) or {}
    return found


def list_weights(measured: Measurements, task: str) -> list[tuple[str, Any]]:
    """What is mixed and by which weight, the heaviest first. Vectors are what pages begin with."""
    weights = measured.get("weights") or {}
    found = {"vectors": 1.0, **weights} if task == "a" and weights else weights
    names = WEIGHTS[task]
    rows = [(names.get(name, name), weight) for name, weight in found.items()]
    return sorted(rows, key=lambda one: -(one[1] or 0))


def list_parts(measured: Measurements) -> list[tuple[str, float]]:
    """Name and NDCG of the blend, then of every part alone, the best first."""
    parts = {name: ndcg for name, ndcg in (measured.get("parts") or {}).items() if is_number(ndcg)}
    order = sorted(parts, key=lambda name: (name != BLEND, -parts[name]))
    return [(name, parts[name]) for name in order]


def part_name(name: str) -> str:
    """A part as readers know it."""
    return PARTS.get(name, name.capitalize())


def describe_blend(measured: Measurements, task: str) -> list[str]:
    """What the weights and the parts mean, in sentences."""
    parts = dict(list_parts(measured))
    blend, alone = parts.get(BLEND), [name for name in parts if name != BLEND]
    if blend is None or not alone:
        return []
    best = alone[0]
    said = [
        f"The blend reaches {figure(blend)}, {_relative_difference(blend, parts[best])} the best part "
        f"alone: “{part_name(best)}”, {figure(parts[best])}."
    ]
    return said + (
        _describe_item_blend(parts) if task == "a" else _describe_cart_blend(measured, parts)
    )


def _describe_item_blend(parts: Mapping[str, float]) -> list[str]:
    vectors = parts.get("vectors")
    if vectors is None:
        return []
    return [
        f"Pages always listen to the vectors. Alone these reach {figure(vectors)}; the blend is "
        f"{_relative_difference(parts[BLEND], vectors)} that."
    ]


def _describe_cart_blend(measured: Measurements, parts: Mapping[str, float]) -> list[str]:
    fused = [name for name in parts if name != BLEND]
    said = [f"Of the ways to fuse a cart into one answer, “{part_name(fused[0])}” is the best."]
    by_vectors = [name for name in fused if name.startswith("vectors")]
    if not by_vectors:
        return said
    best, reached = part_name(by_vectors[0]), figure(parts[by_vectors[0]])
    if (measured.get("weights") or {}).get("vectors") == 0:
        said.append(
            "The vectors' share came out as zero: beside neighbours and counts they added "
            f"nothing on validation baskets. Alone they reach {reached} at best (“{best}”)."
        )
    else:
        said.append(f"Vectors alone reach {reached} at best (“{best}”), and add to the blend.")
    return said


def _relative_difference(ours: float, theirs: float) -> str:
    if not theirs:
        return "beside"
    more = 100 * (ours / theirs - 1)
    return f"{abs(more):.1f}\u202f% {'above' if more >= 0 else 'below'}"


def percent_change(share: Any) -> str:
    """A relative change with its sign; one too small to be seen is none."""
    if not is_number(share):
        return "–"
    text = f"{100 * share:+.1f}"
    return f"{'0.0' if float(text) == 0 else minus(text)}\u202f%"


def top_features(measured: Measurements) -> list[tuple[str, float]]:
    """What tells the re-ranker most, in words, with shares of what all features tell."""
    found = (measured.get("forest") or {}).get("features") or []
    return [(FEATURES.get(name, name), share) for name, share in found[:SHOWN_FEATURES]]


def variant_rows(variants: Iterable[Measurements]) -> list[Measurements]:
    """The chosen rule and the strictest of every level, as they come: the strictest first."""
    seen, rows = set(), []
    for row in variants or []:
        if row["chosen"] or row["level"] not in seen:
            rows.append(row)
        seen.add(row["level"])
    return rows


def variant_rule(row: Measurements) -> str:
    """Which pairs a rule leaves out, besides by their names."""
    bounds = []
    if is_number(row.get("lift")):
        lift = value(row["lift"])
        bounds.append(f"bought together less than {lift}× as often as by chance")
    if is_number(row.get("cosine")):
        bounds.append(f"vectors alike by {value(row['cosine'])} or more")
    return ", ".join(bounds) or "in any case"


def describe_variant_rule(variants: Iterable[Measurements]) -> str:
    """The chosen rule in a sentence."""
    rows = list(variants or [])
    chosen = next((row for row in rows if row["chosen"]), None)
    if chosen is None:
        return "No rule was chosen."
    if not chosen["pairs"]:
        return "No pair of variants is left out: none was found, or each rule costs too much."
    name, rule = LEVELS.get(chosen["level"], chosen["level"]), variant_rule(chosen)
    return f"{count(chosen['pairs'])} pairs are kept apart, of names that are {name}: {rule}."


def describe_exceptions(measured: Measurements) -> str:
    """How many exceptions were given and what they did; empty where there were none."""
    given = (measured.get("exceptions") or {}).get("given") or 0
    if not given:
        return ""
    chosen: Measurements = next(
        (row for row in measured.get("variants") or [] if row["chosen"]), {}
    )
    applied, unknown = chosen.get("excepted") or 0, measured["exceptions"].get("unknown") or 0
    said = (
        f"Of {count(given)} exceptions, {count(applied)} applied: pairs that this rule would keep "
        "apart stay together."
    )
    if unknown:
        said += f" They name {count(unknown)} products that the model does not know."
    return said


def storage_changes(storage: Iterable[Measurements]) -> list[Change]:
    """What each other way to store vectors does to pages, from what is stored now."""
    return [
        Change(f"{row['name']}: {count(row['bytes_per_product'])} bytes", row.get("change") or {})
        for row in list(storage or [])[1:]
    ]
