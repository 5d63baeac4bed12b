"""Round trips to a Redis server: bounded in time, in threads and on event loops, across forks."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Generator
from contextlib import suppress
from typing import Any, TypeVar

from steptrack_callbacks.concurrency.tasks import running_loop
from steptrack_callbacks.values.errors import LedgerError

from .fork_safe_lock import watch_forks
from .redis_forms import RoundTrip, command
from .redis_loop import LoopTrips

logger = logging.getLogger("steptrack_callbacks")

T = TypeVar("T")
RoundTrips = Generator[RoundTrip, Any, T]
"""A decision that is written once: it yields trips, is sent their answers, and returns what comes of it."""

_NO_RIGHTS = ("can't run this command", "can't access", "ACL failure")


class RedisLink:
    """Connections to one server or cluster, by thread and event loop."""

    def __init__(self, address: str, *, url: str, timeout_s: float, cluster: bool) -> None:
        self.url = url
        self._address = address
        self._timeout_s = timeout_s
        self._cluster = cluster
        self._client: Any = None
        self._connecting: threading.Thread | None = None
        self._loops: weakref.WeakKeyDictionary[Any, LoopTrips] = weakref.WeakKeyDictionary()
        self._redis = _redis(url)
        watch_forks(self)

    def connect(self) -> None:
        """Begin to connect, unless that was begun before: for threads, and for an event loop that runs here.

        It fails in silence: the first trip will say why.
        """
        if self._client is None and self._connecting is None:
            thread = threading.Thread(target=self._connect, name="steptrack-redis", daemon=True)
            with suppress(RuntimeError):  # where no thread can be started any more, or none ever
                thread.start()
                self._connecting = thread
        loop = running_loop()  # on which plain functions charge through the connection of threads
        if loop is not None and loop not in self._loops:
            self._begin(loop).connect()

    def drive(self, trips: RoundTrips[T]) -> T:
        """Make trips from this thread.

        Raises:
            LedgerError: The server did not answer in time, or not as it should.
        """
        self._wait_for_connection()
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
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop) or self._begin(loop)
        answer: Any = None
        try:
            while not isinstance(answer, Exception):
                answer = await here.ask(trips.send(answer))
        except StopIteration as done:
            result: T = done.value
            return result
        except Exception as error:
            raise self._explained(error) from error
        raise self._explained(answer) from answer  # not itself: it may be that of a whole batch

    def close(self) -> None:
        """Let go of the sockets of threads; those of event loops are closed with their loop."""
        self.before_fork()
        self._connecting = None
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def before_fork(self) -> None:
        """Let nobody be on the way to a socket: redis-py's pools know to which process one belongs."""
        self._wait_for_connection()

    def after_fork(self, *, child: bool) -> None:
        """Use new sockets in a child."""
        if child:
            self._client = self._connecting = None
            self._loops = weakref.WeakKeyDictionary()

    def _wait_for_connection(self) -> None:
        """Let the connection that was begun beforehand be made, rather than another one beside it."""
        if self._connecting is not None:
            self._connecting.join(self._timeout_s)

    def _connect(self) -> None:
        try:
            client = self._for_threads()  # that of a cluster has connected now
            if not self._cluster:
                client.client().close()
        except Exception:
            logger.debug("could not connect to %s beforehand", self.url, exc_info=True)

    def _for_threads(self) -> Any:
        if self._client is None:
            self._client = self._connected(self._redis, self._redis.retry.Retry, timeout_s=self._timeout_s)
        return self._client

    def _make(self, trip: RoundTrip, until: float) -> Any:
        if time.monotonic() > until:
            raise TimeoutError
        client = self._for_threads()
        try:
            return self._send(trip, client)
        except self._redis.exceptions.ConnectionError:
            # A server that has gone and come back leaves sockets that fail once; all may be sent twice.
            if time.monotonic() > until:
                raise
            return self._send(trip, client)

    def _send(self, trip: RoundTrip, client: Any) -> Any:
        try:
            return client.execute_command(*command(trip))
        except self._redis.exceptions.NoScriptError:
            return client.execute_command(*command(trip, whole=True))

    def _begin(self, loop: asyncio.AbstractEventLoop) -> LoopTrips:
        for other in [each for each in self._loops if each.is_closed()]:
            del self._loops[other]  # what waits for a loop refers to it, and would keep it
        module = self._redis.asyncio
        client = self._connected(module, module.retry.Retry, timeout_s=None)
        here = LoopTrips(client, self._redis.exceptions, self._timeout_s)
        self._loops[loop] = here
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
            why = f"it lets nobody in with this name and password: {str(error).rstrip('.')}"
        elif isinstance(error, known.ConnectionError | known.RedisClusterException | OSError):
            why = f"it cannot be reached: {str(error).rstrip('.')}"
        elif isinstance(error, known.ResponseError):
            why = _of_response(error)
        else:
            why = f"it answered what no ledger answers ({error!r:.200}): see what listens there"
        explained = LedgerError(ledger=self.url, why=why)
        explained.is_late = isinstance(error, known.TimeoutError | TimeoutError)
        return explained


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
