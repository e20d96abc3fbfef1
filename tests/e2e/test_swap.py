"""Many models in a memory that holds two of them: who is loaded, who has to go, and who waits.

The fake engine takes no memory worth the name; what its models need follows from their files, which
are sparse: a true header, and no weights.
"""

import concurrent.futures
import contextlib
import json
import os
import random
import signal
import socket
import threading
import time
import unittest

from harness import E2eTest, chat_body, content_of, fake_text, until
from swap_case import MIB, EngineWatch, engines_of, write_sized

MODEL_MIB = 256  # Weights; with what an engine needs besides about 340 MiB.
FOR_TWO = {"memory": {"host": "800MiB"}}
FOR_ALL = {"memory": {"host": "4GiB"}}
LARGE_MIB = 1000
TOKENS = 16  # Of the fake engine's replies.
ON_DEMAND = {"preload": False}
# Answers one token and no more, until the client leaves.
ENDLESS = "hang_after_tokens=1"


class SwapCase(E2eTest):
    def model(self, name, script="", mib=MODEL_MIB, **options):
        """Of that size; the engine's starts and requests go to a journal."""
        table = self.sandbox.fake_model(f"journal={self.journal(name)};{script}", name,
                                        n_ctx=512, n_batch=64, cache_ram="0",
                                        **options)
        write_sized(table["model_path"], mib)
        return table

    def journal(self, name):
        return self.sandbox.directory / f"{name}.journal"

    def starts(self, name):
        with contextlib.suppress(FileNotFoundError):
            lines = self.journal(name).read_text().splitlines()
            return sum(line.endswith(" start") for line in lines)
        return 0

    def requests(self, name):
        return len(self.journal(name).read_text().splitlines()) - self.starts(name)

    def serve_models(self, scripts, tables=FOR_TWO, server=(), **options):
        """`scripts`: {name: script}, or {name: (script, options of its table)}."""
        models = {}
        for name, script in scripts.items():
            script, own = script if isinstance(script, tuple) else (script, {})
            models[name] = self.model(name, script, **{**ON_DEMAND, **options, **own})
        return self.sandbox.serve(models, server, tables=tables)

    def answer(self, yoke, name, limit_s=30, **fields):
        reply = yoke.chat(name, limit_s=limit_s, seed=7, **fields)
        self.assertEqual(reply.status, 200, reply)
        self.assertEqual(reply.text(), fake_text(7, TOKENS))
        # Its place is given back a moment after the last byte was sent.
        until(lambda: yoke.instance(name)["active_requests"] == 0, f"{name} is idle")

    @contextlib.contextmanager
    def waiting(self, yoke, name, how_many=1, **fields):
        """A client whose request waits for the model's turn."""
        with yoke.connect() as connection:
            connection.send("POST", "/v1/chat/completions", chat_body(name, seed=7, **fields))
            until(lambda: yoke.instance(name)["waiting"] == how_many, f"it waits for {name}")
            yield connection

    @contextlib.contextmanager
    def busy(self, yoke, *names):
        """These models answer without an end."""
        with contextlib.ExitStack() as stack:
            for name in names:
                events = stack.enter_context(yoke.stream(name, fake=ENDLESS))
                next(events)
            yield stack

    def loaded(self, yoke):
        instances = yoke.get("/yoke/v1/instances").json()["instances"]
        return {one["model"] for one in instances if one["state"] == "ready"}

    def command(self, yoke, what, name):
        reply = yoke.post(f"/yoke/v1/{what}", {"model": name})
        self.assertEqual(reply.status, 200, reply)
        return reply.json()

    def unload(self, yoke, *names):
        for name in names:
            self.command(yoke, "unload", name)
        until(lambda: not set(names) & set(engines_of(yoke)), f"{names} are unloaded")


