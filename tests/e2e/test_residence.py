"""Which models are in memory, as users see it and change it: load, unload, pin, unpin and ps."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time
import unittest

from harness import YOKE, E2eTest, chat_body, content_of, fake_text, until

LOAD, UNLOAD, PIN, UNPIN = (f"/yoke/v1/{verb}" for verb in ("load", "unload", "pin", "unpin"))
CHAT = "/v1/chat/completions"
MIB = 2**20


class ResidenceCase(E2eTest):
    def fake_models(self, **scripts):
        """`scripts`: by name; models that nobody loads by himself."""
        return {name: self.sandbox.fake_model(script, preload=False)
                for name, script in scripts.items()}

    def wait_for(self, yoke, model, **expected):
        """Until the model's instance has these fields."""
        def look():
            instance = yoke.instance(model)
            return instance if all(instance[k] == v for k, v in expected.items()) else None

        return until(look, f"{model} has {expected}")

    def command(self, yoke, *arguments):
        return subprocess.run([YOKE, *arguments, "--url", yoke.url], capture_output=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL,
                              env=self.sandbox.environment())

    def output_of(self, yoke, *arguments):
        done = self.command(yoke, *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def check_failure(self, done, code, *mentions):
        self.assertEqual((done.returncode, done.stdout), (code, ""), done)
        for mention in mentions:
            self.assertIn(mention, done.stderr)


class LoadTest(ResidenceCase):
    def test_load_and_unload(self):
        yoke = self.sandbox.serve(self.fake_models(chat="tokens=3;load_ms=300"))
        self.assertEqual(yoke.instance("chat")["state"], "planned")
        self.assertEqual(yoke.get("/health").json(),
                         {"status": "ok", "models": {"chat": "planned"}})
        reply = yoke.post(LOAD, {"model": "chat"})
        self.assertEqual((reply.status, reply.json()),
                         (200, {"model": "chat", "state": "starting"}))
        self.assertEqual(yoke.get("/health").json()["status"], "loading")
        engine = yoke.wait_for_state("chat", "ready")["pid"]
        self.assertEqual(yoke.post(LOAD, {"model": "chat"}).json()["state"], "ready")

        reply = yoke.post(UNLOAD, {"model": "chat"})
        self.assertEqual((reply.status, reply.json()["model"]), (200, "chat"))
        self.assertIn(reply.json()["state"], ("ready", "draining", "stopped"))
        self.assertEqual(yoke.wait_for_state("chat", "stopped")["pid"], 0)
        self.assertEqual(yoke.get("/health").json()["status"], "ok")

        self.assertEqual(yoke.chat("chat", seed=1).text(), fake_text(1, 3))
        self.assertNotEqual(yoke.instance("chat")["pid"], engine)
        metrics = yoke.get("/metrics").body.decode()
        self.assertIn('yoke_model_loads_total{model="chat"} 2\n', metrics)
        self.assertIn('yoke_model_evictions_total{model="chat"} 0\n', metrics)

    def test_load_that_waits(self):
        yoke = self.sandbox.serve(self.fake_models(chat="load_ms=500"))
        begin = time.monotonic()
        reply = yoke.post(LOAD, {"model": "chat", "wait": True})
        self.assertEqual((reply.status, reply.json()), (200, {"model": "chat", "state": "ready"}))
        self.assertGreaterEqual(time.monotonic() - begin, 0.5)
        # It has given its place back.
        self.assertEqual(yoke.post(UNLOAD, {"model": "chat"}).status, 200)
        yoke.wait_for_state("chat", "stopped", 5)

    def test_load_that_fails_says_why(self):
        missing = self.sandbox.fake_model(preload=False)
        pathlib.Path(missing["model_path"]).unlink()
        yoke = self.sandbox.serve({
            "missing": missing, **self.fake_models(crash="crash_on_load=1;crash_exit=3"),
            "first": self.sandbox.fake_model(group="one", pinned=True),
            "second": self.sandbox.fake_model(group="one", preload=False)},
            tables={"groups.one": {"one_at_a_time": True}})
        yoke.wait_for_state("first", "ready")
        for wait in (True, False):
            with self.subTest(wait=wait):
                reply = yoke.post(LOAD, {"model": "second", "wait": wait})
                self.check_error(reply, 503, "blocked_by_pin", "'first'", "yoke unpin first")
                self.assertNotIn("retry-after", reply.headers)
        self.assertEqual(yoke.instance("second")["error"]["code"], "blocked_by_pin")
        reply = yoke.post(LOAD, {"model": "missing", "wait": True})
        self.check_error(reply, 503, "model_file_missing", missing["model_path"])
        reply = yoke.post(LOAD, {"model": "crash", "wait": True})
        self.check_error(reply, 503, "engine_failed", "exit code 3")
        # An order is an order: it tries again at once, other than a request.
        restarts = yoke.instance("crash")["restarts"]
        self.check_error(yoke.post(CHAT, chat_body("crash")), 503, "engine_failed")
        self.assertEqual(yoke.instance("crash")["restarts"], restarts)
        reply = yoke.post(LOAD, {"model": "crash", "wait": True})
        self.check_error(reply, 503, "engine_failed", "exit code 3")
        self.assertGreater(yoke.instance("crash")["restarts"], restarts)

    def test_load_that_takes_too_long(self):
        yoke = self.sandbox.serve(self.fake_models(chat="hang_on_load=1"),
                                  {"start_timeout": "300ms"})
        reply = yoke.post(LOAD, {"model": "chat", "wait": True})
        self.check_error(reply, 503, "model_loading", "chat")
        self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)

    def test_client_that_does_not_wait_any_longer(self):
        yoke = self.sandbox.serve(self.fake_models(chat="load_ms=3000"))
        with yoke.connect() as connection:
            connection.send("POST", LOAD, {"model": "chat", "wait": True})
            self.wait_for(yoke, "chat", waiting=1)
        self.wait_for(yoke, "chat", waiting=0)
        self.assertEqual(yoke.metric("yoke_clients_gone_total"), 1)

    def test_bad_requests(self):
        yoke = self.sandbox.serve(self.fake_models(chat=""))
        for path in (LOAD, UNLOAD, PIN, UNPIN):
            with self.subTest(path):
                reply = yoke.post(path, {"model": "chta"})
                self.check_error(reply, 404, "model_not_found", "'chat'")
                self.check_error(yoke.post(path, {}), 400, "model_required")
                self.check_error(yoke.post(path, {"model": 1}), 400, "invalid_json", "model")
                self.check_error(yoke.post(path, b"chat"), 400, "invalid_json")
                self.check_error(yoke.post(path, {"model": "x" * 70_000}), 413, "request_too_large")
                reply = yoke.get(path)
                self.check_error(reply, 405, "method_not_allowed", path)
                self.assertEqual(reply.headers["allow"], "POST")
        self.check_error(yoke.post(LOAD, {"model": "chat", "wait": 1}), 400, "invalid_json", "wait")
        self.assertEqual(yoke.instance("chat")["state"], "planned")


