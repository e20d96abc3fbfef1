"""`yoke import`, `list`, `show` and `rm`: on stores that are made up, in many forms, and whatever
ends them."""

import fcntl
import hashlib
import json
import os
import pty
import random
import resource
import signal
import struct
import subprocess
import time
import unittest

from harness import YOKE, E2eTest, toml

LIMIT_S = 30
KILLS = 60
COMMIT = "c" * 40


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def gguf(name="Tiny", architecture="llama", width=256, extra=()):
    """A small GGUF file of version 3 with one tensor."""
    values = [("general.architecture", 8, text(architecture)), ("general.name", 8, text(name)),
              ("general.file_type", 4, struct.pack("<I", 15)),
              (f"{architecture}.context_length", 4, struct.pack("<I", 4096)),
              (f"{architecture}.embedding_length", 4, struct.pack("<I", width)), *extra]
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values))
    for key, kind, data in values:
        header += text(key) + struct.pack("<I", kind) + data
    header += text("token_embd.weight") + struct.pack("<IQQIQ", 2, width, 3, 0, 0)
    header += bytes(-len(header) % 32)
    return header + bytes(width * 3 * 4)


class ModelsTest(E2eTest):
    def setUp(self):
        super().setUp()
        self.home = self.sandbox.directory / "home"
        self.models = self.sandbox.directory / "models"
        self.home.mkdir()

    def environment(self, **more):
        environment = self.sandbox.environment(HOME=str(self.home), **more)
        for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE", "OLLAMA_MODELS"):
            if name not in more:
                environment.pop(name, None)
        return environment

    def command(self, name, *arguments):
        return [YOKE, name, "--models", str(self.models), *map(str, arguments)]

    def yoke(self, name, *arguments, env=(), **options):
        return subprocess.run(self.command(name, *arguments), capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=LIMIT_S,
                              env=self.environment(**dict(env)), **options)

    def text(self, name, *arguments, **options):
        done = self.yoke(name, *arguments, **options)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def json(self, name, *arguments, **options):
        return json.loads(self.text(name, "--json", *arguments, **options))

    def listed(self):
        return {model["name"]: model for model in self.json("list")["models"]}

    def refused(self, code, *mentions, command):
        done = self.yoke(*command)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done)
        for mention in mentions:
            self.assertIn(mention, done.stderr)

    def write(self, path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def ollama(self, store):
        blob = gguf("Llama")
        digest = hashlib.sha256(blob).hexdigest()
        self.write(store / f"blobs/sha256-{digest}", blob)
        layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}",
                   "size": len(blob)}]
        self.write(store / "manifests/registry.ollama.ai/library/llama3.2/3b",
                   json.dumps({"schemaVersion": 2, "layers": layers}).encode())
        return digest

    def hub_cache(self, cache):
        repository = cache / "models--org--tiny-GGUF"
        self.write(repository / "refs/main", COMMIT.encode())
        self.write(repository / "blobs" / ("a" * 64), gguf("Hub"))
        snapshot = repository / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (snapshot / "tiny-UD-Q4_K_XL.gguf").symlink_to(f"../../blobs/{'a' * 64}")


