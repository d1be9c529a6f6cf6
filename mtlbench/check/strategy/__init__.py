"""Properties of a strategy, and the steps and trainings on which they are tried."""
