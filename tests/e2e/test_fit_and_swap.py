"""Three real models in a memory for two of them: 16 clients that change models, everybody answered,
and the engines' real memory never above the budget.

FIT_REQUESTS is how many requests (2000), FIT_SEED repeats a run's choices.
"""

import base64
import collections
import concurrent.futures
import contextlib
import os
import random
import re
import statistics
import struct
import threading
import time
import unittest

from harness import DATA_HOME, REAL_LIMIT_S, REAL_MODEL, REAL_MODEL_FILE, E2eTest, until
from swap_case import MIB, Watch, engines_of, resident_bytes, write_random

REQUESTS = int(os.environ.get("FIT_REQUESTS", "2000"))
SEED = int(os.environ.get("FIT_SEED", time.time_ns()))
CLIENTS = 16
EMBEDDING_FILE = DATA_HOME / "yoke/models/all-MiniLM-L6-v2.F16.gguf"
EMBEDDING_SIZE = 384
CHAT, EMBEDDING, RANDOM = "smollm2", "minilm", "random"
MODELS = (CHAT, EMBEDDING, RANDOM)
# Kind of request: its model and how often it is asked.
KINDS = {"chat": (CHAT, 25), "stream": (CHAT, 15), "embedding": (EMBEDDING, 40),
         "random chat": (RANDOM, 12), "random stream": (RANDOM, 8)}
WORDS = ("sea", "ship", "night", "stone", "river", "letter", "winter", "garden", "clock", "bridge")
# Yoke looks once a second at what its engines take, this test much more often.
LOOK_S = 0.05


