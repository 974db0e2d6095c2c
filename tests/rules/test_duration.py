"""Times in words, and what is left of a sweep."""

import pytest

from deepgnn_cli.rules.duration import Job, duration, seconds_left
from deepgnn_cli.rules.metrics import in_words, is_better


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (90, "2 min"), (5400, "1 h 30 min"), (200_000, "2 d 7 h")]
)
def test_a_length_of_time_in_words(seconds, text):
    assert duration(seconds) == text


def jobs(*depths, kind=()):
    return [Job(kind, depth) for depth in depths]


def test_jobs_one_after_the_other_take_what_their_depths_say_and_loading():
    # Training takes 2 s and 1 s a layer, the rest 1 s more, the first job 10 s more: it loads the data.
    done = [*zip(jobs(2, 4), [4.0, 6.0], strict=True)]
    assert seconds_left(done, jobs(8), jobs(8, 2), 4 + 10 + 6 + 1, 6 + 1) == pytest.approx(11 + 11 + 5)


def test_a_kind_that_is_slower_stays_slower():
    done = [*zip(jobs(2, 4), [4.0, 6.0], strict=True), *zip(jobs(2, 4, kind=("a",)), [8.0, 12.0], strict=True)]
    # The line through all is 3 s and 1.5 s a layer; the second kind is 4/3 of that, the first 2/3.
    assert seconds_left(done, [], jobs(8, kind=("a",)), 31.0, 26.0) == pytest.approx(15 * 4 / 3)
    assert seconds_left(done, [], jobs(8), 31.0, 26.0) == pytest.approx(15 * 2 / 3)
    assert seconds_left(done, [], jobs(8, kind=("b",)), 31.0, 26.0) == pytest.approx(15)


def test_jobs_side_by_side_take_their_share_of_the_clock():
    # Four at a time, 10 s each: after 10 s four are done, four are half done on average but for the one just begun.
    done = [*zip(jobs(2, 2, 2, 2), [10.0] * 4, strict=True)]
    left = seconds_left(done, jobs(*[2] * 4), jobs(*[2] * 8), 10.0, 0.0)
    assert left == pytest.approx(10 * (10 + 15 + 80) / (40 + 15))


def test_nothing_is_known_before_the_first_job_has_ended():
    assert seconds_left([], jobs(2), jobs(2, 2), 5.0, 0.0) is None


def test_deeper_jobs_never_take_less_and_one_depth_says_half_of_its_slope():
    done = [*zip(jobs(2, 8), [5.0, 3.0], strict=True)]
    assert seconds_left(done, jobs(64), [], 8.0, 3.0) == pytest.approx(4.0)
    assert seconds_left(done[:1], jobs(2, 10)[1:], [], 8.0, 0.0) == pytest.approx(5 + 8 * 2.5 / 2)


def test_kind_and_depth_of_a_job_are_in_its_words():
    assert Job.of(["model=gcn", "+layers=64", "seed=3"]) == Job(("model=gcn",), 64)
    assert Job.of(["depth=deep"]) == Job(("depth=deep",), 1)


def test_errors_are_better_when_lower_and_are_no_fractions():
    assert is_better("accuracy", 0.8, 0.7) and not is_better("mae", 0.8, 0.7) and is_better("mae", 0.6, 0.7)
    assert (
        in_words("accuracy", 0.8154) == "81.5 %" and in_words("mae", 0.8154) == "0.8154" and in_words("mae", None) == ""
    )