class OnDemandTest(SwapCase):
    def test_only_what_is_asked_for(self):
        yoke = self.serve_models({"a": "", "b": "", "c": ""})
        self.answer(yoke, "a")
        self.assertEqual([self.starts(name) for name in "abc"], [1, 0, 0])
        self.assertEqual(self.loaded(yoke), {"a"})
        instance = yoke.instance("a")
        self.assertTrue(270 * MIB < instance["planned_bytes"] < 390 * MIB, instance)
        self.assertEqual(yoke.instance("b")["state"], "planned")
        self.assertIsNone(yoke.instance("b")["last_used_s"])
        [memory] = yoke.get("/yoke/v1/instances").json()["memory"]
        self.assertEqual((memory["budget"], memory["promised"]), (800 * MIB, 0))

    def test_preload_fills_the_memory_and_evicts_nobody(self):
        yoke = self.serve_models({"a": "", "b": "", "c": ("", {"priority": 1})}, preload=True)
        until(lambda: len(self.loaded(yoke)) == 2, "two are loaded")
        self.assertIn("c", self.loaded(yoke))
        with contextlib.suppress(AssertionError):
            until(lambda: len(self.loaded(yoke)) != 2, "nothing happens any more", 1)
        self.assertEqual(sum(self.starts(name) for name in "abc"), 2)
        [left] = {"a", "b", "c"} - self.loaded(yoke)
        self.answer(yoke, left)
        self.assertEqual(len(self.loaded(yoke)), 2)

    def test_a_model_that_does_not_fit_is_refused_at_once(self):
        yoke = self.serve_models({"a": "", "large": ("", {"mib": LARGE_MIB})})
        self.answer(yoke, "a")
        begin = time.monotonic()
        reply = yoke.chat("large")
        self.assertLess(time.monotonic() - begin, 1)
        self.check_error(reply, 503, "model_too_large", "large", "MiB", "`yoke plan`")
        self.assertNotIn("retry-after", reply.headers)
        self.assertEqual(self.loaded(yoke), {"a"})
        self.assertEqual(self.starts("large"), 0)
        self.assertIn("lacks", str(yoke.instance("large")["error"]))
        self.answer(yoke, "a")

    def test_a_model_that_does_not_fit_is_no_trouble_when_it_is_to_be_preloaded(self):
        yoke = self.serve_models({"large": ("", {"mib": LARGE_MIB}), "a": ""}, preload=True)
        yoke.wait_for_state("a", "ready")
        self.assertEqual(self.starts("large"), 0)


