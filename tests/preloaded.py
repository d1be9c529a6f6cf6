"""Imported in every process that trains in tests, the workers' too: the tiny setup is known there."""

from __future__ import annotations

from mtlbench import execution, setups
from mtlbench.declaration import register_setup
from tests.toy import TINY

# As one of the family of setups, which a process knows without a file.
exec("register_setup(TINY)", {"__name__": setups.__name__, "register_setup": register_setup, "TINY": TINY})
setups.SETUPS[TINY.name] = TINY
execution.PRELOAD.append(__name__)
