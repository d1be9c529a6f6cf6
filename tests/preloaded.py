"""Imported in every process that trains in tests, the workers' too: the tiny setup is known there."""

from __future__ import annotations

from mtlbench import execution, setups
from tests.toy import TINY

setups.SETUPS[TINY.name] = TINY
execution.PRELOAD.append(__name__)
