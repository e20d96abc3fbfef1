"""What a token of decode costs on the wire, for each worker: the messages, the turns from sending
to receiving, and how many round trips of the network a token waits for. A relay between client and
workers counts, and delays what it passes on: that makes a token longer by the delay for each
message that it has to wait for."""

from __future__ import annotations

import argparse
import collections
import contextlib
import heapq
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import models
from ideal import split_evenly
from throughput import table
from workers import Run, clients_of, engine_directory, say_load, workers

COMMANDS = ("ALLOC_BUFFER", "GET_ALIGNMENT", "GET_MAX_SIZE", "BUFFER_GET_BASE", "FREE_BUFFER",
            "BUFFER_CLEAR", "SET_TENSOR", "SET_TENSOR_HASH", "GET_TENSOR", "COPY_TENSOR",
            "GRAPH_COMPUTE", "GET_DEVICE_MEMORY", "INIT_TENSOR", "GET_ALLOC_SIZE", "HELLO",
            "DEVICE_COUNT", "GRAPH_RECOMPUTE", "MEMSET_TENSOR")
HEAD = 9  # Bytes of a request before its data: the command, and the size of the data.
PIECE = 1 << 18
FEW, MANY = 16, 80  # Tokens; what they differ by has no start and no end in it.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    parser.add_argument("--delay-ms", type=float, default=10,
                        help="of each direction, in the runs that show the waits (%(default)s)")
    parser.add_argument("--engine", type=Path, help="its directory")
    parser.add_argument("--stock-only", action="store_true")


class Requests:
    """Counts the requests in a stream from a client."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._head = bytearray()
        self._left = 0  # Of the data.

    def take(self, data: bytes) -> None:
        place = 0
        while place < len(data):
            if self._left:
                step = min(self._left, len(data) - place)
                self._left -= step
                place += step
                continue
            step = min(HEAD - len(self._head), len(data) - place)
            self._head += data[place:place + step]
            place += step
            if len(self._head) == HEAD:
                command = self._head[0]
                name = COMMANDS[command] if command < len(COMMANDS) else str(command)
                self.counts[name] += 1
                self._left = int.from_bytes(self._head[1:], "little")
                self._head.clear()


@dataclass
class Traffic:
    """Between a client and one worker."""

    requests: Requests = field(default_factory=Requests)
    sent: int = 0
    received: int = 0
    turns: int = 0
    _sending: bool = False

    def to_worker(self, data: bytes) -> None:
        self.requests.take(data)
        self.sent += len(data)
        self._sending = True

    def to_client(self, data: bytes) -> None:
        self.received += len(data)
        self.turns += self._sending
        self._sending = False


class Relay:
    """Passes on what comes after a time, for each client that connects, one after the other."""

    def __init__(self, port: int, delay_s: float) -> None:
        self.traffic = Traffic()
        self._target = ("127.0.0.1", port)
        self._delay_s = delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._stop.close()
        self._thread.join()
        self._listener.close()
        self._stopped.close()

    def _serve(self) -> None:
        with selectors.SelectSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._stopped in ready:
                    return
                client, _ = self._listener.accept()
                with client, socket.create_connection(self._target) as worker:
                    for one in (client, worker):
                        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    with contextlib.suppress(ConnectionError):
                        self._pass_on(client, worker)

    def _pass_on(self, client: socket.socket, worker: socket.socket) -> None:
        """Until one of them closes."""
        waiting: list[tuple[float, int, socket.socket, bytes]] = []
        number = 0
        with selectors.SelectSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            selector.register(worker, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while True:  # select() waits to the microsecond, epoll to the millisecond.
                until = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
                for key, _ in selector.select(until):
                    if key.fileobj is self._stopped:
                        return
                    source, other = ((client, worker) if key.fileobj is client
                                     else (worker, client))
                    data = source.recv(PIECE)
                    if not data:
                        return
                    if source is client:
                        self.traffic.to_worker(data)
                    else:
                        self.traffic.to_client(data)
                    number += 1
                    heapq.heappush(waiting, (time.monotonic() + self._delay_s, number, other, data))
                while waiting and waiting[0][0] <= time.monotonic():
                    _, _, target, data = heapq.heappop(waiting)
                    target.sendall(data)


@contextlib.contextmanager
def relays(ports: list[int], delay_s: float) -> Iterator[list[Relay]]:
    started = [Relay(port, delay_s) for port in ports]
    try:
        yield started
    finally:
        for relay in started:
            relay.close()


@dataclass
class Bench:
    engine: Path
    model: Path
    ports: list[int]

    def run(self, client: str, tokens: int, delay_s: float) -> tuple[float, list[Traffic]]:
        """The seconds of so many tokens, and all that went over the wire, the load included."""
        with relays(self.ports, delay_s) as started:
            run = Run(self.engine, self.model, [relay.endpoint for relay in started], client,
                      tokens=tokens, repetitions=1,
                      split=split_evenly(models.CPU_LLAMA["layers"], len(self.ports)))
            return run.seconds()[0], [relay.traffic for relay in started]

    def row(self, client: str, delay_s: float) -> list[str]:
        few_s, few = self.run(client, FEW, 0)
        many_s, many = self.run(client, MANY, 0)
        few_delayed_s, _ = self.run(client, FEW, delay_s)
        many_delayed_s, _ = self.run(client, MANY, delay_s)
        longer_s = (many_delayed_s - few_delayed_s) - (many_s - few_s)
        waits = longer_s / (MANY - FEW) / (2 * delay_s)

        tokens = 2 * (MANY - FEW)  # All is done twice, the first time to warm up.
        requests: collections.Counter[str] = collections.Counter()
        for with_few, with_many in zip(few, many, strict=True):
            requests += with_many.requests.counts - with_few.requests.counts

        def of_token(name: str) -> float:
            more = sum(getattr(one, name) for one in many) - sum(getattr(one, name) for one in few)
            return more / tokens

        each = ", ".join(f"{count / tokens:.1f} {name}"
                         for name, count in sorted(requests.items()) if count >= tokens / 10)
        return [str(len(self.ports)), client, each, f"{of_token('turns'):.2f}", f"{waits:.2f}",
                f"{of_token('sent'):.0f}", f"{of_token('received'):.0f}"]


def main(options: argparse.Namespace) -> None:
    engine = options.engine or engine_directory("cpu")
    clients = clients_of(engine, options.stock_only)
    say_load()
    rows = []
    with tempfile.TemporaryDirectory(prefix="yoke-bench-") as directory:
        model = Path(directory) / "model.gguf"
        models.write_llama(model, models.CPU_LLAMA)
        for count in options.workers:
            with workers(engine, count) as started:
                bench = Bench(engine, model, [worker.port for worker in started])
                rows += [bench.row(client, options.delay_ms / 1000) for client in clients]
    print("\nFor a token, all workers together")
    table(["workers", "client", "requests", "turns", "round trips it waits for", "bytes sent",
           "bytes received"], rows)
