"""Twenty calls at once on a budget of five: tasks share it, and nobody overspends.

Under `strict`, a call reserves the most that it can cost before it is sent.
"""

import asyncio

import litellm

import steptrack_callbacks as steptrack
from steptrack_callbacks import BudgetExhausted, step

steptrack.install()


async def ask(number: int) -> str:
    response = await litellm.acompletion(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": f"Summarise page {number}."}],
        max_tokens=20,
        mock_response="A page, summarised.",
    )
    return str(response.choices[0].message.content)


async def main() -> None:
    async with step("summaries", max_usd=0.0000675, enforce="strict") as summaries:
        results = await asyncio.gather(*map(ask, range(20)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BudgetExhausted)]
    print(f"{len(results) - len(refused)} answered, {len(refused)} refused, ${summaries.cost_usd} spent")
    print(refused[0])


asyncio.run(main())
