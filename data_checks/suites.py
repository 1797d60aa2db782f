"""What is expected of order lines and of baskets, how much it matters, and what to do about it."""

from collections.abc import Sequence

import pyarrow as pa

from components.contracts import SPLITS
from data_checks.expectations import Expectation, between, expect_zero
from data_checks.settings import CheckSettings

NO_USERS = "the shop's data names no customers"
NO_TIMES = "the shop's data has no times"
NO_PRICES = "the shop's data has no prices"
FIRST_RUN = "first run: there is no earlier one to compare with"
SHORT = "the data spans less than four weeks"


def schema_suite(schema: pa.Schema) -> list[Expectation]:
    """Expectations on the list of a table's columns, as `schema_columns` lays it out."""
    return [
        {
            "type": "expect_column_distinct_values_to_contain_set",
            "kwargs": {"column": "column", "value_set": schema.names},
            "severity": "critical",
            "meta": {
                "name": "columns",
                "title": "All columns are there",
                "why": "Every later step relies on these columns.",
                "remedy": "Map the missing column with --columns, or look at the step that "
                "writes this table.",
            },
        },
        {
            "type": "expect_column_pair_values_to_be_equal",
            "kwargs": {"column_A": "found", "column_B": "expected"},
            "severity": "critical",
            "meta": {
                "name": "types",
                "title": "Columns have the right types",
                "why": "A number kept as text cannot be summed, a time kept as text not sorted.",
                "remedy": "Cast the column in the step that writes this table.",
            },
        },
    ]


def schema_columns(found: pa.Schema, expected: pa.Schema) -> dict[str, list[str]]:
    """One row per expected column that was found, with its type there and as it should be."""
    there = [field for field in expected if field.name in found.names]
    return {
        "column": [field.name for field in there],
        "found": [f"{f.name}: {_plain(found.field(f.name).type)}" for f in there],
        "expected": [f"{f.name}: {_plain(f.type)}" for f in there],
    }


