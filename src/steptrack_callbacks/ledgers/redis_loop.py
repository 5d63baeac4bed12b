"""Trips of an event loop to Redis: those of one turn of the loop go out together.

What a trip costs a busy loop is less the server's time than the loop's own: a connection, a limit of time, a
write and a read for each. So whoever asks only leaves a trip here, and all that were left since the last look
share one of each.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any

from .redis_forms import RoundTrip, command

logger = logging.getLogger("steptrack_callbacks")

AT_ONCE = 2
"""How many batches of an event loop are under way at once, and so connections."""
MOST_IN_A_BATCH = 50
"""So that other clients of the server have their turn in between."""
TURNS = 25
"""How often an event loop has turned at least before a trip is late: more than connecting or asking takes."""


class LoopTrips:
    """The trips of one event loop, and its connections.

    Args:
        client: A client of redis-py's for event loops.
        errors: The exceptions of redis-py.
        timeout_s: Most seconds that a batch may take; connecting has as many of its own.
    """

    def __init__(self, client: Any, errors: Any, timeout_s: float) -> None:
        self._closing: AsyncGenerator[None, None] | None = None
        self._client = client
        self._errors = errors
        self._timeout_s = timeout_s
        self._waiting: deque[tuple[RoundTrip, asyncio.Future[Any]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._senders = 0
        self._connections: list[Any] = []
        self._free: list[Any] = []

    def connect(self) -> None:
        """Begin to make a connection, for a batch to come; in vain it says nothing, as that will."""
        self._start(self._connect())

    def ask(self, trip: RoundTrip) -> asyncio.Future[Any]:
        """Make a trip with the next batch; its result is the answer, or the exception that came of it."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((trip, answer))
        if not self._is_due and self._senders < AT_ONCE:
            self._is_due = True
            self._start(self._send_waiting())
        return answer

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=Context())  # it is nobody's alone
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() and not self._senders:  # as all are when a loop ends
            self._is_due = False
            _give(self._waiting, None)
            self._waiting.clear()

    async def _connect(self) -> None:
        try:
            async with self._connection() as client, _within(self._timeout_s):
                await client.initialize()
        except Exception:
            logger.debug("could not connect to Redis beforehand", exc_info=True)

    async def _send_waiting(self) -> None:
        self._is_due = False
        self._senders += 1
        try:
            async with self._connection() as client:
                while self._waiting:
                    await self._send_batch(client)
        finally:  # at once: who has just got an answer may ask again before this task counts as done
            self._senders -= 1

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Any]:
        """Lend a connection, which may still have to be made."""
        if self._closing is None:
            self._closing = self._closed_with_loop()
            await self._closing.asend(None)
        client = self._free.pop() if self._free else self._new()
        try:
            yield client
        finally:
            self._free.append(client)

    async def _send_batch(self, client: Any) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_IN_A_BATCH))]
        answers: Sequence[Any] | None = None
        try:
            answers = await self._answers(client, [trip for trip, _ in batch])
        except Exception as error:  # noqa: BLE001 - those who asked raise it
            answers = [error] * len(batch)
        finally:
            _give(batch, answers)

    async def _answers(self, client: Any, trips: Sequence[RoundTrip]) -> list[Any]:
        async with _within(self._timeout_s):
            await client.initialize()
        async with _within(self._timeout_s):
            answers = await self._tried_twice(client, [command(trip) for trip in trips])
            unknown = [n for n, each in enumerate(answers) if isinstance(each, self._errors.NoScriptError)]
            if unknown:
                told = await self._tried_twice(client, [command(trips[n], whole=True) for n in unknown])
                for number, answer in zip(unknown, told, strict=True):
                    answers[number] = answer
            return answers

    async def _tried_twice(self, client: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands; a server that has gone and come back leaves sockets that fail once."""
        send = self._send_to_cluster if client is self._client else self._send
        try:
            return await send(client, commands)
        except self._errors.ConnectionError:
            return await send(client, commands)

    async def _send(self, client: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Write all commands at once, and read their answers in turn."""
        connection = client.connection
        packed = [_packed(connection, each) for each in commands]
        sent = [each for each in packed if type(each) is list]
        try:
            await connection.send_packed_command([piece for each in sent for piece in each])
            return [await self._read(connection) if type(each) is list else each for each in packed]
        except BaseException:
            await connection.disconnect(nowait=True)  # there may be answers to come that nobody awaits
            raise

    async def _read(self, connection: Any) -> Any:
        try:
            return await connection.read_response()
        except self._errors.ResponseError as error:
            return error

    async def _send_to_cluster(self, client: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands one by one: pipelines of clusters run no scripts."""
        return await asyncio.gather(
            *(client.execute_command(*each) for each in commands), return_exceptions=True
        )

    def _new(self) -> Any:
        """Return a client with a connection of its own; that of a cluster keeps one for each node."""
        if not hasattr(self._client, "client"):
            return self._client
        self._connections.append(self._client.client())
        return self._connections[-1]

    async def _closed_with_loop(self) -> AsyncGenerator[None, None]:
        # A loop closes the async generators that are open when it ends: the one moment to close sockets.
        try:
            yield
        finally:
            for client in (*self._connections, self._client):
                await client.aclose()


def _packed(connection: Any, command: tuple[Any, ...]) -> Any:
    """Return what is written for a command, or why it cannot be, which concerns none of the others."""
    try:
        return connection.pack_command(*command)
    except (TypeError, UnicodeEncodeError) as error:
        return error


def _give(batch: Iterable[tuple[RoundTrip, asyncio.Future[Any]]], answers: Sequence[Any] | None) -> None:
    """Hand out answers to those who still wait for them; `None` if none will come."""
    for number, (_, answer) in enumerate(batch):
        if answers is None:
            answer.cancel()
        elif not answer.done():
            answer.set_result(answers[number])


@asynccontextmanager
async def _within(seconds: float) -> AsyncGenerator[None]:
    """Bound the time of a batch, and grant it some turns of its event loop.

    A loop that others hold up reads an answer late: which does not make the server slow.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as limit:

        def turned(left: int) -> None:
            nonlocal timer
            if left:
                timer = loop.call_later(seconds / TURNS, turned, left - 1)
            else:
                limit.reschedule(loop.time())

        timer = loop.call_later(seconds / TURNS, turned, TURNS - 1)
        try:
            yield
        finally:
            timer.cancel()
