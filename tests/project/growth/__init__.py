"""How time and memory of a training step grow; `python -m tests.project.growth` measures, draws and writes the page."""

import os

# Torch's profiler says on the terminal when it starts and stops; it reads this as torch is imported.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
