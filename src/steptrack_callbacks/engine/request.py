"""What is about to be sent, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from steptrack_callbacks import settings
from steptrack_callbacks.pricing import Prices, Terms, prices_of
from steptrack_callbacks.pricing.sources import Question, look_up
from steptrack_callbacks.pricing.terms import NO_TERMS
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values.usage import Usage

from . import output_stats
from .holds import Estimate

Operation = Literal[
    "chat",
    "text_completion",
    "embeddings",
    "generate_content",
    "image_generation",
    "video_generation",
    "moderation",
    "speech",
    "transcription",
    "rerank",
    "ocr",
    "search",
    "decisions",
    "batch",
    "execute_tool",
]
LEAST_CLAMP_TOKENS = 16
"""The least `max_tokens` that is set where the user gave none: some providers take no less."""

UNKNOWN_MODEL = "unknown"
"""The name of a model that nobody has named."""

_NOTHING = (0, 0)
MANY = 1000
"""So many tokens are priced at once to learn the price of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fee:
    """What a request costs per item: images, seconds, characters, pages, queries; in money units.

    Attributes:
        sent: What is owed for what is sent, as soon as it is: characters, queries.
        likely: What it comes to with what is made of it, such as images; `None` if nobody knows.
        most: The most that it may come to, as far as anybody knows.
        replaces_tokens: Whether it is billed in place of tokens. Else it only says, before an answer
            has come, what the answer's tokens may cost.
    """

    sent: int = 0
    likely: int | None = None
    most: int = 0
    replaces_tokens: bool = True


NO_FEE = Fee(likely=0, replaces_tokens=False)


