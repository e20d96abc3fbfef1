"""What the benches of RPC share: cgroups that hold processes to a share of a core, workers, the two
clients, and runs of llama-bench."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STOCK, PIPELINED = "stock", "pipelined"
STOCK_MODULE = "libggml-rpc.so"
PIPELINED_MODULE = "libggml-rpc-yoke.so"
NO_PREFETCH = "libyoke-no-prefetch.so"
START_LIMIT_S = 30
STOP_LIMIT_S = 10
BENCH_LIMIT_S = 570
POLL_S = 0.005
BUSY = 0.3  # Load per core from which the figures say little.

Environment = dict[str, str]


def fail(message: str) -> None:
    sys.exit(f"rpc_bench: {message}")


def say_load() -> None:
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    print(f"{cores} cores, load {load:.1f} before the start", flush=True)
    if load > BUSY * cores:
        print("The machine is busy: these figures will say little.", flush=True)


def engine_directory(backend: str) -> Path:
    """Of the newest installed llama.cpp."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    found = sorted(data.glob(f"yoke/engines/llama.cpp-*/{backend}"))
    if not found:
        fail(f"no llama.cpp with backend {backend} below {data}/yoke/engines: make engine")
    return found[-1]


# Quotas

class Group:
    """A cgroup of its own, in version 1 or 2 of the interface."""

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self.version = version
        path.mkdir()

    def _write(self, file: str, value: object) -> None:
        (self.path / file).write_text(str(value))

    def hold_to(self, cores: float | None, period_us: int) -> None:
        """None: to all there are."""
        quota = None if cores is None else round(cores * period_us)
        if self.version == 2:
            self._write("cpu.max", f"{'max' if quota is None else quota} {period_us}")
            return
        self._write("cpu.cfs_quota_us", -1)  # A quota could be too short for the new period.
        self._write("cpu.cfs_period_us", period_us)
        self._write("cpu.cfs_quota_us", -1 if quota is None else quota)

    def prefer(self) -> None:
        """Over everything that is not in it."""
        if self.version == 2:
            self._write("cpu.weight", 10000)
        else:
            self._write("cpu.shares", 262144)

    def let_children_divide(self) -> None:
        if self.version == 2:
            self._write("cgroup.subtree_control", "+cpu")

    def enter(self) -> None:
        """With the calling process and what it starts from now on."""
        self._write("cgroup.procs", os.getpid())

    def remove(self) -> None:
        deadline = time.monotonic() + STOP_LIMIT_S
        while True:  # A process that has just ended may still be in it.
            try:
                self.path.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    print(f"rpc_bench: could not remove {self.path}", file=sys.stderr)
                    return
                time.sleep(POLL_S)


def _cgroup_root() -> tuple[Path, int]:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return Path("/sys/fs/cgroup"), 2
    return Path("/sys/fs/cgroup/cpu"), 1


@dataclass
class Groups:
    """One for the controller, and one for each worker. All of them together go before whatever
    else the machine does."""

    controller: Group
    workers: list[Group]

    def hold_workers_to(self, cores: float | None, period_us: int) -> None:
        for group in self.workers:
            group.hold_to(cores, period_us)


@contextlib.contextmanager
def groups(workers: int) -> Iterator[Groups]:
    root, version = _cgroup_root()
    made: list[Group] = []

    def make(path: Path) -> Group:
        made.append(Group(path, version))
        return made[-1]

    try:
        try:
            if version == 2:
                (root / "cgroup.subtree_control").write_text("+cpu")
            parent = make(root / f"yoke-rpc-bench-{os.getpid()}")
            parent.prefer()
            parent.let_children_divide()
            controller = make(parent.path / "controller")
            controller.prefer()
            each = [make(parent.path / f"worker{number}") for number in range(workers)]
        except OSError as error:
            fail(f"cannot make cgroups with a CPU quota: {error}. It needs root.")
        yield Groups(controller, each)
    finally:
        for group in reversed(made):
            group.remove()


# Processes

def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(STOP_LIMIT_S)


@dataclass
class Worker:
    """A stock ggml-rpc-server."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """That it has used so far."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        times = [(task / "schedstat").read_text().split() for task in tasks.iterdir()]
        return sum(int(time[0]) for time in times) / 1e9


def _wait_until_it_listens(worker: Worker) -> None:
    """Without a connection: the server serves one at a time."""
    wanted = f":{worker.port:04X} 00000000:0000 0A"
    deadline = time.monotonic() + START_LIMIT_S
    while wanted not in Path("/proc/net/tcp").read_text():
        if worker.process.poll() is not None or time.monotonic() > deadline:
            fail(f"the worker on port {worker.port} does not start")
        time.sleep(POLL_S)


