"""Times in words, and what is left of a sweep."""

import pytest

from deepgnn_cli.rules.duration import depth_of, duration, seconds_left
from deepgnn_cli.rules.metrics import in_words, is_better


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (90, "2 min"), (5400, "1 h 30 min"), (200_000, "2 d 7 h")]
)
def test_a_length_of_time_in_words(seconds, text):
    assert duration(seconds) == text


def test_jobs_one_after_the_other_take_what_their_depths_say():
    # Training takes 2 s and 1 s a layer, loading 1 s more: a job of 2, 4, 8 layers takes 5, 7, 11 s.
    done, clock = [(2, 4.0), (4, 6.0)], 12.0
    left = seconds_left(done, [8], [8, 2], clock)
    assert left == pytest.approx((10 + 10 + 4) * 12 / 10)


def test_jobs_side_by_side_take_their_share_of_the_clock():
    # Four at a time, 10 s each: after 10 s four are done, four are half done on average but for the one just begun.
    done = [(2, 10.0)] * 4
    left = seconds_left(done, [2] * 4, [2] * 8, 10.0)
    assert left == pytest.approx(10 * (10 + 15 + 80) / (40 + 15))


def test_nothing_is_known_before_the_first_job_has_ended():
    assert seconds_left([], [2], [2, 2], 5.0) is None


def test_deeper_jobs_never_take_less():
    assert seconds_left([(2, 5.0), (8, 3.0)], [64], [], 8.0) == pytest.approx(4.0)


def test_the_depth_of_a_job_is_in_its_words():
    assert depth_of(["model=gcn", "layers=64"]) == 64 and depth_of(["depth=deep"]) == 1


def test_errors_are_better_when_lower_and_are_no_fractions():
    assert is_better("accuracy", 0.8, 0.7) and not is_better("mae", 0.8, 0.7) and is_better("mae", 0.6, 0.7)
    assert (
        in_words("accuracy", 0.8154) == "81.5 %" and in_words("mae", 0.8154) == "0.8154" and in_words("mae", None) == ""
    )
