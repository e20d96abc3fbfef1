"""Real engines over RPC on this machine: workers, a llama-server with either client, and what it
answers.

Environment:
  RPC_CLIENT          the client under test: "pipelined" (default), or "stock" to try a test itself
  RPC_ENGINES         a directory with cpu/ and vulkan/ in place of the installed engines
  RPC_TESTED_ENGINES  the same for a llama-server with the client under test alone
  RPC_PRELOAD         for its LD_PRELOAD: a sanitizer's library
  RPC_SLOWNESS        multiplies the limits of time: a sanitizer is slow
"""

import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "e2e"), str(TESTS / "models")]

import engine_memory
from harness import REAL_MODEL_FILE, die_with_parent, until
from http_client import Connection

import rpc_models

STOCK, PIPELINED = "stock", "pipelined"
TESTED = os.environ.get("RPC_CLIENT", PIPELINED)
MODULE = "libggml-rpc-yoke.so"
SLOWNESS = float(os.environ.get("RPC_SLOWNESS", "1"))
START_LIMIT_S = 60 * SLOWNESS
ANSWER_LIMIT_S = 120 * SLOWNESS
# To end on SIGTERM, whatever has become of the workers.
STOP_LIMIT_S = 15 * SLOWNESS
# In /proc/net/tcp.
ESTABLISHED, CLOSE_WAIT, LISTENING = "01", "08", "0A"
PORT_TRIES = 5
TOP_TOKENS = 8
# A small model's tokens below this are single bytes. Of those that end within a character
# llama-server tells no probabilities, and nothing at all in a stream: they are forbidden.
FIRST_TOKEN = 300
NO_BYTES = [[token, False] for token in range(FIRST_TOKEN)]


def engine_directory(backend, tested=False):
    """Where the llama.cpp for "cpu" or "vulkan" is; an AssertionError says how to get it."""
    own = os.environ.get("RPC_ENGINES")
    if tested:
        own = os.environ.get("RPC_TESTED_ENGINES", own)
    if own:
        return pathlib.Path(own) / backend
    engine = engine_memory.find(backend)
    assert engine is not None, f"no llama.cpp for {backend} is installed: run `make engine`"
    return engine.directory


def has_vulkan():
    if own := os.environ.get("RPC_ENGINES"):
        return (pathlib.Path(own) / "vulkan").exists()
    return engine_memory.find("vulkan") is not None


def _environment(**more):
    prefixes = ("YOKE", "LLAMA_", "GGML_", "LD_PRELOAD")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}
    # Without it, GPUs that are no real ones are passed over.
    return {**kept, "GGML_VK_VISIBLE_DEVICES": "0", "GGML_NO_BACKTRACE": "1",
            **more}


def pipelined_environment(directory):
    """As Yoke sets it for an engine in that directory, but for names and limits."""
    library = directory / "libyoke-no-prefetch.so"
    return {"YOKE_RPC_CLIENT": "pipelined", **({"LD_PRELOAD": str(library)} if library.exists()
                                               else {})}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def states_at(port):
    """Those of all sockets of this machine with that port on their own side. Asks the kernel, not
    the program, which serves one client at a time."""
    place = f"0100007F:{port:04X}"
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {fields[3] for fields in (line.split() for line in lines) if fields[1] == place}


class Program:
    """A process with its log."""

    def __init__(self, command, environment, log_file):
        self.log_file = log_file
        with open(log_file, "wb") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment, preexec_fn=die_with_parent)
        self.pid = self.process.pid

    def log(self):
        return self.log_file.read_text(errors="replace")

    def is_running(self):
        return self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.is_running():
            self.process.kill()
        self.process.wait()


