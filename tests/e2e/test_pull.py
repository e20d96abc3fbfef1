"""`yoke pull` against a hub that answers, and fails, as the real one does."""

import contextlib
import hashlib
import json
import pathlib
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from harness import YOKE, Sandbox, die_with_parent, until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fake_hub"))
from fake_hub import Faults, Hub  # noqa: E402

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


class PullTest(unittest.TestCase):
    def setUp(self):
        self.sandbox = Sandbox()
        self.addCleanup(self.sandbox.close)
        self.models = self.sandbox.directory / "models"
        self.hub = Hub()
        self.addCleanup(self.hub.close)
        self.content = gguf(8 * MB)
        self.hub.put("org/tiny-GGUF", "tiny-Q4_K_M.gguf", self.content)

    # Running it

    def environment(self, **more):
        environment = self.sandbox.environment(
            HF_ENDPOINT=self.hub.endpoint, HOME=str(self.sandbox.directory), NO_PROXY="*", **more)
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

    # What is got

    def test_a_quantization(self):
        self.hub.put("org/tiny-GGUF", "tiny-Q8_0.gguf", gguf(MB, 1))
        model = self.get("hf:org/tiny-GGUF:q8_0")
        self.assertEqual(model["name"], "tiny-Q8_0")
        self.assertEqual(model["path"], f"{self.models}/hf/org/tiny-GGUF/tiny-Q8_0.gguf")
        self.assertEqual(model["revision"], self.hub.commits["org/tiny-GGUF"])
        self.assertEqual(model["quantization"], "Q8_0")
        self.check_file(model["path"], gguf(MB, 1))
        self.assertEqual(model["files"][0]["sha256"], hashlib.sha256(gguf(MB, 1)).hexdigest())

    def test_the_usual_quantization_over_several_connections(self):
        self.hub.put("org/tiny-GGUF", "tiny-Q2_K.gguf", gguf(MB, 1))
        model = self.get()
        self.assertEqual(model["name"], "tiny-Q4_K_M")
        self.check_tiny(model)
        ranges = {r.headers.get("range") for r in self.hub.requests if r.server == "files"}
        self.assertGreater(len(ranges), 4)

    def test_what_is_there_is_not_got_again(self):
        self.get()
        before = self.hub.sent("files")
        self.check_tiny(self.get())
        self.assertEqual(self.hub.sent("files"), before)

    def test_what_is_there_without_an_entry_is_checked(self):
        model = self.get()
        for file in self.models.glob("catalogue*"):
            file.unlink()
        before = self.hub.sent("files")
        self.check_tiny(self.get())
        self.assertEqual(self.hub.sent("files"), before)
        for file in self.models.glob("catalogue*"):
            file.unlink()
        pathlib.Path(model["path"]).write_bytes(self.content[:-1] + b"\0")
        self.check_tiny(self.get())

    def test_split_files_in_a_directory_and_a_projector(self):
        parts = [gguf(MB, number, (number, 3)) for number in range(3)]
        for number, part in enumerate(parts):
            self.hub.put("org/big-GGUF", f"UD-Q2_K_XL/big-UD-Q2_K_XL-{number + 1:05}-of-00003.gguf",
                         part)
        self.hub.put("org/big-GGUF", "mmproj-BF16.gguf", gguf(MB, 10))
        self.hub.put("org/big-GGUF", "mmproj-F16.gguf", gguf(MB, 11))
        self.hub.PAGE = 2
        model = self.get("hf:org/big-GGUF:UD-Q2_K_XL")
        self.assertEqual(model["name"], "big-UD-Q2_K_XL")
        self.assertEqual([file["role"] for file in model["files"]],
                         ["weights", "weights", "weights", "projector"])
        for file, content in zip(model["files"], [*parts, gguf(MB, 11)]):
            self.check_file(file["path"], content)
        alone = self.get("hf:org/big-GGUF:UD-Q2_K_XL", "--no-projector", models=self.models / "b")
        self.assertEqual(len(alone["files"]), 3)

    def test_a_huggingface_model(self):
        safetensors = struct.pack("<Q", 72) + json.dumps(
            {"a": {"dtype": "F32", "shape": [8192], "data_offsets": [0, 32768]}}).ljust(72).encode()
        files = {"config.json": b'{"model_type":"qwen3","max_position_embeddings":4096}',
                 "model.safetensors": safetensors + bytes(32768), "tokenizer.json": b"{}",
                 "README.md": b"# Hello", "run.py": b"exit()", "onnx/model.onnx": bytes(9000)}
        for path, content in files.items():
            self.hub.put("org/Qwen3-Tiny", path, content)
        model = self.get("hf:org/Qwen3-Tiny")
        self.assertEqual((model["format"], model["name"]), ("huggingface", "Qwen3-Tiny"))
        self.assertEqual(model["path"], f"{self.models}/hf/org/Qwen3-Tiny")
        got = {pathlib.Path(file["path"]).name for file in model["files"]}
        self.assertEqual(got, {"config.json", "model.safetensors", "tokenizer.json"})
        for name in got:
            self.check_file(self.models / "hf/org/Qwen3-Tiny" / name, files[name])

    def test_an_address(self):
        self.hub.plain["/models/any model.gguf"] = self.content
        url = f"{self.hub.files_url}/models/any%20model.gguf?key=hidden"
        done = self.pull(url)
        self.assertEqual(done.returncode, 0, done)
        self.assertNotIn("hidden", done.stdout + done.stderr)
        found = list(self.models.rglob("any model.gguf"))
        self.assertEqual(len(found), 1)
        self.check_file(found[0], self.content)
        before = self.hub.sent()
        self.get(url)
        self.assertLess(self.hub.sent() - before, 100)
        self.hub.plain["/models/any model.gguf"] = gguf(8 * MB, 7)
        self.hub.modified += 100
        self.check_file(self.get(url)["path"], gguf(8 * MB, 7))

    def test_an_address_of_a_split_model(self):
        for number in range(2):
            self.hub.plain[f"/m-{number + 1:05}-of-00002.gguf"] = gguf(MB, number, (number, 2))
        model = self.get(f"{self.hub.files_url}/m-00001-of-00002.gguf")
        self.assertEqual(model["name"], "m")
        self.assertEqual(len(model["files"]), 2)

    def test_a_file_is_linked(self):
        file = self.sandbox.directory / "mine.gguf"
        file.write_bytes(self.content)
        model = self.get(f"file:{file}")
        self.assertEqual((model["name"], model["path"]), ("mine", str(file)))
        self.assertTrue(model["files"][0]["linked"])
        self.assertEqual(list(self.models.rglob("*.gguf")), [])

    def test_a_name(self):
        self.assertEqual(self.get("hf:org/tiny-GGUF", "--name", "mine")["name"], "mine")
        self.hub.put("org/other-GGUF", "o-Q4_K_M.gguf", gguf(MB, 3))
        self.check_failure(self.pull("hf:org/other-GGUF", "--name", "mine"), "mine", "tiny", code=2)

    def test_another_model_of_the_same_name(self):
        self.get()
        self.hub.put("else/tiny-GGUF", "tiny-Q4_K_M.gguf", gguf(MB, 3))
        self.assertEqual(self.get("hf:else/tiny-GGUF")["name"], "else/tiny-Q4_K_M")

    # What is refused

    def test_an_unknown_quantization(self):
        self.check_failure(self.pull("hf:org/tiny-GGUF:Q9_Z"), "Q9_Z", "It has Q4_K_M")

    def test_an_unknown_repository_and_revision(self):
        self.check_failure(self.pull("hf:org/nothing"), "org/nothing", "HF_TOKEN")
        self.check_failure(self.pull("hf:org/nothing", env={"HF_TOKEN": TOKEN}), "org/nothing")
        self.check_failure(self.pull("hf:org/tiny-GGUF@old"), "old", "revision")

    def test_a_gated_repository(self):
        self.hub.gated["org/tiny-GGUF"] = TOKEN
        self.check_failure(self.pull(), "gated", "HF_TOKEN", "/org/tiny-GGUF")
        self.check_failure(self.pull(env={"HF_TOKEN": "hf_wrong"}), "gated", "Accept")
        self.assertEqual(list(self.models.rglob("*.gguf*")), [])
        self.check_tiny(self.get(env={"HF_TOKEN": TOKEN}))

    def test_a_token_stays_with_the_hub(self):
        self.hub.gated["org/tiny-GGUF"] = TOKEN
        self.hub.faults = Faults(cut_at_random=3, expire=1)
        self.check_tiny(self.get(env={"HF_TOKEN": TOKEN}))
        self.assertIn(f"Bearer {TOKEN}", self.hub.tokens_at("hub"))
        self.assertEqual(self.hub.tokens_at("files"), [])
        for file in self.models.rglob("*"):
            if file.is_file():
                self.assertFalse(TOKEN.encode() in file.read_bytes(), file)

    def test_a_token_is_not_for_other_servers(self):
        self.hub.plain["/a.gguf"] = self.content
        self.get(f"{self.hub.files_url}/a.gguf", env={"HF_TOKEN": TOKEN})
        self.assertEqual(self.hub.tokens_at("files"), [])

    def test_a_token_in_a_file(self):
        self.hub.gated["org/tiny-GGUF"] = TOKEN
        home = self.sandbox.directory / "hf"
        home.mkdir()
        (home / "token").write_text(TOKEN + "\n")
        self.check_tiny(self.get(env={"HF_HOME": str(home)}))
        shutil.rmtree(self.models)
        self.check_tiny(self.get(env={"HF_TOKEN_PATH": str(home / "token")}))

    def test_paths_that_lead_out(self):
        entry = {"type": "file", "size": 9000, "oid": "0" * 40}
        for path in ("../../../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf", "a\nb.gguf",
                     "a//b.gguf", "x" * 300 + ".gguf"):
            with self.subTest(path=path):
                self.hub.trees["org/tiny-GGUF"] = [{**entry, "path": path}]
                self.check_failure(self.pull(), "no safe path")
        self.assertEqual(list(self.sandbox.directory.rglob("*evil*")), [])

    def test_a_foreign_file_is_seen_before_it_is_got(self):
        self.hub.put("org/image-GGUF", "image.gguf", b"\x89PNG\r\n\x1a\n" + bytes(4 * MB))
        self.check_failure(self.pull("hf:org/image-GGUF"), "PNG")
        self.assertLess(self.hub.sent("files"), MB)
        self.assertEqual(list(self.models.rglob("image*")), [])

    def test_wrong_references(self):
        for reference in ("hf:org", "hf:a/b/c", "hf:a/b@", "https://example.com/", "hf:../x"):
            with self.subTest(reference=reference):
                self.check_failure(self.pull(reference), code=2)

    # What goes wrong on the way

    def test_wait_as_the_server_asks(self):
        for fault in ({"retry_after": "1"}, {"retry_after": "date:2"},
                      {"rate_limit": '"resolvers";r=0;t=1'}):
            with self.subTest(**fault):
                shutil.rmtree(self.models, ignore_errors=True)
                self.hub.faults = Faults(status=429, status_times=1, **fault)
                began = time.monotonic()
                self.check_tiny(self.get())
                self.assertGreaterEqual(time.monotonic() - began, 0.9)

    def test_a_server_that_asks_for_too_long(self):
        self.hub.faults = Faults(status=429, status_times=100, retry_after="86400")
        self.check_failure(self.pull(), "no more requests", "HF_TOKEN")

    def test_errors_of_servers_pass(self):
        self.hub.faults = Faults(status=503, status_times=3, api_status=502, api_status_times=2)
        self.check_tiny(self.get())
        self.assertTrue(any("502" in note for note in self.notes()), self.notes())

    def test_a_wrong_byte(self):
        self.hub.faults = Faults(wrong_byte=True)
        self.check_failure(self.pull(), "damaged", "removed")
        self.check_nothing_partial()
        self.assertEqual(list(self.models.rglob("*.gguf")), [])
        self.hub.faults = Faults()
        self.check_tiny(self.get())

    def test_a_server_without_ranges(self):
        self.hub.faults = Faults(no_ranges=True)
        self.check_tiny(self.get())
        shutil.rmtree(self.models)
        self.hub.faults = Faults(no_ranges=True, cut_at_random=3)
        self.check_tiny(self.get())

    def test_a_server_that_says_nothing_of_the_file(self):
        self.hub.plain["/a.gguf"] = self.content
        for faults in (Faults(no_ranges=True, no_etag=True, no_length=True), Faults(no_etag=True)):
            shutil.rmtree(self.models, ignore_errors=True)
            self.hub.faults = faults
            self.check_file(self.get(f"{self.hub.files_url}/a.gguf")["path"], self.content)

    def test_a_server_that_always_cuts(self):
        self.hub.faults = Faults(cut_always=True)
        self.check_tiny(self.get())
        shutil.rmtree(self.models)
        self.hub.faults = Faults(cut_always=True, no_ranges=True)
        self.check_failure(self.pull(), "cut")

    def test_a_stalled_connection(self):
        self.hub.faults = Faults(stall=2)
        self.check_tiny(self.get())

    def test_a_change_while_it_was_cut(self):
        self.cut_in_the_middle()
        changed = gguf(8 * MB, 5)
        self.hub.put("org/tiny-GGUF", "tiny-Q4_K_M.gguf", changed)
        self.check_file(self.get()["path"], changed)
        self.assertTrue(any("changed at its source" in note for note in self.notes()), self.notes())

    def test_two_at_once(self):
        self.hub.faults = Faults(bytes_per_second=MB)
        with self.start("hf:org/tiny-GGUF") as first:
            until(lambda: list(self.models.rglob("*.part")), "the first one writes")
            self.check_failure(self.pull(), "models")
            first.send_signal(signal.SIGINT)
            first.communicate(timeout=LIMIT_S)

    # Ends in the middle

    def cut_in_the_middle(self, number=signal.SIGKILL):
        """Ends a pull when some of it is on the disk for certain; what it wrote."""
        self.hub.faults = Faults(bytes_per_second=MB)
        with self.start("hf:org/tiny-GGUF") as process:
            until(lambda: list(self.models.rglob("*.part.json")), "something is durable")
            process.send_signal(number)
            output, errors = process.communicate(timeout=LIMIT_S)
        self.hub.faults = Faults()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def check_going_on(self):
        before = self.hub.sent("files")
        self.check_tiny(self.get())
        self.assertLess(self.hub.sent("files") - before, len(self.content) - MB)
        self.assertTrue(any("going on" in note for note in self.notes()), self.notes())

    def test_interrupt_and_go_on(self):
        self.check_failure(self.cut_in_the_middle(signal.SIGINT), "Interrupted", "again", code=130)
        self.check_going_on()

    def test_termination_and_go_on(self):
        self.check_failure(self.cut_in_the_middle(signal.SIGTERM), "Interrupted", code=130)
        self.check_going_on()

    def test_kill_and_go_on(self):
        self.cut_in_the_middle()
        self.check_going_on()

    def test_damaged_state_begins_anew(self):
        for damage in (b"", b"{", b'{"bytes":1}', b'{"bytes":-1,"mark":"x","done":[[5,1]]}', b"\xff"):
            with self.subTest(damage=damage):
                shutil.rmtree(self.models, ignore_errors=True)
                self.cut_in_the_middle()
                next(self.models.rglob("*.part.json")).write_bytes(damage)
                self.check_tiny(self.get())

    def test_killed_at_random_points(self):
        """Each pull is killed twice and then completed, until 50 have been killed."""
        chance = random.Random(6)
        began = time.monotonic()
        self.get(models=self.models / "warm")
        usual = time.monotonic() - began
        killed = 0
        for number in range(50):
            if killed >= 50:
                break
            models = self.models / str(number)
            for _ in range(2):
                with self.start("hf:org/tiny-GGUF", models=models) as process:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(chance.uniform(0, usual))
                    process.kill()
                    process.communicate(timeout=LIMIT_S)
                killed += process.returncode == -signal.SIGKILL
            self.check_file(self.get(models=models)["path"], self.content)
            self.check_nothing_partial(models)
            shutil.rmtree(models)
        self.assertGreaterEqual(killed, 50)

    def test_cut_at_random_points(self):
        """Five connections of each pull are cut: 50 points in all."""
        for number in range(10):
            models = self.models / str(number)
            self.hub.faults = Faults(cut_at_random=5)
            self.check_file(self.get(models=models)["path"], self.content)
            self.assertEqual(self.hub.faults.cut_at_random, 0)
            self.check_nothing_partial(models)
            shutil.rmtree(models)

    # A disk that is full

    @contextlib.contextmanager
    def small_disk(self, size):
        """Yields its directory, and a function that makes it larger."""
        disk = pathlib.Path(tempfile.mkdtemp(prefix="disk-", dir=self.sandbox.directory))
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)],
                                 capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no file system can be mounted here: {mounted.stderr.decode()}")
        try:
            yield disk, lambda: subprocess.run(
                ["mount", "-o", f"remount,size={64 * MB}", str(disk)], check=True)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)

    def test_a_full_disk_of_any_size(self):
        content = gguf(200_000, 9)
        self.hub.put("org/small-GGUF", "small-Q4_0.gguf", content)
        ends = set()
        for size in range(4096, 480_000, 16_384):
            with self.subTest(size=size), self.small_disk(size) as (disk, grow):
                done = self.pull("hf:org/small-GGUF", models=disk)
                ends.add(done.returncode)
                if done.returncode != 0:
                    self.check_failure(done)
                    self.assertRegex(done.stderr, "(?i)space|missing|full")
                    grow()
                self.check_file(self.get("hf:org/small-GGUF", models=disk)["path"], content)
                self.check_nothing_partial(disk)
        self.assertEqual(ends, {0, 1})

    def test_a_disk_that_fills_meanwhile(self):
        with self.small_disk(24 * MB) as (disk, _):
            self.hub.faults = Faults(bytes_per_second=MB)
            with self.start("hf:org/tiny-GGUF", models=disk) as process:
                until(lambda: list(disk.rglob("*.part")), "it writes")
                ballast = disk / "ballast"
                with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
                output, errors = process.communicate(timeout=LIMIT_S)
            self.hub.faults = Faults()
            done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
            self.check_failure(done, "space")
            ballast.unlink()
            self.check_file(self.get(models=disk)["path"], self.content)

    def test_a_limit_on_the_size_of_files(self):
        for limit in (0, 1, 4096, 100_000, 5 * MB):
            with self.subTest(limit=limit):
                def confine(most=limit):
                    die_with_parent()
                    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

                shutil.rmtree(self.models, ignore_errors=True)
                done = self.pull(preexec_fn=confine)
                self.assertEqual(done.returncode, 1, done)
                self.check_tiny(self.get())

    def test_too_little_space_is_said_first(self):
        with self.small_disk(MB) as (disk, _):
            self.check_failure(self.pull(models=disk), "8.0 MB", "are missing", "--models")
            self.assertLess(self.hub.sent("files"), 2 * MB)

    # What is shown

    def test_progress_lines(self):
        done = self.pull()
        self.assertEqual(done.returncode, 0, done)
        self.assertRegex(done.stderr, r"tiny-Q4_K_M\.gguf: 100 %, 8\.0 MB of 8\.0 MB")
        self.assertIn("tiny-Q4_K_M (Q4_K_M, 8.0 MB) is at ", done.stdout)

    def test_progress_as_json(self):
        self.hub.faults = Faults(bytes_per_second=MB)
        self.get()
        progress = [event for event in self.events if event["event"] == "progress"]
        self.assertTrue(any("bytes_per_second" in event for event in progress), progress)
        self.assertTrue(any(event["checking"] for event in progress))
        self.assertEqual((progress[-1]["done"], progress[-1]["total"]), (8 * MB, 8 * MB))


if __name__ == "__main__":
    unittest.main()
