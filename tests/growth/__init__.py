"""How time and memory of a training step grow: measured, drawn and written into `docs` by `python -m tests.growth`."""

import os

# Torch's profiler says on the terminal when it starts and stops; it reads this as torch is imported.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
