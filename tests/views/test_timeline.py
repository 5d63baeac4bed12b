"""The newest calls, with when they began and ended, and never more than a fixed number."""

import threading

import pytest
import story

from spending import ask, open_call, spend
from steptrack_callbacks import BudgetExhausted, Usage, report, step
from steptrack_callbacks.engine import call_log


def outcomes():
    return [(call.path, call.outcome, call.late, call.usage.calls) for call in report().calls]


def test_each_call_is_there_with_its_step_its_times_and_its_charge():
    with story.stopped() as clock, step("plan"):
        call = open_call()
        clock.passes(2)
        call.settle(Usage(input_tokens=10, output_tokens=5))
    [seen] = report().calls
    assert (seen.path, seen.model, seen.outcome) == ("plan", "test-model", "settled")
    assert seen.ended_at - seen.started_at == 2
    assert seen.usage == Usage(input_tokens=10, output_tokens=5, cost_usd=15, calls=1)


def test_a_call_is_told_as_a_flat_row():
    with story.stopped() as clock, step("plan", max_calls=1) as plan:
        call = open_call()
        clock.passes(2)
        call.settle(Usage(input_tokens=10, output_tokens=5))
        with pytest.raises(BudgetExhausted):
            ask()
    settled, denied = [call.to_dict() for call in report().calls]
    assert (settled["step_id"], settled["duration_s"], settled["cost_usd"]) == (plan.id, 2, 15)
    assert (denied["step_id"], denied["duration_s"], denied["cost_usd"]) == (plan.id, 0, 0)


def test_a_call_without_a_step_is_there_too():
    spend()
    assert outcomes() == [("", "settled", False, 1)]


def test_a_call_that_is_settled_late_is_there_once_and_says_so():
    with step("plan"):
        call = open_call()
    assert outcomes() == [("plan", "swept", False, 1)]
    call.settle(Usage(input_tokens=10, output_tokens=2))
    assert outcomes() == [("plan", "settled", True, 1)]
    assert report().calls[0].usage.output_tokens == 2


def test_two_threads_may_tell_of_a_call_in_any_order():
    with step("plan"):
        call = open_call()
    call.settle(Usage(input_tokens=10, output_tokens=2))
    call_log._settled.reverse()
    assert outcomes() == [("plan", "settled", True, 1)]


def test_refused_and_failed_calls_are_told_apart():
    with step("plan", max_calls=1):
        open_call().fail()
        with pytest.raises(BudgetExhausted):
            ask()
    assert outcomes() == [("plan", "failed", False, 1), ("plan", "denied", False, 0)]
    assert "no room under max_calls" in report().calls[1].error


def test_calls_in_flight_are_there_while_they_run():
    with step("outer"), step("plan"):
        call = open_call()
        assert outcomes() == [("outer/plan", "in flight", False, 0)]
        assert report().calls[0].to_dict()["ended_at"] is None
        call.withdraw()
        assert outcomes() == []


def test_all_calls_in_flight_are_there():
    with step("plan"):
        calls = [open_call() for _ in range(3)]
        assert outcomes() == [("plan", "in flight", False, 0)] * 3
        for call in calls:
            call.withdraw()


def test_a_call_that_is_settled_while_they_are_copied_has_them_copied_again(monkeypatch):
    class Disturbed(list):
        times = 1

        def __iter__(self):
            self.times, again = self.times - 1, self.times > 0
            if again:
                raise RuntimeError("deque mutated during iteration")
            return super().__iter__()

    spend()
    monkeypatch.setattr(call_log, "_settled", Disturbed(call_log._settled))
    assert outcomes() == [("", "settled", False, 1)]


def test_a_report_of_one_run_has_the_calls_of_that_run():
    with step("one", run_id="1"):
        spend()
    with step("two", run_id="2"):
        spend()
    spend()
    assert [call.path for call in report("1").calls] == ["one"]


def test_calls_are_kept_up_to_a_number_and_the_page_says_what_is_missing():
    with step("many") as many:
        for _ in range(call_log.KEPT_CALLS + 5):
            spend()
    assert len(report().calls) == call_log.KEPT_CALLS
    assert report().total.calls == many.usage.calls == call_log.KEPT_CALLS + 5
    left_out = many.usage.calls - 500
    assert f"{left_out:,} earlier calls in the totals, and no longer in the timeline" in report().to_html()


def test_a_loop_of_refusals_does_not_push_out_what_was_paid_for():
    with step("plan", max_calls=1):
        spend()
        for _ in range(call_log.KEPT_DENIALS + call_log.KEPT_CALLS):
            with pytest.raises(BudgetExhausted):
                ask()
    calls = report().calls
    assert (calls[0].outcome, len(calls)) == ("settled", 1 + call_log.KEPT_DENIALS)


def test_threads_that_settle_at_once_lose_no_call():
    together = threading.Barrier(4)

    def work(outer):
        together.wait()
        with step("inner", parent=outer):
            for _ in range(100):
                ask()

    with step("outer") as outer:
        threads = [threading.Thread(target=work, args=[outer]) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            report()
        for thread in threads:
            thread.join()
    assert len(report().calls) == 400
    assert len({call.number for call in report().calls}) == 400
