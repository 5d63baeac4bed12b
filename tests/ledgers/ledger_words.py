"""Short words for what tests ask of a ledger."""

import itertools

from steptrack_callbacks.ledgers.protocol import COST, AccountRequest, Asked, Entry, ReservationRequest

_ids = (f"call-{number}" for number in itertools.count())


def ask(key="team", *, cost=0, tokens=0, alone=None, **limits):
    beside = Asked(cost, tokens)
    return AccountRequest(
        key=key, alone=beside if alone is None else Asked(*alone), beside=beside, held=beside, **limits
    )


def calling(*asks, call=None, lease_s=60.0):
    return ReservationRequest(id=call or next(_ids), asks=asks, lease_s=lease_s)


def charge(call=None, *keys, cost=0, tokens=0, calls=1, **more):
    amounts = {COST: cost, "calls": calls, "input_tokens": tokens, "output_tokens": 0}
    return Entry(id=call or next(_ids), keys=keys or ("team",), amounts=amounts, **more)


def release(call, *keys):
    return Entry(id=call, keys=keys or ("team",))


def spend(store, key="team", **how):
    """Charge a call that nobody had reserved."""
    return store.settle([charge(None, key, **how)])[0]


def at(store, key="team"):
    return store.look([key])[0]
