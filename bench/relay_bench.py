#!/usr/bin/env python3
"""Measures what Yoke adds to each chunk of a streamed answer, compared with its engine directly.

Starts `yoke serve` with the fake engine, then reads streams from both in turn. See README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MODEL = "fake"
# What Yoke looks at before it starts an engine: magic, version 3, no tensors, no keys.
GGUF_HEADER = b"GGUF\x03\0\0\0" + bytes(16)
START_LIMIT_S = 30
STOP_LIMIT_S = 30
GOAL_US = 100
WARM_UP_ROUNDS = 10
WARM_UP_TOKENS = 5
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
BUSY = 0.5  # Load per core from which the figures say little.


def percentile(ordered: array[int], share: float) -> float:
    """In microseconds."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000


@dataclass
class Samples:
    """The rounds of one path with one number of streams."""

    latencies_ns: array[int] = field(default_factory=lambda: array("q"))
    lost: int = 0
    broken_streams: int = 0

    def add(self, output: str) -> None:
        head, *latencies = output.splitlines()
        facts = json.loads(head)
        self.lost += facts["lost"]
        self.broken_streams += facts["broken_streams"]
        self.latencies_ns.extend(int(line) for line in latencies)

    def percentiles(self) -> list[float]:
        ordered = array("q", sorted(self.latencies_ns))
        return [percentile(ordered, share) for share in (0.5, 0.9, 0.99)]


@dataclass
class Server:
    """A running `yoke serve` with one fake engine."""

    pid: int
    port: int
    engine_port: int

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def until(condition, what: str):
    deadline = time.monotonic() + START_LIMIT_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"relay_bench: after {START_LIMIT_S} s still not: {what}")
        time.sleep(0.02)
    return value


@contextlib.contextmanager
def running_yoke(yoke: Path, engine: Path, streams: int) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="yoke-bench-") as name:
        directory = Path(name)
        model = directory / "fake.gguf"
        model.write_bytes(GGUF_HEADER)
        model.with_name("fake.gguf.fake").write_text(f"slots={streams}")
        config = directory / "yoke.toml"
        config.write_text(
            '[server]\nlisten = "127.0.0.1:0"\n'
            f"[engines]\nllama_server = {json.dumps(str(engine))}\n"
            f"[models.{MODEL}]\nmodel_path = {json.dumps(str(model))}\n"
        )
        log = directory / "log"
        environment = {**os.environ, "XDG_STATE_HOME": name, "XDG_CONFIG_HOME": name}
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [yoke, "serve", "--config", config],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
            )
        try:
            yield wait_until_ready(process, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> Server:
    def port() -> re.Match[str] | None:
        text = log.read_text()
        if process.poll() is not None:
            sys.exit(f"relay_bench: yoke ended with {process.returncode}:\n{text}")
        return re.search(r"listens on http://\S+:(\d+)", text)

    yoke_port = int(until(port, "Yoke listens")[1])

    def instance() -> dict | None:
        url = f"http://127.0.0.1:{yoke_port}/yoke/v1/instances"
        with urllib.request.urlopen(url, timeout=START_LIMIT_S) as reply:
            found = json.load(reply)["instances"][0]
        return found if found["state"] == "ready" else None

    return Server(process.pid, yoke_port, until(instance, "the model is ready")["port"])


class Bench:
    def __init__(self, reader: Path, server: Server, options: argparse.Namespace) -> None:
        self.reader = reader
        self.server = server
        self.options = options
        self.tokens = max(2, round(options.seconds * options.rate))

    def warm_up(self, streams: int) -> None:
        """Not counted. After it, Yoke's heap is as large as so many streams need it."""
        for _ in range(WARM_UP_ROUNDS):
            for port in (self.server.engine_port, self.server.port):
                self.round(port, streams, WARM_UP_TOKENS)

    def round(self, port: int, streams: int, tokens: int) -> str:
        arguments = [port, MODEL, streams, tokens, self.options.rate]
        run = subprocess.run(
            [self.reader, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=self.options.seconds + 60,
        )
        return run.stdout

    def compare(self, streams: int) -> tuple[Samples, Samples, float]:
        """The engine's samples, Yoke's, and the seconds of CPU that Yoke used."""
        direct, relayed, cpu_s = Samples(), Samples(), 0.0

        def direct_round() -> None:
            direct.add(self.round(self.server.engine_port, streams, self.tokens))

        def relayed_round() -> None:
            nonlocal cpu_s
            before = self.server.cpu_s()
            relayed.add(self.round(self.server.port, streams, self.tokens))
            cpu_s += self.server.cpu_s() - before

        for turn in range(self.options.rounds):
            pair = [direct_round, relayed_round]
            for measure in pair if turn % 2 == 0 else reversed(pair):
                measure()
        return direct, relayed, cpu_s


def report(streams: int, direct: Samples, relayed: Samples, cpu_s: float) -> float:
    """Prints the rows of one number of streams; returns what Yoke adds at the median."""
    both = direct.percentiles(), relayed.percentiles()
    added = [through - without for without, through in zip(*both, strict=True)]
    rows = (
        ("engine", both[0], direct),
        ("yoke", both[1], relayed),
    )
    for name, figures, samples in rows:
        columns = "".join(f"{figure:9.0f}" for figure in figures)
        print(
            f"{streams:8} {name:8}{columns}{len(samples.latencies_ns):10}{samples.lost:7}"
            f"{samples.broken_streams:8}"
        )
    columns = "".join(f"{figure:9.0f}" for figure in added)
    per_chunk_us = 1e6 * cpu_s / max(1, len(relayed.latencies_ns))
    print(f"{streams:8} {'added':8}{columns}   ({per_chunk_us:.0f} us of CPU per chunk)", flush=True)
    return added[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path, help="the build directory with the programs")
    parser.add_argument("--streams", default="1,16,64,256", help="at once (%(default)s)")
    parser.add_argument("--rate", type=int, default=20, help="tokens/s per stream (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="of each round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each path (%(default)s)")
    options = parser.parse_args()
    counts = [int(count) for count in options.streams.split(",")]
    build = options.build.resolve()

    cores = os.cpu_count() or 1
    load = os.getloadavg()[0]
    print(f"{cores} cores, load {load:.1f} before the start", flush=True)
    if load > BUSY * cores:
        print("The machine is busy: these figures will say little.", flush=True)

    with running_yoke(build / "yoke", build / "fake_engine", max(counts)) as server:
        bench = Bench(build / "relay_bench", server, options)
        bench.warm_up(max(counts))
        before_kib = server.rss_kib()
        print(f"{'streams':>8} {'path':8}   p50 us   p90 us   p99 us    chunks   lost  broken")
        added_us = 0.0
        intact = True
        for streams in counts:
            direct, relayed, cpu_s = bench.compare(streams)
            added_us = report(streams, direct, relayed, cpu_s)
            intact = intact and relayed.lost == 0 and relayed.broken_streams == 0
        print(f"Yoke's memory (RSS): {before_kib} KiB before, {server.rss_kib()} KiB after")

    verdict = "reached" if added_us < GOAL_US else "missed"
    print(f"Goal {verdict}: {added_us:.0f} us added at the median, less than {GOAL_US} wanted")
    if not intact:
        print("Chunks were lost or changed on the way through Yoke.")
    return 0 if intact else 1


if __name__ == "__main__":
    sys.exit(main())
