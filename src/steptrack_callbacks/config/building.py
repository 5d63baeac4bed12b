"""From tables of the right shape to values, with all that they must have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from steptrack_callbacks import pricing
from steptrack_callbacks.ledgers import open_ledger
from steptrack_callbacks.values.budgets import BudgetDefinition
from steptrack_callbacks.values.definitions import PersonaDefinition, Stage, StepDefinition
from steptrack_callbacks.values.errors import LedgerError

from .problems import Path, Problem, dotted, meant, shown
from .values import Config, LedgerOptions, ProxyOptions

T = TypeVar("T")
Tables = Mapping[str, Any]

_WHERE = re.compile(r"(?:step|persona|stage|budget) '(?:[^'\\]|\\.)*': |prices\[.*?\](?:\[.*?\])?(?: |: )")


class Building:
    """One file being turned into values.

    Args:
        tables: The file; parts of it that are not of the right shape are named in `bad`.
        bad: Keys that something is already known to be wrong with.

    Attributes:
        problems: What is wrong with the values, found so far.
    """

    def __init__(self, tables: Tables, bad: frozenset[Path]) -> None:
        self.problems: list[Problem] = []
        self._tables = tables
        self._bad = bad

    def config(self, source: str) -> Config:
        """Return all that the file says; what is in `problems` is missing in it."""
        budgets = dict(self._each("budgets", self._budget))
        step_budgets = dict(self._names("steps"))
        persona_budgets = dict(self._names("personas"))
        proxy = self._proxy()
        self._match_stages()
        config = Config(
            source=source,
            budgets=budgets,
            scopes={name: self._table("budgets", name).get("scope", "all") for name in budgets},
            steps=dict(self._each("steps", lambda path, table: self._step(path, table, budgets))),
            personas=dict(self._each("personas", lambda path, table: self._persona(path, table, budgets))),
            step_budgets=step_budgets,
            persona_budgets=persona_budgets,
            prices=dict(self._each("prices", self._price)),
            tools=self._whole("tools"),
            ledger=self._ledger(),
            proxy=proxy,
        )
        used = [*step_budgets.values(), *persona_budgets.values(), proxy.budgets if proxy else ()]
        warnings = tuple(_warnings(config, {name for names in used for name in names}))
        return replace(config, warnings=warnings)

    def _each(self, kind: str, build: Callable[[Path, dict[str, Any]], T]) -> Iterator[tuple[str, T]]:
        for name in self._whole(kind):
            path = (kind, name)
            if self._is_good(path):
                try:
                    yield name, build(path, dict(self._table(kind, name)))
                except (ValueError, TypeError) as error:
                    self._object(path, error)

    def _whole(self, kind: str) -> dict[str, Any]:
        table = self._tables.get(kind, {})
        return table if isinstance(table, dict) else {}

    def _table(self, kind: str, name: str) -> dict[str, Any]:
        table = self._whole(kind).get(name, {})
        return table if isinstance(table, dict) else {}

    def _is_good(self, path: Path) -> bool:
        return not any(bad[: len(path)] == path for bad in self._bad)

    def _object(self, path: Path, error: Exception) -> None:
        """Say what a value of the package has refused, without what the key says already."""
        why = _WHERE.sub("", str(error))
        key = next((key for key in self._table(*path) if re.match(rf"{re.escape(key)}\b", why)), None)
        if key is not None:
            path, why = (*path, key), why.removeprefix(f"{key} ")
        self.problems.append(Problem(path=path, why=why))

    def _budget(self, path: Path, table: dict[str, Any]) -> BudgetDefinition:
        table.pop("scope", None)
        return BudgetDefinition.from_dict({**table, "name": path[1]})

    def _step(
        self, path: Path, table: dict[str, Any], budgets: Mapping[str, BudgetDefinition]
    ) -> StepDefinition:
        return StepDefinition(name=path[1], **self._with_budgets(table, budgets))

    def _persona(
        self, path: Path, table: dict[str, Any], budgets: Mapping[str, BudgetDefinition]
    ) -> PersonaDefinition:
        stages = table.pop("stages", {})
        declared = tuple(Stage(name, **options) for name, options in stages.items())
        return PersonaDefinition(name=path[1], stages=declared, **self._with_budgets(table, budgets))

    def _match_stages(self) -> None:
        """Object to stages that would never apply."""
        known = self._whole("steps")
        for persona in self._whole("personas"):
            stages = self._table("personas", persona).get("stages", {})
            for name in stages if isinstance(stages, dict) else ():
                if name not in known:
                    path = ("personas", persona, "stages", name)
                    fix = f"declare it as [{dotted(('steps', name))}], which may be empty"
                    self._miss(path, "step", name, known, fix)

    def _miss(self, path: Path, kind: str, name: object, known: Tables, fix: str) -> None:
        hint = meant(name, known).rstrip("?")
        why = f"there is no {kind} {shown(name)} in this file{hint}{'? If not, ' if hint else '; '}{fix}"
        self.problems.append(Problem(path=path, why=why))

    @staticmethod
    def _with_budgets(table: dict[str, Any], budgets: Mapping[str, BudgetDefinition]) -> dict[str, Any]:
        names = table.get("budgets", ())
        return {**table, "budgets": tuple(budgets[name] for name in names if name in budgets)}

    def _price(self, path: Path, table: dict[str, Any]) -> dict[str, Any]:
        pricing.price_of(path[1], table)
        return table

    def _names(self, kind: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the names of the budgets that hang on each table of a kind."""
        for name in self._whole(kind):
            table = self._table(kind, name)
            if "budgets" in table and self._is_good((kind, name, "budgets")):
                yield name, self._known_budgets((kind, name, "budgets"), table["budgets"])

    def _known_budgets(self, path: Path, names: list[str]) -> tuple[str, ...]:
        known = self._whole("budgets")
        for name in names:
            if name not in known:
                self._miss(path, "budget", name, known, f"declare it as [{dotted(('budgets', name))}]")
        return tuple(names)

    def _ledger(self) -> LedgerOptions:
        if not self._is_good(("ledger",)):
            return LedgerOptions()
        options = LedgerOptions(**self._whole("ledger"))
        if options.url is not None and (why := _wrong_with_url(options.url)):
            self.problems.append(Problem(path=("ledger", "url"), why=why))
        return options

    def _proxy(self) -> ProxyOptions | None:
        if "proxy" not in self._tables or not self._is_good(("proxy",)):
            return None
        table = self._whole("proxy")
        names = self._known_budgets(("proxy", "budgets"), table.get("budgets", []))
        return ProxyOptions(**{**table, "budgets": names})


def _wrong_with_url(url: str) -> str | None:
    try:
        open_ledger(url).close_connections()
    except ValueError as error:
        return str(error)
    except LedgerError:  # its driver is not installed here, which says nothing about the file
        return None
    return None


def _warnings(config: Config, used: set[str]) -> Iterator[Problem]:
    for name in config.budgets:
        path = ("budgets", name)
        if name not in used:
            yield Problem(
                path=path,
                why="no step, no persona and not the proxy is charged to it: name it in a budgets = [...]",
            )
        if config.scopes[name] == "key" and config.proxy is None:
            why = 'scope = "key" has a meaning on the proxy only, and there is no [proxy] table: elsewhere it'
            yield Problem(path=(*path, "scope"), why=f"{why} is one account for all")
    charged_always = config.proxy.budgets if config.proxy else ()
    if config.proxy is not None and not any(config.scopes.get(name) == "key" for name in charged_always):
        yield Problem(
            path=("proxy",),
            why='no budget with scope = "key" is used for all requests, so one key can spend what is meant'
            ' for all; give a [budgets.NAME] scope = "key" and name it in proxy.budgets',
        )
