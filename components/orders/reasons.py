"""Why a line is set aside, in SQL that Spark and DuckDB both read."""

from components.sources.tables import sql_text

NON_PRODUCTS = (
    r"POST(AGE)?|BANK CHARGES|ADJUST\d*|TEST\w*|GIFT_\w*|SHIPPING|DISCOUNT|MANUAL|COUPON.*|FUEL"
    r"|GASOLINE.*|MISC.* TRANS"
)
"""Codes and categories that shops book as products. Codes of one shop stand with its export in
platforms.yaml."""


def build_reason(cancellations: str, non_products: str) -> str:
    """Empty for good lines; several reasons are joined by "; ".

    Of the columns clean_*, `left_out` (a platform's reason, which stands alone) and
    `is_non_product`.
    """
    cancelled = matches(cancellations, "clean_order_id")
    rules = {
        "order_id missing": "coalesce(clean_order_id, '') = ''",
        "product_id missing": "coalesce(clean_product_id, '') = ''",
        "not a product": f"coalesce(is_non_product, {matches(non_products, 'clean_product_id')})",
        "cancellation": cancelled,
        "quantity not a number": "clean_quantity is null",
        "quantity not positive": f"not {cancelled} and clean_quantity <= 0",
    }
    found = ", ".join(f"case when {rule} then {sql_text(name)} end" for name, rule in rules.items())
    return f"coalesce(left_out, concat_ws('; ', {found}))"


def matches(pattern: str, *names: str) -> str:
    """Whether the whole of any of the columns matches, in any letter case; false for null."""
    whole = sql_text(f"(?i)^({pattern})$")
    found = " or ".join(f"coalesce(regexp_like({name}, {whole}), false)" for name in names)
    return f"({found})"
