"""Whether a strategy keeps the contract: each property on made-up steps and in small trainings, before any bench.

`subjects` reads what is to be checked, `check` tries every property of it, `failures` is empty if all hold.
`given_step` and `weigh` are for tests of what is special to a strategy.
"""

from mtlbench.check.checks import check, failures, show
from mtlbench.check.steps import given_step, weigh
from mtlbench.check.subject import Subject, subjects

__all__ = ["Subject", "check", "failures", "given_step", "show", "subjects", "weigh"]
