"""`%%step` cells in a real IPython: what they count, what they show, and what they leave behind."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import get_overloads

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import steptrack_callbacks as steptrack
from steptrack_callbacks import BudgetEscalated, BudgetExhausted, peek_completed_steps
from steptrack_callbacks.engine import escalation
from steptrack_callbacks.notebook import asking, cells, options

SPEND = "record_usage('m', input_tokens=10, output_tokens=2, cost_usd=0.02)"


@pytest.fixture(scope="module")
def ipython():
    main = sys.modules["__main__"]  # a shell puts its own there, and leaves it
    shell = InteractiveShell.instance()
    shell.run_line_magic("colors", "nocolor")
    yield shell
    InteractiveShell.clear_instance()
    sys.modules["__main__"] = main


@pytest.fixture
def shell(ipython):
    ipython.reset(new_session=False)
    ipython.run_line_magic("load_ext", "steptrack_callbacks.notebook")
    ipython.ex("from steptrack_callbacks import record_usage, step, current_step")
    yield ipython
    ipython.run_line_magic("unload_ext", "steptrack_callbacks.notebook")
    steptrack.uninstall()


def run(shell, cell):
    with capture_output() as captured:
        result = shell.run_cell(cell, store_history=True)
    return result, captured.stdout, captured.stderr


def test_a_cell_runs_in_its_step_and_its_names_stay(shell):
    result, out, _ = run(
        shell, f"%%step plan --max-usd 0.05 --max-calls 4\nx = 1\n{SPEND}\npath = current_step().path\nx + 41"
    )
    assert (result.success, result.result, shell.user_ns["x"], shell.user_ns["path"]) == (True, 42, 1, "plan")
    assert "plan: completed, $0.0200, 1 call; 40% of $0.0500, 25% of 4 calls" in out
    assert shell.user_ns["_step"].status == "completed"
    [record] = peek_completed_steps()
    assert (record.name, record.llm_calls, dict(record.limits)["max_calls"]) == ("plan", 1, 4)


def test_the_last_value_is_quiet_after_a_semicolon(shell):
    _, out, _ = run(shell, "%%step plan --quiet\n41;")
    assert out == ""


@pytest.mark.parametrize(
    "body",
    [
        "await asyncio.sleep(0)",
        "async with asyncio.Lock():\n    pass",
        "x = [each async for each in numbers()]",
        "async for each in numbers():\n    pass",
    ],
)
def test_a_cell_may_await(shell, body):
    shell.ex("import asyncio\nasync def numbers():\n    yield 1")
    result, _, _ = run(shell, f"%%step plan --quiet\n{body}\n{SPEND}\ndone = current_step().path")
    result.raise_error()
    assert shell.user_ns.pop("done") == "plan"
    assert peek_completed_steps()[-1].llm_calls == 1


def test_a_cell_that_awaits_waits_for_what_is_just_being_settled(shell):
    body = (
        "import asyncio\nfrom steptrack_callbacks import Usage\nfrom steptrack_callbacks.steps.attribution import new_call\n"
        "from spending import request\n"
        "call = new_call(request(), sent=True)\ncall.begin()\nawait asyncio.sleep(0)\n"
        "asyncio.get_running_loop().call_soon(call.settle, Usage(input_tokens=10, output_tokens=2))"
    )
    run(shell, f"%%step plan --quiet\n{body}")[0].raise_error()
    [record] = peek_completed_steps()
    assert (record.usage.calls, record.usage.estimated_calls, record.revision) == (1, 0, 0)


def test_functions_that_await_do_not_make_a_cell_await(shell):
    result, _, _ = run(shell, "%%step plan --quiet\nasync def later():\n    await nothing\nlambda: later")
    result.raise_error()
    assert inspect.iscoroutinefunction(shell.user_ns["later"])


def test_a_cell_that_continues_leaves_quietly_and_says_so(shell):
    result, out, _ = run(shell, f"%%step plan --max-usd 0.01 --error-boundary continue\n{SPEND}\nafter = 1")
    assert result.success
    assert "after" not in shell.user_ns
    assert "plan: continued, $0.0200, 1 call; 200% of $0.0100" in out
    assert "left at its limit, and went on: step 'plan' exceeded max_usd" in out


def test_exceptions_show_as_usual_with_the_lines_of_the_cell(shell):
    result, out, _ = run(shell, "%%step plan\na = 1\n1 / 0")
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert "----> 3 1 / 0" in out
    assert peek_completed_steps()[-1].status == "error"


def test_an_exhaustion_is_raised(shell):
    result, out, _ = run(shell, f"%%step plan --max-usd 0.01\n{SPEND}")
    assert isinstance(result.error_in_exec, BudgetExhausted)
    assert "BudgetExhausted: step 'plan' exceeded max_usd" in out


def test_a_cell_without_a_name_is_called_by_its_number(shell):
    run(shell, "%%step --max-calls 3\npass")
    assert peek_completed_steps()[-1].name.startswith("cell ")


def test_a_cell_with_nothing_in_it_is_a_step_too(shell):
    result, _, _ = run(shell, "%%step plan --quiet\n")
    result.raise_error()
    assert peek_completed_steps()[-1].status == "completed"


def test_future_imports_and_magics_work_inside(shell):
    result, _, _ = run(shell, "%%step plan --quiet\nfrom __future__ import annotations\nwhere = %pwd\n")
    result.raise_error()
    assert shell.user_ns["where"]


def test_multi_line_strings_are_left_alone(shell):
    run(shell, '%%step plan --quiet\ntext = """one\n  two\nthree"""')
    assert shell.user_ns["text"] == "one\n  two\nthree"


def test_names_of_the_notebook_may_stand_in_the_line(shell):
    shell.user_ns["budget"] = 0.25
    run(shell, "%%step plan --quiet --max-usd {budget}\npass")
    assert str(peek_completed_steps()[-1].limits["max_usd"]) == "0.25"


def test_cells_in_a_cell_of_another_magic_count_too(shell):
    result, _, _ = run(shell, f"%%capture\n%%step plan\n{SPEND}")
    result.raise_error()
    assert peek_completed_steps()[-1].llm_calls == 1


@pytest.mark.parametrize("line", ["--help", "plan -h"])
def test_help_shows_the_options_and_runs_nothing(shell, line):
    with capture_output() as shown:
        shell.run_cell(f"%%step {line}\nhelped = 1").raise_error()
    assert "--max-usd" in shown.stdout
    assert "helped" not in shell.user_ns


def test_the_magic_may_be_called_by_programs(shell):
    shell.run_cell_magic("step", "plan --quiet", SPEND)
    assert peek_completed_steps()[-1].llm_calls == 1
    with capture_output(), pytest.raises(ZeroDivisionError):
        shell.run_cell_magic("step", "plan --quiet", "1 / 0")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("plan --max-dollars 1", "has no option '--max-dollars': here it is --max-usd. The options are"),
        ("plan --timeout=1", "has no option '--timeout=1': here it is --max-seconds."),
        ("plan --max_usd 1", "did you mean --max-usd?"),
        ("plan draft", "takes one name, and 'draft' is a second; quote a name that has spaces"),
        ("plan --max-usd", "--max-usd: expected one argument"),
        ("plan --max-usd much", "step 'plan': max_usd must be a number, such as 0.05, not 'much'"),
        ("plan --max-usd nan", "max_usd must be a finite number"),
        ("plan --max-usd=-1", "max_usd must be a finite number from 0"),
        ("plan --max-calls 1.5", "max_calls must be a whole number, not '1.5'"),
        ("plan --max-tokens 0", "max_tokens must be at least 1"),
        ("plan --max-seconds soon", "max_seconds"),
        (
            "plan --error-boundary stop",
            "error_boundary must be one of 'continue', 'escalate', 'fail', not 'stop'",
        ),
        ("plan --enforce hard", "enforce must be one of"),
        ("'plan", "no closing quotation; close the quotes around a name"),
        ("a/b", "must not contain '/'"),
        ("plan --escalation nobody", "there is no 'nobody' in this notebook; define it in a cell before"),
        ("plan --budget team", "there is no 'team' in this notebook"),
    ],
)
def test_a_bad_line_is_a_clear_message_and_runs_nothing(shell, line, says):
    result, _, err = run(shell, f"%%step {line}\nran = 1")
    assert type(result.error_in_exec).__name__ == "UsageError"
    assert says in str(result.error_in_exec)
    assert err.startswith("UsageError: ")
    assert "ran" not in shell.user_ns
    assert peek_completed_steps() == []


def test_the_models_to_go_on_with_are_named_with_commas():
    declared = options.read(
        "plan --max-usd 1 --models gpt-4o,gpt-4o-mini --downgrade-at 0.8", {}, unnamed="cell"
    )
    assert declared.definition.models == ("gpt-4o", "gpt-4o-mini")
    assert declared.definition.downgrade_at == 0.8


def test_every_option_of_a_step_can_be_said_in_the_line():
    said = {action.dest for action in options._parser()._actions}
    options_of_a_step = set(inspect.signature(get_overloads(steptrack.step)[-1]).parameters)
    assert options_of_a_step - said == {"default", "parent"}
    help_text = steptrack.notebook.extension.Extension.cell.__doc__
    for action in options._parser()._actions:
        assert all(option in help_text for option in action.option_strings)


def test_loading_twice_is_loading_once_and_unloading_takes_all_away(shell):
    shell.run_line_magic("reload_ext", "steptrack_callbacks.notebook")
    shell.run_line_magic("load_ext", "steptrack_callbacks.notebook")
    assert shell.input_transformers_cleanup.count(cells.open_cell) == 1
    shell.run_line_magic("unload_ext", "steptrack_callbacks.notebook")
    assert shell.input_transformers_cleanup.count(cells.open_cell) == 0
    assert not escalation.has_default()
    _, _, err = run(shell, "%%step plan\npass")
    assert "Cell magic `%%step` not found" in err
    shell.run_line_magic("load_ext", "steptrack_callbacks.notebook")


def test_other_cells_stay_as_they_are(shell):
    for source in ("x = 1", "%%stepping x", "print('%%step plan')", ""):
        lines = source.splitlines(keepends=True)
        assert cells.open_cell(lines) == lines


class TestAsking:
    CELL = "%%step plan --max-calls 1 --error-boundary escalate --quiet\n" + f"{SPEND}\n{SPEND}\nafter = 1"

    @pytest.fixture
    def answers(self, monkeypatch):
        """What the person types; what stood before the cursor is kept."""
        answers, prompts = [], []

        def answer(prompt):
            prompts.append(prompt)
            if not answers:
                raise EOFError
            return answers.pop(0)

        monkeypatch.setattr("builtins.input", answer)
        return answers, prompts

    def test_the_person_is_asked_for_more_and_told_what_it_is_about(self, shell, answers):
        answers[0][:] = ["2"]
        result, out, _ = run(shell, self.CELL)
        result.raise_error()
        assert answers[1] == ["Grant how much more max_calls (calls, such as 2; Enter for no)? "]
        assert "step 'plan' exceeded max_calls: 2 calls spent of 1" in out
        [record] = peek_completed_steps()
        assert (record.status, record.limits["max_calls"], record.grants[0].max_calls) == ("completed", 3, 2)
        assert record.grants[0].by

    @pytest.mark.parametrize("no", ["", "no", "N "])
    def test_enter_is_no(self, shell, answers, no):
        answers[0][:] = [no]
        result, _, _ = run(shell, self.CELL)
        assert isinstance(result.error_in_exec, BudgetEscalated)

    def test_an_answer_that_is_none_is_asked_for_again(self, shell, answers):
        answers[0][:] = ["lots", "1.5", "-1", "0", "nan", "1"]
        result, out, _ = run(shell, self.CELL)
        result.raise_error()
        assert len(answers[1]) == 6
        assert "'lots' is not a number; type calls, such as 2, or Enter for no" in out
        assert peek_completed_steps()[0].grants[0].max_calls == 1

    def test_where_nobody_can_be_asked_the_answer_is_no_and_says_so(self, shell, answers):
        result, out, _ = run(shell, self.CELL)
        assert isinstance(result.error_in_exec, BudgetEscalated)
        assert "nobody can be asked here, so nothing is granted" in out

    @pytest.mark.parametrize(
        ("limit", "answer", "granted"),
        [("max_usd", "$0.05", "0.05"), ("max_tokens", "2,000", "2000"), ("max_seconds", "30", "30.0")],
    )
    def test_each_limit_has_its_unit(self, answers, limit, answer, granted):
        answers[0][:] = [answer]
        grant = asking.ask_person(BudgetExhausted(step="plan", limit=limit, limit_value=1))
        assert str(getattr(grant, limit)) == granted

    def test_a_function_of_the_notebook_goes_before_the_person(self, shell, answers):
        shell.ex("from steptrack_callbacks import Grant\ndef more(error):\n    return Grant(max_calls=5)")
        result, _, _ = run(shell, self.CELL.replace("--quiet", "--quiet --escalation more"))
        result.raise_error()
        assert answers[1] == []

    def test_who_set_somebody_else_to_ask_keeps_them(self, shell, answers):
        shell.run_line_magic("unload_ext", "steptrack_callbacks.notebook")
        steptrack.install(escalation=lambda error: None)
        shell.run_line_magic("load_ext", "steptrack_callbacks.notebook")
        result, _, _ = run(shell, self.CELL)
        assert isinstance(result.error_in_exec, BudgetEscalated)
        assert answers[1] == []


def test_every_ipython_block_of_the_page_about_notebooks_runs(shell):
    page = Path(__file__).parents[2] / "docs" / "notebooks.md"
    blocks = re.findall(r"```ipython\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        run(shell, block)[0].raise_error()
    assert (len(blocks), peek_completed_steps()[-1].path) == (3, "plan")


def test_every_option_stands_on_the_page_about_notebooks():
    page = (Path(__file__).parents[2] / "docs" / "notebooks.md").read_text(encoding="utf-8")
    for action in options._parser()._actions:
        assert all(option in page for option in action.option_strings)


def test_a_traceback_of_a_refusal_ends_at_the_users_own_line(shell):
    for cell in (
        f"%%step plan --max-calls 0 --quiet\n{SPEND}",
        f"with step('plan', max_calls=0):\n    {SPEND}",
    ):
        _, told, _ = run(shell, cell)
        assert SPEND in told
        assert "BudgetExhausted: step 'plan'" in told
        assert "steptrack_callbacks/" not in told


def test_a_handler_of_the_users_own_stays(ipython):
    seen = []
    ipython.set_custom_exc((ValueError,), lambda shell, kind, error, trace, tb_offset=None: seen.append(kind))
    try:
        ipython.run_line_magic("load_ext", "steptrack_callbacks.notebook")
        ipython.run_line_magic("unload_ext", "steptrack_callbacks.notebook")
        run(ipython, "raise ValueError")
    finally:
        ipython.set_custom_exc((), None)
        steptrack.uninstall()
    assert seen == [ValueError]


def test_other_errors_are_shown_whole_and_unloading_leaves_ipython_as_it_was(ipython):
    ipython.run_line_magic("load_ext", "steptrack_callbacks.notebook")
    _, told, _ = run(ipython, "from decimal import Decimal\nDecimal('x')")
    assert "InvalidOperation" in told
    ipython.run_line_magic("unload_ext", "steptrack_callbacks.notebook")
    steptrack.uninstall()
    assert ipython.custom_exceptions == ()
