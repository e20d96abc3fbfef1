"""Engines are killed at random moments under load: every request ends rightly or says honestly why not.

CHAOS_KILLS is how many die (`make chaos`: 1000), CHAOS_SEED repeats a run's choices.
"""

import collections
import json
import os
import random
import signal
import statistics
import threading
import time
import unittest

from harness import E2eTest, fake_text, until

KILLS = int(os.environ.get("CHAOS_KILLS", "60"))
SEED = int(os.environ.get("CHAOS_SEED", time.time_ns()))
MODELS = [f"chat{number}" for number in range(8)]
CLIENTS = 32
TOKENS = 20
SCRIPT = f"tokens={TOKENS};tokens_per_s=200;slots=64;load_ms=20"
SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)
HONEST = {"engine_failed", "model_loading", "cannot_continue"}
LIMIT_S = 60  # Of one request.


class Chaos:
    """Clients that ask on and on, and what became of their requests."""

    def __init__(self, yoke):
        self.yoke = yoke
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.outcomes = collections.Counter()
        self.wrong = []
        self.seconds = []

    def note(self, outcome, seconds, wrong=None):
        with self.lock:
            self.outcomes[outcome] += 1
            self.seconds.append(seconds)
            if wrong is not None:
                self.wrong.append(wrong)

    def ask_on_and_on(self, client):
        choice = random.Random(SEED + client)
        while not self.ending.is_set():
            model, seed = choice.choice(MODELS), choice.randrange(10**6)
            begin = time.monotonic()
            try:
                ask = self.ask_stream if choice.random() < 0.7 else self.ask_whole
                outcome, wrong = ask(model, seed)
            except Exception as problem:  # A connection that broke, above all.
                outcome, wrong = "broken", f"{model} {seed}: {problem!r}"
            self.note(outcome, time.monotonic() - begin, wrong)
            if outcome == "refused":
                self.ending.wait(0.2)  # As Retry-After asks for, if much shorter.

    def ask_whole(self, model, seed):
        reply = self.yoke.chat(model, seed=seed)
        if reply.status == 200:
            return "whole", None if reply.text() == fake_text(seed, TOKENS) else f"{seed}: {reply}"
        return self.refused(reply.status, reply.error()["code"])

    def ask_stream(self, model, seed):
        body = {"model": model, "messages": [], "seed": seed, "stream": True}
        with self.yoke.connect(limit_s=LIMIT_S) as connection:
            connection.send("POST", "/v1/chat/completions", body)
            status, headers = connection.head()
            if status != 200:
                error = json.loads(b"".join(connection.pieces(headers)))["error"]
                return self.refused(status, error["code"])
            payloads = list(connection.payloads(headers))
        last = payloads.pop()
        events = [json.loads(payload) for payload in payloads]
        text = "".join(choice["delta"].get("content") or ""
                       for event in events for choice in event["choices"])
        whole = fake_text(seed, TOKENS)
        if len({event["id"] for event in events}) > 1:
            return "mixed", f"{seed}: more than one id"
        if last == "[DONE]":
            return "stream", None if text == whole else f"{seed}: {text!r}"
        code = json.loads(last)["error"]["code"]
        honest = code in HONEST and whole.startswith(text)
        return "cut", None if honest else f"{seed}: {code} after {text!r}"

    def refused(self, status, code):
        return "refused", None if status == 503 and code in HONEST else f"{status} {code}"


class ChaosTest(E2eTest):
    def kill_engines(self, yoke):
        choice = random.Random(SEED)
        begin = time.monotonic()
        kills = 0
        while kills < KILLS:
            time.sleep(choice.uniform(0.05, 0.3))
            self.assertLess(time.monotonic() - begin, 30 + KILLS, "the engines don't come back")
            ready = [one for one in yoke.get("/yoke/v1/instances").json()["instances"]
                     if one["state"] == "ready" and one["uptime_s"] > 1]
            if not ready:
                continue
            try:
                os.kill(choice.choice(ready)["pid"], choice.choice(SIGNALS))
                kills += 1
            except ProcessLookupError:
                pass  # It had died a moment ago.
        return time.monotonic() - begin

    def test_kills_at_random_moments(self):
        yoke = self.sandbox.serve({name: self.sandbox.fake_model(SCRIPT) for name in MODELS},
                                  {"start_timeout": "20s"})
        for name in MODELS:
            yoke.wait_for_state(name, "ready")
        before = yoke.descriptors()
        chaos = Chaos(yoke)
        clients = [threading.Thread(target=chaos.ask_on_and_on, args=(number,))
                   for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            took = self.kill_engines(yoke)
        finally:
            chaos.ending.set()
            for client in clients:
                client.join(LIMIT_S + 10)
        survived = {how: int(yoke.metric(f'yoke_survived_total{{how="{how}"}}'))
                    for how in ("replayed", "continued")}
        print(f"seed {SEED}: {KILLS} kills in {took:.0f} s, {sum(chaos.outcomes.values())} requests "
              f"{dict(chaos.outcomes)}, {survived}, median {statistics.median(chaos.seconds):.2f} s, "
              f"longest {max(chaos.seconds):.2f} s")
        self.assertFalse(any(client.is_alive() for client in clients), "a request never ended")
        self.assertEqual(chaos.wrong, [], f"seed {SEED}")
        self.assertEqual(chaos.outcomes["broken"], 0)
        self.assertGreater(chaos.outcomes["stream"] + chaos.outcomes["whole"], KILLS)
        self.assertGreater(survived["continued"], 0)
        self.assertGreater(survived["replayed"], 0)
        # Nothing is left: the engines that run are the ones that are shown.
        for name in MODELS:
            # One that died too often in a row waits to be asked for.
            until(lambda: yoke.chat(name).status == 200, f"{name} answers", 60)
        shown = {one["pid"] for one in yoke.get("/yoke/v1/instances").json()["instances"]}
        self.assertEqual(len(yoke.guards()), 1)
        until(lambda: set(yoke.left_over()) - {yoke.pid} - yoke.guards() == shown,
              "only the engines that are shown run")
        until(lambda: yoke.descriptors() <= before + 2, "no descriptor is left open")


if __name__ == "__main__":
    unittest.main()
