"""Answers compared with the CPU's: a backend that computes wrongly never serves anybody."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

from harness import FAKE_ENGINE, REAL_LIMIT_S, REAL_MODEL, YOKE, E2eTest, fake_text, until

# Where there is no GPU, Mesa's lavapipe plays one: it is what makes Vulkan a candidate.
SOFTWARE = {"software_devices": True}
CHAT = "/v1/chat/completions"
CHECK = "/completion"


def candidate(yoke, model, backend):
    explanation = yoke.get(f"/yoke/v1/explain?model={model}").json()
    return next(one for one in explanation["candidates"] if one["backend"] == backend)


class AnswerCheckTest(E2eTest):
    """The fake engine, installed for two backends."""

    def setUp(self):
        super().setUp()
        self.engines = self.sandbox.directory / "engines"
        self.journal_file = self.sandbox.directory / "journal"
        self.model = self.sandbox.fake_model(name="model")
        for backend in ("cpu", "vulkan"):
            self.install(backend, "9.9.1")

    def install(self, backend, version):
        directory = self.engines / f"llama.cpp-{version}" / backend
        directory.mkdir(parents=True)
        # A file of its own: Yoke takes links to one program for one engine.
        shutil.copy(FAKE_ENGINE, directory / "llama-server")
        manifest = {"name": "llama.cpp", "version": version, "backend": backend}
        (directory / "engine.json").write_text(json.dumps(manifest))

    def serve(self, script="", **options):
        """Returns when it listens; the model may still be starting."""
        model = pathlib.Path(self.model["model_path"])
        lines = [f"journal={self.journal_file}", "tokens=6", "max_lifetime_s=300", script]
        model.with_name(model.name + ".fake").write_text(";".join(lines))
        devices = "vulkan:devices=Vulkan0: Fake GPU (8000 MiB, 7000 MiB free)"
        return self.sandbox.serve(
            {"chat": {**self.model, **options}}, engine=None, engines=SOFTWARE,
            env={"YOKE_ENGINE_DIR": str(self.engines), "FAKE_ENGINE_SCRIPT": devices})

    def check_chat(self, yoke, backend):
        """Asks at once, while the model may still be starting."""
        self.assertEqual(yoke.chat("chat", seed=5).text(), fake_text(5, 6))
        self.assertEqual(yoke.instance("chat")["backend"], backend)

    def journal(self):
        return self.journal_file.read_text().splitlines()

    def count(self, line):
        return self.journal().count(line)

    def test_wrong_backend_never_serves(self):
        yoke = self.serve("vulkan:wrong_probs=1")
        self.check_chat(yoke, "cpu")
        self.assertEqual(self.count(f"vulkan {CHECK}"), 1)
        self.assertEqual(self.count(f"vulkan {CHAT}"), 0)
        self.assertEqual(self.count(f"cpu {CHAT}"), 1)

        vulkan = candidate(yoke, "chat", "vulkan")
        self.assertEqual(vulkan["quarantine"]["failure"], "wrong_output")
        self.assertFalse(vulkan["check"]["agreed"])
        self.assertGreater(vulkan["check"]["distance"], 0.5)
        self.assertTrue(candidate(yoke, "chat", "cpu")["current"])
        left_out = yoke.get("/yoke/v1/quarantine").json()["quarantines"]
        self.assertEqual([(one["backend"], one["failure"]) for one in left_out],
                         [("vulkan", "wrong_output")])

    def test_explain_tells_people(self):
        yoke = self.serve("vulkan:wrong_probs=1")
        yoke.wait_for_state("chat", "ready")
        done = subprocess.run([YOKE, "explain", "chat"], capture_output=True, text=True,
                              env=self.sandbox.environment(YOKE_URL=yoke.url), timeout=30)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("wrong_output", done.stdout)
        self.assertRegex(done.stdout, r"vulkan\s+in quarantine")

    def test_wrong_backend_stays_out_after_a_restart(self):
        self.check_chat(first := self.serve("vulkan:wrong_probs=1"), "cpu")
        first.stop()
        self.check_chat(self.serve("vulkan:wrong_probs=1"), "cpu")
        self.assertEqual(self.count("vulkan start"), 1)

    def test_right_backend_is_checked_once(self):
        self.check_chat(first := self.serve(), "vulkan")
        check = candidate(first, "chat", "vulkan")["check"]
        self.assertTrue(check["agreed"])
        self.assertLess(check["distance"], 0.01)
        self.assertEqual(self.journal(), ["cpu start", f"cpu {CHECK}", "vulkan start",
                                          f"vulkan {CHECK}", f"vulkan {CHAT}"])
        first.stop()
        self.check_chat(self.serve(), "vulkan")
        self.assertEqual(self.journal()[5:], ["vulkan start", f"vulkan {CHAT}"])

    def test_new_engine_is_checked_against_the_same_reference(self):
        self.check_chat(first := self.serve(), "vulkan")
        first.stop()
        for backend in ("cpu", "vulkan"):
            self.install(backend, "9.9.2")
        self.check_chat(second := self.serve("vulkan:wrong_probs=1"), "cpu")
        self.assertIn("9.9.2", candidate(second, "chat", "vulkan")["engine"])
        self.assertEqual(self.count(f"cpu {CHECK}"), 1)
        self.assertEqual(self.count(f"vulkan {CHECK}"), 2)

    def test_new_model_file_needs_a_new_reference(self):
        self.check_chat(first := self.serve(), "vulkan")
        first.stop()
        model = pathlib.Path(self.model["model_path"])
        model.write_bytes(model.read_bytes() + bytes(8))
        os.utime(model, (time.time() + 10, time.time() + 10))
        self.check_chat(self.serve("model_seed=2"), "vulkan")
        self.assertEqual(self.count(f"cpu {CHECK}"), 2)
        self.assertEqual(self.count(f"vulkan {CHECK}"), 2)

    def test_engine_that_crashed_is_not_checked_again(self):
        yoke = self.serve()
        self.check_chat(yoke, "vulkan")
        os.kill(yoke.instance("chat")["pid"], signal.SIGSEGV)
        until(lambda: yoke.instance("chat")["restarts"] == 1, "it was started again")
        self.check_chat(yoke, "vulkan")
        self.assertEqual(self.count(f"vulkan {CHECK}"), 1)

    def test_off_asks_nobody(self):
        yoke = self.serve("vulkan:wrong_probs=1", answer_check="off")
        self.check_chat(yoke, "vulkan")
        self.assertEqual(self.journal(), ["vulkan start", f"vulkan {CHAT}"])
        self.assertIsNone(candidate(yoke, "chat", "vulkan")["check"])

    def test_cpu_alone_is_not_compared_with_itself(self):
        self.check_chat(self.serve(backends=["cpu"]), "cpu")
        self.assertEqual(self.journal(), ["cpu start", f"cpu {CHAT}"])

    def test_without_a_reference_it_serves_unchecked(self):
        yoke = self.serve("cpu:crash_on_load=1")
        self.check_chat(yoke, "vulkan")
        self.assertIn("can't be compared", yoke.log())
        self.assertEqual(self.count(f"vulkan {CHECK}"), 0)

    def test_backend_that_dies_in_its_check_never_serves(self):
        yoke = self.serve("vulkan:crash_after_tokens=2;vulkan:crash_signal=SEGV")
        self.check_chat(yoke, "cpu")
        self.assertEqual(self.count(f"vulkan {CHAT}"), 0)
        self.assertEqual(candidate(yoke, "chat", "vulkan")["quarantine"]["failure"], "crash")


class RealAnswerCheckTest(E2eTest):
    """SmolLM2 on the CPU and on lavapipe. Small batches: lavapipe reads six tokens a second."""

    def serve(self, **options):
        small = {"n_ctx": 256, "n_batch": 32, "n_ubatch": 32, "parallel": 1}
        model = {**REAL_MODEL, **small, **options}
        yoke = self.sandbox.serve({"smollm2": model}, engine=None, engines=SOFTWARE)
        yoke.wait_for_state("smollm2", "ready", 2 * REAL_LIMIT_S)
        return yoke

    def test_vulkan_agrees_with_the_cpu(self):
        yoke = self.serve()
        self.assertEqual(yoke.instance("smollm2")["backend"], "vulkan")
        check = candidate(yoke, "smollm2", "vulkan")["check"]
        self.assertTrue(check["agreed"])
        self.assertLess(check["distance"], 0.15)
        self.assertNotEqual(check["distance"], 0, "it was compared with itself")
        reply = yoke.chat("smollm2", limit_s=REAL_LIMIT_S, max_tokens=3)
        self.assertEqual(reply.status, 200)

    def test_wrong_positions_are_noticed(self):
        # Only the GPU's engine gets this argument: it takes each position for half of itself.
        yoke = self.serve(extra_args=["--rope-freq-scale", "0.5"], answer_check="on")
        self.assertEqual(yoke.instance("smollm2")["backend"], "cpu")
        vulkan = candidate(yoke, "smollm2", "vulkan")
        self.assertEqual(vulkan["quarantine"]["failure"], "wrong_output")
        self.assertGreater(vulkan["check"]["distance"], 0.5)


if __name__ == "__main__":
    unittest.main()
