"""Models of which RPC servers compute a part: how their engine is started, and what becomes of
answers when a worker is lost."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import time
import unittest

from harness import (
    DATA_HOME,
    REAL_LIMIT_S,
    REAL_MODEL,
    REAL_MODEL_FILE,
    E2eTest,
    content_of,
    die_with_parent,
    environment_of,
    fake_text,
    is_running,
    until,
)

LOST = "yoke-rpc: worker lost: desk-2 (127.0.0.1:50052): connection closed by the worker"
THROWN = "decode() failed: yoke-rpc: desk-2 (127.0.0.1:50052): connection closed by the worker"
AWAY = "yoke-rpc: cannot use worker desk-2 (127.0.0.1:50052): connection refused"
NAMED = "desk-2 (127.0.0.1:50052)"
WORKERS = ["desk-2=127.0.0.1:50052", "127.0.0.1:50053"]
STOCK_LOADED = "load_backend: loaded RPC backend from /engine/libggml-rpc.so"
PIPELINED_LOADED = "load_backend: loaded RPC backend from /engine/libggml-rpc-yoke.so"
WARNING = "took llama.cpp's own RPC client"

REAL_ENGINE = DATA_HOME / "yoke/engines/llama.cpp-0.5.0/cpu"
MODULE = "libggml-rpc-yoke.so"
# An engine that was never ready is started again after 1, 1, 2, 4 and 8 seconds, and then left.
GIVE_UP_LIMIT_S = 60


def arguments_of(pid):
    return pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


def value_of(arguments, flag):
    return arguments[arguments.index(flag) + 1] if flag in arguments else None


class WorkerLostTest(E2eTest):
    """With the fake engine, which has no workers and says what it would say if it had."""

    def serve(self, script="", backends=("cpu",), **options):
        self.engines = self.sandbox.install_fake_engines(backends=backends)
        model = self.sandbox.fake_model(script, name="split", rpc_servers=WORKERS,
                                        backends=list(backends), **options)
        return self.sandbox.serve({"split": model}, engine=None, env=self.engines,
                                  engines={"software_devices": True})

    def serve_ready(self, *arguments, **options):
        yoke = self.serve(*arguments, **options)
        self.first = yoke.wait_for_state("split", "ready")["pid"]
        return yoke

    def explain(self, yoke):
        return json.loads(yoke.get("/yoke/v1/explain?model=split").body)

    def check_replaced(self, yoke, backend="cpu"):
        until(lambda: not is_running(self.first), "the engine without its worker was ended")
        second = until(lambda: (now := yoke.wait_for_state("split", "ready"))["pid"] != self.first
                       and now, "another engine serves")
        self.assertEqual((second["restarts"], second["backend"]), (1, backend))
        failure = self.explain(yoke)["failures"][0]
        self.assertEqual(failure["failure"], "worker_lost")
        self.assertIn(LOST, failure["evidence"])

    def test_engine_is_told_its_workers(self):
        yoke = self.serve_ready(rpc_timeout="30s")
        arguments, environment = arguments_of(self.first), environment_of(self.first)
        self.assertEqual(value_of(arguments, "--rpc"), "127.0.0.1:50052,127.0.0.1:50053")
        self.assertEqual(value_of(arguments, "--n-gpu-layers"), "999")
        self.assertEqual(value_of(arguments, "--load-mode"), "mmap")
        self.assertEqual(environment["YOKE_RPC_CLIENT"], "pipelined")
        self.assertEqual(environment["YOKE_RPC_WORKERS"],
                         "127.0.0.1:50052=desk-2,127.0.0.1:50053=127.0.0.1:50053")
        self.assertEqual(environment["YOKE_RPC_TIMEOUT_MS"], "30000")
        hashes = pathlib.Path(environment["YOKE_RPC_HASHES"])
        self.assertTrue(hashes.name.startswith("split.gguf-"), hashes)
        self.assertEqual(stat.S_IMODE(hashes.parent.stat().st_mode), 0o700)
        self.assertNotIn("LD_PRELOAD", environment)
        decisions = {made["setting"]: made for made in self.explain(yoke)["decisions"]}
        self.assertEqual(decisions["rpc_client"]["value"], "pipelined")

    def test_library_that_keeps_the_file_from_being_read_is_preloaded(self):
        self.sandbox.install_fake_engines(backends=("cpu",))
        install = self.sandbox.install_fake_engines

        def with_library(**options):
            environment = install(**options)
            directory = self.sandbox.directory / "engines/llama.cpp-0.5.0/cpu"
            shutil.copy(REAL_ENGINE / "libyoke-no-prefetch.so", directory)
            return environment

        if not (REAL_ENGINE / "libyoke-no-prefetch.so").exists():
            self.skipTest("the library is not installed: run `make engine`")
        self.sandbox.install_fake_engines = with_library
        self.serve_ready()
        self.assertTrue(environment_of(self.first)["LD_PRELOAD"].endswith("/libyoke-no-prefetch.so"))

    def test_one_gpu_here_comes_before_the_workers(self):
        self.serve_ready(backends=("vulkan", "cpu"))
        devices = value_of(arguments_of(self.first), "--device")
        self.assertEqual(devices, "Vulkan0,RPC0,RPC1")

    def test_stock_client(self):
        yoke = self.serve_ready(f"load_log={STOCK_LOADED}", rpc_client="stock")
        environment = environment_of(self.first)
        self.assertEqual([name for name in environment if name.startswith("YOKE_RPC")], [])
        self.assertEqual(value_of(arguments_of(self.first), "--cache-ram"), "0")
        self.assertEqual(yoke.instance("split")["rpc_client"], "stock")
        self.assertNotIn(WARNING, yoke.log())

    def test_pipelined_client(self):
        yoke = self.serve_ready(f"load_log={PIPELINED_LOADED}")
        self.assertEqual(yoke.instance("split")["rpc_client"], "pipelined")
        self.assertNotIn(WARNING, yoke.log())

    def test_stock_client_in_place_of_the_pipelined_is_told_once(self):
        refusal = "yoke-rpc: not loaded: built for ggml 0.25.1, this is ggml 0.26.0"
        yoke = self.serve_ready(f"load_log={refusal}\\n{STOCK_LOADED}")
        self.assertEqual(yoke.instance("split")["rpc_client"], "stock")
        self.assertEqual(yoke.log().count(WARNING), 1)
        self.assertIn("this is ggml 0.26.0", yoke.log())
        self.assertTrue(any(WARNING in note for note in self.explain(yoke)["notes"]))

    def test_another_worker_restarts_that_model_only(self):
        engines = self.sandbox.install_fake_engines(backends=("cpu",))
        models = {name: self.sandbox.fake_model(name=name, rpc_servers=[f"127.0.0.1:{port}"])
                  for name, port in (("a", 50052), ("b", 50053))}
        yoke = self.sandbox.serve(models, engine=None, env=engines)
        before = {name: yoke.wait_for_state(name, "ready")["pid"] for name in models}
        models["a"]["rpc_servers"] = ["127.0.0.1:50054"]
        self.sandbox.write_config(models, engine=None)
        after = until(lambda: (now := yoke.wait_for_state("a", "ready"))["pid"] != before["a"]
                      and now["pid"], "it starts with the other worker")
        self.assertEqual(value_of(arguments_of(after), "--rpc"), "127.0.0.1:50054")
        self.assertEqual(yoke.instance("b")["pid"], before["b"])

    def test_stream_goes_on(self):
        for at in (0, 4, 8):
            with self.subTest(at=at):
                self.once_file().unlink(missing_ok=True)
                yoke = self.serve_ready(
                    f"tokens=9;error_after_tokens={at};crash_log={LOST};message={THROWN};"
                    f"stays_broken=1;once_file={self.once_file()}")
                with yoke.stream("split", seed=5) as events:
                    self.assertEqual(content_of(events), fake_text(5, 9))
                self.check_replaced(yoke)

    def test_line_in_the_log_is_enough(self):
        """The engine says nothing more to its client; hang_timeout is two minutes."""
        yoke = self.serve_ready(f"tokens=9;hang_after_tokens=4;crash_log={LOST};"
                                f"once_file={self.once_file()}")
        begun = time.monotonic()
        with yoke.stream("split", seed=5) as events:
            self.assertEqual(content_of(events), fake_text(5, 9))
        self.assertLess(time.monotonic() - begun, 20)
        self.check_replaced(yoke)

    def test_idle_engine_is_replaced(self):
        yoke = self.serve_ready(f"tokens=9;break_after_ms=1000;crash_log={LOST};message={THROWN};"
                                f"once_file={self.once_file()}")
        self.check_replaced(yoke)
        self.assertEqual(yoke.chat("split", seed=5).text(), fake_text(5, 9))

    def test_backend_is_not_to_blame(self):
        script = (f"tokens=9;error_after_tokens=4;crash_log={LOST};message={THROWN};"
                  f"stays_broken=1;once_file={self.once_file()}")
        yoke = self.serve_ready(script, backends=("vulkan", "cpu"))
        self.assertEqual(yoke.chat("split", seed=5).text(), fake_text(5, 9))
        self.check_replaced(yoke, "vulkan")
        self.assertEqual(json.loads(yoke.get("/yoke/v1/quarantine").body)["quarantines"], [])

    def test_worker_that_is_away(self):
        journal = self.sandbox.directory / "journal"
        yoke = self.serve(f"tokens=9;crash_on_load=1;crash_log={AWAY};journal={journal}",
                          backends=("vulkan", "cpu"))
        reply = yoke.chat("split", limit_s=GIVE_UP_LIMIT_S)
        self.check_error(reply, 503, "worker_lost", NAMED, "connection refused", "ggml-rpc-server")
        self.assertGreater(int(reply.headers["retry-after"]), 0)
        self.assertEqual(set(journal.read_text().splitlines()), {"vulkan start"})
        error = yoke.instance("split")["error"]
        self.assertEqual(error["code"], "worker_lost")
        self.assertIn(NAMED, error["message"])
        self.assertEqual(json.loads(yoke.get("/yoke/v1/quarantine").body)["quarantines"], [])

    def test_worker_that_comes_back(self):
        yoke = self.serve(f"tokens=9;crash_on_load=1;crash_log={AWAY};once_file={self.once_file()}")
        self.assertEqual(yoke.chat("split", seed=5).text(), fake_text(5, 9))

    def test_last_words_of_the_stock_client(self):
        last = ("ggml-rpc.cpp:566: Remote RPC server crashed or returned malformed response")
        yoke = self.serve_ready(f"tokens=9;crash_after_tokens=4;crash_log={last};"
                                f"once_file={self.once_file()}", rpc_client="stock")
        with yoke.stream("split", seed=5) as events:
            self.assertEqual(content_of(events), fake_text(5, 9))
        self.assertEqual(self.explain(yoke)["failures"][0]["failure"], "worker_lost")


def prepare_worker():
    die_with_parent()
    # A client that goes in the middle of an answer ends it otherwise (docs/rpc.md).
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


class Worker:
    """A stock ggml-rpc-server on this machine's CPU."""

    def __init__(self, port, log):
        self.port = port
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                [REAL_ENGINE / "ggml-rpc-server", "-H", "127.0.0.1", "-p", str(port), "-t", "1"],
                stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                preexec_fn=prepare_worker)
        until(self.listens, "the worker listens", REAL_LIMIT_S)

    def listens(self):
        """To connect would take the place of its one client."""
        assert self.process.poll() is None, "the worker ended"
        wanted = f"0100007F:{self.port:04X} "
        lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()
        return any(wanted in line and " 0A " in line for line in lines)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@unittest.skipUnless((REAL_ENGINE / MODULE).exists(), f"there is no {MODULE}: run `make engine`")
