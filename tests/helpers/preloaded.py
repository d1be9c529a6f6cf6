"""Adds the tiny setup to the built-in ones; imported in every process that trains in tests."""

from __future__ import annotations

from mtlbench.bench import jobs
from mtlbench.setups import SETUPS
from tests.helpers.toy import TINY

SETUPS[TINY.name] = TINY
jobs.PRELOAD.append(__name__)
