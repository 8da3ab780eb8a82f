"""One thread a process: the suite runs in several, and sums must not depend on how a kernel is split."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
