"""`yoke plan`: what it says of models and machines, here and elsewhere."""

import fcntl
import json
import os
import pathlib
import pty
import re
import struct
import subprocess
import sys
import termios
import time
import unittest

from harness import REAL_MODEL_FILE, YOKE, E2eTest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOUR_STRIX_HALO = ROOT / "examples/four-strix-halo.toml"
sys.path[:0] = [str(ROOT / "tests/models"), str(ROOT / "tests/fake_hub")]
import kimi_k2  # noqa: E402
from fake_hub import DiskFile, Faults, Hub  # noqa: E402

GIB = 2**30
LIMIT_S = 30
GOAL_S = 0.5
MB = 1_000_000


class PlanTest(E2eTest):
    def run_plan(self, *arguments, **environment):
        return subprocess.run([YOKE, "plan", *map(str, arguments)], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=LIMIT_S,
                              env=self.sandbox.environment(**environment))

    def text(self, *arguments, **environment):
        done = self.run_plan(*arguments, **environment)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def plan(self, *arguments, **environment):
        return json.loads(self.text("--json", *arguments, **environment))

    def error(self, code, *arguments):
        """The sentence on stderr of a plan that fails; nothing else is said."""
        done = self.run_plan(*arguments)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done)
        self.assertTrue(done.stderr.startswith("yoke: "), done.stderr)
        return done.stderr

    def write(self, name, content):
        file = self.sandbox.directory / name
        if isinstance(content, str):
            content = content.encode()
        file.write_bytes(content)
        return file

    def machine(self, memory, gpu=""):
        return self.write("machine.toml",
                          f'[[machine]]\nname = "box"\nmemory = "{memory}"\nreserve = "0"\n{gpu}')

    def check_sums(self, plan):
        """Every layer lies somewhere, once, and no memory holds more than it can if all fits."""
        layers = [layer for device in plan["devices"] if device["layers"]
                  for layer in range(device["layers"][0], device["layers"][1] + 1)]
        self.assertEqual(layers, list(range(plan["model"]["layers"])))
        self.assertEqual(sum(device["output"] for device in plan["devices"]), 1)
        for device in plan["devices"]:
            parts = ("weights", "kv", "state", "compute", "output_buffer")
            self.assertEqual(device["total"], sum(device[part] for part in parts))
            if plan["fits"]:
                self.assertLessEqual(device["total"], device["usable"])
        for memory in plan["memory"]:
            held = sum(device["total"] for device in plan["devices"]
                       if device["memory"] == memory["name"])
            self.assertEqual(memory["planned"], held)
            if plan["fits"]:
                self.assertLessEqual(held, memory["usable"])


