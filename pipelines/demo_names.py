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

# Frequent types that abbreviations make hard to read, or that are cut off at 30 characters.
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
    "BEANS GREEN: FS/WHL/CUT": "Canned green beans",
    "PEAS GREEN": "Canned green peas",
    "CORN": "Canned corn",
    "CARROTS": "Canned carrots",
    "VARIETY BEANS - KIDNEY PINTO": "Kidney, pinto and other beans",
    "TOMATOES: STEWED/DICED/CRMD": "Canned tomatoes",
    "SOUP CRACKERS (SALTINE/OYSTER)": "Saltine crackers",
    "CHEESE CRACKERS (CHEEZ-ITS/GOL": "Cheese crackers",
    "BUTTER SPRAY CRACKER (RITZ/CLU": "Butter crackers",
    "TRAY PACK/CHOC CHIP COOKIES": "Chocolate chip cookies",
    "FRZN GARLIC BREAD/TOAST/STICKS": "Frozen garlic bread",
    "FRZN BAGGED VEGETABLES - PLAIN": "Frozen vegetables, bagged",
    "FRZN BREADED PREPARED CHICK": "Frozen breaded chicken",
    "CANNED CAT FOOD (9 LIVES/FRISK": "Canned cat food",
    "CAN CATFD GOURMET/SUP PREM (GR": "Canned cat food, gourmet",
    "CAN DOGFD GOURMET/SUPER PREM (": "Canned dog food, gourmet",
    "ASEPTIC PACK JUICE AND DRINKS": "Juice boxes",
    "PREPARED BEANS - BAKED W/PORK": "Baked beans with pork",
    "BEERALEMALT LIQUORS": "Beer, ale and malt liquor",
    "MEXICAN SAUCESSALSAPICANTEE": "Salsa and Mexican sauces",
    "PLSTC CTLRYTBLCLTHSTTHPKSST": "Plastic cutlery and tablecloths",
    "FEM. HYGN.NAPKINS": "Sanitary napkins",
    "GASOLINE-REG UNLEADED": "Regular unleaded gasoline",
    "PREP FD: SIDE DISHES (HOT)": "Hot side dishes",
    "CHIX:FRD 8PC/CUT UP (HOT)": "Hot fried chicken",
    "EGGS - X-LARGE": "Extra large eggs",
    "EGGS - LARGE": "Large eggs",
    "EGGS - MEDIUM": "Medium eggs",
    "SOUR CREAMS": "Sour cream",
    "SW GDS:DONUTS": "Donuts",
    "MARGARINE: TUBS AND BOWLS": "Margarine in tubs",
    "PAPER TOWELS & HOLDERS": "Paper towels",
    "VEGETABLE/SALAD OIL": "Vegetable oil",
    "PEPPERS GREEN BELL": "Green bell peppers",
    "PEPPERS RED BELL": "Red bell peppers",
    "CARROTS MINI PEELED": "Baby carrots",
    "CORN YELLOW": "Yellow corn",
    "GARLIC WHOLE CLOVES": "Garlic",
    "GRAPES RED": "Red grapes",
    "GRAPES WHITE": "White grapes",
    "ONIONS OTHER": "Onions",
    "ONIONS RED (BULK&BAG)": "Red onions",
    "ONIONS SWEET (BULK&BAG)": "Sweet onions",
    "ONIONS WHITE (BULK&BAG)": "White onions",
    "ONIONS YELLOW (BULK&BAG)": "Yellow onions",
    "ORANGES NAVELS ALL": "Navel oranges",
    "PEACHES YELLOW FLESH": "Yellow peaches",
    "POTATOES RED (BULK&BAG)": "Red potatoes",
    "POTATOES RUSSET (BULK&BAG)": "Russet potatoes",
    "POTATOES SWEET&YAMS": "Sweet potatoes",
    "TOMATOES GRAPE": "Grape tomatoes",
    "TOMATOES HOTHOUSE ON THE VINE": "Tomatoes on the vine",
    "TOMATOES VINE RIPE BULK": "Vine ripe tomatoes",
}