class Worker(Program):
    """A ggml-rpc-server, always the stock one. `notes`: each request, in its log."""

    def __init__(self, directory, engine, devices, cache, notes):
        self.port = free_port()
        self.endpoint = f"127.0.0.1:{self.port}"
        command = [engine_directory(engine) / "ggml-rpc-server", "-H", "127.0.0.1", "-p", self.port,
                   "-t", 1, *(["-d", devices] if devices else []), *(["-c"] if cache else [])]
        environment = _environment(LLAMA_CACHE=str(cache or directory / "no-cache"),
                                   **({"GGML_RPC_DEBUG": "1"} if notes else {}))
        super().__init__(command, environment, directory / f"worker-{self.port}.log")

    def starts(self):
        """Waits until it listens; False if it ends in place of that."""
        until(lambda: LISTENING in states_at(self.port) or not self.is_running(),
              "a worker listens", START_LIMIT_S)
        return self.is_running()

    def data_sizes(self):
        """Bytes of each SET_TENSOR that it was sent, if it notes them."""
        return [int(size) for size in re.findall(r"\[set_tensor\].*size: (\d+)", self.log())]

    def is_free(self):
        """Waits until it is done with its client; False if that was its end, as it is when the
        client goes while it sends."""
        until(lambda: not {ESTABLISHED, CLOSE_WAIT} & states_at(self.port), "a worker is free",
              START_LIMIT_S)
        return LISTENING in states_at(self.port)


class Server(Program):
    """A llama-server."""

    def __init__(self, directory, client, engine, model, endpoints, options, environment):
        self.client = client
        self.port = free_port()
        arguments = {"--model": model, "--host": "127.0.0.1", "--port": self.port, "--threads": 1,
                     "--rpc": ",".join(endpoints), "--n-gpu-layers": 99, "--ctx-size": 4096,
                     "--parallel": 1, "--batch-size": 2048, "--ubatch-size": 128, "--fit": "off",
                     "--log-colors": "off", "--offline": "",
                     # Else layers are given out by the memory that happens to be free.
                     "--tensor-split": ",".join(["1"] * max(len(endpoints), 1)), **options}
        tested = client == TESTED
        command = [engine_directory(engine, tested) / "llama-server"]
        for name, value in arguments.items():
            command += [name] if value == "" else [name, value] if value is not None else []
        switch = {} if client == STOCK else pipelined_environment(command[0].parent)
        if tested and (preload := os.environ.get("RPC_PRELOAD")):
            switch["LD_PRELOAD"] = preload
        super().__init__(command, _environment(**switch, **environment),
                         directory / f"server-{self.port}.log")

    def wait_until_ready(self):
        def ready():
            assert self.is_running(), f"ended with {self.process.returncode}:\n{self.log()[-4000:]}"
            with contextlib.suppress(OSError):
                return self.get("/health").status == 200

        until(ready, f"llama-server is ready: {self.log()[-1000:]}", START_LIMIT_S)
        self._check_client()
        return self

    def _check_client(self):
        """Looks at what it has loaded: a test of the one client with the other tells nothing. (A
        module that has refused may stay in memory.)"""
        maps = pathlib.Path(f"/proc/{self.pid}/maps").read_text()
        loaded = set(re.findall(r"/(libggml-rpc\S*\.so)\S*$", maps, re.MULTILINE))
        used = "libggml-rpc.so" if "libggml-rpc.so" in loaded else MODULE
        expected = "libggml-rpc.so" if self.client == STOCK else MODULE
        assert used in loaded and used == expected, f"not {expected}:\n{self.log()[:4000]}"

    # Requests

    def get(self, path):
        with Connection(self.port, limit_s=START_LIMIT_S) as connection:
            return connection.ask("GET", path)

    def post(self, path, body, limit_s=ANSWER_LIMIT_S):
        with Connection(self.port, limit_s=limit_s) as connection:
            return connection.ask("POST", path, body)

    def complete(self, prompt, tokens, limit_s=ANSWER_LIMIT_S, **fields):
        """Greedy tokens for a prompt, which is text or tokens; of several prompts a list. Returns
        what `answer` picks."""
        reply = self.post("/completion", completion_body(prompt, tokens, **fields), limit_s)
        assert reply.status == 200, reply
        content = reply.json()
        if isinstance(content, list):
            return [answer(each) for each in sorted(content, key=lambda each: each["index"])]
        return answer(content)

    # Its end

    def stop(self):
        """Ends it as Yoke does, and returns its exit code: negative if a signal ended it."""
        if self.is_running():
            self.signal(signal.SIGTERM)
        return self.process.wait(STOP_LIMIT_S)


