"""A part of the package imports only parts below it, nothing goes in circles, frameworks are where they belong."""

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import get_args

import pytest

import steptrack_callbacks
from steptrack_callbacks.engine.open_call import State

PACKAGE = Path(steptrack_callbacks.__file__).parent
US = "steptrack_callbacks"

# From the ground up. A folder is one part. What a part needs from outside the standard library stands in
# OUTSIDE; below ABOVE it may be imported in a function only.
FLOORS = [
    {"values", "concurrency"},
    {"settings"},
    {"pricing", "hooks", "attachments", "ledgers"},
    {"tokens", "config"},
    {"engine"},
    {"steps"},
    {"reports", "integrations"},
    # the integrations, and integrations on integrations
    {"litellm", "langchain", "opentelemetry"},
    {"langgraph", "litellm_proxy"},
    {"installation"},
    # the public names, and those who use them as users do
    {"__init__"},
    {"testing", "demo", "notebook"},
    {"cli"},
    {"__main__"},
]
ABOVE = {"litellm", "litellm_proxy", "langchain", "langgraph", "opentelemetry", "cli", "demo", "testing"}
FRAMEWORKS = {"litellm", "langchain", "langchain_core", "langgraph"}
OUTSIDE = {
    "ledgers": {"redis"},
    "pricing": {"litellm", "genai_prices"},
    "tokens": {"tiktoken"},
    "reports": {"rich", "IPython"},
    "notebook": {"IPython"},
}
OPENED_BY_NAME = {
    "__init__": "a part is imported when one of its names is first used",
    "cli.main": "a command is imported when it is run",
}
FILLED_FROM_ABOVE = {
    ("steps.attribution", "hooks.set_isolation"): "hooks run in a step of their own",
    ("integrations.handoff", "carried.append"): "threads carry what is handed over",
    ("litellm.custom", "carried.append"): "threads carry what a provider is asked",
}
"""Who tells a part below, as it is imported, what to call. There shall be no other."""

FILES = sorted(PACKAGE.rglob("*.py"))
FLOOR_OF = {part: number for number, floor in enumerate(FLOORS) for part in floor}


def module_of(path):
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def part_of(name):
    """The part that a module is in."""
    return name.split(".")[0]


def imports_of(path, *, inside_functions=True):
    """Yield the dotted names that a file imports, those for type checking too: of this package from its top."""
    yield from imports_in(path.read_text(encoding="utf-8"), path, inside_functions=inside_functions)


def imports_in(source, path, *, inside_functions=True):
    pending = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.ImportFrom | ast.Import):
            yield from _names(node, path)
        elif isinstance(node, ast.Call) and _is_import_module(node):
            yield from _named_in_call(node, path)
        if inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def _names(node, path):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not node.level:
        return _each_of(node, node.module) if _is_ours(node.module) else [node.module]
    package = [US, *path.relative_to(PACKAGE).parts][: -node.level]
    return _each_of(node, ".".join([*package, *([node.module] if node.module else [])]))


def _each_of(node, package):
    """Tell modules, which are imported by name, from what a package's own file offers."""
    inside = package.removeprefix(US).removeprefix(".")
    prefix = f"{inside}." if inside else ""
    return [f"{package}.{alias.name}" if prefix + alias.name in MODULES else package for alias in node.names]


def _is_import_module(node):
    return ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")


def _named_in_call(node, path):
    """Yield what is imported by a string; a name that is put together as the program runs is of ours, or not."""
    [name, *package] = [ast.unparse(argument) for argument in node.args]
    if isinstance(node.args[0], ast.Constant) and not package:
        return [node.args[0].value]
    return [f"{US}.<put together>"] if package or US in name else []


def _is_ours(name):
    return name.split(".")[0] == US


def ours(path):
    """The modules of ours that a file imports; the package itself is called `__init__`."""
    found = {name.removeprefix(US).removeprefix(".") for name in imports_of(path) if _is_ours(name)}
    return {name or "__init__" for name in found}


def parts_imported(path):
    return {part_of(name) for name in ours(path) if name != "<put together>"} - {part_of(module_of(path))}


def outside_imported(path, **how):
    names = {name.split(".")[0] for name in imports_of(path, **how)}
    return names - {US} - sys.stdlib_module_names


@pytest.mark.parametrize("name", MODULES)
def test_a_part_imports_only_parts_below_it(name):
    assert part_of(name or "__init__") in FLOOR_OF, f"give {part_of(name)} a floor in this file"
    floor = FLOOR_OF[part_of(name)]
    assert {part for part in parts_imported(MODULES[name]) if FLOOR_OF[part] >= floor} == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_part_takes_from_outside_only_what_is_listed(name):
    if part_of(name) in ABOVE:
        return
    path = MODULES[name]
    assert outside_imported(path) <= OUTSIDE.get(part_of(name), set())
    assert outside_imported(path, inside_functions=False) == set()


@pytest.mark.parametrize("name", MODULES)
def test_an_integration_takes_its_own_framework_only(name):
    if part_of(name) in ("litellm", "langchain", "langgraph"):
        own = {"litellm"} if part_of(name) == "litellm" else FRAMEWORKS - {"litellm"}
        assert outside_imported(MODULES[name]) & FRAMEWORKS <= own


def graph(files):
    """Which modules each file imports, wherever in it, whatever for."""
    return {name: {each for each in ours(path) if each in files} - {name} for name, path in files.items()}


def test_nothing_goes_in_a_circle_not_in_functions_and_not_for_type_checking():
    try:
        TopologicalSorter(graph(MODULES)).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_nobody_imports_a_module_of_ours_by_a_name_put_together_but_the_package_and_the_command_line():
    found = {name for name, path in MODULES.items() if f"{US}.<put together>" in set(imports_of(path))}
    assert found == set(OPENED_BY_NAME)


