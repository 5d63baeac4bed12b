"""What stands on the screen when a call is refused: the user's own lines, and nothing of LiteLLM's advice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import steptrack_callbacks

OURS = str(Path(steptrack_callbacks.__file__).parent)
NAMES = '''\
import asyncio
import litellm
from langchain.agents import create_agent
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.tools import tool
import steptrack_callbacks as steptrack
from steptrack_callbacks import Stage, StepDenied, check_tool, hooks, persona, step
from steptrack_callbacks.langchain import admission, budgeted
from steptrack_callbacks.langgraph import StepBudgetMiddleware
steptrack.install(steps={"named": {"max_calls": 0}})
ASK = [{"role": "user", "content": "hello"}]
LONG = "Blue light is scattered. " * 60
model = FakeListChatModel(responses=[LONG])
limited = FakeListChatModel(responses=["x"], rate_limiter=admission)
deployment = {"model_name": "fast", "litellm_params": {"model": "gpt-4o-mini", "api_key": "none"}}
router = litellm.Router(model_list=[deployment])
def ask(**options):
    return litellm.completion("gpt-4o-mini", ASK, mock_response=LONG, **options)
async def aask(**options):
    return await litellm.acompletion("gpt-4o-mini", ASK, mock_response=LONG, **options)
async def items(source):
    return [item async for item in source]
@tool
def search(what: str) -> str:
    """Search."""
@step("decorated", max_calls=0)
def decorated():
    ask()
@step("decorated", max_calls=0)
async def adecorated():
    await aask()
@step("decorated", max_calls=0)
def generator():
    yield ask()
@step("decorated", max_calls=0)
async def agenerator():
    yield await aask()
async def inside(work):
    async with step("asynchronous", max_calls=0):
        await work()
def no(event):
    raise StepDenied("no")
'''
CALLS = {
    "litellm": "with step('s', max_calls=0): ask()",
    "litellm async": "asyncio.run(inside(aask))",
    "litellm stream": "with step('s', max_tokens=30): list(ask(stream=True))",
    "litellm async stream": (
        "async def read(): return await items(await aask(stream=True))\n"
        "with step('s', max_tokens=30): asyncio.run(read())"
    ),
    "litellm fallbacks": "with step('s', max_calls=0): ask(fallbacks=['gpt-4o'])",
    "litellm image": "with step('s', max_calls=0): litellm.image_generation('x', model='dall-e-3')",
    "litellm batch": (
        "with step('s', max_calls=0): litellm.create_batch('24h', '/v1/chat/completions', 'file')"
    ),
    "router": "with step('s', max_calls=0): router.completion('fast', ASK, mock_response=LONG)",
    "router async": (
        "with step('s', max_calls=0): asyncio.run(router.acompletion('fast', ASK, mock_response=LONG))"
    ),
    "langchain": "with step('s', max_calls=0): model.invoke('x')",
    "langchain async": "with step('s', max_calls=0): asyncio.run(model.ainvoke('x'))",
    "langchain stream": "with step('s', max_tokens=30): list(model.stream('x'))",
    "langchain async stream": "with step('s', max_tokens=30): asyncio.run(items(model.astream('x')))",
    "langchain by metadata": "model.invoke('x', {'metadata': {'steptrack_step': 'named'}})",
    "langchain admission": "with step('s', max_calls=0): limited.invoke('x')",
    "langchain admission async": "with step('s', max_calls=0): asyncio.run(limited.ainvoke('x'))",
    "langchain tool": (
        "with persona('p', stages=[Stage('s', allowed_tools=[])]), step('s'): search.invoke({'what': 'x'})"
    ),
    "budgeted": "budgeted(model, step='s', max_calls=0).invoke('x')",
    "budgeted async": "asyncio.run(budgeted(model, step='s', max_calls=0).ainvoke('x'))",
    "budgeted stream": "list(budgeted(model, step='s', max_tokens=30).stream('x'))",
    "budgeted async stream": "asyncio.run(items(budgeted(model, step='s', max_tokens=30).astream('x')))",
    "budgeted embeddings": (
        "budgeted(DeterministicFakeEmbedding(size=2), step='s', max_calls=0).embed_query('x')"
    ),
    "agent": (
        "agent = create_agent(model, middleware=[StepBudgetMiddleware('s', max_calls=0)])\n"
        "agent.invoke({'messages': [('user', 'x')]})"
    ),
    "agent async": (
        "agent = create_agent(model, middleware=[StepBudgetMiddleware('s', max_calls=0)])\n"
        "asyncio.run(agent.ainvoke({'messages': [('user', 'x')]}))"
    ),
    "decorator": "decorated()",
    "decorator async": "asyncio.run(adecorated())",
    "decorator generator": "list(generator())",
    "decorator async generator": "asyncio.run(items(agenerator()))",
    "end of a step": (
        "with step('s', max_tokens=20):\n"
        "    steptrack.record_usage('m', input_tokens=30, output_tokens=1, cost_usd=0)"
    ),
    "escalation": "with step('s', max_calls=0, error_boundary='escalate', escalation=lambda e: None): ask()",
    "unpriced": "with step('s', max_usd=1): litellm.completion('openai/house', ASK, mock_response='x')",
    "checked tool": ("with persona('p', stages=[Stage('s', allowed_tools=[])]), step('s'): check_tool('x')"),
    "hook": ("off = hooks.on(hooks.StepStarted, no)\ntry:\n    with step('s'): pass\nfinally: off()"),
}
"""Ways to be refused, by name."""
WRONG = {
    "misspelt option": "step('s', max_usdd=1)",
    "limit as text": "step('s', max_usd='5')",
    "no such boundary": "step('s', error_boundary='foo')",
    "no such budget": "with step('s', budgets=['t']): pass",
    "empty run id": "step('s', run_id='')",
    "deaf escalation": "step('s', error_boundary='escalate', escalation=lambda: None)",
    "persona": "persona('p', max_usd='5')",
    "stage": "Stage('s', allowed_tools=5)",
    "definition": "steptrack.StepDefinition(name='s', max_usd='5')",
    "budget": "steptrack.Budget('t', max_usd='5')",
    "budget without a name": "steptrack.Budget(max_calls=1)",
    "grant": "steptrack.Grant(max_calls=-1)",
    "question": "steptrack.remaining('foo')",
    "question of a budget": "steptrack.Budget('t', max_calls=1).remaining('foo')",
    "budgeted wrongly": "budgeted(model, step='s', max_usd=-1)",
    "middleware": "StepBudgetMiddleware(error_boundary='foo')",
    "ledger": "steptrack.install(ledger='foo://')",
    "price": "steptrack.install(prices={'m': {'input': 1}})",
    "usage": "steptrack.record_usage('m', input_tokens=-1, output_tokens=1)",
    "tool": "with step('s'): check_tool('x', 'foo')",
}
"""Wrong arguments, by name."""


def run(directory: Path, *command: str) -> str:
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout + done.stderr


def indented(code: str) -> str:
    return "\n".join(f"    {line}" for line in code.splitlines())


@pytest.fixture(scope="module")
def told_by_pytest(tmp_path_factory) -> dict[str, str]:
    """What pytest prints of each of the calls."""
    directory = tmp_path_factory.mktemp("pytest")
    tests = [
        f"def test_{name.replace(' ', '_')}():\n{indented(code)}\n" for name, code in (CALLS | WRONG).items()
    ]
    (directory / "test_refused.py").write_text(NAMES + "".join(tests))
    plugins = ("no:cacheprovider", "no:warnings", "no:xdist", "no:cov")
    options = ["-q", "--tb=short", *(part for name in plugins for part in ("-p", name))]
    printed = run(directory, "-m", "pytest", *options, "test_refused.py")
    parts = re.split(r"^_+ test_(\w+) _+$", printed, flags=re.MULTILINE)
    return dict(zip((name.replace("_", " ") for name in parts[1::2]), parts[2::2], strict=True))


@pytest.mark.parametrize("name", CALLS | WRONG)
def test_pytest_shows_none_of_our_frames(name, told_by_pytest):
    told = told_by_pytest[name]
    assert "test_refused.py:" in told
    error = r"E   (Type|Value)Error:" if name in WRONG else "steptrack_callbacks[.]"
    assert re.search(error, told), told
    shown = [line for line in told.splitlines() if line.startswith(OURS) or "contextlib.py" in line]
    assert shown == []


FRAMES = """
import traceback
for name, code in WRONG.items():
    try:
        exec(code)
    except (TypeError, ValueError) as error:
        shown = traceback.format_exception(error)
        print(name, sum("steptrack_callbacks" in line or "<string>" in line for line in shown) - 1, sep=": ")
