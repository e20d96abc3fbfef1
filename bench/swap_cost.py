#!/usr/bin/env python3
"""Measures what a swap costs: the wait from a request for a model that is not loaded to its first
token, against llama-server started by hand: python3 bench/swap_cost.py PROGRAM

PROGRAM is yoke; it needs `make engine model`. The goal is at most 1.05 times the start by hand; where
another model has to go first, of its stop and the start by hand. A missed goal is reported but is no
failure, because it also depends on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests/models"))
import architectures  # noqa: E402
import gguf_writer  # noqa: E402

GOAL = 1.05
LIMIT_S = 120
STOP_LIMIT_S = 30
POLL_S = 0.003
BUSY = 0.3  # Load per core from which the figures say little.
QUIET_S = 0.3
TOKENS = 4
STARTER_MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
# 1.1 thousand million weights, 1.2 GB.
LARGE = {"layers": 16, "embedding": 2048, "heads": 32, "kv_heads": 8, "head_length": 64,
         "feed_forward": 8192, "vocabulary": 32000, "context": 8192}


def fail(message: str) -> None:
    sys.exit(f"swap_cost: {message}")


# Requests

def first_token_at(port: int, model: str, number: int, key: str = "") -> float:
    """When the first token of a streamed answer came. The whole must come. Each prompt begins
    otherwise, so that what is kept of an earlier one is of no use, and is short: the loads count."""
    body = {"model": model, "stream": True, "temperature": 0, "max_tokens": TOKENS,
            "messages": [{"role": "system", "content": str(number)},
                         {"role": "user", "content": "Hi"}]}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    first = None
    payload = ""
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        for line in connection.getresponse():
            if not line.startswith(b"data: "):
                continue
            payload = line[6:].decode().strip()
            if first is None and any(choice["delta"].get("content")
                                     for choice in choices_of(payload)):
                first = time.monotonic()
    if payload != "[DONE]" or first is None:
        fail(f"the answer of {model} was cut: {payload}")
    return first


def choices_of(payload: str) -> list:
    return [] if payload == "[DONE]" else json.loads(payload).get("choices", [])


def is_healthy(port: int) -> bool:
    """With as little work as can be: it is asked while the engine loads, on the same cores."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as peer:
        peer.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return peer.recv(64).startswith(b"HTTP/1.1 200 ")
    return False


@dataclass
class Parts:
    """Of a wait, in seconds."""

    whole: float
    parts: dict[str, float] = field(default_factory=dict)


# By hand

