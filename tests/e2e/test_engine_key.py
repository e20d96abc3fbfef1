"""Engines answer nobody but Yoke: each asks for a key that only Yoke knows."""

import os
import pathlib
import signal
import unittest

from harness import REAL_LIMIT_S, E2eTest, chat_body, content_of, fake_text, until
from http_client import Connection

CHAT = "/v1/chat/completions"


class EngineKeyTest(E2eTest):
    def check_key(self, yoke, model):
        """Returns the key."""
        instance = yoke.instance(model)
        key = yoke.engine_key(model)
        self.assertGreaterEqual(len(key or ""), 32)
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-Api-Key": "wrong"}):
            with self.subTest(headers), Connection(instance["port"]) as connection:
                reply = connection.ask("POST", CHAT, chat_body(model, max_tokens=1), headers)
                self.assertEqual(reply.status, 401)
        cmdline = pathlib.Path(f"/proc/{instance['pid']}/cmdline").read_bytes()
        self.assertNotIn(key.encode(), cmdline)
        for path in ("/yoke/v1/instances", "/metrics", f"/yoke/v1/logs?model={model}"):
            self.assertNotIn(key.encode(), yoke.get(path).body)
        self.assertNotIn(key, yoke.log())
        return key

    def restart(self, yoke, model):
        pid = yoke.instance(model)["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: yoke.instance(model)["pid"] not in (0, pid), "it is started again")
        yoke.wait_for_state(model, "ready", REAL_LIMIT_S)

    def test_fake_engine(self):
        yoke = self.serve_one("tokens=5")
        first = self.check_key(yoke, "chat")
        self.assertEqual(yoke.chat("chat", seed=1).text(), fake_text(1, 5))
        self.restart(yoke, "chat")
        self.assertNotEqual(self.check_key(yoke, "chat"), first)
        with yoke.stream("chat", seed=2) as events:
            self.assertEqual(content_of(events), fake_text(2, 5))

    def test_clients_key_is_another(self):
        key = "a-key-of-the-clients"
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model("tokens=5")},
                                  {"api_key": key})
        headers = {"Authorization": f"Bearer {key}"}

        def port():
            instance = yoke.get("/yoke/v1/instances", headers).json()["instances"][0]
            return instance["port"] if instance["state"] == "ready" else None

        engine = until(port, "the model is ready")
        with Connection(engine) as connection:
            self.assertEqual(connection.ask("POST", CHAT, chat_body("chat"), headers).status, 401)
        reply = yoke.post(CHAT, chat_body("chat", seed=3), headers)
        self.assertEqual(reply.text(), fake_text(3, 5))

    def test_tokens_of_a_continued_answer_are_counted(self):
        """Which asks the engine, with its key."""
        yoke = self.serve_one(f"tokens=9;crash_after_tokens=4;once_file={self.once_file()}")
        with yoke.stream("chat", seed=5, max_tokens=7) as events:
            self.assertEqual(content_of(events), fake_text(5, 7))

    def test_real_engine(self):
        yoke = self.sandbox.serve_real(backends=["cpu"])
        first = self.check_key(yoke, "smollm2")
        reply = yoke.chat("smollm2", "What is the capital of France? One word.", REAL_LIMIT_S,
                          temperature=0, max_tokens=20)
        self.assertIn("Paris", reply.text())
        self.restart(yoke, "smollm2")
        self.assertNotEqual(self.check_key(yoke, "smollm2"), first)


if __name__ == "__main__":
    unittest.main()
