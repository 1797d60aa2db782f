"""`fbt judge`: has people grade bundles and peers blind, and reads their grades."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.baskets.corpus import (
    REFIT_SPLITS,
    build_catalogue,
    encode,
    read_baskets,
    sort_catalogue,
)
from components.contracts import PRODUCTS, read_table
from components.judging.page import render_page, render_text
from components.judging.read import Interval, Result, compare_systems, read_grades, read_key
from components.judging.sheet import Key, System, check_names, draw_sheet, make_system
from components.model.atomic import atomic_write
from components.model.bundle import read_bundle
from components.progress import log_progress
from pipelines.bench.peers.all_peers import list_peers
from pipelines.bench.peers.peer import ITEM, Peer, Setting, TrainingData
from pipelines.bench.quality import MIN_ORDERS, SEED, prepare
from pipelines.tables import table

PAGE, KEY = "page.html", "key.json"


@dataclass(frozen=True)
class Orders:
    """Where the peers learn from: order lines, or the baskets of a run."""

    orders: str = ""
    products: str = ""
    columns: str = ""
    baskets: Path | None = None

    def check(self, peers: Sequence[Any]) -> None:
        """Raises ValueError."""
        if not peers:
            if self != Orders():
                raise ValueError(
                    "judge: bundles need neither orders nor baskets, peers do; name some with "
                    "--peers, or leave these options out"
                )
            return
        if bool(self.orders) == (self.baskets is not None):
            raise ValueError("judge: peers learn from orders; give --orders or --baskets, not both")
        if self.baskets and (self.products or self.columns):
            raise ValueError(
                "judge: --product-table and --columns belong to --orders; with --baskets the "
                "names come from the bundles"
            )


Names = dict[str, Mapping[str, Any]]


def write_sheet(
    bundles: Sequence[Path], peers: Sequence[str], orders: Orders, n_products: int, seed: int,
    k: int, to: Path, text: Path | None = None,
) -> Path:  # fmt: skip
    """Write the page and its key into the folder `to`; the page. Raises ValueError."""
    chosen = [parse_peer(one) for one in peers]
    check_names([*map(str, bundles), *(name_peer(*one) for one in chosen)])
    orders.check(chosen)
    opened = [(str(path), read_bundle(path)) for path in bundles]
    fitted, names = fit_peers(chosen, orders) if chosen else ([], {})

    def describe(product_id: str) -> Mapping[str, Any]:
        for _, bundle in opened:
            if (row := bundle.records.row(product_id)) is not None:
                return bundle.records.card(row)
        return names.get(product_id, {})

    systems = [*(make_system(*one) for one in opened), *fitted]
    sheet, key = draw_sheet(systems, describe, n_products, seed, k)
    _check_folder(to, key)
    write_text(to / KEY, key.model_dump_json(indent=1))
    write_text(to / PAGE, render_page(sheet))
    if text:
        is_json = text.suffix == ".json"
        write_text(text, sheet.model_dump_json(indent=1) if is_json else render_text(sheet))
    return to / PAGE


def parse_peer(text: str) -> tuple[Peer, Setting]:
    """`NAME` or `NAME:KEY=VALUE,…`; without values, the peer's first setting for item pages."""
    name, _, values = text.partition(":")
    peers = {one.name.lower(): one for one in list_peers()}
    if (peer := peers.get(name.strip().lower())) is None:
        expected = ", ".join(repr(one.name) for one in peers.values())
        raise ValueError(f"judge: peer {name!r} is unknown, expected one of {expected}")
    setting = dict(peer.settings[ITEM][0])
    for part in filter(None, values.split(",")):
        key, _, value = (one.strip() for one in part.partition("="))
        if key not in setting:
            expected = ", ".join(f"{key}={one}" for key, one in setting.items()) or "no setting"
            raise ValueError(f"judge: {peer.name} has no setting {key!r}, expected {expected}")
        setting[key] = _parse_value(value, setting[key], f"{peer.name}, {key}")
    return peer, setting


def _parse_value(text: str, default: Any, name: str) -> Any:
    try:
        value = default if text == str(default) else json.loads(text.lower())
    except ValueError:
        value = None
    is_number = isinstance(value, int | float) and isinstance(default, int | float)
    if isinstance(value, bool) is not isinstance(default, bool) or not (
        is_number or isinstance(value, type(default))
    ):
        raise ValueError(f"judge: {name} is {text!r}, expected a value like {default}")
    return value