class EvictionTest(SwapCase):
    def test_the_one_that_is_cheapest_to_load_again_goes(self):
        yoke = self.serve_models({"slow": "load_ms=1200", "quick": "load_ms=50", "c": ""})
        self.answer(yoke, "slow")
        self.answer(yoke, "quick")  # Used last, and yet the better one to go.
        self.answer(yoke, "c")
        self.assertEqual(self.loaded(yoke), {"slow", "c"})
        self.assertRegex(yoke.log(), r"Model quick: .*evicted.* c")

    def test_a_higher_priority_stays(self):
        yoke = self.serve_models({"slow": "load_ms=500", "quick": ("load_ms=50", {"priority": 8}),
                                  "c": ""})
        self.answer(yoke, "quick")
        self.answer(yoke, "slow")
        self.answer(yoke, "c")
        self.assertEqual(self.loaded(yoke), {"quick", "c"})

    def test_no_more_go_than_have_to(self):
        """For the large one the two that are slow to load would do, and the quick one would not."""
        yoke = self.serve_models({"quick": ("load_ms=50", {"mib": 60}),
                                  "slow": ("load_ms=900", {"mib": 300}),
                                  "large": ("", {"mib": 450})})
        for name in ("slow", "quick", "large"):
            self.answer(yoke, name)
        # The quick one alone did not make room, so it need not have gone.
        self.assertEqual(self.loaded(yoke), {"quick", "large"})
        self.assertEqual([self.starts(name) for name in ("slow", "quick")], [1, 1])

    def test_one_that_answers_is_never_stopped(self):
        yoke = self.serve_models({"cheap": "tokens=30;tokens_per_s=15", "idle": "load_ms=800",
                                  "c": ""})
        self.answer(yoke, "idle")
        with yoke.stream("cheap", seed=1) as events:
            first = next(events)
            self.answer(yoke, "c")
            self.assertEqual(content_of([first, *events]), fake_text(1, 30))
        self.assertEqual(self.loaded(yoke), {"cheap", "c"})

    def test_where_all_answer_the_next_one_waits(self):
        script = "tokens=40;tokens_per_s=20"
        yoke = self.serve_models({"a": script, "b": script, "c": ""})
        with yoke.stream("a", seed=1) as of_a, yoke.stream("b", seed=2) as of_b:
            first = next(of_a), next(of_b)
            with self.waiting(yoke, "c") as connection:
                self.assertRegex(yoke.instance("c")["next"], "waits for [ab] to finish")
                self.assertEqual(self.starts("c"), 0)
                self.assertEqual(content_of([first[0], *of_a]), fake_text(1, 40))
                self.assertEqual(content_of([first[1], *of_b]), fake_text(2, 40))
                reply = connection.reply()
        self.assertEqual((reply.status, reply.text()), (200, fake_text(7, TOKENS)))
        self.assertEqual([self.starts(name) for name in "abc"], [1, 1, 1])

    def test_one_that_is_busy_all_the_time_makes_way_in_the_end(self):
        """Whoever comes later than the one that waits is answered after it."""
        script = "tokens=10;tokens_per_s=20"
        yoke = self.serve_models({"a": script, "b": script, "c": ""})
        ending = threading.Event()

        def ask_on_and_on(name):
            while not ending.is_set():
                self.assertEqual(yoke.chat(name).status, 200)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            clients = [pool.submit(ask_on_and_on, name) for name in "aabb" for _ in range(2)]
            try:
                until(lambda: self.starts("a") and self.starts("b"), "both are loaded")
                begin = time.monotonic()
                self.answer(yoke, "c")
                took = time.monotonic() - begin
            finally:
                ending.set()
            for client in clients:
                client.result(30)
        # Less than three seconds of patience, half a second for what runs, and the swap.
        self.assertLess(took, 8)


class OverlapTest(SwapCase):
    """Engines that take their time to stop: what starts too early would be seen beside them."""

    CLIENTS = 16
    REQUESTS = 10  # Of each client.
    SLOW = "load_ms=60;stop_ms=120;tokens=16;tokens_per_s=400;slots=16"

    def test_two_models_never_overlap_in_one_place(self):
        yoke = self.serve_models({"a": self.SLOW, "b": self.SLOW},
                                 {"memory": {"host": "400MiB"}})
        with EngineWatch(yoke) as watch:
            for _ in range(5):
                self.answer(yoke, "a")
                self.answer(yoke, "b")
        self.assertEqual(watch.seen - {(), ("a",), ("b",)}, set())
        self.assertGreater(watch.samples, 100)
        self.assertEqual([self.starts(name) for name in "ab"], [5, 5])

    def test_16_clients_that_change_models_all_the_time(self):
        names = ("a", "b", "c")
        yoke = self.serve_models(dict.fromkeys(names, self.SLOW))
        seed = int(os.environ.get("SWAP_SEED", time.time_ns()))
        seconds = []

        def ask(client):
            choice = random.Random(seed + client)
            for number in range(self.REQUESTS):
                name, text_seed = choice.choice(names), client * 1000 + number
                begin = time.monotonic()
                if choice.random() < 0.5:
                    with yoke.stream(name, seed=text_seed, limit_s=60) as events:
                        text = content_of(events)
                else:
                    text = yoke.chat(name, seed=text_seed, limit_s=60).text()
                seconds.append(time.monotonic() - begin)
                assert text == fake_text(text_seed, TOKENS), f"{name} {text_seed}: {text}"

        with EngineWatch(yoke) as watch, concurrent.futures.ThreadPoolExecutor(self.CLIENTS) as pool:
            for done in [pool.submit(ask, client) for client in range(self.CLIENTS)]:
                done.result(180)
        loads = sum(self.starts(name) for name in names)
        print(f"seed {seed}: {self.CLIENTS * self.REQUESTS} requests, {loads} loads, longest "
              f"{max(seconds):.2f} s, {watch.samples} looks: {sorted(watch.seen)}")
        self.assertEqual(len(seconds), self.CLIENTS * self.REQUESTS)
        self.assertEqual(max(map(len, watch.seen)), 2, f"seed {seed}: {watch.seen}")
        self.assertFalse([seen for seen in watch.seen if len(set(seen)) < len(seen)], watch.seen)
        self.assertGreater(loads, 4)
        # Each request reached an engine once.
        self.assertEqual(sum(self.requests(name) for name in names), len(seconds))

    def test_nothing_is_left_after_many_swaps(self):
        yoke = self.serve_models({"a": "", "b": "stop_ms=30", "c": ""})

        def round_trip():
            for name in "abcacb":
                self.answer(yoke, name)
            ports = [yoke.instance(name)["port"] for name in self.loaded(yoke)]
            self.unload(yoke, *"abc")
            return ports

        round_trip()
        before = yoke.descriptors()
        ports = [port for _ in range(5) for port in round_trip()]
        until(lambda: yoke.descriptors() <= before, f"no more than {before} descriptors are open")
        self.assertEqual(set(yoke.left_over()) - {yoke.pid} - yoke.guards(), set())
        self.assertGreaterEqual(len(ports), 10)
        for port in ports:
            with socket.socket() as probe:
                self.assertNotEqual(probe.connect_ex(("127.0.0.1", port)), 0)