"""


def test_python_shows_at_most_two_frames_of_ours_of_a_wrong_argument(tmp_path):
    (tmp_path / "wrong.py").write_text(f"{NAMES}WRONG = {WRONG!r}{FRAMES}")
    frames = dict(line.split(": ") for line in run(tmp_path, "wrong.py").splitlines())
    assert frames.keys() == WRONG.keys()
    assert {name: count for name, count in frames.items() if not 0 < int(count) <= 2} == {}


IN_A_SHELL = """
import pathlib, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor")
for name in sys.argv[1:]:
    shell.run_cell(pathlib.Path(name).read_text())
    print(f"--- end of {name}")
"""


def test_a_notebook_shows_the_users_lines_and_at_most_the_one_line_of_ours_that_raises(tmp_path):
    names = [
        "litellm",
        "litellm async",
        "router",
        "langchain",
        "budgeted",
        "agent",
        "decorator",
        "escalation",
    ]
    (tmp_path / "names.py").write_text(NAMES)
    (tmp_path / "shell.py").write_text(IN_A_SHELL)
    for name in names:
        (tmp_path / name).write_text(CALLS[name])
    printed = run(tmp_path, "shell.py", "names.py", *names)
    tracebacks = re.split(r"^--- end of .*$", printed, flags=re.MULTILINE)[1:-1]
    assert len(tracebacks) == len(names)
    for told in tracebacks:
        last = told[told.rindex("Traceback (most recent call last)") :]  # the one that reached the cell
        frames = re.findall(r"^File (\S+?):\d+,|^Cell (In\[\d+\])", last, re.MULTILINE)
        ours = [
            file
            for file, _ in frames
            if OURS.endswith("steptrack_callbacks") and "steptrack_callbacks/" in file
        ]
        assert any(cell for _, cell in frames), last
        assert ours in ([], [frames[-1][0]]), last


QUIET = """
def batch():
    for answer in litellm.batch_completion("gpt-4o-mini", [ASK, ASK], mock_response="x"):
        if isinstance(answer, Exception):
            raise answer
