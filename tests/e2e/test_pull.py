"""`yoke pull`: what it gets, and what it refuses."""

import hashlib
import json
import pathlib
import shutil
import struct
import subprocess
import unittest

from harness import YOKE, until
from pull_case import LIMIT_S, MB, TOKEN, Faults, PullTestCase, gguf


class PullTest(PullTestCase):
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

    # What was cut and has no entry

    def other(self, command, *arguments):
        done = subprocess.run([YOKE, command, "--models", str(self.models), *arguments],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=LIMIT_S, env=self.environment())
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def cut_pulls(self):
        return json.loads(self.other("list", "--json"))["cut_pulls"]

    def test_a_cut_pull_is_listed_until_it_is_done(self):
        self.cut_in_the_middle()
        [cut] = self.cut_pulls()
        self.assertEqual((cut["source"], cut["total"]), ("hf:org/tiny-GGUF", 8 * MB))
        self.assertGreater(cut["done"], 0)
        self.assertLess(cut["done"], 8 * MB)
        self.assertRegex(self.other("list"), r"hf:org/tiny-GGUF is not complete, .* of 8\.0 MB are "
                                             r"there: `yoke pull hf:org/tiny-GGUF` goes on")
        self.check_tiny(self.get())
        self.assertEqual(self.cut_pulls(), [])

    def test_a_cut_pull_is_removed(self):
        for number in range(2):
            self.hub.put("org/two-GGUF", f"two-{number + 1:05}-of-00002.gguf",
                         gguf((number + 1) * MB, number, (number, 2)))
        self.hub.faults = Faults(bytes_per_second=MB)
        with self.start("hf:org/two-GGUF") as process:
            until(lambda: list(self.models.rglob("*00002-of-00002.gguf.part")), "the second part")
            process.kill()
            process.communicate(timeout=LIMIT_S)
        self.hub.faults = Faults()
        [cut] = self.cut_pulls()
        self.assertEqual(cut["total"], 3 * MB)
        self.assertGreaterEqual(cut["done"], MB)
        model = self.get()
        shown = self.other("rm", "-y", "hf:org/two-GGUF@main")
        self.assertRegex(shown, r"Removed hf:org/two-GGUF\. [\d.]+ MB freed\.")
        self.assertEqual(self.cut_pulls(), [])
        self.assertEqual(list(self.models.rglob("*two*")), [])
        self.check_tiny(model)

    def test_a_cut_update_leaves_the_model(self):
        model = self.get()
        self.hub.put("org/tiny-GGUF", "tiny-Q4_K_M.gguf", gguf(8 * MB, 5))
        self.cut_in_the_middle()
        self.other("rm", "-y", "hf:org/tiny-GGUF")
        self.check_tiny(model)

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
