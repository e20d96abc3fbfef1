"""Loading a model through N workers with caches, over a link of a given rate: cold, and warm when
the workers have the weights. Runs in a network namespace of its own, whose loopback is the link."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import models
from ideal import split_evenly
from link import enter_namespace, limit_link
from throughput import table
from workers import (
    PIPELINED,
    STOP_LIMIT_S,
    Worker,
    check_client,
    client_environment,
    clients_of,
    engine_directory,
    fail,
    free_port,
    say_load,
    tensor_split,
    workers,
)

OF_LINK = 0.90
LOAD_LIMIT_S = 300
HEAD, TAIL = 0.02, 0.98  # Of the bytes, between which the rate of an upload is taken.
POLL_S = 0.005
RAW_BYTES = 300_000_000
COLD, WARM = "cold", "warm"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mbit", type=int, default=1000, help="of the link, Mbit/s (%(default)s)")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 14],
                        help="of the models: 85 MB each, and 28 MB (%(default)s)")
    parser.add_argument("--load-mode", default="auto", help="of llama-server (%(default)s)")
    parser.add_argument("--keep-pages", action="store_true",
                        help="leave the model's file in the page cache before a load")
    parser.add_argument("--stock-only", action="store_true")
    parser.add_argument("--engine", type=Path, help="its directory")
    parser.add_argument("--verbose", action="store_true", help="show each load")


# The link

def sent_bytes() -> int:
    """Over the link since it is up. Nearly all go to the workers; acknowledgements count too."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[8])
    fail("no loopback")
    return 0