class Clients:
    """They ask for one kind of answer after another; what became of it."""

    def __init__(self, yoke):
        self.yoke = yoke
        self.lock = threading.Lock()
        self.seconds = collections.defaultdict(list)
        self.texts = collections.Counter()

    def run(self, client):
        choice = random.Random(SEED + client)
        kinds, weights = list(KINDS), [weight for _, weight in KINDS.values()]
        for number in range(REQUESTS // CLIENTS + (client < REQUESTS % CLIENTS)):
            [kind] = choice.choices(kinds, weights)
            begin = time.monotonic()
            self.ask(kind, choice)
            with self.lock:
                self.seconds[kind].append(time.monotonic() - begin)

    def ask(self, kind, choice):
        model, _ = KINDS[kind]
        text = " ".join(choice.choices(WORDS, k=4))
        if model == EMBEDDING:
            return self.embed(text)
        options = {"max_tokens": choice.randint(1, 3), "temperature": 0, "limit_s": REAL_LIMIT_S}
        if not kind.endswith("stream"):
            reply = self.yoke.chat(model, text, **options)
            assert reply.status == 200, f"{kind}: {reply}"
            assert reply.json()["usage"]["completion_tokens"] >= 1, f"{kind}: {reply}"
            return None
        with self.yoke.stream(model, text, **options) as events:
            *events, last = events
        assert last == "[DONE]" and len(events) >= 2, f"{kind}: {events} {last}"
        assert not any('"error"' in event for event in events), f"{kind}: {events}"
        return None

    def embed(self, text):
        body = {"model": EMBEDDING, "input": text, "encoding_format": "base64"}
        reply = self.yoke.post("/v1/embeddings", body, limit_s=REAL_LIMIT_S)
        assert reply.status == 200, reply
        [one] = reply.json()["data"]
        vector = struct.unpack(f"<{EMBEDDING_SIZE}f", base64.b64decode(one["embedding"]))
        assert abs(sum(x * x for x in vector) - 1) < 0.001, vector


class Memory(Watch):
    """What the engines really hold."""

    def __init__(self, yoke):
        super().__init__(self._look_at_memory, LOOK_S)
        self.yoke = yoke
        self.most = collections.Counter()  # By model.
        self.most_together = 0
        self.most_at_once = 0
        self.most_used = 0  # As Yoke counts.

    def _look_at_memory(self):
        engines = engines_of(self.yoke)
        held = {name: sum(map(resident_bytes, pids)) for name, pids in engines.items()}
        for name, bytes_ in held.items():
            self.most[name] = max(self.most[name], bytes_)
        self.most_together = max(self.most_together, sum(held.values()))
        self.most_at_once = max(self.most_at_once, sum(map(len, engines.values())))
        [memory] = self.yoke.get("/yoke/v1/instances").json()["memory"]
        self.most_used = max(self.most_used, memory["used"])


def mib(count):
    return f"{count / MIB:.0f} MiB"


class FitAndSwapTest(E2eTest):
    def setUp(self):
        super().setUp()
        for file in (REAL_MODEL_FILE, EMBEDDING_FILE):
            self.assertTrue(file.exists(), f"{file} is missing: run `make model`")
        # 36 million weights: about as long to load as the others, and quick to compute.
        file = self.sandbox.directory / "random.gguf"
        write_random(file, layers=8, width=512, feed_forward=2048, vocabulary=4096)
        self.models = {
            CHAT: {**REAL_MODEL, "preload": False, "cache_ram": "16MiB"},
            EMBEDDING: {"model_path": str(EMBEDDING_FILE), "server_type": "embedding",
                        "threads": 1, "preload": False},
            RANDOM: {"model_path": str(file), "n_ctx": 2048, "threads": 1, "preload": False,
                     "cache_ram": "16MiB"}}

    def serve_models(self, **memory):
        return self.sandbox.serve(self.models, engine=None, tables={"memory": memory})

    def planned(self):
        """What each of them needs, as Yoke says before it loads any."""
        yoke = self.serve_models(host="4GiB")
        needs = {name: yoke.instance(name)["planned_bytes"] for name in MODELS}
        yoke.stop()
        return needs

    def report(self, clients, memory, needs, budget, took):
        print(f"seed {SEED}: {sum(map(len, clients.seconds.values()))} requests of {CLIENTS} "
              f"clients in {took:.0f} s")
        for kind in KINDS:
            times = sorted(clients.seconds[kind]) or [0]
            p95 = times[int(0.95 * (len(times) - 1))]
            print(f"  {kind:<14} {len(times):5}   p50 {statistics.median(times):6.3f} s   "
                  f"p95 {p95:6.3f} s   longest {times[-1]:6.3f} s")
        loads, evictions = self.swaps()
        print(f"  loads {dict(loads)}, evictions {dict(evictions)}")
        for name in MODELS:
            print(f"  {name:<14} planned {mib(needs[name])}, really at most "
                  f"{mib(memory.most[name])} ({memory.most[name] / needs[name]:.0%})")
        print(f"  together at most {mib(memory.most_together)} really, {mib(memory.most_used)} as "
              f"Yoke counts, of {mib(budget)}; {memory.samples} looks")

    def swaps(self):
        log = self.yoke.log()
        loads = collections.Counter(re.findall(r"Model (\w+): starting ", log))
        return loads, collections.Counter(re.findall(r"Model (\w+): .*\(evicted", log))

    def test_2000_mixed_requests(self):
        needs = self.planned()
        # Any two of them, and never all three.
        budget = sum(needs.values()) - min(needs.values()) // 2
        self.yoke = self.serve_models(host=str(budget))
        clients = Clients(self.yoke)
        begin = time.monotonic()
        with Memory(self.yoke) as memory, concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(clients.run, client) for client in range(CLIENTS)]:
                done.result(REAL_LIMIT_S * 3)
        self.report(clients, memory, needs, budget, time.monotonic() - begin)

        self.assertEqual(sum(map(len, clients.seconds.values())), REQUESTS)
        self.assertLessEqual(memory.most_together, budget)
        self.assertLessEqual(memory.most_used, budget)
        self.assertLessEqual(memory.most_at_once, 2)
        for name in MODELS:
            self.assertLessEqual(memory.most[name], needs[name], f"{name} takes more than planned")
            self.assertGreater(memory.most[name], needs[name] * 0.4, f"{name} takes far less")
        loads, evictions = self.swaps()
        self.assertGreaterEqual(min(loads[name] for name in MODELS), 1)
        self.assertGreaterEqual(sum(evictions.values()), 3)
        self.assertEqual({one["restarts"] for one in self.instances()}, {0})
        # Nothing runs but what is shown, and what is shown is idle.
        until(lambda: not any(one["active_requests"] for one in self.instances()), "all are idle")
        shown = sorted(one["pid"] for one in self.instances() if one["state"] == "ready")
        self.assertEqual(sorted(sum(engines_of(self.yoke).values(), [])), shown)
        self.check_what_yoke_says_is_real()
        self.yoke.stop()  # Fails if any engine is left behind.

    def check_what_yoke_says_is_real(self):
        """Yoke measures after a load and after answers, once a second."""
        def off():
            return [(one["model"], one["memory_bytes"], resident_bytes(one["pid"]))
                    for one in self.instances() if one["state"] == "ready"
                    and not close(one["memory_bytes"], resident_bytes(one["pid"]))]

        def close(said, real):
            return said is not None and abs(said - real) < 0.1 * real

        with contextlib.suppress(AssertionError):
            until(lambda: not off(), "Yoke says what the engines hold", 5)
        self.assertEqual(off(), [], "(model, as Yoke says, really)")

    def instances(self):
        return self.yoke.get("/yoke/v1/instances").json()["instances"]


if __name__ == "__main__":
    unittest.main()
