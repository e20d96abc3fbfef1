"""The real engine with a real model: curl, and slots that are freed when clients leave."""

import json
import os
import random
import select
import signal
import subprocess
import time
import unittest

from harness import REAL_LIMIT_S, E2eTest, chat_body, content_of, until

QUESTION = "What is the capital of France? One word."


# What differs from one answer to the next.
VARYING = {"id", "created", "timings"}


def comparable(value):
    if isinstance(value, dict):
        return {name: comparable(field) for name, field in value.items() if name not in VARYING}
    if isinstance(value, list):
        return [comparable(element) for element in value]
    return round(value, 4) if isinstance(value, float) else value


def text_of(events):
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def finish_reason_of(events):
    reasons = [choice["finish_reason"] for event in events for choice in event["choices"]]
    return [reason for reason in reasons if reason]


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

    def test_whole_reply_is_as_the_engine_gives_it(self):
        """Yoke asks for a stream and puts it together: what comes out must not differ."""
        weather = {"type": "function", "function": {
            "name": "weather", "parameters": {"type": "object", "properties": {
                "city": {"type": "string"}}, "required": ["city"]}}}
        chat = chat_body("smollm2", QUESTION, temperature=0, max_tokens=12)
        for path, body in (
                ("/v1/chat/completions", chat),
                # Cut before its end: of the token that ends the text, which is no part of it, the
                # engine tells the probability in whole replies only.
                ("/v1/chat/completions", chat | {"logprobs": True, "top_logprobs": 2,
                                                 "max_tokens": 5}),
                ("/v1/chat/completions", chat | {"n": 2}),
                ("/v1/chat/completions", chat | {"max_tokens": 1}),
                ("/v1/chat/completions", chat | {"tools": [weather], "tool_choice": "required",
                                                 "max_tokens": 60}),
                ("/v1/completions", {"model": "smollm2", "prompt": "The capital of France is",
                                     "temperature": 0, "max_tokens": 8, "logprobs": 1}),
                ("/v1/completions", {"model": "smollm2", "prompt": ["One, two,", "A, b,"],
                                     "temperature": 0, "max_tokens": 4})):
            with self.subTest(path=path, body=body):
                # The same twice before, so that the prompt's cache is in the same state for both.
                self.yoke.engine_post("smollm2", path, body)
                direct = self.yoke.engine_post("smollm2", path, body)
                reply = self.yoke.post(path, body)
                self.assertEqual(reply.status, 200, reply)
                self.assertEqual(comparable(reply.json()), comparable(direct))

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
        # The engine ends a request between two batches. On the one thread that it has in tests it
        # computes half of what it could, so its batches are half as large as they would be.
        cls.yoke = cls.shared_sandbox().serve_real(n_batch=32, parallel=2, n_ctx=6144)
        cls.seed = time.time_ns()
        cls.random = random.Random(cls.seed)

    def is_processing(self):
        slots = self.yoke.engine_get("smollm2", "/slots")
        return any(slot["is_processing"] for slot in slots)

    def release_times(self):
        """When a slot was freed, by the engine's log, in seconds of the system's clock."""
        lines = self.yoke.get("/yoke/v1/logs?tail=10000").json()["lines"]
        return [line["time_ms"] / 1000 for line in lines
                if "release" in line["line"] and "stop processing" in line["line"]]

    def check_slot_is_freed(self, leave, before):
        gone = self.yoke.metric("yoke_clients_gone_total")
        leave()
        left_at = time.time()
        until(lambda: len(self.release_times()) > before, "the slot is free", REAL_LIMIT_S)
        self.assertLess(self.release_times()[-1] - left_at, 1.0, f"seed {self.seed}")
        self.assertEqual(self.yoke.metric("yoke_clients_gone_total"), gone + 1)

    def check_prefill(self, **fields):
        # About 1500 tokens, different each time, so that nothing of them is cached.
        numbers = " ".join(str(self.random.randrange(100, 1000)) for _ in range(370))
        body = chat_body("smollm2", f"{fields}: {numbers}", max_tokens=100, **fields)
        before = len(self.release_times())
        with self.yoke.connect(limit_s=REAL_LIMIT_S) as connection:
            connection.send("POST", "/v1/chat/completions", body)
            until(self.is_processing, "the engine reads the prompt", REAL_LIMIT_S)
            time.sleep(self.random.uniform(0, 2))
            self.assertEqual(len(self.release_times()), before, "the prompt is too short")
            self.assertFalse(select.select([connection.socket], [], [], 0)[0], "there is an answer")
            self.check_slot_is_freed(connection.close, before)

    def test_within_the_prefill_of_a_stream(self):
        for _ in range(6):
            self.check_prefill(stream=True)
        self.assertFalse(self.is_processing())

    def test_within_the_prefill_of_a_whole_reply(self):
        for _ in range(6):
            self.check_prefill(stream=False)
        self.assertFalse(self.is_processing())

    def test_while_another_client_gets_tokens(self):
        with self.yoke.connect(limit_s=REAL_LIMIT_S) as other:
            other.send("POST", "/v1/chat/completions",
                       chat_body("smollm2", "Tell a very long story.", stream=True, max_tokens=2000,
                                 temperature=0, ignore_eos=True))
            next(other.events())
            for stream in (True, False):
                self.check_prefill(stream=stream)
            self.assertTrue(self.is_processing(), "the other one goes on")
        until(lambda: not self.is_processing(), "that one's slot is free too", REAL_LIMIT_S)

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


