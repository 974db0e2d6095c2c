"""What an annotation allows, against plain comparisons written here."""

import math
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le, Len, Lt
from hypothesis import given
from hypothesis import strategies as st

from deepgnn_cli.rules.check import check_arguments, described, violation
from deepgnn_cli.rules.types import Count, Rate, Share

NUMBERS = st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text())


def number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@given(NUMBERS, st.integers(-5, 5), st.integers(-5, 5))
def test_ranges_are_open_or_closed_as_they_say(value, low, high):
    closed, opened = Annotated[float, Ge(low), Le(high)], Annotated[float, Gt(low), Lt(high)]
    assert (violation(closed, value) is None) == (number(value) and low <= value <= high)
    assert (violation(opened, value) is None) == (number(value) and low < value < high)


@given(NUMBERS)
def test_a_whole_number_is_no_switch_and_no_fraction(value):
    whole = isinstance(value, int) and not isinstance(value, bool)
    assert (violation(int, value) is None) == whole
    assert (violation(Count | None, value) is None) == (value is None or (whole and value >= 1))
    assert (violation(bool, value) is None) == isinstance(value, bool)


@given(st.lists(st.one_of(st.floats(-1, 2), st.booleans()), max_size=4))
def test_a_list_is_right_if_each_entry_is_and_there_are_so_many(values):
    pair = Annotated[list[Rate], Len(2, 2)]
    right = len(values) == 2 and all(number(value) and 0 <= value < 1 for value in values)
    assert (violation(pair, values) is None) == right


def test_a_choice_is_of_the_same_type():
    switch = Literal["auto", True, False]
    assert violation(switch, True) is None and violation(switch, "auto") is None
    assert violation(switch, 1) == "must be one of auto, true, false" == violation(switch, "true")


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Count, "a whole number of at least 1"),
        (Rate, "a number of at least 0 and below 1"),
        (Share | None, "a number of at least 0 and at most 1 (or null)"),
        (Annotated[float, Le(3)], "a number of at most 3"),
        (Literal["a"], "a"),
        (Annotated[list[int], Len(1)], "a list, each a whole number (at least 1)"),
    ],
)
def test_in_words(hint, words):
    assert described(hint) == words


def test_the_first_wrong_argument_of_a_call_is_named():
    def builder(*, rate: Rate, layers: Count) -> None: ...

    check_arguments(builder, {"rate": 0.5, "layers": 1, "unknown": object()})
    with pytest.raises(ValueError, match=r"layers=0: layers must be a whole number of at least 1"):
        check_arguments(builder, {"rate": 0.5, "layers": 0})