class LeavingClientTest(SwapCase):
    def test_one_that_waits_for_its_turn(self):
        yoke = self.serve_models({"a": "", "b": "", "c": ""})
        with self.busy(yoke, "a", "b"):
            with self.waiting(yoke, "c") as connection:
                connection.close()
            until(lambda: yoke.instance("c")["waiting"] == 0, "it has left the queue", 5)
        self.answer(yoke, "a")
        self.answer(yoke, "b")
        self.assertEqual([self.starts(name) for name in "abc"], [1, 1, 0])
        self.assertEqual(yoke.metric('yoke_requests_active{model="c"}'), 0)

    def test_the_others_keep_their_places(self):
        yoke = self.serve_models({"a": "", "b": "", "c": ""})
        with self.busy(yoke, "a", "b") as stack, self.waiting(yoke, "c", 1) as first:
            with self.waiting(yoke, "c", 2) as second, self.waiting(yoke, "c", 3) as third:
                second.reset()
                until(lambda: yoke.instance("c")["waiting"] == 2, "it has left the queue", 5)
                stack.close()
                for connection in (first, third):
                    self.assertEqual(connection.reply().text(), fake_text(7, TOKENS))
        self.assertEqual(self.requests("c"), 2)

    def test_at_the_very_moment_when_its_turn_comes(self):
        yoke = self.serve_models({"a": "load_ms=30", "b": "load_ms=30"},
                                 {"memory": {"host": "400MiB"}})
        choice = random.Random(1)
        begin = time.monotonic()
        self.answer(yoke, "a")
        self.answer(yoke, "b")
        swap_s = (time.monotonic() - begin) / 2
        for number in range(40):
            name = "ab"[number % 2]  # The one that is not loaded.
            with yoke.connect() as connection:
                connection.send("POST", "/v1/chat/completions", chat_body(name))
                time.sleep(choice.uniform(0, 1.3 * swap_s))
                (connection.reset if number % 3 else connection.close)()
            until(lambda name=name: yoke.instance(name)["waiting"] == 0
                  and yoke.instance(name)["active_requests"] == 0, "nothing waits for it", 5)
        self.answer(yoke, "a")
        self.answer(yoke, "b")
        until(lambda: yoke.engine_get("b", "/fake/stats")["active"] == 0, "it has nothing to do")
        self.assertEqual(len(engines_of(yoke)), 1)


