"""The example notebook, run by a real kernel from its first cell to its last, and what it shows."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


@pytest.fixture(scope="module")
def cells():
    """Each code cell's outputs, by the beginning of its source."""
    try:
        import nbformat
        from nbclient import NotebookClient
    except ImportError:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("nbclient is not installed")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    NotebookClient(notebook, timeout=180, kernel_name="python3").execute()
    return {cell.source.split("\n")[0]: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def outputs_of(cells, beginning):
    [outputs] = [outputs for source, outputs in cells.items() if source.startswith(beginning)]
    return outputs


def html_of(outputs):
    return [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]


def text_of(outputs):
    return "".join(
        output.text for output in outputs if output.output_type == "stream" and output.name == "stdout"
    )


def number(html, name):
    return re.search(rf'data-{name}="([^"]*)"', html)[1]


def test_a_step_cell_shows_its_value_and_what_it_spent(cells):
    card, value = outputs_of(cells, "%%step plan")
    assert (number(card.data["text/html"], "status"), number(card.data["text/html"], "calls")) == (
        "completed",
        "1",
    )
    assert re.match(
        r"plan: completed, \$0\.0000\d+, 1 call; <1% of \$0\.0500, 25% of 4 calls", card.data["text/plain"]
    )
    assert "Rayleigh" in value.data["text/plain"]


def test_a_cell_that_is_left_at_its_limit_says_so_and_keeps_its_names(cells):
    outputs = outputs_of(cells, "%%step research")
    [card] = html_of(outputs)
    assert (number(card, "status"), number(card, "calls")) == ("continued", "3")
    assert "left at its limit, and went on: step 'research' has no room under max_calls" in text_of(outputs)
    assert outputs_of(cells, "len(sources)")[0].data["text/plain"] == "3"


def test_a_cell_that_awaits_counts_the_steps_inside_it(cells):
    [card] = html_of(outputs_of(cells, "%%step write"))
    assert (number(card, "status"), number(card, "calls")) == ("completed", "3")
    assert html_of(outputs_of(cells, "_step")) == [card]


def test_an_exhaustion_shows_itself(cells):
    [card] = html_of(outputs_of(cells, "try:"))
    assert "is out of budget" in card


def test_the_report_adds_up_over_all_cells(cells):
    [report] = html_of(outputs_of(cells, "report()"))
    assert number(report, "calls") == str(1 + 3 + 3 + 1)
    [frame] = html_of(outputs_of(cells, "import pandas"))
    for path in ("plan", "research", "write/light", "write/air", "write/eyes", "check"):
        assert f"<td>{path}</td>" in frame


def test_nothing_was_printed_to_stderr(cells):
    errors = [
        output.text for outputs in cells.values() for output in outputs if output.get("name") == "stderr"
    ]
    assert errors == []
