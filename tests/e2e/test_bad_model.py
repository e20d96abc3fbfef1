"""Model files that are missing, cut or something else: the server lives on and says so."""

import pathlib
import struct
import time
import unittest
import zlib

from harness import REAL_LIMIT_S, REAL_MODEL, REAL_MODEL_FILE, E2eTest

# From a request to the answer that its model can't be loaded.
VERDICT_LIMIT_S = 15


def png():
    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) +
            chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b""))


class BadModelTest(E2eTest):
    def refused(self, yoke, model, code, *mentions):
        """Asks for the model and checks the error; where it says so, in time and for good."""
        start = time.monotonic()
        reply = yoke.chat(model, limit_s=60)
        self.assertLess(time.monotonic() - start, VERDICT_LIMIT_S)
        self.check_error(reply, 503, code, *mentions)
        self.assertIn("retry-after", reply.headers)
        instance = yoke.wait_for_state(model, "failed")
        self.assertEqual(instance["error"]["code"], code)
        self.assertEqual(instance["restarts"], 0, "a file does not get better by loading it again")
        self.assertEqual(yoke.get("/health").json()["status"], "degraded")

    def test_missing_file_that_comes_later(self):
        file = self.sandbox.directory / "later.gguf"
        yoke = self.sandbox.serve({"good": self.sandbox.fake_model(),
                                   "late": {"model_path": str(file)}})
        self.refused(yoke, "late", "model_file_missing", str(file), "model_path")
        self.assertEqual(yoke.chat("good").status, 200)

        self.sandbox.fake_model("tokens=7", name="later")
        reply = yoke.chat("late")
        self.assertEqual(reply.status, 200, reply)
        self.assertEqual(reply.json()["usage"]["completion_tokens"], 7)
        self.assertIsNone(yoke.instance("late")["error"])
        self.assertEqual(yoke.get("/health").json()["status"], "ok")

    def test_files_that_are_something_else(self):
        kinds = {"png": (png(), "a PNG image"), "empty": (b"", "empty"),
                 "page": (b"<!DOCTYPE html><html>404</html>", "web page"),
                 "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
                 "zip": (b"PK\3\4" + bytes(100), "ZIP"), "stub": (b"GGUF\3\0\0\0", "incomplete"),
                 "noise": (bytes(range(128, 256)), "GGUF")}
        models = {}
        for name, (content, _) in kinds.items():
            file = self.sandbox.directory / f"{name}.gguf"
            file.write_bytes(content)
            models[name] = {"model_path": str(file)}
        yoke = self.sandbox.serve({"good": self.sandbox.fake_model(), **models})
        for name, (_, mention) in kinds.items():
            with self.subTest(name):
                self.refused(yoke, name, "model_file_invalid", f"{name}.gguf", mention)
        self.assertEqual(yoke.chat("good").status, 200)


class TruncatedModelTest(E2eTest):
    def test_half_a_download(self):
        whole = REAL_MODEL_FILE.read_bytes()
        file = self.sandbox.directory / "half.gguf"
        file.write_bytes(whole[: len(whole) // 2])
        yoke = self.sandbox.serve(
            {"half": {**REAL_MODEL, "model_path": str(file)}}, engine=None)
        start = time.monotonic()
        self.check_error(yoke.chat("half", limit_s=60), 503, "model_file_invalid", "incomplete",
                         "Download it again")
        self.assertLess(time.monotonic() - start, VERDICT_LIMIT_S)
        # Asking again starts nothing.
        for _ in range(3):
            self.check_error(yoke.chat("half"), 503, "model_file_invalid")
        instance = yoke.instance("half")
        self.assertEqual((instance["state"], instance["restarts"], instance["pid"]),
                         ("failed", 0, 0))
        commands = [pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in yoke.left_over()]
        self.assertEqual([line for line in commands if b"llama-server" in line], [])

        file.write_bytes(whole)
        reply = yoke.chat("half", "What is the capital of France? One word.", temperature=0,
                          max_tokens=16, limit_s=REAL_LIMIT_S)
        self.assertEqual(reply.status, 200, reply)
        self.assertIn("Paris", reply.text())

    def test_bad_file_is_tried_with_one_backend_only(self):
        """Only the engine can tell that it does not know the architecture."""
        known = b"general.architecture" + struct.pack("<IQ", 8, 5) + b"llama"
        file = self.sandbox.directory / "odd.gguf"
        content = REAL_MODEL_FILE.read_bytes()
        self.assertEqual(content.count(known), 1)
        file.write_bytes(content.replace(known, known[:-5] + b"mamal"))
        yoke = self.sandbox.serve(
            {"odd": {**REAL_MODEL, "model_path": str(file), "backends": ["vulkan", "cpu"]}},
            engine=None, engines={"software_devices": True})
        self.check_error(yoke.chat("odd", limit_s=60), 503, "model_file_invalid", "architecture")
        verdict = [line for line in yoke.log().splitlines() if "Model odd:" in line]
        self.assertEqual(len([line for line in verdict if "(bad_model)" in line]), 1, verdict)
        self.assertEqual(yoke.instance("odd")["restarts"], 0)
        quarantines = yoke.get("/yoke/v1/quarantine").json()["quarantines"]
        self.assertEqual(quarantines, [], "a bad file says nothing about a backend")


if __name__ == "__main__":
    unittest.main()
