"""A real Jupyter kernel with a person at it: the question reaches them, the answer counts, the card moves."""

from __future__ import annotations

import pytest
from jupyter_client.manager import start_new_kernel

SETUP = """
%load_ext steptrack_callbacks.notebook
import threading
from steptrack_callbacks import record_usage
from steptrack_callbacks.reports import live
def spend():
    record_usage('m', input_tokens=10, output_tokens=2, cost_usd=0.02)
"""


@pytest.fixture(scope="module")
def kernel():
    manager, client = start_new_kernel(kernel_name="python3")
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(kernel, code, *answers):
    """Run a cell; returns what it sent, and what it asked."""
    heard, asked = [], []
    left = list(answers)

    def ask(message):
        asked.append(message["content"]["prompt"])
        kernel.input(left.pop(0))

    reply = kernel.execute_interactive(
        code, allow_stdin=True, stdin_hook=ask, output_hook=heard.append, timeout=120
    )
    return reply["content"], [(message["msg_type"], message["content"]) for message in heard], asked


def test_a_person_is_asked_and_their_grant_counts(kernel):
    assert run(kernel, SETUP)[0]["status"] == "ok"
    cell = "%%step plan --max-usd 0.03 --error-boundary escalate\nspend()\nspend()"
    reply, heard, asked = run(kernel, cell, "a bit", "0.05")
    assert reply["status"] == "ok"
    assert asked == ["Grant how much more max_usd (US dollars, such as 0.05; Enter for no)? "] * 2
    said = "".join(content["text"] for kind, content in heard if kind == "stream")
    assert "step 'plan' exceeded max_usd: $0.0400 spent of $0.0300" in said
    assert "'a bit' is not a number" in said
    card = [content for kind, content in heard if kind == "update_display_data"][-1]
    assert "granted $0.0500" in card["data"]["text/html"]
    assert card["data"]["text/plain"].startswith("plan: completed, $0.0400, 2 calls; 50% of $0.0800")


def test_a_no_is_raised_as_usual(kernel):
    run(kernel, SETUP)
    cell = "%%step plan --max-usd 0.01 --error-boundary escalate\nspend()"
    reply, _, asked = run(kernel, cell, "no")
    assert (reply["status"], reply["ename"], len(asked)) == ("error", "BudgetEscalated", 1)


def test_where_a_program_runs_the_cell_nobody_is_asked_and_the_output_says_so(kernel):
    run(kernel, SETUP)
    heard = []
    cell = "%%step plan --max-usd 0.01 --error-boundary escalate\nspend()"
    reply = kernel.execute_interactive(cell, allow_stdin=False, output_hook=heard.append, timeout=120)
    assert reply["content"]["ename"] == "BudgetEscalated"
    said = "".join(message["content"].get("text", "") for message in heard)
    assert "nobody can be asked here, so nothing is granted" in said


def test_the_card_changes_while_the_cell_runs(kernel):
    """The cell itself waits until the view has drawn what it has spent."""
    run(kernel, SETUP)
    cell = (
        "%%step plan --max-usd 0.05\n"
        "seen, show = threading.Event(), live.NotebookView.draw\n"
        "def draw(view, step):\n"
        "    show(view, step)\n"
        "    if step.usage.calls: seen.set()\n"
        "live.NotebookView.draw = draw\n"
        "spend()\n"
        "assert seen.wait(60)\n"
        "live.NotebookView.draw = show"
    )
    reply, heard, _ = run(kernel, cell)
    assert reply["status"] == "ok", reply
    [first] = [content for kind, content in heard if kind == "display_data"]
    changes = [content for kind, content in heard if kind == "update_display_data"]
    identity = {"display_id": first["transient"]["display_id"]}
    assert all(content["transient"].items() >= identity.items() for content in changes)
    assert "still running" in changes[0]["data"]["text/html"] or "open" in changes[0]["data"]["text/plain"]
    assert 'data-status="completed"' in changes[-1]["data"]["text/html"]
    assert any("plan: open, $0.0200, 1 call" in content["data"]["text/plain"] for content in changes)


def test_an_unnamed_cell_is_called_by_the_number_that_its_prompt_shows(kernel):
    run(kernel, SETUP)
    message = kernel.execute("%%step --quiet\nshown = _step.name")
    reply = kernel.get_shell_msg(timeout=120)
    while reply["parent_header"].get("msg_id") != message:
        reply = kernel.get_shell_msg(timeout=120)
    _, heard, _ = run(kernel, "print(shown)")
    [said] = [content["text"] for kind, content in heard if kind == "stream"]
    assert said == f"cell {reply['content']['execution_count']}\n"