class DyingEngineTest(SwapCase):
    def check_quick_swap(self, yoke, limit_s=3):
        """Model "c" takes the place of "a", which does not end well."""
        begin = time.monotonic()
        self.answer(yoke, "c")
        self.assertLess(time.monotonic() - begin, limit_s)

    def test_killed_while_it_is_stopped(self):
        yoke = self.serve_models({"a": "stop_ms=20000", "c": ""}, {"memory": {"host": "400MiB"}})
        self.answer(yoke, "a")
        engine = yoke.instance("a")["pid"]
        with yoke.connect() as connection:
            connection.send("POST", "/v1/chat/completions", chat_body("c", seed=7))
            until(lambda: yoke.instance("a")["state"] == "draining", "it is being stopped")
            self.assertEqual(self.starts("c"), 0)
            os.kill(engine, signal.SIGKILL)
            begin = time.monotonic()
            self.assertEqual(connection.reply().text(), fake_text(7, TOKENS))
            self.assertLess(time.monotonic() - begin, 3)
        # That was no failure.
        instance = yoke.instance("a")
        self.assertEqual((instance["state"], instance["restarts"]), ("stopped", 0), instance)
        self.assertIsNone(instance["error"])
        self.answer(yoke, "a")

    def test_crashes_while_it_is_stopped(self):
        yoke = self.serve_models({"a": "stop_ms=20000", "c": ""}, {"memory": {"host": "400MiB"}})
        for number in range(3):
            self.answer(yoke, "a")
            with yoke.connect() as connection:
                connection.send("POST", "/v1/chat/completions", chat_body("c", seed=7))
                until(lambda: yoke.instance("a")["state"] == "draining", "it is being stopped")
                os.kill(yoke.instance("a")["pid"], (signal.SIGSEGV, signal.SIGABRT)[number % 2])
                self.assertEqual(connection.reply().status, 200)
        self.assertEqual(yoke.instance("a")["restarts"], 0)
        self.assertEqual(yoke.get("/yoke/v1/quarantine").json()["quarantines"], [])

    def test_one_that_does_not_listen_is_killed(self):
        yoke = self.serve_models({"a": "ignore_term=1;spawn_children=2", "c": ""},
                                 {"memory": {"host": "400MiB"}})
        self.answer(yoke, "a")
        with EngineWatch(yoke) as watch:
            self.check_quick_swap(yoke, 10)
        self.assertEqual(watch.seen - {(), ("a",), ("c",)}, set())
        self.assertEqual(len(set(yoke.left_over()) - {yoke.pid} - yoke.guards()), 1)

    def test_one_that_others_wait_for(self):
        yoke = self.serve_models({"a": "load_ms=1000"})
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(yoke.chat, "a", seed=7) for _ in range(8)]
            until(lambda: yoke.instance("a")["waiting"] == 8, "all wait")
            until(lambda: engines_of(yoke)["a"], "its engine runs")
            os.kill(engines_of(yoke)["a"][0], signal.SIGKILL)
            for done in asked:
                self.assertEqual(done.result(30).text(), fake_text(7, TOKENS))
        self.assertEqual((self.starts("a"), self.requests("a")), (2, 8))

    def test_in_the_middle_of_an_answer_while_another_waits_for_its_place(self):
        """The answer goes on, and so it keeps its place before the one that came later."""
        yoke = self.serve_models(
            {"a": f"tokens=20;tokens_per_s=20;crash_after_tokens=10;once_file={self.once_file()}",
             "c": ""}, {"memory": {"host": "400MiB"}})
        with yoke.stream("a", seed=1) as events:
            first = next(events)
            with self.waiting(yoke, "c") as connection, EngineWatch(yoke) as watch:
                self.assertEqual(content_of([first, *events]), fake_text(1, 20))
                self.assertEqual(connection.reply().text(), fake_text(7, TOKENS))
        self.assertEqual(watch.seen - {(), ("a",), ("c",)}, set())
        self.assertEqual(yoke.metric('yoke_survived_total{how="continued"}'), 1)

    def test_one_that_never_gets_ready_is_no_obstacle_for_ever(self):
        """It is not asked for any more, so its place is another one's."""
        yoke = self.serve_models({"a": "crash_on_load=1", "c": ""}, {"memory": {"host": "400MiB"}})
        refused = yoke.chat("a", limit_s=60)
        self.assertEqual(refused.status, 503, refused)
        self.check_quick_swap(yoke)

    def test_an_idle_one_that_dies_gives_its_place_away(self):
        yoke = self.serve_models({"a": "", "c": ""}, {"memory": {"host": "400MiB"}})
        for _ in range(3):
            self.answer(yoke, "a")
            os.kill(yoke.instance("a")["pid"], signal.SIGKILL)
            self.check_quick_swap(yoke)


