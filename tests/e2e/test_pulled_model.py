"""The real engine with a model of the catalogue: got from a hub, served by its name, removed."""

import json
import pathlib
import subprocess
import sys
import unittest

from harness import REAL_LIMIT_S, REAL_MODEL_FILE, YOKE, E2eTest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fake_hub"))
from fake_hub import Hub  # noqa: E402

NAME = "smollm2:q4"


class PulledModelTest(E2eTest):
    def setUp(self):
        super().setUp()
        assert REAL_MODEL_FILE.exists(), f"{REAL_MODEL_FILE} is missing: run `make model`"
        self.models = self.sandbox.directory / "models"
        self.hub = Hub()
        self.addCleanup(self.hub.close)
        self.hub.put("org/SmolLM2-GGUF", REAL_MODEL_FILE.name, REAL_MODEL_FILE.read_bytes())
        self.hub.put("org/SmolLM2-GGUF", "README.md", b"# SmolLM2")

    def yoke(self, *arguments):
        done = subprocess.run([YOKE, *map(str, arguments), "--models", str(self.models)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=REAL_LIMIT_S,
                              env=self.sandbox.environment(HF_ENDPOINT=self.hub.endpoint,
                                                           NO_PROXY="*"))
        self.assertEqual(done.returncode, 0, done)
        return done.stdout

    def listed(self):
        return {model["name"]: model for model in json.loads(self.yoke("list", "--json"))["models"]}

    def test_pull_serve_chat_remove(self):
        self.yoke("pull", "hf:org/SmolLM2-GGUF:Q4_1", "--name", NAME)
        model = self.listed()[NAME]
        file = pathlib.Path(model["path"])
        self.assertEqual((file.stat().st_size, model["quantization"], model["missing"]),
                         (REAL_MODEL_FILE.stat().st_size, "Q4_1", False))
        self.assertEqual(json.loads(self.yoke("show", "--json", NAME))["architecture"], "llama")

        server = self.sandbox.serve({"chat": {"model": NAME, "n_ctx": 2048, "threads": 1}},
                                    {"model_dir": str(self.models)}, engine=None)
        server.wait_for_state("chat", "ready", REAL_LIMIT_S)
        reply = server.chat("chat", "What is the capital of France? One word.", REAL_LIMIT_S,
                            temperature=0, max_tokens=8)
        self.assertEqual(reply.status, 200, reply)
        self.assertIn("Paris", reply.json()["choices"][0]["message"]["content"])
        self.assertEqual(server.engine_get("chat", "/props")["model_path"], str(file))
        server.stop()

        freed = self.yoke("rm", "-y", NAME)
        self.assertIn(f"Removed {NAME}. 98.4 MB freed.", freed)
        self.assertEqual(self.listed(), {})
        left = sorted(path.name for path in self.models.rglob("*"))
        self.assertEqual([name for name in left if not name.startswith("catalogue.")], [])

    def test_a_name_that_the_catalogue_does_not_have(self):
        config = self.sandbox.write_config({"chat": {"model": NAME}},
                                           {"model_dir": str(self.models)}, engine=None)
        done = subprocess.run([YOKE, "serve", "--config", str(config)], capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, timeout=REAL_LIMIT_S,
                              env=self.sandbox.environment())
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, rf"yoke\.toml:\d+: There is no model '{NAME}'")
        self.assertIn("`yoke pull`", done.stderr)


if __name__ == "__main__":
    unittest.main()