class KimiOnFourMachinesTest(PlanTest):
    """A model of 375 GB, as sparse files, on four machines of 120 GiB."""

    @classmethod
    def setUpClass(cls):
        cls.model = kimi_k2.write(cls.shared_sandbox().directory)

    def on_four(self, *arguments):
        return self.plan(self.model, "--hardware", FOUR_STRIX_HALO, *arguments)

    def test_it_fits_at_8192_tokens(self):
        plan = self.on_four("--ctx", 8192, "--flash-attn", "on")
        self.check_sums(plan)
        self.assertTrue(plan["fits"])
        self.assertEqual(plan["model"]["file_bytes"], 374_764_330_144)
        self.assertEqual(plan["gpu_layers"], 62)
        gpus = plan["devices"][1:]
        self.assertEqual([gpu["remote"] for gpu in gpus], [True, True, True, False])
        weights = sum(device["weights"] for device in plan["devices"])
        # The rest of the files are headers.
        self.assertTrue(0 <= plan["model"]["file_bytes"] - weights < 32 * 2**20)
        totals = [gpu["total"] for gpu in gpus]
        heaviest_layer = max(totals) / 15
        self.assertLess(max(totals) - min(totals), 2 * heaviest_layer)
        for memory in plan["memory"]:
            self.assertGreater(memory["left"], 20 * GIB)

    def test_keys_take_what_the_formula_says(self):
        """One vector of 512 + 64 numbers of 16 bits per layer and token."""
        plan = self.on_four("--ctx", 8192)
        self.assertEqual(sum(device["kv"] for device in plan["devices"]), 8192 * 61 * 576 * 2)

    def test_what_flash_attention_off_costs(self):
        other = self.on_four("--ubatch", 512)["other_attention"]
        self.assertFalse(other["flash_attention"])
        by_name = {device["name"]: device["difference"] for device in other["devices"]}
        # Attention's scores: 64 heads x 8192 cells x 512 tokens of 4 bytes.
        scores = 64 * 8192 * 512 * 4
        self.assertGreater(max(by_name.values()), 0.8 * scores)
        off = self.on_four("--ubatch", 512, "--flash-attn", "off", "--tensor-split",
                           ",".join(map(str, self.on_four("--ubatch", 512)["tensor_split"])))
        self.assertEqual({device["name"]: device["total"] for device in off["devices"]},
                         {device["name"]: device["total"] for device in other["devices"]})

    def test_on_one_machine_it_says_what_is_missing(self):
        gpu = '[[machine.gpu]]\nname = "Radeon"\nunified = true\n'
        plan = self.plan(self.model, "--hardware", self.machine("120GiB", gpu))
        self.check_sums(plan)
        self.assertFalse(plan["fits"])
        [memory] = plan["memory"]
        self.assertEqual(plan["missing"], memory["planned"] - 120 * GIB)
        self.assertIsNone(plan["longest_context"])
        self.assertEqual(plan["remedies"], [])
        text = self.text(self.model, "--hardware", self.sandbox.directory / "machine.toml")
        self.assertRegex(text, r"It does not fit: 2\d\d(\.\d)? GiB are missing\.")
        self.assertIn("smaller quantization or more memory", text)

    def test_one_screen(self):
        main, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        with subprocess.Popen([YOKE, "plan", self.model, "--hardware", FOUR_STRIX_HALO],
                              stdout=terminal, stdin=subprocess.DEVNULL,
                              env=self.sandbox.environment(TERM="xterm")) as process:
            os.close(terminal)
            text = b""
            while chunk := read_terminal(main):
                text += chunk
            self.assertEqual(process.wait(LIMIT_S), 0)
        os.close(main)
        lines = re.sub(r"\x1b\[\d*m", "", text.decode()).splitlines()
        self.assertLess(len(lines), 40)
        self.assertLessEqual(max(len(line) for line in lines), 80)
        self.assertIn("It fits. All 61 layers and the output on 4 GPUs.", lines)
        self.assertIn("FA OFF", "\n".join(lines))  # The last column is not cut off.

    def test_time(self):
        """The best of several, as other programs may want the cores too."""
        times = []
        for _ in range(5):
            begin = time.monotonic()
            self.on_four()
            times.append(time.monotonic() - begin)
        self.assertLess(min(times), GOAL_S)


class ModelAtAHubTest(PlanTest):
    """The model of 375 GB again, of which only the headers come over the network."""

    REFERENCE = "hf:unsloth/Kimi-K2.5-GGUF:UD-Q2_K_XL"

    @classmethod
    def setUpClass(cls):
        cls.model = kimi_k2.write(cls.shared_sandbox().directory)

    def setUp(self):
        super().setUp()
        self.hub = Hub()
        self.addCleanup(self.hub.close)
        for file in sorted(self.model.parent.glob("*.gguf")):
            self.hub.put("unsloth/Kimi-K2.5-GGUF", f"UD-Q2_K_XL/{file.name}", DiskFile(file))
            self.hub.plain[f"/{file.name}"] = DiskFile(file)

    def at_hub(self, reference, *arguments):
        return self.plan(reference, "--hardware", FOUR_STRIX_HALO, *arguments,
                         HF_ENDPOINT=self.hub.endpoint, NO_PROXY="*")

    def test_the_answer_is_that_of_the_files(self):
        expected = self.plan(self.model, "--hardware", FOUR_STRIX_HALO)
        plan = self.at_hub(self.REFERENCE)
        self.check_sums(plan)
        self.assertTrue(plan["fits"])
        self.assertEqual(plan["model"]["file_bytes"], 374_764_330_144)
        self.assertEqual(plan["devices"], expected["devices"])
        # The vocabulary is in the first header; of the other seven parts come 256 KiB each.
        self.assertLess(self.hub.sent(), 16 * MB)
        self.assertLessEqual(len(self.hub.requests), 24)
        self.assertEqual(self.at_hub(f"{self.hub.files_url}/{self.model.name}")["devices"],
                         expected["devices"])

    def test_parts_are_asked_for_together(self):
        """Ten round trips or so, not two more for each part."""
        times = []
        self.hub.faults = Faults(delay_s=0.1)
        for reference in (self.REFERENCE, f"{self.hub.files_url}/{self.model.name}"):
            begin = time.monotonic()
            self.at_hub(reference)
            times.append(time.monotonic() - begin)
        self.assertGreater(min(times), 0.4)
        self.assertLess(max(times), 1.8)

    def test_failures_on_the_way(self):
        expected = self.plan(self.model, "--hardware", FOUR_STRIX_HALO)
        self.hub.faults = Faults(cut_at_random=6, expire=2)
        self.assertEqual(self.at_hub(self.REFERENCE)["devices"], expected["devices"])

    def test_a_part_that_is_not_there(self):
        del self.hub.plain[f"/{self.model.name.replace('00001-of', '00005-of')}"]
        done = self.run_plan(f"{self.hub.files_url}/{self.model.name}", NO_PROXY="*")
        self.assertEqual((done.returncode, done.stdout), (1, ""), done)
        self.assertRegex(done.stderr, "There is no .*00005-of-00008.gguf")

    def test_a_server_without_ranges(self):
        self.hub.faults = Faults(no_ranges=True)
        self.assertEqual(self.at_hub(self.REFERENCE)["gpu_layers"], 62)
        self.assertLess(self.hub.sent("files"), 500 * MB)  # As long as it takes to hang up.

    def test_time(self):
        times = []
        for _ in range(5):
            begin = time.monotonic()
            self.at_hub(self.REFERENCE)
            times.append(time.monotonic() - begin)
        self.assertLess(min(times), GOAL_S)


