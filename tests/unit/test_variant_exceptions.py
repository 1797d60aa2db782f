"""Exceptions to the variant rule: pairs as text, CSV or Parquet, and clear refusals."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.ranking.variant_exceptions import ExceptionsError, read_exceptions, unknown_ids
from components.sources.errors import SourceError


def test_a_few_pairs_are_given_as_text():
    assert read_exceptions("") == []
    assert read_exceptions(" A1+A2,B7 + 007,, A1+A2") == [("A1", "A2"), ("B7", "007")]


@pytest.mark.parametrize("wrong", ["A1", "A1+A2+A3", "A1+", "+", "pairs.txt"])
def test_a_malformed_pair_is_named(wrong):
    with pytest.raises(ExceptionsError, match="is not a pair; expected ID\\+ID, or a file"):
        read_exceptions(f"X1+X2,{wrong}")


def test_a_file_holds_ids_of_any_characters(tmp_path):
    file = tmp_path / "a+b, c.csv"
    file.write_text(
        '\ufeffwhy;product_id;other_id\nboth;007;"x+y, z"\n;" 🫖 ";"two\nlines"\n', "utf-8"
    )
    assert read_exceptions(str(file)) == [("007", "x+y, z"), ("🫖", "two\nlines")]


def test_a_parquet_file_may_hold_numbers(tmp_path):
    table = pa.table({"other_id": [4, 5], "product_id": [1, 2]})
    pq.write_table(table, tmp_path / "pairs.parquet")
    assert read_exceptions(str(tmp_path / "pairs.parquet")) == [("1", "4"), ("2", "5")]


def test_a_missing_or_empty_file_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"absent\.csv: no such file"):
        read_exceptions(str(tmp_path / "absent.csv"))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(SourceError, match=r"empty\.csv: empty"):
        read_exceptions(str(tmp_path / "empty.csv"))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("A1,A2\nB7,B9\n", "has the columns A1, A2; expected product_id and other_id"),
        ("product_id,other_id\nA1,A2\nB7,\n", "other_id is empty in row 2"),
        ("product_id,other_id\nA1,A2,A3\n", "header has 2 names, but a line has 3 values"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path, content, error):
    file = tmp_path / "pairs.csv"
    file.write_text(content)
    with pytest.raises(SourceError, match=error):
        read_exceptions(str(file))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "pairs.csv").write_bytes(b"\xff\xfe\x00p\x00")
    with pytest.raises(SourceError, match=r"pairs\.csv"):
        read_exceptions(str(tmp_path / "pairs.csv"))


def test_a_query_is_refused():
    with pytest.raises(ExceptionsError, match="expected a file or pairs"):
        read_exceptions("jdbc:postgresql://host/shop|select 1")


def test_unknown_products_are_listed():
    assert unknown_ids([("a", "x"), ("x", "b"), ("y", "a")], ["a", "b"]) == ["x", "y"]
