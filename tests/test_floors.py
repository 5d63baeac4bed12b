"""The house stands: a room imports only rooms below it, and hosts only where they belong."""

import ast
import re
import sys
from pathlib import Path

import pytest

import steptrack_callbacks

HOUSE = Path(steptrack_callbacks.__file__).parent

# From the ground up. A folder is one room, but for those whose files stand on floors of their own. What a
# room needs from outside the standard library stands beside it; outside of EDGES it may be imported in a
# function only.
FLOORS = [
    {"values.money", "values.showing", "values.untrusted", "values.user_warnings", "concurrency"},
    {"values.usage", "values.limits"},
    {"values.budgets"},
    {"values.definitions"},
    {"values.errors", "values.records"},
    # what was said
    {"settings"},
    # policies, each ignorant of the others
    {"pricing", "hooks", "hosts", "ledgers.stores", "steps.registry", "steps.tool_policy"},
    {"tokens", "config"},
    # the machine
    {"engine.amounts", "engine.output_stats"},
    {"ledgers.outbox", "ledgers.snapshot"},
    {"ledgers.client"},
    {"ledgers.current"},
    {"ledgers.budget"},
    {"engine.in_flight"},
    {"engine.balance"},
    {"engine.account", "engine.request"},
    {"engine.budget_account", "engine.escalation", "engine.queue", "engine.thresholds"},
    {"engine.budget_binding", "engine.chain", "engine.lease"},
    {"engine.reservation"},
    {"engine.settlement", "engine.shared_reservation"},
    {"engine.call"},
    {"engine.call_log"},
    # scopes around it
    {"steps.boundary", "steps.placement"},
    {"steps.decorators", "steps.activation"},
    {"steps.step"},
    {"steps.attribution"},
    {"steps.verbs"},
    # what is seen of them, and what all hosts share
    {"reports", "integrations"},
    # the hosts, and what attaches them
    {"litellm", "langchain", "opentelemetry"},
    {"langgraph", "litellm_proxy"},
    {"installation"},
    # the door, and those who come in through it
    {"__init__"},
    {"testing", "demo", "notebook"},
    {"cli"},
    {"__main__"},
]
EDGES = {"litellm", "litellm_proxy", "langchain", "langgraph", "opentelemetry", "cli", "demo", "testing"}
HOSTS = {"litellm", "langchain", "langchain_core", "langgraph"}
OUTSIDE = {
    "ledgers.stores": {"redis"},
    "pricing": {"litellm", "genai_prices"},
    "tokens": {"tiktoken"},
    "reports": {"rich", "IPython"},
    "notebook": {"IPython"},
}

FILES = sorted(HOUSE.rglob("*.py"))
BARE = {"values", "engine", "steps"}
"""Folders whose own file is empty, so that whoever imports what is in them imports nothing else."""
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}


def room_of(path):
    return room_called(_module_of(path))


def room_called(name):
    """The room that a module is in, or that a folder is."""
    parts = name.split(".")[1:] or ["__init__"]
    whole = ".".join(parts[:2])
    if whole in FLOOR_OF:
        return whole
    return "ledgers.stores" if parts[0] == "ledgers" else parts[0]


def imports_of(path, *, inside_functions=True):
    """Yield the dotted names that a file imports when it runs: of this package from its top."""
    pending = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.ImportFrom | ast.Import):
            yield from _names(node, path)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def _names(node, path):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not node.level:
        return (
            [node.module]
            if node.module != "steptrack_callbacks"
            else _of_the_door(node, "steptrack_callbacks")
        )
    package = path.relative_to(HOUSE.parent).parts[: -node.level]
    if node.module is None:
        return _of_the_door(node, ".".join(package))
    return [".".join([*package, node.module])]


def _of_the_door(node, package):
    """Tell rooms, which are imported by name, from what the package's own file offers."""
    folder = HOUSE.parent.joinpath(*package.split("."))
    inside = {path.name.removesuffix(".py") for path in folder.iterdir()}
    return [f"{package}.{alias.name if alias.name in inside else '__init__'}" for alias in node.names]


def rooms_imported(path):
    ours = [name for name in imports_of(path) if name.split(".")[0] == "steptrack_callbacks"]
    return {room_called(name) for name in ours} - {room_of(path), *BARE}


def outside_imported(path, **how):
    names = {name.split(".")[0] for name in imports_of(path, **how)}
    return names - {"steptrack_callbacks"} - sys.stdlib_module_names


def name_of(path):
    return str(path.relative_to(HOUSE))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_only_rooms_below_it(path):
    if room_of(path) in BARE:
        return
    assert room_of(path) in FLOOR_OF, f"give {room_of(path)} a floor in this file"
    floor = FLOOR_OF[room_of(path)]
    assert {room for room in rooms_imported(path) if FLOOR_OF[room] >= floor} == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_takes_from_outside_only_what_stands_beside_it(path):
    if room_of(path) in EDGES:
        return
    assert outside_imported(path) <= OUTSIDE.get(room_of(path), set())
    assert outside_imported(path, inside_functions=False) == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_an_edge_takes_its_own_host_only(path):
    if room_of(path) in ("litellm", "langchain", "langgraph"):
        own = {"litellm"} if room_of(path) == "litellm" else HOSTS - {"litellm"}
        assert outside_imported(path) & HOSTS <= own


def test_no_two_files_import_each_other():
    taken = {_module_of(path): set(imports_of(path)) for path in FILES}
    mutual = {one for one, others in taken.items() for other in others if one in taken.get(other, ())}
    assert mutual == set()


def _module_of(path):
    return ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_the_house_has_no_empty_floors_and_no_room_on_two():
    assert all(FLOORS)
    assert sum(map(len, FLOORS)) == len(FLOOR_OF)


def test_the_design_page_names_every_room():
    page = (Path(__file__).parents[1] / "docs" / "design.md").read_text(encoding="utf-8")
    [floors] = re.findall(r"## Floors\n.*?```\n(.*?)```", page, re.DOTALL)
    rooms = {room.split(".")[-1] for room in FLOOR_OF}
    assert rooms - {"__main__"} - set(re.findall(r"\w+", floors)) == set()


def test_this_file_sees_imports_wherever_they_stand(tmp_path):
    source = HOUSE / "steps" / "step.py"
    assert {"engine.account", "steps.activation", "steps.decorators"} <= rooms_imported(source)
    assert "rich" in outside_imported(HOUSE / "reports" / "text.py")
    assert "rich" not in outside_imported(HOUSE / "reports" / "text.py", inside_functions=False)
    assert "litellm" in rooms_imported(HOUSE / "installation.py")
