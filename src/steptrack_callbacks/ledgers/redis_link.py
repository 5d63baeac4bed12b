"""Round trips to a Redis server: bounded in time, in threads and on event loops, across forks."""

from __future__ import annotations

import asyncio
import hashlib
import time
import weakref
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from steptrack_callbacks.values.errors import LedgerError

from .redis_forms import RoundTrip
from .turns import watch_forks

T = TypeVar("T")
RoundTrips = Generator[RoundTrip, Any, T]
"""A decision that is written once: it yields trips, is sent their answers, and returns what comes of it."""

AT_ONCE = 16
"""How many trips an event loop makes at once, and so connections; the time of others is not counted."""
TURNS = 25
"""How often an event loop has turned at least before a trip is late: more than connecting or asking takes."""

_NO_RIGHTS = ("can't run this command", "can't access", "ACL failure")


class RedisLink:
    """Connections to one server or cluster, by thread and event loop."""

    def __init__(self, address: str, *, url: str, timeout_s: float, cluster: bool) -> None:
        self.url = url
        self._address = address
        self._timeout_s = timeout_s
        self._cluster = cluster
        self._client: Any = None
        self._loops: weakref.WeakKeyDictionary[Any, _Loop] = weakref.WeakKeyDictionary()
        self._redis = _redis(url)
        watch_forks(self)

    def drive(self, trips: RoundTrips[T]) -> T:
        """Make trips from this thread.

        Raises:
            LedgerError: The server did not answer in time, or not as it should.
        """
        until = time.monotonic() + self._timeout_s
        answer: Any = None
        try:
            while True:
                answer = self._make(trips.send(answer), until)
        except StopIteration as done:
            result: T = done.value
            return result
        except Exception as error:
            raise self._explained(error) from error

    async def drive_async(self, trips: RoundTrips[T]) -> T:
        """Make trips from an event loop, and let others go on meanwhile.

        Raises:
            LedgerError: The server did not answer in time, or not as it should.
        """
        try:
            async with (await self._here()).connection(self._timeout_s) as client, _within(self._timeout_s):
                return await self._drive_async(trips, client)
        except Exception as error:
            raise self._explained(error) from error

    def close(self) -> None:
        """Let go of the sockets of threads; those of event loops are closed with their loop."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def before_fork(self) -> None:
        """Do nothing: redis-py's pools know to which process a socket belongs."""

    def after_fork(self, *, child: bool) -> None:
        """Use new sockets in a child."""
        if child:
            self._client = None
            self._loops = weakref.WeakKeyDictionary()

    def _make(self, trip: RoundTrip, until: float) -> Any:
        if time.monotonic() > until:
            raise TimeoutError
        if self._client is None:
            self._client = self._connected(self._redis, self._redis.retry.Retry, timeout_s=self._timeout_s)
        try:
            return self._send(trip)
        except self._redis.exceptions.ConnectionError:
            # A server that has gone and come back leaves sockets that fail once; all may be sent twice.
            if time.monotonic() > until:
                raise
            return self._send(trip)

    def _send(self, trip: RoundTrip) -> Any:
        if trip.script is None:
            return self._client.execute_command(*trip.args)
        text, digest = _script(trip.script)
        try:
            return self._client.evalsha(digest, len(trip.keys), *trip.keys, *trip.args)
        except self._redis.exceptions.NoScriptError:
            return self._client.eval(text, len(trip.keys), *trip.keys, *trip.args)

    async def _drive_async(self, trips: RoundTrips[T], client: Any) -> T:
        answer: Any = None
        try:
            while True:
                trip = trips.send(answer)
                try:
                    answer = await self._send_async(trip, client)
                except self._redis.exceptions.ConnectionError:
                    answer = await self._send_async(trip, client)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _send_async(self, trip: RoundTrip, client: Any) -> Any:
        if trip.script is None:
            return await client.execute_command(*trip.args)
        text, digest = _script(trip.script)
        try:
            return await client.evalsha(digest, len(trip.keys), *trip.keys, *trip.args)
        except self._redis.exceptions.NoScriptError:
            return await client.eval(text, len(trip.keys), *trip.keys, *trip.args)

    async def _here(self) -> _Loop:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            for other in [each for each in self._loops if each.is_closed()]:
                del self._loops[other]  # what waits for a loop refers to it, and would keep it
            module = self._redis.asyncio
            here = _Loop(self._connected(module, module.retry.Retry, timeout_s=None))
            self._loops[loop] = here
            await here.closing.asend(None)
        return here

    def _connected(self, module: Any, retry: Any, *, timeout_s: float | None) -> Any:
        kind = module.RedisCluster if self._cluster else module.Redis
        return kind.from_url(
            self._address,
            decode_responses=True,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=retry(self._redis.backoff.NoBackoff(), 0),
        )

    def _explained(self, error: Exception) -> Exception:
        known = self._redis.exceptions
        if isinstance(error, LedgerError | TypeError | UnicodeEncodeError):
            return error  # the last two are of a caller's keys and details
        if isinstance(error, known.TimeoutError | TimeoutError):
            why = f"it did not answer within {self._timeout_s:g} s: see to it, or raise timeout_s"
        elif isinstance(error, known.NoPermissionError):
            why = _of_rights(str(error))
        elif isinstance(error, known.AuthenticationError):
            why = f"it lets nobody in with this name and password: {error}"
        elif isinstance(error, known.ConnectionError | known.RedisClusterException | OSError):
            why = f"it cannot be reached: {error}"
        elif isinstance(error, known.ResponseError):
            why = _of_response(error)
        else:
            why = f"it answered what no ledger answers ({error!r:.200}): see what listens there"
        explained = LedgerError(ledger=self.url, why=why)
        explained.is_late = isinstance(error, known.TimeoutError | TimeoutError)
        return explained


