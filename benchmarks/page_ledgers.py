"""What is told of the ledgers: their cost beside a bare statement of the same server, size, and a soak."""

from __future__ import annotations

from tables import NONE, Results, number, table

BARE = {"SQLite": "a bare insert on SQLite", "Redis": "a bare INCRBY pair on Redis"}
WARM = 2
"""Which sample of the soak the later ones are compared to."""


def written(found: Results) -> str:
    told = [costs(found["admit_and_settle_us"]), sizes(found)]
    return "\n\n".join([*told, soaked(found["soak"])] if "soak" in found else told)


def costs(us: dict[str, float]) -> str:
    rows = ([name, number(each), _ratio(us, name)] for name, each in us.items())
    return table(["admit + settle", "us", "ratio to the bare one"], rows)


def _ratio(us: dict[str, float], name: str) -> str:
    bare = BARE.get(name.partition(",")[0])
    return f"{us[name] / us[bare]:.1f}" if bare else NONE


def sizes(found: Results) -> str:
    one, four = (number(us) for us in found["redis_script_us"].values())
    kept = ", ".join(
        f"{each['charge']:,.0f} bytes for a charge and {each['account']:,.0f} for an account in {ledger}"
        for ledger, each in found["bytes"].items()
    )
    return (
        f"Redis itself takes {one} us for a script with one account and {four} us for one with four."
        f" Kept are {kept}."
    )


def soaked(found: Results) -> str:
    first, last = found["samples"][WARM], found["samples"][-1]
    return (
        f"{last['calls']:,} calls in {found['steps']:,} steps of one process, each call admitted and settled"
        f" under a budget with a window of a minute, on the default ledger: {first['MiB']} MiB after"
        f" {first['calls']:,} calls, {last['MiB']} MiB after the last."
    )
