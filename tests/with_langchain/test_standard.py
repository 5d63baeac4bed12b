"""LangChain's own standard unit tests pass with the handler attached to everything."""

from __future__ import annotations

from typing import Any

import pytest
from asking import FakeChat
from langchain_openai import ChatOpenAI
from langchain_tests.unit_tests import ChatModelUnitTests

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


class TestOpenAI(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "gpt-4o"}

    @property
    def init_from_env_params(self) -> Any:
        return {"OPENAI_API_KEY": "none"}, {"model": "gpt-4o"}, {"openai_api_key": "none"}


class TestFake(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> Any:
        return FakeChat

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {}
