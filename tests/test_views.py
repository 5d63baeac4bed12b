"""The tree of steps, and what each spent of what it had."""

import contextvars
from collections import Counter
from io import StringIO
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spending import ask, open_call, spend
from steptrack_callbacks import (
    Budget,
    BudgetExhausted,
    Grant,
    Usage,
    drain_completed_steps,
    record_usage,
    report,
    reports,
    step,
    testing,
)
from steptrack_callbacks.engine import call_log
from steptrack_callbacks.reports import dicts, text
from steptrack_callbacks.reports.marks import counted_once
from steptrack_callbacks.values.formatting import cost_of, spent


@pytest.fixture(params=["plain", "rich"])
def style(request, monkeypatch):
    """Both ways of writing a table: with `rich`, and without it."""
    if request.param == "plain":
        monkeypatch.setattr(text, "_table", text._plain_table)
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
    assert "answer completed, 1 denied 2 1,010 25 $15.0100 15% of $100.0000, 25% of 8 calls" in text
    assert "plan completed 1 1,000 20 $0.0100 26% of 4,000 tokens" in text
    assert "write continued, 1 denied 1 10 5 $15.0000 100% of 1 call" in text
    assert "total 2 1,010 25 $15.0100" in text
    assert "answer/write: 1 call refused" in text


def test_inner_steps_are_indented_under_theirs(style):
    run()
    column = [line for line in str(report()).splitlines() if "completed" in line or "continued" in line]
    margin = column[0].index("answer")
    assert [
        line.index(name) - margin for line, name in zip(column, ("answer", "plan", "write"), strict=True)
    ] == [0, 2, 2]
    assert [line.split()[0] for line in column] == ["answer", "plan", "write"]


def test_an_empty_report_says_so():
    assert str(report()) == "no steps to show"
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
    from steptrack_callbacks.steps.recording import ledger

    ledger.put(gone[0].id, lambda: gone[0])
    assert [(line.depth, line.record.name) for line in report().lines()] == [(0, "inner")]
    assert report().total.calls == 1


