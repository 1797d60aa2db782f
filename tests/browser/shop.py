"""A small shop, and versions of its model, trained in seconds by the real steps."""

import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.contracts import BASKETS, PRODUCTS, write_table
from tests.bench import scale

LONG = (
    "Extraordinarily long storage box made of recycled cardboard with a lid, two handles, a label "
    "holder and a window, for letters, photographs, brochures of the "
    "Donaudampfschifffahrtselektrizitätengesellschaft and all that finds no other place (set of 12)"
)
MARKUP = "<script>document.title='owned'</script><img src=x onerror=\"alert(1)\"> & 'tea' towel"
SQL = "Robert'); DROP TABLE fbt_rules;-- mug"
ARABIC = "شاي أخضر بالنعناع (250 غرام)"
HEBREW = "תה קמומיל אורגני"
JAPANESE = "抹茶パウダー 京都産"
ODD_ID = "50% off/a b?c=1&d#e"

THEMES: Mapping[str, Sequence[tuple[str, str | None, str, float]]] = {
    "tea time": [
        ("tea", "Breakfast tea, 80 bags", "Tea", 3.2),
        ("teapot", "Stoneware teapot", "Kitchenware", 24.0),
        ("milk", "Whole milk, 1 l", "Dairy", 1.2),
        ("honey", "Acacia honey", "Spreads", 5.5),
        ("green-tea", ARABIC, "شاي", 4.1),
        ("camomile", HEBREW, "Herbs", 3.9),
        ("matcha", JAPANESE, "抹茶", 18.0),
        ("towel", MARKUP, "<b>Textiles</b>", 6.0),
    ],
    "coffee": [
        ("coffee", "Espresso beans, 1 kg", "Coffee", 14.0),
        ("filters", "Paper filters No. 4", "Paper", 2.5),
        ("sugar", "Cane sugar", "Baking", 1.9),
        ("mug", SQL, "Mugs", 7.5),
        ("grinder", "Coffee grinder", "Kitchen appliances", 39.0),
        ("oat-milk", "Oat drink for baristas", "Plant drinks", 2.3),
    ],
    "pasta night": [
        ("spaghetti", "Spaghetti No. 5", "Pasta", 1.4),
        ("pesto", "Pesto alla genovese", "Sauces", 3.6),
        ("parmesan", "Parmesan, aged 24 months", "Cheese", 6.8),
        ("passata", "Tomato passata", "Tins", 1.1),
        ("olive-oil", "Extra virgin olive oil", "Oils", 9.9),
        ("basil", "Basil in a pot", "Plants", 2.2),
        ("red-wine", "Red wine, Chianti", "Wine", 8.5),
    ],
    "baby": [
        ("pram", "Folding pram", "Prams", 49.0),
        ("formula", "Infant formula, from birth", "Infant food", 16.0),
        ("nappies", "Nappies, size 3", "Nappies", 12.0),
        ("wipes", "Baby wipes, unscented", "Baby care", 2.0),
        ("bib", "Cotton bib", "Baby clothes", 4.0),
        ("bottle", "Baby bottle, 260 ml", "Baby bottles", 6.5),
    ],
    "workshop": [
        ("motor-oil", "Motor oil 5W-30", "Car care", 28.0),
        ("wiper", "Wiper blades", "Car parts", 19.0),
        ("screws", "Wood screws, 200 pieces", "Hardware", 5.0),
        ("drill", "Cordless drill", "Tools", 39.0),
        ("glove", "Work gloves", "Clothing", 7.0),
        ("box", LONG, "Storage and organisation of small and large households", 15.0),
    ],
    "barbecue": [
        ("charcoal", "Charcoal, 5 kg", "Fuel", 9.0),
        ("sausages", "Sausages for the grill", "Meat", 5.6),
        ("ketchup", "Tomato ketchup", "Condiments", 2.4),
        ("beer", "Lager beer, 6 bottles", "Beer", 6.6),
        ("cigarettes", "Cigarettes, 20 pieces", "Tobacco", 8.0),
        (ODD_ID, "Grill lighters (offer)", "Lighters", 1.5),
        ("buns", None, "Bread", 2.1),
    ],
}
"""Per theme: id, name, category and price of products that baskets of it hold."""

COLD = ("new-kettle", "Electric kettle (new)", "Kitchen appliances", 35.0)
"""A product that nobody has bought."""

