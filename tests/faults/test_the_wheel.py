"""The wheel, as a user gets it: built, installed alone, and run."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import steptrack_callbacks

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "steptrack_callbacks"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {file.relative_to(PACKAGE.parent).as_posix() for file in PACKAGE.rglob("*") if file.is_file()}
    assert inside == {name for name in files if "__pycache__" not in name and not name.endswith(".pyc")}
    ends = {Path(name).name for name in inside}
    assert {"py.typed", "report.css", "steptrack.schema.json", "reserve.lua", "settle.lua"} <= ends


def test_it_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Without any dependency: all but the frameworks' own parts works."""
    venv.create(tmp_path / "env", with_pip=False)
    scripts = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / "python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*pip, str(wheel)], check=True)
    run = [str(python), "-I", "-c"]
    code = """
import steptrack_callbacks as steptrack
from steptrack_callbacks import step, record_usage, report, install
from steptrack_callbacks.config import parse
from importlib.resources import files
install(ledger="sqlite:///steps.db")
with step("plan", max_usd=1) as plan:
    record_usage("m", input_tokens=1, output_tokens=1, cost_usd=0.5)
assert plan.usage.calls == 1
assert "plan" in report().to_html()
assert files("steptrack_callbacks").joinpath("ledgers/lua/settle.lua").is_file()
print(steptrack.__version__)
"""
    done = subprocess.run([*run, code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == steptrack_callbacks.__version__
    done = subprocess.run(
        [str(scripts / "steptrack"), "--version"], check=True, capture_output=True, text=True
    )
    assert steptrack_callbacks.__version__ in done.stdout


def test_it_names_its_script_and_its_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        about = {
            Path(name).name: archive.read(name).decode()
            for name in archive.namelist()
            if ".dist-info/" in name
        }
    assert "steptrack = steptrack_callbacks.cli:main" in about["entry_points.txt"]
    assert "License-Expression: MIT" in about["METADATA"]
    assert "LICENSE" in about