def test_records_that_the_ledger_let_go_are_mentioned(style):
    run()
    assert "3 older records were let go" in str(
        reports.Report(records=report().records, unattributed=Usage(), dropped_records=3)
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
    assert "guessed: 1 call estimated" in text
    assert "unknown: 1 call of unknown price" in text
    assert "failed: 1 call failed" in text
    assert "left: 1 call estimated, 1 still in flight at the end" in text


def test_a_grant_is_mentioned(style):
    with step(
        "plan", max_calls=1, error_boundary="escalate", escalation=lambda _: Grant(max_calls=2, by="ops")
    ):
        ask()
        ask()
    assert "plan: granted 2 calls by ops" in str(report())


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


def test_what_was_settled_late_is_said(style):
    with step("left"):
        call = open_call()
    call.settle(Usage(input_tokens=10, output_tokens=3))
    assert "left: 1 call settled late" in str(report())


def test_what_is_uncertain_of_unattributed_calls_is_said(style):
    open_call(10, 5).abandon(2)
    assert "(unattributed): 1 call estimated" in str(report())


def test_control_characters_in_names_cannot_steer_a_terminal(style):
    with step("plan\x1b[2Jbell\x07"):
        spend()
    assert "plan\\x1b[2Jbell\\x07" in str(report())
    assert "\x1b" not in str(report())


def test_a_report_is_its_text_where_it_is_looked_at():
    run()
    assert repr(report()) == str(report())


def test_rich_prints_a_report_as_wide_as_the_terminal():
    console = pytest.importorskip("rich.console").Console(width=60, record=True, file=StringIO())
    console.print(report())
    run()
    console.print(report())
    lines = console.export_text().splitlines()
    assert lines[0] == "no steps to show"
    assert max(map(len, lines)) <= 60
    assert any("write" in line for line in lines)


def test_own_columns_of_the_dicts_sum_up_to_the_total():
    pandas = pytest.importorskip("pandas")
    run()
    frame = pandas.DataFrame(report().to_dicts())
    total = report().total
    assert frame["own_calls"].sum() == total.calls
    assert frame["own_cost_usd"].sum() == pytest.approx(float(total.cost_usd))
    assert frame.set_index("name").loc["write", "share_of_max_calls"] == 1
    assert pandas.isna(frame.set_index("name").loc["write", "max_usd"])


@pytest.mark.parametrize("table", get_args(dicts.Table))
def test_every_value_of_the_dicts_is_plain_and_every_row_has_the_same_columns(table):
    team, all_teams = Budget("team-a", max_usd=60, window="1d"), Budget("all", max_tokens=600)
    asked = iter([Grant(max_calls=1, by="ops"), Grant(max_usd=5)])
    with step("outer", budgets=[team]):
        with step("plan", max_calls=1, error_boundary="escalate", escalation=lambda _: next(asked)):
            ask()
            ask()
        with step(
            "write",
            max_usd=14,
            error_boundary="escalate",
            budgets=[all_teams],
            escalation=lambda _: next(asked),
        ):
            ask()
    rows = report().to_dicts(table)
    assert len(rows) == {"steps": 3, "calls": 3, "models": 1, "budgets": 2, "grants": 2}[table]
    assert len({tuple(row) for row in rows}) == 1
    assert {type(value) for row in rows for value in row.values()} <= {str, int, float, bool, type(None)}


def test_what_was_refused_or_late_has_columns_that_may_be_summed_up():
    with step("outer", max_calls=2, error_boundary="continue"), step("inner"):
        late = open_call()
        ask()
        ask()
    late.settle(Usage(input_tokens=10, output_tokens=3))
    rows = {row["name"]: row for row in report().to_dicts()}
    assert [(rows[name]["denied_calls"], rows[name]["late_calls"]) for name in ("outer", "inner")] == [
        (1, 1)
    ] * 2
    assert [
        (rows[name]["own_denied_calls"], rows[name]["own_late_calls"]) for name in ("outer", "inner")
    ] == [
        (0, 0),
        (1, 1),
    ]


def test_what_was_late_is_still_said_when_its_call_has_left_the_timeline():
    with step("left"):
        call = open_call()
    call.settle(Usage(input_tokens=10, output_tokens=3))
    call_log.reset()
    assert "left: 1 call settled late" in str(report())
    assert report().late_calls == 1


def test_a_cost_that_nobody_knows_is_none_in_the_dicts_and_never_zero():
    with step("outer"):
        with step("unknown"):
            ask(price=lambda _: None, model="mystery")
        with step("guessed"):
            open_call(10, 5).abandon(2)
        spend()
    rows = {row["name"]: (row["cost_usd"], row["cost_is"]) for row in report().to_dicts()}
    assert rows == {
        "outer": (27.0, "lower bound"),
        "unknown": (None, "unknown"),
        "guessed": (12.0, "estimated"),
    }
    models = {row["model"]: (row["cost_usd"], row["cost_is"]) for row in report().to_dicts("models")}
    assert models == {"test-model": (27.0, "estimated"), "mystery": (None, "unknown")}
    assert [row["cost_usd"] for row in report().to_dicts("calls")] == [None, 12.0, 15.0]


def test_dicts_of_something_else_are_an_error_that_names_what_there_is():
    with pytest.raises(
        ValueError, match="no dicts of 'tools'; use one of steps, calls, models, budgets, grants"
    ):
        report().to_dicts("tools")


def test_models_and_what_is_no_longer_broken_down_are_the_total():
    with step("outer"):
        with step("inner"):
            spend(model="one")
        spend(model="two")
    spend(1, 0, model="two")
    whole = report()
    assert {model: used.calls for model, used in whole.models.items()} == {"one": 1, "two": 2}
    assert whole.unbroken == Usage()
    without = reports.Report(records=whole.records[-1:], unattributed=whole.unattributed)
    assert (without.total.calls, without.unbroken.calls) == (3, 2)


class TestRunsThatAreBegunAgain:
    def test_what_a_run_had_spent_before_is_counted_once_and_shown(self, style):
        for _ in range(2):
            with step("nightly", max_usd=60, run_id="r"), step("plan"):
                spend()
        shown = " ".join(str(report()).split())
        assert "nightly completed 2 20 10 $30.0000 50% of $60.0000" in shown
        assert "nightly: of which $15.0000 in 1 call before this start" in shown
        assert "total 2 20 10 $30.0000" in shown
        assert report().total == sum(report().models.values(), Usage())
        assert report().unbroken == Usage()
        assert "no record here" not in shown

    def test_what_others_spend_meanwhile_is_shown_as_theirs(self):
        with step("nightly", run_id="r"):
            spend()
            contextvars.Context().run(begin_and_spend, "nightly")
            spend()
            assert "nightly: of which $15.0000 in 1 call by other starts since" in str(report())
            assert report().total.calls == 3

    @given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=25))
    def test_starts_that_overlap_in_any_way_add_up_to_the_run(self, moves):
        testing.reset()
        starts = {}
        for number, ends in moves:
            if number not in starts:
                here = contextvars.copy_context()
                starts[number] = here, here.run(begin, "nightly")
            here, running = starts[number]
            here.run(spend)
            if ends:
                here.run(running.__exit__, None, None, None)
                del starts[number]
        assert report().total.calls == len(moves)
        assert sum(report().models.values(), Usage()) == report().total
        assert list(report().remarks(extras=False)) == []

    def test_what_was_spent_in_a_start_that_left_no_record_is_said(self):
        with step("nightly", run_id="r"):
            spend()
        drain_completed_steps()
        with step("nightly", run_id="r"):
            spend()
        assert report().total.calls == 1
        remark = "nightly (run r): another $15.0000 in 1 call, in attempts without a record here"
        assert remark in str(report())

    def test_the_dicts_have_it_in_columns_of_its_own(self):
        for _ in range(2):
            with step("nightly", run_id="r"):
                spend()
        rows = report().to_dicts()
        assert [row["llm_calls"] for row in rows] == [1, 2]
        assert [row["resumed_calls"] for row in rows] == [0, 1]
        assert [row["resumed_cost_usd"] for row in rows] == [0, 15]
        assert [row["here_calls"] for row in rows] == [1, 1]


