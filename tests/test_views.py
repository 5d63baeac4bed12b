"""The tree of steps, and what each spent of what it had."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spending import ask, open_call, spend
from steptrack_callbacks import (
    BudgetExhausted,
    Grant,
    Usage,
    drain_completed_steps,
    report,
    step,
    testing,
    views,
)


@pytest.fixture(params=["plain", "rich"])
def style(request, monkeypatch):
    """Both ways of writing a table: with `rich`, and without it."""
    if request.param == "plain":
        monkeypatch.setattr(views, "_table", views._plain_table)
    else:
        pytest.importorskip("rich")
    return request.param


def run():
    with step("answer", max_usd=100, max_calls=8) as answer:
        with step("plan", max_tokens=4_000):
            ask(1_000, 20, price=lambda usage: 10**22)
        with step("write", error_boundary="continue", max_calls=1):
            ask()
            ask()
    return answer


def test_a_report_shows_the_tree_with_what_was_spent_of_what(style):
    run()
    lines = [line.split() for line in str(report()).splitlines()]
    text = "\n".join(" ".join(line) for line in lines)
    assert "answer completed 2 1,010 25 $15.0100 15% of $100.0000, 25% of 8 calls" in text
    assert "plan completed 1 1,000 20 $0.0100 26% of 4,000 tokens" in text
    assert "write continued 1 10 5 $15.0000 100% of 1 calls" in text
    assert "total 2 1,010 25 $15.0100" in text
    assert "answer/write: calls 1 refused" in text


def test_inner_steps_are_indented_under_theirs(style):
    run()
    column = [line for line in str(report()).splitlines() if "completed" in line or "continued" in line]
    margin = column[0].index("answer")
    assert [
        line.index(name) - margin for line, name in zip(column, ("answer", "plan", "write"), strict=True)
    ] == [0, 2, 2]
    assert [line.split()[0] for line in column] == ["answer", "plan", "write"]


def test_an_empty_report_says_so():
    assert str(report()) == "no steps have run yet"
    assert report().total == Usage()


def test_running_steps_are_in_the_report():
    with step("outer"), step("inner"):
        spend()
        assert [(line.depth, line.record.name, line.record.status) for line in report().lines()] == [
            (0, "outer", "open"),
            (1, "inner", "open"),
        ]
        assert report().total.calls == 1


def test_a_report_may_be_of_one_run():
    with step("one", run_id="1"):
        spend()
    with step("two", run_id="2"):
        spend()
    spend()
    assert [line.record.name for line in report("1").lines()] == ["one"]
    assert (report("1").total.calls, report().total.calls) == (1, 3)


def test_the_total_is_all_that_was_seen(style):
    spend(3, 0)
    run()
    assert report().total.total_tokens == 1_035 + 3
    assert "(unattributed)" in str(report())


TREES = st.recursive(st.just(1), lambda inside: st.lists(inside, max_size=3), max_leaves=15)


@given(TREES, st.integers(0, 3))
def test_the_total_is_all_that_was_seen_whatever_the_tree(tree, outside):
    testing.reset()

    def walk(node):
        if node == 1:
            spend()
            return 1
        with step("node"):
            return sum(walk(child) for child in node)

    calls = walk(tree) + outside
    for _ in range(outside):
        spend()
    assert report().total.calls == calls


def test_a_step_whose_parent_was_drained_is_shown_at_the_top():
    with step("outer"), step("inner"):
        spend()
    gone = drain_completed_steps()
    from steptrack_callbacks.activation import ledger

    ledger.put(gone[0])
    assert [(line.depth, line.record.name) for line in report().lines()] == [(0, "inner")]
    assert report().total.calls == 1


def test_records_that_the_ledger_let_go_are_mentioned(style):
    run()
    assert "3 older records were let go" in str(
        views.Report(records=report().records, unattributed=Usage(), dropped_records=3)
    )


def test_what_is_uncertain_is_marked(style):
    with step("guessed"):
        open_call(10, 5).abandon(2)
    with step("unknown"):
        ask(price=lambda _: None)
    with step("partly"):
        ask()
        ask(price=lambda _: None)
    with step("failed"):
        open_call().fail()
    with step("left"):
        open_call()
    text = " ".join(str(report()).split())
    assert "guessed completed 1 10 2 ~$12.0000" in text
    assert "unknown completed 1 10 5 unknown" in text
    assert "partly completed 2 20 10 >=$15.0000" in text
    assert "guessed: calls 1 estimated" in text
    assert "unknown: calls 1 of unknown price" in text
    assert "failed: calls 1 failed" in text
    assert "left: calls 1 estimated, 1 still in flight at the end" in text


def test_a_grant_is_mentioned(style):
    with step(
        "plan", max_calls=1, error_boundary="escalate", escalation=lambda _: Grant(max_calls=2, by="ops")
    ):
        ask()
        ask()
    assert "plan: granted {'max_calls': 2, 'by': 'ops'}" in str(report())


def test_a_report_is_a_flat_list_of_dicts_too():
    run()
    rows = report().to_dicts()
    assert [(row["name"], row["depth"]) for row in rows] == [("answer", 0), ("plan", 1), ("write", 1)]
    assert rows[0]["cost_usd"] == 15.01


def test_names_are_shown_as_they_are(style):
    with step("[bold]plan[/bold]".replace("/", "")):
        pass
    assert "[bold]plan[bold]" in str(report())


def test_a_limit_of_nothing_divides_by_nothing(style):
    with step("plan", max_usd=0, max_calls=0), pytest.raises(BudgetExhausted):
        ask()
    assert "- of $0.0000, - of 0 calls" in " ".join(str(report()).split())
