"""Both RPC clients give the same answers: the same greedy tokens, and for each of them the same
most probable ones with the same probabilities, to the last digit.

What is compared is a transcript of one llama-server: the same requests in the same order to a fresh
one with each client, on the same workers, with layers given out by hand. Floating-point results
depend on what is computed together. So requests that shall run side by side are sent as one request
with several prompts: llama-server takes these up together, and its batches are the same each time.

RPC_MATRIX=full runs every architecture on every number of workers.
"""

import contextlib
import dataclasses
import os
import unittest

import rpc_cluster
import rpc_models
from rpc_cluster import STOCK, TESTED, Cluster, prompt_of

FULL = os.environ.get("RPC_MATRIX") == "full"
TOKENS = 12
REAL_VOCABULARY = 49152
# Fewer than this many different tokens in a transcript say little about what computed them.
LIVELY = 5

CPU = ("cpu", None)
CPU_TWICE = ("cpu", "CPU,CPU")  # Two devices of one worker.
VULKAN = ("vulkan", "Vulkan0")
VULKAN_AND_CPU = ("vulkan", "Vulkan0,CPU")

LOCAL_FIRST = {"device": "Vulkan0,RPC0,RPC1", "tensor_split": "1,1,1"}
LOCAL_LAST = {"device": "RPC0,RPC1,Vulkan0", "tensor_split": "1,1,1"}


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    model: str
    workers: tuple = (CPU, CPU)
    slots: int = 1
    lengths: tuple = (20, 300)
    ubatch: int = 128
    engine: str = "cpu"  # Of llama-server.
    options: dict = dataclasses.field(default_factory=dict)
    cache_ram: int = 0   # MiB
    conversation: bool = True

    def needs_vulkan(self):
        return self.engine == "vulkan" or any(engine == "vulkan" for engine, _ in self.workers)

    def arguments(self):
        devices = sum(len((devices or "one").split(",")) for _, devices in self.workers)
        return {"parallel": self.slots, "ubatch_size": self.ubatch, "ctx_size": 2048 * self.slots,
                "kv_unified": "" if self.slots == 1 else None, "cache_ram": self.cache_ram,
                "tensor_split": ",".join(["1"] * devices), **self.options}


# Each architecture and layout at least once. Prompts longer than a ubatch fill the pipeline.
QUICK = [
    Case("dense", "llama", (CPU,) * 3, slots=4, lengths=(20, 300, 900)),
    Case("dense, one worker", "llama", (CPU,), lengths=(20, 300)),
    Case("dense, real weights", "smollm2", lengths=(20, 200)),
    Case("MoE", "qwen3moe", (CPU,) * 4, slots=4, lengths=(20, 300, 900)),
    Case("MLA", "deepseek2", (CPU,) * 4, slots=2, lengths=(20, 300, 900), ubatch=64),
    Case("recurrent", "mamba", slots=3, lengths=(20, 300)),
    Case("hybrid", "falcon-h1", (CPU,) * 3, slots=2),
    Case("short convolutions", "lfm2", (CPU,) * 4, slots=2),
    Case("sliding window", "gemma3", (CPU,) * 4, slots=2, lengths=(20, 300, 900), ubatch=64),
    Case("sliding window and MoE", "gpt-oss", (CPU,) * 2, slots=2),
    Case("no flash attention", "llama", (CPU,) * 3, options={"flash_attn": "off"}),
    Case("layers on the controller's CPU", "qwen3moe", options={"n_gpu_layers": 3}),
    Case("two devices of one worker", "llama", (CPU_TWICE, CPU), slots=2),
    Case("weights read, not mapped", "llama", (CPU,) * 3, options={"load_mode": "none"}),
    Case("prompts kept in RAM", "llama", (CPU,) * 3, cache_ram=64),
    Case("local GPU, a Vulkan and a CPU worker", "tiny-llama", (VULKAN, CPU), lengths=(20, 100),
         ubatch=64, engine="vulkan", options=LOCAL_FIRST, conversation=False),
    Case("Vulkan workers", "tiny-gemma3", (VULKAN, VULKAN), lengths=(20, 100), ubatch=64,
         conversation=False),
]


