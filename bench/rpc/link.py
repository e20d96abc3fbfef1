"""A link of a given rate: the loopback of a network namespace that the bench is started anew in.
Both directions and all workers share it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from workers import fail

INSIDE = "YOKE_BENCH_LINK"


def enter_namespace() -> None:
    """Starts the bench anew in one of its own, unless that was done."""
    if INSIDE in os.environ:
        return
    unshare = shutil.which("unshare")
    if unshare is None:
        fail("a limited link needs unshare (util-linux)")
        return
    os.environ[INSIDE] = "1"
    os.execv(unshare, [unshare, "--net", sys.executable, *sys.argv])


def limit_link(mbit: int) -> None:
    for command in ("ip link set lo up",
                    f"tc qdisc add dev lo root tbf rate {mbit}mbit burst 256kb latency 50ms"):
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            fail(f"{command}: {done.stderr.strip()}. It needs root and iproute2.")
