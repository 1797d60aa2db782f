"""Known lines, written as an export of any kind: the truth comes back, or a doubt is told."""

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.sources.errors import SourceError
from components.sources.normalise import connect
from components.sources.understand import ReadSettings
from tests.export_writer import (
    COLUMNS,
    ID_TYPES,
    LETTERS,
    NUMBER_TYPES,
    TIME_STYLES,
    TIME_TYPES,
    Line,
    NumberStyle,
    Style,
    make_lines,
    pack,
    write_csv,
    write_json,
    write_parquet,
)
from tests.normalised import Normalised, read_with

pytestmark = pytest.mark.timeout(1200)
ZONES = ("UTC", "Europe/Istanbul", "America/New_York", "Asia/Kolkata")


SHARE = float(os.environ.get("FBT_EXPORT_CASES", "0.2"))
"""Of the cases that a release is tried with."""


def repeat(n_examples: int) -> settings:
    return settings(
        max_examples=round(n_examples * SHARE), derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.fixture(scope="module")
def con(tmp_path_factory):
    with connect(tmp_path_factory.mktemp("scratch")) as opened:
        opened.execute("set threads = 1")
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("exports")


prices = st.builds(
    NumberStyle,
    decimal=st.sampled_from(".,"),
    thousands=st.sampled_from(["", "", ",", ".", " ", "'"]),
    before=st.sampled_from(["", "", "", "$", "EUR "]),
    behind=st.sampled_from(["", "", "", " EUR", " zl"]),
    n_digits=st.sampled_from([2, 2, 2, 2, 1, 3]),
).filter(lambda one: one.decimal != one.thousands and not (one.before and one.behind))

styles = st.builds(
    Style,
    encoding=st.sampled_from(["utf-8", "utf-8", *LETTERS]),
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from(["minimal", "minimal", "all", "none", "backslash"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    n_titles=st.sampled_from([0, 0, 0, 1, 2, 3]),
    has_totals=st.booleans(),
    has_trailing=st.booleans(),
    n_blank=st.sampled_from([0, 0, 1, 2]),
    header=st.sampled_from(["ours", "upper", "spaces", "synonyms", "german"]),
    order=st.permutations(COLUMNS).map(tuple),
    extra=st.sampled_from([(), ("note",), ("Warehouse", "status")]),
    null=st.sampled_from(["", "", "NULL", "nan", "\\N"]),
    time=st.sampled_from(sorted(TIME_STYLES)),
    price=prices,
    n_quantity_digits=st.sampled_from([0, 0, 0, 1, 2]),
    packing=st.sampled_from(["", "", "", "gz", "bz2", "zst", "zip"]),
)


def is_possible(style: Style) -> bool:
    """Without quotes, no value may have the separator."""
    marks = {*style.time, style.price.decimal, style.price.thousands}
    if style.quoting == "backslash" and "\\" in style.null:
        return False
    return style.quoting != "none" or style.separator not in marks


styles = styles.filter(is_possible)
seeds = st.integers(0, 2**32 - 1)
sizes = st.sampled_from([1, 3, 10, 40])
ids = st.sampled_from(["zeros", "numbers", "text"])


def check(found: Normalised, truth: dict[str, list[Line]]) -> None:
    """`truth` is by the name of the file."""
    files = {one.name.split("/")[0]: one for one in found.reading.files}
    by_key = {(line[0], line[1]): line for line in found.lines}
    keys = sorted((one.order_id, one.product_id) for lines in truth.values() for one in lines)
    assert sorted((line[0], line[1]) for line in found.lines) == keys
    for name, lines in truth.items():
        file = files[name]
        uncertain = {ours for ours, one in file.columns.items() if not one.is_certain}
        if not file.encoding_is_certain:
            uncertain.add("name")
        for line in lines:
            for ours, value in zip(COLUMNS, by_key[line.order_id, line.product_id], strict=True):
                if ours not in uncertain:
                    check_value(ours, value, getattr(line, ours))


def check_value(ours: str, value: object, true: object) -> None:
    if isinstance(true, float):
        assert value == pytest.approx(true, rel=1e-9), ours
    else:
        assert value == true, ours


def read(con, source: Path, staging: Path, zone: str, columns: str = "") -> Normalised:
    with con.cursor() as own:
        own.execute("set TimeZone = 'UTC'")
        return read_with(own, source, staging, ReadSettings(timezone=zone, columns=columns))


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "in").mkdir(parents=True)
    return folder


@contextmanager
def allow_refusal() -> Iterator[None]:
    """Of a column of times that are all missing, but for the word of the totals line."""
    try:
        yield
    except SourceError as error:
        if "no format reads 'Total'" not in str(error):
            raise


@repeat(450)
@given(styles, seeds, sizes, ids, st.sampled_from(ZONES))
def test_separated_text(con, folder, style, seed, n_lines, id_kind, zone):
    place = fresh(folder)
    lines = make_lines(random.Random(seed), n_lines, 1000, style, zone, id_kind)
    path = pack(write_csv(lines, style, zone), style.packing, place / "in" / "orders.csv")
    with allow_refusal():
        check(read(con, path, place / "staging", zone), {path.name: lines})


@repeat(50)
@given(st.lists(styles, min_size=3, max_size=3), seeds, sizes, ids, st.sampled_from(ZONES))
def test_files_of_several_dialects(con, folder, several, seed, n_lines, id_kind, zone):
    place, rng, truth = fresh(folder), random.Random(seed), {}
    for number, style in enumerate(several):
        lines = make_lines(rng, n_lines, 1000 * (number + 1), style, zone, id_kind)
        content = write_csv(lines, style, zone)
        path = pack(content, style.packing, place / "in" / f"{number}.csv")
        truth[path.name] = lines
    with allow_refusal():
        check(read(con, place / "in", place / "staging", zone), truth)


shapes = st.sampled_from(["flat", "nested", "answer"])


@repeat(500)
@given(styles, shapes, seeds, sizes, ids, st.sampled_from(ZONES))
def test_json(con, folder, style, shape, seed, n_lines, id_kind, zone):
    place = fresh(folder)
    style = replace(style, encoding="utf-8")
    lines = make_lines(random.Random(seed), n_lines, 1000, style, zone, id_kind)
    path = pack(write_json(lines, style, zone, shape), style.packing, place / "in" / "orders.jsonl")
    check(read(con, path, place / "staging", zone), {path.name: lines})


@repeat(1000)
@given(
    st.sampled_from(sorted(TIME_TYPES)), st.sampled_from(sorted(NUMBER_TYPES)),
    st.sampled_from(ID_TYPES), st.permutations(COLUMNS), st.sampled_from(["ours", "synonyms"]),
    seeds, sizes, st.sampled_from(ZONES),
)  # fmt: skip
def test_parquet(con, folder, time, number, id_type, order, header, seed, n_lines, zone):
    place = fresh(folder)
    style = Style(order=tuple(order), header=header)
    kind = "numbers" if "int" in id_type or "decimal" in id_type else "zeros"
    lines = make_lines(random.Random(seed), n_lines, 1000, style, zone, kind)
    path = place / "in" / "orders.parquet"
    if number == "float":  # of few digits
        lines = [replace(one, price=one.price and float(round(one.price))) for one in lines]
    write_parquet(lines, style, zone, path, time, number, id_type)
    found = read(con, path, place / "staging", zone)
    check(found, {path.name: lines})
    assert not found.reading.doubts()
