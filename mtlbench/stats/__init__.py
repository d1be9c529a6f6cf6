"""Data frames, estimates, tests and verdicts computed from stored runs; nothing here draws."""

from mtlbench.stats.estimates import compare, detectable, holm, mean_over_seeds, sign_flip_p, smallest_p, verdict

__all__ = ["compare", "detectable", "holm", "mean_over_seeds", "sign_flip_p", "smallest_p", "verdict"]
