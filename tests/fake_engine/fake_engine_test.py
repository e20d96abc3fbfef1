"""Checks the fake engine itself with raw sockets. FAKE_ENGINE names the binary."""

import contextlib
import json
import math
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

BINARY = os.environ.get("FAKE_ENGINE", "fake_engine")
DEADLINE_S = 10


def fnv1a64(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def token(seed, index, size=0):
    name = f"{seed}-{index}"
    text = f"w{name}-{fnv1a64(name.encode()) % 2**32:08x}"
    return text.ljust(size - 1, ".") + " "


def words(count):
    return " ".join(f"word{index}" for index in range(count))


def text_of(seed, count, size=0):
    return "".join(token(seed, index, size) for index in range(count))


class Engine:
    """A running fake engine that listens on a free port."""

    def __init__(self, script="", args=(), wait="listening on", env=(), program=BINARY):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FAKE_ENGINE")}
        environment.update({"FAKE_ENGINE_SCRIPT": "max_lifetime_s=60;" + script}, **dict(env))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.lines = []
        self.process = subprocess.Popen(
            self.command(program, args),
            env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.reader = threading.Thread(target=self._read_log)
        self.reader.start()
        if wait:
            self.wait_for_log(wait)

    def command(self, program, args):
        return [program, "--host", "127.0.0.1", "--port", str(self.port), *args]

    def _read_log(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def wait_for_log(self, text):
        until(lambda: any(text in line for line in self.lines), f"no log line with {text!r}")

    def is_listening(self):
        with contextlib.suppress(ConnectionRefusedError), self.connect():
            return True
        return False

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def get(self, path, headers=""):
        with self.connect() as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
            return Reply(connection)

    def post(self, body, path="/v1/chat/completions", **fields):
        with self.connect() as connection:
            connection.sendall(request_bytes(body, path, **fields))
            return Reply(connection)

    def stats(self):
        return self.get("/fake/stats").json()

    def exit_code(self):
        return self.process.wait(DEADLINE_S)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()


class VllmEngine(Engine):
    """The same as vLLM, with a directory as its model."""

    def __init__(self, script="", args=(), wait="startup complete", **more):
        super().__init__(script, args, wait, **more)

    def command(self, program, args):
        return [program, "serve", *args, "--host=127.0.0.1", "--port", str(self.port)]


def shared_files_of(pid):
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    return {pathlib.Path(path) for path in re.findall(r"/dev/shm/\S+", maps)}


def request_bytes(body=None, path="/v1/chat/completions", headers="", **fields):
    if body is None:
        body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
    return head.encode() + data


def receive_to_the_end(connection):
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


class Reply:
    """Reads one reply off a socket, strictly."""

    def __init__(self, connection, buffer=b""):
        self.connection, self.buffer = connection, buffer
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.status = int(re.fullmatch(r"HTTP/1\.1 (\d{3}) .+", head[0])[1])
        self.headers = {}
        for line in head[1:]:
            name, value = line.split(": ", 1)
            self.headers[name.lower()] = value
        self.chunks = None
        if self.headers.get("transfer-encoding") == "chunked":
            self.chunks = list(self._read_chunks())
            self.body = b"".join(self.chunks)
        elif "content-length" in self.headers:
            self.body = self._take(int(self.headers["content-length"]))
        else:
            self.body = self._take_rest()

    def _fill(self):
        data = self.connection.recv(65536)
        if not data:
            raise EOFError(f"the connection ended within a reply, behind {self.buffer[-80:]!r}")
        self.buffer += data

    def _until(self, mark):
        while mark not in self.buffer:
            self._fill()
        text, self.buffer = self.buffer.split(mark, 1)
        return text

    def _take(self, size):
        while len(self.buffer) < size:
            self._fill()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def _take_rest(self):
        with contextlib.suppress(EOFError):
            while True:
                self._fill()
        return self._take(len(self.buffer))

    def _read_chunks(self):
        while size := int(self._until(b"\r\n"), 16):
            yield self._take(size)
            assert self._take(2) == b"\r\n"
        assert self._take(2) == b"\r\n"

    def json(self):
        return json.loads(self.body)

    def events(self):
        events = self.body.decode().split("\n\n")
        assert events.pop() == ""
        data = [event[6:] for event in events if event.startswith("data: ")]
        return [json.loads(item) if item != "[DONE]" else item for item in data]

    def text(self):
        deltas = (event["choices"] for event in self.events() if event != "[DONE]")
        return "".join(c[0]["delta"].get("content") or "" for c in deltas if c)


def until(condition, message):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(message)
        time.sleep(0.005)


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class FakeEngineTest(unittest.TestCase):
    def start(self, *args, **options):
        engine = Engine(*args, **options)
        self.addCleanup(engine.close)
        return engine

    def temporary_directory(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return pathlib.Path(directory.name)

    # Command line

    def run_once(self, *args, **env):
        return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=DEADLINE_S,
                              env={**os.environ, **env})

    def test_version_goes_to_stderr(self):
        done = self.run_once("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr, r"\nversion: 0 \(fake\)\nbuilt with .+ for .+\n$")

    def test_help_lists_flags_and_hides_scripted_ones(self):
        entry = "-c,    --ctx-size N                     size of the prompt context"
        self.assertIn(entry, self.run_once("--help").stdout)
        done = self.run_once("--help", FAKE_ENGINE_SCRIPT="hide_flags=--ctx-size,-c")
        self.assertNotIn("--ctx-size", done.stdout)

    def test_unknown_flag(self):
        done = self.run_once("--mlock")
        self.assertEqual((done.returncode, done.stderr.splitlines()[-1]), (1, "error: invalid argument: --mlock"))

    def test_unknown_script_key(self):
        done = self.run_once(FAKE_ENGINE_SCRIPT="tokenz=3")
        self.assertEqual(done.returncode, 1)
        self.assertIn('unknown key "tokenz"', done.stderr)

    def test_list_devices(self):
        self.assertEqual(self.run_once("--list-devices").stdout, "Available devices:\n  (none)\n")
        script = r"devices=Vulkan0: Some GPU (98304 MiB, 90000 MiB free)"
        done = self.run_once("--list-devices", FAKE_ENGINE_SCRIPT=script)
        self.assertIn("  Vulkan0: Some GPU (98304 MiB, 90000 MiB free)\n", done.stdout)

    def test_port_taken(self):
        first = self.start()
        done = self.run_once("--port", str(first.port))
        self.assertEqual(done.returncode, 1)
        self.assertIn("couldn't bind HTTP server socket, hostname: 127.0.0.1, port:", done.stderr)

    # Loading and stopping

    def test_loading_then_ready(self):
        engine = self.start("load_ms=300", wait=None)
        until(engine.is_listening, "not listening")
        reply = engine.get("/health")
        self.assertEqual(reply.status, 503)
        self.assertEqual(reply.json()["error"]["message"], "Loading model")
        engine.wait_for_log("model loaded")
        self.assertEqual(engine.get("/health").json(), {"status": "ok"})

    def test_missing_model(self):
        engine = self.start(args=("-m", "/nonexistent/model.gguf"), wait=None)
        self.assertEqual(engine.exit_code(), 1)
        engine.wait_for_log("exiting due to model loading error")

    def test_crash_on_load_only_once(self):
        once = self.temporary_directory() / "once"
        script = f"crash_on_load=1;crash_exit=7;crash_log=ggml_vulkan: no\\; memory;once_file={once}"
        first = self.start(script, wait=None)
        self.assertEqual(first.exit_code(), 7)
        first.wait_for_log("ggml_vulkan: no; memory")
        self.assertEqual(self.start(script).get("/health").status, 200)

    def test_sigterm_ends_streams_and_exits_with_0(self):
        engine = self.start("prefill_ms=60000")
        with engine.connect() as connection:
            connection.sendall(request_bytes(stream=True))
            connection.recv(100)
            engine.process.terminate()
            self.assertEqual(engine.exit_code(), 0)

    def test_ignore_term(self):
        engine = self.start("ignore_term=1")
        engine.process.terminate()
        engine.wait_for_log("SIGTERM ignored")
        self.assertEqual(engine.get("/health").status, 200)

    def test_lifetime_ends(self):
        self.assertEqual(self.start("max_lifetime_s=1").exit_code(), 0)

    def test_children_survive_a_crash_but_not_a_stop(self):
        for script, survive in (("crash_after_tokens=1;crash_signal=KILL", True), ("", False)):
            engine = self.start("spawn_children=2;" + script)
            children = engine.stats()["children"]
            self.assertEqual(len(children), 2)
            if survive:
                with self.assertRaises((EOFError, ConnectionError)):
                    engine.post(None, stream=True)
            else:
                engine.process.terminate()
            engine.exit_code()
            self.assertEqual([is_running(child) for child in children], [survive] * 2)
            engine.close()

    # Replies

    def test_stream_has_the_shape_of_llama_server(self):
        engine = self.start("tokens=3", args=("--alias", "small"))
        reply = engine.post(None, stream=True, seed=7, stream_options={"include_usage": True})
        self.assertEqual(reply.headers["content-type"], "text/event-stream")
        self.assertEqual(len(reply.chunks), 5)  # Three tokens, the end, [DONE].
        events = reply.events()
        self.assertEqual(events[0]["choices"][0]["delta"], {"role": "assistant", "content": None})
        self.assertEqual({e["object"] for e in events[:-1]}, {"chat.completion.chunk"})
        self.assertEqual({e["model"] for e in events[:-1]}, {"small"})
        self.assertEqual(reply.text(), text_of(7, 3))
        self.assertEqual(events[4]["choices"][0]["finish_reason"], "stop")
        self.assertEqual(events[4]["fake_checksum"], f"{fnv1a64(text_of(7, 3).encode()):016x}")
        self.assertEqual(events[5]["choices"], [])
        self.assertEqual(events[5]["usage"]["completion_tokens"], 3)
        self.assertEqual(events[6], "[DONE]")

    def test_whole_replies(self):
        engine = self.start("tokens=3;token_bytes=40")
        chat = engine.post(None, seed=1).json()
        self.assertEqual(chat["choices"][0]["message"]["content"], text_of(1, 3, 40))
        body = {"prompt": "x", "seed": 2, "max_tokens": 2}
        text = engine.post(body, "/v1/completions").json()
        self.assertEqual(text["choices"][0]["text"], text_of(2, 2, 40))
        self.assertEqual(text["choices"][0]["finish_reason"], "length")

    def test_progress_of_the_prompt(self):
        events = self.start().post(None, stream=True, return_progress=True).events()
        processed = [event["prompt_progress"]["processed"] for event in events
                     if event != "[DONE]" and "prompt_progress" in event]
        self.assertEqual(len(processed), 2)
        self.assertEqual(processed[0], 0)
        self.assertGreater(processed[1], 0)
        self.assertTrue(all("prompt_progress" in event for event in events[:2]))

    def test_text_stream(self):
        events = self.start().post({"prompt": "x", "seed": 2, "stream": True, "fake": "tokens=2"},
                                   "/v1/completions").events()
        self.assertEqual([e["choices"][0]["text"] for e in events[:-1]],
                         [token(2, 0), token(2, 1), ""])

    def test_embeddings(self):
        reply = self.start(args=("--embedding",)).post({"input": ["a", "b"]}, "/v1/embeddings")
        self.assertEqual([item["index"] for item in reply.json()["data"]], [0, 1])
        self.assertEqual(self.start().post({"input": "a"}, "/v1/embeddings").status, 501)

    def test_begun_reply_is_not_repeated_if_so_asked(self):
        whole = text_of(9, 6)
        begun = {"role": "assistant", "content": whole[:20]}
        reply = self.start("tokens=6").post({"messages": [begun], "stream": True,
                                             "continue_final_message": True})
        self.assertEqual(reply.text(), whole[20:])

    def test_begun_reply_goes_on(self):
        engine = self.start("tokens=6")
        whole = text_of(9, 6)
        for cut in (2, 5, len(token(9, 0)), len(whole) - 3):
            begun = {"role": "assistant", "content": whole[:cut]}
            reply = engine.post({"messages": [begun], "stream": True})
            # Of a cut within the seed's own digits nothing can be told.
            if cut > len("w9-0-"):
                self.assertEqual(reply.text(), whole)
            else:
                self.assertTrue(reply.text().startswith(whole[:cut]))
        prompt = {"prompt": "what? " + whole[:40]}
        text = engine.post(prompt, "/v1/completions").json()["choices"][0]["text"]
        self.assertEqual(text, whole[40:])

    def test_token_rate_and_timestamps(self):
        engine = self.start("tokens=11;tokens_per_s=100;timestamps=1;prefill_ms=50")
        start = time.monotonic_ns()
        events = engine.post(None, stream=True).events()
        stamps = [event["t"] for event in events if event != "[DONE]" and "t" in event]
        self.assertEqual(stamps, sorted(stamps))
        self.assertGreaterEqual(stamps[0] - start, 50e6)
        self.assertGreaterEqual(stamps[-1] - stamps[0], 99e6)

    def test_pings_while_nothing_comes(self):
        reply = self.start("prefill_ms=100;ping_ms=20;tokens=1").post(None, stream=True)
        self.assertIn(b":\n\n", reply.chunks)

    def test_model_file_and_its_neighbour_are_scripts(self):
        model = self.temporary_directory() / "model.gguf"
        model.write_text("FAKE-ENGINE-SCRIPT\n# a comment\ntokens=2\ntoken_bytes=30\n")
        model.with_name("model.gguf.fake").write_text("tokens=4")
        engine = self.start("tokens=1", args=("-m", str(model)))
        self.assertEqual(engine.post(None, stream=True, seed=3).text(), text_of(3, 4, 30))
        self.assertEqual(engine.get("/v1/models").json()["data"][0]["id"], str(model))

    def test_api_key_from_the_environment(self):
        engine = self.start("tokens=1", env={"LLAMA_API_KEY": "sesame"})
        self.assertEqual(engine.get("/health").status, 200)
        for path in ("/v1/models", "/slots", "/props"):
            self.assertEqual(engine.get(path).status, 401)
            self.assertEqual(engine.get(path, "Authorization: Bearer sesame\r\n").status, 200)
        self.assertEqual(engine.post({"content": "x"}, "/tokenize").json()["error"],
                         {"message": "Invalid API Key", "type": "authentication_error",
                          "code": 401})

    def test_api_key(self):
        engine = self.start(args=("--api-key", "sesame"))
        self.assertEqual(engine.get("/v1/models").status, 401)
        self.assertEqual(engine.get("/v1/models", "Authorization: Bearer sesame\r\n").status, 200)
        self.assertEqual(engine.get("/health").status, 200)

    # What slots hold

    def ask(self, engine, *messages):
        """How many tokens of the prompt were there already, and the answer."""
        roles = ("user", "assistant")
        listed = [{"role": roles[i % 2], "content": text} for i, text in enumerate(messages)]
        reply = engine.post({"messages": listed, "seed": 1}).json()
        cached = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.assertEqual(reply["timings"]["cache_n"], cached)
        self.assertEqual(reply["timings"]["prompt_n"], reply["usage"]["prompt_tokens"] - cached)
        return cached, reply["choices"][0]["message"]["content"]

    def act(self, engine, action, slot=0, name="a.part"):
        return engine.post({"filename": name}, f"/slots/{slot}?action={action}")

    def slots_engine(self, script="", directory=None, args=()):
        directory = directory or self.temporary_directory()
        return self.start("tokens=4;" + script, args=("--slot-save-path", str(directory), *args))

    def test_a_conversation_that_goes_on_is_not_computed_anew(self):
        engine = self.start("tokens=4")
        cached, said = self.ask(engine, words(100))
        self.assertEqual(cached, 0)
        self.assertEqual(self.ask(engine, words(100), said, "and?")[0], 1 + 1 + 100 + 1 + 4)
        stats = engine.stats()
        self.assertEqual(stats["cached_tokens"], 107)
        self.assertEqual(stats["prefilled_tokens"], 103 + 3)
        # Another one has another slot.
        self.assertEqual(self.ask(engine, "x " + words(100))[0], 0)
        self.assertEqual(self.ask(engine, words(100))[0], 102)
        held = [slot.get("n_prompt_tokens", 0) for slot in engine.get("/slots").json()]
        self.assertEqual(sorted(held), [0, 0, 107, 108])

    def test_what_is_moved_to_memory_comes_back(self):
        engine = self.start("tokens=4;ram_cache=1")
        self.ask(engine, words(100))
        self.ask(engine, "short")
        held = [slot.get("n_prompt_tokens", 0) for slot in engine.get("/slots").json()]
        self.assertEqual(sum(held), 1 + 1 + 1 + 1 + 4)
        self.assertEqual(self.ask(engine, words(100))[0], 102)

    def test_the_template_and_the_tokens_of_a_prompt(self):
        engine = self.start("tokens=0")
        body = {"messages": [{"role": "user", "content": words(20)}]}
        prompt = engine.post(body, "/apply-template").json()["prompt"]
        self.assertIn(words(20), prompt)
        tokens = engine.post({"content": prompt, "add_special": True}, "/tokenize").json()["tokens"]
        self.assertEqual(engine.post(body).json()["usage"]["prompt_tokens"], len(tokens))
        recall = {"prompt": tokens, "n_predict": 0, "stream": True, "return_progress": True}
        events = engine.post(recall, "/completion").events()
        self.assertEqual(events[0]["prompt_progress"]["cache"], len(tokens) - 1)
        self.assertEqual((events[-1]["stop"], events[-1]["id_slot"]), (True, 0))
        self.assertEqual(engine.post({}, "/apply-template").status, 400)

    def test_slots_are_saved_and_restored(self):
        directory = self.temporary_directory()
        engine = self.slots_engine(directory=directory)
        self.ask(engine, words(100))
        saved = self.act(engine, "save").json()
        self.assertEqual(saved["n_saved"], 107)
        file = directory / "a.part"
        self.assertEqual(file.stat().st_size, saved["n_written"])
        header = struct.unpack("<6I", file.read_bytes()[:24])
        self.assertEqual(header, (0x67677371, 3, 111, 2**32 - 1, 1, 107))

        other = self.slots_engine(directory=directory)
        self.assertEqual(self.act(other, "restore", slot=2).json()["n_restored"], 107)
        self.assertEqual(self.ask(other, words(100))[0], 102)
        self.assertEqual(self.act(other, "erase", slot=2).status, 200)
        self.assertEqual(self.ask(other, words(100))[0], 0)

    def test_slots_of_another_model_build_or_cache_type(self):
        directory = self.temporary_directory()
        engine = self.slots_engine(directory=directory)
        self.ask(engine, words(100))
        self.act(engine, "save")
        for script, args in (("model_seed=2", ()), ("version=7", ()), ("", ("-ctk", "q8_0"))):
            other = self.slots_engine(script, directory, args)
            self.assertEqual(self.act(other, "restore").status, 400)
            self.assertEqual(other.stats()["foreign_restores"], 1)
        file = directory / "a.part"
        file.write_bytes(file.read_bytes()[:-1])
        self.assertEqual(self.act(engine, "restore").status, 400)
        self.assertEqual(engine.stats()["foreign_restores"], 0)

    def test_slot_actions_are_checked(self):
        self.assertEqual(self.act(self.start(), "save").status, 501)
        engine = self.slots_engine()
        for name in ("", "../a", "a/b", "a.", "x" * 256):
            self.assertEqual(self.act(engine, "save", name=name).status, 400, name)
        self.assertEqual(self.act(engine, "restore", name="none").status, 400)
        self.assertEqual(self.act(engine, "other").status, 400)
        self.assertEqual(self.act(engine, "save", slot="x").status, 400)

    def test_saving_that_fails(self):
        directory = self.temporary_directory()
        engine = self.slots_engine("save_failure=short", directory)
        self.ask(engine, words(100))
        written = self.act(engine, "save").json()["n_written"]
        self.assertEqual((directory / "a.part").stat().st_size, written // 2)
        self.assertEqual(self.act(self.slots_engine("save_failure=error"), "save").status, 500)
        crashing = self.slots_engine("save_failure=crash")
        with self.assertRaises((EOFError, ConnectionResetError)):
            self.act(crashing, "save")
        self.assertEqual(crashing.exit_code(), -signal.SIGABRT)
        hanging = self.slots_engine("restore_failure=hang")
        with hanging.connect() as connection:
            connection.sendall(request_bytes({"filename": "a"}, "/slots/0?action=restore"))
            self.assertFalse(select.select([connection], [], [], 0.2)[0])
        self.assertEqual(hanging.get("/health").status, 200)

    # Slots and cancelling

    def busy_slots(self, engine):
        return sum(slot["is_processing"] for slot in engine.get("/slots").json())

    def test_client_that_leaves_frees_its_slot(self):
        for script in ("prefill_ms=60000", "hang_after_tokens=2", "tokens=1000;tokens_per_s=50"):
            for stream in (True, False):
                with self.subTest(script=script, stream=stream):
                    engine = self.start("slots=2;" + script)
                    connection = engine.connect()
                    connection.sendall(request_bytes(stream=stream))
                    until(lambda: self.busy_slots(engine) == 1, "the slot was never taken")
                    connection.close()
                    left = time.monotonic()
                    until(lambda: self.busy_slots(engine) == 0, "the slot was never freed")
                    self.assertLess(time.monotonic() - left, 1)
                    until(lambda: engine.stats()["cancelled"] == 1, "not counted")
                    engine.wait_for_log("cancelled: client disconnected")
                    engine.close()

    def test_requests_wait_in_line_for_a_slot(self):
        engine = self.start("prefill_ms=60000", args=("-np", "1"))
        first, second, third = (engine.connect() for _ in range(3))
        first.sendall(request_bytes(stream=True))
        until(lambda: engine.stats()["active"] == 1, "the first never began")
        second.sendall(request_bytes(stream=True))
        until(lambda: engine.stats()["waiting_for_slot"] == 1, "the second never waited")
        third.sendall(request_bytes(stream=True, fake="prefill_ms=0"))
        until(lambda: engine.stats()["waiting_for_slot"] == 2, "the third never waited")
        self.assertEqual(engine.get("/slots?fail_on_no_slot=1").status, 503)
        second.close()
        until(lambda: engine.stats()["waiting_for_slot"] == 1, "the second never left")
        first.close()
        self.assertEqual(Reply(third).events()[-1], "[DONE]")
        third.close()

    # Failures

    # Probabilities, which Yoke compares

    def first_tokens(self, engine, prompt=(5, 6, 7), **fields):
        reply = engine.post({"prompt": list(prompt), "n_predict": 4, "n_probs": 10, **fields},
                            "/completion")
        self.assertEqual(reply.status, 200)
        return reply.json()["completion_probabilities"]

    def test_tokens_of_a_text(self):
        engine = self.start()
        tokens = engine.post({"content": "the cat\n the  dog"}, "/tokenize").json()["tokens"]
        self.assertEqual(len(tokens), 4)
        self.assertEqual(tokens[0], tokens[2])
        self.assertEqual(len(set(tokens)), 3)
        special = engine.post({"content": "the", "add_special": True}, "/tokenize").json()
        self.assertEqual(special["tokens"], [1, tokens[0]])
        self.assertEqual(engine.post(b"oops", "/tokenize").status, 500)

    def test_probabilities_are_those_of_model_and_prompt(self):
        engine, other = self.start(), self.start()
        tokens = self.first_tokens(engine)
        self.assertEqual(len(tokens), 4)
        for position in tokens:
            top = position["top_logprobs"]
            self.assertEqual(len(top), 10)
            self.assertEqual(position["id"], top[0]["id"])
            odds = [math.exp(entry["logprob"]) for entry in top]
            self.assertEqual(odds, sorted(odds, reverse=True))
            self.assertAlmostEqual(sum(odds), 1, places=2)
        self.assertEqual(tokens, self.first_tokens(other))
        self.assertNotEqual(tokens, self.first_tokens(engine, (5, 6, 8)))
        self.assertNotEqual(tokens, self.first_tokens(self.start("model_seed=2")))

    def test_wrong_probabilities(self):
        answers = [self.first_tokens(self.start(script)) for script in ("", "wrong_probs=1")]
        right, wrong = ({entry["id"] for entry in answer[0]["top_logprobs"]} for answer in answers)
        self.assertFalse(right & wrong)

    # Backends

    def program_of(self, backend):
        directory = self.temporary_directory() / backend
        directory.mkdir()
        return shutil.copy(BINARY, directory / "llama-server")

    def test_script_for_one_backend(self):
        script = "tokens=3;vulkan:tokens=5;cpu:tokens=7;"
        for backend, count in (("vulkan", 5), ("cpu", 7), ("rocm", 3)):
            engine = self.start(script, program=self.program_of(backend))
            self.assertEqual(engine.post(None, seed=1, stream=True).text(), text_of(1, count))
        done = self.run_once("--list-devices", FAKE_ENGINE_SCRIPT="vulkan:nonsense=1")
        self.assertEqual(done.returncode, 1)

    def test_journal(self):
        journal = self.temporary_directory() / "journal"
        for backend in ("vulkan", "cpu"):
            engine = self.start(f"journal={journal}", program=self.program_of(backend))
            engine.post(None)
        self.first_tokens(engine)
        self.assertEqual(journal.read_text().splitlines(),
                         ["vulkan start", "vulkan /v1/chat/completions", "cpu start",
                          "cpu /v1/chat/completions", "cpu /completion"])

    # Failures

    def test_lives_on_but_computes_nothing_more(self):
        lost = "decode() failed: vk::Queue::submit: ErrorDeviceLost"
        struck = self.temporary_directory() / "struck"
        script = f"tokens=9;error_after_tokens=3;message={lost};stays_broken=1;once_file={struck}"
        engine = self.start(script)
        events = engine.post(None, stream=True, seed=1).events()
        self.assertEqual(events[-1]["error"]["message"], lost)
        for path in ("/v1/chat/completions", "/v1/completions", "/completion"):
            reply = engine.post({"messages": [], "prompt": "x"}, path)
            self.assertEqual((reply.status, reply.json()["error"]["message"]), (500, lost))
        self.assertEqual(engine.get("/health").status, 200)
        self.assertEqual(self.start(script).post(None, seed=1, stream=True).text(), text_of(1, 9))

    def test_breaks_by_itself(self):
        lost = "yoke-rpc: worker lost: desk-2 (127.0.0.1:1): gone"
        engine = self.start(f"load_log=loading;break_after_ms=200;crash_log={lost};message=lost")
        engine.wait_for_log(lost)
        # It breaks right after it said so.
        until(lambda: engine.post(None).status == 500, "it does not break")
        reply = engine.post(None)
        self.assertEqual((reply.status, reply.json()["error"]["message"]), (500, "lost"))
        self.assertEqual(engine.get("/health").status, 200)
        lines = [line.strip() for line in engine.lines]
        self.assertLess(lines.index("loading"), lines.index(lost))

    # vLLM

    def start_vllm(self, script="", args=(), **more):
        engine = VllmEngine(script, [str(self.temporary_directory()), *args], **more)
        self.addCleanup(engine.close)
        self.addCleanup(self.remove_processes_of, engine.stats()["children"])
        return engine

    def remove_processes_of(self, pids):
        for pid in filter(is_running, pids):
            for file in shared_files_of(pid):
                file.unlink(missing_ok=True)
            os.kill(pid, signal.SIGKILL)

    def test_vllm_tells_its_options_and_version(self):
        done = self.run_once("serve", "--help=all")
        self.assertEqual(done.returncode, 0)
        self.assertIn("\n  --max-model-len MAX_MODEL_LEN\n", done.stdout)
        self.assertNotIn("initializing", done.stderr)
        refused = self.run_once("serve", "DIR", "--mlock")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("vllm: error: unrecognized arguments: --mlock", refused.stderr)
        program = shutil.copy(BINARY, self.temporary_directory() / "vllm")
        done = subprocess.run([program, "--version"], capture_output=True, text=True,
                              env={"FAKE_ENGINE_SCRIPT": "version=0.32.0+cpu"}, timeout=DEADLINE_S)
        self.assertEqual((done.returncode, done.stdout), (0, "0.32.0+cpu\n"))

    def test_vllm_chats(self):
        engine = self.start_vllm("tokens=4", ["--served-model-name", "m"])
        health = engine.get("/health")
        self.assertEqual((health.status, health.body), (200, b""))
        self.assertEqual(engine.get("/v1/models").json()["data"][0]["id"], "m")
        reply = engine.post(None, stream=True, return_progress=True, seed=1)
        self.assertEqual(reply.text(), text_of(1, 4))
        self.assertNotIn(b"prompt_progress", reply.body)
        self.assertIn("vllm:generation_tokens_total", engine.get("/metrics").body.decode())
        tokens = engine.post({"model": "m", "prompt": "the cat"}, "/tokenize").json()["tokens"]
        self.assertEqual(len(tokens), 2)
        for path in ("/slots", "/props", "/completion"):
            self.assertEqual(engine.get(path).status, 404)

    def test_vllm_continues_only_if_so_asked(self):
        engine = self.start_vllm("tokens=4")
        begun = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": text_of(1, 2)}]
        reply = engine.post({"messages": begun, "stream": True, "continue_final_message": True})
        self.assertEqual(text_of(1, 2) + reply.text(), text_of(1, 4))
        reply = engine.post({"messages": begun, "stream": True, "seed": 2})
        self.assertEqual(reply.text(), text_of(2, 4))

    def test_vllm_asks_for_its_key(self):
        engine = self.start_vllm("tokens=1", env={"VLLM_API_KEY": "sesame"})
        self.assertEqual(engine.get("/health").status, 200)
        self.assertEqual(engine.get("/v1/models").status, 401)
        reply = engine.get("/v1/models", "Authorization: Bearer sesame\r\n")
        self.assertEqual(reply.status, 200)

    def test_vllm_leaves_processes_and_files_behind_when_killed(self):
        engine = self.start_vllm()
        children = engine.stats()["children"]
        self.assertEqual(len(children), 2)
        files = shared_files_of(engine.process.pid)
        self.assertEqual({re.sub("[0-9a-f]{8}", "", file.name) for file in files},
                         {"psm_", "sem.mp-"})
        engine.process.kill()
        engine.exit_code()
        for pid in children:
            self.assertTrue(is_running(pid))
            self.assertEqual(shared_files_of(pid), files)
        self.assertTrue(all(file.exists() for file in files))

    def test_vllm_takes_all_along_when_it_is_stopped(self):
        engine = self.start_vllm()
        children = engine.stats()["children"]
        files = shared_files_of(engine.process.pid)
        engine.process.terminate()
        self.assertEqual(engine.exit_code(), 0)
        until(lambda: not any(map(is_running, children)), "children are left")
        self.assertFalse(any(file.exists() for file in files))

    def test_crash_in_a_stream(self):
        cases = (("crash_signal=SEGV", -signal.SIGSEGV), ("crash_signal=KILL", -signal.SIGKILL),
                 ("crash_exit=3", 3), ("", -signal.SIGABRT))
        for how, code in cases:
            with self.subTest(how=how):
                engine = self.start(f"crash_after_tokens=2;crash_log=device lost;{how}")
                with engine.connect() as connection:
                    connection.sendall(request_bytes(stream=True, seed=5))
                    received = receive_to_the_end(connection)
                self.assertEqual(engine.exit_code(), code)
                engine.wait_for_log("device lost")
                self.assertIn(token(5, 1).encode(), received)
                self.assertNotIn(token(5, 2).encode(), received)

    def test_broken_streams(self):
        engine = self.start("slots=8")
        for script, error in (("half_close_after_tokens=2", EOFError),
                              ("reset_after_tokens=2", ConnectionResetError),
                              ("garbage_chunk=2", ValueError),
                              ("garbage=1", (TypeError, EOFError))):
            with self.subTest(script=script), self.assertRaises(error):
                engine.post(None, stream=True, fake=script)
        with self.assertRaises(EOFError):
            engine.post(None, fake="half_close_after_tokens=2")
        until(lambda: engine.stats()["failed"] == 5, "not all were counted")

    def test_scripted_errors(self):
        engine = self.start()
        reply = engine.post(None, stream=True, fake="status=503;message=too busy")
        self.assertEqual(reply.status, 503)
        self.assertEqual(reply.json(), {"error": {"code": 503, "message": "too busy",
                                                  "type": "unavailable_error"}})
        events = engine.post(None, stream=True, fake="error_after_tokens=1").events()
        self.assertEqual(events[-1]["error"]["code"], 500)
        late = engine.post(None, stream=True, fake="error_after_tokens=0;late_headers=1")
        self.assertEqual(late.status, 500)

    def test_odd_framing(self):
        engine = self.start()
        reply = engine.post(None, seed=4, fake="no_content_length=1;tokens=2")
        self.assertNotIn("content-length", reply.headers)
        self.assertEqual(reply.json()["choices"][0]["message"]["content"], text_of(4, 2))
        reply = engine.post(None, fake="big_header_bytes=100000")
        self.assertEqual(len(reply.headers["x-fake-padding"]), 100000)

    def test_exit_after_requests(self):
        engine = self.start("exit_after_requests=2;crash_exit=9")
        self.assertEqual(engine.post(None).status, 200)
        engine.post(None, stream=True)
        self.assertEqual(engine.exit_code(), 9)

    # HTTP

    def test_keep_alive_and_pipelining(self):
        engine = self.start("tokens=2;keep_alive_ms=200")
        with engine.connect() as connection:
            connection.sendall(b"".join(request_bytes(stream=n % 2 == 0, seed=n) for n in range(6)))
            buffer = b""
            for n in range(6):
                reply = Reply(connection, buffer)
                buffer = reply.buffer
                self.assertIn(token(n, 1), reply.body.decode())
            self.assertEqual(connection.recv(1), b"")  # Closed when it was idle for too long.

    def test_keep_alive_limit(self):
        engine = self.start("keep_alive_requests=2")
        with engine.connect() as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            first = Reply(connection)
            second = Reply(connection, first.buffer)
            self.assertEqual(second.headers["connection"], "close")
            self.assertEqual(connection.recv(1), b"")

    def test_bad_requests(self):
        head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
        cases = (("nonsense\r\n\r\n", 400), ("GET /health HTTP/1.1\r\n\r\n", 400),
                 ("GET /health HTTP/1.1\r\nHost : x\r\n\r\n", 400),
                 ("GET /health HTTP/1.1\nHost: x\n\r\n\r\n", 400),
                 (head + "Content-Length: -1\r\n\r\n", 400),
                 (head + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
                 (head + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
                 (head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
                 (head + "Content-Length: 67108865\r\n\r\n", 413),
                 (head + "Content-Length: 4\r\n\r\n{\"a\"", 500),
                 (head + "X: " + "y" * 40000, 431))
        engine = self.start()
        for request, status in cases:
            with self.subTest(request=request[:120]), engine.connect() as connection:
                connection.sendall(request.encode())
                self.assertEqual(Reply(connection).status, status)
        self.assertEqual(engine.stats()["bad_requests"], len(cases) - 1)

    def test_chunked_request_and_large_body(self):
        engine = self.start("tokens=1")
        body = json.dumps({"prompt": "x" * 5_000_000, "seed": 1}).encode()
        with engine.connect() as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                               b"Transfer-Encoding: chunked\r\n\r\n")
            self.assertEqual(connection.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            for at in range(0, len(body), 70_000):
                part = body[at:at + 70_000]
                connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            connection.sendall(b"0\r\n\r\n")
            self.assertEqual(Reply(connection).json()["choices"][0]["text"], token(1, 0))
        self.assertEqual(engine.stats()["last_body_bytes"], len(body))

    def test_slow_client_holds_the_engine_back(self):
        engine = self.start("tokens=20000;token_bytes=4000")
        with engine.connect() as connection:
            connection.sendall(request_bytes(stream=True, seed=1))
            select.select([connection], [], [], DEADLINE_S)
            until(lambda: self.stopped_sending(engine), "the engine never stopped sending")
            self.assertLess(engine.stats()["tokens_sent"], 20000)
            self.assertEqual(len(Reply(connection).chunks), 20002)

    def stopped_sending(self, engine):
        before = engine.stats()["tokens_sent"]
        time.sleep(0.05)
        return before == engine.stats()["tokens_sent"] > 0

    def test_300_streams_at_once(self):
        engine = self.start("slots=300;tokens=20;tokens_per_s=20;prefill_ms=300")
        connections = [engine.connect() for _ in range(300)]
        for seed, connection in enumerate(connections):
            connection.sendall(request_bytes(stream=True, seed=seed))
        for seed, connection in enumerate(connections):
            reply = Reply(connection)
            self.assertEqual(reply.text(), text_of(seed, 20))
            connection.close()
        until(lambda: engine.stats()["completed"] == 300, "not all were counted")
        self.assertEqual(engine.stats()["max_active"], 300)


if __name__ == "__main__":
    unittest.main()