class UnloadTest(ResidenceCase):
    def test_running_answer_is_finished(self):
        yoke = self.serve_one("tokens=20;tokens_per_s=20")
        with yoke.stream("chat", seed=1) as events:
            first = next(events)
            reply = yoke.post(UNLOAD, {"model": "chat"})
            self.assertEqual((reply.status, reply.json()["model"]), (200, "chat"))
            self.assertEqual(yoke.instance("chat")["next"], "stops when it has answered")
            self.assertEqual(content_of([first, *events]), fake_text(1, 20))
        yoke.wait_for_state("chat", "stopped", 5)

    def test_those_who_wait_are_told(self):
        yoke = self.sandbox.serve(self.fake_models(chat="load_ms=20000"))
        with contextlib.ExitStack() as stack:
            waiting = [stack.enter_context(yoke.connect()) for _ in range(4)]
            for connection in waiting[:3]:
                connection.send("POST", CHAT, chat_body("chat"))
            waiting[3].send("POST", LOAD, {"model": "chat", "wait": True})
            self.wait_for(yoke, "chat", waiting=4)
            yoke.post(UNLOAD, {"model": "chat"})
            for connection in waiting:
                reply = connection.reply()
                self.check_error(reply, 503, "model_unloaded", "'chat'")
                self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)
        # It ends although it is still loading.
        yoke.wait_for_state("chat", "stopped", 10)

    def test_request_that_comes_after_it_loads_it_again(self):
        yoke = self.serve_one("tokens=20;tokens_per_s=20")
        with yoke.stream("chat", seed=1) as events:
            first = next(events)
            yoke.post(UNLOAD, {"model": "chat"})
            with yoke.connect() as connection:
                connection.send("POST", CHAT, chat_body("chat", seed=2))
                self.assertEqual(content_of([first, *events]), fake_text(1, 20))
                self.assertEqual(connection.reply().text(), fake_text(2, 20))
        metrics = yoke.get("/metrics").body.decode()
        self.assertIn('yoke_model_loads_total{model="chat"} 2\n', metrics)

    def test_load_takes_an_unload_back(self):
        yoke = self.serve_one("tokens=20;tokens_per_s=20")
        engine = yoke.instance("chat")["pid"]
        with yoke.stream("chat", seed=1) as events:
            first = next(events)
            yoke.post(UNLOAD, {"model": "chat"})
            reply = yoke.post(LOAD, {"model": "chat", "wait": True})
            self.assertEqual(reply.json(), {"model": "chat", "state": "ready"})
            self.assertEqual(content_of([first, *events]), fake_text(1, 20))
        self.assertEqual(yoke.chat("chat").status, 200)
        self.assertEqual(yoke.instance("chat")["pid"], engine)