class RealWorkerTest(E2eTest):
    """The real engine with two real workers, one of which is killed in the middle of an answer."""

    TOKENS = 160

    def setUp(self):
        super().setUp()
        assert REAL_MODEL_FILE.exists(), f"{REAL_MODEL_FILE} is missing: run `make model`"
        self.workers = []
        self.addCleanup(self.kill_workers)
        for _ in range(2):
            self.start_worker(free_port())

    def kill_workers(self):
        for worker in self.workers:
            worker.kill()

    def start_worker(self, port):
        self.workers.append(Worker(port, self.sandbox.directory / "worker.log"))

    def serve(self, env=(), **options):
        names = [f"desk-{i + 2}=127.0.0.1:{worker.port}" for i, worker in enumerate(self.workers)]
        model = {**REAL_MODEL, "rpc_servers": names, "backends": ["cpu"], **options}
        yoke = self.sandbox.serve({"smollm2": model}, engine=None, env=env)
        yoke.wait_for_state("smollm2", "ready", REAL_LIMIT_S)
        return yoke

    def ask(self, yoke):
        return yoke.stream("smollm2", "Tell me a long story about two oxen.", temperature=0,
                           max_tokens=self.TOKENS, ignore_eos=True, limit_s=REAL_LIMIT_S)

    def kill_in_the_middle(self, yoke, restart):
        """All events of an answer in the middle of which the second worker is killed."""
        events = []
        with self.ask(yoke) as stream:
            for event in stream:
                events.append(event)
                if len(events) == 20:
                    self.workers[1].kill()
                    if restart:
                        self.start_worker(self.workers[1].port)
        return events

    def test_reply_goes_on_when_the_worker_is_back(self):
        yoke = self.serve()
        self.assertEqual(yoke.instance("smollm2")["rpc_client"], "pipelined")
        self.assertNotIn(WARNING, yoke.log())
        with self.ask(yoke) as events:
            whole = content_of(events)
        events = self.kill_in_the_middle(yoke, restart=True)
        text = content_of(events)
        self.assertGreater(len(text), len(whole) // 2)
        finish = [choice["finish_reason"] for event in events[:-1]
                  for choice in json.loads(event)["choices"] if choice["finish_reason"]]
        self.assertEqual(finish, ["length"])
        failure = json.loads(yoke.get("/yoke/v1/explain?model=smollm2").body)["failures"][0]
        self.assertEqual(failure["failure"], "worker_lost")
        self.assertIn(f"desk-3 (127.0.0.1:{self.workers[1].port})", failure["evidence"])
        # Both workers have their part, and not one of them all.
        log = (self.sandbox.directory / "worker.log").read_text()
        self.assertGreaterEqual(log.count("Accepted client connection"), 4)
        self.assertEqual(yoke.wait_for_state("smollm2", "ready")["backend"], "cpu")

    def test_honest_error_when_it_stays_away(self):
        yoke = self.serve()
        begun = time.monotonic()
        events = self.kill_in_the_middle(yoke, restart=False)
        self.assertLess(time.monotonic() - begun, GIVE_UP_LIMIT_S)
        error = json.loads(events[-1])["error"]
        self.assertEqual(error["code"], "worker_lost")
        self.assertIn(f"desk-3 (127.0.0.1:{self.workers[1].port})", error["message"])
        reply = yoke.chat("smollm2", limit_s=GIVE_UP_LIMIT_S)
        self.check_error(reply, 503, "worker_lost", "desk-3")
        self.assertIn("retry-after", reply.headers)

    def test_engine_without_the_module_goes_on_with_a_warning(self):
        directory = self.sandbox.directory / "engines/llama.cpp-0.5.0/cpu"
        shutil.copytree(REAL_ENGINE, directory, symlinks=True, copy_function=os.link
                        if os.stat(REAL_ENGINE).st_dev == os.stat(self.sandbox.directory).st_dev
                        else shutil.copy2)
        (directory / MODULE).unlink()
        yoke = self.serve(env={"YOKE_ENGINE_DIR": str(directory.parent.parent)})
        self.assertEqual(yoke.instance("smollm2")["rpc_client"], "stock")
        self.assertEqual(yoke.log().count(WARNING), 1)
        self.assertIn(f"no {MODULE} beside it", yoke.log())
        self.assertEqual(yoke.chat("smollm2", max_tokens=4).status, 200)


if __name__ == "__main__":
    unittest.main()
