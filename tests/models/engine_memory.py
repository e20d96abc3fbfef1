"""What llama.cpp itself says that a model takes: the truth that Yoke's plans are measured against.

llama-server lays everything out before it loads, without allocating it: `Engine.dry_run` reads
that, of models of any size, and ends it. `Engine.load` lets it load and compute, and reads what it
says then. Sizes are bytes. Several machines are RPC servers on loopback (`rpc_servers`).

llama-fit-params is not asked: it counts results of every token of a batch, of which llama-server
keeps one per sequence.
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

LIBC = ctypes.CDLL(None)
MIB = 2**20
HOST = "Host"  # The machine that runs the engine: CPU and buffers that a GPU's driver lends it.
DRY_RUN_LIMIT_S = 60
LOAD_LIMIT_S = 60
BREAKDOWN = re.compile(
    r"\|\s+- (?P<name>.+?)\s+\|(?:\s*\d+ =\s*\d+ \+ \()?\s*\d+ =\s*(?P<model>\d+) \+\s*"
    r"(?P<context>\d+) \+\s*(?P<compute>\d+)\b")
BUFFER = re.compile(
    r"\b(?P<source>\w+):\s+(?P<name>\S+)\s+(?P<kind>model|KV|RS|compute|output) buffer size =\s*"
    r"(?P<mib>[\d.]+) MiB")
CACHE = re.compile(
    r"\b(?P<source>llama_kv_cache|llama_memory_recurrent): size =\s*(?P<mib>[\d.]+) MiB")
REMOTE = re.compile(r"RPC\d+[\[ (]+(?P<address>[\d.]+:\d+)[\])]?")


@dataclasses.dataclass
class DeviceMemory:
    """What one device holds. `context` is keys, values and recurrent state together."""
    weights: int = 0
    context: int = 0
    compute: int = 0
    output: int = 0

    @property
    def total(self):
        return self.weights + self.context + self.compute + self.output


@dataclasses.dataclass
class Report:
    devices: dict  # By name: HOST, "Vulkan0", an RPC server's address.
    kv: int = 0    # Of all devices.
    state: int = 0
    layers: dict = dataclasses.field(default_factory=dict)  # Device by layer; the last: the output.


@dataclasses.dataclass(frozen=True)
class Options:
    """As in Yoke's configuration."""
    n_ctx: int = 8192
    flash_attention: bool = True
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    parallel: int = 1
    unified: bool = True
    n_batch: int = 2048
    n_ubatch: int = 512
    gpu_layers: int = -1  # All.
    tensor_split: tuple = ()

    def arguments(self):
        layers = 999 if self.gpu_layers < 0 else self.gpu_layers
        split = ",".join(map(str, self.tensor_split))
        return ["--ctx-size", str(self.n_ctx),
                "--flash-attn", "on" if self.flash_attention else "off",
                "--cache-type-k", self.cache_type_k, "--cache-type-v", self.cache_type_v,
                "--parallel", str(self.parallel),
                "--kv-unified" if self.unified else "--no-kv-unified",
                "--batch-size", str(self.n_batch), "--ubatch-size", str(self.n_ubatch),
                "--n-gpu-layers", str(layers), *(["--tensor-split", split] if split else [])]


class EngineRefused(Exception):
    """It does not run with these options."""


def engines_directory():
    data = os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share"
    return pathlib.Path(data) / "yoke/engines"


def find(backend):
    """The newest llama.cpp for "cpu" or "vulkan" that Yoke installed; None without one."""
    found = sorted(engines_directory().glob(f"llama.cpp-*/{backend}/llama-server"),
                   key=lambda file: [int(n) for n in re.findall(r"\d+", file.parts[-3])])
    return Engine(found[-1].parent) if found else None


# Reading

def _bytes(mib):
    return round(float(mib) * MIB)


def _device(name):
    """The name of the device that a buffer type belongs to."""
    if remote := REMOTE.match(name):
        return remote["address"]
    first = name.split(" ")[0]  # In the table a description follows.
    return first if re.fullmatch(r"(Vulkan|CUDA|ROCm|SYCL|Metal)\d+", first) else HOST


def _layers(log):
    """Of the last time that layers were given out."""
    found = re.findall(r"load_tensors: layer\s+(\d+) assigned to device (\S+),", log)
    addresses = dict(re.findall(r"- (RPC\d+) \(([\d.]+:\d+)\)", log))
    return {int(number): addresses.get(name) or _device(name) for number, name in found}


def parse_dry_run(log):
    report = Report({HOST: DeviceMemory()}, layers=_layers(log))
    for row in BREAKDOWN.finditer(log):
        device = report.devices.setdefault(_device(row["name"]), DeviceMemory())
        device.weights += _bytes(row["model"])
        device.context += _bytes(row["context"])
    # These lines are finer than the table.
    for line in BUFFER.finditer(log):
        if line["kind"] in ("compute", "output"):
            device = report.devices.setdefault(_device(line["name"]), DeviceMemory())
            size = getattr(device, line["kind"])
            setattr(device, line["kind"], size + _bytes(line["mib"]))
    _read_caches(report, log)
    return report


