"""The configuration is changed while Yoke runs: only what changed restarts, and nobody notices."""

import itertools
import os
import random
import re
import signal
import subprocess
import threading
import time
import unittest

from harness import (
    YOKE,
    E2eTest,
    Yoke,
    chat_body,
    content_of,
    fake_text,
    is_running,
    until,
)

SAID = "Reloaded the configuration: "
REFUSED = "The configuration stays as it was: "
KEY = "0123456789abcdef-first"
OTHER_KEY = "0123456789abcdef-second"

RELOADS = 100
CLIENTS = 16
TOKENS = 40
SEED = 20261123


class ReloadCase(E2eTest):
    def setUp(self):
        super().setUp()
        self.files = {}

    def start(self, models, server=(), **options):
        """Serves them, and waits until all of them are ready."""
        yoke = self.sandbox.serve(models, server, **options)
        for model in models:
            yoke.wait_for_state(model, "ready")
        return yoke

    def model(self, name, script="tokens=3", **options):
        """A model with these options. Its file is written once: a new one would be a change too."""
        if name not in self.files:
            self.files[name] = self.sandbox.fake_model(script, name)
        return {**self.files[name], **options}

    def post_reload(self, yoke, headers=()):
        reply = yoke.post("/yoke/v1/reload", {}, headers)
        self.assertEqual(reply.status, 200, reply)
        return {key: names for key, names in reply.json().items() if names}

    def context_of(self, yoke, model):
        """What its engine was started with."""
        props = yoke.engine_get(model, "/props")
        return props["default_generation_settings"]["n_ctx"] * props["total_slots"]

    def models_of(self, yoke):
        return [model["id"] for model in yoke.get("/v1/models").json()["data"]]

    def wait_for_log(self, yoke, text, count=1):
        until(lambda: yoke.log().count(text) >= count, f"{count} times in the log: {text}")


