"""Numbers as shops write them."""

import math

import duckdb
import pytest

from components.sources.errors import SourceError
from components.sources.numbers import NumberFormat, detect_number_format

NAME = "a.csv: column 'Preis'"


@pytest.fixture(scope="module")
def con():
    return duckdb.connect()


def fill(con, values):
    con.execute("create or replace table shop (Preis varchar)")
    con.execute("insert into shop select unnest(?::varchar[])", [values])


def detect(con, values, decimal=""):
    fill(con, values)
    return detect_number_format(con, "shop", '"Preis"', name=NAME, decimal=decimal)


def read(con, values, decimal=""):
    format_ = detect(con, values, decimal)
    return [row[0] for row in con.execute(f"select {format_.sql('Preis')} from shop").fetchall()]


def read_with(con, values, decimal, thousands):
    fill(con, values)
    format_ = NumberFormat(
        decimal=decimal, thousands=thousands, is_percent=False, evidence="", is_certain=True
    )
    return [row[0] for row in con.execute(f"select {format_.sql('Preis')} from shop").fetchall()]


@pytest.mark.parametrize(
    ("values", "truth"),
    [
        (["12.5", "7", "1234.56"], [12.5, 7, 1234.56]),
        (["12,5", "7", "1234,56"], [12.5, 7, 1234.56]),
        (["1.234,56", "12,50", "1.250", "900"], [1234.56, 12.5, 1250, 900]),
        (["1,234.56", "12.50", "1,250"], [1234.56, 12.5, 1250]),
        (["1.234.567", "12"], [1234567, 12]),
        (["1,234,567", "1,250"], [1234567, 1250]),
        (["1,23,456.00", "12.50"], [123456, 12.5]),
        (["1 234,56", "12,50"], [1234.56, 12.5]),
        (["1\u00a0234,56", "1\u202f234\u202f567,00"], [1234.56, 1234567]),
        (["1'234.50", "2’000.00"], [1234.5, 2000]),
        (["1 234", "56"], [1234, 56]),
        (["$1,234.56", "$12.00", "-$3.50", "$-3.50"], [1234.56, 12, -3.5, -3.5]),
        (["1.234,56 €", "12,50 €", "€ 3,00"], [1234.56, 12.5, 3]),
        (["TL 12,50", "₺1.234,00", "12,50TL"], [12.5, 1234, 12.5]),
        (["EUR 12", "EUR 12.50"], [12, 12.5]),
        (["kr 99,50", "99,50 kr.", "1 299,00 kr"], [99.5, 99.5, 1299]),
        (["R$ 12,50", "R$1.234,56"], [12.5, 1234.56]),
        (["12,50 zł", "3 Kč", "100 руб."], [12.5, 3, 100]),
        (["Rs.500", "Rs. 1,500.50"], [500, 1500.5]),
        (["(12.50)", "($1,000.00)", "$ (2.50)", "3.00"], [-12.5, -1000, -2.5, 3]),
        (
            ["12,50-", "\u221212,50", "-12,50", "+3,25", "12,50 € -"],
            [-12.5, -12.5, -12.5, 3.25, -12.5],
        ),
        (["12,-", "12,50", "5,--"], [12, 12.5, 5]),
        (["12.5 %", "20%", "%5"], [0.125, 0.2, 0.05]),
        (["1.2E+03", "1.5e-2", "7"], [1200, 0.015, 7]),
        (["1,2E+03", "7,5"], [1200, 7.5]),
        (["", "  ", None, "12.5", " 7 "], [None, None, None, 12.5, 7]),
        (["nan", "inf", "-Infinity", "12.5", "1e999"], [None, None, None, 12.5, None]),
        ([".5", "12.", "0.25"], [0.5, 12, 0.25]),
        (["0.125", "1.234"], [0.125, 1.234]),
        (["0,125", "1,234"], [0.125, 1.234]),
        (["1234.567", "1.234"], [1234.567, 1.234]),
        (["12", "7", "0"], [12, 7, 0]),
        (["12.50", "n/a", "call us", "12 pcs", "A7", "1-2", "1.2.3"], [12.5] + [None] * 6),
        (["=cmd|' /C calc'!A0", "12.5"], [None, 12.5]),
    ],
)
def test_numbers_are_read(con, values, truth):
    found = read(con, values)
    expected = [None if x is None else pytest.approx(x) for x in truth]
    assert found == expected
    assert detect(con, values).is_certain


def test_a_stray_value_is_unreadable_not_another_number(con):
    values = ["1.234,56"] * 200 + ["12.5"]
    assert read(con, values)[-1] is None
    assert read_with(con, ["12.5", "1.5 €", "1.234,5"], ",", ".") == [None, None, 1234.5]
    assert read_with(con, ["1.5", "1,234.5", "1,5"], ",", "") == [None, None, 1.5]
    assert read_with(con, ["1,5", "1.5", "1,234"], ".", "") == [None, 1.5, None]
    assert read_with(con, ["1.5", "1 234,5"], ",", " ") == [None, 1234.5]


