"""Both type checkers that people use agree to what a user writes, and find what is wrong with it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AS_A_USER_WRITES = ROOT / "tests" / "typing"

WRONG = """
from steptrack_callbacks import step


@step("plan", error_boundary="skip")
def plan(question: str) -> str:
    return question
"""


def mypy(folder: Path) -> list[str]:
    return ["-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(folder)]


def pyright(folder: Path) -> list[str]:
    """Pyright in strict mode, from a package that brings along what it runs on."""
    return ["-m", "basedpyright", "--pythonpath", sys.executable, "--project", str(folder)]


def check(command: list[str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *command], check=False, capture_output=True, text=True, timeout=300, cwd=ROOT
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_what_a_user_writes_is_well_typed(checker):
    assert check(checker(AS_A_USER_WRITES))[0] == 0, check(checker(AS_A_USER_WRITES))[1]


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_misspelt_option_is_found(checker, tmp_path):
    shutil.copy(AS_A_USER_WRITES / "pyrightconfig.json", tmp_path)
    (tmp_path / "wrong.py").write_text(WRONG)
    status, said = check(checker(tmp_path))
    assert status == 1
    assert "wrong.py" in said
    assert "skip" in said or "No overload" in said
