"""What Yoke remembers of backends that failed: `yoke quarantine`, `yoke explain`, state.db.

The engines are the fake one, installed for Vulkan and the CPU. The one for Vulkan crashes once,
when it loads the model; what is left out after that is left out because Yoke remembers it.
"""

import json
import os
import signal
import subprocess
import unittest

from harness import YOKE, E2eTest, fake_text, until

LIMIT_S = 20
FIRST_QUARANTINE_S = 600


class QuarantineTest(E2eTest):
    def setUp(self):
        super().setUp()
        self.engines = self.sandbox.install_fake_engines()
        self.models = {"chat": self.sandbox.fake_model(
            "tokens=3;vulkan:crash_on_load=1;vulkan:crash_signal=SEGV;"
            f"vulkan:once_file={self.once_file()}", name="chat", backends=["vulkan", "cpu"])}

    def environment(self, **more):
        return {**self.engines, **more}

    def serve(self, server=()):
        yoke = self.sandbox.serve(self.models, server, engine=None,
                                  engines={"software_devices": True}, env=self.environment())
        yoke.wait_for_state("chat", "ready")
        return yoke

    def serve_until_fallen_back(self):
        yoke = self.serve()
        self.assertEqual(yoke.instance("chat")["backend"], "cpu")
        self.assertTrue(self.once_file().exists())
        return yoke

    def kill(self, yoke):
        os.kill(yoke.pid, signal.SIGKILL)
        self.assertEqual(yoke.wait(), -signal.SIGKILL)
        until(lambda: not yoke.left_over(), "its engines are gone too")

    def command(self, yoke, *arguments):
        return subprocess.run(
            [YOKE, *arguments], capture_output=True, text=True, timeout=LIMIT_S,
            stdin=subprocess.DEVNULL, env=self.sandbox.environment(YOKE_URL=yoke.url, TZ="UTC"))

    def output_of(self, yoke, *arguments):
        done = self.command(yoke, *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def ask(self, yoke, method, path, headers=()):
        with yoke.connect() as connection:
            return connection.ask(method, path, headers=headers)

    def quarantines(self, yoke):
        return yoke.get("/yoke/v1/quarantine").json()["quarantines"]

    def candidates(self, yoke):
        explanation = yoke.get("/yoke/v1/explain?model=chat").json()
        return {candidate["backend"]: candidate for candidate in explanation["candidates"]}

    def wait_for_backend(self, yoke, backend):
        def runs_there():
            instance = yoke.instance("chat")
            return (instance["backend"], instance["state"]) == (backend, "ready")

        until(runs_there, f"it runs on {backend}")

    def check_remembered(self, yoke, before):
        """Vulkan was not tried again."""
        instance = yoke.instance("chat")
        self.assertEqual((instance["backend"], instance["restarts"]), ("cpu", 0))
        after = self.quarantines(yoke)
        for quarantine in (*before, *after):
            del quarantine["remaining_s"]
        self.assertEqual(after, before)
        self.assertEqual(yoke.chat("chat", seed=5).text(), fake_text(5, 3))

    # How long it lasts

    def test_survives_a_restart(self):
        yoke = self.serve_until_fallen_back()
        [quarantine] = self.quarantines(yoke)
        self.assertEqual([quarantine[key] for key in ("model", "backend", "failure", "count")],
                         ["chat", "vulkan", "crash", 1])
        self.assertIn("0.5.0", quarantine["engine"])
        self.assertNotEqual(quarantine["driver"], "")
        self.assertLess(0, quarantine["remaining_s"])
        self.assertLessEqual(quarantine["remaining_s"], FIRST_QUARANTINE_S)
        yoke.stop()
        self.check_remembered(self.serve(), [quarantine])

    def test_survives_a_kill(self):
        yoke = self.serve_until_fallen_back()
        before = self.quarantines(yoke)
        self.kill(yoke)
        self.check_remembered(self.serve(), before)

    def test_ends_with_a_new_version_of_the_engine(self):
        self.serve_until_fallen_back().stop()
        self.sandbox.install_fake_engines("0.6.0")
        yoke = self.serve()
        self.assertEqual(yoke.instance("chat")["backend"], "vulkan")
        vulkan = self.candidates(yoke)["vulkan"]
        self.assertIn("0.6.0", vulkan["engine"])
        self.assertIsNone(vulkan["quarantine"])

    def test_is_of_one_model_only(self):
        self.serve_until_fallen_back().stop()
        self.models["other"] = self.sandbox.fake_model("tokens=3", backends=["vulkan", "cpu"])
        yoke = self.serve()
        yoke.wait_for_state("other", "ready")
        self.assertEqual(yoke.instance("chat")["backend"], "cpu")
        self.assertEqual(yoke.instance("other")["backend"], "vulkan")

    # yoke quarantine

    def test_is_listed(self):
        yoke = self.serve_until_fallen_back()
        for words in (["quarantine"], ["quarantine", "list"]):
            head, row, *notes = self.output_of(yoke, *words).splitlines()
            self.assertEqual(head.split(), ["MODEL", "BACKEND", "FAILURE", "TIMES", "ENDS", "IN"])
            self.assertRegex(row, r"^chat +vulkan +crash +1 +(9 min \d+ s|10 min 0 s)$")
            self.assertIn("llama.cpp 0.5.0", " ".join(notes))
        listed = json.loads(self.output_of(yoke, "quarantine", "--json"))["quarantines"]
        self.assertEqual([quarantine["backend"] for quarantine in listed], ["vulkan"])

    def test_clear_brings_the_backend_back(self):
        yoke = self.serve_until_fallen_back()
        done = self.command(yoke, "quarantine", "clear", "chat", "--backend", "cpu")
        self.assertEqual(done.stdout, "Nothing of that was in quarantine.\n", done)
        self.assertEqual(len(self.quarantines(yoke)), 1)
        self.assertEqual(self.output_of(yoke, "quarantine", "clear", "chat"),
                         "1 quarantine cleared.\n")
        self.wait_for_backend(yoke, "vulkan")
        self.assertEqual(yoke.chat("chat", seed=5).text(), fake_text(5, 3))
        self.assertEqual(self.output_of(yoke, "quarantine"), "No backend is in quarantine.\n")
        yoke.stop()
        self.assertEqual(self.serve().instance("chat")["backend"], "vulkan")

    def test_clear_of_everything(self):
        yoke = self.serve_until_fallen_back()
        self.assertEqual(json.loads(self.output_of(yoke, "quarantine", "clear", "--json")),
                         {"cleared": 1})
        self.wait_for_backend(yoke, "vulkan")

    def test_mistyped_names(self):
        yoke = self.serve_until_fallen_back()
        for arguments, code, mention in (
                (["quarantine", "clear", "caht"], 1, "'chat'"),
                (["quarantine", "clear", "--backend", "vulcan"], 2, "vulkan"),
                (["explain", "caht"], 1, "'chat'")):
            with self.subTest(arguments):
                done = self.command(yoke, *arguments)
                self.assertEqual((done.returncode, done.stdout), (code, ""), done)
                self.assertIn(mention, done.stderr)
        self.assertEqual(len(self.quarantines(yoke)), 1)

    # yoke explain

    def test_explain_tells_the_whole_story(self):
        yoke = self.serve_until_fallen_back()
        text = self.output_of(yoke, "explain", "chat")
        self.assertRegex(text, r"\Achat\n  State +ready\n  File +\S+chat\.gguf\n")
        self.assertRegex(text, r"\n  vulkan +in quarantine until [-0-9]+ [:0-9]+ \(.+ more\)\n")
        self.assertIn("Left out because of crash: ", text)
        self.assertRegex(text, r"\n  cpu +runs\n +llama\.cpp 0\.5\.0")
        self.assertRegex(text, r"\n  flash_attn +\S+ \(.+\)\n")
        self.assertRegex(text, r"\n  n_ubatch +\d+ \(.+\)\n")
        self.assertRegex(text, r"\n  [-0-9]+ [:0-9]+: crash on vulkan\n")
        server = f"{self.engines['YOKE_ENGINE_DIR']}/llama.cpp-0.5.0/cpu/llama-server"
        command = text.split("\nCommand\n")[1].splitlines()[0]
        self.assertTrue(command.startswith(f"  {server} "), command)
        self.assertIn(" --alias chat", command)

    def test_explain_as_json(self):
        yoke = self.serve_until_fallen_back()
        explanation = json.loads(self.output_of(yoke, "explain", "chat", "--json"))
        self.assertEqual([(candidate["backend"], candidate["current"])
                          for candidate in explanation["candidates"]],
                         [("vulkan", False), ("cpu", True)])
        self.assertEqual(explanation["candidates"][0]["quarantine"]["failure"], "crash")
        self.assertIsNone(explanation["candidates"][1]["quarantine"])
        [failure] = explanation["failures"]
        self.assertEqual((failure["backend"], failure["failure"]), ("vulkan", "crash"))

    def test_explain_remembers_failures(self):
        yoke = self.serve_until_fallen_back()
        before = yoke.get("/yoke/v1/explain?model=chat").json()["failures"]
        yoke.stop()
        after = self.serve().get("/yoke/v1/explain?model=chat").json()["failures"]
        self.assertEqual(len(before), 1)
        self.assertEqual(after, before)

    # The routes

    def test_requests_that_are_wrong(self):
        yoke = self.serve_until_fallen_back()
        for method, path, status, code, mention in (
                ("GET", "/yoke/v1/explain", 400, "model_required", "?model="),
                ("GET", "/yoke/v1/explain?model=caht", 404, "model_not_found", "'chat'"),
                ("DELETE", "/yoke/v1/quarantine?model=caht", 404, "model_not_found", "'chat'"),
                ("POST", "/yoke/v1/explain?model=chat", 405, "method_not_allowed", "GET"),
                ("POST", "/yoke/v1/quarantine", 405, "method_not_allowed", "DELETE")):
            with self.subTest(f"{method} {path}"):
                reply = self.ask(yoke, method, path)
                self.check_error(reply, status, code, mention)
                if status == 405:
                    self.assertNotIn(method, reply.headers["allow"].split(", "))
        stranger = self.ask(yoke, "DELETE", "/yoke/v1/quarantine",
                            {"Origin": "https://stranger.example"})
        self.check_error(stranger, 403, "origin_not_allowed")
        rebound = self.ask(yoke, "DELETE", "/yoke/v1/quarantine", {"Host": "stranger.example"})
        self.check_error(rebound, 403, "host_not_allowed")
        self.assertEqual(len(self.quarantines(yoke)), 1)

    # state.db

    def test_second_server_on_one_state_directory(self):
        first = self.serve_until_fallen_back()
        config = self.sandbox.write_config(self.models, engine=None, name="second.toml")
        second = subprocess.run(
            [YOKE, "serve", "--config", str(config)], capture_output=True, text=True,
            timeout=LIMIT_S, stdin=subprocess.DEVNULL,
            env=self.sandbox.environment(**self.environment()))
        self.assertEqual((second.returncode, second.stdout), (1, ""), second)
        self.assertIn(f"process {first.pid}", second.stderr)
        self.assertIn("state_dir", second.stderr)
        self.assertEqual(first.chat("chat", seed=5).text(), fake_text(5, 3))
        other = self.serve({"state_dir": str(self.sandbox.directory / "another")})
        self.assertEqual(self.quarantines(other), [])

    def test_damaged_file_is_put_aside(self):
        self.serve_until_fallen_back().stop()
        state = self.sandbox.directory / "state/yoke"
        (state / "state.db").write_bytes(b"no database" * 1000)
        yoke = self.serve()
        self.assertEqual(self.quarantines(yoke), [])
        self.assertIn("state.db is damaged", yoke.log())
        self.assertEqual(len(list(state.glob("state.db.damaged-*"))), 1)

    def test_without_a_state_directory_it_works_in_memory(self):
        in_the_way = self.sandbox.directory / "in_the_way"
        in_the_way.write_text("")
        yoke = self.serve({"state_dir": str(in_the_way)})
        self.assertEqual(yoke.instance("chat")["backend"], "cpu")
        self.assertEqual(len(self.quarantines(yoke)), 1)
        self.assertIn("remembered only until Yoke ends", yoke.log())


if __name__ == "__main__":
    unittest.main()