@pytest.mark.parametrize("value", ["12,34,5.00", "1,2345.00", "1,23.00", "0,123.00", "1,,234.00"])
def test_thousands_stand_in_their_groups(con, value):
    assert read_with(con, [value], ".", ",") == [None]


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (["1,234"], 1234),
        (["1.234"], 1.234),
        (["1.250", "12.900"], 1.25),
        (["950", "20", *["1.250", "2.990", "3.125"] * 10], 950),
        (["$1,234", "$2,000"], 1234),
        (["1.000", "2.000", "500"], 1000),
    ],
)
def test_a_mark_before_three_digits_decides_nothing(con, values, first):
    format_ = detect(con, values)
    assert not format_.is_certain
    assert values[0] in format_.evidence or "look like" in format_.evidence
    assert read(con, values)[0] == pytest.approx(first)


def test_values_below_1000_without_mark_make_thousands_likelier(con):
    values = ["950", "20", *["1.250", "2.990", "3.125"] * 10]
    assert read(con, values)[2] == 1250


@pytest.mark.parametrize(("mark", "value"), [(",", "1,234"), (".", "1.234")])
def test_a_large_value_without_mark_proves_that_thousands_have_none(con, mark, value):
    format_ = detect(con, [value, "1500", "22000"])
    assert (format_.decimal, format_.thousands, format_.is_certain) == (mark, "", True)
    assert "22000" in format_.evidence or "1500" in format_.evidence


def test_the_choice_of_the_user_wins(con):
    assert read(con, ["1.234", "2.500"], ",") == [1234, 2500]
    assert read(con, ["1.234", "2.500"], ".") == [1.234, 2.5]
    assert read(con, ["1,234", "2,500"], ",") == [1.234, 2.5]
    with pytest.raises(SourceError, match="expected '"):
        detect(con, ["1"], ";")


def test_contradicting_values_are_refused_with_examples(con):
    with pytest.raises(SourceError) as error:
        detect(con, ["12,50", "3,5", "12.50", "1,234.50"] * 5)
    for part in (NAME, "12,50", "12.50", "--decimal"):
        assert part in str(error.value)


def test_one_proof_among_many_unclear_values_is_not_certain(con):
    assert not detect(con, ["1.234", "2.345"] * 200 + ["12.5"]).is_certain
    assert detect(con, ["1.234", "2.345"] * 20 + ["12.5"]).is_certain


def test_a_sample_of_many_values_decides_as_all_do(con):
    con.execute(
        "create or replace table shop as select case when i = 70000 then '1.234.567,5' "
        "else i // 100 || ',' || i % 100 end as Preis from range(100000) as t(i)"
    )
    format_ = detect_number_format(con, "shop", "Preis", name=NAME)
    assert (format_.decimal, format_.thousands, format_.is_certain) == (",", ".", True)
    con.execute("update shop set Preis = '12.5' where Preis like '1%'")
    with pytest.raises(SourceError, match="expected one decimal mark"):
        detect_number_format(con, "shop", "Preis", name=NAME)


def test_evidence_names_values(con):
    assert detect(con, ["1.234,56", "2.345,67"]).evidence == "2 values like 1.234,56"
    assert detect(con, ["12.5"]).evidence == "1 values like 12.5"
    assert "no value" in detect(con, ["12"]).evidence
    assert "percent" in detect(con, ["12%"]).evidence


def test_a_percent_sign_in_a_column_without_them_is_unreadable(con):
    assert read_with(con, ["12%", "12"], ".", "") == [None, 12]


def test_every_shown_float_comes_back(con):
    numbers = [((i * 7919) % 5_000_000 - 2_000_000) / 100 for i in range(5000)]
    for decimal, thousands in [
        (".", ","),
        (",", "."),
        (",", " "),
        (".", "'"),
        (".", ""),
        (",", ""),
    ]:
        marks = str.maketrans({",": thousands, ".": decimal})
        found = read(con, [f"{number:,.2f}".translate(marks) for number in numbers])
        assert all(math.isclose(a, b) for a, b in zip(found, numbers, strict=True))


def test_any_relation_and_expression_will_do(con):
    relation = "(select unnest(['x1,5', 'x2,25']) as a) as t"
    format_ = detect_number_format(con, relation, "a[2:]", name=NAME)
    assert con.execute(f"select {format_.sql('a[2:]')} from {relation}").fetchall() == [
        (1.5,),
        (2.25,),
    ]


def test_an_empty_column_is_no_error(con):
    assert detect(con, [None, ""]).is_certain
