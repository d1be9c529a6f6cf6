"""Which seeds are for what. Kept apart from everything that loads torch, since the command line needs it."""

FIRST_TUNING_SEED = 2**62
"""From here on, seeds are for tuning: no bench takes them, so that no setting is judged by seeds it was chosen on."""
