"""Yoke that is killed: the guard beside it ends what its engines have started."""

import os
import pathlib
import signal
import unittest

from harness import E2eTest, until

GONE_WITHIN_S = 5


def guards_of(yoke):
    found = []
    for pid in yoke.left_over():
        process = pathlib.Path(f"/proc/{pid}")
        try:
            name = process.joinpath("comm").read_text().strip()
            parent = process.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name == "yoke-guard" and int(parent) == yoke.pid:
            found.append(pid)
    return found


class GuardTest(E2eTest):
    def the_guard(self, yoke):
        return until(lambda: len(guards_of(yoke)) == 1 and guards_of(yoke), "it has a guard")[0]

    def kill(self, yoke):
        yoke.process.kill()
        self.assertEqual(yoke.wait(), -signal.SIGKILL)
        until(lambda: not yoke.left_over(), "nothing is left", GONE_WITHIN_S)

    def test_helpers_of_engines_end_with_a_killed_yoke(self):
        for setsid in (0, 1):
            with self.subTest(children_setsid=setsid):
                yoke = self.serve_one(f"spawn_children=3;children_setsid={setsid};ignore_term=1")
                self.the_guard(yoke)
                # Yoke, its guard, the engine and its three children.
                self.assertEqual(len(yoke.left_over()), 6)
                self.kill(yoke)

    def test_guard_is_no_engine_and_ends_with_yoke(self):
        yoke = self.serve_one("tokens=3")
        guard = self.the_guard(yoke)
        self.assertNotEqual(yoke.instance("chat")["pid"], guard)
        os.kill(yoke.instance("chat")["pid"], signal.SIGKILL)
        until(lambda: yoke.instance("chat")["restarts"] == 1, "the engine is started again")
        yoke.wait_for_state("chat", "ready")
        self.assertEqual(guards_of(yoke), [guard])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(guard, number)
        self.assertEqual(guards_of(yoke), [guard])
        yoke.stop()  # Also checks that nothing is left.

    def test_guard_that_is_killed_is_replaced(self):
        yoke = self.sandbox.serve({
            name: self.sandbox.fake_model("spawn_children=1;children_setsid=1")
            for name in ("one", "two")})
        for name in ("one", "two"):
            yoke.wait_for_state(name, "ready")
        first = self.the_guard(yoke)
        os.kill(first, signal.SIGKILL)
        os.kill(yoke.instance("one")["pid"], signal.SIGKILL)  # What follows is told to a guard.
        until(lambda: yoke.instance("one")["restarts"] == 1, "the engine is started again")
        yoke.wait_for_state("one", "ready")
        self.assertNotEqual(self.the_guard(yoke), first)
        self.kill(yoke)

    def test_guard_keeps_nothing_open(self):
        yoke = self.serve_one("tokens=3")
        targets = [os.readlink(entry)
                   for entry in pathlib.Path(f"/proc/{self.the_guard(yoke)}/fd").iterdir()]
        self.assertEqual(len([target for target in targets if target.startswith("socket:")]), 1)
        self.assertNotIn(str(yoke.log_file), targets)


if __name__ == "__main__":
    unittest.main()
