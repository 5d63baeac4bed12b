"""The page about the proxy, from its files to its refused request, as it stands there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from serving import proxy

import steptrack_callbacks as steptrack
from steptrack_callbacks.litellm_proxy import example

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "proxy.md").read_text(encoding="utf-8")
WORDS_A_MINUTE = 200


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_the_example_and_what_make_proxy_starts_are_the_same():
    assert blocks("yaml")[0] == example.CONFIG == (REPOSITORY / "examples/proxy/config.yaml").read_text()
    assert blocks("toml")[0] == example.LIMITS == (REPOSITORY / "examples/proxy/steptrack.toml").read_text()


def test_the_first_part_is_read_in_five_minutes():
    first = PAGE.split("\n## ")[1]
    assert len(first.split()) < 5 * WORDS_A_MINUTE


def test_the_page_works_as_it_stands(tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("no curl, which the page uses")
    ask, show = (block for block in blocks("sh") if block.startswith("curl"))
    models = example.CONFIG.replace("{", "{{").replace("}", "}}")
    with proxy(tmp_path, "", example.LIMITS, models=models) as running:

        def shell(command: str) -> dict:
            command = command.replace("http://127.0.0.1:4000", running.url)
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
            return json.loads(done.stdout)

        answers = [shell(ask) for _ in range(3)]
        assert ["choices" in answer for answer in answers] == [True, True, False]
        shown = json.loads(blocks("json")[0])["error"]
        error = answers[2]["error"]
        assert {name: error[name] for name in ("message", "type", "param", "code")} == {
            name: shown[name] for name in ("message", "type", "param", "code")
        }
        assert shell(show)["steps"][0]["calls"] == 2
        try:
            for text in blocks("py"):
                exec(compile(text.replace("http://127.0.0.1:4000", running.url), "docs/proxy.md", "exec"), {})
        finally:
            steptrack.uninstall()
