"""256 streams at once: nothing lost, nothing mixed, and nothing kept afterwards."""

import concurrent.futures
import json
import unittest

from harness import E2eTest, chat_body, fake_text, fnv1a64, until
from http_client import Connection

STREAMS = 256
ROUNDS = 4
TOKENS = 60
LIMIT_S = 60
MIB = 1 << 20


class ConcurrencyTest(E2eTest):
    def setUp(self):
        super().setUp()
        script = f"slots={STREAMS};tokens={TOKENS};tokens_per_s=30;prefill_ms=500"
        self.yoke = self.sandbox.serve({"chat": self.sandbox.fake_model(script)})
        self.yoke.wait_for_state("chat", "ready")

    def one_stream(self, seed):
        """Reads a whole stream; returns what is wrong with it, or none."""
        with self.yoke.connect(limit_s=LIMIT_S) as connection:
            connection.send("POST", "/v1/chat/completions",
                            chat_body("chat", seed=seed, stream=True))
            events = [json.loads(event) if event != "[DONE]" else event
                      for event in connection.events()]
        if events[-1] != "[DONE]" or len(events) < TOKENS + 2:
            return f"stream {seed}: {len(events)} events, the last is {events[-1]}"
        if len({event["id"] for event in events[:-1]}) != 1:
            return f"stream {seed} has events of another"
        text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events[:-1])
        if text != fake_text(seed, TOKENS):
            return f"stream {seed} says {text[:200]}..."
        if events[-2]["fake_checksum"] != f"{fnv1a64(text.encode()):016x}":
            return f"stream {seed} has the checksum {events[-2]}"
        return None

    def one_round(self, first_seed):
        with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
            problems = pool.map(self.one_stream, range(first_seed, first_seed + STREAMS))
            self.assertEqual([problem for problem in problems if problem], [])

    def test_256_streams(self):
        descriptors = self.yoke.descriptors()
        memory = []
        for round_number in range(ROUNDS):
            self.one_round(round_number * STREAMS)
            memory.append(self.yoke.rss_bytes())

        stats = self.yoke.engine_get("chat", "/fake/stats")
        self.assertEqual(stats["max_active"], STREAMS, "they did not run at the same time")
        until(lambda: self.yoke.engine_get("chat", "/fake/stats")["completed"] == ROUNDS * STREAMS,
              "the engine has completed all")
        self.assertEqual(stats["tokens_sent"], ROUNDS * STREAMS * TOKENS)
        # The heap reaches its size over some rounds. Streams that were kept, at 16 KiB and more
        # each, would be over this.
        self.assertLess(memory[-1] - memory[0], 12 * MIB, memory)
        until(lambda: self.yoke.descriptors() <= descriptors, "the descriptors are closed", 5)
        self.assertEqual(self.yoke.metric('yoke_requests_active{model="chat"}'), 0)
        self.assertEqual(self.yoke.metric("yoke_cut_streams_total"), 0)

    def test_256_clients_that_leave(self):
        descriptors = self.yoke.descriptors()
        memory = []
        for _ in range(3 * ROUNDS):
            connections = []
            for seed in range(STREAMS):
                connection = self.yoke.connect()
                connection.send("POST", "/v1/chat/completions",
                                chat_body("chat", seed=seed, stream=seed % 3 != 0,
                                          fake="tokens=100000;tokens_per_s=10"))
                connections.append(connection)
            # Some within the prefill, some within the answer, some with a reset.
            for seed, connection in enumerate(connections):
                (Connection.reset if seed % 2 else Connection.close)(connection)
            until(lambda: self.yoke.engine_get("chat", "/fake/stats")["active"] == 0,
                  "the engine is free", 5)
            memory.append(self.yoke.rss_bytes())
        until(lambda: self.yoke.descriptors() <= descriptors, "the descriptors are closed", 5)
        self.assertLess(memory[-1] - memory[0], 24 * MIB, memory)
        self.assertEqual(self.one_stream(1), None)

    def test_more_requests_than_slots(self):
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model("slots=2;tokens=3")})
        yoke.wait_for_state("chat", "ready")
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            replies = list(pool.map(lambda seed: yoke.chat("chat", seed=seed), range(200)))
        self.assertEqual([reply.text() for reply in replies],
                         [fake_text(seed, 3) for seed in range(200)])


if __name__ == "__main__":
    unittest.main()