class ReloadTest(ReloadCase):
    # What asks for it

    def test_sighup(self):
        yoke = self.start({"a": self.model("a")}, {"log_level": "debug"})
        for count in (1, 2, 3):
            yoke.process.send_signal(signal.SIGHUP)
            self.wait_for_log(yoke, f"{SAID}nothing changed.", count)
        self.sandbox.write_config({"a": self.model("a"), "b": self.model("b")},
                                  {"log_level": "debug"})
        yoke.process.send_signal(signal.SIGHUP)
        self.wait_for_log(yoke, f"{SAID}added b.")
        self.assertEqual(yoke.chat("b", seed=1).text(), fake_text(1, 3))

    def test_sighup_at_any_time_of_the_start(self):
        file = self.sandbox.write_config({"a": self.model("a")})
        yoke = Yoke(file, self.sandbox.environment())
        self.sandbox.servers.append(yoke)

        def caught():
            with open(f"/proc/{yoke.pid}/status", encoding="utf-8") as status:
                mask = re.search(r"SigCgt:\s+(\w+)", status.read())[1]
            return int(mask, 16) >> (signal.SIGHUP - 1) & 1

        until(caught, "Yoke takes the signal")
        while "Yoke listens" not in yoke.log() and yoke.process.poll() is None:
            yoke.process.send_signal(signal.SIGHUP)
            time.sleep(0.002)
        yoke.wait_until_listening()
        self.assertEqual(yoke.chat("a", seed=1).text(), fake_text(1, 3))

    def test_sighup_while_it_stops(self):
        yoke = self.start({"a": self.model("a", "tokens=20;tokens_per_s=20")})
        with yoke.stream("a", seed=1) as events:
            first = next(events)
            yoke.terminate()
            self.wait_for_log(yoke, "Stopping")
            yoke.process.send_signal(signal.SIGHUP)
            self.assertEqual(content_of([first, *events]), fake_text(1, 20))
        self.assertEqual(yoke.wait(), 0)
        self.assertNotIn(SAID, yoke.log())

    def test_file_that_is_written(self):
        yoke = self.start({"a": self.model("a")})
        self.sandbox.write_config({"a": self.model("a"), "b": self.model("b")})
        self.wait_for_log(yoke, f"{SAID}added b.")
        # As an editor does it.
        new = self.sandbox.write_config({"a": self.model("a"), "c": self.model("c")}, name="new")
        os.replace(new, new.with_name("yoke.toml"))
        self.wait_for_log(yoke, f"{SAID}added c; removed b.")
        self.assertEqual(self.models_of(yoke), ["a", "c"])

    def test_command(self):
        yoke = self.start({"a": self.model("a")})
        self.sandbox.write_config({"a": self.model("a", priority=1), "b": self.model("b")})
        done = self.yoke_reload(yoke)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("New: b.", done.stdout)
        self.assertEqual(self.models_of(yoke), ["a", "b"])
        self.sandbox.write_config({"a": self.model("a", prioriti=1)})
        done = self.yoke_reload(yoke)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("unknown key 'prioriti' in [models.a]. Did you mean 'priority'?", done.stderr)

    def yoke_reload(self, yoke):
        return subprocess.run([YOKE, "reload", "--url", yoke.url], capture_output=True, text=True,
                              timeout=30, check=False, env=self.sandbox.environment(),
                              stdin=subprocess.DEVNULL)

    # What becomes of models

    def test_only_what_changed_restarts(self):
        yoke = self.start({name: self.model(name) for name in "abc"})
        before = {name: yoke.instance(name)["pid"] for name in "abc"}
        self.sandbox.write_config({"a": self.model("a"), "b": self.model("b", n_ctx=512),
                                   "d": self.model("d")})
        self.assertEqual(self.post_reload(yoke),
                         {"added": ["d"], "removed": ["c"], "restarted": ["b"]})
        self.assertEqual(self.models_of(yoke), ["a", "b", "d"])
        self.assertEqual(yoke.chat("b", seed=1).text(), fake_text(1, 3))
        self.assertEqual(yoke.chat("d", seed=1).text(), fake_text(1, 3))
        self.check_error(yoke.chat("c"), 404, "model_not_found")
        self.assertEqual(yoke.instance("a")["pid"], before["a"])
        self.assertNotEqual(yoke.instance("b")["pid"], before["b"])
        self.assertEqual(self.context_of(yoke, "b"), 512)
        until(lambda: not is_running(before["c"]), "the removed model's engine has ended")
        self.assertEqual(self.post_reload(yoke), {})

    def test_stream_of_a_changed_model_is_finished_first(self):
        script = "tokens=25;tokens_per_s=25"
        yoke = self.start({"a": self.model("a", script)})
        before = yoke.instance("a")["pid"]
        with yoke.stream("a", seed=1) as events:
            first = next(events)
            self.sandbox.write_config({"a": self.model("a", script, n_ctx=512)})
            self.assertEqual(self.post_reload(yoke), {"restarted": ["a"]})
            with yoke.stream("a", seed=2) as others:  # Waits for the new engine.
                self.assertEqual(content_of([first, *events]), fake_text(1, 25))
                self.assertEqual(content_of(others), fake_text(2, 25))
        self.assertNotEqual(yoke.instance("a")["pid"], before)
        until(lambda: not is_running(before), "the former engine has ended")

    def test_stream_of_a_removed_model_is_finished(self):
        yoke = self.start({"a": self.model("a"), "b": self.model("b", "tokens=25;tokens_per_s=25")})
        engine = yoke.instance("b")["pid"]
        with yoke.stream("b", seed=1) as events:
            first = next(events)
            self.sandbox.write_config({"a": self.model("a")})
            self.assertEqual(self.post_reload(yoke), {"removed": ["b"]})
            self.check_error(yoke.chat("b"), 404, "model_not_found")
            self.assertEqual(content_of([first, *events]), fake_text(1, 25))
        until(lambda: not is_running(engine), "its engine has ended")

    def test_what_only_the_scheduler_needs_restarts_nothing(self):
        yoke = self.start({"a": self.model("a")})
        before = yoke.instance("a")["pid"]
        self.sandbox.write_config(
            {"a": self.model("a", priority=5, pinned=True, unload_after="1h", group="g",
                             max_waiting=3, preload=False)},
            tables={"groups.g": {"one_at_a_time": True}})
        self.assertEqual(self.post_reload(yoke), {"changed": ["a"]})
        self.assertTrue(yoke.instance("a")["pinned"])
        self.assertEqual(yoke.instance("a")["pid"], before)

    def test_model_that_was_unloaded_is_loaded_as_it_is_now(self):
        yoke = self.start({"a": self.model("a")})
        self.assertEqual(yoke.post("/yoke/v1/unload", {"model": "a"}).status, 200)
        until(lambda: yoke.instance("a")["pid"] in (None, 0), "it is unloaded")
        self.sandbox.write_config({"a": self.model("a", n_ctx=512)})
        self.post_reload(yoke)
        self.assertEqual(yoke.chat("a", seed=1).text(), fake_text(1, 3))
        self.assertEqual(self.context_of(yoke, "a"), 512)

    def test_missing_model_file_is_no_mistake_of_the_file(self):
        yoke = self.start({"a": self.model("a")})
        before = yoke.instance("a")["pid"]
        self.sandbox.write_config({"a": self.model("a"), "b": {"model_path": "/nowhere/b.gguf"}})
        self.assertEqual(self.post_reload(yoke), {"added": ["b"]})
        yoke.wait_for_state("b", "failed")
        self.assertEqual(yoke.instance("a")["pid"], before)

    # Bad files

    def test_bad_file_changes_nothing_and_says_why(self):
        yoke = self.start({"a": self.model("a")}, {"log_level": "debug"})
        before = yoke.instance("a")["pid"]
        file = self.sandbox.write_config({"a": self.model("a")})
        good = file.read_text()
        lines = good.count("\n")
        no_engine = good.replace("fake_engine", "no_engine")
        bad = {
            "syntax error": (good + "[models.", "config_invalid", f"yoke.toml:{lines + 1}:"),
            "unknown key": (good + "n_ctxx = 1", "config_invalid",
                            f"yoke.toml:{lines + 1}: unknown key 'n_ctxx'"),
            "unknown group": (good.replace("[models", "[groups.chat]\n[models")
                              + 'group = "caht"', "config_invalid", "Did you mean 'chat'?"),
            "no key": (good.replace("127.0.0.1:0", "0.0.0.0:0"), "api_key_required", "yoke.toml:2"),
            "no model": ("", "config_invalid", "no model is configured"),
            "no engine": (no_engine, "engine_not_found", "no_engine"),
        }
        for count, (name, (text, code, mention)) in enumerate(bad.items(), 1):
            with self.subTest(name):
                file.write_text(text)
                reply = yoke.post("/yoke/v1/reload", {})
                self.assertEqual(reply.error()["code"], code, reply)
                self.assertIn(mention, reply.error()["message"])
                # The file's watcher may have said so too.
                last = [line for line in yoke.log().splitlines() if REFUSED in line]
                self.assertGreaterEqual(len(last), count)
                self.assertIn(mention, last[-1])
                self.assertEqual(self.models_of(yoke), ["a"])
                self.assertEqual(yoke.chat("a", seed=1).text(), fake_text(1, 3))
                self.assertEqual(yoke.instance("a")["pid"], before)
        file.write_text(good)
        self.assertEqual(self.post_reload(yoke), {})

    def test_all_mistakes_at_once(self):
        yoke = self.start({"a": self.model("a")})
        self.sandbox.write_config({"a": self.model("a", n_ctx=-1)}, {"threads": -1})
        reply = yoke.post("/yoke/v1/reload", {})
        self.check_error(reply, 400, "config_invalid", "'threads' in [server]",
                         "'n_ctx' in [models.a]")

    # [server]

    def test_api_key(self):
        yoke = self.start({"a": self.model("a")})
        self.sandbox.write_config({"a": self.model("a")}, {"api_key": KEY})
        self.assertEqual(self.post_reload(yoke), {})
        self.check_error(yoke.get("/v1/models"), 401, "invalid_api_key")
        first, second = ({"Authorization": f"Bearer {key}"} for key in (KEY, OTHER_KEY))
        self.assertEqual(yoke.get("/v1/models", first).status, 200)
        self.sandbox.write_config({"a": self.model("a")}, {"api_key": OTHER_KEY})
        self.post_reload(yoke, first)
        self.check_error(yoke.get("/v1/models", first), 401, "invalid_api_key")
        self.assertEqual(yoke.get("/v1/models", second).status, 200)
        self.assertNotIn("0123456789abcdef", yoke.log())

    def test_key_file_is_read_again(self):
        key_file = self.sandbox.directory / "key"
        key_file.write_text(KEY)
        yoke = self.sandbox.serve({"a": self.model("a")}, {"api_key_file": str(key_file)})
        first, second = ({"Authorization": f"Bearer {key}"} for key in (KEY, OTHER_KEY))
        key_file.write_text(OTHER_KEY)
        self.post_reload(yoke, first)
        self.check_error(yoke.get("/v1/models", first), 401, "invalid_api_key")
        self.assertEqual(yoke.get("/v1/models", second).status, 200)

    def test_request_limit(self):
        yoke = self.start({"a": self.model("a")})
        self.sandbox.write_config({"a": self.model("a")}, {"max_request_size": "2KiB"})
        self.post_reload(yoke)
        self.check_error(yoke.chat("a", "x" * 4096), 413, "request_too_large")
        self.sandbox.write_config({"a": self.model("a")})
        self.post_reload(yoke)
        self.assertEqual(yoke.chat("a", "x" * 4096, seed=1).text(), fake_text(1, 3))

    def test_what_needs_a_restart_is_named(self):
        yoke = self.start({"a": self.model("a")})
        self.sandbox.write_config({"a": self.model("a")}, {"listen": "127.0.0.1:1", "threads": 1})
        changes = {"needs_restart": ["[server] listen", "[server] threads"]}
        self.assertEqual(self.post_reload(yoke), changes)
        self.wait_for_log(yoke, "needs a restart of yoke serve: [server] listen, [server] threads.")
        self.assertEqual(self.post_reload(yoke), changes, "as long as it is not done")
        self.assertEqual(yoke.chat("a", seed=1).text(), fake_text(1, 3))


