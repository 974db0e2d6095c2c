"""Signals are kept until it is safe to stop, and never lost."""

import os
import signal
import threading

import pytest

from deepgnn_cli.training.errors import Interrupted
from deepgnn_cli.training.signals import Stop, number_of, read_marker, write_marker


def test_outside_a_deferred_part_a_signal_stops_at_once():
    with pytest.raises(Interrupted, match="stopped by SIGTERM"), Stop():
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_hang_up_stops_like_the_others_but_not_under_nohup():
    with pytest.raises(Interrupted, match="stopped by SIGHUP") as caught, Stop():
        signal.raise_signal(signal.SIGHUP)
    assert number_of(str(caught.value)) == signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            stop.check()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_inside_a_deferred_part_the_work_is_finished_first():
    done = []
    with pytest.raises(Interrupted) as caught, Stop() as stop, stop.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("step")
        stop.check()
        done.append("never")
    assert done == ["step"] and caught.value.signal == signal.SIGINT


def test_a_deferred_part_that_ends_without_a_check_stops_at_its_end():
    with pytest.raises(Interrupted), Stop() as stop:
        with stop.deferred():
            signal.raise_signal(signal.SIGTERM)
        raise AssertionError("not reached")


def test_a_second_signal_stops_at_once():
    with pytest.raises(Interrupted), Stop() as stop, stop.deferred():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("not reached")


def test_a_signal_nobody_raised_goes_to_the_handler_from_before():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with Stop() as stop:
            stop.defer()
            signal.raise_signal(signal.SIGTERM)
            assert not heard
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_marker_stops_a_run_in_another_process(tmp_path):
    marker = tmp_path / "stop"
    stop = Stop(marker)
    stop.check()
    write_marker(marker, signal.SIGINT)
    assert Stop(marker).asked() and read_marker(marker) == signal.SIGINT
    with pytest.raises(Interrupted, match="SIGINT"):
        Stop(marker).check()
    marker.write_text("")
    assert read_marker(marker) == signal.SIGTERM


def test_the_first_signal_is_told_on():
    told = []
    with pytest.raises(Interrupted), Stop(on_first=told.append) as stop, stop.deferred():
        signal.raise_signal(signal.SIGINT)
        stop.check()
    assert told == [signal.SIGINT]


def test_outside_the_main_thread_nothing_is_touched():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with Stop() as stop:
            stop.check()
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_an_error_line_names_its_signal():
    for number in (signal.SIGINT, signal.SIGTERM):
        assert number_of(str(Interrupted(number))) == number
    assert number_of("KeyboardInterrupt") == signal.SIGINT
