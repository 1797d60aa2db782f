"""Names for the products of the demo data, which has types and sizes only.

A name is the type and the size: `Sour creams, 16 oz`. Where several makers have the same, their
numbers are added, `… · maker 103`, but for one who sells most of the type. Of several products of
one maker, the most bought has the name, the others a number as well: `… #2`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

# Types that abbreviations make hard to read, or that are cut off at 30 characters.
TYPES = {
    "FLUID MILK WHITE ONLY": "White milk",
    "SOFT DRINKS 12/18&15PK CAN CAR": "Soft drinks, 12 to 18 cans",
    "SOFT DRINKS 20PK&24PK CAN CARB": "Soft drinks, 20 or 24 cans",
    "SOFT DRINKS 6PK/4PK CAN CARB (": "Soft drinks, 4 or 6 cans",
    "SFT DRNK 2 LITER BTL CARB INCL": "Soft drinks, large bottle",
    "SFT DRNK SNGL SRV BTL CARB (EX": "Soft drinks, single bottle",
    "SFT DRNK MLT-PK BTL CARB (EXCP": "Soft drinks, pack of bottles",
    "NON-CRBNTD DRNKING/MNERAL WATE": "Still drinking water",
    "NON-CARB FLVRD DRNKNG/MNRL WAT": "Still flavored water",
    "YOGURT NOT MULTI-PACKS": "Yogurt, single",
    "YOGURT MULTI-PACKS": "Yogurt, multipack",
    "CANDY BARS (SINGLES)(INCLUDING": "Candy bars, single",
    "CANDY BARS (MULTI PACK)": "Candy bars, multipack",
    "SS ECONOMY ENTREES/DINNERS ALL": "Frozen dinners, economy",
    "DAIRY CASE 100% PURE JUICE - O": "Chilled orange juice",
    "DAIRY CASE 100% PURE JUICE OTH": "Chilled juice, other fruit",
    "DAIRY CASE JUICE DRNK UNDER 10": "Chilled juice drinks",
    "DAIRY CASE FRUIT DRINKS (NO JU": "Chilled fruit drinks",
    "DAIRY CASE TEA WITH SUGAR OR S": "Chilled sweet tea",
    "MAINSTREAM WHEAT/MULTIGRAIN BR": "Wheat or multigrain bread",
    "MAINSTREAM WHITE BREAD": "White bread",
    "IWS SINGLE CHEESE": "Cheese slices, wrapped singly",
    "NATURAL CHEESE EXACT WT CHUNKS": "Natural cheese, chunks",
    "NATURAL CHEESE EXACT WT SLICES": "Natural cheese, slices",
    "SEMI-SOLID SALAD DRESSING MAY": "Mayonnaise and salad cream",
    "RTS SOUP: CHUNKY/HOMESTYLE ET": "Chunky soup",
    "SGL SV/VEND MACH SNACKS CHIP/P": "Snacks and chips, single",
    "BEANS GREEN: FS/WHL/CUT": "Green beans",
    "VARIETY BEANS - KIDNEY PINTO": "Kidney, pinto and other beans",
    "TOMATOES: STEWED/DICED/CRMD": "Tomatoes, stewed or diced",
    "SOUP CRACKERS (SALTINE/OYSTER)": "Saltine crackers",
    "CHEESE CRACKERS (CHEEZ-ITS/GOL": "Cheese crackers",
    "BUTTER SPRAY CRACKER (RITZ/CLU": "Butter crackers",
    "SW GDS:DONUTS": "Donuts",
    "TRAY PACK/CHOC CHIP COOKIES": "Chocolate chip cookies",
    "FRZN GARLIC BREAD/TOAST/STICKS": "Frozen garlic bread",
    "FRZN BAGGED VEGETABLES - PLAIN": "Frozen vegetables, bagged",
    "FRZN BREADED PREPARED CHICK": "Frozen breaded chicken",
    "CANNED CAT FOOD (9 LIVES/FRISK": "Canned cat food",
    "ASEPTIC PACK JUICE AND DRINKS": "Juice boxes",
    "PREPARED BEANS - BAKED W/PORK": "Baked beans with pork",
    "BEERALEMALT LIQUORS": "Beer, ale and malt liquor",
    "MEXICAN SAUCESSALSAPICANTEE": "Salsa and Mexican sauces",
    "PLSTC CTLRYTBLCLTHSTTHPKSST": "Plastic cutlery and tablecloths",
    "FEM. HYGN.NAPKINS": "Sanitary napkins",
    "GASOLINE-REG UNLEADED": "Regular unleaded gasoline",
    "CAN CATFD GOURMET/SUP PREM (GR": "Canned cat food, gourmet",
    "CAN DOGFD GOURMET/SUPER PREM (": "Canned dog food, gourmet",
}  # fmt: skip

# Of types, word by word, where TYPES has nothing.
WORDS = {
    "BRD": "breaded", "BTL": "bottle", "CARB": "carbonated", "CATFD": "cat food",
    "CHIX": "chicken", "CND": "canned", "DNRS": "dinners", "DOGFD": "dog food", "DRNK": "drink",
    "FD": "food", "FDS": "foods", "FEM.": "feminine", "FLVR": "flavored", "FLVRD": "flavored",
    "FRD": "fried", "FRZ": "frozen", "FRZN": "frozen", "GDS": "goods", "GRND": "ground",
    "HYGN.": "hygiene", "IQF": "frozen singly", "JCE": "juice", "MISC": "miscellaneous",
    "MLT-PK": "multipack", "MULTI-PACK": "multipack", "NON-CARB": "still", "PICKLD": "pickled",
    "PKG": "package", "PLSTC": "plastic", "PREM": "premium", "PREP": "prepared",
    "REFRIG": "refrigerated", "SAL": "salad", "SAUS": "sausage", "SFT": "soft", "SGL": "single", "SHERBTS": "sherbet",
    "SNGL": "single", "SPECILATY": "specialty", "CHOCOCLATE": "chocolate", "SRV": "serving",
    "SS": "single serving", "SUP": "super", "SV": "serving", "SW": "sweet", "VEG": "vegetable",
    "WT": "weight",
}  # fmt: skip

# Types that are clear only beside their category.
VAGUE = frozenset(
    """ADULT PREMIUM|ANGUS|BETTER FOR YOU|BLENDS|BUTTS|CONES|DRY|ECONOMY|ECONOMY - MEAT|ENHANCED|
    ENTREES|FLAVORED/OTHER|FRESH|GARDEN PLUS|KITS|KOSHER/SPECIALTY|LEAN|LINKS - RAW|LOAVE|MAINSTREAM|
    MISC|MISCELLANEOUS|OTHER|PAILS|PATTIES|PATTIES - RAW|POULTRY|PRE-COOKED|PREMIUM|PREMIUM - MEAT|
    PREMIUM PINTS|PRIMAL|RED|REGULAR BEAN|REGULAR GARDEN|RIBS|ROLLS - PORK|SEASONAL|SMOKED/COOKED|
    STICKS/ENROBED|SUPER PREMIUM PINTS|TRADITIONAL|TREATS|VALUE|VARIETY PACK""".replace(
        "\n    ", ""
    ).split("|")
)

UNITS = {"ga": "gal", "dz": "dozen", "doz": "dozen"}

STORE_MAKER = 69  # Of nearly all of the store's own brands


class Product(NamedTuple):
    """What the data says of a product."""

    product_id: int
    type: str
    category: str | None
    size: str | None
    brand: str
    """The class: National or Private."""
    maker: int
    n_bought: int


def make_labels(products: Sequence[Product]) -> list[str]:
    """A name for each, no two the same."""
    types = [write_type(one.type, one.category) for one in products]
    sizes = [write_size(one.size) for one in products]
    names = [f"{kind}, {size}" if size else kind for kind, size in zip(types, sizes, strict=True)]
    marks = mark_makers(products, types, names)
    names = [
        f"{name}{marks.get((kind, one.brand, one.maker), '')}"
        for kind, name, one in zip(types, names, products, strict=True)
    ]
    return number_equals(names, products)


@cache
def write_type(text: str, category: str | None) -> str:
    """In sentence case, abbreviations written out."""
    if known := TYPES.get(text):
        return known
    if text in VAGUE and category:
        text = f"{category}: {text}"
    # What the cut at 30 characters left of a parenthesis goes, but for a share of juice.
    text = re.sub(r"\s*\((BULK|[^)0-9]*$)[^)]*\)?", "", text)
    text = re.sub(r"\s*\(([^)]*)$", r", \1", text)
    text = re.sub(r"[A-Z][A-Z.-]*", lambda word: WORDS.get(word[0], word[0]), text)
    text = re.sub(r"\s*(?:\s-\s|-\s|:)\s*", ", ", text)
    text = re.sub(r"\s*&\s*", " & ", text)
    return " ".join(text.replace("(", " (").split()).strip(" ,&-").capitalize()


def write_size(text: str | None) -> str:
    """`8 oz` of `  L  8 OZ`, `4 lb` of `(600) 4 LB`; the flags mean nothing to a shopper."""
    text = re.sub(r"^(?:\(\d+\)|[A-Z](?=\s))\s*", "", (text or "").strip()).lower()
    text = re.sub(r"^\.", "0.", text)
    if text in ("gal", "ga", "pt", "qt", "lb"):
        text = f"1 {text}"
    return " ".join(UNITS.get(word, word) for word in text.split())


def mark_makers(
    products: Sequence[Product], types: Sequence[str], names: Sequence[str]
) -> dict[tuple[str, str, int], str]:
    """By type, brand class and maker, what tells the maker's names from those of others.

    All names of a maker within a type have the mark, so that its sizes still differ in numbers only.
    """
    makers = defaultdict[str, set[tuple[str, int]]](set)
    bought = defaultdict[str, Counter[tuple[str, int]]](Counter)
    for kind, name, one in zip(types, names, products, strict=True):
        makers[name].add((one.brand, one.maker))
        bought[kind][one.brand, one.maker] += one.n_bought
    shared = {
        (kind, maker)
        for kind, name in zip(types, names, strict=True)
        if len(makers[name]) > 1
        for maker in makers[name] & bought[kind].keys()
        if 2 * bought[kind][maker] <= bought[kind].total()
    }
    return {(kind, *maker): f" · {_write_maker(*maker)}" for kind, maker in shared}


def _write_maker(brand: str, maker: int) -> str:
    if brand != "Private":
        return f"maker {maker}"
    return "store brand" if maker == STORE_MAKER else f"store brand {maker}"


def number_equals(names: Sequence[str], products: Sequence[Product]) -> list[str]:
    """The names; of equal ones, all but that of the most bought product get a number, from 2 on."""
    order = sorted(range(len(names)), key=lambda i: (-products[i].n_bought, products[i].product_id))
    counts, numbered = Counter[str](), list(names)
    for i in order:
        counts[names[i]] += 1
        if (n := counts[names[i]]) > 1:
            numbered[i] = f"{names[i]} #{n}"
    return numbered