def full_matrix():
    yield from QUICK
    for model in ("llama", "qwen3", "qwen3moe", "deepseek2", "mamba", "lfm2", "falcon-h1", "gemma3",
                  "gpt-oss"):
        for workers in (1, 2, 3, 4):
            for slots in (1, 2, 3, 4):
                ubatch = 64 if (workers + slots) % 2 else 128
                yield Case(f"{model}, {workers} workers, {slots} slots", model, (CPU,) * workers,
                           slots, (20, 300, 900), ubatch)
        for layers in (1, 2):
            yield Case(f"{model}, {layers} layers away", model, options={"n_gpu_layers": layers})
    # Of the small models those that Vulkan computes on a CPU without ending the worker. With
    # deepseek2 lavapipe ends it more often than not, with either client, where requests run
    # together or go on with what is kept.
    for model, several in (("tiny-llama", True), ("tiny-gemma3", True), ("deepseek2", False)):
        for layout, engine, workers, options in (
                ("Vulkan workers", "cpu", (VULKAN, VULKAN), {}),
                ("Vulkan and CPU of one worker", "cpu", (VULKAN_AND_CPU, CPU), {}),
                ("local GPU first", "vulkan", (CPU, CPU), LOCAL_FIRST),
                ("local GPU last", "vulkan", (CPU, CPU), LOCAL_LAST)):
            yield Case(f"{model}, {layout}", model, workers, 2 if several else 1, (20, 150), 64,
                       engine, options, conversation=several)
    for workers in (3, 4):
        yield Case(f"real weights, {workers} workers", "smollm2", (CPU,) * workers, 4,
                   (20, 300, 900))
    for kind in ("q8_0", "f32"):
        yield Case(f"cache of {kind}", "llama", (CPU,) * 3, 2, (300, 900),
                   options={"cache_type_k": kind, "cache_type_v": kind})
    yield Case("one cache for all slots", "llama", (CPU,) * 3, 3, (300, 900),
               options={"kv_unified": ""})
    yield Case("no pipeline: a tensor elsewhere", "qwen3moe", (CPU,) * 2, 2, (300,),
               options={"override_tensor": r"blk\.1\.ffn_.*_exps=CPU"})


def transcript(server, case):
    """Everything that the server answers."""
    vocabulary = (REAL_VOCABULARY if case.model == "smollm2"
                  else rpc_models.vocabulary(case.model))

    def prompt(length, seed):
        return prompt_of(length, seed, vocabulary)

    alone = [server.complete(prompt(length, 1), TOKENS) for length in case.lengths]
    together = []
    if case.slots > 1:
        for count in range(2, case.slots + 1):
            lengths = [case.lengths[place % len(case.lengths)] + place for place in range(count)]
            together += server.complete([prompt(length, count) for length in lengths], TOKENS)
    if not case.conversation:
        return alone + together
    # What is known of the prompt is kept, and later a part of it is dropped.
    first = prompt(150, 7)
    turn = server.complete(first, TOKENS, cache_prompt=True)
    longer = server.complete(first + turn["tokens"] + prompt(90, 8), TOKENS, cache_prompt=True)
    another = server.complete(prompt(200, 9), TOKENS, cache_prompt=True)
    back = server.complete(first + prompt(40, 10), TOKENS, cache_prompt=True)
    return alone + together + [turn, longer, another, back]


