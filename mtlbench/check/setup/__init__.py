"""Proves that a setup is what it declares."""
