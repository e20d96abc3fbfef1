"""`yoke pull` against a hub that answers, and fails, as the real one does: what its tests share."""

import json
import pathlib
import random
import signal
import struct
import subprocess
import sys
import unittest

from harness import YOKE, Sandbox, die_with_parent, until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fake_hub"))
from fake_hub import Certificates, Faults, Hub, Proxy  # noqa: E402, F401

LIMIT_S = 60
TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"
MB = 1_000_000


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(size, seed=0, split=None):
    """A sound GGUF file of `size` bytes with random weights; `split`: (number from 0, count)."""
    values = [text("general.architecture") + struct.pack("<I", 8) + text("llama"),
              text("llama.context_length") + struct.pack("<II", 4, 4096)]
    name = "token_embd.weight"
    if split:
        number, count = split
        name = f"blk.{number}.weight"
        values += [text("split.no") + struct.pack("<IH", 2, number),
                   text("split.count") + struct.pack("<IH", 2, count),
                   text("split.tensors.count") + struct.pack("<Ii", 5, count)]
        if number > 0:
            values = values[-3:]
    front = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values)) + b"".join(values) + text(name)
    data_offset = (len(front) + 24 + 31) // 32 * 32
    elements = (size - data_offset) // 4
    header = front + struct.pack("<IQIQ", 1, elements, 0, 0)
    header += bytes(data_offset - len(header))
    return header + random.Random(seed).randbytes(size - len(header))


class PullTestCase(unittest.TestCase):
    def setUp(self):
        self.sandbox = Sandbox()
        self.addCleanup(self.sandbox.close)
        self.models = self.sandbox.directory / "models"
        self.hub = self.make_hub()
        self.addCleanup(self.hub.close)
        self.content = gguf(8 * MB)
        self.hub.put("org/tiny-GGUF", "tiny-Q4_K_M.gguf", self.content)

    def make_hub(self):
        return Hub()

    # Running it

    def environment(self, **more):
        environment = self.sandbox.environment(**{
            "HF_ENDPOINT": self.hub.endpoint, "HOME": str(self.sandbox.directory), "NO_PROXY": "*",
            **more})
        for name in ("HF_HOME", "HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN",
                     "XDG_CACHE_HOME"):
            if name not in more:
                environment.pop(name, None)
        return environment

    def start(self, reference, *arguments, models=None, env=(), **options):
        return subprocess.Popen(
            [YOKE, "pull", reference, "--models", str(models or self.models), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment(**dict(env)), **{"preexec_fn": die_with_parent, **options})

    def pull(self, reference="hf:org/tiny-GGUF", *arguments, **options):
        with self.start(reference, *arguments, **options) as process:
            try:
                output, errors = process.communicate(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        self.assertNotIn(TOKEN, output + errors)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def get(self, reference="hf:org/tiny-GGUF", *arguments, **options):
        """Pulls, which has to succeed; what it says at its end."""
        done = self.pull(reference, "--json", *arguments, **options)
        self.assertEqual(done.returncode, 0, done)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(events[-1]["event"], "done")
        self.events = events
        return events[-1]["model"]

    def check_failure(self, done, *mentions, code=1):
        self.assertEqual(done.returncode, code, done)
        self.assertEqual(done.stdout, "")
        error = done.stderr[done.stderr.rindex("yoke: "):]
        self.assertLessEqual(len(error.strip().splitlines()), 2, error)
        for mention in mentions:
            self.assertIn(mention, error)

    def check_file(self, path, content):
        # A message with megabytes in it helps nobody.
        self.assertTrue(pathlib.Path(path).read_bytes() == content, f"{path} has other bytes")

    def check_nothing_partial(self, models=None):
        left = [p.name for p in (models or self.models).rglob("*.part*")]
        self.assertEqual(left, [])

    def check_tiny(self, model):
        self.check_file(model["path"], self.content)
        self.check_nothing_partial()

    def notes(self):
        return [event["text"] for event in self.events if event["event"] == "note"]

    def cut_in_the_middle(self, number=signal.SIGKILL):
        """Ends a pull when some of it is on the disk for certain; what it wrote."""
        self.hub.faults = Faults(bytes_per_second=MB // 2)
        with self.start("hf:org/tiny-GGUF") as process:
            until(lambda: list(self.models.rglob("*.part.json")), "something is durable")
            process.send_signal(number)
            output, errors = process.communicate(timeout=LIMIT_S)
        self.hub.faults = Faults()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
