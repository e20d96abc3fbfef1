"""Replies that survive the death of their engine (fake engine: exact texts)."""

import json
import os
import signal
import threading
import time
import unittest

from harness import E2eTest, content_of, fake_text, until


def survived(yoke, how):
    return yoke.metric(f'yoke_survived_total{{how="{how}"}}')


class FailoverTest(E2eTest):
    def check_one_answer(self, events, text, tokens):
        """It reads as if one engine had given it."""
        self.assertEqual(events[-1], "[DONE]")
        parsed = [json.loads(event) for event in events[:-1]]
        self.assertEqual(content_of(events), text)
        self.assertEqual(len({event["id"] for event in parsed}), 1)
        self.assertEqual(len({event["created"] for event in parsed}), 1)
        deltas = [choice["delta"] for event in parsed for choice in event["choices"]]
        self.assertEqual(sum("role" in delta for delta in deltas), 1)
        reasons = [choice["finish_reason"] for event in parsed for choice in event["choices"]]
        self.assertEqual([reason for reason in reasons if reason], ["stop"])
        usages = [event["usage"] for event in parsed if "usage" in event]
        self.assertEqual([usage["completion_tokens"] for usage in usages], [tokens])

    def stream(self, yoke, **fields):
        with yoke.stream("chat", seed=5, stream_options={"include_usage": True}, **fields) as events:
            return list(events)

    def test_stream_goes_on_after_a_crash(self):
        for how in ("SEGV", "ABRT", "KILL"):
            with self.subTest(how):
                once = self.once_file().with_suffix(f".{how}")
                yoke = self.serve_one(f"tokens=9;crash_after_tokens=4;crash_signal={how};"
                                      f"once_file={once}")
                self.check_one_answer(self.stream(yoke), fake_text(5, 9), 9)
                self.assertEqual(yoke.instance("chat")["restarts"], 1)
                self.assertEqual(survived(yoke, "continued"), 1)
                self.assertEqual(survived(yoke, "replayed"), 0)

    def test_stream_goes_on_after_two_crashes(self):
        yoke = self.serve_one("tokens=9;crash_after_tokens=4")
        self.check_one_answer(self.stream(yoke), fake_text(5, 9), 9)
        self.assertEqual(survived(yoke, "continued"), 2)

    def test_request_that_kills_every_engine_ends_with_an_error(self):
        yoke = self.serve_one("tokens=40;crash_after_tokens=4")
        events = self.stream(yoke)
        self.assertNotIn("[DONE]", events)
        self.assertEqual(content_of([*events[:-1], "[DONE]"]), fake_text(5, 12))
        self.assertEqual(json.loads(events[-1])["error"]["code"], "engine_failed")
        self.assertEqual(yoke.metric("yoke_cut_streams_total"), 1)

    def test_crash_at_every_token(self):
        for at in range(7):
            with self.subTest(at=at):
                once = self.once_file().with_suffix(f".{at}")
                yoke = self.serve_one(f"tokens=6;crash_after_tokens={at};once_file={once}")
                self.check_one_answer(self.stream(yoke), fake_text(5, 6), 6)

    def test_plain_completion_goes_on(self):
        yoke = self.serve_one(f"tokens=9;crash_after_tokens=4;once_file={self.once_file()}")
        body = {"model": "chat", "prompt": "x", "seed": 5, "stream": True}
        with yoke.connect() as connection:
            connection.send("POST", "/v1/completions", body)
            events = list(connection.events())
        self.assertEqual(events.pop(), "[DONE]")
        texts = [json.loads(event)["choices"][0]["text"] for event in events]
        self.assertEqual("".join(texts), fake_text(5, 9))

    def test_whole_reply_is_asked_for_again(self):
        yoke = self.serve_one(f"tokens=9;crash_after_tokens=4;once_file={self.once_file()}")
        reply = yoke.chat("chat", seed=5)
        self.assertEqual(reply.text(), fake_text(5, 9))
        self.assertEqual(survived(yoke, "replayed"), 1)

    def test_max_tokens_counts_what_was_sent(self):
        yoke = self.serve_one(f"tokens=30;crash_after_tokens=4;once_file={self.once_file()}")
        with yoke.stream("chat", seed=5, max_tokens=10) as events:
            events = list(events)
        self.assertEqual(content_of(events), fake_text(5, 10))
        self.assertEqual(json.loads(events[-2])["choices"][0]["finish_reason"], "length")

    def test_several_answers_in_one_stream_end_with_an_error(self):
        yoke = self.serve_one(f"tokens=9;crash_after_tokens=4;once_file={self.once_file()}")
        with yoke.stream("chat", seed=5, n=2) as events:
            events = list(events)
        error = json.loads(events[-1])["error"]
        self.assertEqual(error["code"], "cannot_continue")
        self.assertIn("several answers", error["message"])

    def test_requests_during_the_switch_wait(self):
        yoke = self.serve_one(f"tokens=9;tokens_per_s=20;load_ms=1000;crash_after_tokens=4;"
                              f"once_file={self.once_file()}", {"start_timeout": "20s"})
        texts = []

        def ask(seed):
            with yoke.stream("chat", seed=seed) as events:
                texts.append((seed, content_of(list(events))))

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(texts), [(seed, fake_text(seed, 9)) for seed in range(8)])

    def test_switch_that_takes_too_long_is_said_with_retry_after(self):
        yoke = self.serve_one("tokens=9;load_ms=2000", {"start_timeout": "500ms"})
        os.kill(yoke.instance("chat")["pid"], signal.SIGKILL)
        until(lambda: yoke.instance("chat")["state"] != "ready", "the death is noticed")
        begin = time.monotonic()
        reply = yoke.chat("chat", seed=5)
        waited = time.monotonic() - begin
        self.check_error(reply, 503, "model_loading")
        self.assertGreaterEqual(waited, 0.5)
        self.assertLess(waited, 1.5)
        self.assertGreater(int(reply.headers["retry-after"]), 0)
        yoke.wait_for_state("chat", "ready")
        self.assertEqual(yoke.chat("chat", seed=5).text(), fake_text(5, 9))

    def test_stream_waits_no_longer_than_others(self):
        yoke = self.serve_one(f"tokens=9;load_ms=3000;crash_after_tokens=4;"
                              f"once_file={self.once_file()}", {"start_timeout": "500ms"})
        with yoke.stream("chat", seed=5) as events:
            events = list(events)
        self.assertEqual(content_of([*events[:-1], "[DONE]"]), fake_text(5, 4))
        self.assertEqual(json.loads(events[-1])["error"]["code"], "model_loading")

    def test_limit_is_one_for_all_engines_that_a_request_waits_for(self):
        yoke = self.serve_one("tokens=9;load_ms=1500;crash_after_tokens=0",
                              {"start_timeout": "2s"})
        begin = time.monotonic()
        reply = yoke.chat("chat", seed=5)
        waited = time.monotonic() - begin
        self.check_error(reply, 503, "model_loading")
        self.assertLess(waited, 3)

    def test_time_to_the_first_continued_token(self):
        """At most the engine's own start plus 300 ms."""
        load_ms = 500
        yoke = self.serve_one(f"tokens=9;load_ms={load_ms};tokens_per_s=50;crash_after_tokens=4;"
                              f"once_file={self.once_file()}")
        arrivals = []
        with yoke.stream("chat", seed=5) as events:
            for event in events:
                arrivals.append(time.monotonic())
        gap = max(later - earlier for earlier, later in zip(arrivals, arrivals[1:]))
        self.assertLess(gap, load_ms / 1000 + 0.3)


if __name__ == "__main__":
    unittest.main()
