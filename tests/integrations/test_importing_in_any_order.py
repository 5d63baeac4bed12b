"""Frameworks, this package and its parts are imported in any order; what was broken off is made whole later."""

import subprocess
import sys

import pytest

PRELUDE = """
import sys, warnings
warnings.simplefilter("error")
import steptrack_callbacks as steptrack

def charged():
    from langchain_core.language_models.fake_chat_models import FakeListChatModel
    with steptrack.step("plan", max_calls=1, error_boundary="continue") as plan:
        for _ in range(2):
            FakeListChatModel(responses=["one", "two"]).invoke("hello")
    assert (plan.usage.calls, plan.status) == (1, "continued"), (plan.usage, plan.status)

def charged_by_litellm():
    import litellm
    litellm.suppress_debug_info = True
    with steptrack.step("plan", max_calls=1, error_boundary="continue") as plan:
        for _ in range(2):
            litellm.completion("gpt-4o-mini", [{"role": "user", "content": "hello"}], mock_response="one")
    assert (plan.usage.calls, plan.status) == (1, "continued"), (plan.usage, plan.status)

class Broken:
    \"\"\"Lets the import of one module fail, as often as is said.\"\"\"
    def __init__(self, name, error, times=1):
        self.name, self.error, self.times = name, error, times
        sys.meta_path.insert(0, self)
    def find_spec(self, name, path=None, target=None):
        if name == self.name and self.times:
            self.times -= 1
            raise self.error
"""

PARTS = (
    "langchain",
    "langchain.handler",
    "langchain.refusals",
    "langchain.budgeting",
    "langgraph.middleware",
)


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("part", PARTS)
def test_a_part_may_be_the_first_to_import_its_framework_after_install(part):
    run(f"steptrack.install(); import steptrack_callbacks.{part}; charged()")


def test_a_room_may_be_imported_before_install():
    run("import steptrack_callbacks.langchain; steptrack.install(); charged()")


def test_the_framework_may_be_imported_before_install():
    run("import langchain_core; steptrack.install(); charged()")


ORDERS = [
    "steptrack.install(); import steptrack_callbacks.litellm",
    "import steptrack_callbacks.litellm; steptrack.install()",
    "import litellm; import steptrack_callbacks.langchain; steptrack.install()",
    "import steptrack_callbacks.opentelemetry, steptrack_callbacks.langgraph; steptrack.install(); import litellm",
    "steptrack.install(); from litellm import Router; import langchain_core",
]


@pytest.mark.parametrize("order", ORDERS)
def test_rooms_and_frameworks_may_be_imported_in_any_order(order):
    run(f"""
warnings.filterwarnings("ignore", message="Item .* on TypedDict class")
{order}
charged_by_litellm()
charged()
""")


@pytest.mark.parametrize("missing", ["litellm", "langchain_core"])
def test_a_framework_that_is_not_installed_is_missed_by_nobody_but_its_own_room(missing):
    part, other = ("litellm", "charged") if missing == "litellm" else ("langchain", "charged_by_litellm")
    run(f"""
warnings.filterwarnings("ignore", message="Item .* on TypedDict class")
Broken({missing!r}, ModuleNotFoundError("not installed", name={missing!r}), times=-1)
steptrack.install()
try:
    import steptrack_callbacks.{part}
except ModuleNotFoundError as error:
    assert error.name == {missing!r}
else:
    raise AssertionError
{other}()
""")


def test_what_is_budgeted_after_install_is_charged():
    run("""
steptrack.install()
from steptrack_callbacks.langchain import budgeted
from langchain_core.language_models.fake_chat_models import FakeListChatModel
model = budgeted(FakeListChatModel(responses=["one"]), "ask")
with steptrack.step("plan") as plan:
    model.invoke("hello")
assert plan.usage.calls == 1
""")


@pytest.mark.parametrize("module", ["langchain_core.exceptions", "steptrack_callbacks.langchain.runs"])
def test_an_attachment_that_an_import_breaks_off_is_made_whole_by_the_next_import(module):
    run(f"""
steptrack.install()
Broken({module!r}, ImportError("not now"))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import langchain_core
assert [warning.category for warning in caught] == [steptrack.IntegrationChangedWarning], caught
assert "langchain_core" in str(caught[0].message) and "not now" in str(caught[0].message)
charged()
""")


def test_a_room_whose_import_was_broken_off_is_whole_at_the_second_try():
    run("""
steptrack.install()
Broken("steptrack_callbacks.langchain.runs", ImportError("not now"), times=2)
with warnings.catch_warnings(record=True):
    warnings.simplefilter("always")
    try:
        from steptrack_callbacks.langchain import budgeted
    except ImportError as error:
        assert "not now" in str(error)
    else:
        raise AssertionError
from steptrack_callbacks.langchain import budgeted
charged()
""")


def test_an_import_that_is_interrupted_is_made_whole_by_the_next():
    run("""
steptrack.install()
Broken("langchain_core.exceptions", KeyboardInterrupt())
try:
    import langchain_core
except KeyboardInterrupt:
    charged()
else:
    raise AssertionError
""")


def test_a_framework_that_is_reloaded_is_gated_again():
    run("""
import importlib, types
steptrack.install()
import langchain_core
importlib.reload(langchain_core)
charged()
""")


def test_a_warning_that_is_an_error_breaks_no_import_but_the_next_step_with_limits():
    run("""
steptrack.install()
Broken("langchain_core.exceptions", ImportError("not now"))
import langchain_core
try:
    with steptrack.step("plan", max_calls=1):
        raise AssertionError
except steptrack.StepTrackError as error:
    assert "not now" in str(error)
charged()
""")