class _Loop:
    """What belongs to one event loop: a client, and a connection for each who is on a trip."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.closing = self._closing()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._connections: list[Any] = []
        self._free: list[Any] = []

    @asynccontextmanager
    async def connection(self, timeout_s: float) -> AsyncGenerator[Any]:
        """Lend a connection that is made already, so that the time of a trip is not spent on it."""
        async with self._places:
            client = self._free.pop() if self._free else self._new()
            try:
                async with _within(timeout_s):
                    await client.initialize()
                yield client
            finally:
                self._free.append(client)

    def _new(self) -> Any:
        """Return a client with a connection of its own; that of a cluster keeps one for each node."""
        if not hasattr(self.client, "client"):
            return self.client
        self._connections.append(self.client.client())
        return self._connections[-1]

    async def _closing(self) -> AsyncGenerator[None, None]:
        # A loop closes the async generators that are open when it ends: the one moment to close sockets.
        try:
            yield
        finally:
            for client in (*self._connections, self.client):
                await client.aclose()


@asynccontextmanager
async def _within(seconds: float) -> AsyncGenerator[None]:
    """Bound the time of a trip, and grant it some turns of its event loop.

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


def _of_response(error: Exception) -> str:
    message, kind = str(error), type(error).__name__
    if "WRONGTYPE" in message:
        return f"a key of another program is in the way ({message}): name another prefix, with ?prefix="
    if "OOM" in message:
        return "its memory is full; nothing was changed: give it more, or prune"
    if message.startswith("MOVED") or kind == "MovedError":
        return "it is one node of a Redis Cluster: add ?cluster=true"
    if "READONLY" in message:
        return "it is a replica, which may only be read: name the primary"
    if any(words in message for words in _NO_RIGHTS):
        return _of_rights(message)
    return f"Redis says: {message}"


def _of_rights(message: str) -> str:
    return f"its user may not do all that a ledger needs, see docs/ledgers.md for the rights: {message}"


@cache
def _script(name: str) -> tuple[str, str]:
    folder = resources.files(__package__) / "lua"
    text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _redis(url: str) -> Any:
    try:
        import redis  # noqa: PLC0415 - an extra, imported by those who use it
        import redis.asyncio  # noqa: PLC0415
        import redis.asyncio.retry  # noqa: PLC0415
        import redis.backoff  # noqa: PLC0415
        import redis.retry  # noqa: PLC0415
    except ImportError as error:
        why = "redis-py is not installed: pip install 'steptrack-callbacks[redis]'"
        raise LedgerError(ledger=url, why=why) from error
    return redis
