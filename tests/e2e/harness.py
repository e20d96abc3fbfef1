"""Runs Yoke as its users do, as a program with a configuration file, and checks how it ends.

The environment names the programs: YOKE and FAKE_ENGINE. The model of the real engine is the one
that `make model` gets.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

from http_client import Connection

YOKE = os.environ.get("YOKE", "yoke")
FAKE_ENGINE = os.environ.get("FAKE_ENGINE", "fake_engine")
DATA_HOME = pathlib.Path(os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share")
REAL_MODEL_FILE = DATA_HOME / "yoke/models/SmolLM2-135M-Instruct.Q4_1.gguf"
# One thread: the engine's spinning threads take seconds per token where other programs want the
# cores too.
REAL_MODEL = {"model_path": REAL_MODEL_FILE.name, "n_ctx": 2048, "threads": 1}
# For anything that the real engine computes.
REAL_LIMIT_S = 120

LIBC = ctypes.CDLL(None)

# Longer than the grace that Yoke gives running answers and its engines together.
STOP_LIMIT_S = 30

# What Yoke looks at before it starts an engine: magic, version 3, no tensors, no keys.
GGUF_HEADER = b"GGUF\x03\0\0\0" + bytes(16)


def until(condition, what, limit_s=20):
    """Waits until `condition()` is true, and returns what it gave."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {limit_s} s still not: {what}")
        time.sleep(0.01)
    return value


def toml(tables):
    """`tables`: {"server": {"listen": ...}, 'models."a"': {...}}."""
    text = ""
    for name, fields in tables.items():
        text += f"[{name}]\n"
        text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items()) + "\n"
    return text


def is_running(pid):
    """False also of a zombie."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def processes_marked(mark):
    """Processes that have `mark` in their environment."""
    found = []
    for directory in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (directory / "environ").read_bytes():
                found.append(int(directory.name))
    return [pid for pid in found if is_running(pid)]


def environment_of(pid):
    """That the process was started with."""
    entries = pathlib.Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def die_with_parent():
    """In a child before it becomes another program: a test that is killed leaves nothing behind."""
    PR_SET_PDEATHSIG = 1
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Yoke:
    """A running `yoke serve`."""

    def __init__(self, config_file, environment):
        name = uuid.uuid4().hex
        self.mark = f"E2E_SERVER={name}"  # Its engines inherit it.
        environment = {**environment, "E2E_SERVER": name}
        self.stopped = False
        self.log_file = config_file.with_name(f"{name}.log")
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                [YOKE, "serve", "--config", str(config_file)], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=environment, start_new_session=True,
                preexec_fn=die_with_parent)
        self.pid = self.process.pid

    def wait_until_listening(self):
        pattern = re.compile(r"Yoke listens on http://\S+:(\d+)\.")

        def port():
            if self.process.poll() is not None:
                self.stopped = True
                raise AssertionError(f"yoke ended with {self.process.returncode}: {self.log()}")
            return pattern.search(self.log())

        self.port = int(until(port, "Yoke listens")[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def log(self):
        return self.log_file.read_text(errors="replace")

    # Requests

    def connect(self, **options):
        return Connection(self.port, **options)

    def get(self, path, headers=()):
        with self.connect() as connection:
            return connection.ask("GET", path, headers=headers)

    def post(self, path, body, headers=(), limit_s=30):
        with self.connect(limit_s=limit_s) as connection:
            return connection.ask("POST", path, body, headers)

    def chat(self, model, content="Hello", limit_s=30, **fields):
        """Asks for a chat completion and returns the whole reply."""
        return self.post("/v1/chat/completions", chat_body(model, content, **fields),
                         limit_s=limit_s)

    @contextlib.contextmanager
    def stream(self, model, content="Hello", limit_s=30, **fields):
        """Yields an iterator over the events of a streamed chat completion."""
        with self.connect(limit_s=limit_s) as connection:
            connection.send("POST", "/v1/chat/completions",
                            chat_body(model, content, stream=True, **fields))
            yield connection.events()

    # What it says about itself

    def instance(self, model):
        instances = self.get("/yoke/v1/instances").json()["instances"]
        return next(instance for instance in instances if instance["model"] == model)

    def wait_for_state(self, model, state, limit_s=20):
        def look():
            instance = self.instance(model)
            return instance if instance["state"] == state else None

        return until(look, f"model {model} is {state}", limit_s)

    def engine_key(self, model):
        """What the model's engine asks everybody for."""
        environment = environment_of(self.instance(model)["pid"])
        return environment.get("LLAMA_API_KEY") or environment.get("VLLM_API_KEY")

    def engine_headers(self, model):
        key = self.engine_key(model)
        return {"Authorization": f"Bearer {key}"} if key else {}

    def engine_get(self, model, path):
        """Asks the model's engine itself."""
        with Connection(self.instance(model)["port"]) as connection:
            return connection.ask("GET", path, headers=self.engine_headers(model)).json()

    def engine_post(self, model, path, body):
        headers = self.engine_headers(model)
        with Connection(self.instance(model)["port"], limit_s=REAL_LIMIT_S) as connection:
            return connection.ask("POST", path, body, headers).json()

    def metric(self, name):
        line = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").body.decode(), re.M)
        return float(line[1])

    def rss_bytes(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    # Its end

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, limit_s=STOP_LIMIT_S):
        """The exit code, as soon as the program has ended."""
        code = self.process.wait(limit_s)
        self.stopped = True
        return code

    def left_over(self):
        return processes_marked(self.mark)

    def guards(self):
        """The processes that end its engines should it be killed."""
        def name(pid):
            with contextlib.suppress(OSError):
                return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()

        return {pid for pid in self.left_over() if name(pid) == "yoke-guard"}

    def stop(self):
        """Ends Yoke as the system does; checks that it ends well and takes its engines along."""
        if self.stopped:
            return
        self.terminate()
        code = self.wait()
        assert code == 0, f"yoke ended with {code}"
        assert not self.left_over(), f"yoke left processes behind: {self.left_over()}"

    def destroy(self):
        if not self.stopped:
            self.process.kill()  # First, or it starts the next engine.
        self.process.wait()
        for pid in self.left_over():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not self.left_over(), "its processes are gone")
        self.stopped = True