class ResidenceTest(SwapCase):
    def test_unload_after(self):
        yoke = self.serve_models({"a": ("tokens=30;tokens_per_s=15", {"unload_after": "1s"}),
                                  "b": ""})
        self.answer(yoke, "b")
        with yoke.stream("a", seed=1) as events:  # Two seconds long.
            self.assertEqual(content_of(events), fake_text(1, 30))
        begin = time.monotonic()
        self.assertRegex(yoke.instance("a")["next"], "unloads in")
        yoke.wait_for_state("a", "stopped")
        self.assertTrue(0.5 < time.monotonic() - begin < 4)
        self.assertEqual(engines_of(yoke)["a"], [])
        self.assertEqual(self.loaded(yoke), {"b"})
        with yoke.stream("a", seed=2) as events:
            self.assertEqual(content_of(events), fake_text(2, 30))
        self.assertEqual(self.starts("a"), 2)

    def test_unload_after_for_all(self):
        tables = {"memory": {"host": "800MiB", "unload_after": "1s"}}
        yoke = self.serve_models({"a": "", "b": ("", {"unload_after": "0s"})}, tables)
        self.answer(yoke, "a")
        self.answer(yoke, "b")
        yoke.wait_for_state("a", "stopped")
        self.assertEqual(self.loaded(yoke), {"b"})

    def test_pinned(self):
        yoke = self.serve_models({"a": ("", {"pinned": True}), "b": "load_ms=600",
                                  "c": "load_ms=600"})
        yoke.wait_for_state("a", "ready")
        for name in "bcb":
            self.answer(yoke, name)
        self.assertEqual([self.starts(name) for name in "abc"], [1, 2, 1])
        self.assertTrue(yoke.instance("a")["pinned"])

    def test_pins_in_the_way_are_named(self):
        yoke = self.serve_models({"a": "", "b": "", "c": ""})
        for name in "ab":
            self.command(yoke, "pin", name)
        until(lambda: self.loaded(yoke) == {"a", "b"}, "both are loaded")
        begin = time.monotonic()
        reply = yoke.chat("c")
        self.assertLess(time.monotonic() - begin, 1)
        self.check_error(reply, 503, "blocked_by_pin", "a, b", "unpin")
        self.command(yoke, "unpin", "b")
        self.answer(yoke, "c")
        self.assertEqual(self.loaded(yoke), {"a", "c"})

    def test_one_of_a_group_at_a_time(self):
        tables = {**FOR_ALL, "groups.big": {"one_at_a_time": True}}
        script = "stop_ms=100;load_ms=30"
        yoke = self.serve_models({"a": (script, {"group": "big"}), "b": (script, {"group": "big"}),
                                  "free": script}, tables)
        with EngineWatch(yoke) as watch:
            for name in ("a", "free", "b", "a"):
                self.answer(yoke, name)
        self.assertEqual(self.loaded(yoke), {"a", "free"})
        self.assertFalse([seen for seen in watch.seen if {"a", "b"} <= set(seen)], watch.seen)
        self.assertIn(("a", "free"), watch.seen)
        self.assertEqual(self.starts("free"), 1)

    def test_groups_that_exclude_each_other(self):
        tables = {**FOR_ALL, "groups.day": {"not_with": ["night"]}, "groups.night": {}}
        script = "stop_ms=100;load_ms=30"
        yoke = self.serve_models({"a": (script, {"group": "day"}), "b": (script, {"group": "day"}),
                                  "c": (script, {"group": "night"})}, tables)
        with EngineWatch(yoke) as watch:
            for name in "abcab":
                self.answer(yoke, name)
        self.assertEqual(self.loaded(yoke), {"a", "b"})
        self.assertEqual(watch.seen - {(), ("a",), ("b",), ("c",), ("a", "b")}, set())

    def test_higher_priority_is_loaded_first(self):
        yoke = self.serve_models({"a": "", "low": ("load_ms=100", {"priority": -1}),
                                  "high": ("load_ms=100", {"priority": 5})},
                                 {"memory": {"host": "400MiB"}})
        with self.busy(yoke, "a") as stack, self.waiting(yoke, "low") as low:
            with self.waiting(yoke, "high") as high:
                stack.close()
                self.assertEqual(high.reply().status, 200)
                self.assertEqual(self.starts("low"), 0)
                self.assertEqual(low.reply().status, 200)


