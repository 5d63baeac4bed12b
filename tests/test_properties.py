"""Whatever happens in whatever order, the books are right."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_framework import FakeFramework, price
from internals import assert_nothing_left
from steptrack_callbacks import BudgetExhausted, Step, Usage, current_step, step
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.testing import reset
from steptrack_callbacks.values.money import to_usd


class Boom(Exception):
    """Something else than a budget went wrong."""


@dataclass
class Ask:
    """A call: what it is sent with, what it uses, and what becomes of it."""

    max_output_tokens: int
    output_tokens: int
    slack: int
    end: str


@dataclass
class Block:
    """A step: its limits, how it runs in the step around it, what is inside, and how it ends."""

    limits: dict[str, Any]
    run: str
    inside: list[Any]
    fails: bool


calls = st.builds(
    lambda most, share, slack, end: Ask(most, most * share // 10, slack, end),
    most=st.integers(0, 300),
    share=st.integers(0, 10),
    slack=st.integers(0, 30),
    end=st.sampled_from(["settle", "settle", "fail", "abandon", "withdraw", "free", "late", "raise"]),
)
limits = st.fixed_dictionaries(
    {"enforce": st.sampled_from(["estimate", "strict", "observe"])},
    optional={
        "max_tokens": st.integers(1, 1500),
        "max_usd": st.integers(0, 10).map(lambda thousandths: Decimal(thousandths) / 1000),
        "max_calls": st.integers(0, 5),
    },
)


def blocks(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Block]:
    return st.builds(
        Block,
        limits=limits,
        run=st.sampled_from(["inline", "task", "thread", "cancelled task"]),
        inside=st.lists(inside, max_size=5),
        fails=st.booleans(),
    )


trees = st.builds(
    Block, limits, st.just("inline"), st.lists(st.recursive(calls, blocks, max_leaves=12)), st.booleans()
)


@dataclass
class Books:
    """What each step is expected to show, kept beside the machine by the simplest means."""

    framework: FakeFramework = field(default_factory=lambda: FakeFramework(input_tokens=50))
    steps: list[Step] = field(default_factory=list)
    charges: list[tuple[Step, Usage]] = field(default_factory=list)
    late: list[tuple[Call, Step, Usage]] = field(default_factory=list)

    def charge(self, around: Step, used: Usage, **marks: int) -> None:
        self.charges.append((around, used.replace(cost_usd=to_usd(price(used)), calls=1, **marks)))


async def run(node: Ask | Block, books: Books) -> None:
    await (ask(node, books) if isinstance(node, Ask) else run_block(node, books))


async def run_block(block: Block, books: Books) -> None:
    options = {"error_boundary": "continue", "wait_s": 0.01} | block.limits
    with step("block", **options) as around:
        books.steps.append(around)
        tasks: list[asyncio.Future[None]] = []
        try:
            for node in block.inside:
                await start(node, books, tasks)
        finally:
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(result, Boom | BudgetExhausted | asyncio.CancelledError | None), result
        if block.fails:
            raise Boom


async def start(node: Ask | Block, books: Books, tasks: list[asyncio.Future[None]]) -> None:
    """Run a node to its end, or begin to run it beside the others."""
    how = node.run if isinstance(node, Block) else "inline"
    if how == "inline":
        with suppress(Boom):
            await run(node, books)
    elif how == "thread":
        tasks.append(asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(run(node, books)))))
    else:
        tasks.append(asyncio.ensure_future(run(node, books)))
        if how == "cancelled task":
            await asyncio.sleep(0)
            tasks[-1].cancel()


async def ask(node: Ask, books: Books) -> None:
    around = current_step()
    call = await books.framework.open_async(node.max_output_tokens, upper_bound=50 + node.slack)
    used = Usage(input_tokens=50, output_tokens=node.output_tokens)
    try:
        await asyncio.sleep(0)
        if node.end == "raise":
            raise Boom
    except BaseException:
        call.abandon(node.output_tokens)
        books.charge(around, used, estimated_calls=1)
        raise
    end(call, node, used, around, books)


def end(call: Call, node: Ask, used: Usage, around: Step, books: Books) -> None:
    match node.end:
        case "settle":
            call.settle(used)
            books.charge(around, used)
        case "fail":
            call.fail()
            books.charge(around, Usage(), failed_calls=1)
        case "abandon":
            call.abandon(node.output_tokens)
            books.charge(around, used, estimated_calls=1)
        case "withdraw":
            call.withdraw()
        case "free":
            call.settle_free()
        case "late":
            books.late.append((call, around, used))


@contextmanager
def fresh() -> Iterator[Books]:
    """Keep one example's machine apart from the next one's."""
    reset()
    try:
        yield Books()
    finally:
        reset()


def check_limits(books: Books) -> None:
    for around in books.steps:
        account = around.account
        if account.enforce == "strict":
            assert not account.passed_limits(), around
            assert account.breached == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees)
def test_every_call_of_a_tree_is_charged_once_on_every_level_and_nothing_is_left(tree):
    with fresh() as books:
        with suppress(Boom):
            asyncio.run(run(tree, books))
        assert current_step() is None
        assert_nothing_left(*books.steps)
        check_limits(books)
        assert sum(around.record().in_flight_calls for around in books.steps if not around.parent) == len(
            books.late
        )
        for call, around, used in books.late:
            call.settle(used)
            call.settle(used)
            books.charge(around, used)
        assert_nothing_left(*books.steps)
        check_limits(books)
        for around in books.steps:
            own = sum((used for holder, used in books.charges if holder is around), Usage())
            inside = sum((child.usage for child in books.steps if child.parent is around), Usage())
            assert around.own_usage == own
            assert around.usage == own + inside
            assert around.record().in_flight_calls == 0


amounts = st.lists(
    st.tuples(
        st.integers(0, 10**12),
        st.decimals(0, 1000, places=24, allow_nan=False, allow_infinity=False),
    ),
    max_size=30,
)


@given(charges=amounts)
def test_sums_are_exact_to_the_last_digit_in_any_order(charges):
    with fresh(), step("outer") as outer, step("inner") as inner:
        framework = FakeFramework()
        opened = [(framework.open(), tokens, cost) for tokens, cost in charges]
        for call, tokens, cost in reversed(opened):
            call.settle(Usage(input_tokens=tokens), cost_usd=cost)
        assert inner.usage.input_tokens == sum(tokens for tokens, _ in charges)
        assert inner.cost_usd == outer.cost_usd == exact_sum([cost for _, cost in charges])


def exact_sum(costs: list[Decimal]) -> Decimal:
    """Add without rounding, whatever the decimal context says."""
    units = sum(int(cost.scaleb(24)) for cost in costs)
    return Decimal(units).scaleb(-24)