def chat_body(model, content="Hello", **fields):
    return {"model": model, "messages": [{"role": "user", "content": content}], **fields}


class Sandbox:
    """A directory for one test's files, and the servers that run in it."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="yoke-e2e-"))
        self.servers = []

    def environment(self, **more):
        """That of the tests, without what would change a program's behaviour or a user's files."""
        prefixes = ("YOKE", "FAKE_ENGINE", "LLAMA_", "GGML_", "JOURNAL_STREAM")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}
        return {**kept, "XDG_CONFIG_HOME": str(self.directory / "config"),
                "XDG_STATE_HOME": str(self.directory / "state"), "TERM": "dumb", **more}

    def fake_model(self, script="", name=None, **options):
        """A model file that makes the fake engine follow `script`; the options of its table."""
        file = self.directory / f"{name or uuid.uuid4().hex[:8]}.gguf"
        file.write_bytes(GGUF_HEADER)
        file.with_name(file.name + ".fake").write_text("max_lifetime_s=300;" + script)
        return {"model_path": str(file), **options}

    def install_fake_engines(self, version="0.5.0", backends=("vulkan", "cpu")):
        """The fake engine as installed ones, in place of those of an earlier call; gives the
        environment that lets Yoke find them and no other."""
        engines = self.directory / "engines"
        shutil.rmtree(engines, ignore_errors=True)
        for backend in backends:
            directory = engines / f"llama.cpp-{version}" / backend
            directory.mkdir(parents=True)
            shutil.copy(FAKE_ENGINE, directory / "llama-server")
            (directory / "engine.json").write_text(json.dumps(
                {"name": "llama.cpp", "version": version, "backend": backend}))
        return {"YOKE_ENGINE_DIR": str(engines),
                "XDG_DATA_HOME": str(self.directory / "data")}

    def write_config(self, models, server=(), engine=FAKE_ENGINE, name="yoke.toml", engines=(),
                     tables=()):
        """`engine`: the llama-server to use; None is what is installed. `tables`: others than these,
        {"memory": {...}, "groups.big": {...}}."""
        others = dict(tables)
        tables = {"server": {"listen": "127.0.0.1:0", **dict(server)}, "engines": dict(engines)}
        if engine is not None:
            tables["engines"]["llama_server"] = str(engine)
        tables.update({f"models.{json.dumps(key)}": table for key, table in models.items()})
        tables.update(others)
        file = self.directory / name
        file.write_text(toml(tables))
        return file

    def serve(self, models, server=(), engine=FAKE_ENGINE, engines=(), env=(), tables=()):
        # Servers that run side by side can't share what they remember, nor a file whose changes
        # each of them takes over; one after another do.
        alone = all(yoke.stopped for yoke in self.servers)
        number = "" if alone else f"-{len(self.servers)}"
        file = self.write_config(models, server, engine, f"yoke{number}.toml", engines, tables)
        state = self.directory / f"state{number}"
        yoke = Yoke(file, self.environment(**{"XDG_STATE_HOME": str(state), **dict(env)}))
        self.servers.append(yoke)
        yoke.wait_until_listening()
        return yoke

    def serve_real(self, **options):
        """The real engine with the real model, called "smollm2"; returns when it is ready."""
        assert REAL_MODEL_FILE.exists(), f"{REAL_MODEL_FILE} is missing: run `make model`"
        yoke = self.serve({"smollm2": {**REAL_MODEL, **options}}, engine=None)
        yoke.wait_for_state("smollm2", "ready", REAL_LIMIT_S)
        return yoke

    def close(self):
        problems = []
        for yoke in self.servers:
            try:
                yoke.stop()
            except (AssertionError, subprocess.TimeoutExpired) as problem:
                problems.append(problem)
            finally:
                yoke.destroy()
        shutil.rmtree(self.directory)
        if problems:
            raise problems[0]


class E2eTest(unittest.TestCase):
    """A test with a sandbox. What Yoke logged is shown when it fails."""

    @classmethod
    def shared_sandbox(cls):
        """For servers that all tests of the class use: call it in setUpClass."""
        sandbox = Sandbox()
        cls.addClassCleanup(sandbox.close)
        return sandbox

    def setUp(self):
        self.sandbox = Sandbox()
        self.addCleanup(self.sandbox.close)
        self.addCleanup(self._keep_logs)
        self.logs = []

    def _keep_logs(self):
        self.logs = [yoke.log() for yoke in self.sandbox.servers]

    def run(self, result=None):
        problems = len(result.failures) + len(result.errors) if result is not None else 0
        super().run(result)
        if result is not None and len(result.failures) + len(result.errors) > problems:
            for log in self.logs:
                print(f"--- what Yoke logged in {self.id()}\n{log[-8000:]}", file=sys.stderr)
        return result

    def serve_one(self, script, server=()):
        """The fake engine with that script as the model "chat", when it is ready."""
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model(script)}, server)
        yoke.wait_for_state("chat", "ready")
        return yoke

    def once_file(self):
        """For the fake engine's once_file: a failure that strikes once."""
        return self.sandbox.directory / "struck"

    def check_error(self, reply, status, code, *mentions):
        """An error reply in OpenAI's form, with that code, whose message says what matters."""
        self.assertEqual(reply.status, status, reply)
        self.assertEqual(reply.headers["content-type"], "application/json")
        error = reply.error()
        self.assertEqual(error["code"], code, error)
        for mention in mentions:
            self.assertIn(mention, error["message"])


# The fake engine's text: token `index` of the reply with that seed.

def fnv1a64(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def token(seed, index):
    name = f"{seed}-{index}"
    return f"w{name}-{fnv1a64(name.encode()) % 2**32:08x} "


def fake_text(seed, count):
    return "".join(token(seed, index) for index in range(count))


def content_of(events):
    """What the payloads of a chat stream say; checks that it ends as it should."""
    events = list(events)
    assert events[-1] == "[DONE]", events[-3:]
    choices = [json.loads(event)["choices"] for event in events[:-1]]
    return "".join(choice[0]["delta"].get("content") or "" for choice in choices if choice)
