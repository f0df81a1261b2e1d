"""Whether the machine is quiet enough for times to mean something."""

from __future__ import annotations

import os

import psutil


def busy(slack: float = 0.5) -> str | None:
    """None on a quiet machine, else one sentence: more processes want to run than there are cores.

    Arguments:
        slack: how far the one-minute load average may be above the number of cores.
    """
    cores = os.cpu_count() or 1
    load = psutil.getloadavg()[0]
    if load > cores + slack:
        return f"the load is {load:.1f} on {cores} cores; times measured now do not count."
    return None
