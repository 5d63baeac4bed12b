"""Steps of one name in the same step, taken together: three hundred pages are one row that opens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from steptrack_callbacks.values.formatting import Share
from steptrack_callbacks.values.records import CompletedStep, shares_of
from steptrack_callbacks.values.usage import Usage

FEWEST = 5
"""So many steps of one name in the same step are folded."""


class Line(NamedTuple):
    """One step in the tree."""

    depth: int
    record: CompletedStep

    @property
    def name(self) -> str:
        """Its name; at the top its path, which says where a step belongs whose outermost is not here."""
        return self.record.name if self.depth else self.record.path


@dataclass(frozen=True, slots=True)
class Branch:
    """A step with those inside it.

    Attributes:
        record: The step.
        inside: Those inside it, in the order in which they began.
    """

    record: CompletedStep
    inside: tuple[Branch, ...]

    def lines(self, depth: int = 0) -> Iterator[Line]:
        """Yield it and what is inside, from the top."""
        pending = [(depth, self)]
        while pending:
            level, branch = pending.pop()
            yield Line(level, branch.record)
            pending += [(level + 1, each) for each in reversed(branch.inside)]


@dataclass(frozen=True, slots=True)
class Fold:
    """Steps of one name in the same step; a single one stands for itself.

    Attributes:
        depth: Their place in the tree, from 0.
        branches: All of them.
    """

    depth: int
    branches: tuple[Branch, ...]

    @property
    def records(self) -> tuple[CompletedStep, ...]:
        """The steps themselves, without what is inside them."""
        return tuple(branch.record for branch in self.branches)

    @property
    def title(self) -> str:
        """Their name, and how many they are."""
        return f"{self.branches[0].record.name} ×{len(self.branches):,}"  # noqa: RUF001 - times, not x

    @property
    def usage(self) -> Usage:
        """What they have used together."""
        return sum((record.usage for record in self.records), Usage())

    @property
    def statuses(self) -> str:
        """How they ended."""
        counts = Counter(record.status for record in self.records)
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{count:,} {status}" for status, count in counts.most_common())

    @property
    def nearest(self) -> list[Share]:
        """Of each limit, the share of the step that came nearest to it."""
        nearest: dict[tuple[str, str | None], Share] = {}
        for share in (share for record in self.records for share in shares_of(record)):
            known = nearest.get((share.limit, share.budget))
            if known is None or (share.fraction or 0) > (known.fraction or 0):
                nearest[share.limit, share.budget] = share
        return list(nearest.values())


def branches_of(records: Iterable[CompletedStep]) -> tuple[Branch, ...]:
    """Return the trees that records form, in the order in which the steps began."""
    records = sorted(records, key=lambda record: record.started_at)
    known = {record.id for record in records}
    inside: dict[str | None, list[CompletedStep]] = {}
    for record in records:
        inside.setdefault(record.parent_id if record.parent_id in known else None, []).append(record)
    built: dict[str, Branch] = {}
    for record in _from_below(inside):
        built[record.id] = Branch(record, tuple(built[each.id] for each in inside.get(record.id, ())))
    return tuple(built[record.id] for record in inside.get(None, ()))


def _from_below(inside: dict[str | None, list[CompletedStep]]) -> list[CompletedStep]:
    """Return each step after all that are inside it; trees are as deep as programs recurse."""
    order: list[CompletedStep] = []
    pending = list(inside.get(None, ()))
    while pending:
        record = pending.pop()
        order.append(record)
        pending += inside.get(record.id, ())
    return order[::-1]


def folded(branches: Iterable[Branch]) -> Iterator[Line | Fold]:
    """Yield the rows of trees from the top; many of one name in the same step are one row."""
    pending = [Fold(0, (branch,)) for branch in reversed(list(branches))]
    while pending:
        group = pending.pop()
        if len(group.branches) >= FEWEST:
            yield group
            continue
        (branch,) = group.branches
        yield Line(group.depth, branch.record)
        pending += reversed(_grouped(branch.inside, group.depth + 1))


def _grouped(branches: tuple[Branch, ...], depth: int) -> list[Fold]:
    """Fold what there is many of; a fold stands where the first of its steps began."""
    by_name: dict[tuple[str, str], list[Branch]] = {}
    for branch in branches:
        by_name.setdefault((branch.record.name, branch.record.kind), []).append(branch)
    folds = {id(group[0]): group for group in by_name.values() if len(group) >= FEWEST}
    in_folds = {id(branch) for group in folds.values() for branch in group}
    return [
        Fold(depth, tuple(folds.get(id(branch), (branch,))))
        for branch in branches
        if id(branch) in folds or id(branch) not in in_folds
    ]
