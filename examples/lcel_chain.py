"""A chain whose outline may run out of budget: the answer is written without it then.

It runs offline: the models are LangChain's fakes. Put ChatOpenAI(...) in their place.
"""

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

import steptrack_callbacks as steptrack
from steptrack_callbacks import step
from steptrack_callbacks.langchain import budgeted

steptrack.install()

outliner = FakeListChatModel(responses=["First the sun, then the air."])
writer = FakeListChatModel(responses=["Air scatters blue light most."])

outline = ChatPromptTemplate.from_template("Outline an answer: {question}") | outliner | StrOutputParser()
write = ChatPromptTemplate.from_template("Write it out: {outline}") | writer | StrOutputParser()

for max_tokens in (1_000, 5):
    thrifty = budgeted(
        outline, step="outline", max_tokens=max_tokens, error_boundary="continue", default="no outline"
    )
    chain = {"outline": thrifty} | write
    with step("answer", max_tokens=4_000) as answer:
        print(chain.invoke({"question": "why is the sky blue?"}))
    print(f"{answer.usage.total_tokens} tokens in {answer.usage.calls} call(s)")

print(steptrack.report())
