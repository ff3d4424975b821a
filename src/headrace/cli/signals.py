"""The signals that stop a run."""

from __future__ import annotations

import signal

SIGNALS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
    signal.SIGXCPU: "out of time",
    signal.SIGUSR1: "told to stop",
    signal.SIGUSR2: "told to stop",
}
"""What each says. The last three are what batch systems send before they end a job (SLURM, LSF, Grid Engine)."""

ALWAYS = (signal.SIGINT, signal.SIGTERM)


def heard() -> list[signal.Signals]:
    """Return those that stop a run: nohup and others let the rest be ignored, and so they stay."""
    return [number for number in SIGNALS if number in ALWAYS or signal.getsignal(number) != signal.SIG_IGN]