# Of types, word by word, where TYPES has nothing.
WORDS = {
    "BRD": "breaded", "BTL": "bottle", "CARB": "carbonated", "CATFD": "cat food",
    "CHIX": "chicken", "CHOCOCLATE": "chocolate", "CND": "canned", "DNRS": "dinners",
    "DOGFD": "dog food", "DRNK": "drink", "FD": "food", "FDS": "foods", "FEM.": "feminine",
    "FLVR": "flavored", "FLVRD": "flavored", "FRD": "fried", "FRZ": "frozen", "FRZN": "frozen",
    "GDS": "goods", "GRND": "ground", "HYGN.": "hygiene", "IQF": "frozen singly",
    "JCE": "juice", "MISC": "miscellaneous", "MLT-PK": "multipack", "MULTI-PACK": "multipack",
    "NON-CARB": "still", "PICKLD": "pickled", "PKG": "package", "PLSTC": "plastic",
    "PREM": "premium", "PREP": "prepared", "REFRIG": "refrigerated", "SAL": "salad",
    "SAUS": "sausage", "SFT": "soft", "SGL": "single", "SHERBTS": "sherbet", "SNGL": "single",
    "SPECILATY": "specialty", "SRV": "serving", "SS": "single serving", "SUP": "super",
    "SV": "serving", "SW": "sweet", "VEG": "vegetable", "WT": "weight",
}  # fmt: skip

# Types that are clear only beside their category.
VAGUE = {
    "ADULT PREMIUM", "ANGUS", "BETTER FOR YOU", "BLENDS", "BUTTS", "CONES", "DRY", "ECONOMY",
    "ECONOMY - MEAT", "ENHANCED", "ENTREES", "FLAVORED/OTHER", "FRESH", "GARDEN PLUS", "KITS",
    "KOSHER/SPECIALTY", "LEAN", "LINKS - RAW", "LOAVE", "MAINSTREAM", "MISC", "MISCELLANEOUS",
    "OTHER", "PAILS", "PATTIES", "PATTIES - RAW", "POULTRY", "PRE-COOKED", "PREMIUM",
    "PREMIUM - MEAT", "PREMIUM PINTS", "PRIMAL", "RED", "REGULAR BEAN", "REGULAR GARDEN",
    "RIBS", "ROLLS - PORK", "SEASONAL", "SMOKED/COOKED", "STICKS/ENROBED",
    "SUPER PREMIUM PINTS", "TRADITIONAL", "TREATS", "VALUE", "VARIETY PACK",
}  # fmt: skip

UNITS = {"ga": "gal", "dz": "dozen", "doz": "dozen"}

STORE_MAKER = 69  # Of nearly all of the store's own brands


Maker = tuple[str, int]
"""The class of the brand, National or Private, and the number."""


class Product(NamedTuple):
    """A row of the product table."""

    product_id: int
    type: str
    category: str | None
    size: str | None
    brand: str
    maker: int
    n_bought: int


def make_names(products: Sequence[Product]) -> list[str]:
    """A name for each, no two the same."""
    types = [write_type(one.type, one.category) for one in products]
    sizes = [write_size(one.size) for one in products]
    names = [
        f"{type_}, {size}" if size else type_ for type_, size in zip(types, sizes, strict=True)
    ]
    suffixes = name_makers(products, types, names)
    names = [
        f"{name}{suffixes.get((type_, one.brand, one.maker), '')}"
        for type_, name, one in zip(types, names, products, strict=True)
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


def name_makers(
    products: Sequence[Product], types: Sequence[str], names: Sequence[str]
) -> dict[tuple[str, str, int], str]:
    """By type, brand class and maker, what tells the maker's names from those of others.

    All of a maker's names within a type have it: its sizes still differ in numbers only.
    """
    makers = defaultdict[str, set[Maker]](set)
    n_of_type, n_of_maker = Counter[str](), Counter[tuple[str, Maker]]()
    for type_, name, one in zip(types, names, products, strict=True):
        makers[name].add((one.brand, one.maker))
        n_of_type[type_] += one.n_bought
        n_of_maker[type_, (one.brand, one.maker)] += one.n_bought
    shared = {
        (type_, (one.brand, one.maker))
        for type_, name, one in zip(types, names, products, strict=True)
        if len(makers[name]) > 1
    }
    return {
        (type_, *maker): f" · {_write_maker(*maker)}"
        for type_, maker in shared
        if 2 * n_of_maker[type_, maker] <= n_of_type[type_]
    }


def _write_maker(brand: str, maker: int) -> str:
    if brand != "Private":
        return f"maker {maker}"
    return "store brand" if maker == STORE_MAKER else f"store brand {maker}"


def number_equals(names: Sequence[str], products: Sequence[Product]) -> list[str]:
    """Of equal names, all but that of the most bought product get a number, from 2 on."""
    order = sorted(range(len(names)), key=lambda i: (-products[i].n_bought, products[i].product_id))
    counts, numbered = Counter[str](), list(names)
    for i in order:
        counts[names[i]] += 1
        if (n := counts[names[i]]) > 1:
            numbered[i] = f"{names[i]} #{n}"
    return numbered
