"""Engines that die: they are started again, requests and the server survive it."""

import json
import os
import signal
import unittest

from harness import E2eTest, content_of, fake_text, is_running, token, until


class SupervisorTest(E2eTest):
    # Starting again

    def test_killed_engine_is_started_again(self):
        yoke = self.serve_one("tokens=3")
        first = yoke.instance("chat")
        os.kill(first["pid"], signal.SIGKILL)
        until(lambda: yoke.instance("chat")["restarts"] == 1, "the engine is started again")
        second = yoke.wait_for_state("chat", "ready")
        self.assertNotEqual(second["pid"], first["pid"])
        self.assertEqual(yoke.chat("chat", seed=1).text(), fake_text(1, 3))
        self.assertFalse(is_running(first["pid"]))
        metrics = yoke.get("/metrics").body.decode()
        self.assertIn('yoke_instance_restarts_total{model="chat"} 1\n', metrics)

    def test_request_waits_while_the_engine_starts_again(self):
        yoke = self.serve_one("tokens=3;load_ms=1000")
        os.kill(yoke.instance("chat")["pid"], signal.SIGKILL)
        until(lambda: yoke.instance("chat")["state"] != "ready", "the loss is noticed", 5)
        self.assertEqual(yoke.chat("chat", seed=1).text(), fake_text(1, 3))

    def test_request_that_will_not_wait_so_long(self):
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model("hang_on_load=1")},
                                  {"start_timeout": "300ms"})
        reply = yoke.chat("chat")
        self.check_error(reply, 503, "model_loading", "yoke logs chat")
        self.assertEqual(yoke.get("/health").json()["status"], "loading")

    def test_worker_processes_of_a_killed_engine_are_ended(self):
        for separate in (0, 1):
            with self.subTest(own_session=separate):
                yoke = self.serve_one(f"spawn_children=2;children_setsid={separate}")
                workers = yoke.engine_get("chat", "/fake/stats")["children"]
                self.assertEqual(len(workers), 2)
                # Children that left the group are found by descent, which is looked at in time.
                os.kill(yoke.instance("chat")["pid"], signal.SIGKILL)
                until(lambda: not any(map(is_running, workers)), "the workers have ended")
                yoke.wait_for_state("chat", "ready")

    def test_crash_loop_ends_with_its_reason(self):
        yoke = self.sandbox.serve({
            "good": self.sandbox.fake_model("tokens=3"),
            "bad": self.sandbox.fake_model("crash_on_load=1;crash_signal=ABRT;"
                                           "crash_log=ggml_vulkan: device lost on Vulkan0\\n")})
        reply = yoke.chat("bad")
        self.check_error(reply, 503, "engine_failed", "device_lost", "driver")
        instance = yoke.wait_for_state("bad", "failed")
        self.assertEqual(instance["pid"], 0)
        self.assertEqual(instance["error"]["code"], "engine_failed")
        restarts = instance["restarts"]
        self.assertGreaterEqual(restarts, 1)
        self.check_error(yoke.chat("bad"), 503, "engine_failed")
        self.assertEqual(yoke.instance("bad")["restarts"], restarts)
        self.assertEqual(yoke.get("/health").json(),
                         {"status": "degraded", "models": {"good": "ready", "bad": "failed"}})
        self.assertEqual(yoke.chat("good").status, 200)

    def test_engine_that_refuses_its_arguments_is_not_tried_again(self):
        yoke = self.sandbox.serve({
            "chat": self.sandbox.fake_model(extra_args=["--no-such-flag"])})
        self.check_error(yoke.chat("chat"), 503, "engine_failed", "bad_arguments", "extra_args")
        self.assertEqual(yoke.instance("chat")["restarts"], 0)

    # Failures within an answer

    def test_engine_that_breaks_off_its_answer(self):
        yoke = self.serve_one("tokens=9")  # More than three tries of two tokens.
        for script in ("reset_after_tokens=2", "half_close_after_tokens=2", "garbage_chunk=2"):
            with self.subTest(script):
                with yoke.stream("chat", fake=script) as events:
                    events = list(events)
                self.assertNotIn("[DONE]", events)
                self.assertEqual(json.loads(events[-1])["error"]["code"], "engine_failed")
        self.assertEqual(yoke.instance("chat")["restarts"], 0)
        self.assertEqual(yoke.chat("chat").status, 200)

    def test_engine_that_breaks_off_a_whole_reply(self):
        yoke = self.serve_one("tokens=5")
        self.check_error(yoke.chat("chat", fake="half_close_after_tokens=2"), 503, "engine_failed")
        self.assertEqual(yoke.chat("chat").status, 200)

    def test_engine_that_answers_no_http(self):
        yoke = self.serve_one("tokens=5")
        for stream in (False, True):
            with self.subTest(stream=stream):
                reply = yoke.chat("chat", stream=stream, fake="garbage=1")
                self.check_error(reply, 503, "engine_failed")

    def test_engine_that_falls_silent(self):
        yoke = self.serve_one("tokens=5", {"idle_timeout": "500ms", "first_byte_timeout": "500ms"})
        with yoke.stream("chat", seed=1, fake="hang_after_tokens=2") as events:
            error = json.loads(list(events)[-1])["error"]
        self.assertEqual(error["code"], "timeout")
        self.check_error(yoke.chat("chat", fake="hang_after_tokens=2"), 504, "timeout")
        until(lambda: yoke.engine_get("chat", "/fake/stats")["active"] == 0, "the slots are free")

    def test_errors_of_the_engine_come_through(self):
        yoke = self.serve_one("tokens=5")
        for theirs, ours, code in ((400, 400, "refused_by_engine"), (500, 502, "engine_error"),
                                   (501, 501, "not_supported"), (503, 503, "model_loading")):
            for stream in (False, True):
                with self.subTest(theirs, stream=stream):
                    reply = yoke.chat("chat", stream=stream,
                                      fake=f"status={theirs};message=Not this time.")
                    self.check_error(reply, ours, code, "Not this time.")
        with yoke.stream("chat", fake="error_after_tokens=2;message=Not this time.") as events:
            self.assertIn("error", json.loads(list(events)[-1]))

    # The end of Yoke

    def test_sigkill_of_yoke_takes_the_engine_along(self):
        for ignore in (0, 1):
            with self.subTest(ignore_term=ignore):
                yoke = self.serve_one(f"ignore_term={ignore}")
                engine = yoke.instance("chat")["pid"]
                yoke.process.kill()
                self.assertEqual(yoke.wait(), -signal.SIGKILL)
                until(lambda: not is_running(engine), "the engine has ended", 5)
                until(lambda: not yoke.left_over(), "its guard has ended too", 5)


if __name__ == "__main__":
    unittest.main()
