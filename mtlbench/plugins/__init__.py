"""Finds strategies and setups, looks them up by name, and describes them."""