def begin(name):
    return step(name, run_id="r").__enter__()


def begin_and_spend(name):
    with step(name, run_id="r"):
        spend()


class TestSharedBudgets:
    def run(self):
        team = Budget("team-a", max_usd=60, max_calls=4, window="1d")
        with step("earlier", budgets=[team]):
            spend()
        with step("plan", max_calls=2, budgets=[team]):
            spend()

    def test_they_are_beside_the_limits_of_the_step_that_they_hang_on(self, style):
        self.run()
        shown = " ".join(str(report()).split())
        assert "earlier completed 1 10 5 $15.0000 25% of $60.0000 (budget team-a, 1d)" in shown
        assert "50% of 2 calls, 50% of $60.0000 (budget team-a, 1d), 50% of 4 calls (budget team-a" in shown

    def test_they_are_in_the_dicts(self):
        self.run()
        row = report().to_dicts()[1]
        assert (row["share_of_max_usd"], row["share_of_max_calls"]) == (None, 0.5)
        [_, budget] = report().to_dicts("budgets")
        assert (budget["step_id"], budget["path"], budget["budget"]) == (row["id"], "plan", "team-a")
        assert (budget["max_usd"], budget["spent_usd"], budget["share_of_max_usd"]) == (60, 30, 0.5)
        assert (budget["max_calls"], budget["spent_calls"], budget["share_of_max_calls"]) == (4, 2, 0.5)
        assert (budget["max_tokens"], budget["spent_tokens"], budget["window"]) == (None, None, "1d")
        assert budget["resets_at"] == report().records[0].budgets["team-a"]["resets_at"]


@pytest.mark.parametrize("width", [200, 110, 90, 75, 40])
def test_rich_cuts_names_to_fit_and_never_a_number_or_a_limit(width: int) -> None:
    console = pytest.importorskip("rich.console").Console(width=width, record=True, file=StringIO())
    name = "summarise-every-page-of-the-annual-report"
    with step(name, max_usd=1000, max_tokens=10_000_000, max_calls=12_345):
        record_usage("m", input_tokens=1_234_567, output_tokens=765_432, cost_usd=123.456789)
    console.print(report())
    printed = console.export_text()
    assert max(map(len, printed.splitlines())) <= width
    shown = "".join(printed.split())
    for what in (
        "1,234,567",
        "765,432",
        "$123.4568",
        "12%of$1,000.0000",
        "20%of10,000,000tokens",
        "<1%of12,345calls",
    ):
        assert what in shown, what
    assert name[:7] in printed
    assert name in printed or width < 200


def test_rich_puts_a_shared_budget_below_its_limit_where_both_do_not_fit_on_a_line() -> None:
    console = pytest.importorskip("rich.console").Console(width=80, record=True, file=StringIO())
    with step("monday", max_usd=150, budgets=[Budget("team-a", max_usd=1500, window="1d")]):
        record_usage("m", input_tokens=1_000, output_tokens=1_000, cost_usd=15)
    console.print(report())
    head, _, first, second, third, *_ = [line for line in console.export_text().splitlines() if line.strip()]
    at = head.index("used of limit")
    assert [line[at:].rstrip() for line in (first, second, third)] == [
        "10% of $150.0000,",
        "1% of $1,500.0000",
        "(budget team-a, 1d)",
    ]


def test_rich_names_the_columns_also_where_a_terminal_is_too_narrow_for_a_table() -> None:
    console = pytest.importorskip("rich.console").Console(width=50, record=True, file=StringIO())
    with step("monday", max_usd=150):
        record_usage("m", input_tokens=1_000, output_tokens=1_000, cost_usd=15)
    console.print(report())
    said = " ".join(console.export_text().split())
    assert said.startswith(
        "step status calls in out cost used of limit monday completed 1 1,000 1,000 $15.0000"
    )


def test_equal_grants_of_a_step_are_counted_and_not_taken_for_steps():
    grant = Grant(max_usd=15, by="boss")
    with step("write", max_usd=0, error_boundary="escalate", escalation=lambda error: grant):
        ask()
        ask()
    said = [remark for remark in report().remarks() if "boss" in remark]
    assert said == ["write: 2 grants of $15.0000 by boss"]


def test_a_note_of_many_steps_is_said_once_with_their_number():
    notes = Counter(["agent: granted 1 call", "agent: granted 1 call", "plan: 1 call late"])
    assert list(counted_once(notes)) == ["agent: granted 1 call (in each of 2 steps)", "plan: 1 call late"]


def test_an_unknown_cost_is_no_amount():
    usage = Usage(calls=1, unpriced_calls=1, estimated_calls=1)
    assert (spent(usage), cost_of(usage)) == ("an unknown cost in 1 call", "unknown")
