"""A thread that follows: in order, and with its errors."""

from __future__ import annotations

import threading

import pytest

from common.inference.slabs import Behind


def test_calls_are_made_in_order_by_another_thread_while_the_caller_goes_on():
    made, go_on = [], threading.Event()

    def call(number):
        assert go_on.wait(10)
        made.append((number, threading.get_ident() == threading.main_thread().ident))

    with Behind() as behind:
        behind(call, 0)
        assert made == []
        go_on.set()
        for number in (1, 2):
            behind(call, number)
    assert made == [(0, False), (1, False), (2, False)]


def test_what_a_call_raises_ends_the_work_at_the_next_call_or_at_the_end():
    def fail():
        raise OSError("no space left")

    def run(*calls):
        with Behind() as behind:
            for call in calls:
                behind(call)

    made = []
    with pytest.raises(OSError, match="no space left"):
        run(fail, lambda: made.append(1))
    assert made == []
    with pytest.raises(OSError, match="no space left"):
        run(fail)


def test_an_error_of_the_caller_is_the_one_that_is_raised():
    def fail():
        raise OSError("no space left")

    def run():
        with Behind() as behind:
            behind(fail)
            raise ValueError("the network failed")

    with pytest.raises(ValueError, match="the network failed"):
        run()
