"""The real engine with a real model: curl, and slots that are freed when clients leave."""

import json
import select
import subprocess
import time
import unittest

from harness import REAL_LIMIT_S, E2eTest, chat_body, content_of, until

QUESTION = "What is the capital of France? One word."


class CurlTest(E2eTest):
    @classmethod
    def setUpClass(cls):
        cls.yoke = cls.shared_sandbox().serve_real()

    def curl(self, path, *arguments):
        done = subprocess.run(["curl", "--silent", "--show-error", "--max-time", str(REAL_LIMIT_S),
                               *arguments, self.yoke.url + path], capture_output=True, text=True,
                              timeout=REAL_LIMIT_S + 10)
        self.assertEqual(done.returncode, 0, done)
        return done.stdout

    def chat(self, **fields):
        body = chat_body("smollm2", QUESTION, temperature=0, max_tokens=16, **fields)
        return json.dumps(body)

    def test_stream(self):
        output = self.curl("/v1/chat/completions", "-N", "-d", self.chat(stream=True))
        events = output.split("\n\n")
        self.assertEqual(events.pop(), "")
        self.assertTrue(all(event.startswith("data: ") for event in events), output)
        self.assertGreater(len(events), 4, "it came in one piece")
        self.assertIn("Paris", content_of(event[6:] for event in events))

    def test_whole_reply(self):
        reply = json.loads(self.curl("/v1/chat/completions", "-d", self.chat()))
        self.assertIn("Paris", reply["choices"][0]["message"]["content"])
        self.assertEqual(reply["model"], "smollm2")

    def test_embeddings_of_a_chat_model(self):
        reply = self.yoke.post("/v1/embeddings", {"model": "smollm2", "input": "a"})
        self.check_error(reply, 400, "wrong_model_type", "'smollm2'", "embedding")

    def test_models(self):
        models = json.loads(self.curl("/v1/models"))["data"]
        self.assertEqual([(m["id"], m["status"]) for m in models], [("smollm2", "ready")])

    def test_instance(self):
        instance = self.yoke.instance("smollm2")
        self.assertTrue(instance["engine"].startswith("llama.cpp "), instance)
        self.assertEqual((instance["restarts"], instance["error"]), (0, None))


class LeavingClientTest(E2eTest):
    @classmethod
    def setUpClass(cls):
        # The engine ends a request between two batches, so those are small.
        cls.yoke = cls.shared_sandbox().serve_real(n_batch=16, n_ubatch=16, parallel=1)

    def is_processing(self):
        slots = self.yoke.engine_get("smollm2", "/slots")
        return any(slot["is_processing"] for slot in slots)

    def release_times(self):
        """When the slot was freed, by the engine's log, in seconds of the system's clock."""
        lines = self.yoke.get("/yoke/v1/logs?tail=10000").json()["lines"]
        return [line["time_ms"] / 1000 for line in lines
                if "release" in line["line"] and "stop processing" in line["line"]]

    def check_slot_is_freed(self, leave, before):
        """`leave` leaves; the slot is free within a second, though the engine isn't asked."""
        gone = self.yoke.metric("yoke_clients_gone_total")
        leave()
        left_at = time.time()
        until(lambda: len(self.release_times()) > before, "the slot is free", REAL_LIMIT_S)
        self.assertLess(self.release_times()[-1] - left_at, 1.0)
        self.assertFalse(self.is_processing())
        self.assertEqual(self.yoke.metric("yoke_clients_gone_total"), gone + 1)

    def check_prefill(self, **fields):
        # About 1500 tokens, different each time, so that nothing of them is cached.
        numbers = " ".join(str(number) for number in range(101, 471))
        body = chat_body("smollm2", f"{fields}: {numbers}", max_tokens=100, **fields)
        before = len(self.release_times())
        with self.yoke.connect(limit_s=REAL_LIMIT_S) as connection:
            connection.send("POST", "/v1/chat/completions", body)
            until(self.is_processing, "the engine reads the prompt", REAL_LIMIT_S)
            # It looks for clients that left when it has had nothing to say to anybody for a second:
            # so ask it nothing until then.
            time.sleep(0.5)
            self.assertEqual(len(self.release_times()), before, "the prompt is too short")
            self.assertFalse(select.select([connection.socket], [], [], 0)[0], "there is an answer")
            self.check_slot_is_freed(connection.close, before)

    def test_within_the_prefill_of_a_stream(self):
        self.check_prefill(stream=True)

    def test_within_the_prefill_of_a_whole_reply(self):
        self.check_prefill(stream=False)

    def test_within_a_stream(self):
        before = len(self.release_times())
        with self.yoke.connect(limit_s=REAL_LIMIT_S) as connection:
            connection.send("POST", "/v1/chat/completions",
                            chat_body("smollm2", "Tell a very long story.", stream=True,
                                      max_tokens=1500, temperature=0))
            events = connection.events()
            for _ in range(5):
                next(events)
            self.check_slot_is_freed(connection.close, before)


if __name__ == "__main__":
    unittest.main()