class PinTest(ResidenceCase):
    def serve_rivals(self):
        models = {name: self.sandbox.fake_model("tokens=3", group="one", preload=False)
                  for name in ("a", "b")}
        return self.sandbox.serve(models, tables={"groups.one": {"one_at_a_time": True}})

    def test_pinned_model_is_loaded_and_stays(self):
        yoke = self.serve_rivals()
        self.assertEqual(yoke.chat("b").status, 200)
        self.assertEqual(yoke.post(PIN, {"model": "a"}).status, 200)
        pinned = yoke.wait_for_state("a", "ready")
        self.assertTrue(pinned["pinned"])
        self.assertFalse(yoke.instance("b")["pinned"])
        self.assertEqual(yoke.instance("b")["state"], "stopped")
        reply = yoke.chat("b")
        self.check_error(reply, 503, "blocked_by_pin", "'a'", "yoke unpin a")
        self.assertNotIn("retry-after", reply.headers)
        self.assertEqual(yoke.instance("a")["pid"], pinned["pid"])

        self.assertEqual(yoke.post(UNPIN, {"model": "a"}).status, 200)
        self.assertFalse(yoke.instance("a")["pinned"])
        self.assertEqual(yoke.chat("b").status, 200)
        self.assertEqual(yoke.instance("a")["state"], "stopped")
        metrics = yoke.get("/metrics").body.decode()
        for line in ('loads_total{model="a"} 1', 'loads_total{model="b"} 2',
                     'evictions_total{model="a"} 1', 'evictions_total{model="b"} 1'):
            self.assertIn(f"yoke_model_{line}\n", metrics)

    def test_pinned_model_comes_back_after_a_crash(self):
        yoke = self.serve_rivals()
        yoke.post(PIN, {"model": "a"})
        engine = yoke.wait_for_state("a", "ready")["pid"]
        os.kill(engine, signal.SIGKILL)
        # Nobody asks for it.
        until(lambda: yoke.instance("a")["restarts"] == 1, "the loss is noticed")
        self.assertNotEqual(yoke.wait_for_state("a", "ready")["pid"], engine)
        self.check_error(yoke.chat("b"), 503, "blocked_by_pin", "'a'")

    def test_unload_ends_a_pin(self):
        yoke = self.serve_rivals()
        yoke.post(PIN, {"model": "a"})
        yoke.wait_for_state("a", "ready")
        yoke.post(UNLOAD, {"model": "a"})
        self.assertFalse(yoke.wait_for_state("a", "stopped")["pinned"])
        self.assertEqual(yoke.chat("b").status, 200)


class InstancesTest(ResidenceCase):
    def test_says_what_happens(self):
        yoke = self.sandbox.serve(self.fake_models(chat="tokens=3", slow="load_ms=3000"),
                                  tables={"memory": {"host": "1GiB"}})
        fresh = yoke.instance("chat")
        self.assertEqual((fresh["pinned"], fresh["waiting"], fresh["last_used_s"], fresh["next"],
                          fresh["memory_bytes"]), (False, 0, None, "", None))
        yoke.chat("chat")
        self.assertLess(yoke.instance("chat")["last_used_s"], 10)
        self.assertGreater(yoke.instance("chat")["n_ctx"], 0)
        with yoke.connect() as connection:
            connection.send("POST", CHAT, chat_body("slow"))
            slow = self.wait_for(yoke, "slow", state="starting", waiting=1)
            self.assertRegex(slow["next"], r"^ready (in about .*|soon)$")
            self.assertEqual(connection.reply().status, 200)
        self.assertGreaterEqual(yoke.instance("slow")["load_time_s"], 2.5)
        memory = yoke.get("/yoke/v1/instances").json()["memory"]
        self.assertEqual((memory[0]["name"], memory[0]["budget"]), ("system memory", 1024 * MIB))
        self.assertLessEqual(memory[0]["used"] + memory[0]["promised"], memory[0]["budget"])

    def test_says_when_an_idle_model_goes(self):
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model(unload_after="1h")})
        yoke.wait_for_state("chat", "ready")
        self.assertRegex(yoke.instance("chat")["next"], "^unloads in (1 h|59 min)")


