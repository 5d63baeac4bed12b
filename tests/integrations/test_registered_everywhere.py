"""A package that is attached to is known wherever it has to be: what a new integration has to register."""

from __future__ import annotations

import pytest

from steptrack_callbacks import attachments, installation
from steptrack_callbacks.cli import self_test
from steptrack_callbacks.integrations import all_seams, versions
from steptrack_callbacks.values import user_warnings

ATTACHED_TO = tuple(installation._ATTACH)


def test_a_step_with_limits_knows_each_package_that_something_should_watch():
    assert set(attachments.PACKAGES) == set(ATTACHED_TO)


@pytest.mark.parametrize("package", ATTACHED_TO)
def test_a_package_that_is_attached_to_has_a_gate_where_its_calls_are_refused(package):
    assert any(seam.is_gate for seam in all_seams.SEAMS if seam.package == package)


@pytest.mark.parametrize("package", ATTACHED_TO)
def test_a_package_that_is_attached_to_says_which_versions_were_tested(package):
    assert versions.distribution_of(package) in versions.TESTED


@pytest.mark.parametrize("package", ATTACHED_TO)
def test_a_warning_never_names_a_line_of_a_package_that_is_attached_to(package):
    assert user_warnings._is_between(package)


@pytest.mark.parametrize("package", ATTACHED_TO)
def test_the_doctor_tries_calls_of_each_package_that_is_attached_to(package):
    assert package in {probe.package for probe in self_test.probes(None)}
