"""A plan and an answer, each with a budget. It runs offline: LiteLLM makes the answers up."""

import litellm

import steptrack_callbacks as steptrack
from steptrack_callbacks import step

steptrack.install()


def ask(text: str) -> str:
    answer = litellm.completion(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": text}],
        mock_response="Air scatters blue light most.",  # leave it out to call the provider
    )
    return str(answer.choices[0].message.content)


@step("plan", max_usd=0.05, error_boundary="continue", default="no plan")
def plan(question: str) -> str:
    return ask(f"Outline an answer: {question}")


with step("answer", max_usd=0.50, max_calls=8) as answer:
    outline = plan("why is the sky blue?")
    ask(f"Write it out: {outline}")

print(f"spent ${answer.cost_usd} of $0.50 in {answer.usage.calls} calls\n")
print(steptrack.report())
