"""One way to read and write tables: errors name the table, nothing half-written stays."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.contracts import PRODUCTS, ContractError, open_table, read_table, write_table
from components.model.atomic import atomic_write


@pytest.fixture
def products():
    rows = [{"product_id": "tea", "price": 3.5, "in_stock": True}, {"product_id": "milk"}]
    return pa.Table.from_pylist(rows, schema=pa.schema(list(PRODUCTS)))


def test_what_was_written_is_read(products, tmp_path):
    write_table(products, PRODUCTS, tmp_path / "p")
    assert read_table(tmp_path / "p", PRODUCTS).to_pylist() == products.to_pylist()
    assert read_table(tmp_path / "p", PRODUCTS, ["price"]).column_names == ["price"]


def test_an_empty_table_is_a_table(tmp_path):
    write_table(PRODUCTS.empty_table(), PRODUCTS, tmp_path / "p")
    assert read_table(tmp_path / "p", PRODUCTS).num_rows == 0


def test_nothing_there(tmp_path):
    with pytest.raises(ContractError, match=r"products: nothing found at .*absent; run the step"):
        read_table(tmp_path / "absent", PRODUCTS)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ContractError, match="holds no Parquet file"):
        read_table(tmp_path, PRODUCTS)


def test_a_missing_column(products, tmp_path):
    pq.write_table(products.drop_columns(["brand"]), tmp_path / "p")
    with pytest.raises(ContractError, match=r"products: column 'brand' is missing .* expected \["):
        open_table(tmp_path / "p", PRODUCTS)


def test_a_wrong_type(products, tmp_path):
    wrong = products.set_column(4, "price", pa.array(["3.50", None]))
    pq.write_table(wrong, tmp_path / "p")
    with pytest.raises(ContractError, match=r"'price' .* has type string, expected double"):
        read_table(tmp_path / "p", PRODUCTS)


def test_a_null_where_none_may_be(products, tmp_path):
    wrong = products.set_column(0, "product_id", pa.array(["tea", None]))
    with pytest.raises(ContractError, match=r"'product_id' holds 1 nulls \(first in row 1\)"):
        write_table(wrong, PRODUCTS, tmp_path / "p")
    assert not list(tmp_path.iterdir())


def test_other_columns_are_not_written(products, tmp_path):
    with pytest.raises(ContractError, match="cannot write columns"):
        write_table(products.append_column("x", pa.array([1, 2])), PRODUCTS, tmp_path / "p")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_broken_write_leaves_the_old_and_nothing_else(tmp_path, error):
    target = tmp_path / "thing"
    target.write_text("old")

    def write_half():
        with atomic_write(target) as aside:
            aside.mkdir()
            (aside / "part").write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_takes_the_place_of_a_folder(tmp_path):
    target = tmp_path / "thing"
    for content in ("one", "two"):
        with atomic_write(target) as aside:
            aside.mkdir()
            (aside / content).touch()
    assert [file.name for file in target.iterdir()] == ["two"]
