"""An agent that never stops by itself: its budget stops it, and keeps enough back for a last word.

The stage says which tools it may use; the loop asks before it uses one.
"""

import litellm

import steptrack_callbacks as steptrack
from steptrack_callbacks import BudgetExhausted, Stage, ToolDenied, check_tool, persona, step

steptrack.install()
MESSAGES = [{"role": "user", "content": "What changed in the market this week?"}]


def think(answer: str) -> str:
    response = litellm.completion(model="gpt-4o-mini", messages=MESSAGES, mock_response=answer)
    return str(response.choices[0].message.content)


with persona("analyst", max_usd=1.00, stages=[Stage("research", allowed_tools=["search"])]):
    with step("research", max_usd=0.0001, wrap_up_usd=0.00002) as research:
        findings = []
        try:
            while True:
                findings.append(think("One more thing to look up."))
                for tool in ("search", "shell"):
                    try:
                        check_tool(tool)
                    except ToolDenied as denial:
                        findings.append(str(denial))
        except BudgetExhausted as exhausted:
            print(f"stopped: {exhausted}")
            with research.wrap_up():
                print(f"last word: {think('So far, so good.')}")

print(f"{len(findings)} findings; the step is {research.status!r}\n")
print(steptrack.report())