def _plain(kind: pa.DataType) -> str:
    """The type in words, equal for what the readers of a table take as equal."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {_plain(kind.value_type)}"
    if pa.types.is_timestamp(kind):
        return "time with zone" if kind.tz else "time without zone"
    return str(kind)


def order_lines_suite(s: CheckSettings) -> list[Expectation]:
    """Expectations on the profile of order lines."""
    return [
        *_lines_contract(s),
        *_quarantine(s),
        *_plausible_amounts(s),
        *_tidy_ids(s),
        *_calendar(s),
        *_basket_shape(s),
        *_catalogue(s),
        *_drift(s),
    ]


def baskets_suite(s: CheckSettings) -> list[Expectation]:
    """Expectations on the profile of baskets."""
    return [
        *_baskets_contract(s),
        *_splits(s),
        *_calendar(s),
        _largest_basket(s),
        *_catalogue(s),
        *_drift(s),
    ]


def _lines_contract(s: CheckSettings) -> Sequence[Expectation]:
    orders_remedy = "Look at the quarantine below, and at the step that cleans order lines."
    return (
        _has_rows(
            "order lines",
            "See what was kept out below, and check the file, the query or the column mapping "
            "that was read.",
        ),
        expect_zero("order_id_missing", {
            "title": "Every line names its order",
            "why": "Without its order a line belongs to no basket.",
            "remedy": orders_remedy,
        }),
        expect_zero("product_id_missing", {
            "title": "Every line names its product",
            "why": "Without its product a line says nothing about what is bought together.",
            "remedy": orders_remedy,
        }),
        expect_zero("quantity_missing", {
            "title": "Every line has a quantity",
            "why": "A line without quantity may be a return, a note or a damaged record.",
            "remedy": orders_remedy,
        }),
        expect_zero("quantity_not_positive", {
            "title": "Every quantity is positive",
            "why": "Zero or less means returned or corrected, which is the opposite of bought.",
            "remedy": orders_remedy,
        }),
        between("price_negative", "count", "critical", {
            "title": "No price is negative",
            "why": "Negative prices are bookkeeping, not sales.",
            "remedy": orders_remedy,
        }, most=0, absent=NO_PRICES),
        between("multi_item_orders", "count", "critical", {
            "title": "Enough orders hold two or more products",
            "why": "Only such orders show what is bought together; with a few of them every "
            "recommendation is chance.",
            "remedy": "Read a longer period, and check that the order column is the order's "
            "number and not the line's.",
        }, least=s.min_multi_item_orders),
        between("products", "count", "critical", {
            "title": "Enough different products were bought",
            "why": "With a handful of products there is nothing to choose from.",
            "remedy": "Check that the product column is the product's id and not, say, its "
            "department.",
        }, least=s.min_products),
    )  # fmt: skip


def _quarantine(s: CheckSettings) -> Sequence[Expectation]:
    absent = "nothing was read"
    return (
        between("usable_share", "share", "critical", {
            "title": "Most lines survived the cleaning",
            "why": "When most lines are turned away, the columns are mapped wrongly or the feed "
            "is broken, and what is left is no fair picture of the shop.",
            "remedy": "See the reasons under “What was kept out” and correct the column mapping "
            "or the feed.",
        }, least=s.min_usable_share, absent=absent),
        between("quarantined_share", "share", "warning", {
            "title": "Few lines were kept out",
            "why": "Each line kept out is a sale nobody learns from.",
            "remedy": "See the reasons under “What was kept out”.",
        }, most=s.max_quarantined_share, absent=absent),
        between("unreadable_share", "share", "warning", {
            "title": "Few lines were unreadable",
            "why": "Missing ids and unreadable numbers or dates tell of a fault in the export.",
            "remedy": "Show the example lines below to whoever runs the export.",
        }, most=s.max_unreadable_share, absent=absent),
        between("cancelled_share", "share", "warning", {
            "title": "Few lines were cancellations",
            "why": "Cancelled lines are left out, but the sale they cancel is still counted.",
            "remedy": "If it is more than usual, ask the shop; or leave cancelled orders out of "
            "the export altogether.",
        }, most=s.max_cancelled_share, absent=absent),
        between("non_product_share", "share", "warning", {
            "title": "Few lines were postage, fees and the like",
            "why": "If the pattern for such codes is too wide, it takes real products with it.",
            "remedy": "Look at the examples below and narrow the pattern if products are among "
            "them.",
        }, most=s.max_non_product_share, absent=absent),
    )  # fmt: skip


def _plausible_amounts(s: CheckSettings) -> Sequence[Expectation]:
    return (
        between("quantity_max", "number", "warning", {
            "title": "Quantities are plausible",
            "why": "One typing error, or a wholesale order, can outweigh a thousand sales.",
            "remedy": "Look at the largest quantities. They do no harm to learning, which "
            "counts orders and not pieces.",
        }, most=s.max_quantity),
        between("price_spread", "times", "warning", {
            "title": "Prices are plausible",
            "why": "A price thousands of times the usual one points to a lost decimal point.",
            "remedy": "Look at the highest prices in the export.",
        }, most=s.max_price_spread, absent=NO_PRICES),
        between("price_zero_share", "share", "warning", {
            "title": "Few products were given away",
            "why": "Free lines are samples or corrections rather than choices.",
            "remedy": "Have them left out of the export if they are no real sales.",
        }, most=s.max_zero_price_share, absent=NO_PRICES),
        between("price_missing_share", "share", "warning", {
            "title": "Most lines have a price",
            "why": "Filters by price only work where prices are known.",
            "remedy": "Ask for prices in the export, or leave the column unmapped.",
        }, most=s.max_missing_price_share, absent=NO_PRICES),
    )  # fmt: skip


def _tidy_ids(s: CheckSettings) -> Sequence[Expectation]:
    return (
        between("duplicate_share", "share", "warning", {
            "title": "Few lines repeat a product of their order",
            "why": "Repeats count once in a basket. Many of them hint at a join or an export "
            "that doubled lines.",
            "remedy": "Nothing if the shop books one product on several lines; else look for "
            "the doubling join.",
        }, most=s.max_duplicate_share),
        between("mixed_order_share", "share", "warning", {
            "title": "Orders belong to one customer and one day",
            "why": "An order number used twice puts two shopping trips into one basket and makes "
            "up pairs that nobody bought.",
            "remedy": "Make the order id unique, for example by adding shop, till or date to it.",
        }, most=s.max_mixed_order_share),
        between("user_missing_share", "share", "warning", {
            "title": "Most lines name their customer",
            "why": "Without customers, tests cannot tell many buyers from one busy buyer.",
            "remedy": "Guest orders are normal; a sudden rise is not.",
        }, most=s.max_missing_user_share, absent=NO_USERS),
        between("id_twins_share", "share", "warning", {
            "title": "Product ids are written in one way",
            "why": "“85123a” and “85123A” are learned as two products, each from half the sales.",
            "remedy": "Write ids in one letter case, without outer spaces, in orders and "
            "products alike.",
        }, most=s.max_id_twins_share),
        between("suspect_share", "share", "warning", {
            "title": "No postage or fees among the products",
            "why": "Postage is bought with everything, so it would be recommended with everything.",
            "remedy": "Add these codes to the pattern of non-products of the cleaning step.",
        }, most=s.max_suspect_share),
    )  # fmt: skip


def _calendar(s: CheckSettings) -> Sequence[Expectation]:
    return (
        between("ts_missing_share", "share", "warning", {
            "title": "Most rows have a time",
            "why": "Rows without time cannot be weighted by age nor held back for the test.",
            "remedy": "Ask for the time in the export.",
        }, most=s.max_missing_ts_share, absent=NO_TIMES),
        between("ts_future", "count", "critical", {
            "title": "Nothing was bought in the future",
            "why": "The newest orders become the test. Orders from the future push all real ones "
            "out of it.",
            "remedy": "Check clock, time zone and date format (day and month swapped?).",
        }, most=0, absent=NO_TIMES),
        between("ts_before_1990", "count", "critical", {
            "title": "Nothing was bought before 1990",
            "why": "Dates such as 1970-01-01 stand for “unknown” and make the order of events "
            "meaningless.",
            "remedy": "Check whether times are in seconds or milliseconds, and what stands for "
            "a missing one.",
        }, most=0, absent=NO_TIMES),
        between("longest_gap_days", "days", "warning", {
            "title": "No long stretch without orders",
            "why": "A gap is a holiday, or a part of the export that did not arrive.",
            "remedy": "Compare with the shop's calendar; export the missing days again.",
        }, most=s.max_gap_days, absent="the data has fewer than two days"),
        between("busiest_day_share", "share", "warning", {
            "title": "No single day dominates",
            "why": "When one day holds much of the data, it is likely the day of the export and "
            "not of the sale.",
            "remedy": "Check which date the time column holds.",
        }, most=s.max_busiest_day_share, absent=SHORT),
    )  # fmt: skip


def _basket_shape(s: CheckSettings) -> Sequence[Expectation]:
    return (
        between("single_item_share", "share", "warning", {
            "title": "Enough orders hold more than one product",
            "why": "Orders of one product teach nothing about what goes together.",
            "remedy": "If this is not how people shop here, check the order column.",
        }, most=s.max_single_item_share),
        _largest_basket(s),
    )  # fmt: skip


def _largest_basket(s: CheckSettings) -> Expectation:
    return between("basket_max", "count", "warning", {
        "title": "The largest basket is plausible",
        "why": "A basket of thousands is a wholesaler, a test or many orders under one number; "
        "it pairs everything with everything.",
        "remedy": "Usually nothing: baskets above the cap are left out when baskets are built.",
    }, most=s.max_basket_items)  # fmt: skip


def _catalogue(s: CheckSettings) -> Sequence[Expectation]:
    return (
        expect_zero("catalogue_repeats", {
            "title": "The product table lists each product once",
            "why": "A product listed twice has two names, two prices and two categories.",
            "remedy": "Keep one row per product, for example the newest.",
        }),
        between("catalogue_coverage", "share", "warning", {
            "title": "Bought products are in the product table",
            "why": "A product the table does not know has no name, no price and no category to "
            "filter by.",
            "remedy": "Export discontinued products too.",
        }, least=s.min_catalogue_coverage),
        between("catalogue_join", "share", "critical", {
            "title": "Orders and products use the same ids",
            "why": "When most bought products are unknown, the two tables speak of different "
            "ids, and nothing could be shown to anybody.",
            "remedy": "Check both id columns; leading zeros and letter case are the usual "
            "culprits.",
        }, least=s.min_catalogue_join, column="catalogue_coverage"),
        between("named_share", "share", "warning", {
            "title": "Bought products have names",
            "why": "Without names nobody can judge the recommendations.",
            "remedy": "Map the column that holds the name.",
        }, least=s.min_named_share, absent="no bought product is in the product table"),
    )  # fmt: skip


def _drift(s: CheckSettings) -> Sequence[Expectation]:
    return (
        between("volume_ratio", "times", "warning", {
            "title": "About as many rows as in the previous run",
            "why": "Half or twice the rows means a part is missing or was loaded twice.",
            "remedy": "Compare the periods of both runs.",
        }, least=s.min_volume_ratio, most=s.max_volume_ratio, absent=FIRST_RUN),
        between("newer_by_days", "days", "warning", {
            "title": "As recent as the previous run",
            "why": "Data that ends earlier than last time is an old export.",
            "remedy": "Export again.",
        }, least=0, absent="no earlier run, or no times, to compare with"),
        between("drift_sizes", "number", "warning", {
            "title": "Baskets are as large as in the previous run",
            "why": "Basket sizes hardly move by themselves; the way orders are put together does.",
            "remedy": "Compare the order ids of both runs.",
        }, most=s.max_drift, absent=FIRST_RUN),
        between("drift_products", "number", "warning", {
            "title": "The best sellers are those of the previous run",
            "why": "Best sellers shift with the season, and when ids change or a department is "
            "missing.",
            "remedy": "See whether the season explains it.",
        }, most=s.max_drift, absent=FIRST_RUN),
        between("drift_categories", "number", "warning", {
            "title": "Categories sell as in the previous run",
            "why": "A category that vanishes points to a missing part of the export.",
            "remedy": "Compare the categories of both runs.",
        }, most=s.max_drift, absent="no earlier run, or no categories, to compare with"),
        between("drift_weekdays", "number", "warning", {
            "title": "Weekdays are as busy as in the previous run",
            "why": "A shift by a day is a change of time zone; an empty day is a lost file.",
            "remedy": "Compare time zone and files of both runs.",
        }, most=s.max_drift, absent="no earlier run, or no times, to compare with"),
    )  # fmt: skip


def _baskets_contract(s: CheckSettings) -> Sequence[Expectation]:
    fault = "This is a fault in the step that builds baskets: report it."
    return (
        _has_rows(
            "baskets", "See in the run what the step that builds baskets removed, and its limits."
        ),
        expect_zero("order_id_missing", {
            "title": "Every basket names its order",
            "why": "Baskets are told apart, sampled and split by their order.",
            "remedy": fault,
        }),
        expect_zero("order_repeats", {
            "title": "Every order is one basket",
            "why": "An order in two baskets can be learned from and tested on at once.",
            "remedy": fault,
        }),
        expect_zero("item_missing", {
            "title": "Every item in a basket is a product",
            "why": "An empty item would become a product of its own.",
            "remedy": fault,
        }),
        expect_zero("item_repeats", {
            "title": "No product is twice in a basket",
            "why": "A repeated product would be recommended with itself.",
            "remedy": fault,
        }),
        expect_zero("small_baskets", {
            "title": "Every basket holds two or more products",
            "why": "Less than two teach nothing, and cannot be tested on.",
            "remedy": fault,
        }),
        between("position_mismatches", "count", "critical", {
            "title": "Positions match the items",
            "why": "A position that belongs to another item misleads the weighting by distance.",
            "remedy": fault,
        }, most=0, absent="the order of items inside a basket is not known"),
        expect_zero("weight_out_of_bounds", {
            "title": "Weights lie between 0 and 1",
            "why": "The newest basket weighs 1 and older ones less; anything else drowns the rest.",
            "remedy": fault,
        }),
        between("products", "count", "critical", {
            "title": "Enough different products were bought",
            "why": "With a handful of products there is nothing to choose from.",
            "remedy": "Read a longer period, or lower the number of orders a product needs.",
        }, least=s.min_products),
    )  # fmt: skip


def _splits(s: CheckSettings) -> Sequence[Expectation]:
    return (
        expect_zero("split_unknown", {
            "title": f"Every basket is for {', '.join(SPLITS[:-1])} or {SPLITS[-1]}",
            "why": "A basket with another label is silently never used.",
            "remedy": "This is a fault in the step that builds baskets: report it.",
        }),
        between("smallest_split", "count", "critical", {
            "title": "Training, validation and test all have baskets",
            "why": "Without test baskets nobody can tell whether the model is any good.",
            "remedy": "Read a longer period; if all times are equal, leave the time unmapped.",
        }, least=s.min_split_baskets),
        between("train_share", "share", "warning", {
            "title": "Most baskets are for learning",
            "why": "Too few to learn from gives a poor model, too few to test on a poor verdict.",
            "remedy": "Check the times of the newest orders: many equal ones all fall on one "
            "side.",
        }, least=s.min_train_share, most=s.max_train_share),
        between("split_leaks", "count", "critical", {
            "title": "What is tested is newer than what is learned",
            "why": "A model that has seen the future looks better in the test than it is.",
            "remedy": "This is a fault in the step that builds baskets: report it.",
        }, most=0, absent="not all baskets have a time"),
        between("cold_share", "share", "warning", {
            "title": "Test baskets hold known products",
            "why": "What was never seen in training cannot be recommended; much of it means the "
            "range is changing or ids are.",
            "remedy": "Train more often, or check whether ids changed.",
        }, most=s.max_cold_share, absent="training or test is empty"),
    )  # fmt: skip


def _has_rows(what: str, remedy: str) -> Expectation:
    return between("rows", "count", "critical", {
        "title": f"There are {what}",
        "why": "Without them there is nothing to learn from.",
        "remedy": remedy,
    }, least=1)  # fmt: skip
