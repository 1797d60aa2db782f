"""Agreement of offline measures with an online one."""

import math

import pytest

from components.online.agreement import (
    MeasuredVersion,
    OnlineValue,
    measure_agreement,
    say_agreement,
)


def version(number, online, width=0.0001, **offline):
    return MeasuredVersion(
        str(number), offline, OnlineValue(online, online - width, online + width)
    )


def test_the_measure_that_orders_versions_alike_comes_first():
    versions = [
        version(i, 0.01 * i, excess=0.1 + i, ndcg=-i, coverage=[3, 1, 2, 6, 4, 5][i])
        for i in range(6)
    ]
    best, middle, worst = measure_agreement(versions)
    assert (best.measure, middle.measure, worst.measure) == ("excess", "coverage", "ndcg")
    assert best.spearman.mean == best.kendall.mean == 1
    assert worst.spearman.mean == worst.kendall.mean == -1
    assert best.spearman.low > 0 > worst.spearman.high
    assert -1 < middle.spearman.low < 0 < middle.spearman.high < 1
    assert best.clear_pairs == best.agreeing_pairs == 15
    assert worst.agreeing_pairs == 0


def test_pairs_count_only_where_the_online_bounds_do_not_overlap():
    versions = [
        version(1, 0.010, 0.002, ndcg=1),
        version(2, 0.011, 0.002, ndcg=2),
        version(3, 0.030, 0.002, ndcg=0),
    ]
    [found] = measure_agreement(versions)
    assert (found.clear_pairs, found.agreeing_pairs) == (2, 0)


def test_ties_agree_with_scipy():
    from scipy.stats import kendalltau, spearmanr

    offline, online = [1, 2, 2, 3, 5, 5], [3, 1, 4, 4, 9, 6]
    versions = [version(i, y, x=x) for i, (x, y) in enumerate(zip(offline, online, strict=True))]
    [found] = measure_agreement(versions)
    assert found.spearman.mean == pytest.approx(spearmanr(offline, online).statistic)
    assert found.kendall.mean == pytest.approx(kendalltau(offline, online).statistic)


def test_an_offline_measure_without_differences_has_no_correlation():
    [found] = measure_agreement([version(i, i, ndcg=1) for i in range(6)])
    assert math.isnan(found.spearman.mean)
    assert math.isnan(found.kendall.mean)


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_few_versions_are_said_to_be_few(n):
    found = measure_agreement([version(i, i, ndcg=i) for i in range(n)])
    assert "too few" in say_agreement(found, "click-through rate")
    assert all(math.isnan(one.spearman.low) for one in found)


def test_words_say_which_measures_predict_and_which_mislead():
    versions = [version(i, i, excess=i, ndcg=-i) for i in range(8)]
    text = say_agreement(measure_agreement(versions), "click-through rate")
    assert "excess predicts the click-through rate best" in text
    assert "The higher ndcg, the lower the click-through rate" in text


def test_words_say_that_nothing_predicts():
    noise = [4, 1, 7, 2, 6, 0, 5, 3]
    found = measure_agreement([version(i, i, ndcg=noise[i]) for i in range(8)])
    assert "no offline measure surely predicts" in say_agreement(found, "purchase rate")