class RpcTest(unittest.TestCase):
    WORKERS_NOTE = False  # Each request, in their logs.

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(cls.WORKERS_NOTE)
        cls.addClassCleanup(cls.cluster.close)

    def serving(self, client, case, **more):
        endpoints = [self.cluster.worker(number, *kind, self.purpose(kind, case)).endpoint
                     for number, kind in enumerate(case.workers)]
        return self.cluster.serving(client, self.cluster.model(case.model), endpoints, case.engine,
                                    **case.arguments(), **more)

    def purpose(self, kind, case):
        """A Vulkan worker with lavapipe can end when it gets a second client, whichever that is."""
        return len(self.cluster.servers) if kind[0] == "vulkan" else None

    def transcript(self, client, case, **more):
        with self.serving(client, case, **more) as server:
            return transcript(server, case)

    @contextlib.contextmanager
    def logs_on_failure(self):
        try:
            yield
        except Exception:
            rpc_cluster.show_logs(self.cluster)
            raise

    def check_lively(self, replies):
        """That the replies depend on what was computed."""
        tokens = [token for reply in replies for token in reply["tokens"]]
        self.assertGreaterEqual(len(set(tokens)), LIVELY, tokens)
        for reply in replies:
            self.assertEqual(len(reply["top"]), len(reply["tokens"]), "probabilities are missing")

    def check_equal(self, expected, got):
        self.assertEqual(len(expected), len(got))
        for number, (one, other) in enumerate(zip(expected, got, strict=True)):
            with self.subTest(reply=number):
                self.assertEqual(one["evaluated"], other["evaluated"])
                self.assertEqual(one["tokens"], other["tokens"])
                self.assertEqual(one["top"], other["top"])


class EqualTest(RpcTest):
    def test_matrix(self):
        for case in full_matrix() if FULL else QUICK:
            if case.needs_vulkan() and not rpc_cluster.has_vulkan():
                print(f"no llama.cpp for Vulkan is installed: left out {case.name}")
                continue
            if FULL:
                print(case.name, flush=True)
            with self.subTest(case.name), self.logs_on_failure():
                expected = self.transcript(STOCK, case)
                self.check_lively(expected)
                self.check_equal(expected, self.transcript(TESTED, case))

    def test_other_answers_are_seen(self):
        """The comparison can fail: other weights give other answers."""
        case = Case("", "llama", lengths=(20,))
        mine = self.transcript(STOCK, case)
        endpoints = [self.cluster.worker(number, *CPU).endpoint for number in range(2)]
        with self.cluster.serving(STOCK, self.cluster.model("llama", seed=1), endpoints,
                                  **case.arguments()) as server:
            others = transcript(server, case)
        for one, other in zip(mine, others, strict=True):
            self.assertNotEqual(one["tokens"], other["tokens"])
            self.assertNotEqual(one["top"], other["top"])


class MasksTest(RpcTest):
    """Long prompts, whose attention masks this client sends as what they are made of."""

    WORKERS_NOTE = True
    # Of a whole mask at the last full ubatch of 1700 tokens, and what is left of it at most. (A
    # window's mask is sent as it is: it does not grow.)
    WHOLE = 512 * 1536 * 2
    MOST = WHOLE * 0.7
    QUICK = [
        Case("one cache for all slots", "llama", (CPU,) * 3, 2, (1700, 900), 512,
             options={"kv_unified": ""}, conversation=False),
        Case("no flash attention", "llama", lengths=(1700,), ubatch=512,
             options={"flash_attn": "off"}, conversation=False),
        Case("Vulkan workers", "tiny-llama", (VULKAN, VULKAN), lengths=(1700,), ubatch=512,
             conversation=False),
    ]
    FULL = [
        *QUICK,
        Case("dense", "llama", (CPU,) * 3, 3, (1700, 900), 512),
        Case("MLA", "deepseek2", slots=2, lengths=(1700, 900), ubatch=512),
        Case("sliding window", "gemma3", lengths=(1700,), ubatch=512),
        Case("two devices of one worker", "llama", (CPU_TWICE, CPU), lengths=(1700,), ubatch=512),
        Case("Vulkan workers, no flash attention", "tiny-llama", (VULKAN, VULKAN), 2, (1700, 900),
             512, options={"flash_attn": "off"}, conversation=False),
        Case("local GPU last", "tiny-llama", (CPU, CPU), 1, (1700,), 512, "vulkan", LOCAL_LAST,
             conversation=False),
    ]

    def purpose(self, kind, case):
        """New workers for each client: their logs tell them apart."""
        return len(self.cluster.servers)

    def sizes(self):
        workers = self.cluster.pool.values()
        return [size for worker in workers for size in worker.data_sizes()]

    def test_matrix(self):
        for case in self.FULL if FULL else self.QUICK:
            if case.needs_vulkan() and not rpc_cluster.has_vulkan():
                print(f"no llama.cpp for Vulkan is installed: left out {case.name}")
                continue
            with self.subTest(case.name), self.logs_on_failure():
                expected = self.transcript(STOCK, case)
                self.check_lively(expected)
                self.assertGreaterEqual(max(self.sizes()), self.WHOLE)
                self.cluster.pool.clear()
                self.check_equal(expected, self.transcript(TESTED, case))
                if TESTED != STOCK:
                    self.assertLess(max(self.sizes()), self.MOST)
                self.cluster.pool.clear()


