"""A real embedding model, all-MiniLM-L6-v2, as `tools/get_embedding_model.py` gets it."""

import base64
import math
import os
import signal
import struct
import threading
import unittest

from harness import DATA_HOME, REAL_LIMIT_S, E2eTest, chat_body, until

MODEL_FILE = DATA_HOME / "yoke/models/all-MiniLM-L6-v2.F16.gguf"
MODEL = {"model_path": MODEL_FILE.name, "server_type": "embedding", "threads": 1}
SIZE = 384
# The GPU that the processor plays is there, and not taken for embeddings unless somebody says so.
SOFTWARE = {"software_devices": True}


def cosine(a, b):
    length = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length


class EmbeddingCase(E2eTest):
    @staticmethod
    def start(sandbox, **options):
        assert MODEL_FILE.exists(), f"{MODEL_FILE} is missing: run `make model`"
        yoke = sandbox.serve({"minilm": {**MODEL, **options}}, engine=None, engines=SOFTWARE)
        yoke.wait_for_state("minilm", "ready", REAL_LIMIT_S)
        return yoke

    def ask(self, yoke, texts, **fields):
        body = {"model": "minilm", "input": texts, **fields}
        return yoke.post("/v1/embeddings", body, limit_s=REAL_LIMIT_S)

    def vectors(self, yoke, texts, **fields):
        reply = self.ask(yoke, texts, **fields)
        self.assertEqual(reply.status, 200, reply)
        data = reply.json()["data"]
        self.assertEqual([one["index"] for one in data], list(range(len(data))))
        return [one["embedding"] for one in data]

    def check_meaning(self, yoke):
        cat, kitten, law = self.vectors(yoke, ["A cat", "A kitten", "Tax law"])
        self.assertAlmostEqual(cosine(cat, kitten), 0.766, delta=0.02)
        self.assertAlmostEqual(cosine(cat, law), 0.172, delta=0.02)


class EmbeddingTest(EmbeddingCase):
    @classmethod
    def setUpClass(cls):
        cls.yoke = cls.start(cls.shared_sandbox())

    def check_same(self, a, b):
        self.assertEqual(len(a), len(b))
        self.assertGreater(cosine(a, b), 0.9999)

    def test_runs_on_the_cpu(self):
        self.assertEqual(self.yoke.instance("minilm")["backend"], "cpu")

    def test_meaning(self):
        self.check_meaning(self.yoke)

    def test_one_text(self):
        reply = self.ask(self.yoke, "A cat").json()
        self.assertEqual(reply["object"], "list")
        self.assertEqual(reply["model"], "minilm")
        [vector] = self.vectors(self.yoke, "A cat")
        self.assertEqual(len(vector), SIZE)
        self.assertAlmostEqual(sum(x * x for x in vector), 1, places=3)

    def test_each_text_of_a_list_is_by_itself(self):
        texts = ["A cat", "Tax law", "The sea at night, and a ship on it."]
        for text, vector in zip(texts, self.vectors(self.yoke, texts), strict=True):
            self.check_same(vector, self.vectors(self.yoke, [text])[0])

    def test_usage_counts_tokens(self):
        # Each text is framed by two marks.
        usage = self.ask(self.yoke, ["A cat", "kitten"]).json()["usage"]
        self.assertEqual(usage, {"prompt_tokens": 7, "total_tokens": 7})

    def test_base64(self):
        [encoded] = self.vectors(self.yoke, "A cat", encoding_format="base64")
        data = base64.b64decode(encoded, validate=True)
        vector = struct.unpack(f"<{SIZE}f", data)
        self.check_same(vector, self.vectors(self.yoke, "A cat", encoding_format="float")[0])

    def test_dimensions_of_the_model(self):
        [vector] = self.vectors(self.yoke, "A cat", dimensions=SIZE)
        self.assertEqual(len(vector), SIZE)

    def test_text_that_is_too_long(self):
        self.check_error(self.ask(self.yoke, "word " * 600), 400, "context_length_exceeded",
                         "602", "512")

    def test_text_that_is_longer_than_a_batch(self):
        self.check_error(self.ask(self.yoke, "word " * 3000), 400, "context_length_exceeded",
                         "3002")

    def test_text_that_is_too_long_harms_nobody_else(self):
        self.ask(self.yoke, "word " * 600)
        self.check_meaning(self.yoke)
        self.assertEqual(self.yoke.instance("minilm")["restarts"], 0)

    def test_chat_is_refused(self):
        reply = self.yoke.post("/v1/chat/completions", chat_body("minilm"))
        self.check_error(reply, 400, "wrong_model_type", "minilm", "embedding")

    def test_input_that_is_missing(self):
        reply = self.yoke.post("/v1/embeddings", {"model": "minilm"})
        self.assertEqual(reply.status, 400, reply)


class EmbeddingFailureTest(EmbeddingCase):
    def test_killed_engine_is_replaced_and_asked_again(self):
        yoke = self.start(self.sandbox)
        texts = [f"Sentence {number} of a long list. " * 20 for number in range(60)]
        replies = []
        asking = threading.Thread(target=lambda: replies.append(self.ask(yoke, texts)))
        asking.start()
        until(lambda: yoke.instance("minilm")["active_requests"], "the engine is at work")
        os.kill(yoke.instance("minilm")["pid"], signal.SIGKILL)
        asking.join(REAL_LIMIT_S)
        self.assertEqual(replies[0].status, 200, replies[0])
        self.assertEqual(len(replies[0].json()["data"]), len(texts))
        self.assertEqual(yoke.metric('yoke_survived_total{how="replayed"}'), 1)
        self.assertEqual(yoke.instance("minilm")["restarts"], 1)

    def test_can_be_moved_to_a_gpu(self):
        yoke = self.start(self.sandbox, backends=["vulkan", "cpu"])
        self.assertEqual(yoke.instance("minilm")["backend"], "vulkan")
        self.check_meaning(yoke)


if __name__ == "__main__":
    unittest.main()
