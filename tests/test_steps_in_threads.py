"""With nothing but `install()`, threads and pools work for the steps of whoever starts or fills them."""

import subprocess
import sys
import textwrap
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from multiprocessing.pool import ThreadPool

import pytest

from looking import in_thread, path
from queue_worker import Worker
from spending import ask, spend
from steptrack_callbacks import (
    BudgetExhausted,
    LostStepWarning,
    current_step,
    install,
    step,
    uninstall,
)
from steptrack_callbacks.steps.attribution import unattributed_usage

pytestmark = pytest.mark.contract
theirs = ContextVar("theirs", default="nothing")


@pytest.fixture(autouse=True)
def installed():
    install()
    yield
    uninstall()


def in_timer(function):
    results = []
    timer = threading.Timer(0, lambda: results.append(function()))
    timer.start()
    timer.join()
    return results[0]


def in_subclass(function):
    class Own(threading.Thread):
        def run(self):
            self.result = function()

    own = Own()
    own.start()
    own.join()
    return own.result


def in_pool(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def in_map(function):
    with ThreadPoolExecutor(1) as pool:
        return next(pool.map(lambda _: function(), [None]))


POOL_CALLS = {
    "apply": lambda pool, f: pool.apply(f),
    "apply_async": lambda pool, f: pool.apply_async(func=f).get(),
    "map": lambda pool, f: pool.map(lambda _: f(), [None])[0],
    "starmap": lambda pool, f: pool.starmap(lambda _: f(), [(None,)])[0],
    "map_async": lambda pool, f: pool.map_async(lambda _: f(), [None]).get()[0],
    "starmap_async": lambda pool, f: pool.starmap_async(lambda _: f(), [(None,)]).get()[0],
    "imap": lambda pool, f: next(pool.imap(lambda _: f(), [None])),
    "imap_unordered": lambda pool, f: next(pool.imap_unordered(lambda _: f(), [None])),
}


def in_thread_pool(name):
    def run(function):
        with ThreadPool(1) as pool:
            return POOL_CALLS[name](pool, function)

    return run


WAYS = {
    "thread": in_thread,
    "timer": in_timer,
    "subclass": in_subclass,
    "executor": in_pool,
    "executor map": in_map,
    "thread of a thread": lambda function: in_thread(lambda: in_thread(function)),
    "pool of a thread": lambda function: in_thread(lambda: in_pool(function)),
    **{f"ThreadPool.{name}": in_thread_pool(name) for name in POOL_CALLS},
}
EACH_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@EACH_WAY
def test_work_elsewhere_belongs_to_the_step_around(way):
    with step("outer") as outer, step("inner"):
        assert way(path) == "outer/inner"
        way(spend)
    assert outer.usage.calls == 1
    assert way(path) is None


@EACH_WAY
def test_a_variable_of_others_is_what_it_would_be_without_us(way):
    theirs.set("the caller's")
    with step("outer"):
        assert way(theirs.get) == "nothing"


def test_what_a_job_sets_of_others_is_kept_for_its_workers_next_job_as_without_us():
    with ThreadPoolExecutor(1) as pool:
        with step("outer"):
            pool.submit(theirs.set, "the worker's").result()
        assert pool.submit(theirs.get).result() == "the worker's"


@EACH_WAY
def test_it_can_be_turned_off(way):
    install(threads=False)
    install(prices={})
    with step("outer"):
        assert way(path) is None
    install(threads=True)
    with step("outer"):
        assert way(path) == "outer"


def test_uninstalling_puts_back_what_was_there_and_forgets_that_it_was_turned_off():
    uninstall()
    before = threading.Thread.start, ThreadPoolExecutor.submit, ThreadPool.map
    install(threads=False)
    assert (threading.Thread.start, ThreadPoolExecutor.submit, ThreadPool.map) == before
    uninstall()
    install()
    assert threading.Thread.start is not before[0]
    uninstall()
    assert (threading.Thread.start, ThreadPoolExecutor.submit, ThreadPool.map) == before


def test_what_is_neither_yes_nor_no_is_refused():
    with pytest.raises(ValueError, match="threads must be True, False or None, not 'some'"):
        install(threads="some")


def test_pools_that_are_imported_later_are_seen_too():
    program = """
        import sys
        import steptrack_callbacks as steptrack
        steptrack.install()
        assert "multiprocessing.pool" not in sys.modules
        from multiprocessing.pool import ThreadPool
        with steptrack.step("outer"), ThreadPool(1) as pool:
            print(pool.apply(lambda: steptrack.current_step().path))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "outer\n"


@pytest.mark.parametrize("made_in", ["a step", "none"])
@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ThreadPool])
def test_a_job_belongs_to_whoever_submits_it_and_its_worker_to_nobody(kind, made_in):
    def submit(pool, function):
        return pool.submit(function).result() if kind is ThreadPoolExecutor else pool.apply(function)

    def filled():
        pool = kind(1)
        assert submit(pool, path) == (made_in if made_in == "a step" else None)
        return pool

    if made_in == "a step":
        with step("a step"):
            pool = filled()
    else:
        pool = filled()
    with pool:
        with step("first"):
            assert submit(pool, path) == "first"
        assert submit(pool, path) is None
        with step("second"), step("inner"):
            assert submit(pool, path) == "second/inner"


@pytest.mark.parametrize("kind", ["executor", "ThreadPool", "threads"])
def test_of_50_calls_at_once_in_a_step_worth_10_ten_go(kind):
    barrier, outcomes = threading.Barrier(50), []

    def work(_):
        barrier.wait(30)
        try:
            outcomes.append(ask())
        except BudgetExhausted as refused:
            outcomes.append(refused.phase)

    with step("plan", max_calls=10, error_boundary="continue") as plan:
        if kind == "executor":
            with ThreadPoolExecutor(50) as pool:
                list(pool.map(work, range(50)))
        elif kind == "ThreadPool":
            with ThreadPool(50) as pool:
                pool.map(work, range(50), chunksize=1)
        else:
            started = [threading.Thread(target=work, args=(number,)) for number in range(50)]
            for thread in started:
                thread.start()
            for thread in started:
                thread.join()
    assert outcomes.count("the answer") == plan.usage.calls == 10
    assert len(outcomes) == 50


@pytest.fixture
def left():
    """A worker that is stopped at the end, wherever it was started."""
    workers = []
    yield workers
    for worker in workers:
        worker.stop()


def test_a_worker_that_outlives_an_exhausted_step_goes_on_for_others_and_is_charged_to_nobody(left):
    with step("plan", max_calls=1, error_boundary="continue") as plan:
        left.append(Worker())
        assert left[0].do(ask) == "the answer"
        assert isinstance(left[0].do(ask), BudgetExhausted)
    with pytest.warns(LostStepWarning, match="a thread that has outlived step 'plan'.*step of its own"):
        assert left[0].do(ask) == "the answer"
    assert (plan.usage.calls, unattributed_usage().calls) == (1, 1)
    assert left[0].do(path) is None


def test_a_worker_that_outlives_its_step_is_not_charged_to_the_steps_around_it_either(left):
    with step("outer") as outer:
        with step("inner"):
            left.append(Worker())
        with pytest.warns(LostStepWarning, match="outlived step 'outer/inner'"):
            assert left[0].do(ask) == "the answer"
        assert outer.usage.calls == 0
    assert unattributed_usage().calls == 1


def test_a_worker_that_has_outlived_its_step_may_begin_steps_of_its_own(left):
    def job():
        with step("job", max_calls=1):
            ask()
            return path()

    with step("plan", max_calls=0, error_boundary="continue"):
        left.append(Worker())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert left[0].do(job) == "job"
    assert unattributed_usage().calls == 0


@pytest.mark.parametrize("start", [in_thread, in_pool], ids=["thread", "pool"])
def test_what_a_worker_that_has_outlived_its_step_starts_is_charged_to_nobody_too(left, start):
    with step("plan", max_calls=0, error_boundary="continue") as plan:
        left.append(Worker())
    with pytest.warns(LostStepWarning):
        assert left[0].do(lambda: start(ask)) == "the answer"
    assert (plan.usage.calls, unattributed_usage().calls) == (0, 1)


def test_a_job_that_an_exhausted_step_has_left_in_a_pool_is_refused():
    gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with step("plan", max_calls=0, error_boundary="continue"):
            job = pool.submit(lambda: gate.wait(30) and ask())
            with pytest.raises(BudgetExhausted):
                ask()
        gate.set()
        assert job.exception().phase == "closed"


def test_a_thread_keeps_nothing_of_ours_once_it_runs():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(vars(thread).get("run")))
    with step("outer"):
        thread.start()
        thread.join()
    assert getattr(seen[0], "__name__", None) in (None, "run")
    with pytest.raises(RuntimeError, match="once"), step("outer"):
        thread.start()


def test_a_thread_that_is_started_in_no_step_is_started_as_ever():
    thread = threading.Thread(target=current_step)
    thread.start()
    assert "run" not in vars(thread)
    thread.join()
