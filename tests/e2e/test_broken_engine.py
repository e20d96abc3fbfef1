"""Engines that say they can't compute any more, but live: they are replaced like dead ones."""

import json
import threading
import unittest

from harness import E2eTest, content_of, fake_text, is_running, until

LOST = "decode() failed: vk::Queue::submit: ErrorDeviceLost"


class BrokenEngineTest(E2eTest):
    def serve_broken(self, script):
        """An engine that breaks as the script says, once."""
        yoke = self.serve_one(f"{script};message={LOST};once_file={self.once_file()}")
        self.first = yoke.instance("chat")["pid"]
        return yoke

    def check_replaced(self, yoke):
        until(lambda: not is_running(self.first), "the broken engine was ended")
        second = until(lambda: (now := yoke.wait_for_state("chat", "ready"))["pid"] != self.first
                       and now, "another engine serves")
        self.assertEqual(second["restarts"], 1)

    def test_stream_goes_on(self):
        for at in (0, 1, 4, 8):
            with self.subTest(at=at):
                self.once_file().unlink(missing_ok=True)
                yoke = self.serve_broken(f"tokens=9;error_after_tokens={at}")
                with yoke.stream("chat", seed=5) as events:
                    events = list(events)
                self.assertEqual(content_of(events), fake_text(5, 9))
                self.assertEqual(len({json.loads(event)["id"] for event in events[:-1]}), 1)
                self.check_replaced(yoke)
                self.assertEqual(yoke.metric("yoke_cut_streams_total"), 0)

    def test_whole_reply_is_asked_for_again(self):
        yoke = self.serve_broken("tokens=9;error_after_tokens=4")
        self.assertEqual(yoke.chat("chat", seed=5).text(), fake_text(5, 9))
        self.check_replaced(yoke)

    def test_request_that_was_refused_is_put_to_the_next(self):
        yoke = self.serve_broken("tokens=9;status=500")
        self.assertEqual(yoke.chat("chat", seed=5).text(), fake_text(5, 9))
        self.check_replaced(yoke)

    def test_one_replacement_for_all_its_requests(self):
        yoke = self.serve_broken("slots=8;tokens=30;tokens_per_s=40;error_after_tokens=9")
        texts = []

        def ask(seed):
            with yoke.stream("chat", seed=seed) as events:
                texts.append((seed, content_of(events)))

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(texts), [(seed, fake_text(seed, 30)) for seed in range(8)])
        self.check_replaced(yoke)

    def test_several_answers_in_one_stream_end_with_an_error(self):
        yoke = self.serve_broken("tokens=9;error_after_tokens=4")
        with yoke.stream("chat", seed=5, n=2) as events:
            events = list(events)
        self.assertEqual(json.loads(events[-1])["error"]["code"], "cannot_continue")
        self.check_replaced(yoke)

    def test_request_that_breaks_every_engine_ends_with_an_error(self):
        yoke = self.serve_one(f"tokens=40;error_after_tokens=4;message={LOST}")
        with yoke.stream("chat", seed=5) as events:
            events = list(events)
        self.assertEqual(content_of([*events[:-1], "[DONE]"]), fake_text(5, 12))
        error = json.loads(events[-1])["error"]
        self.assertEqual(error["code"], "engine_broken")
        self.assertIn("ErrorDeviceLost", error["message"])

    def test_errors_of_the_request_end_no_engine(self):
        yoke = self.serve_one("tokens=5")
        pid = yoke.instance("chat")["pid"]
        for status, message, code in (
                (400, LOST, "refused_by_engine"),
                (500, "Context size has been exceeded.", "engine_error"),
                (500, "Invalid input batch.", "engine_error")):
            for stream in (False, True):
                with self.subTest(message, stream=stream):
                    fake = f"status={status};message={message}"
                    reply = yoke.chat("chat", stream=stream, fake=fake)
                    self.assertEqual(reply.error()["code"], code)
        self.assertEqual(yoke.chat("chat", seed=1).text(), fake_text(1, 5))
        self.assertEqual(yoke.instance("chat")["pid"], pid)
        self.assertEqual(yoke.instance("chat")["restarts"], 0)


if __name__ == "__main__":
    unittest.main()