def raw_rate() -> float:
    """Of the link, bytes/s, with one plain connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    begin = time.monotonic()

    def send() -> None:
        with client:
            client.sendall(bytes(RAW_BYTES))

    sender = threading.Thread(target=send)
    sender.start()
    with peer:
        while peer.recv(1 << 20):
            pass
    sender.join()
    return RAW_BYTES / (time.monotonic() - begin)


class LinkLog:
    """When how many bytes had been sent."""

    def __init__(self) -> None:
        self.points: list[tuple[float, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> LinkLog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            self.points.append((time.monotonic(), sent_bytes()))

    def bytes(self) -> int:
        return self.points[-1][1] - self.points[0][1]

    def rate(self) -> float:
        """While the upload ran, bytes/s."""
        first, whole = self.points[0][1], self.bytes()
        begin, early = next(one for one in self.points if one[1] - first >= HEAD * whole)
        end, late = next(one for one in self.points if one[1] - first >= TAIL * whole)
        return (late - early) / (end - begin) if end > begin else 0


# A load

@dataclass
class Load:
    seconds: float  # From the start of llama-server to its first 200 of /health.
    sent: int
    rate: float
    controller_cpu_s: float
    workers_cpu_s: float
    read_from_disk: int
    read_by_calls: int
    mapped: int  # Bytes of files in its memory, at most.


@dataclass
class Seen:
    """Of a process."""

    cpu_s: float = 0
    disk: int = 0
    calls: int = 0
    mapped: int = 0

    def look(self, pid: int) -> None:
        with contextlib.suppress(OSError, IndexError):
            process = Path(f"/proc/{pid}")
            # Of threads that have ended too.
            times = process.joinpath("stat").read_text().rpartition(")")[2].split()[11:13]
            self.cpu_s = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
            io = dict(line.split(": ") for line in
                      process.joinpath("io").read_text().splitlines())
            self.disk, self.calls = int(io["read_bytes"]), int(io["rchar"])
            status = process.joinpath("status").read_text()
            mapped = next(line for line in status.splitlines() if line.startswith("RssFile"))
            self.mapped = max(self.mapped, 1024 * int(mapped.split()[1]))


def is_healthy(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as peer:
        peer.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return peer.recv(64).startswith(b"HTTP/1.1 200 ")
    return False


def drop_pages(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    os.fdatasync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


@dataclass
class Bench:
    options: argparse.Namespace
    engine: Path
    directory: Path
    workers: list[Worker]

    def load(self, file: Path, layers: int, client: str) -> Load:
        if not self.options.keep_pages:
            drop_pages(file)
        port = free_port()
        shares = tensor_split(split_evenly(layers, len(self.workers)))
        argv = [str(self.engine / "llama-server"), "-m", str(file), "--port", str(port),
                "--host", "127.0.0.1", "-ngl", "99", "-c", "512", "--parallel", "1", "--fit", "off",
                "--no-warmup", "--cache-ram", "0", "-lm", self.options.load_mode, "-ts",
                ",".join(f"{share:g}" for share in shares),
                "--rpc", ",".join(worker.endpoint for worker in self.workers)]
        log = self.directory / "log"
        hashes = self.directory / f"{file.stem}.hashes"
        seen = Seen()
        maps = ""
        before = sum(worker.cpu_s() for worker in self.workers)
        with open(log, "wb") as out, LinkLog() as link:
            begin = time.monotonic()
            process = subprocess.Popen(argv, env=client_environment(client, self.engine, hashes),
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            try:
                while not is_healthy(port):
                    if process.poll() is not None or time.monotonic() > begin + LOAD_LIMIT_S:
                        fail(f"{' '.join(argv)}: no success\n{log.read_text()[-2000:]}")
                    seen.look(process.pid)
                    time.sleep(POLL_S)
                seconds = time.monotonic() - begin
                seen.look(process.pid)
                used = sum(worker.cpu_s() for worker in self.workers) - before
                maps = Path(f"/proc/{process.pid}/maps").read_text()
            finally:
                process.terminate()
                process.wait(STOP_LIMIT_S)
        check_client(client, maps)
        return Load(seconds, link.bytes(), link.rate(), seen.cpu_s, used, seen.disk,
                    seen.calls, seen.mapped)

    def forget(self) -> None:
        """What the workers keep, and the hashes."""
        shutil.rmtree(self.directory / "cache", ignore_errors=True)
        for number in range(len(self.workers)):
            (self.directory / f"cache/worker{number}/rpc").mkdir(parents=True)
        for file in self.directory.glob("*.hashes"):
            file.unlink()


Results = dict[tuple[int, str, str], list[Load]]


def all_rounds(bench: Bench, clients: list[str], files: dict[int, Path]) -> Results:
    results: Results = {(layers, client, kind): [] for layers in files for client in clients
                        for kind in (COLD, WARM)}
    for number in range(bench.options.rounds):
        for layers, file in files.items():
            for client in clients if number % 2 == 0 else clients[::-1]:
                bench.forget()
                for kind in (COLD, WARM):
                    load = bench.load(file, layers, client)
                    results[layers, client, kind].append(load)
                    if bench.options.verbose:
                        print(f"round {number}: {layers} layers, {client}, {kind}: {load}",
                              flush=True)
    return results


def report(results: Results, files: dict[int, Path], link: float) -> bool:
    def middle(loads: list[Load], name: str) -> float:
        return statistics.median(getattr(load, name) for load in loads)

    met = True
    rows = []
    for (layers, client, kind), loads in results.items():
        seconds = [load.seconds for load in loads]
        rate = middle(loads, "rate") / link
        if client == PIPELINED and kind == COLD:
            met = met and rate >= OF_LINK
        rows.append([f"{files[layers].stat().st_size / 1e6:.0f} MB", client, kind,
                     f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
                     f"{middle(loads, 'sent') / 1e6:.0f}",
                     f"{rate:.2f}" if kind == COLD else "",
                     f"{middle(loads, 'controller_cpu_s'):.2f}",
                     f"{middle(loads, 'workers_cpu_s'):.2f}",
                     f"{middle(loads, 'read_from_disk') / 1e6:.0f}",
                     f"{middle(loads, 'read_by_calls') / 1e6:.0f}",
                     f"{middle(loads, 'mapped') / 1e6:.0f}"])
    table(["model", "client", "load", "s until ready", "MB sent", "of the link's rate",
           "CPU s of llama-server", "of the workers",
           "MB it read from the disk", "by calls", "MB of files mapped in"],
          rows)
    return met


def main(options: argparse.Namespace) -> None:
    enter_namespace()
    engine = options.engine or engine_directory("cpu")
    clients = clients_of(engine, options.stock_only)
    say_load()
    limit_link(options.mbit)
    with tempfile.TemporaryDirectory(prefix="yoke-bench-") as name:
        directory = Path(name)
        files = {}
        for layers in options.layers:
            files[layers] = directory / f"{layers}.gguf"
            models.write_llama(files[layers], models.UPLOAD_LLAMA | {"layers": layers})
        link = raw_rate()
        print(f"A plain connection moves {link / 1e6:.1f} MB/s over the link of "
              f"{options.mbit} Mbit/s, for {options.workers} workers together", flush=True)
        with workers(engine, options.workers, cache=directory / "cache") as started:
            bench = Bench(options, engine, directory, started)
            met = report(all_rounds(bench, clients, files), files, link)
    print(f"\nGoal of {OF_LINK} of the link's rate in a cold load: {'met' if met else 'MISSED'}")
