"""One trained network: train it, save it, load it, and predict with it."""
