"""Whether a strategy or a setup keeps its contract: each property on made-up steps and in small trainings.

`subjects` reads what is to be checked, `check` tries every property of it, `failures` is empty if all hold; likewise
`setup_subjects`, `check_setup` and `setup_failures`. `given_step` and `weigh` are for tests of what is special to a
strategy.
"""

from mtlbench.check.outcomes import show
from mtlbench.check.setup.checks import check_setup, setup_failures
from mtlbench.check.setup.subject import SetupSubject, setup_subjects
from mtlbench.check.strategy.checks import check, failures
from mtlbench.check.strategy.steps import given_step, weigh
from mtlbench.check.strategy.subject import Subject, subjects

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
