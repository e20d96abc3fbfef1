"""From one backend to the next: the real engine on Vulkan (Mesa's lavapipe) and on the CPU."""

import json
import os
import pathlib
import signal
import time
import unittest

from harness import REAL_LIMIT_S, REAL_MODEL, E2eTest, chat_body, fake_text

SOFTWARE = {"software_devices": True}


class FallbackTest(E2eTest):
    def serve(self, server=(), env=(), **options):
        # Two processors that play a GPU read the check's 2000 tokens for minutes.
        model = {**REAL_MODEL, "answer_check": "off", **options}
        yoke = self.sandbox.serve({"smollm2": model}, server, engine=None,
                                  engines=SOFTWARE, env=env)
        yoke.wait_for_state("smollm2", "ready", REAL_LIMIT_S)
        return yoke

    def check_switch(self, yoke, *numbers):
        """Each of the signals hits the engine in the middle of the same stream."""
        self.assertEqual(yoke.instance("smollm2")["backend"], "vulkan")
        numbers = list(numbers)
        body = chat_body("smollm2", "Tell me about the sea.", temperature=0, max_tokens=30,
                         stream=True, stream_options={"include_usage": True})
        payloads = []
        with yoke.connect(limit_s=REAL_LIMIT_S) as connection:
            connection.send("POST", "/v1/chat/completions", body)
            for payload in connection.events():
                payloads.append(payload)
                if numbers and len(payloads) % 6 == 0:
                    os.kill(yoke.instance("smollm2")["pid"], numbers.pop(0))
        self.assertEqual(payloads.pop(), "[DONE]", payloads)
        events = [json.loads(payload) for payload in payloads]
        self.assertEqual(len({event["id"] for event in events}), 1)
        self.assertEqual(events[-1]["usage"]["completion_tokens"], 30)
        self.assertEqual(yoke.instance("smollm2")["backend"], "cpu")
        self.assertEqual(yoke.metric("yoke_cut_streams_total"), 0)

    def test_killed_on_vulkan_goes_on_on_the_cpu(self):
        self.check_switch(self.serve(), signal.SIGKILL)

    def test_second_crash_on_vulkan_goes_on_on_the_cpu(self):
        self.check_switch(self.serve(), signal.SIGSEGV, signal.SIGABRT)

    def test_hung_on_vulkan_goes_on_on_the_cpu(self):
        self.check_switch(self.serve({"hang_timeout": "6s"}), signal.SIGSTOP)

    def test_driver_that_was_taken_away(self):
        yoke = self.serve(env={"VK_DRIVER_FILES": "/nonexistent.json",
                               "VK_ICD_FILENAMES": "/nonexistent.json"})
        self.assertEqual(yoke.instance("smollm2")["backend"], "cpu")

    def test_device_that_the_engine_does_not_see(self):
        """The detector finds it, and the engine would compute on the CPU as "vulkan"."""
        yoke = self.serve(env={"GGML_VK_VISIBLE_DEVICES": "9"})
        self.assertEqual(yoke.instance("smollm2")["backend"], "cpu")
        ruled_out = yoke.get("/yoke/v1/explain?model=smollm2").json()["ruled_out"]
        why = {entry["backend"]: entry["why"] for entry in ruled_out}["vulkan"]
        self.assertIn("--list-devices` lists none", why)

    def test_user_may_choose(self):
        yoke = self.serve(backends=["cpu"])
        self.assertEqual(yoke.instance("smollm2")["backend"], "cpu")


class DeviceListTest(E2eTest):
    def serve(self, script, broken=None):
        models = {"chat": self.sandbox.fake_model("tokens=3", backends=["vulkan", "cpu"])}
        env = {**self.sandbox.install_fake_engines(), "FAKE_ENGINE_SCRIPT": script}
        if broken:
            engine = f"{env['YOKE_ENGINE_DIR']}/llama.cpp-0.5.0/{broken}/llama-server"
            pathlib.Path(engine).write_text("#!/bin/sh\nexit 3\n")
        yoke = self.sandbox.serve(models, engine=None, engines=SOFTWARE, env=env)
        yoke.wait_for_state("chat", "ready")
        return yoke

    def test_engine_that_lists_no_device_is_left_out(self):
        yoke = self.serve("vulkan:devices=none")
        self.assertEqual(yoke.instance("chat")["backend"], "cpu")
        self.assertIn("The engine for vulkan is left out", yoke.log())
        self.assertEqual(yoke.get("/yoke/v1/explain?model=chat").json()["failures"], [])

    def test_engine_that_does_not_start_is_left_out(self):
        yoke = self.serve("tokens=3", broken="vulkan")
        self.assertEqual(yoke.instance("chat")["backend"], "cpu")
        ruled_out = yoke.get("/yoke/v1/explain?model=chat").json()["ruled_out"]
        self.assertIn("--version", {one["backend"]: one["why"] for one in ruled_out}["vulkan"])

    def test_engine_that_lists_one_is_taken(self):
        self.assertEqual(self.serve("tokens=3").instance("chat")["backend"], "vulkan")


class HangTest(E2eTest):
    def test_engine_that_hangs_is_replaced(self):
        yoke = self.serve_one(f"tokens=9;hang_after_tokens=4;once_file={self.once_file()}",
                              {"hang_timeout": "300ms"})
        self.assertEqual(yoke.chat("chat", seed=5).text(), fake_text(5, 9))
        self.assertEqual(yoke.instance("chat")["restarts"], 1)

    def test_slow_prompt_with_progress_is_no_hang(self):
        yoke = self.serve_one("tokens=3;prefill_ms=200", {"hang_timeout": "1s"})
        self.assertEqual(yoke.chat("chat", seed=5).status, 200)
        self.assertEqual(yoke.instance("chat")["restarts"], 0)

    def test_client_that_does_not_read_is_no_hang(self):
        yoke = self.serve_one("tokens=400;token_bytes=65536", {"hang_timeout": "300ms"})
        with yoke.connect(receive_buffer=65536) as connection:
            connection.send("POST", "/v1/chat/completions",
                            chat_body("chat", seed=5, stream=True))
            time.sleep(1.5)
            events = list(connection.events())
        self.assertEqual(events[-1], "[DONE]")
        self.assertEqual(yoke.instance("chat")["restarts"], 0)

    def test_idle_engine_is_no_hang(self):
        yoke = self.serve_one("tokens=3", {"hang_timeout": "100ms"})
        time.sleep(0.5)
        self.assertEqual(yoke.instance("chat")["restarts"], 0)


if __name__ == "__main__":
    unittest.main()
