"""Timestamps as shops write them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pytest

from components.sources.errors import SourceError
from components.sources.time_formats import NUMERIC_KINDS
from components.sources.timestamps import (
    TimeFormat,
    check_timezone,
    detect_time_format,
)

NAME = "orders.csv: column 'Datum' (ts)"
NINE = "2024-01-31 09:00:00"


@pytest.fixture(scope="module")
def con():
    """Its zone is far from UTC, so that a reading which depends on it shows."""
    con = duckdb.connect()
    con.execute("set TimeZone = 'America/New_York'")
    return con


def detect(con, values, **options):
    con.execute("create or replace table shop (Datum varchar)")
    con.execute("insert into shop select unnest(?::varchar[])", [values])
    return detect_time_format(con, "shop", '"Datum"', name=NAME, **options)


def read(con, values, timezone="UTC", **options):
    return read_table(con, detect(con, values, **options), timezone)


def read_table(con, format_, timezone="UTC"):
    rows = con.execute(f"select {format_.sql('Datum', timezone)} from shop").fetchall()
    assert {kind for (_, kind, *_) in con.description} <= {"TIMESTAMP", "DATETIME"}
    return [None if row[0] is None else str(row[0]) for row in rows]


@pytest.mark.parametrize(
    "value",
    [
        "2024-01-31 09:00:00",
        "2024-01-31T09:00:00",
        "2024-01-31 09:00",
        "2024-01-31T09:00",
        "2024-01-31 9:00",
        " 2024-01-31 09:00:00 ",
        "2024-01-31  09:00:00",
        "2024-01-31 09:00:00.0",
        "2024-01-31 09:00:00.000",
        "2024-01-31T09:00:00.000000000",
        "2024-01-31 09:00:00,000",
        "2024-01-31T09:00:00Z",
        "2024-01-31T09:00:00.000Z",
        "2024-01-31 09:00:00 UTC",
        "2024-01-31 09:00:00.000000 UTC",
        "2024-01-31 09:00:00 GMT",
        "2024-01-31 12:00:00 +0300",
        "2024-01-31 12:00:00+0300",
        "2024-01-31 12:00:00+03:00",
        "2024-01-31 12:00:00 +03:00",
        "2024-01-31 12:00:00+03",
        "2024-01-31T05:30:00-03:30",
        "2024-01-31T12:00:00.000+03:00",
        "2024-01-31T12:00:00+03:00[Europe/Istanbul]",
        "2024-01-31 12:00:00 Europe/Istanbul",
        "2024-01-31 10:00:00 CET",
        "2024-01-31 10:00:00 MEZ",
        "2024-01-31 11:00:00 MESZ",
        "2024-01-31 12:00:00 TRT",
        "2024-01-31 12:00:00 UTC+3",
        "2024/01/31 09:00",
        "2024.01.31 09:00",
        "2024/1/31 9:00:00",
        "31/01/2024 09:00",
        "31.01.2024 09:00",
        "31.1.2024 9:00",
        "31-01-2024 09:00:00",
        "31.01.2024, 09:00",
        "31.01.2024 09.00",
        "31.01.2024 09.00.00",
        "01/31/2024 09:00",
        "1/31/2024 9:00:00 AM",
        "01/31/2024 09:00:00 am",
        "1/31/2024, 9:00:00\u202fAM",
        "1/31/2024 9:00AM",
        "31/01/2024 9:00 a.m.",
        "31/1/2024, 9:00 a.\u00a0m.",
        "31.01.2024 09:00 ÖÖ",
        "31 Jan 2024 09:00",
        "31 January 2024 09:00:00",
        "31-JAN-2024 09:00:00",
        "31-Jan-24 09:00",
        "31-Jan-24 09.00.00.000000 AM",
        "2024-01-31-09.00.00.000000",
        "1/31/2024 9 AM",
        "Jan 31, 2024 9:00 AM",
        "January 31, 2024 09:00",
        "January 31st, 2024 9:00 am",
        "Jan. 31, 2024, 9:00 a.m.",
        "2024-Jan-31 09:00",
        "Wed, 31 Jan 2024 09:00:00 GMT",
        "Wed, 31 Jan 2024 12:00:00 +0300",
        "Wednesday, January 31, 2024 9:00 AM",
        "Wed Jan 31 2024 12:00:00 GMT+0300 (TRT)",
        "Wed Jan 31 2024 12:00:00 GMT+0300 (GMT+03:00)",
        "Wed Jan 31 09:00:00 2024",
        "Wed Jan 31 09:00:00 +0000 2024",
        "Jan 31, 2024 1:00:00 AM PST",
        "31. Januar 2024 09:00",
        "Mittwoch, 31. Januar 2024 um 09:00 Uhr",
        "31 janv. 2024 09:00",
        "31 janvier 2024 à 09h00",
        "mercredi 31 janvier 2024 09:00",
        "31 de enero de 2024 9:00",
        "31 ene 2024 9:00",
        "31 gennaio 2024 alle ore 09:00",
        "31 de janeiro de 2024 às 09:00",
        "31 januari 2024 om 09:00",
        "31 Ocak 2024 09:00",
        "31 Ocak 2024 Çarşamba 09:00",
        "31 stycznia 2024 09:00",
        "202401310900",
        "20240131090000",
        "20240131T090000",
        "20240131T090000Z",
        "20240131 09:00",
        "2024年1月31日 09:00",
        "2024. 1. 31. 09:00",
        "09:00 31/01/2024",
        "45322.375",
        "45322,375",
        "1706691600",
        "1706691600.0",
        "1706691600000",
        "1706691600000000",
        "1706691600000000000",
    ],
)
def test_every_spelling_of_one_moment(con, value):
    assert read(con, [value, None, ""]) == [NINE, None, None]
    assert detect(con, [value]).is_certain


@pytest.mark.parametrize(
    ("values", "truth"),
    [
        (["31/01/2024", "05/02/2024"], ["2024-01-31", "2024-02-05"]),
        (["01/31/2024", "02/05/2024"], ["2024-01-31", "2024-02-05"]),
        (["20240131", "20240205"], ["2024-01-31", "2024-02-05"]),
        (["31012024", "05022024"], ["2024-01-31", "2024-02-05"]),
        (["01312024", "02052024"], ["2024-01-31", "2024-02-05"]),
        (["2024-01-31", "2024-2-5"], ["2024-01-31", "2024-02-05"]),
        (["31 mars 2024", "5 août 2024"], ["2024-03-31", "2024-08-05"]),
        (["31 May 2024", "5 June 2024"], ["2024-05-31", "2024-06-05"]),
        (["31 MAY 2024", "5 AĞU 2024"], ["2024-05-31", "2024-08-05"]),
        (
            ["5 şubat 2024", "5 EYLÜL 2024", "1 Aralık 2023"],
            ["2024-02-05", "2024-09-05", "2023-12-01"],
        ),
        (["Sept 5, 2024", "Dec 31, 2024"], ["2024-09-05", "2024-12-31"]),
        (["12/31/99", "01/31/24"], ["1999-12-31", "2024-01-31"]),
    ],
)
def test_dates(con, values, truth):
    assert read(con, values) == [f"{day} 00:00:00" for day in truth]


@pytest.mark.parametrize(
    ("value", "clock"),
    [
        ("12:00 AM", "00:00:00"),
        ("12:30 PM", "12:30:00"),
        ("1:05 pm", "13:05:00"),
        ("11:59 p.m.", "23:59:00"),
        ("15:00:00 PM", "15:00:00"),
        ("00:10 AM", "00:10:00"),
        ("9:00:00 PM", "21:00:00"),
        ("9:13:00 PM", "21:13:00"),
        ("9:13 ÖS", "21:13:00"),
    ],
)
def test_12_hour_clocks(con, value, clock):
    assert read(con, [f"01/31/2024 {value}", "01/31/2024 10:00 AM"])[0] == f"2024-01-31 {clock}"


@pytest.mark.parametrize(
    "zone",
    [
        "America/Los_Angeles",
        "America/Denver",
        "America/Chicago",
        "America/New_York",
        "Europe/Lisbon",
        "Europe/Berlin",
        "Europe/Athens",
        "Europe/Moscow",
        "Asia/Tokyo",
        "Asia/Seoul",
        "Australia/Sydney",
    ],
)
def test_names_of_zones(con, zone):
    for month in (1, 7):
        moment = datetime(2024, month, 31, 12, tzinfo=ZoneInfo(zone))
        utc = moment.astimezone(UTC).replace(tzinfo=None)
        assert read(con, [f"{moment:%Y-%m-%d %H:%M:%S %Z}"]) == [str(utc)]


def test_one_column_of_several_spellings(con):
    values = ["2024-01-31 09:00:00", "2024-01-31T09:00:00.5", "2024-01-31", "2024-01-31 09:00"]
    assert read(con, values) == [
        NINE,
        "2024-01-31 09:00:00.500000",
        "2024-01-31 00:00:00",
        NINE,
    ]
    values = ["2024-01-31T09:00:00Z", "2024-01-31T09:00:00.25Z", "2024-01-31T12:00:00+03:00"]
    assert read(con, values, "Asia/Tokyo") == [NINE, "2024-01-31 09:00:00.250000", NINE]
    assert detect(con, values).has_offset


def test_fractions_are_rounded_to_microseconds(con):
    for digits in range(1, 10):
        fraction = "123456100"[:digits]
        found = read(con, [f"2024-01-31T09:00:00.{fraction}"])
        assert found == [f"{NINE}.{fraction[:6]:0<6}"]


def test_local_clocks_are_taken_in_the_zone_of_the_shop(con):
    assert read(con, ["31.01.2024 12:00"], "Europe/Istanbul") == [NINE]
    assert read(con, ["2024-01-31 12:00:00"], "Europe/Istanbul") == [NINE]
    assert read(con, ["45322.5"], "Europe/Istanbul") == [NINE]
    assert not detect(con, ["2024-01-31 12:00:00"]).has_offset


def test_an_offset_is_never_dropped(con):
    """A cast to TIMESTAMP reads `2024-01-31 12:00:00+03:00` as 12:00."""
    for value in ("2024-01-31 12:00:00+03:00", "1706691600", "2024-01-31 09:00:00 UTC"):
        assert detect(con, [value]).has_offset
        assert read(con, [value], "Asia/Tokyo") == [NINE]
    values = ["2024-01-31 18:00:00"] * 100_000 + ["2024-01-31 12:00:00+03:00"]
    assert set(read(con, values, "Asia/Tokyo")) == {NINE}
    assert not detect(con, values).has_offset


def test_hours_that_summer_time_leaves_out_or_doubles(con):
    assert read(con, ["2024-03-31 02:30:00"], "Europe/Berlin") == ["2024-03-31 01:30:00"]
    doubled = read(con, ["2024-10-27 02:30:00"], "Europe/Berlin")
    assert doubled[0] in ("2024-10-27 00:30:00", "2024-10-27 01:30:00")


@pytest.mark.parametrize(
    "trap",
    [
        "infinity",
        "-infinity",
        "epoch",
        "2024-01-31 (BC)",
        "-2024-01-31",
        "0001-01-01 00:00:00",
        "9999-12-31 23:59:59",
        "1900-01-00",
        "2024-02-30 09:00:00",
        "2024-13-01 09:00:00",
        "2024-01-31 09:00:00 XXX",
        "2024-01-31 09:00:00 IST",
        "2024-01-31 09:61:00",
        "45322",
        "NULL",
        "=cmd|' /C calc'!A0",
        "it's",
    ],
)
def test_what_is_no_moment_is_null(con, trap):
    assert read(con, [NINE] * 200 + [trap])[-1] is None


def test_rare_spellings_are_found_and_rare_days_decide(con):
    con.execute(
        "create or replace table shop as select case when i = 150000 then '31/01/2024' "
        "when i = 150001 then '2024-02-05 09:00:00.5' "
        "else printf('%02d/%02d/2024 09:%02d', 1 + i % 12, 1 + i // 12 % 12, i // 144 % 60) end "
        "as Datum from range(200000) as t(i)"
    )
    format_ = detect_time_format(con, "shop", "Datum", name=NAME)
    found = read_table(con, format_)
    assert found[150_000:150_002] == ["2024-01-31 00:00:00", "2024-02-05 09:00:00.500000"]
    assert None not in found


def test_one_day_above_12_in_many_rows_decides(con):
    con.execute(
        "create or replace table shop as select case when i = 150000 then '01/31/2024 10:00' "
        "else printf('%02d/%02d/2024 09:%02d', 1 + i % 12, 1 + i // 12 % 12, i // 144 % 60) end "
        "as Datum from range(200000) as t(i)"
    )
    format_ = detect_time_format(con, "shop", "Datum", name=NAME)
    assert format_.pattern == "%m/%d/%Y %H:%M"
    assert format_.is_certain
    assert "01/31/2024 10:00" in format_.evidence


@pytest.mark.parametrize(
    ("values", "pattern", "reason"),
    [
        (["05.01.2024 09:00", "06.01.2024 09:00"], "%d.%m.%Y %H:%M", "dots"),
        (["01/05/2024 09:00 AM", "01/06/2024 09:00 PM"], "%m/%d/%Y %I:%M %p", "12-hour"),
        (["01/05/2024", "01/06/2024", "01/07/2024"], "%m/%d/%Y", "days"),
        (["05/01/2024", "06/01/2024", "07/01/2024"], "%d/%m/%Y", "days"),
        (["05/01/2024", "06/01/2024", "02/02/2024", "03/02/2024"], "%d/%m/%Y", "order of time"),
        (["03/03/2024"], "%d/%m/%Y", "most countries"),
        (["05-01-2024"], "%d-%m-%Y", "most countries"),
    ],
)
def test_where_no_day_decides_the_choice_is_said(con, values, pattern, reason):
    format_ = detect(con, values)
    assert (format_.pattern, format_.is_certain) == (pattern, False)
    assert "no day above 12" in format_.evidence
    assert reason in format_.evidence


@pytest.mark.parametrize(
    ("pattern", "is_certain"),
    [
        ("%d.%m.%y", True),
        ("%m/%d/%y", True),
        ("%y/%m/%d", True),
        ("%y%m%d", True),
        ("%d%m%y", True),
    ],
)
def test_two_digit_years(con, pattern, is_certain):
    days = [datetime(2023, 11, 3) + timedelta(days=i) for i in range(120)]
    values = [day.strftime(pattern) for day in days]
    format_ = detect(con, values)
    assert (format_.pattern, format_.is_certain) == (pattern, is_certain)
    assert read(con, values) == [str(day) for day in days]


def test_contradicting_days_are_refused_with_examples(con):
    values = ["31/01/2024", "25/01/2024"] * 10 + ["01/30/2024", "01/29/2024"] * 3
    with pytest.raises(SourceError) as error:
        detect(con, values)
    for part in (NAME, "31/01/2024", "01/30/2024", "day first", "month first", "--ts-format"):
        assert part in str(error.value)
    stray = ["31/01/2024"] * 500 + ["01/30/2024"]
    assert read(con, stray)[-1] is None


def test_day_before_month_after_the_year_is_refused(con):
    with pytest.raises(SourceError, match="month above 12"):
        detect(con, ["2024/05/06"] * 20 + ["2024/13/06"])


def test_excel_half_converted_dates_are_refused(con):
    values = ["13/01/2024", "25/01/2024"] * 10 + ["45323", "45324"] * 3
    with pytest.raises(SourceError, match="Excel"):
        detect(con, values)


@pytest.mark.parametrize(
    "values", [["1706691600"] * 5 + ["1706691600000"] * 5, ["45322"] * 5 + ["1706691600"] * 2]
)
def test_mixed_magnitudes_are_refused(con, values):
    with pytest.raises(SourceError) as error:
        detect(con, values)
    assert NAME in str(error.value)
    assert "1706691600" in str(error.value)


def test_excel_days_are_rounded_to_the_second(con):
    assert read(con, ["45322.37501157407", "45322.999999999"]) == [
        "2024-01-31 09:00:01",
        "2024-02-01 00:00:00",
    ]


def test_epochs_may_have_a_fraction(con):
    assert read(con, ["1706691600123.0"]) == [f"{NINE}.123000"]


def test_the_pattern_of_the_user_wins(con):
    values = ["05/01/2024 9:00", "06/01/2024 9:00"]
    assert read(con, values, given="%m/%d/%Y %H:%M")[0] == "2024-05-01 09:00:00"
    assert read(con, values, given="%d/%m/%Y %H:%M")[0] == "2024-01-05 09:00:00"
    assert read(con, ["2024-01-31 12:00 +0300"], "Asia/Tokyo", given="%Y-%m-%d %H:%M %z") == [NINE]
    assert read(con, ["20240131 0900Z"], "Asia/Tokyo", given="%Y%m%d %H%MZ") == [NINE]
    assert read(con, ["1706691600"], given="epoch_s") == [NINE]


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("d/M/yyyy H:mm", "'%d/%m/%Y %H:%M'"),
        ("%d/%m/%Q", "no pattern"),
        ("%Y-%m-%d", "05/01/2024"),
        ("", "--ts-format '%d/%m/%Y %H:%M'"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(con, given, part):
    values = ["05/01/2024 9:00"] if given else ["soon", "later"]
    with pytest.raises(SourceError) as error:
        detect(con, values, given=given)
    assert part in str(error.value)
    assert NAME in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [None, "", "  "],
        ["hello"],
        ["12.5", "7"],
        ["1.70669E+12"],
        ["99/99/2024"],
        [NINE, "a", "b"],
    ],
)
def test_columns_without_moments_are_refused(con, values):
    with pytest.raises(SourceError, match="Datum"):
        detect(con, values)


def test_digits_cut_by_a_spreadsheet_are_named(con):
    with pytest.raises(SourceError, match="export the column again as text"):
        detect(con, ["1.70669E+12", "1.70670E+12"])


def test_zones_have_iana_names():
    check_timezone("Europe/Istanbul")
    for name in ("Mars/Olympus", "", "GMT+3:00", "../etc/passwd", "UTC'"):
        with pytest.raises(ValueError, match="Europe/Istanbul"):
            check_timezone(name)


def test_kinds_of_numbers_do_not_overlap():
    bounds = [bound for pair in NUMERIC_KINDS.values() for bound in pair]
    assert bounds == sorted(bounds)


def test_a_format_survives_json(con):
    format_ = detect(con, ["31 janvier 2024 à 09h00"])
    again = TimeFormat.model_validate_json(format_.model_dump_json())
    assert again == format_
    assert again.sql("v", "UTC") == format_.sql("v", "UTC")