class CommandsTest(ResidenceCase):
    def test_load_unload_pin(self):
        yoke = self.sandbox.serve(self.fake_models(chat="load_ms=300", other=""))
        self.assertRegex(self.output_of(yoke, "load", "chat"),
                         r"^chat is ready after [0-9.]+ m?s\.\n$")
        self.assertEqual(yoke.instance("chat")["state"], "ready")
        self.assertIn("other is", self.output_of(yoke, "load", "other", "--no-wait"))
        yoke.wait_for_state("other", "ready")
        self.assertEqual(self.output_of(yoke, "pin", "chat"), "chat is pinned: it stays loaded.\n")
        self.assertTrue(yoke.instance("chat")["pinned"])
        self.assertEqual(self.output_of(yoke, "pin", "--off", "chat"),
                         "chat is no longer pinned.\n")
        self.assertFalse(yoke.instance("chat")["pinned"])
        self.output_of(yoke, "pin", "chat")
        self.output_of(yoke, "unpin", "chat")
        self.assertFalse(yoke.instance("chat")["pinned"])
        lines = self.output_of(yoke, "unload", "chat", "other").splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["chat", "other"])
        for name in ("chat", "other"):
            yoke.wait_for_state(name, "stopped")
        self.assertEqual(json.loads(self.output_of(yoke, "load", "chat", "--json")),
                         {"model": "chat", "state": "ready"})
        self.assertEqual(json.loads(self.output_of(yoke, "pin", "chat", "--json")),
                         {"model": "chat", "state": "ready"})

    def test_mistakes(self):
        yoke = self.sandbox.serve(self.fake_models(chat="", bad="crash_on_load=1;crash_exit=3"))
        for verb in ("load", "unload", "pin", "unpin"):
            with self.subTest(verb):
                done = self.command(yoke, verb, "chta")
                self.check_failure(done, 1, "'chta'", "Did you mean chat?")
                self.check_failure(self.command(yoke, verb), 2, f"yoke {verb}", "model's name")
        self.check_failure(self.command(yoke, "load", "bad"), 1, "exit code 3", "yoke logs")

    def test_interrupt_ends_the_wait(self):
        yoke = self.sandbox.serve(self.fake_models(chat="hang_on_load=1"))
        process = subprocess.Popen([YOKE, "load", "chat", "--url", yoke.url],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=self.sandbox.environment())
        try:
            self.wait_for(yoke, "chat", waiting=1)
            process.send_signal(signal.SIGINT)
            self.assertEqual((*process.communicate(timeout=10), process.returncode), ("", "", 130))
        finally:
            process.kill()
            process.communicate()
        self.wait_for(yoke, "chat", waiting=0)

    def test_ps_while_requests_run(self):
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model("tokens=60;tokens_per_s=20"),
                                   **self.fake_models(cold="load_ms=20000")})
        yoke.wait_for_state("chat", "ready")
        with concurrent.futures.ThreadPoolExecutor(8) as pool, contextlib.ExitStack() as stack:
            answers = [pool.submit(yoke.chat, "chat", seed=seed) for seed in range(8)]
            waits = [stack.enter_context(yoke.connect()) for _ in range(2)]
            for connection in waits:
                connection.send("POST", CHAT, chat_body("cold"))
            self.wait_for(yoke, "chat", active_requests=8)
            self.wait_for(yoke, "cold", waiting=2)
            for _ in range(10):
                begin = time.monotonic()
                rows = self.output_of(yoke, "ps").splitlines()
                self.assertLess(time.monotonic() - begin, 2)
                self.assertRegex(rows[1], r"^chat +ready +\S* .* 8 +now ")
                self.assertRegex(rows[2], r"^cold +starting +.* 0 \+ 2 waiting .*ready ")
                self.assertRegex(rows[-1], "^system memory: .* for models$")
            for seed, answer in enumerate(answers):
                self.assertEqual(answer.result().text(), fake_text(seed, 60))


if __name__ == "__main__":
    unittest.main()
