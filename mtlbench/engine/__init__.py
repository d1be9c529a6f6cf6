"""Trains K replicas of a network as one stack, and measures the speed of a step."""