class DyingEngineTest(E2eTest):
    """The engine dies in the middle of a stream, and the client sees one answer."""

    def setUp(self):
        super().setUp()
        self.yoke = self.sandbox.serve_real()  # Each its own: a model that dies too often is given up.

    def answer(self, body, after_event=None, number=None):
        """The events of an answer; its engine gets the signal when so many have come."""
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        payloads = []
        with self.yoke.connect(limit_s=REAL_LIMIT_S) as connection:
            connection.send("POST", "/v1/chat/completions", body)
            for payload in connection.events():
                payloads.append(payload)
                if len(payloads) == after_event:
                    os.kill(self.yoke.instance("smollm2")["pid"], number)
        self.assertEqual(payloads.pop(), "[DONE]", payloads)
        return [json.loads(payload) for payload in payloads]

    def check(self, body, number=signal.SIGKILL):
        uncut = self.answer(body)
        same = []
        for after_event in (3, len(uncut) - 4):
            with self.subTest(after_event=after_event, number=number):
                before = self.yoke.instance("smollm2")["restarts"]
                events = self.answer(body, after_event, number)
                self.assertEqual(len({event["id"] for event in events}), 1)
                self.assertEqual(len(finish_reason_of(events)), 1)
                usage = events[-1]["usage"]
                self.assertEqual(usage["prompt_tokens"], uncut[-1]["usage"]["prompt_tokens"])
                self.assertEqual(usage["prompt_tokens"] + usage["completion_tokens"],
                                 usage["total_tokens"])
                self.yoke.wait_for_state("smollm2", "ready", REAL_LIMIT_S)
                self.assertEqual(self.yoke.instance("smollm2")["restarts"], before + 1)
                same.append(text_of(events) == text_of(uncut))
                if same[-1]:
                    self.assertEqual(finish_reason_of(events), finish_reason_of(uncut))
                    self.assertEqual(usage["completion_tokens"],
                                     uncut[-1]["usage"]["completion_tokens"])
        # Two tokens that are nearly as likely can change places where the text was taken up again,
        # because a prompt is computed in other steps than an answer. Mostly they do not.
        self.assertTrue(any(same), "no answer went on as it would have")

    def ask(self, question, **fields):
        return chat_body("smollm2", question, temperature=0, max_tokens=40, **fields)

    def test_text(self):
        self.check(self.ask("Tell me about the sea."))

    def test_crashes_of_its_own(self):
        for number in (signal.SIGSEGV, signal.SIGABRT):
            self.check(self.ask("Count from one to ten in words."), number)

    def test_text_of_several_tokens_a_character(self):
        self.check(self.ask("Repeat exactly: 안녕하세요 세계 🐂🌊"))

    def test_json_schema(self):
        schema = {"type": "object", "properties": {"city": {"type": "string"},
                                                   "country": {"type": "string"}},
                  "required": ["city", "country"]}
        self.check(self.ask("Where is the Eiffel Tower? JSON.", response_format={
            "type": "json_schema", "json_schema": {"name": "place", "schema": schema}}))

    def test_with_tools_that_are_not_called(self):
        tool = {"type": "function", "function": {"name": "weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}}}}
        self.check(self.ask("Say hello to the world, please.", tools=[tool]))

    def test_logprobs(self):
        self.check(self.ask("Name three colours.", logprobs=True, top_logprobs=1))

    def test_stop_sequence(self):
        body = self.ask("Count from one to ten in words, separated by commas.")
        word = text_of(self.answer(body))[12:16]
        self.check({**body, "stop": [word]})


if __name__ == "__main__":
    unittest.main()