def completion_body(prompt, tokens, **fields):
    return {"prompt": prompt, "n_predict": tokens, "temperature": 0, "n_probs": TOP_TOKENS,
            "return_tokens": True, "ignore_eos": True, "cache_prompt": False,
            "logit_bias": NO_BYTES, **fields}


def answer(reply):
    """What has to be the same: the tokens, and of each the most probable ones with the logarithms
    of their probabilities, all digits."""
    places = [[(top["id"], top["logprob"]) for top in place["top_logprobs"]]
              for place in reply.get("completion_probabilities", ())]
    return {"tokens": reply["tokens"], "evaluated": reply["tokens_evaluated"], "top": places}


def prompt_of(length, seed, vocabulary=1024):
    """Tokens drawn by lot, always the same ones."""
    source = random.Random(f"{seed} {length}")
    return [source.randrange(FIRST_TOKEN, vocabulary) for _ in range(length)]


class Cluster:
    """Workers and servers in a directory of their own. Workers are kept for the next server: the
    stock one goes on after a client has left."""

    def __init__(self, workers_note=False):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="yoke-rpc-"))
        self.workers_note = workers_note
        self.workers = []
        self.servers = []
        self.pool = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for program in [*self.servers, *self.workers]:
            program.kill()
        shutil.rmtree(self.directory)

    def model(self, name, seed=0):
        """The file of a small model, or of "smollm2"."""
        if name == "smollm2":
            assert REAL_MODEL_FILE.exists(), f"{REAL_MODEL_FILE} is missing: run `make model`"
            return REAL_MODEL_FILE
        file = self.directory / f"{name}-{seed}.gguf"
        return file if file.exists() else rpc_models.write(file, name, seed)

    def new_worker(self, engine="cpu", devices=None, cache=None):
        """`devices`: as for the worker's -d. `cache`: a directory for weights."""
        for _ in range(PORT_TRIES):
            worker = Worker(self.directory, engine, devices, cache, self.workers_note)
            self.workers.append(worker)
            if worker.starts():
                return worker
        raise AssertionError(f"no worker starts: {worker.log()}")

    def worker(self, number, engine="cpu", devices=None, purpose=None):
        """The worker of that kind and number, started when it is asked for first or has died."""
        key = (number, engine, devices, purpose)
        worker = self.pool.get(key)
        if worker is None or not worker.is_free():
            worker = self.pool[key] = self.new_worker(engine, devices)
        return worker

    def serve(self, client, model, endpoints, engine="cpu", environment=(), **options):
        """Starts a llama-server; `options` are llama-server's with _ for -, "" for a flag alone."""
        arguments = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        server = Server(self.directory, client, engine, model, endpoints, arguments,
                        dict(environment))
        self.servers.append(server)
        return server

    @contextlib.contextmanager
    def serving(self, *arguments, **options):
        """A server that is ready, and has to end well."""
        server = self.serve(*arguments, **options)
        try:
            yield server.wait_until_ready()
            code = server.stop()
            assert code == 0, f"llama-server ended with {code}:\n{server.log()[-4000:]}"
        finally:
            server.kill()


def show_logs(cluster, stream=sys.stderr):
    for server in cluster.servers[-2:]:
        print(f"--- llama-server with the {server.client} client\n{server.log()[-6000:]}",
              file=stream)
    for worker in cluster.workers[-4:]:
        print(f"--- worker {worker.endpoint}\n{worker.log()[-1000:]}", file=stream)


def quantiles(values, *shares):
    """The values below which those shares of all lie."""
    ranked = sorted(values)
    return [ranked[min(int(share * len(ranked)), len(ranked) - 1)] for share in shares]


def now():
    return time.monotonic()
