import math

import numpy as np
import pytest
from scipy import stats

from deepgnn_cli.analysis.ranking import rank

SCORES = {
    "a": {"x": 0.9, "y": 0.8, "z": 0.7, "w": 0.6},
    "b": {"x": 0.8, "y": 0.8, "z": 0.6, "w": 0.7},
    "c": {"x": 0.7, "y": 0.5, "z": 0.5, "w": 0.5, "more": 1.0},
}


def test_mean_ranks_by_hand_and_friedmans_p():
    found = rank(SCORES, smaller_is_better=False)
    assert found is not None and found.datasets == 4 and found.methods == ("a", "b", "c")
    assert found.mean_ranks == pytest.approx(((1 + 1.5 + 1 + 2) / 4, (2 + 1.5 + 2 + 1) / 4, 3.0))
    columns = np.array([[SCORES[method][data] for data in "xyzw"] for method in "abc"])
    assert math.isclose(found.p_value, stats.friedmanchisquare(*columns).pvalue)
    # Demšar's table 5: q(0.05) of three methods is 2.343.
    assert math.isclose(found.critical_difference, 2.343 * math.sqrt(3 * 4 / (6 * 4)), rel_tol=1e-3)


def test_of_an_error_the_least_is_first():
    found = rank(SCORES, smaller_is_better=True)
    assert found is not None and found.methods[0] == "c"


def test_too_few_methods_or_data_sets_are_not_ranked():
    assert rank({name: SCORES[name] for name in "ab"}, smaller_is_better=False) is None
    assert rank({name: {"x": 0.1, "y": 0.2} for name in "abc"}, smaller_is_better=False) is None


def test_equal_methods_have_no_p_value():
    found = rank({name: dict.fromkeys("xyz", 0.5) for name in "abc"}, smaller_is_better=False)
    assert found is not None and math.isnan(found.p_value) and found.mean_ranks == (2.0, 2.0, 2.0)
