"""The command line: a module for each command, their options, and live progress."""

from mtlbench.cli.app import main

__all__ = ["main"]
