"""A made-up sample of each known export, read to the lines that it means."""

import csv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from components.sources.selection import NO_LINES
from tests.normalised import Normalised, read_lines

EXPORTS = Path(__file__).parents[1] / "exports"
FOLDERS = sorted(one.name for one in EXPORTS.iterdir() if one.is_dir())
SHOP = "Europe/Istanbul"


def find_sample(folder: str) -> Path:
    (sample,) = (one for one in (EXPORTS / folder).iterdir() if "expected" not in one.name)
    return sample


def read_truth(folder: str, file: str) -> list[dict[str, str]]:
    with (EXPORTS / folder / file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def parse_truth(line: dict[str, str]) -> tuple[object, ...]:
    price = float(line["price"]) if line["price"] else None
    return (
        line["order_id"], line["product_id"], parse_clock(line["ts"]), float(line["quantity"]),
        price, line["user_id"] or None,
    )  # fmt: skip


def parse_clock(text: str) -> datetime | None:
    """As UTC; without Z it is the shop's."""
    if not text:
        return None
    clock = datetime.fromisoformat(text)
    aware = clock if clock.tzinfo else clock.replace(tzinfo=ZoneInfo(SHOP))
    return aware.astimezone(UTC).replace(tzinfo=None)


@pytest.fixture(scope="module")
def read(tmp_path_factory) -> dict[str, Normalised]:
    return {
        folder: read_lines(find_sample(folder), tmp_path_factory.mktemp(folder), timezone=SHOP)
        for folder in FOLDERS
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_lines_are_the_truth(read, folder):
    truth = sorted(map(parse_truth, read_truth(folder, "expected.csv")), key=str)
    found = sorted(((*line[:4], line[4], line[5] or None) for line in read[folder].lines), key=str)
    assert [line[:4] for line in found] == [line[:4] for line in truth]
    assert [line[4] for line in found] == pytest.approx([line[4] for line in truth])
    assert [line[5] for line in found] == [line[5] for line in truth]


@pytest.mark.parametrize("folder", FOLDERS)
def test_other_lines_are_left_out_for_their_reason(read, folder):
    truth = read_truth(folder, "expected_left_out.csv")
    kept = Counter(
        (line["order_id"], line["reason"]) for line in truth if line["reason"] not in NO_LINES
    )
    dropped = Counter(line["reason"] for line in truth if line["reason"] in NO_LINES)
    (file,) = read[folder].reading.files
    assert Counter(read[folder].left_out) == kept
    assert file.dropped == dropped


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_in_doubt(read, folder):
    reading = read[folder].reading
    assert reading.files[0].platform
    assert not reading.unreadable
    known = ("encoding:", "user_id:")  # few letters; ids that are put right
    assert not [one for one in reading.doubts() if not one.startswith(known)]


def test_the_name_of_an_order_is_no_name_of_a_product(read):
    (file,) = read["shopify_api"].reading.files
    assert file.columns["order_id"].theirs[0] == "name"
    assert "name" not in file.columns or file.columns["name"].theirs != ("name",)


def test_a_given_column_wins_over_the_platform(tmp_path):
    found = read_lines(find_sample("shopify"), tmp_path, columns="product_id=Lineitem name")
    assert ("1001", "Untersetzer") in [line[:2] for line in found.lines]
    assert all("TK-01" not in str(line[1]) for line in found.lines)
