"""The one lock of the process.

Everything that is charged or reserved changes under it. Admission has to see all accounts around a call at
one instant, and a critical section is a few microseconds of integer arithmetic, so one lock is both the
simplest and the fastest that is right. It is re-entrant because a garbage collection inside a critical
section may close a generator or a stream, which charges as well.
"""

from __future__ import annotations

import os
import threading

LOCK = threading.RLock()
# A child process must not inherit a lock that another thread held at the time of the fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)
