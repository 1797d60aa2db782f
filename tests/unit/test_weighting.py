"""Basket weighting on baskets whose right answer is obvious."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from components.baskets.corpus import Corpus
from components.baskets.weighting import BasketWeighting, read_training_baskets
from components.contracts import BASKETS, write_table
from components.embeddings.cooccurrence import count_pairs, make_pair_counter
from components.weighting.choose import choose_weighting

NEWEST = datetime(2024, 6, 1, tzinfo=UTC)
IDS = pa.array(list("abcdef"))


def write_baskets(path, rows):
    """Rows are (items, user or None, hours before the newest or None, split)."""
    table = [
        {
            "order_id": f"o{i:05d}",
            "user_id": user,
            "ts": None if hours is None else NEWEST - timedelta(hours=hours),
            "items": list(items),
            "weight": 1.0,
            "split": split,
        }
        for i, (items, user, hours, split) in enumerate(rows)
    ]
    write_table(pa.Table.from_pylist(table, pa.schema(list(BASKETS))), BASKETS, path / "baskets")
    return path / "baskets"


def baskets_of(corpus):
    return ["".join("abcdef"[row] for row in corpus[i]) for i in range(len(corpus))]


def train_of(path, *rows, **weighting):
    baskets = write_baskets(path, [(*row, "train") for row in rows])
    return read_training_baskets(baskets, IDS, BasketWeighting(**weighting))


def test_without_weighting_nothing_changes(tmp_path):
    found = train_of(tmp_path, ("ab", "u", 48), ("cde", "u", 0))
    assert baskets_of(found.corpus) == ["ab", "cde"]
    assert found.corpus.weights.tolist() == [1, 1]
    assert found.ages.tolist() == [2, 0]
    assert found.apply_size_exponent(1.0).weights.tolist() == [1, 1]


@pytest.mark.parametrize(("exponent", "large"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.25)])
def test_the_size_exponent_says_what_a_pair_of_a_large_basket_counts(tmp_path, exponent, large):
    """Next to b, once alone, and once with four others: a pair counts 1 and (n - 1)**-exponent."""
    found = train_of(tmp_path, ("ab", None, 0), ("acdef", None, 0))
    pairs = count_pairs(found.apply_size_exponent(exponent), 6)
    mine = slice(*pairs.offsets[:2])
    probability = dict(zip(pairs.rows[mine], pairs.probability[mine], strict=True))
    assert probability[2] / probability[1] == pytest.approx(large)


def test_a_half_life_halves_what_is_that_old(tmp_path):
    found = train_of(
        tmp_path, ("ab", None, 480), ("ab", None, 240), ("ab", None, 0), half_life_days=10.0
    )
    assert found.corpus.weights == pytest.approx([0.25, 0.5, 1.0])


def test_what_is_older_than_the_window_does_not_count(tmp_path):
    found = train_of(
        tmp_path, ("ab", None, 241), ("ab", None, 240), ("ab", None, 0), window_days=10.0
    )
    assert found.corpus.weights.tolist() == [0, 1, 1]


def test_orders_of_one_user_within_hours_are_one_basket_with_products_once(tmp_path):
    found = train_of(
        tmp_path, ("ab", "u", 30), ("bc", "u", 10), ("de", "w", 10), ("af", "u", 500),
        join_hours=24.0,
    )  # fmt: skip
    assert sorted(baskets_of(found.corpus)) == ["abc", "af", "de"]
    assert sorted(found.ages * 24) == pytest.approx([0, 0, 490])


def test_a_chain_of_short_gaps_is_one_basket_however_long(tmp_path):
    rows = [(one, "u", 20 * i) for i, one in enumerate(["ab", "cd", "ef"])]
    assert len(train_of(tmp_path, *rows, join_hours=24.0).corpus) == 1
    assert len(train_of(tmp_path, *rows, join_hours=19.0).corpus) == 3


def test_nobody_is_never_joined(tmp_path):
    rows = [("ab", None, 1), ("cd", None, 0), ("ef", "u", 0)]
    found = train_of(tmp_path, *rows, join_hours=24.0)
    assert sorted(baskets_of(found.corpus)) == ["ab", "cd", "ef"]


def test_without_times_weighting_by_age_does_nothing(tmp_path):
    weighting = {"half_life_days": 1.0, "window_days": 1.0, "join_hours": 24.0}
    found = train_of(tmp_path, ("ab", "u", None), ("bc", "u", 9_000), **weighting)
    assert found.ages is None
    assert baskets_of(found.corpus) == ["ab", "bc"]
    assert found.corpus.weights.tolist() == [1, 1]


# Which pay


def test_what_pays_is_used(tmp_path):
    """For a year a goes with b, then with c for a month: only what is new is still true."""
    rows = [("ab", None, 24 * (300 + i / 10), "train") for i in range(300)]
    rows += [("ac", None, 24 * (1 + i / 10), "train") for i in range(200)]
    rows += [("ac", None, 0, "validation") for _ in range(400)]
    best, measured = choose_weighting(write_baskets(tmp_path, rows), 5, seed=1)
    assert best.half_life_days or best.window_days
    assert best.size_exponent == 1.0
    assert any(row["used"] and row["item"]["low"] > 0 for row in measured)


def seasonal_rows(companion, n_days=1_000, per_day=6):
    """`a` goes with `companion(day of the year)`, day by day; the newest tenth validates."""
    rows = []
    for i in range(n_days * per_day):
        days_ago = i / per_day
        split = "validation" if days_ago < 20 else "train"
        rows.append(
            (["a", companion((NEWEST - timedelta(days=days_ago)), i)], None, 24 * days_ago, split)
        )
    return rows


def test_the_season_of_earlier_years_is_used_where_it_comes_back(tmp_path):
    """`a` goes with a product of the fortnight, bought at that time of every year."""

    def companion(day, i):
        return "bcdef"[i % 5] if i % 4 == 0 else f"s{day.timetuple().tm_yday // 20}"

    best, measured = choose_weighting(write_baskets(tmp_path, seasonal_rows(companion)), 5, seed=1)
    rows = [row for row in measured if row["trick"] == "season_days"]
    assert best.season_days
    assert any(row["used"] and row["item"]["low"] > 0 for row in rows)


def test_without_a_season_or_a_second_year_it_is_not_used(tmp_path):
    def always(day, i):
        return "bcdef"[i % 5 if i % 3 else 0]

    best, measured = choose_weighting(write_baskets(tmp_path, seasonal_rows(always)), 5, seed=1)
    assert "season_days" in {row["trick"] for row in measured}
    assert not best.season_days
    short = write_baskets(tmp_path / "short", seasonal_rows(always, n_days=390))
    assert "season_days" not in {row["trick"] for row in choose_weighting(short, 5, seed=1)[1]}


def test_the_same_day_of_another_year_weighs_as_the_newest(tmp_path):
    days = [2 * 365.25, 365.25 + 10, 365.25 - 10, 182, 10, 0]
    found = train_of(tmp_path, *[("ab", None, 24 * one) for one in days], season_days=10.0)
    expected = [1, 0.5, 0.5, 0.5**18.2, 0.5, 1]
    assert found.corpus.weights == pytest.approx(expected, rel=1e-3)


def test_where_nothing_pays_nothing_is_used(tmp_path):
    """Always the same pairs, by nobody: no weighting can rank them better."""
    rows = [(["ab", "cd", "ef"][i % 3], None, i, "train") for i in range(600)]
    rows += [(["ab", "cd", "ef"][i % 3], None, 0, "validation") for i in range(300)]
    best, measured = choose_weighting(write_baskets(tmp_path, rows), 5, seed=1)
    assert best == BasketWeighting()
    assert not any(row["used"] for row in measured)


def test_without_validation_baskets_nothing_is_used(tmp_path):
    rows = [("ab", None, i, "train") for i in range(20)]
    assert choose_weighting(write_baskets(tmp_path, rows), 5, seed=1)[0] == BasketWeighting()


def test_the_order_inside_baskets_is_found_where_it_is_real(tmp_path):
    """Whoever buys `i` puts `i + 1` in next; what lies between chance products says nothing."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(1500):
        first = int(rng.integers(30)) * 2
        others = [f"p{n}" for n in rng.permutation(60)[:6] if n // 2 != first // 2]
        at = int(rng.integers(len(others) + 1))
        items = [*others[:at], f"p{first}", f"p{first + 1}", *others[at:]]
        split = "train" if i < 900 else "validation"
        rows.append(
            {"order_id": f"o{i}", "items": items, "positions": list(range(len(items))),
             "ts": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=i), "weight": 1.0,
             "split": split}
        )  # fmt: skip
    write_table(pa.Table.from_pylist(rows, pa.schema(list(BASKETS))), BASKETS, tmp_path / "baskets")
    _, measured = choose_weighting(tmp_path / "baskets", 5, seed=1)
    by_parameter = {row["trick"]: row for row in measured}
    assert by_parameter["reach"]["cart"]["low"] > 0
    assert "cart_recency" in by_parameter
    unordered = [{**row, "positions": None} for row in rows]
    write_table(
        pa.Table.from_pylist(unordered, pa.schema(list(BASKETS))), BASKETS, tmp_path / "sorted"
    )
    _, measured = choose_weighting(tmp_path / "sorted", 5, seed=1)
    assert not {row["trick"] for row in measured} & {"reach", "cart_recency"}


def test_near_products_count_by_places_apart_and_all_are_evidence():
    corpus = Corpus(np.arange(4, dtype=np.int32), np.array([0, 4]), np.ones(1, np.float32))
    counted = make_pair_counter(corpus, 4, reach=2).count(np.arange(4)).toarray()
    assert counted.imag.tolist() == [[0, 1, 0.5, 0], [1, 0, 1, 0.5], [0.5, 1, 0, 1], [0, 0.5, 1, 0]]
    assert (counted.real == 1).all(), "one basket has them all"
    pairs = count_pairs(corpus, 4, reach=2)
    assert pairs.rows[: pairs.offsets[1]].tolist() == [1, 2]
    np.testing.assert_allclose(pairs.probability[:2], [2 / 3, 1 / 3], rtol=1e-6)