class ImportTest(ModelsTest):
    def test_looks_where_other_programs_keep_theirs(self):
        digest = self.ollama(self.home / ".ollama/models")
        self.write(self.home / ".lmstudio/models/infra-ai/ocelot/ocelot-q8_0.gguf", gguf())
        self.hub_cache(self.home / ".cache/huggingface/hub")
        self.write(self.home / ".cache/llama.cpp/org_repo_file.gguf", gguf())
        shown = self.text("import", "--dry-run")
        self.assertIn("~/.ollama/models: Ollama's store, 1 model", shown)
        self.assertIn("nothing was changed", shown)
        self.assertFalse(self.models.exists())

        shown = self.text("import")
        for line in ("~/.ollama/models: Ollama's store, 1 model\n  llama3.2:3b ",
                     "~/.lmstudio/models: LM Studio's store, 1 model\n  infra-ai/ocelot:Q8_0 ",
                     "~/.cache/huggingface/hub: a HuggingFace cache, 1 model\n"
                     "  org/tiny-GGUF:UD-Q4_K_XL ",
                     "~/.cache/llama.cpp: GGUF files, 1 model\n  org_repo_file ",
                     "4 new models."):
            self.assertIn(line, shown)
        listed = self.listed()
        self.assertEqual(listed["llama3.2:3b"]["files"][0]["sha256"], digest)
        self.assertEqual(listed["org/tiny-GGUF:UD-Q4_K_XL"]["revision"], COMMIT)
        self.assertTrue(all(file["linked"] for model in listed.values() for file in model["files"]))

        again = self.json("import")
        self.assertEqual([model["added"] for place in again["places"] for model in place["models"]],
                         [False] * 4)
        self.assertEqual(self.listed(), listed)

    def test_a_place_of_ollamas_own(self):
        self.ollama(self.sandbox.directory / "big")
        env = {"OLLAMA_MODELS": str(self.sandbox.directory / "big")}
        self.assertIn("llama3.2:3b", self.text("import", env=env))

    def test_says_what_it_skips(self):
        directory = self.sandbox.directory / "mixed"
        self.write(directory / "good.gguf", gguf())
        self.write(directory / "cat.gguf", b"\x89PNG\r\n\x1a\n" + bytes(100))
        self.write(directory / "cut.gguf", gguf()[:60])
        shown = self.text("import", directory)
        self.assertIn("Skipped", shown)
        self.assertIn("is a PNG image", shown)
        self.assertIn("1 new model.", shown)
        self.assertEqual(list(self.listed()), ["good"])

    def test_nothing_there_is_said(self):
        self.assertIn("`yoke import DIR`", self.text("import"))
        (self.sandbox.directory / "empty").mkdir()
        self.assertIn("no model", self.text("import", self.sandbox.directory / "empty"))
        self.refused(2, "is no directory", command=("import", self.sandbox.directory / "gone"))