class QueueTest(SwapCase):
    def test_a_full_queue(self):
        yoke = self.serve_models({"a": ("load_ms=1500", {"max_waiting": 2})})
        with self.waiting(yoke, "a", 1) as first, self.waiting(yoke, "a", 2) as second:
            begin = time.monotonic()
            reply = yoke.chat("a")
            self.assertLess(time.monotonic() - begin, 1)
            self.check_error(reply, 503, "model_busy", "2", "'a'")
            self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)
            for connection in (first, second):
                self.assertEqual(connection.reply().text(), fake_text(7, TOKENS))
        self.answer(yoke, "a")

    def test_its_turn_does_not_come_in_time(self):
        yoke = self.serve_models({"a": "", "c": ""}, {"memory": {"host": "400MiB"}},
                                 {"start_timeout": "2s"})
        with self.busy(yoke, "a"):
            begin = time.monotonic()
            reply = yoke.chat("c")
            self.assertTrue(1.8 < time.monotonic() - begin < 5)
        self.check_error(reply, 503, "model_loading", "'c'")
        self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)
        self.answer(yoke, "c")

    def test_unload_rejects_those_who_wait(self):
        yoke = self.serve_models({"a": "", "c": ""}, {"memory": {"host": "400MiB"}})
        with self.busy(yoke, "a"), self.waiting(yoke, "c") as connection:
            self.command(yoke, "unload", "c")
            self.check_error(connection.reply(), 503, "model_unloaded", "'c'")

    def test_yoke_stops(self):
        yoke = self.serve_models({"a": "", "b": "", "c": ""})
        with contextlib.ExitStack() as busy:
            for name in "ab":
                connection = busy.enter_context(yoke.connect())
                connection.send("POST", "/v1/chat/completions",
                                chat_body(name, stream=True, fake=ENDLESS))
                connection.head()
            with contextlib.ExitStack() as waiting:
                clients = [waiting.enter_context(self.waiting(yoke, "c", number + 1))
                           for number in range(4)]
                begin = time.monotonic()
                yoke.terminate()
                for connection in clients:
                    self.check_error(connection.reply(), 503, "shutting_down")
                self.assertLess(time.monotonic() - begin, 3)
        self.assertEqual(yoke.wait(20), 0)
        self.assertEqual(yoke.left_over(), [])
        self.assertEqual(self.starts("c"), 0)

    def test_yoke_stops_in_the_middle_of_a_swap(self):
        for delay_s in (0, 0.05, 0.2, 0.5):
            with self.subTest(delay_s):
                yoke = self.serve_models({"a": "stop_ms=300", "c": "load_ms=300"},
                                         {"memory": {"host": "400MiB"}})
                self.answer(yoke, "a")
                with yoke.connect() as connection:
                    connection.send("POST", "/v1/chat/completions", chat_body("c", seed=7))
                    time.sleep(delay_s)
                    yoke.terminate()
                    # Never let in, told to go, or answered within the grace.
                    with contextlib.suppress(ConnectionError, EOFError):
                        reply = connection.reply()
                        if reply.status != 200:
                            self.check_error(reply, 503, "shutting_down")
                self.assertEqual(yoke.wait(15), 0)
                self.assertEqual(yoke.left_over(), [])


if __name__ == "__main__":
    unittest.main()
