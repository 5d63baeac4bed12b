"""What others call our options, so that who comes from there is told the word that is ours."""

from __future__ import annotations

from collections.abc import Iterable

_MONEY = (
    "budget_usd cost_limit dollars limit_usd max_budget max_budget_usd max_cost max_cost_usd max_dollar"
    " max_dollars max_price max_spend max_spend_usd price_limit spend_limit usd usd_limit"
)
_TOKENS = (
    "limit_tokens max_token_count max_total_tokens token_budget token_limit tokens tokens_limit total_tokens"
)
_CALLS = (
    "call_limit calls limit_calls max_iterations max_llm_calls max_model_calls max_requests max_steps"
    " max_turns model_call_limit request_limit requests_limit"
)
_TIME = (
    "deadline deadline_s duration duration_s max_duration max_duration_s max_runtime max_time max_time_s"
    " time_limit time_limit_s timeout timeout_s timeout_seconds"
)
_BOUNDARY = (
    "behavior boundary exit_behavior on_budget_exceeded on_exceed on_exceeded on_exhausted on_exhaustion"
    " on_error on_limit on_limit_exceeded on_over_budget on_overrun when_exceeded"
)
_OURS: dict[str, tuple[str, ...]] = {
    word: ours
    for words, ours in (
        (_MONEY, ("max_usd",)),
        ("budget", ("max_usd", "budgets")),
        (_TOKENS, ("max_tokens",)),
        (_CALLS, ("max_calls",)),
        (_TIME, ("max_seconds",)),
        (_BOUNDARY, ("error_boundary",)),
        ("default_value fallback fallback_value on_error_return return_value", ("default",)),
        ("fallback_model fallback_models fallbacks model_fallbacks", ("models",)),
        ("allowed tools", ("allowed_tools",)),
        ("max_calls", ("max_iterations",)),
        ("ask ask_human human_in_the_loop on_escalate on_escalation", ("escalation",)),
        ("enforcement hard hard_limit mode strict", ("enforce",)),
        ("max_wait max_wait_s queue_timeout wait wait_seconds wait_timeout", ("wait_s",)),
        ("period per renews_every reset reset_period interval", ("window",)),
        ("keep_back reserve reserve_usd reserved_usd", ("wrap_up_usd",)),
        ("reserve_calls", ("wrap_up_calls",)),
    )
    for word in words.split()
}


def ours_for(word: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the options that are meant by a word of somebody else's, of those that are known here.

    Example:
        >>> ours_for("max_dollars", ["max_usd", "max_calls"])
        ('max_usd',)
        >>> ours_for("--max-dollars", ["--max-usd", "--max-calls"])
        ('--max-usd',)
    """
    there = {_plain(name): name for name in known}
    return tuple(there[name] for name in _OURS.get(_plain(word), ()) if name in there)


def _plain(option: str) -> str:
    """Return an option as Python has it: `--max-usd` is `max_usd`."""
    return option.lower().lstrip("-").replace("-", "_")