def read_terminal(descriptor):
    """Nothing at the end, which Linux reports as an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


@unittest.skipUnless(REAL_MODEL_FILE.exists(), "`make model` gets the model")
class SmallModelTest(PlanTest):
    def test_on_this_machine(self):
        plan = self.plan(REAL_MODEL_FILE, "--backend", "cpu")
        self.check_sums(plan)
        self.assertTrue(plan["fits"])
        [cpu] = plan["devices"]
        self.assertEqual((cpu["name"], cpu["layers"], cpu["output"]), ("CPU", [0, 29], True))
        self.assertEqual(cpu["kv"], 8192 * 30 * 2 * 3 * 64 * 2)
        [memory] = plan["memory"]
        self.assertLess(memory["free"], memory["total"])
        self.assertEqual(plan["options"]["n_ctx"], 8192)
        self.assertEqual(plan["longest_context"], 8192)

    def test_remedies_hold(self):
        """Each is computed: with it, the model fits."""
        small = self.machine("200MiB")
        arguments = [REAL_MODEL_FILE, "--hardware", small, "--flash-attn", "off"]
        plan = self.plan(*arguments)
        self.assertFalse(plan["fits"])
        self.assertGreater(len(plan["remedies"]), 0)
        for remedy in plan["remedies"]:
            changed = [*arguments[:3], *remedy["change"].split()]
            if "--flash-attn" not in changed:
                changed += ["--flash-attn", "off"]
            self.assertTrue(self.plan(*changed)["fits"], remedy)

    def test_the_longest_context_is_the_longest(self):
        small = self.machine("160MiB")
        longest = self.plan(REAL_MODEL_FILE, "--hardware", small)["longest_context"]
        self.assertTrue(self.plan(REAL_MODEL_FILE, "--hardware", small, "--ctx", longest)["fits"])
        self.assertFalse(
            self.plan(REAL_MODEL_FILE, "--hardware", small, "--ctx", longest + 256)["fits"])

    def test_a_graphics_card_that_is_too_small_takes_the_last_layers(self):
        card = '[[machine.gpu]]\nname = "card"\nbackend = "cuda"\nmemory = "600MiB"\n'
        plan = self.plan(REAL_MODEL_FILE, "--hardware", self.machine("4GiB", card), "--ubatch", 64)
        self.check_sums(plan)
        self.assertTrue(plan["fits"])
        cpu, gpu = plan["devices"]
        self.assertEqual(cpu["layers"][0], 0)
        self.assertEqual(gpu["layers"][1], 29)
        self.assertTrue(gpu["output"])
        self.assertIn(f"n_gpu_layers = {plan['gpu_layers']}", " ".join(plan["notes"]))

    def configured(self, **options):
        return self.sandbox.write_config(
            {"tiny": {"model_path": str(REAL_MODEL_FILE), "n_ctx": 2048, **options}}, engine=None)

    def test_a_configured_model_has_its_options(self):
        config = self.configured(parallel=2, cache_type_k="q8_0", backends=["cpu"])
        plan = self.plan("tiny", "--config", config)
        options = plan["options"]
        self.assertEqual((options["n_ctx"], options["sequences"], options["unified_cache"]),
                         (2048, 2, False))
        self.assertEqual((options["cache_type_k"], options["cache_type_v"]), ("q8_0", "f16"))
        longer = self.plan("tiny", "--config", config, "--ctx", 4096)
        self.assertEqual(longer["options"]["n_ctx"], 4096)
        self.assertEqual(longer["devices"][0]["kv"], 2 * plan["devices"][0]["kv"])

    def test_a_model_of_the_catalogue(self):
        models = self.sandbox.directory / "models"
        subprocess.run([YOKE, "pull", f"file:{REAL_MODEL_FILE}", "--name", "org/tiny:Q4_1",
                        "--models", str(models)], check=True, capture_output=True,
                       timeout=LIMIT_S, env=self.sandbox.environment())
        on_cpu = ("--backend", "cpu", "--models", models)
        by_file = self.plan(REAL_MODEL_FILE, "--backend", "cpu")
        for name in ("org/tiny:Q4_1", "TINY"):
            self.assertEqual(self.plan(name, *on_cpu)["memory"][0]["planned"],
                             by_file["memory"][0]["planned"])
        self.assertIn("Did you mean org/tiny:Q4_1?", self.error(1, "org/tiny:Q4_2", *on_cpu))
        # The configuration may name it, with options.
        config = self.sandbox.write_config({"chat": {"model": "org/tiny:Q4_1", "n_ctx": 2048}},
                                           {"model_dir": str(models)}, engine=None)
        plan = self.plan("chat", "--backend", "cpu", "--config", config)
        self.assertEqual(plan["options"]["n_ctx"], 2048)
        self.assertEqual(4 * plan["devices"][0]["kv"], by_file["devices"][0]["kv"])
        config = self.sandbox.write_config({"chat": {"model": "gone"}},
                                           {"model_dir": str(models)}, engine=None)
        self.assertIn("There is no model 'gone'", self.error(1, "chat", "--config", config))

    def test_a_name_that_nobody_knows(self):
        self.assertIn("Did you mean tiny", self.error(1, "tinny", "--config", self.configured()))

    def test_time(self):
        times = []
        for _ in range(5):
            begin = time.monotonic()
            self.text(REAL_MODEL_FILE, "--backend", "cpu")
            times.append(time.monotonic() - begin)
        self.assertLess(min(times), GOAL_S)

    def test_a_download_that_was_cut(self):
        with open(REAL_MODEL_FILE, "rb") as whole:
            start = whole.read(4_000_000)
        for size, mention in ((4_000_000, "of the 98.4 MB"), (100_000, "the file ends within it")):
            file = self.write("cut.gguf", start[:size])
            self.assertIn(mention, self.error(1, file))


class ForeignFilesTest(PlanTest):
    def check(self, content, mention):
        error = self.error(1, self.write("model.gguf", content))
        self.assertIn(mention, error)
        self.assertIn("little-endian GGUF file of version 2 or 3 was expected", error)

    def test_a_picture(self):
        self.check(b"\x89PNG\r\n\x1a\n" + bytes(100), "is a PNG image")

    def test_safetensors(self):
        header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        self.check(struct.pack("<Q", len(header)) + header + bytes(4), "is a safetensors file")

    def test_big_endian(self):
        self.check(b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(100),
                   "is a GGUF file for big-endian machines")

    def test_nothing(self):
        self.check(b"", "is empty")

    def test_a_hostile_header(self):
        """More tensors than any file holds: an error, and no memory for them."""
        file = self.write("model.gguf", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60) + bytes(100))
        self.assertIn("model.gguf", self.error(1, file))

    def test_a_huggingface_model(self):
        directory = self.sandbox.directory / "hf"
        directory.mkdir()
        (directory / "config.json").write_text("{}")
        (directory / "model.safetensors").write_bytes(bytes(2_000_000))
        self.assertIn("vLLM plans its own memory", self.text(directory))
        plan = self.plan(directory)
        self.assertEqual((plan["format"], plan["weights"]), ("huggingface", 2_000_000))


class MistakesTest(PlanTest):
    def test_all_mistakes_in_a_hardware_file(self):
        file = self.write("bad.toml", '[[machine]]\nmemory = "much"\ncuont = 2\n')
        model = self.write("model.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
        error = self.error(1, model, "--hardware", file)
        for mention in ("bad.toml:1: 'name'", "bad.toml:2: 'memory'", "Did you mean 'count'?"):
            self.assertIn(mention, error)

    def test_wrong_options(self):
        model = self.write("model.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
        self.assertIn("--ctx -1", self.error(2, model, "--ctx=-1"))
        self.assertIn("'metal'", self.error(2, model, "--backend", "metal"))
        self.assertIn("flash attention",
                      self.error(2, model, "--flash-attn", "off", "--cache-type-v", "q8_0"))


if __name__ == "__main__":
    unittest.main()