class ListAndShowTest(ModelsTest):
    def setUp(self):
        super().setUp()
        self.file = self.write(self.sandbox.directory / "theirs/tiny.gguf", gguf())
        self.text("import", self.file.parent)

    def test_list_marks_what_is_missing(self):
        self.assertNotIn("missing", self.text("list"))
        self.file.unlink()
        self.assertIn(f"{self.file} is missing.", self.text("list"))
        self.assertTrue(self.listed()["tiny"]["missing"])
        self.assertIn("missing", self.text("show", "tiny"))

    def test_list_has_the_models_of_the_configuration(self):
        config = self.sandbox.directory / "yoke.toml"
        config.write_text(toml({'models."mine"': {"model_path": str(self.file)},
                                'models."ours"': {"model": "tiny"}}))
        models = {model["name"]: model
                  for model in self.json("list", "--config", config)["models"]}
        self.assertEqual(models["mine"]["source"], "yoke.toml")
        self.assertEqual(models["mine"]["parameters"], 768)
        self.assertEqual(models["ours"]["path"], str(self.file))
        self.assertEqual(set(models), {"mine", "ours", "tiny"})

    def test_list_without_models_says_how_to_get_some(self):
        self.models = self.sandbox.directory / "none"
        self.assertIn("`yoke pull`", self.text("list"))
        self.assertEqual(self.listed(), {})

    def test_show_takes_a_name_or_a_file(self):
        by_file = self.json("show", self.file)
        self.assertNotIn("catalogue", by_file)
        for name in ("tiny", "TINY", "tin"):
            by_name = self.json("show", name)
            self.assertEqual(by_name["catalogue"]["name"], "tiny")
            self.assertEqual(by_name["parameters"], by_file["parameters"])
        shown = self.text("show", "tiny")
        self.assertIn(f"{self.file} (", shown)
        self.assertIn(f"Source         file:{self.file}", shown)
        self.refused(1, "There is no model 'tinny'", "Did you mean tiny?",
                     command=("show", "tinny"))
        self.refused(1, "no-such.gguf", command=("show", "no-such.gguf"))

    def test_another_yoke_that_changes_them_stops_changes_and_not_reads(self):
        with open(self.models / "catalogue.lock", "r+", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.truncate(0)
            lock.write("4711\n")
            lock.flush()
            self.assertEqual(list(self.listed()), ["tiny"])
            self.refused(1, f"Another Yoke (process 4711) is changing the models in {self.models}.",
                         command=("import", self.file.parent))
            self.refused(1, "Another Yoke (process 4711)", command=("rm", "-y", "tiny"))
        self.text("rm", "-y", "tiny")

    def test_a_damaged_catalogue_is_put_aside_and_made_anew(self):
        (self.models / "catalogue.db-wal").unlink()
        (self.models / "catalogue.db").write_bytes(b"x" * 20000)
        self.refused(1, "catalogue.db is damaged.", "`yoke import`", command=("list",))
        done = self.yoke("import", self.file.parent)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("It is kept as catalogue.db.damaged-", done.stderr)
        self.assertEqual(list(self.listed()), ["tiny"])


class RmTest(ModelsTest):
    def setUp(self):
        super().setUp()
        self.file = self.write(self.sandbox.directory / "theirs/tiny.gguf", gguf())
        self.text("import", self.file.parent)

    def test_leaves_files_of_others(self):
        self.assertIn("Its files were not touched.", self.text("rm", "-y", "tiny"))
        self.assertTrue(self.file.exists())
        self.assertEqual(self.listed(), {})

    def test_takes_whole_names_only_and_all_or_none(self):
        self.refused(1, "Did you mean tiny?", command=("rm", "-y", "tin"))
        self.refused(1, "There is no model 'other'", command=("rm", "-y", "tiny", "other"))
        self.assertEqual(list(self.listed()), ["tiny"])

    def test_asks_on_a_terminal_only(self):
        self.refused(2, "no terminal to ask on", command=("rm", "tiny"))
        for answer, left in ((b"n\n", ["tiny"]), (b"y\n", [])):
            ours, theirs = pty.openpty()
            process = subprocess.Popen(self.command("rm", "tiny"), stdin=theirs,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       env=self.environment())
            os.close(theirs)
            os.write(ours, answer)
            shown = process.communicate(timeout=LIMIT_S)[0].decode()
            os.close(ours)
            self.assertIn("Remove tiny", shown)
            self.assertEqual(list(self.listed()), left)


class EndsTest(ModelsTest):
    """Whatever ends a command, the catalogue is whole."""

    def many(self, count):
        directory = self.sandbox.directory / "many"
        for number in range(count):
            self.write(directory / f"m{number:02}.gguf", gguf(f"M{number}"))
        return directory

    def check_whole(self):
        for name, model in self.listed().items():
            self.assertEqual(model["parameters"], 768, name)
            self.assertEqual(len(model["files"]), 1, name)
            self.assertFalse(model["missing"], name)

    def test_a_kill_at_any_moment(self):
        directory = self.many(40)
        choices = random.Random(1)
        killed = 0
        for number in range(KILLS):
            names = list(self.listed())[:20] or ["none"]
            command = ("import", directory) if number % 2 == 0 else ("rm", "-y", *names)
            process = subprocess.Popen(self.command(*command), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       env=self.environment())
            time.sleep(choices.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            killed += process.wait(LIMIT_S) == -signal.SIGKILL
            self.check_whole()
        self.assertGreater(killed, KILLS / 4)
        self.text("import", directory)
        self.assertEqual(len(self.listed()), 40)
        self.assertEqual(list(self.models.glob("*.damaged*")), [])

    def test_a_file_that_may_not_grow(self):
        directory = self.many(12)
        refused = 0
        for size in range(0, 120_000, 6143):
            def limit(size=size):
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

            # Output goes to pipes, which have no such limit.
            done = self.yoke("import", directory, preexec_fn=limit, restore_signals=False)
            self.assertIn(done.returncode, (0, 1), done)
            if done.returncode == 1:
                refused += 1
                self.assertRegex(done.stderr, r"can't be (used|made|locked).*\n.+--models")
            self.check_whole()
            self.text("import", directory)
            self.text("rm", "-y", *self.listed())
        self.assertGreater(refused, 3)


if __name__ == "__main__":
    unittest.main()