class ReloadUnderLoadTest(ReloadCase):
    """One model stays as it is, one is tuned again and again, one has another priority each time,
    and one comes and goes."""

    def setUp(self):
        super().setUp()
        self.ends = threading.Event()
        self.problems = []
        self.finished = dict.fromkeys(("fixed", "tuned", "ranked", "guest"), 0)
        self.seeds = itertools.count(1)
        self.lock = threading.Lock()

    def models(self, turn):
        script = f"tokens={TOKENS};tokens_per_s=200;slots={CLIENTS}"
        models = {"fixed": self.model("fixed", script),
                  "tuned": self.model("tuned", script, n_ctx=CLIENTS * (64 + turn // 4)),
                  "ranked": self.model("ranked", script, priority=turn % 10)}
        if turn % 6 < 3:
            models["guest"] = self.model("guest", script)
        return models

    def ask(self, model):
        """One stream. The guest may have left."""
        seed = next(self.seeds)
        with self.yoke.connect(limit_s=60) as connection:
            connection.send("POST", "/v1/chat/completions",
                            chat_body(model, seed=seed, stream=True))
            status, headers = connection.head()
            if status != 200:
                body = b"".join(connection.pieces(headers))
                if not (model == "guest" and status == 404 and b'"model_not_found"' in body):
                    self.problems.append(f"{model}: {status} {body[:500]}")
                return
            text = content_of(connection.payloads(headers))
        if text != fake_text(seed, TOKENS):
            self.problems.append(f"{model}: stream {seed} says {text[:500]}")
        with self.lock:
            self.finished[model] += 1

    def client(self, number):
        models = random.Random(SEED + number)
        while not self.ends.is_set() and not self.problems:
            model = models.choice(list(self.finished))
            try:
                self.ask(model)
            except Exception as problem:  # pylint: disable=broad-except
                self.problems.append(f"{model}: {problem!r}")

    def streams(self):
        return sum(self.finished.values())

    def reload(self, turn):
        """By turns as a user does it."""
        self.sandbox.write_config(self.models(turn), name="new")
        os.replace(self.sandbox.directory / "new", self.sandbox.directory / "yoke.toml")
        if turn % 3 == 0:
            self.yoke.process.send_signal(signal.SIGHUP)
            expected = {"guest"} & set(self.models(turn))
            until(lambda: {"guest"} & set(self.models_of(self.yoke)) == expected,
                  "the file is taken over")
        else:
            self.post_reload(self.yoke)

    def test_100_reloads_with_16_streaming_clients(self):
        self.yoke = self.start(self.models(0))
        fixed, tuned, ranked = (self.yoke.instance(model)["pid"]
                                for model in ("fixed", "tuned", "ranked"))
        clients = [threading.Thread(target=self.client, args=(number,)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for turn in range(1, RELOADS + 1):
                before = self.streams()
                self.reload(turn)
                until(lambda: self.problems or self.streams() >= before + CLIENTS // 2,
                      f"answers go on after reload {turn}")
                self.assertEqual(self.problems, [])
        finally:
            self.ends.set()
            for client in clients:
                client.join(60)
        self.assertFalse(any(client.is_alive() for client in clients))
        self.assertEqual(self.problems, [])
        for model, count in self.finished.items():
            self.assertGreater(count, RELOADS // 2, self.finished)
        self.assertNotIn(REFUSED, self.yoke.log())
        self.assertEqual(self.models_of(self.yoke), list(self.models(RELOADS)))
        self.assertEqual(self.yoke.instance("fixed")["pid"], fixed)
        self.assertEqual(self.yoke.instance("ranked")["pid"], ranked)
        self.assertNotEqual(self.yoke.instance("tuned")["pid"], tuned)
        n_ctx = self.models(RELOADS)["tuned"]["n_ctx"]
        self.assertEqual(self.yoke.chat("tuned", seed=1).text(), fake_text(1, TOKENS))
        self.assertEqual(self.context_of(self.yoke, "tuned"), n_ctx)
        # Those of the models that are there; a guest's is gone.
        until(lambda: len(self.engines()) == len(self.models(RELOADS)), "no engine is left behind")

    def engines(self):
        return set(self.yoke.left_over()) - self.yoke.guards() - {self.yoke.pid}


if __name__ == "__main__":
    unittest.main()
