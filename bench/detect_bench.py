#!/usr/bin/env python3
"""Measures how long `yoke detect` takes: python3 bench/detect_bench.py build/bench/yoke

The goal without a GPU is 300 ms with the memory's bandwidth measured. A missed goal is reported but
is no failure, because it also depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

GOAL_MS = 300
LIMIT_S = 30


def run(program: str, *options: str) -> str:
    done = subprocess.run([program, "detect", "--json", *options], check=True, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=LIMIT_S)
    return done.stdout


def measure(program: str, rounds: int, *options: str) -> list[float]:
    """Milliseconds, sorted."""
    times = []
    for _ in range(rounds):
        begin = time.monotonic()
        run(program, *options)
        times.append((time.monotonic() - begin) * 1000)
    return sorted(times)


def report(name: str, times: list[float]) -> None:
    print(f"{name:<20} {times[0]:6.0f} {statistics.median(times):8.0f} {times[-1]:6.0f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("yoke", help="the program")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()

    machine = json.loads(run(options.yoke))  # The first run reads everything from the disk.
    gpus = [device for device in machine["devices"] if not device["software"]]
    print(f"{machine['host']['cpu']['name']}, {len(gpus)} GPUs, {options.rounds} runs each\n")
    print(f"{'ms':<20} {'least':>6} {'median':>8} {'most':>6}")
    complete = measure(options.yoke, options.rounds)
    report("yoke detect", complete)
    report("  --no-bandwidth", measure(options.yoke, options.rounds, "--no-bandwidth"))
    print("\nDetectors (ms):")
    for detector in machine["detectors"]:
        print(f"  {detector['source']:<8} {detector['outcome']:<14} {detector['took_ms']:>5}")
    if not gpus:
        verdict = "met" if statistics.median(complete) < GOAL_MS else "MISSED"
        print(f"\nGoal of {GOAL_MS} ms without a GPU: {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