@dataclass
class Engine:
    """A llama-server as Yoke starts it."""

    argv: list[str]
    environment: dict[str, str]
    directory: str

    @staticmethod
    def of(pid: int) -> Engine:
        process = Path(f"/proc/{pid}")
        argv = process.joinpath("cmdline").read_bytes().decode().split("\0")[:-1]
        entries = process.joinpath("environ").read_bytes().decode().split("\0")[:-1]
        environment = dict(entry.split("=", 1) for entry in entries)
        return Engine(argv, environment, os.readlink(process / "cwd"))

    def measure(self, model: str, number: int) -> Parts:
        """Started by hand, asked as soon as it says that it is ready, and stopped."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        argv = list(self.argv)
        argv[argv.index("--port") + 1] = str(port)
        begin = time.monotonic()
        process = subprocess.Popen(argv, cwd=self.directory, env=self.environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            while not is_healthy(port):
                if process.poll() is not None or time.monotonic() > begin + LIMIT_S:
                    fail(f"the engine does not start: {' '.join(argv)}")
                time.sleep(POLL_S)
            ready = time.monotonic()
            key = self.environment.get("LLAMA_API_KEY", "")
            first = first_token_at(port, model, number, key)
            stop = stop_s(process)
        finally:
            process.kill()
            process.wait()
        return Parts(first - begin, {"start to ready": ready - begin, "first token": first - ready,
                                     "its stop": stop})


def stop_s(process: subprocess.Popen[bytes]) -> float:
    """How long it takes to end when it is told to. Popen.wait() would look every 50 ms only."""
    descriptor = os.pidfd_open(process.pid)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    ended, _, _ = select.select([descriptor], [], [], STOP_LIMIT_S)
    os.close(descriptor)
    if not ended:
        fail("the engine does not stop")
    return time.monotonic() - begin


# With Yoke

class Yoke:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        deadline = time.monotonic() + LIMIT_S
        while not (listening := re.search(r"listens on http://\S+:(\d+)", self.text())):
            if time.monotonic() > deadline:
                fail("yoke does not listen")
            time.sleep(POLL_S)
        self.port = int(listening[1])

    def text(self) -> str:
        if self.process.poll() is not None:
            fail(f"yoke ended:\n{self.log.read_text()}")
        return self.log.read_text()

    def ask(self, method: str, path: str, body: object = None) -> dict:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body is not None else None)
            reply = connection.getresponse()
            answer = json.load(reply)
            if reply.status != 200:
                fail(f"{path}: {answer}")
            return answer

    def instances(self) -> dict[str, dict]:
        return {one["model"]: one for one in self.ask("GET", "/yoke/v1/instances")["instances"]}

    def settle(self, loaded: str | None) -> None:
        """Only that model is loaded, and it has nothing to do."""
        for name in self.instances():
            if name != loaded:
                self.ask("POST", "/yoke/v1/unload", {"model": name})
        if loaded is not None:
            first_token_at(self.port, loaded, 0)
        deadline = time.monotonic() + LIMIT_S
        while not all((one["state"] == "ready") == (name == loaded)
                      and one["state"] in ("ready", "planned", "stopped")
                      and one["active_requests"] == 0 for name, one in self.instances().items()):
            if time.monotonic() > deadline:
                fail(f"the models do not settle: {self.instances()}")
            time.sleep(POLL_S)
        time.sleep(QUIET_S)

    def measure(self, model: str, number: int) -> Parts:
        """A request for a model that is not loaded."""
        before = len(self.text())
        wall, begin = time.time(), time.monotonic()
        whole = first_token_at(self.port, model, number) - begin
        log = self.text()[before:]
        start = seconds_at(log, rf"Model {model}: starting ")
        ready = seconds_at(log, rf"Model {model}: ready after ")
        evicting = seconds_at(log, r"\(evicted")
        parts = {"before the start": start - wall % 86400, "start to ready": ready - start,
                 "first token": whole - (ready - wall % 86400)}
        if evicting is not None:
            parts["to the stop of the other"] = evicting - wall % 86400
            parts["the other's stop"] = start - evicting
        return Parts(whole, parts)


def seconds_at(log: str, event: str) -> float | None:
    """When the line with it was written, in seconds of its day (UTC)."""
    if found := re.search(rf"^\S+ (\d+):(\d+):([\d.]+) .*{event}", log, re.M):
        return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
    return None


@contextlib.contextmanager
def running(program: Path, file: Path, threads: int) -> Iterator[Yoke]:
    """With the same file as two models, in a memory for one of them."""
    with tempfile.TemporaryDirectory(prefix="yoke-bench-") as name:
        log = Path(name) / "log"
        environment = {**os.environ, "XDG_STATE_HOME": name, "XDG_CONFIG_HOME": name, "TZ": "UTC"}

        @contextlib.contextmanager
        def serve(memory: str) -> Iterator[Yoke]:
            config = Path(name) / "yoke.toml"
            tables = "".join(
                f'[models.{model}]\nmodel_path = "{file}"\nn_ctx = 2048\nbackends = ["cpu"]\n'
                f"threads = {threads}\npreload = false\n" for model in ("one", "two"))
            config.write_text(f'[server]\nlisten = "127.0.0.1:0"\n{memory}{tables}')
            with open(log, "wb") as out:
                process = subprocess.Popen([program, "serve", "--config", config], env=environment,
                                           stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            try:
                yield Yoke(process, log)
            finally:
                process.terminate()
                process.wait(STOP_LIMIT_S)

        with serve("") as yoke:
            needs = yoke.instances()["one"]["planned_bytes"]
        with serve(f'[memory]\nhost = "{needs * 3 // 2}"\n') as yoke:
            yield yoke


# The bench

BY_HAND, COLD, EVICTING = "by hand", "Yoke, cold", "Yoke, evicting another"


def rounds(yoke: Yoke, count: int, verbose: bool) -> dict[str, list[Parts]]:
    yoke.settle("one")
    engine = Engine.of(yoke.instances()["one"]["pid"])
    results: dict[str, list[Parts]] = {BY_HAND: [], COLD: [], EVICTING: []}

    def measure(kind: str, number: int) -> Parts:
        yoke.settle("two" if kind == EVICTING else None)
        return engine.measure("one", number) if kind == BY_HAND else yoke.measure("one", number)

    for number in range(count):
        kinds = list(results)
        for kind in kinds[number % 3:] + kinds[:number % 3]:  # None is always behind the same.
            result = measure(kind, 3 * number + kinds.index(kind) + 1)
            results[kind].append(result)
            if verbose:
                parts = ", ".join(f"{name} {1000 * s:.0f}" for name, s in result.parts.items())
                print(f"{number} {kind}: {1000 * result.whole:.0f} ({parts})", flush=True)
    return results


def report(title: str, results: dict[str, list[Parts]]) -> bool:
    def row(name: str, seconds: list[float], ratio: str = "") -> None:
        times = sorted(1000 * value for value in seconds)
        print(f"{name:<34} {times[0]:6.0f} {statistics.median(times):8.0f} {times[-1]:6.0f} {ratio}")

    print(f"\n{title}: {len(results[BY_HAND])} rounds, interleaved")
    print(f"{'ms':<34} {'least':>6} {'median':>8} {'most':>6}")
    wholes = {kind: [one.whole for one in found] for kind, found in results.items()}
    stopping = [one.whole + one.parts["its stop"] for one in results[BY_HAND]]
    own, own_stopping = statistics.median(wholes[BY_HAND]), statistics.median(stopping)
    for kind, found in results.items():
        row(kind, wholes[kind], f"{statistics.median(wholes[kind]) / own:8.3f}")
        for part in found[0].parts:
            row(f"  {part}", [one.parts[part] for one in found])
    row("by hand, after stopping another", stopping, f"{own_stopping / own:8.3f}")
    cold, evicting = (statistics.median(wholes[kind]) for kind in (COLD, EVICTING))
    print(f"Yoke, evicting another, against that: {evicting / own_stopping:.3f}")
    return cold <= GOAL * own and evicting <= GOAL * own_stopping


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("yoke", type=Path, help="the program")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1),
                        help="of the engine (%(default)s)")
    parser.add_argument("--models", choices=("both", "starter", "large"), default="both")
    parser.add_argument("--verbose", action="store_true", help="show each round")
    options = parser.parse_args()
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")

    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    print(f"{cores} cores, load {load:.1f} before the start, {options.threads} threads of the engine",
          flush=True)
    if load > BUSY * cores:
        print("The machine is busy: these figures will say little.", flush=True)
    met = True
    with tempfile.TemporaryDirectory(prefix="yoke-bench-") as directory:
        files = {}
        if options.models != "large":
            files["the starter model"] = data / "yoke/models" / STARTER_MODEL
        if options.models != "starter":
            files["a model of 1.2 GB"] = Path(directory) / "large.gguf"
            gguf_writer.write(files["a model of 1.2 GB"],
                              *architectures.llama(LARGE, lambda name, layer: "Q8_0"))
        for title, file in files.items():
            with running(options.yoke.resolve(), file, options.threads) as yoke:
                met = report(title, rounds(yoke, options.rounds, options.verbose)) and met
    print(f"\nGoal of {GOAL} times the same by hand, at the median: {'met' if met else 'MISSED'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
