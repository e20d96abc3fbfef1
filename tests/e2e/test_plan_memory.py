"""What `yoke plan` says that a model takes, against what llama-server itself says.

bench/memory_table.py compares many more cases, and shows by how much each is off.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))

import engine_memory
import kimi_k2
import make_model
import memory_cases
from engine_memory import MIB, Options
from harness import YOKE
from memory_cases import CPU, FOUR_REMOTE, GPU, REMOTE, Case, partly

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent.parent / "examples"

PLAIN = Options(parallel=4)
NO_FLASH = Options(parallel=4, flash_attention=False)
LONG = Options(parallel=4, n_ctx=32768, unified=False)
QUANTIZED = Options(parallel=4, cache_type_k="q8_0", cache_type_v="q8_0")
BIG_BATCH = Options(parallel=4, n_ubatch=2048)
EMBEDDING = Options(parallel=4, n_ctx=512, n_batch=512)

# By kind and name of the model: in which places and with which options.
CASES = {
    ("true", "llama-3.1-8b-q4_k_m"): [
        (CPU, PLAIN), (REMOTE, NO_FLASH), (partly(REMOTE, 16), LONG), (FOUR_REMOTE, PLAIN),
        (REMOTE, QUANTIZED)],
    ("true", "llama-3.1-70b-q4_k_m"): [(FOUR_REMOTE, BIG_BATCH)],
    ("true", "qwen3-32b-q4_k_m"): [(REMOTE, PLAIN)],
    ("true", "qwen3-30b-a3b-q4_k_m"): [(CPU, BIG_BATCH), (REMOTE, NO_FLASH),
                                       (partly(REMOTE, 16), PLAIN)],
    ("true", "gemma-3-27b-q8_0"): [(CPU, LONG), (REMOTE, PLAIN), (FOUR_REMOTE, NO_FLASH)],
    ("true", "deepseek-v3-q4_k_m"): [(REMOTE, PLAIN), (REMOTE, NO_FLASH), (CPU, QUANTIZED)],
    ("true", "mamba-2.8b-q8_0"): [(CPU, PLAIN), (REMOTE, LONG)],
    ("true", "lfm2-1.2b-q8_0"): [(CPU, PLAIN), (REMOTE, NO_FLASH)],
    ("true", "falcon-h1-7b-q8_0"): [(CPU, LONG), (REMOTE, PLAIN)],
    ("true", "gpt-oss-20b-mxfp4"): [(CPU, PLAIN), (REMOTE, NO_FLASH)],
    ("true", "bge-large-f16"): [(CPU, EMBEDDING), (REMOTE, EMBEDDING)],
    ("true", kimi_k2.NAME): [(FOUR_REMOTE, PLAIN), (FOUR_REMOTE, NO_FLASH)],
    **{("small", name): [(GPU, PLAIN), (partly(GPU, 2), NO_FLASH)] for name in make_model.SMALL
       if not memory_cases.is_embedding(name)},
}


class PlanMemoryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for backend in ("cpu", "vulkan"):
            assert engine_memory.find(backend), f"no llama.cpp for {backend}: run `make engine`"
        directory = tempfile.TemporaryDirectory(prefix="yoke-e2e-")
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name)
        cls.models = memory_cases.Models(cls.directory)


class AgainstTheEngineTest(PlanMemoryTest):
    def check(self, kind):
        """Each device in each kind of memory: within 2 % or 64 MiB."""
        for (of_kind, model), places in CASES.items():
            for layout, options in places if of_kind == kind else ():
                case = Case(kind, model, layout, options, "")
                with self.subTest(model=model, layout=layout.name, options=options):
                    rows = memory_cases.compare(YOKE, self.models, case, self.directory)
                    self.assertGreater(sum(row.engine.weights for row in rows), MIB)
                    for row in rows:
                        self.assertTrue(row.is_within(), row)

    def test_true_models(self):
        self.check("true")

    def test_small_models_on_a_gpu(self):
        self.check("small")

    def test_what_the_engine_refuses_is_no_plan(self):
        for model, options in (("llama", Options(cache_type_v="q8_0", flash_attention=False)),
                               ("deepseek2", Options(cache_type_k="q4_0", unified=False))):
            with self.subTest(model=model):
                case = Case("small", model, CPU, options, "")
                self.assertIsNone(
                    memory_cases.compare(YOKE, self.models, case, self.directory))


class DryRunTest(PlanMemoryTest):
    """The yardstick itself."""

    def test_it_says_what_a_loaded_model_takes(self):
        engine = engine_memory.find("cpu")
        for model in make_model.SMALL:
            with self.subTest(model=model):
                embedding = memory_cases.is_embedding(model)
                options = EMBEDDING if embedding else Options(n_ctx=4096, parallel=2)
                file = self.models.file("small", model)
                planned = engine.dry_run(file, options, embedding=embedding)
                loaded = engine.load(file, options, embedding=embedding)
                self.assertEqual(planned.kv, loaded.kv)
                self.assertEqual(planned.state, loaded.state)
                planned, loaded = (report.devices[engine_memory.HOST]
                                   for report in (planned, loaded))
                self.assertEqual(planned.context, loaded.context)
                self.assertEqual(planned.compute, loaded.compute)
                self.assertEqual(planned.output, loaded.output)
                # Whole MiB, of up to two kinds of buffers.
                self.assertLess(abs(planned.weights - loaded.weights), 2.5 * MIB)


    def test_what_it_counts_too_much_in_a_pipeline(self):
        """The plan is as the real load, and memory_cases takes the difference off."""
        engine = engine_memory.find("cpu")
        file = self.models.file("small", "llama")
        hardware = self.directory / "pipeline.toml"
        hardware.write_text(FOUR_REMOTE.hardware())
        options = Options(n_ctx=4096, parallel=4, n_ubatch=2048)
        answer = memory_cases.plan(YOKE, file, FOUR_REMOTE, options, hardware)
        planned = [device["compute"] for device in answer["devices"] if device["remote"]]
        options = dataclasses.replace(options, tensor_split=tuple(answer["tensor_split"]))
        reports = []
        for ask in (engine.dry_run, engine.load):
            with engine.rpc_servers(4) as rpc:
                report = ask(file, options, rpc)
                reports.append([report.devices[address].compute for address in rpc])
        dry, loaded = reports
        for plan, real in zip(planned, loaded, strict=True):
            self.assertLess(abs(plan - real), MIB // 8)
        extra = memory_cases.forgotten_pins(YOKE, file, options.n_ubatch)
        self.assertEqual(extra, 4 * 256 * 2048 * 4)
        for more, real in zip(dry[1:], loaded[1:], strict=True):
            self.assertLess(abs(more - real - extra), MIB // 8)


class KimiTest(PlanMemoryTest):
    """The case that four machines were bought for."""

    def plan(self, *arguments):
        file = self.models.file("true", kimi_k2.NAME)
        done = subprocess.run([YOKE, "plan", file, "--hardware", EXAMPLES / "four-strix-halo.toml",
                               "--json", *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_files_have_the_published_size_and_take_no_disk(self):
        self.models.file("true", kimi_k2.NAME)
        files = sorted(self.directory.glob(f"{kimi_k2.STEM}-*.gguf"))
        self.assertEqual(len(files), 8)
        self.assertEqual(sum(file.stat().st_size for file in files), 374_764_330_144)
        self.assertLess(sum(file.stat().st_blocks * 512 for file in files), 16 * MIB)

    def test_it_fits_on_four_machines(self):
        plan = self.plan("--ctx", "8192", "--flash-attn", "on")
        self.assertTrue(plan["fits"], plan["why"])
        layers = [device["layers"] for device in plan["devices"] if device["layers"]]
        self.assertEqual(len(layers), 4)
        self.assertEqual(sum(last - first + 1 for first, last in layers), 61)
        tensors = sum(device["weights"] for device in plan["devices"])
        self.assertLess(abs(tensors - 374_764_330_144), 16 * MIB)
        for pool in plan["memory"]:
            self.assertLessEqual(pool["planned"], pool["usable"])

    def test_what_flash_attention_saves(self):
        on = self.plan("--ctx", "8192", "--flash-attn", "on")
        off = self.plan("--ctx", "8192", "--flash-attn", "off")
        for with_it, without in zip(on["devices"], off["devices"], strict=True):
            if with_it["layers"]:
                # Of the scores alone: 64 heads, 8192 tokens, 512 or more at once, 4 bytes.
                self.assertGreater(without["compute"] - with_it["compute"], 900 * MIB)
        trained = self.plan("--ctx", "262144", "--flash-attn", "off", "--ubatch", "2048")
        self.assertFalse(trained["fits"], trained["why"])


if __name__ == "__main__":
    unittest.main()
