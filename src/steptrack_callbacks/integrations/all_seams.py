"""All seams that are known, and those of imported packages that are lost, with the words for it."""

from __future__ import annotations

from typing import NamedTuple

from . import seams_langchain, seams_litellm, seams_others, versions
from .seams import Finding, Seam

SEAMS: tuple[Seam, ...] = (
    *seams_litellm.SEAMS,
    *seams_litellm.PROXY,
    *seams_langchain.SEAMS,
    *seams_others.SEAMS,
)
"""All that are known."""

PACKAGES = tuple(dict.fromkeys(seam.package for seam in SEAMS))
"""Those that they are in."""


class Loss(NamedTuple):
    """A seam that cannot be used.

    Attributes:
        seam: The seam.
        finding: What was found there.
    """

    seam: Seam
    finding: Finding

    @property
    def cure(self) -> str:
        """What to do about it."""
        package = self.seam.package
        return self.seam.cure.format(package=package, tested=versions.tested(package))

    def __str__(self) -> str:
        return f"{self.finding.detail}: {self.seam.lost}; {self.cure}"


def losses_of(package: str, seams: tuple[Seam, ...] = SEAMS, *, load: bool = False) -> list[Loss]:
    """Return what cannot be used of a package.

    Args:
        package: Its top-level module.
        seams: Which to look at.
        load: Whether to import modules of it that nobody has imported.
    """
    looked_at = ((seam, seam.look(load=load)) for seam in seams if seam.package == package)
    return [Loss(seam, finding) for seam, finding in looked_at if finding.is_lost]


def is_gateless(package: str) -> bool:
    """Tell whether no call of a package could be refused: it has gates, and all of them are lost."""
    gates = [seam for seam in SEAMS if seam.package == package and seam.is_gate]
    return bool(gates) and all(gate.look().is_lost for gate in gates)