router = litellm.Router(
    model_list=[deployment, {**deployment, "model_name": "other"}],
    fallbacks=[{"fast": ["other"]}],
    num_retries=2,
)
litellm.suppress_debug_info = False  # a Router turns the advice off for the whole process
WAYS = [
    ask,
    lambda: asyncio.run(aask()),
    lambda: ask(stream=True),
    lambda: ask(fallbacks=["gpt-4o"]),
    lambda: asyncio.run(aask(fallbacks=["gpt-4o"])),
    lambda: router.completion("fast", ASK, mock_response="x"),
    lambda: asyncio.run(router.acompletion("fast", ASK, mock_response="x")),
    lambda: litellm.embedding("text-embedding-3-small", ["x"]),
    lambda: litellm.responses(model="gpt-4o-mini", input="x"),
    lambda: asyncio.run(litellm.aresponses(model="gpt-4o-mini", input="x")),
    lambda: litellm.image_generation("x", model="dall-e-3"),
    lambda: litellm.completion_with_retries(model="gpt-4o-mini", messages=ASK, num_retries=2),
    batch,
]
for way in WAYS:
    try:
        with step("s", max_calls=0):
            way()
    except steptrack.BudgetExhausted:
        print("refused")
for read in (lambda: list(ask(stream=True)), lambda: asyncio.run(read_async())):
    async def read_async():
        return await items(await aask(stream=True))
    try:
        with step("s", max_tokens=30):
            read()
    except steptrack.BudgetExhausted:
        print("cut")
"""


def test_litellm_prints_nothing_when_a_call_is_refused(tmp_path):
    (tmp_path / "quiet.py").write_text(NAMES + QUIET)
    assert run(tmp_path, "quiet.py") == "refused\n" * 13 + "cut\n" * 2
