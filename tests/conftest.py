"""Every test begins and ends with nothing left from another."""

import os
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import settings

from steptrack_callbacks import LostStepWarning, current_step, testing

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    testing.reset()
    # Whether LiteLLM was imported by an earlier test is no concern of one that needs no host.
    warnings.filterwarnings(
        "ignore", message="step .* has limits, but nothing watches", category=LostStepWarning
    )
    yield
    left = current_step()
    testing.reset()
    assert left is None, f"{left!r} was left on the stack"
