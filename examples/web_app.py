"""A FastAPI app with a budget for each request: a client that leaves early pays for what it got, and no more.

It needs `fastapi` and `uvicorn`, which the `[proxy]` extra brings. The program serves itself one request on
loopback, hangs up after the first words, and shows the books.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import litellm
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

import steptrack_callbacks as steptrack
from steptrack_callbacks import BudgetExhausted, step

steptrack.install()
app = FastAPI()
closed = threading.Event()


@app.get("/story")
async def story(about: str, max_usd: float = 0.01) -> StreamingResponse:
    async def words() -> AsyncIterator[str]:
        try:
            async with step("story", max_usd=max_usd):
                async for chunk in await litellm.acompletion(
                    model="gpt-4o-mini",
                    messages=[{"role": "user", "content": f"Tell a story about {about}."}],
                    mock_response="Once upon a time there was a budget. " * 400,
                    stream=True,
                ):
                    await asyncio.sleep(0.001)  # a real provider takes its time, too
                    yield chunk.choices[0].delta.content or ""
        finally:
            closed.set()

    return StreamingResponse(words())


@app.get("/title")
async def title(about: str) -> str:
    try:
        async with step("title", max_usd=0):
            response = await litellm.acompletion(
                model="gpt-4o-mini", messages=[{"role": "user", "content": about}], mock_response="Blue"
            )
            return str(response.choices[0].message.content)
    except BudgetExhausted as error:
        raise HTTPException(402, error.to_dict()) from error


@contextmanager
def served() -> Iterator[str]:
    """Serve the app on loopback for the time being."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.05)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


with served() as url:
    with httpx.stream("GET", f"{url}/story", params={"about": "the sky"}) as response:
        beginning = next(response.iter_text())  # and then the client hangs up
    closed.wait(30)
    refused = httpx.get(f"{url}/title", params={"about": "the sky"})

print(f"the client read {beginning!r} and left")
print(f"the next request: {refused.status_code}, {refused.json()['detail']['message']}\n")
print(steptrack.report())