@dataclass(kw_only=True)  # without slots, so that what is not said is the class's
class Request:
    """One model request, as far as it is known before it is sent.

    Attributes:
        model: The model's name, as it was asked for.
        operation: What is asked of the model, in the words of telemetry.
        provider: Who serves it, if that is known.
        service_tier: The tier that was asked for, such as `flex`.
        speed, region, search_context_size: What else was asked for that changes the price; see `Terms`.
        count_input: Counts the input; called at most once, and only if a limit or an estimate needs it.
        bound_input: Bounds the input without counting it, or returns `None` if it cannot.
        max_output_tokens: Most output tokens that the request allows over all its answers; 0 for
            embeddings, `None` if it says nothing.
        answers: How many answers are asked for at once; each gets its part of a `max_tokens` that is set.
        can_clamp: Whether the package lets us set a `max_tokens` where none was given.
        needs_whole_answer: Whether half an answer is worth nothing: it follows a schema, calls tools, or
            is thought about first. Such a request is given no `max_tokens` under `estimate`.
        streams: Whether its answer comes as a stream, which a limit can cut: it is given no `max_tokens`.
        price: Prices a usage of this very request, whoever answers it.
        fee: What it costs per item, of calls that are not billed by tokens alone.
        rates: Rates that were given with the call, in LiteLLM's words.
        base_model: The model by whose price it is charged, if the caller names another than is called.
        kinds: Lists the kinds of tokens that it may send or ask for beside text, such as `input_audio`
            or `cache_write_1h`; called only if a limit has to hold against the dearest.
        cure: What the caller can do if nobody knows the price, where giving one is not it.
        called: What the caller calls the model, if that is not its name: a group of a Router's.
        with_model: Describes it with another model, or says why not; `None` if no other can be sent.
        needs: Lists what it needs of a model, such as `vision`; called only if another is looked at.
        counts: Whether it counts as one of `max_calls`; the use of a tool does not.
        must_fit: Whether it is made only if it will fit, though nothing else is in flight; else it may take
            the last of a limit.
        together: What it has in common with the other calls that one request makes; `None` if there are
            none, or all are begun by one task or thread. What any of these holds, none of them waits for.
        described_by: The content and the options that it was read from, for who may describe it again.
        input_count: The input's tokens if they were counted, else `None`.
        is_plain: Whether it was made by `plain_request`.
    """

    model: str
    operation: Operation = "chat"
    provider: str | None = None
    service_tier: str | None = None
    speed: str | None = None
    region: str | None = None
    search_context_size: str | None = None
    count_input: Callable[[], InputCount]
    bound_input: Callable[[], int | None] | None = None
    max_output_tokens: int | None = None
    answers: int = 1
    can_clamp: bool = False
    needs_whole_answer: bool = False
    streams: bool = False
    price: Callable[[Usage], int | None] | None = None
    fee: Fee = NO_FEE
    rates: Mapping[str, Any] | None = None
    base_model: str | None = None
    kinds: Callable[[], Collection[str]] | None = None
    cure: str = ""
    called: str = ""
    with_model: Callable[[str], Request | str] | None = None
    needs: Callable[[], frozenset[str]] | None = None
    counts: bool = True
    must_fit: bool = False
    together: Hashable = None
    described_by: tuple[Any, Mapping[str, Any]] | None = field(default=None, repr=False)
    input_count: InputCount | None = field(default=None, init=False)
    is_plain: bool = field(default=False, init=False)
    _costs: dict[tuple[int, int, frozenset[str]], int] | None = field(default=None, init=False)
    estimated: tuple[tuple[object, ...], Estimate] | None = field(default=None, init=False, repr=False)
    _prices: Prices | None = field(default=None, init=False)

    @property
    def asked_for(self) -> str:
        """The model, as its caller calls it."""
        return self.called or self.model

    @property
    def counted(self) -> InputCount:
        """The input's tokens, expected and at most."""
        if self.input_count is None:
            self.input_count = self.count_input()
        return self.input_count

    @property
    def is_priced(self) -> bool:
        """Whether anybody knows what it costs."""
        if self.fee.replaces_tokens:
            return True
        if self.price is not None:
            return self.cost(1, self._least_output) is not None
        return self.prices() is self._prices  # which are kept once they are known

    @property
    def lacks(self) -> str:
        """The one rate that nobody knows, as `install(prices=...)` calls it; empty if it is both or none."""
        known = (self.cost(1, 0) is not None, self.cost(0, 1) is not None)
        rates = {(True, False): "output_usd_per_mtok", (False, True): "input_usd_per_mtok"}
        return rates.get(known, "")

    @property
    def _least_output(self) -> int:
        """An output that it may have: embeddings have none, and need no price for it."""
        return 0 if self.max_output_tokens == 0 else 1

    def cost(self, input_tokens: int, output_tokens: int) -> int | None:
        """Price a number of tokens, in money units; `None` if the model's price is unknown."""
        if self.fee.replaces_tokens:
            return 0
        if self.price is not None:
            return self.price(Usage(input_tokens=input_tokens, output_tokens=output_tokens))
        return self.prices().plain(input_tokens, output_tokens)

    @property
    def is_by_second(self) -> bool:
        """Whether it costs what its time costs, which nobody knows before it has ended."""
        return self.price is None and not self.fee.replaces_tokens and self.prices().by_second

    def prices(self) -> Prices:
        """Look the prices up once: a call is settled at those that it was admitted by."""
        if self._prices is not None:
            return self._prices
        if self.is_plain:
            found = look_up(_plain_question(self.model, self.provider))
        else:
            found = look_up(self._question(self.model, NO_TERMS))
        # While nobody knows them they are looked up again: somebody may by the time of the answer.
        if found.dearest is not None or found.plain(1, self._least_output) is not None:
            self._prices = found
        return found

    def take_over(self, before: Request) -> None:
        """Take over what was found out about an earlier description of the same, as far as it still holds."""
        if self.model != before.model:
            return
        self.count_input, self.input_count = lambda: before.counted, before.input_count
        if self._question(self.model, NO_TERMS) == before._question(self.model, NO_TERMS):
            self._prices = before._prices

    def rename(self, model: str) -> None:
        """Take a name of the model that is known only now."""
        self.model, self._prices = model, None

    def _question(self, model: str, served: Terms) -> Question:
        return Question(
            self.base_model or model,
            None if self.base_model else self.provider,
            served.service_tier or self.service_tier,
            served.speed or self.speed,
            served.region or self.region,
            served.search_context_size or self.search_context_size,
            tuple(self.rates.items()) if self.rates else (),
        )

    def cost_of(
        self,
        usage: Usage,
        model: str | None = None,
        terms: Terms | None = None,
        duration_s: float | None = None,
    ) -> int | None:
        """Price a usage, of the model that answered if it has a price, else of the one asked for.

        What the user has said of the one asked for goes before a list price of the one that answered.

        Args:
            usage: What was used.
            model: The model that answered, if that was told.
            terms: How it was served, as the answer says; where it says nothing, as it was asked for.
            duration_s: How long the call took, for models that are priced by the second.
        """
        if self.fee.replaces_tokens:
            return self.fee.likely
        if self.price is not None:
            return self.price(usage)
        served = terms or NO_TERMS
        is_another = model is not None and model != self.model and not self.rates and not self.base_model
        if is_another and model is not None:
            answered = look_up(self._question(model, served))
            cost = answered.cost(usage, duration_s) if answered.is_own or not self.prices().is_own else None
            if cost is not None:
                return cost
        if served is NO_TERMS:
            return (self._prices or self.prices()).cost(usage, duration_s)
        return look_up(self._question(self.model, served)).cost(usage, duration_s)

    def has_own_price(self, model: str) -> bool:
        """Tell whether the user has said what the model costs that was asked for, or that has answered."""
        if self.rates or not settings.now.prices:
            return bool(self.rates)
        return self.prices().is_own or look_up(self._question(model, NO_TERMS)).is_own

    def cost_of_parts(
        self,
        parts: Sequence[tuple[str, Usage]],
        terms: Terms | None = None,
        duration_s: float | None = None,
    ) -> int | None:
        """Price an answer that several models made, each its part; `None` if a part has no price.

        The first is of the model that was called; the others were called by it, at prices of their own.
        """
        (model, usage), *others = parts
        if not others:
            return self.cost_of(usage, model, terms, duration_s)
        costs = [self.cost_of(usage, model, terms, duration_s)]
        costs += [prices_of(model, provider=self.provider).cost(usage) for model, usage in others]
        return None if None in costs else sum(cost or 0 for cost in costs)

    @property
    def least_clamp(self) -> int:
        """The least that all its answers together may be lowered to."""
        return LEAST_CLAMP_TOKENS * self.answers

    def expected_output(self) -> int:
        """Output that is likely: the largest of the model's last ones, capped by the request."""
        return self._expected_output(output_stats.of(self.model).output)

    def _expected_output(self, learned: int | None) -> int:
        if self.max_output_tokens is None:
            return output_stats.START_OUTPUT_TOKENS if learned is None else learned
        return self.max_output_tokens if learned is None else min(learned, self.max_output_tokens)

    def estimated_usage(self, output_tokens: int | None = None, reported: Usage | None = None) -> Usage:
        """Estimate the usage of a call that nobody reports; never more input than was bounded.

        Args:
            output_tokens: What was produced; `None` takes what is to be expected.
            reported: What the provider had said by the time that it was broken off.
        """
        likely = self.counted.tokens + (output_stats.of(self.model).surplus or 0)
        counted = min(likely, max(self.counted.tokens, self.counted.upper_bound))
        produced = self.expected_output() if output_tokens is None else output_tokens
        if reported is None:
            return Usage(input_tokens=counted, output_tokens=produced)
        return reported.replace(
            input_tokens=reported.input_tokens or counted,
            output_tokens=max(reported.output_tokens, produced),
        )

    def most(self, output_tokens: int) -> Usage:
        """Bound the usage of a call, given a bound of its output."""
        return Usage(input_tokens=self.most_input(), output_tokens=output_tokens)

    def most_input(self) -> int:
        """Bound its input."""
        counted = self.counted
        return max(counted.upper_bound, counted.tokens + (output_stats.of(self.model).surplus or 0))

    def cost_per_output_token(self, input_tokens: int) -> int:
        """Price one more token of output, beside so many of input, as dearly as it may be billed."""
        difference = self.most_cost(input_tokens, MANY) - self.most_cost(input_tokens, 0)
        return -(-difference // MANY)

    def most_cost(self, input_tokens: int, output_tokens: int) -> int:
        """Price tokens as dearly as they may be billed: written to a cache, thought, on a dearer tier."""
        tiers = frozenset() if self.service_tier else output_stats.of(self.model).tiers
        asked, costs = (input_tokens, output_tokens, tiers), self._costs
        if costs is None:
            costs = self._costs = {}
        if (known := costs.get(asked)) is None:
            found = [self._most_cost(input_tokens, output_tokens, tier) for tier in (None, *tiers)]
            known = costs[asked] = max(cost or 0 for cost in found)
        return known

    def _most_cost(self, input_tokens: int, output_tokens: int, service_tier: str | None) -> int | None:
        if self.fee.replaces_tokens:
            return self.fee.likely
        if self.price is None:
            kinds = () if self.kinds is None else self.kinds()
            served = Terms(service_tier=service_tier)
            prices = look_up(self._question(self.model, served)) if service_tier else self.prices()
            return prices.most(input_tokens, output_tokens, kinds)
        plain = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        dear = plain.replace(cache_write_tokens=input_tokens, reasoning_tokens=output_tokens)
        return max(self.price(plain) or 0, self.price(dear) or 0)


def plain_request(
    model: str,
    provider: str | None,
    *,
    count_input: Callable[[], InputCount],
    bound_input: Callable[[], int | None],
    kinds: Callable[[], Collection[str]],
    needs: Callable[[], frozenset[str]],
    cure: str,
) -> Request:
    """Describe a request of which no more is said than this, as of nearly all.

    To set these takes a third of the time of setting all that might be said.
    """
    request = object.__new__(Request)
    request.model, request.provider, request.cure, request.is_plain = model, provider, cure, True
    request.count_input, request.bound_input = count_input, bound_input
    request.kinds, request.needs = kinds, needs
    return request


_plain_question = lru_cache(maxsize=1024)(Question)
"""What is asked of the prices for such a request: the same for all of a model."""
