"""Objectives for other processes, in a module that is quick to import."""

import os
import signal
import time
from pathlib import Path

from bayesopt_perm.problems import random_flow_shop

PROBLEM = random_flow_shop(9, 3, seed=1)


class DiesOnce:
    """Kills its process the first time that an order begins with item 3; ``folder`` remembers."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, order):
        mark = Path(self.folder) / "died"
        if order[0] == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return PROBLEM(order)


class DiesAlways:
    """Kills its process whenever an order begins with item 3."""

    def __call__(self, order):
        if order[0] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return PROBLEM(order)


def hangs(order):
    """Never comes back for an order that begins with item 0."""
    while order[0] == 0:
        time.sleep(1.0)
    return PROBLEM(order)