PICTURES = {
    "tea": "#b5651d", "teapot": "#607d8b", "coffee": "#4e342e", "pram": "#5c6bc0",
    "spaghetti": "#e0b040", "pesto": "#558b2f", "charcoal": "#333333",
}  # fmt: skip
"""Products with a picture, and its colour; all others have none."""

OUT_OF_STOCK = ("grinder",)

N_BASKETS, SIZE, IN_THEME = 4_000, 4, 0.8
START = datetime(2026, 3, 1, tzinfo=UTC)
APART = timedelta(minutes=30)


@functools.cache
def list_products() -> list[tuple[str, str | None, str, float]]:
    """All products that are bought."""
    return [product for products in THEMES.values() for product in products]


def train(folder: Path, seed: int, moved: int = 0) -> Path:
    """The bundle of a version, in which the last `moved` products of each theme are bought with
    the next theme's."""
    write_products(folder / "products.parquet")
    write_baskets(folder / "baskets", seed, moved)
    (folder / "counts.json").write_text('{"first_order": null}')
    for part in scale.PARTS:
        getattr(scale, part)(folder)
    return folder / "bundle"


def train_single(folder: Path) -> Path:
    """A bundle whose catalogue is one product."""
    from tests.factories import products_table, write

    table = products_table(["lonely"], {"lonely": "alone"}, {})
    vector = np.ones((1, 4), np.float32)
    return write(folder / "bundle", table, vector, vector, np.array([20]))


def write_products(path: Path) -> None:
    ids, names, categories, prices = zip(*list_products(), COLD, strict=True)
    columns = {
        "product_id": ids,
        "name": names,
        "category": categories,
        "price": prices,
        "image_url": [draw_picture(PICTURES[id_]) if id_ in PICTURES else None for id_ in ids],
        "in_stock": [id_ not in OUT_OF_STOCK for id_ in ids],
    }
    table = pa.table({name: list(columns.get(name, [None] * len(ids))) for name in PRODUCTS.names})
    write_table(table.cast(PRODUCTS), PRODUCTS, path)


def draw_picture(colour: str) -> str:
    """The address of a picture that needs no server."""
    shape = f"<circle cx='50' cy='50' r='40' fill='{colour}'/>".replace("#", "%23")
    drawing = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 100 100'>{shape}</svg>"
    return f"data:image/svg+xml,{drawing}"


def write_baskets(path: Path, seed: int, moved: int) -> None:
    """BASKETS whose products come mostly from one theme; the first of a theme are bought most."""
    rng = np.random.default_rng(seed)
    ids = [product[0] for product in list_products()]
    themes = group_rows(moved)
    items = [draw_basket(themes, len(ids), rng) for _ in range(N_BASKETS)]
    share = np.arange(N_BASKETS) / N_BASKETS
    columns = {
        "order_id": [str(number) for number in range(N_BASKETS)],
        "user_id": [None] * N_BASKETS,
        "ts": [START + number * APART for number in range(N_BASKETS)],
        "items": [[ids[row] for row in basket] for basket in items],
        "positions": [None] * N_BASKETS,
        "weight": [1.0] * N_BASKETS,
        "split": np.where(share < 0.8, "train", np.where(share < 0.9, "validation", "test")),
    }
    path.mkdir(parents=True)
    write_table(pa.table(columns).cast(BASKETS), BASKETS, path / "part-0.parquet")


def group_rows(moved: int) -> list[list[int]]:
    """Rows of products by theme."""
    rows = iter(range(len(list_products())))
    groups = [[next(rows) for _ in products] for products in THEMES.values()]
    kept = [group[: len(group) - moved] for group in groups]
    gone = [group[len(group) - moved :] for group in groups]
    return [[*one, *other] for one, other in zip(kept, gone[-1:] + gone[:-1], strict=True)]


def draw_basket(themes: list[list[int]], n_products: int, rng: np.random.Generator) -> list[int]:
    theme = themes[rng.integers(len(themes))]
    share = 1 / np.arange(1, len(theme) + 1) ** 0.5
    n = min(2 + rng.poisson(SIZE - 2), len(theme))
    drawn = rng.choice(theme, n, replace=False, p=share / share.sum())
    others = rng.integers(n_products, size=n)
    return list(dict.fromkeys(np.where(rng.random(n) < IN_THEME, drawn, others).tolist()))