def told_below(name):
    """Yield the functions of other modules of ours that a file calls as it is imported, for what they do."""
    path = MODULES[name]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    taken = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and any(_is_ours(each) for each in _names(node, path))
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = ast.unparse(node.value.func)
            if called.split(".")[0] in taken:
                yield called


def test_no_part_is_told_from_above_what_to_call_as_another_is_imported():
    found = {(name, called) for name in MODULES for called in told_below(name)}
    assert found == set(FILLED_FROM_ABOVE)


def test_only_these_make_a_lock_of_their_own_since_each_has_to_be_free_in_a_forked_child():
    makes_one = re.compile(r"\b(?:R?Lock|Condition|(?:Bounded)?Semaphore)\(")
    found = {name for name, path in MODULES.items() if makes_one.search(path.read_text(encoding="utf-8"))}
    assert found == {"concurrency.lock", "concurrency.guard", "ledgers.fork_safe_lock", "engine.queue"}


def test_the_package_has_no_empty_floors_and_no_part_on_two():
    assert all(FLOORS)
    assert sum(map(len, FLOORS)) == len(FLOOR_OF)


def test_no_file_is_longer_than_four_hundred_lines():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


DESIGN = (Path(__file__).parents[1] / "docs" / "design.md").read_text(encoding="utf-8")


def section(heading):
    return DESIGN.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def drawings(heading):
    """The drawings in a section of the design page."""
    return re.findall(r"```\n(.*?)```", section(heading), re.DOTALL)


def test_the_design_page_shows_these_floors_line_by_line():
    [picture] = drawings("Floors")
    assert [set(re.findall(r"\w+", line[17:57])) for line in picture.splitlines()] == FLOORS[::-1]


def test_the_design_page_shows_every_state_of_a_call():
    [_, states] = drawings("Anatomy of a call")
    assert set(re.findall(r"(?:^|► )(\w+(?: flight)?)", states, re.MULTILINE)) == set(get_args(State))


def test_the_glossary_has_at_most_thirty_words():
    rows = re.findall(r"^\| (?!word|---)([\w, ]+) \|", section("Glossary"), re.MULTILINE)
    words = [word for row in rows for word in row.split(", ")]
    assert 20 < len(words) <= 30
    assert len(words) == len(set(words))


def test_the_anatomy_of_a_call_names_files_that_are_there():
    [picture, _] = drawings("Anatomy of a call")
    known = {str(path.relative_to(PACKAGE)) for path in FILES}
    folder, named = "", []
    for line in picture.splitlines():
        if start := re.match(r" \[?([a-z]+/)\]?(?= )", line):
            folder = start[1]
        for name in re.findall(r"[\w/]+\.py", line[1:]):
            own = name if "/" in name or name in known else f"{folder}{name}"
            named.append(own)
    assert len(named) > 25
    assert [name for name in named if name not in known] == []
    table = re.findall(r"`([\w/]+/\w+\.py)`", section("Anatomy of a call"))
    root = PACKAGE.parents[1]
    assert [name for name in table if name not in known and not (root / name).is_file()] == []


def is_a_value(node):
    """Whether a class is a frozen value, or says only what others can do."""
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    return bool(bases & {"NamedTuple", "Protocol"}) or any(
        "frozen=True" in ast.unparse(each) for each in node.decorator_list
    )


def test_the_design_page_names_the_classes_of_the_core_which_are_no_more_than_25():
    text = section("Anatomy of a call")
    table = re.findall(r"`(_?[A-Z]\w+)`", text[text.index("| | classes |") : text.index("Five more")])
    helpers = re.findall(r"`(_?[A-Z]\w+)`", text[text.index("Five more") : text.index("The rest are")])
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for name, path in MODULES.items()
        if name.startswith(("engine.", "steps."))
    ]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert {node.name for node in classes if not is_a_value(node)} - {*table, *helpers} == set()
    assert {*table, *helpers} <= {node.name for node in classes}
    assert len(set(table)) <= 25


def test_no_class_stands_on_more_than_two_others_of_ours():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in MODULES.values()]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    bases = {each.name: [base.id for base in each.bases if isinstance(base, ast.Name)] for each in classes}

    def height(name):
        return 1 + max((height(base) for base in bases[name] if base in bases), default=0)

    assert {name for name in bases if height(name) > 3} == set()


def test_this_file_sees_imports_wherever_they_stand():
    source = PACKAGE / "steps" / "step.py"
    assert {"engine", "values", "concurrency"} <= parts_imported(source)
    assert {"steps.active", "engine.account"} <= ours(source)
    assert "rich" in outside_imported(PACKAGE / "reports" / "text.py")
    assert "rich" not in outside_imported(PACKAGE / "reports" / "text.py", inside_functions=False)
    assert "litellm" in parts_imported(PACKAGE / "installation.py")


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("def f():\n    from .step import Step", f"{US}.steps.step"),
        ("if TYPE_CHECKING:\n    from .step import Step", f"{US}.steps.step"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import step", f"{US}.steps.step"),
        (f"from {US} import hooks", f"{US}.hooks"),
        (f"from {US} import report", US),
        (f"import_module('{US}.reports')", f"{US}.reports"),
        ("importlib.import_module('.reports', __package__)", f"{US}.<put together>"),
        (f"__import__('{US}.reports')", f"{US}.reports"),
    ],
)
def test_this_file_sees_an_import_however_it_is_written(source, seen):
    assert seen in set(imports_in(source, PACKAGE / "steps" / "boundary.py"))


def test_no_two_files_of_tests_have_one_name():
    """Else pytest collects the first of them, and fails at the second when both are run."""
    names = [file.name for file in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