def name_peer(peer: Peer, setting: Setting) -> str:
    values = ", ".join(f"{key}={value}" for key, value in setting.items())
    return f"{peer.name} ({values})" if values else peer.name


def fit_peers(peers: Sequence[tuple[Peer, Setting]], orders: Orders) -> tuple[list[System], Names]:
    """Trained like a bundle on training and validation baskets; and the names of products."""
    with tempfile.TemporaryDirectory(prefix="fbt-judge-") as folder:
        names: Names = {}
        baskets = orders.baskets
        if baskets is None:
            inputs = prepare(orders.orders, orders.products, orders.columns, Path(folder))
            baskets, names = inputs.baskets, _read_names(inputs.products)
        product_ids, data = read_training_data(baskets)
    return [_fit(peer, setting, product_ids, data) for peer, setting in peers], names


def read_training_data(path: Path) -> tuple[list[str], TrainingData]:
    baskets = read_baskets(path)
    known, _ = build_catalogue(baskets, MIN_ORDERS)
    product_ids, n_orders = sort_catalogue(baskets, known, *REFIT_SPLITS)
    corpus = encode(baskets, product_ids, *REFIT_SPLITS)
    return product_ids.to_pylist(), TrainingData(corpus, n_orders, SEED)


def _read_names(products: Path) -> Names:
    found = read_table(products, PRODUCTS, ["product_id", "name", "category"])
    return {row["product_id"]: row for row in found.to_pylist()}


def _fit(peer: Peer, setting: Setting, ids: Sequence[str], data: TrainingData) -> System:
    if reason := peer.unavailable_reason(data):
        raise ValueError(f"judge: {peer.name} cannot be trained: {reason}; leave it out")
    name = name_peer(peer, setting)
    log_progress(f"{name}: training")
    try:
        ranker = peer.fit(data, setting).ranker(peer.modes[ITEM][0])
    except ImportError as error:
        raise ValueError(
            f"judge: {peer.name} needs {error.name}; pip install 'fbt[steps,spark,peers]'"
        ) from None
    return System(name, ranker, ids, data.n_orders)


def _check_folder(folder: Path, key: Key) -> None:
    """Raises ValueError where writing would part grades from their key."""
    if (old := folder / KEY).exists() and read_key(old).sheet_id != key.sheet_id:
        raise ValueError(
            f"judge: {old} belongs to another sheet, whose grades cannot be read without it; "
            "choose another folder with --to"
        )


def write_text(path: Path, text: str) -> None:
    if path.is_dir():
        raise ValueError(f"judge: {path} is a folder, expected the name of a file")
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_judgement(files: Sequence[Path], key: Path | None, to: Path | None) -> Result:
    """Raises ValueError. The key lies beside the first file if nothing else is said."""
    grades = [read_grades(file) for file in files]
    key = key or files[0].with_name(KEY)
    if not key.is_file():
        raise ValueError(f"judge: there is no key at {key}; name the sheet's key.json with --key")
    result = compare_systems(read_key(key), grades)
    if to:
        write_text(to, result.model_dump_json(indent=2))
    return result


def format_result(result: Result) -> str:
    head = ("system", "grade", "95 %", "best", "95 %", "worst", "95 %", "vs first", "95 %")
    rows = [
        (
            one.system,
            *_format(one.mean, ".2f"), *_format(one.best, ".0%"), *_format(one.worst, ".0%"),
            *_format(one.difference, "+.2f"),
        )
        for one in result.systems
    ]  # fmt: skip
    judges = [
        (
            one.judge,
            "" if one.mean is None else f"{one.mean:.2f}",
            str(one.n_graded),
            str(one.n_missing),
        )
        for one in result.judges
    ]
    return "\n".join(
        (
            table(head, rows),
            f"{result.n_pages} completely graded pages; systems that tie as best or worst share "
            "the page; identical lists were graded once; intervals by resampling products",
            "",
            table(("judge", "mean grade", "lists", "missing"), judges),
            _format_agreement(result),
        )
    )


def _format(interval: Interval | None, how: str) -> tuple[str, str]:
    if interval is None:
        return "", ""
    return f"{interval.mean:{how}}", f"{interval.low:{how}} … {interval.high:{how}}"


def _format_agreement(result: Result) -> str:
    if not result.n_compared:
        return "agreement: no list has grades of two judges"
    if result.alpha is None:
        return "agreement: undefined, as all grades are the same"
    return (
        f"agreement: Krippendorff's alpha {result.alpha:.2f} (ordinal; 1 is perfect, 0 is chance) "
        f"on {result.n_compared} lists"
    )
