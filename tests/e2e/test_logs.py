"""The engines' logs over HTTP."""

import json
import os
import signal
import unittest

from harness import E2eTest, until


class LogsTest(E2eTest):
    def setUp(self):
        super().setUp()
        names = ("alpha", "beta", "gamma")
        self.yoke = self.sandbox.serve({name: self.sandbox.fake_model("tokens=3")
                                        for name in names})
        for name in names:
            self.yoke.wait_for_state(name, "ready")
        self.names = set(names)

    def lines(self, query=""):
        return self.yoke.get(f"/yoke/v1/logs{query}").json()["lines"]

    def test_all_models(self):
        lines = self.lines()
        self.assertEqual({line["model"] for line in lines}, self.names)
        self.assertEqual([line["time_ms"] for line in lines],
                         sorted(line["time_ms"] for line in lines))
        for name in self.names:
            numbers = [line["seq"] for line in lines if line["model"] == name]
            self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))

    def test_one_model_and_its_last_lines(self):
        lines = self.lines("?model=beta")
        self.assertEqual({line["model"] for line in lines}, {"beta"})
        self.assertTrue(any("listening" in line["line"] for line in lines))
        self.assertEqual(self.lines("?model=beta&tail=2"), lines[-2:])
        self.assertEqual(self.lines("?model=beta&tail=0"), [])

    def test_unknown_model(self):
        for query in ("?model=betta", "?model=betta&follow=true"):
            reply = self.yoke.get(f"/yoke/v1/logs{query}")
            self.check_error(reply, 404, "model_not_found", "Did you mean 'beta'?")

    def test_wrong_method(self):
        self.check_error(self.yoke.post("/yoke/v1/logs", {}), 405, "method_not_allowed")

    def test_one_stream_carries_all_models(self):
        # A browser opens six connections to a host at most, so a page has to manage with one.
        with self.yoke.connect() as connection:
            connection.send("GET", "/yoke/v1/logs?follow=true&tail=0")
            events = connection.events()
            for name in ("beta", "alpha", "gamma"):
                with self.yoke.stream(name) as stream:
                    list(stream)
                line = json.loads(next(events))
                self.assertEqual(line["model"], name)
                while "stop processing" not in line["line"]:
                    line = json.loads(next(events))
                    self.assertEqual(line["model"], name)

    def follow_flood(self, count):
        """The numbers of a flood's lines that a follower sees, up to the last line."""
        with self.yoke.connect() as connection:
            connection.send("GET", "/yoke/v1/logs?follow=true&tail=0&model=alpha")
            events = connection.events()
            self.assertEqual(self.yoke.chat("alpha", fake=f"log_flood_lines={count}").status, 200)
            seen = [-1]
            while seen[-1] != count - 1:
                line = json.loads(next(events))["line"]
                if "flood line" in line:
                    seen.append(int(line.rpartition(" ")[2]))
            return seen[1:]

    def test_stream_loses_no_line(self):
        self.assertEqual(self.follow_flood(1000), list(range(1000)))

    def test_follower_that_falls_behind_goes_on_with_newer_lines(self):
        seen = self.follow_flood(100_000)
        self.assertEqual(seen, sorted(set(seen)))

    def test_stream_goes_on_over_a_restart(self):
        with self.yoke.connect() as connection:
            connection.send("GET", "/yoke/v1/logs?follow=true&model=alpha&tail=1")
            events = connection.events()
            self.assertEqual(json.loads(next(events)), self.lines("?model=alpha&tail=1")[0])
            os.kill(self.yoke.instance("alpha")["pid"], signal.SIGKILL)
            while "listening" not in json.loads(next(events))["line"]:
                pass
        self.yoke.wait_for_state("alpha", "ready")

    def test_stream_ends_with_its_client(self):
        descriptors = self.yoke.descriptors()
        followers = []
        for _ in range(20):
            connection = self.yoke.connect()
            connection.send("GET", "/yoke/v1/logs?follow=true")
            connection.head()
            followers.append(connection)
        self.assertGreaterEqual(self.yoke.descriptors(), descriptors + 10)
        for connection in followers:
            connection.close()
        until(lambda: self.yoke.descriptors() <= descriptors, "the followers are gone", 5)

    def test_follower_does_not_hold_up_the_end(self):
        with self.yoke.connect() as connection:
            connection.send("GET", "/yoke/v1/logs?follow=true")
            _, headers = connection.head()
            self.assertEqual(headers["x-accel-buffering"], "no")
            self.yoke.terminate()
            self.assertEqual(self.yoke.wait(5), 0)
            list(connection.pieces(headers))  # It ends in order.

    def test_log_does_not_grow_without_end(self):
        self.yoke.chat("alpha", fake="log_flood_lines=100000", limit_s=60)
        memory = self.yoke.rss_bytes()
        for _ in range(3):
            self.yoke.chat("alpha", fake="log_flood_lines=100000", limit_s=60)
        self.assertLess(self.yoke.rss_bytes() - memory, 8 << 20)
        self.assertLess(len(self.lines("?model=alpha&tail=1000000")), 100_000)


if __name__ == "__main__":
    unittest.main()