@contextlib.contextmanager
def workers(engine: Path, count: int, *, threads: int = 1, own: Sequence[Group] = (),
            pinned: bool = False, cache: Path | None = None,
            environments: Sequence[Environment] = (),
            logs: Sequence[Path] = ()) -> Iterator[list[Worker]]:
    """`own`: the cgroup of each. `pinned`: each to one core, in turn. `cache`: where each keeps
    weights. `environments`: added to that of each. `logs`: where each writes."""
    started: list[Worker] = []
    cores = sorted(os.sched_getaffinity(0))
    try:
        for number in range(count):
            port = free_port()
            argv = [str(engine / "ggml-rpc-server"), "-t", str(threads), "-p", str(port)]
            environment = client_environment(STOCK, engine)
            if environments:
                environment |= environments[number]
            if cache is not None:
                argv.append("-c")
                environment["LLAMA_CACHE"] = str(cache / f"worker{number}")

            def prepare(number: int = number) -> None:
                if own:
                    own[number].enter()
                if pinned:
                    os.sched_setaffinity(0, {cores[number % len(cores)]})

            with open(logs[number] if logs else os.devnull, "wb") as out:
                process = subprocess.Popen(argv, env=environment, preexec_fn=prepare,
                                           stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            started.append(Worker(process, port))
        for worker in started:
            _wait_until_it_listens(worker)
        yield started
    finally:
        for worker in started:
            _stop(worker.process)


# Clients

def client_environment(client: str, engine: Path, hashes: Path | None = None) -> Environment:
    """As Yoke starts llama.cpp with this client."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("YOKE_RPC_")}
    if client == PIPELINED:
        environment["YOKE_RPC_CLIENT"] = "pipelined"
        environment["LD_PRELOAD"] = str(engine / NO_PREFETCH)
        if hashes is not None:
            environment["YOKE_RPC_HASHES"] = str(hashes)
    return environment


def check_client(client: str, loaded: str) -> None:
    """`loaded`: what the program says that it loaded, or its memory map. Yoke's module may stay
    there when it was only asked for its score."""
    if client not in ([STOCK] if STOCK_MODULE in loaded else
                      [PIPELINED] if PIPELINED_MODULE in loaded else []):
        fail(f"the {client} client was asked for, but another was loaded:\n{loaded[-2000:]}")


def clients_of(engine: Path, stock_only: bool) -> list[str]:
    if stock_only:
        return [STOCK]
    if not (engine / PIPELINED_MODULE).exists():
        fail(f"no {PIPELINED_MODULE} in {engine}: make engine, or --stock-only")
    return [STOCK, PIPELINED]


@dataclass
class Run:
    """Of llama-bench."""

    engine: Path
    model: Path
    endpoints: Sequence[str]
    client: str
    prompt: int = 0
    tokens: int = 0
    ubatch: int = 256
    repetitions: int = 3
    split: Sequence[int] = ()  # Layers of each worker. Empty: llama.cpp's own choice.
    threads: int = 1
    more: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    own: Group | None = None

    def argv(self) -> list[str]:
        shares = tensor_split(self.split) if len(self.split) > 1 else []
        split = ["-ts", "/".join(f"{share:g}" for share in shares)] if shares else []
        return [str(self.engine / "llama-bench"), "-m", str(self.model),
                "--rpc", ",".join(self.endpoints), "-ngl", "99", "-t", str(self.threads),
                "-p", str(self.prompt), "-n", str(self.tokens), "-ub", str(self.ubatch),
                "-b", str(max(self.prompt, self.ubatch)), "-fa", "1",
                "-r", str(self.repetitions + 1), "--no-warmup", "-o", "json",
                *split, *self.more]

    def _result(self) -> subprocess.CompletedProcess[str]:
        own = self.own
        done = subprocess.run(
            self.argv(), env=client_environment(self.client, self.engine) | dict(self.environment),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BENCH_LIMIT_S,
            preexec_fn=own.enter if own is not None else None, check=False)
        if done.returncode != 0:
            code = done.returncode
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            fail(f"{' '.join(self.argv())}: {how}\n{done.stderr[-2000:]}")
        check_client(self.client, done.stderr)
        return done

    def tests(self) -> list[dict]:
        return list(json.loads(self._result().stdout))

    def seconds(self) -> list[float]:
        """Of each repetition. One more before them warms up."""
        (test,) = self.tests()
        return [nanoseconds / 1e9 for nanoseconds in test["samples_ns"][1:]]

    def layers_on(self) -> list[str]:
        """The device of each layer, the output last, as llama.cpp tells it."""
        lines = [line.split() for line in self._result().stderr.splitlines()
                 if "load_tensors: layer" in line]
        return [words[6].rstrip(",") for words in lines]


def tensor_split(layers: Sequence[int]) -> list[float]:
    """What makes llama.cpp split so. It gives layer l of L, the output being one more, to the
    first worker whose part of the sum of shares ends behind l / (L + 1): half a layer away from
    each limit nothing hangs on how a fraction is rounded."""
    shares = [float(count) for count in layers]
    shares[0] -= 0.5
    shares[-1] += 1.5
    return shares
