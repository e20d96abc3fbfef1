"""How Yoke ends: running answers get their time, then nothing of it is left."""

import contextlib
import signal
import time
import unittest

from harness import E2eTest, chat_body, content_of, fake_text, is_running, until


class ShutdownTest(E2eTest):
    def ended_within(self, yoke, limit_s):
        self.assertEqual(yoke.wait(limit_s), 0)
        self.assertEqual(yoke.left_over(), [])

    def test_idle_server_stops_at_once(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                yoke = self.serve_one("")
                with yoke.connect() as idle:
                    self.assertEqual(idle.ask("GET", "/health").status, 200)
                    yoke.process.send_signal(number)
                    self.ended_within(yoke, 5)

    def test_server_whose_model_is_loading_stops_at_once(self):
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model("hang_on_load=1")})
        yoke.terminate()
        self.ended_within(yoke, 5)

    def test_request_that_waits_for_its_model_is_told(self):
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model("hang_on_load=1")})
        with yoke.connect() as connection:
            connection.send("POST", "/v1/chat/completions", chat_body("chat"))
            until(lambda: yoke.instance("chat")["active_requests"] == 1, "it waits")
            yoke.terminate()
            self.check_error(connection.reply(), 503, "shutting_down")
        self.ended_within(yoke, 5)

    def test_server_whose_model_waits_for_its_next_try_stops_at_once(self):
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model("crash_on_load=1")})
        yoke.wait_for_state("chat", "failed")
        yoke.terminate()
        self.ended_within(yoke, 5)

    def test_stubborn_engine_is_killed(self):
        yoke = self.serve_one("ignore_term=1;spawn_children=2;children_setsid=1;children_stay=1")
        engine = yoke.instance("chat")["pid"]
        yoke.terminate()
        self.ended_within(yoke, 12)
        self.assertFalse(is_running(engine))

    def test_running_answer_gets_its_grace(self):
        yoke = self.serve_one("tokens=20;tokens_per_s=10")
        with yoke.stream("chat", seed=1) as events:
            first = next(events)
            yoke.terminate()
            until(lambda: "Stopping" in yoke.log(), "the stop has begun")
            self.assertEqual(content_of([first, *events]), fake_text(1, 20))
        self.ended_within(yoke, 5)

    def test_nobody_new_is_let_in_while_stopping(self):
        yoke = self.serve_one("tokens=20;tokens_per_s=10")
        with yoke.stream("chat") as events:
            next(events)
            yoke.terminate()

            def refused():
                with contextlib.suppress(ConnectionRefusedError), yoke.connect():
                    return False
                return True

            until(refused, "new connections are refused", 5)
            list(events)
        self.ended_within(yoke, 5)

    def test_endless_answer_is_cut_in_the_end(self):
        yoke = self.serve_one("tokens=100000;tokens_per_s=10")
        with yoke.stream("chat") as events:
            next(events)
            yoke.terminate()
            start = time.monotonic()
            with self.assertRaises((EOFError, ConnectionResetError)):
                list(events)
            self.assertGreater(time.monotonic() - start, 5)
        self.ended_within(yoke, 10)

    def test_second_interrupt_cuts_answers(self):
        yoke = self.serve_one("tokens=100000;tokens_per_s=10;ignore_term=1")
        engine = yoke.instance("chat")["pid"]
        with yoke.stream("chat") as events:
            next(events)
            yoke.process.send_signal(signal.SIGINT)
            until(lambda: "Stopping" in yoke.log(), "the stop has begun")

            def interrupted():  # Sent again, until it is listened to.
                yoke.process.send_signal(signal.SIGINT)
                return yoke.process.poll() is not None

            until(interrupted, "the second interrupt ends it", 5)
            self.assertEqual(yoke.wait(), 130)
        until(lambda: not is_running(engine), "the engine has ended", 5)
        until(lambda: not yoke.left_over(), "its guard has ended too", 5)


if __name__ == "__main__":
    unittest.main()