class StateTest(RpcTest):
    """What is read back from workers and written to them again."""

    CASE = Case("", "falcon-h1", (CPU,) * 3, slots=2)

    def saved_and_restored(self, client):
        directory = self.cluster.directory / f"slots-{client}"
        directory.mkdir(exist_ok=True)
        with self.serving(client, self.CASE, slot_save_path=directory) as server:
            prompt = prompt_of(300, 3)
            first = server.complete(prompt, TOKENS, cache_prompt=True, id_slot=0)
            body = {"filename": "state"}
            self.assertEqual(server.post("/slots/0?action=save", body).status, 200)
            state = (directory / "state").read_bytes()
            server.complete(prompt_of(200, 4), TOKENS, cache_prompt=True, id_slot=0)
            self.assertEqual(server.post("/slots/0?action=restore", body).status, 200)
            again = server.complete(prompt + first["tokens"] + [400], TOKENS, cache_prompt=True,
                                    id_slot=0)
            return first, again, state

    def test_saved_slots(self):
        with self.logs_on_failure():
            expected = self.saved_and_restored(STOCK)
            got = self.saved_and_restored(TESTED)
        self.check_equal(expected[:2], got[:2])
        self.assertTrue(expected[2] == got[2], "the files differ")

    def embedding(self, client):
        endpoints = [self.cluster.worker(number, *CPU).endpoint for number in range(3)]
        with self.cluster.serving(client, self.cluster.model("bert"), endpoints, embedding="",
                                  ctx_size=512, ubatch_size=512) as server:
            reply = server.post("/v1/embeddings", {"input": ["a b c", "d e", "x " * 100]})
            self.assertEqual(reply.status, 200, reply)
            return [entry["embedding"] for entry in reply.json()["data"]]

    def test_embedding(self):
        with self.logs_on_failure():
            expected = self.embedding(STOCK)
            self.assertNotEqual(expected[0], expected[1])
            self.assertEqual(expected, self.embedding(TESTED))


class WeightsTest(RpcTest):
    """Weights that a worker keeps in a file: of the real model one tensor is large enough."""

    CASE = Case("", "smollm2", lengths=(20,))

    def answers(self, client, caches, environment=()):
        workers = [self.cluster.new_worker(cache=cache) for cache in caches]
        try:
            with self.cluster.serving(client, self.cluster.model("smollm2"),
                                      [worker.endpoint for worker in workers],
                                      environment=environment, **self.CASE.arguments()) as server:
                return server.complete(prompt_of(40, 1, REAL_VOCABULARY), TOKENS)
        finally:
            for worker in workers:
                worker.kill()

    def caches(self, name):
        directories = [self.cluster.directory / f"cache-{name}-{number}" for number in range(2)]
        for directory in directories:
            directory.mkdir()
        return directories

    def kept(self, caches):
        return [sorted((file.name, file.stat().st_size) for file in cache.rglob("*")
                       if file.is_file()) for cache in caches]

    def test_cached_weights(self):
        mine, others = self.caches("tested"), self.caches("stock")
        hashes = {"YOKE_RPC_HASHES": str(self.cluster.directory / "hashes")}
        with self.logs_on_failure():
            expected = self.answers(STOCK, others)
            self.assertTrue(any(self.kept(others)), "the worker keeps nothing")
            self.assertEqual(self.answers(TESTED, mine, hashes), expected)
            self.assertEqual(self.kept(mine), self.kept(others))
            # From what the other client has left there, with and without hashes that are known.
            self.assertEqual(self.answers(TESTED, others), expected)
            self.assertEqual(self.answers(TESTED, others, hashes), expected)
            self.assertEqual(self.answers(STOCK, mine), expected)


if __name__ == "__main__":
    unittest.main()
