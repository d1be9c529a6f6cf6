"""Proves that a strategy keeps its contract."""
