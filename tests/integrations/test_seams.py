"""Seams as data: each names a place of another package, and says whether it is as it was known."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from steptrack_callbacks.integrations import all_seams
from steptrack_callbacks.integrations.seams import (
    Seam,
    all_of,
    equals,
    has,
    is_a,
    mentions,
    stands_in,
    takes,
)


def one(model: str, messages: list[str]) -> str:
    return model + messages[0]


class Thing:
    known = "one"

    def __init__(self) -> None:
        self.set_by_code = 1


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType("house")
    module.one, module.Thing, module.items = one, Thing, []
    monkeypatch.setitem(sys.modules, "house", module)
    return module


def seam(place: str, shape: Any = None, **more: Any) -> Seam:
    return Seam(package="house", place=place, shape=shape, purpose="is looked at", lost="it is lost", **more)


def test_what_is_there_is_returned(module: Any) -> None:
    assert seam("house:one").get() is one
    assert seam("house:Thing.known").get() == "one"
    assert seam("house").get() is module


@pytest.mark.parametrize("place", ["house:two", "house:Thing.two", "house.inner", "house.inner:one"])
def test_what_is_not_there_is_missing(module: Any, place: str) -> None:
    found = seam(place).look(load=True)
    assert (found.state, found.value, found.is_lost) == ("missing", None, True)
    assert place.partition(":")[0] in found.detail


def test_a_module_that_nobody_has_imported_is_looked_at_only_if_it_shall_be_loaded() -> None:
    place = seam("this.is.not.there:one")
    assert place.look().state == "not imported"
    assert not place.look().is_lost


@pytest.mark.parametrize(
    ("value", "shape", "wrong"),
    [
        (one, takes("model", "messages"), None),
        (lambda **_: 1, takes("model"), None),
        (one, takes("model", "text"), "does not take text"),
        (5, takes("model"), "cannot be called"),
        (Thing, has("known", "set_by_code"), None),
        (Thing, has("unknown"), "has no unknown"),
        (one, mentions("model"), None),
        (one, mentions("prompt"), "says nothing of prompt"),
        ([], is_a(list), None),
        ((), is_a(list), "is no list"),
        (KeyError, is_a(Exception), None),
        (Thing, is_a(Exception), "is no Exception"),
        ("a", equals("a"), None),
        ("b", equals("a"), "is 'b', and was 'a'"),
        (one, stands_in("/tests/"), None),
        (one, stands_in("/elsewhere/"), "stands elsewhere than in elsewhere"),
        (one, all_of(takes("model"), mentions("messages")), None),
        (one, all_of(takes("model"), mentions("prompt")), "says nothing of prompt"),
    ],
)
def test_a_shape_says_what_is_wrong(value: Any, shape: Any, wrong: str | None) -> None:
    assert shape(value) == wrong


class Unreadable:
    def __getattr__(self, name: str) -> Any:
        raise OSError("not today")


def test_a_place_that_cannot_be_looked_at_is_lost_and_raises_nothing(module: Any) -> None:
    module.odd, module.builtin = Unreadable(), type
    assert seam("house:odd.one").look().state == "missing"
    assert seam("house:odd", has("one")).look().state == "changed"
    assert seam("house:builtin", takes("one")).look().is_lost


class Growing:
    """A class that has one name more each time that something of it is looked at, as lazy ones have."""

    class Descriptor:
        def __getattr__(self, name: str) -> Any:
            if name in ("__func__", "fget"):
                setattr(Growing, f"more_{len(vars(Growing))}", None)
            raise AttributeError(name)

    first, second = Descriptor(), Descriptor()

    def known(self) -> None:
        self.one = 1


@pytest.mark.parametrize("shape", [has("one"), mentions("one")])
def test_a_class_that_grows_while_it_is_looked_at_is_found(module: Any, shape: Any) -> None:
    module.Growing = Growing
    before = len(vars(Growing))
    found = seam("house:Growing", shape).look()
    assert len(vars(Growing)) > before
    assert not found.is_lost, found.detail


KNOWN = [pytest.param(each, id=each.place) for each in all_seams.SEAMS]


@pytest.mark.parametrize("known", KNOWN)
def test_each_seam_says_what_it_is_for_and_what_is_lost_without_it(known: Seam) -> None:
    assert known.place.partition(":")[0].partition(".")[0] == known.package
    assert known.purpose and known.lost and not known.lost.endswith(".")
    cure = all_seams.Loss(known, known.look()).cure
    assert "{package}" not in cure
    assert "{tested}" not in cure


@pytest.mark.filterwarnings("ignore")  # of packages at their import
@pytest.mark.parametrize("known", KNOWN)
def test_each_seam_is_found_in_what_is_installed(known: Seam) -> None:
    found = known.look(load=True)
    assert not found.is_lost, found.detail


def test_no_place_is_listed_twice() -> None:
    places = [each.place for each in all_seams.SEAMS]
    assert len(places) == len(set(places))
