"""Proves that a strategy or a setup keeps its contract, property by property, on made-up steps and in short trainings.

`subjects` reads what to check, `check` tries every property, and `failures` is empty if all of them hold; likewise
`setup_subjects`, `check_setup` and `setup_failures`. `given_step` and `weigh` are for tests of a strategy's own
formulas.
"""

from mtlbench.check.checks import check, check_setup, failures, setup_failures
from mtlbench.check.outcomes import show
from mtlbench.check.strategy.steps import given_step, weigh
from mtlbench.check.subjects import SetupSubject, Subject, setup_subjects, subjects

__all__ = [
    "SetupSubject",
    "Subject",
    "check",
    "check_setup",
    "failures",
    "given_step",
    "setup_failures",
    "setup_subjects",
    "show",
    "subjects",
    "weigh",
]
