"""Rows and sentences about the measurements on validation baskets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from components.report.formatting import as_text, count, decimal, is_number

Measurements = Mapping[str, Any]

WEIGHTINGS: Mapping[str, tuple[str, str, str]] = {
    "size_exponent": (
        "Weight of large baskets",
        "at 1 each product shares one vote among its companions, at 0 each companion gets a "
        "whole vote",
        "exponent {:g}",
    ),
    "half_life_days": (
        "Less weight for old orders",
        "an order of that age counts half",
        "half at {:g} days",
    ),
    "window_days": ("Old orders left out", "older orders do not count at all", "only {:g} days"),
    "join_hours": (
        "Orders of one customer joined",
        "orders within so many hours are one basket",
        "within {:g} hours",
    ),
    "season_days": (
        "More weight for the same season of earlier years",
        "an order so many days of the year away counts half",
        "half at {:g} days",
    ),
    "reach": (
        "More weight for near products",
        "only products at most so far apart in a basket make a pair, and nearer ones count more",
        "{:g} places",
    ),
    "cart_recency": (
        "More weight for the latest in a cart",
        "a product's weight shrinks by this factor with each later one",
        "times {:g}",
    ),
}
"""Title, meaning of the value, and the value as short text."""

WEIGHTS: Mapping[str, Mapping[str, str]] = {
    "item": {
        "vectors": "Vectors",
        "page_cooccurrence": "Bought-together counts",
        "beta_single": "Popularity",
        "page_trend": "Trend: bought more often lately",
    },
    "cart": {
        "neighbours": "Neighbours",
        "cooccurrence": "Bought-together counts",
        "cosine": "Similar company (cosine)",
        "vectors": "Vectors",
        "trend": "Trend: bought more often lately",
    },
}
"""Parts of the blend, by task and by the name of their weight."""

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

FEATURES = {
    "neighbours_sum": "neighbours, summed",
    "neighbours_max": "neighbours, strongest",
    "neighbours_min": "neighbours, weakest",
    "probability_sum": "bought together, summed",
    "probability_max": "bought together, strongest",
    "recent_sum": "bought together lately, summed",
    "recent_max": "bought together lately, strongest",
    "cosine_sum": "similar company, summed",
    "cosine_max": "similar company, strongest",
    "lift_sum": "lift over chance, summed",
    "lift_max": "lift over chance, strongest",
    "support_max": "number of baskets with both",
    "reverse_max": "bought together, of the candidate's baskets",
    "share_paired": "share of the query bought with it before",
    "vector_max": "vectors, strongest",
    "vector_sum": "vectors, summed",
    "vector_mean": "vectors, averaged",
    "reverse_vector_max": "vectors, from candidate to query",
    "alike_max": "similarity of vectors",
    "log_popularity": "popularity",
    "trend_short": "trend of two weeks",
    "trend_long": "trend of six weeks",
    "basket_size": "size of its baskets",
    "days_unsold": "days since its last sale",
    "n_asked": "number of products in the query",
    "asked_popularity": "popularity of the query",
    "asked_trend": "trend of the query",
    "asked_basket_size": "basket size of the query",
    "category_lift": "lift of the two categories",
    "category_share": "share of the query in its category",
    "same_category": "same category",
    "same_brand": "same brand",
    "price_ratio": "price ratio to the query",
    "excess_sum": "bought together beyond chance, summed",
    "excess_max": "bought together beyond chance, strongest",
    "described_alike": "similarity of texts",
}
"""Features of the candidate, unless they name the query: the page's or the cart's products."""

LEVELS = {
    "none": "nothing is left out",
    "same_name": "the same",
    "but_numbers": "the same but for numbers",
    "but_colours": "the same but for numbers, colours, sizes",
    "but_one_word": "the same but for numbers, colours, sizes, one word",
}
"""How alike the names of variants are."""

COLD_START_METHODS = {
    "model": "If the model knew the product",
    "attribute_neighbours": "Companions of similar products",
    "category_bestsellers": "Bestsellers of the category",
    "bestsellers": "Bestsellers",
}

SHOWN_FEATURES = 8


@dataclass(frozen=True)
class Change:
    """A row of a plot; bounds are {"mean", "low", "high"}, as shares."""

    label: str
    bounds: Measurements
    used: bool = False


def weighting_groups(tricks: Iterable[Measurements]) -> list[tuple[str, str, list[Measurements]]]:
    found = []
    for name, rows in groupby(tricks or [], key=lambda row: str(row["trick"])):
        title, meaning, _ = WEIGHTINGS.get(name, (name.replace("_", " ").capitalize(), "", ""))
        found.append((title, meaning, list(rows)))
    return found


def weighting_value(row: Measurements) -> str:
    _, _, template = WEIGHTINGS.get(str(row["trick"]), ("", "", f"{row['trick']} {{:g}}"))
    return template.format(row["value"])


def explain_no_change(row: Measurements, basket_counts: Measurements) -> str:
    """Empty where a weighting changed something."""
    tasks = [row.get(task) or {} for task in ("item", "cart")]
    if any(task.get(bound) for task in tasks for bound in ("mean", "low", "high")):
        return ""
    if row["trick"] == "size_exponent":
        return "not measured: there are no validation queries"
    if not basket_counts.get("first_order"):
        return "not measured: the orders have no times"
    if row["trick"] == "join_hours":
        return "nothing changed: no customer is known to have ordered twice so soon"
    return "nothing changed: no order is that old, or some orders have no times"


def weighting_changes(
    tricks: Iterable[Measurements], task: str, basket_counts: Measurements
) -> list[Change]:
    return [
        Change(weighting_value(row), row.get(task) or {}, bool(row.get("used")))
        for row in tricks or []
        if not explain_no_change(row, basket_counts)
    ]


def task_measurements(manifest_ranking: Measurements, task: str) -> Measurements:
    found: Measurements = manifest_ranking.get({"item": "pages", "cart": "carts"}[task]) or {}
    return found


def list_weights(measured: Measurements, task: str) -> list[tuple[str, Any]]:
    """The heaviest first."""
    weights = measured.get("weights") or {}
    if task == "item" and weights:
        weights = {"vectors": 1.0, **weights}  # the other weights of pages are relative to it
    rows = [(WEIGHTS[task].get(name, name), weight) for name, weight in weights.items()]
    return sorted(rows, key=lambda row: -(row[1] or 0))


def list_parts(measured: Measurements) -> list[tuple[str, float]]:
    """NDCG of the blend, then of every part alone, the best first."""
    parts = {name: ndcg for name, ndcg in (measured.get("parts") or {}).items() if is_number(ndcg)}
    order = sorted(parts, key=lambda name: (name != BLEND, -parts[name]))
    return [(name, parts[name]) for name in order]


def part_name(name: str) -> str:
    return PARTS.get(name, name.capitalize())


def describe_blend(measured: Measurements, task: str) -> list[str]:
    parts = dict(list_parts(measured))
    blend, alone = parts.get(BLEND), [name for name in parts if name != BLEND]
    if blend is None or not alone:
        return []
    best = alone[0]
    first = (
        f"The blend reaches {decimal(blend)}, {_compare(blend, parts[best])} the best part alone: "
        f"“{part_name(best)}”, {decimal(parts[best])}."
    )
    if task == "item":
        return [first, *_describe_item_blend(parts)]
    return [first, *_describe_cart_blend(measured, alone, parts)]


def _describe_item_blend(parts: Mapping[str, float]) -> list[str]:
    vectors = parts.get("vectors")
    if vectors is None:
        return []
    return [
        f"Vectors are always part of the blend on pages. Alone they reach {decimal(vectors)}; the "
        f"blend is {_compare(parts[BLEND], vectors)} that."
    ]


def _describe_cart_blend(
    measured: Measurements, alone: list[str], parts: Mapping[str, float]
) -> list[str]:
    first = f"Of the ways to fuse the products of a cart, “{part_name(alone[0])}” is the best."
    by_vectors = [name for name in alone if name.startswith("vectors")]
    if not by_vectors:
        return [first]
    best, reached = part_name(by_vectors[0]), decimal(parts[by_vectors[0]])
    if (measured.get("weights") or {}).get("vectors") == 0:
        return [
            first,
            "The weight of the vectors is zero: beside neighbours and counts they added nothing "
            f"on validation baskets. Alone they reach {reached} at best (“{best}”).",
        ]
    return [first, f"Vectors alone reach {reached} at best (“{best}”), and add to the blend."]


def _compare(ours: float, theirs: float) -> str:
    if not theirs:
        return "beside"
    more = 100 * (ours / theirs - 1)
    return f"{abs(more):.1f}\u202f% {'above' if more >= 0 else 'below'}"


def top_features(measured: Measurements) -> list[tuple[str, float]]:
    """With shares of the importance of all features."""
    found = (measured.get("forest") or {}).get("features") or []
    return [(FEATURES.get(name, name), share) for name, share in found[:SHOWN_FEATURES]]


def variant_rows(variants: Iterable[Measurements]) -> list[Measurements]:
    """The chosen rule and the strictest of every level."""
    seen, rows = set(), []
    for row in variants or []:
        if row["chosen"] or row["level"] not in seen:
            rows.append(row)
        seen.add(row["level"])
    return rows


def variant_condition(row: Measurements) -> str:
    bounds = []
    if is_number(row.get("lift")):
        lift = as_text(row["lift"])
        bounds.append(f"bought together less than {lift}× as often as by chance")
    if is_number(row.get("cosine")):
        bounds.append(f"vectors alike by {as_text(row['cosine'])} or more")
    return ", ".join(bounds) or "in any case"


def describe_variant_rule(measured: Measurements) -> str:
    chosen = next((row for row in measured.get("variants") or [] if row["chosen"]), None)
    if chosen is None:
        rule = "No rule was chosen."
    elif not chosen["pairs"]:
        rule = "No pair of variants is left out: none was found, or each rule costs too much."
    else:
        name = LEVELS.get(chosen["level"], chosen["level"])
        rule = (
            f"{count(chosen['pairs'])} pairs are kept apart. Their names are {name}; the "
            f"condition: {variant_condition(chosen)}."
        )
    return rule + _describe_exceptions(measured.get("exceptions") or {}, chosen or {})


def _describe_exceptions(exceptions: Measurements, chosen: Measurements) -> str:
    given, unknown = exceptions.get("given") or 0, exceptions.get("unknown") or 0
    if not given:
        return ""
    text = (
        f" Of {count(given)} exceptions, {count(chosen.get('excepted') or 0)} applied: pairs that "
        "this rule would keep apart stay together."
    )
    if unknown:
        text += f" They name {count(unknown)} products that the model does not know."
    return text
