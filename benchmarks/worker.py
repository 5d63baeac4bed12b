"""A process that measures one contestant, in the environment of its package.

    python worker.py CONTESTANT URL

It reads one JSON object a line, `{"do": ..., ...}`, and answers with one: what was measured, or `cannot`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "CRITICAL",
    "LANGSMITH_TRACING": "false",
}

if litellm := find_spec("litellm"):  # so that whoever counts tokens can do it offline
    encodings = Path(litellm.origin or "").with_name("litellm_core_utils") / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(encodings)

from cases import CASES, Case
from contestants.contestant import Cannot, Contestant
from contestants.frameworks import Nothing
from entrants import ALL

Answer = dict[str, Any]
WARM_UP = 160  # LiteLLM's first hundred calls with a logger take ten times as long as the others


def warm_up(who: Contestant, url: str, case: str) -> Answer:
    """Work for a while first: frameworks, too, do much when they are first used."""
    with CASES[case].opened(who, url) as work:
        work(WARM_UP)
    return {}


def time_case(who: Contestant, url: str, case: str) -> Answer:
    """Take one sample of a case, bare and attached, in microseconds a part."""
    given = CASES[case]
    bare = _sample(Nothing(), url, given) if given.bare else 0.0
    return {"bare": bare, "attached": _sample(who, url, given), "seen": who.seen() if given.bare else None}


def _sample(who: Contestant, url: str, case: Case) -> float:
    with case.opened(who, url) as work:
        work(min(8, case.times))  # what is done once only is not what a call costs
        start = time.perf_counter()
        work(case.times)
        taken = time.perf_counter() - start
    return taken / case.times / case.parts * 1e6


def hold(who: Contestant, url: str, **given: Any) -> Answer:
    import holding

    return holding.hold(who, url, **given)


def prepare(who: Contestant, url: str, **given: Any) -> Answer:
    import holding

    return holding.prepare(who, url, **given)


def grow(who: Contestant, url: str, **given: Any) -> Answer:
    import growing

    return growing.grow(who, **given)


DOES: dict[str, Callable[..., Answer]] = {
    "warm up": warm_up,
    "time": time_case,
    "prepare": prepare,
    "hold": hold,
    "grow": grow,
}


def answer(who: Contestant, url: str, request: Answer) -> Answer:
    try:
        return DOES[request.pop("do")](who, url, **request)
    except Cannot as why:
        return {"cannot": str(why)}
    except Exception as error:
        traceback.print_exc()
        return {"cannot": f"fails: {type(error).__name__}"}


def main() -> None:
    name, url = sys.argv[1:]
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    who, answers = ALL[name](), sys.stdout
    with redirect_stdout(sys.stderr):  # whatever a contestant prints is no answer
        for line in sys.stdin:
            print(json.dumps(answer(who, url, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
