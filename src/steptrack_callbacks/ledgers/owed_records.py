"""The records of steps that a ledger has still to be told."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.concurrency.lock import LOCK

from .protocol import Store
from .store_calls import StoreCall, is_about_content

logger = logging.getLogger("steptrack_callbacks")

MOST_OWED_RECORDS = 10_000
Record = Mapping[str, Any]


class OwedRecords:
    """The newest records that a store is owed, in the order of ending.

    Attributes:
        waiting: They.
        let_go: The oldest of too many.
        unkept: Those, and the ones that the store cannot keep.
    """

    __slots__ = ("_store", "let_go", "unkept", "waiting")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.waiting: deque[Record] = deque()
        self.let_go = self.unkept = 0

    def owe(self, record: Record) -> None:
        """Tell the store later."""
        with LOCK:
            self.waiting.append(record)
            if len(self.waiting) > MOST_OWED_RECORDS:
                self.waiting.popleft()
                self.let_go += 1
                self.unkept += 1

    def send(self, record: Record) -> Flow[None]:
        """Tell it of one now; what it cannot keep does not hold up the others."""
        try:
            yield StoreCall(self._store, "put_record", record)
        except Exception as error:
            if not is_about_content(error):
                raise
            self.unkept += 1
            logger.exception("the record of a step cannot be kept in the ledger")

    def send_all(self) -> Flow[None]:
        """Tell it of all; who does so at the same time takes others of them."""
        while self.waiting:
            with LOCK:
                if not self.waiting:
                    return
                record = self.waiting.popleft()
            try:
                yield from self.send(record)
            except BaseException:
                with LOCK:
                    self.waiting.appendleft(record)
                raise
