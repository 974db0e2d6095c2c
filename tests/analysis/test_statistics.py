import math

import numpy as np
import pytest
from scipy import stats

from deepgnn_cli.analysis.statistics import holm, paired_test, score_interval, summarise


@pytest.mark.parametrize("n", [3, 10, 100])
def test_mean_std_and_interval_equal_scipys(n):
    values = np.random.default_rng(n).normal(0.8, 0.02, n)
    found = summarise(values)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert found.n == n
    assert math.isclose(found.mean, sum(values) / n, rel_tol=1e-12)
    assert math.isclose(found.std, stats.tstd(values), rel_tol=1e-12)
    assert math.isclose(found.mean - found.half_width, low, rel_tol=1e-10)
    assert math.isclose(found.mean + found.half_width, high, rel_tol=1e-10)


def test_one_value_has_no_spread_and_none_has_no_mean():
    one, none = summarise(np.array([0.5])), summarise(np.array([]))
    assert one.mean == 0.5 and math.isnan(one.std) and math.isnan(one.half_width)
    assert none.n == 0 and math.isnan(none.mean)


@pytest.mark.parametrize("n", [3, 10])
def test_paired_test_equals_scipys(n):
    random = np.random.default_rng(n)
    ours, theirs = random.normal(0.82, 0.02, n), random.normal(0.8, 0.02, n)
    found = paired_test(dict(enumerate(ours)), dict(enumerate(theirs)))
    reference = stats.ttest_rel(ours, theirs)
    interval = reference.confidence_interval(0.95)
    assert math.isclose(found.p_value, reference.pvalue, rel_tol=1e-9)
    assert math.isclose(found.difference + found.half_width, interval.high, rel_tol=1e-9)
    assert found.pairs == n
    assert math.isclose(found.effect_size, reference.statistic / math.sqrt(n), rel_tol=1e-9)


def test_only_common_keys_are_paired():
    found = paired_test({0: 0.9, 1: 0.8, 2: 0.7}, {1: 0.5, 2: 0.6, 3: 0.1})
    assert found.pairs == 2
    assert math.isclose(found.difference, (0.3 + 0.1) / 2)


def test_less_than_two_pairs_or_equal_ones_give_no_p_value():
    assert math.isnan(paired_test({0: 0.9}, {0: 0.8}).p_value)
    assert math.isnan(paired_test({0: 0.9}, {1: 0.8}).p_value)
    assert math.isnan(paired_test({0: 0.9, 1: 0.8}, {0: 0.9, 1: 0.8}).p_value)


def test_a_constant_difference_is_certain():
    assert paired_test({0: 0.75, 1: 0.5}, {0: 0.5, 1: 0.25}).p_value == 0


def test_two_values_have_a_spread_but_no_interval():
    two = summarise(np.array([0.2, 0.9]))
    assert math.isclose(two.std, 0.7 / math.sqrt(2)) and math.isnan(two.half_width)


def test_the_interval_of_a_score_stays_in_its_bounds_and_is_students_on_the_logit():
    values = np.array([0.02, 0.9, 0.99])
    low, high = score_interval(summarise(values))
    mean, error = values.mean(), stats.sem(values)
    logit_low, logit_high = stats.t.interval(
        0.95, 2, loc=math.log(mean / (1 - mean)), scale=error / (mean * (1 - mean))
    )
    assert math.isclose(low, 1 / (1 + math.exp(-logit_low))) and math.isclose(high, 1 / (1 + math.exp(-logit_high)))
    assert 0 < low < mean < high < 1


def test_a_certain_score_has_itself_for_interval():
    assert score_interval(summarise(np.ones(4))) == (1, 1)


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, math.nan, 0.03]) == pytest.approx([0.03, 0.06, math.nan, 0.06], nan_ok=True)
    assert holm([0.6, 0.5]) == [1.0, 1.0] and holm([]) == []