def parse_load(log):
    report = Report({HOST: DeviceMemory()}, layers=_layers(log))
    fields = {"model": "weights", "KV": "context", "RS": "context", "compute": "compute",
              "output": "output"}
    for line in BUFFER.finditer(log):
        device = report.devices.setdefault(_device(line["name"]), DeviceMemory())
        field = fields[line["kind"]]
        setattr(device, field, getattr(device, field) + _bytes(line["mib"]))
    _read_caches(report, log)
    return report


def _read_caches(report, log):
    """Whole MiB are all that the dry run says of each device: with one that has a cache, the sum is
    better."""
    for line in CACHE.finditer(log):
        if line["source"] == "llama_kv_cache":
            report.kv += _bytes(line["mib"])
        else:
            report.state += _bytes(line["mib"])
    holders = {_device(line["name"]) for line in BUFFER.finditer(log)
               if line["kind"] in ("KV", "RS")}
    if len(holders) == 1:
        report.devices[holders.pop()].context = report.kv + report.state


# Running

def _die_with_parent():
    """In a child before it becomes another program."""
    PR_SET_PDEATHSIG = 1
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _environment():
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLAMA_", "GGML_"))}
    # Without it, GPUs that are no real ones are passed over.
    return {**kept, "GGML_VK_VISIBLE_DEVICES": "0"}


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Engine:
    def __init__(self, directory):
        self.directory = directory

    def dry_run(self, model, options, rpc=(), embedding=False):
        """What llama-server plans before it loads, for which it needs no weights."""
        with self._server(model, options, rpc, embedding, "--fit", "on") as (server, _, log):
            try:
                return parse_dry_run(_until_planned(server, log))
            finally:
                server.kill()  # Before it loads what is not there.

    def load(self, model, options, rpc=(), embedding=False):
        """Loads the model into llama-server and asks for a few tokens, or an embedding."""
        with self._server(model, options, rpc, embedding, "--fit", "off",
                          "--load-mode", "none") as (server, port, log):
            _compute_a_little(server, port, log, embedding)
            return parse_load(_text(log))

    @contextlib.contextmanager
    def _server(self, model, options, rpc, embedding, *more):
        """Yields a process of llama-server, its port and the file of its log."""
        port = _free_port()
        command = [self.directory / "llama-server", "--model", model, "--host", "127.0.0.1",
                   "--port", str(port), "--threads", "1", "--log-verbosity", "5",
                   "--log-colors", "off", "--offline", *options.arguments(), *more,
                   *(["--embedding"] if embedding else []),
                   *(["--rpc", ",".join(rpc)] if rpc else [])]
        with tempfile.NamedTemporaryFile() as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                      env=_environment(), preexec_fn=_die_with_parent)
            try:
                yield server, port, pathlib.Path(log.name)
            finally:
                _end(server)

    @contextlib.contextmanager
    def rpc_servers(self, count):
        """Addresses of so many RPC servers, each a machine of its own for the engine."""
        ports = [_free_port() for _ in range(count)]
        servers = [subprocess.Popen(
            [self.directory / "ggml-rpc-server", "-H", "127.0.0.1", "-p", str(port), "-t", "1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            env=_environment(), preexec_fn=_die_with_parent) for port in ports]
        try:
            for port in ports:
                _wait_for_port(port)
            yield [f"127.0.0.1:{port}" for port in ports]
        finally:
            for server in servers:
                _end(server)


def _text(file):
    return file.read_text(errors="replace")


def _reason(log):
    wrong = [line for line in log.splitlines() if " E " in line or "failed" in line]
    return "\n".join(wrong or log.splitlines()[-5:])


def _wait_for_port(port):
    deadline = time.monotonic() + LOAD_LIMIT_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing listens on port {port}")
        time.sleep(0.02)


def _until_planned(server, log):
    """The log up to the end of the table that says what lies where."""
    deadline = time.monotonic() + DRY_RUN_LIMIT_S
    lines = []
    line = ""  # Perhaps only half written.
    table = False
    with open(log, errors="replace") as file:
        while True:
            running = server.poll() is None
            for piece in file:
                line += piece
                if not line.endswith("\n"):
                    break
                lines.append(line)
                line = ""
                if table and "breakdown_print" not in lines[-1]:
                    return "".join(lines)
                table = table or "|   - Host " in lines[-1]
                # It would try to load all the same.
                if not table and "common_fit_params: " in lines[-1]:
                    raise EngineRefused(_reason("".join(lines)))
            if not running:
                raise EngineRefused(_reason("".join(lines)))
            if time.monotonic() > deadline:
                raise AssertionError(f"llama-server does not plan: {lines[-1:]}")
            time.sleep(0.005)


def _compute_a_little(server, port, log, embedding):
    path, body = (("/v1/embeddings", {"input": "a b"}) if embedding
                  else ("/completion", {"prompt": "a b", "n_predict": 3, "temperature": 0}))
    deadline = time.monotonic() + LOAD_LIMIT_S
    while True:
        if server.poll() is not None:
            raise EngineRefused(_reason(_text(log)))
        if time.monotonic() > deadline:
            raise AssertionError("llama-server does not get ready")
        # Refused, or 503, until the model is loaded.
        with contextlib.suppress(OSError):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}",
                                             json.dumps(body).encode(),
                                             {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=LOAD_LIMIT_S) as reply:
                answer = json.load(reply)
            assert embedding or answer["tokens_predicted"] > 0, answer
            return
        time.sleep(0.05)
