import math

import numpy as np
import pytest
from scipy import stats

from deepgnn_cli.analysis.statistics import paired_test, summarise


@pytest.mark.parametrize("n", [2, 3, 10, 100])
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


@pytest.mark.parametrize("n", [2, 3, 10])
def test_paired_test_equals_scipys(n):
    random = np.random.default_rng(n)
    ours, theirs = random.normal(0.82, 0.02, n), random.normal(0.8, 0.02, n)
    found = paired_test(dict(enumerate(ours)), dict(enumerate(theirs)))
    reference = stats.ttest_rel(ours, theirs)
    interval = reference.confidence_interval(0.95)
    assert math.isclose(found.p_value, reference.pvalue, rel_tol=1e-9)
    assert math.isclose(found.difference + found.half_width, interval.high, rel_tol=1e-9)
    assert found.pairs == n


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
