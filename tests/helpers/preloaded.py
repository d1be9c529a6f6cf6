"""Registers the tiny setup; imported in every process that trains in tests, worker processes included."""

from __future__ import annotations

from mtlbench.bench import jobs
from mtlbench.contracts.registration import register_setup
from mtlbench.setups import mnist
from tests.helpers.toy import TINY

# Registered as if by the module of the MNIST family, whose setups a process knows without a file.
exec("register_setup(TINY)", {"__name__": mnist.__name__, "register_setup": register_setup, "TINY": TINY})
mnist.SETUPS[TINY.name] = TINY
jobs.PRELOAD.append(__name__)
