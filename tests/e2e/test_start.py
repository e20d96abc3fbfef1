"""Mistakes that keep Yoke from starting: one clear message, the exit code, nothing left behind."""

import os
import socket
import subprocess
import unittest
import uuid

from harness import FAKE_ENGINE, YOKE, E2eTest, processes_marked

LIMIT_S = 20
KEY = "a-key-of-twenty-four-chars"


class StartTest(E2eTest):
    def serve_in_vain(self, config_file, *arguments):
        """Starts a server that must refuse to; returns what it said."""
        name = uuid.uuid4().hex
        done = subprocess.run(
            [YOKE, "serve", "--config", str(config_file), *arguments], capture_output=True,
            stdin=subprocess.DEVNULL, text=True, timeout=LIMIT_S,
            env=self.sandbox.environment(E2E_SERVER=name))
        self.assertEqual(done.returncode, 1, done)
        self.assertEqual(done.stdout, "")
        self.assertEqual(processes_marked(f"E2E_SERVER={name}"), [])
        return done.stderr

    def config(self, text):
        file = self.sandbox.directory / "bad.toml"
        file.write_text(text)
        return file

    def check_config(self, text, *mentions):
        message = self.serve_in_vain(self.config(text))
        for mention in mentions:
            self.assertIn(mention, message)

    # The configuration file

    def test_misspelt_key(self):
        self.check_config('[models.a]\nmodel_path = "a.gguf"\nn_ctxx = 1\n', "bad.toml:3", "n_ctxx",
                          "n_ctx")

    def test_every_mistake_is_told_at_once(self):
        message = self.serve_in_vain(self.config(
            '[server]\nlisten = "nowhere"\n\n[models.a]\nmodel_path = 5\nn_ctx = -1\n'))
        for place in ("bad.toml:2", "bad.toml:5", "bad.toml:6"):
            self.assertIn(place, message)

    def test_no_toml(self):
        self.check_config("[models.a\n", "bad.toml:1")

    def test_misspelt_table(self):
        self.check_config('[model.a]\nmodel_path = "a.gguf"\n', "bad.toml:1", "models")

    def test_no_model(self):
        self.check_config("[server]\n", "no model", "[models.")

    def test_unusable_flag_for_the_engine(self):
        self.check_config('[models.a]\nmodel_path = "a.gguf"\nextra_args = ["--port", "1"]\n',
                          "bad.toml:3", "--port")

    def test_missing_file(self):
        missing = self.sandbox.directory / "nothing.toml"
        message = self.serve_in_vain(missing)
        self.assertIn(str(missing), message)
        self.assertIn("--config", message)

    def test_directory_in_place_of_a_file(self):
        self.assertIn("is a directory", self.serve_in_vain(self.sandbox.directory))

    def test_message_is_short(self):
        message = self.serve_in_vain(self.sandbox.directory / "nothing.toml")
        self.assertLessEqual(len(message.strip().splitlines()), 2, message)

    # The engine

    def test_engine_that_is_missing(self):
        models = {"a": self.sandbox.fake_model()}
        file = self.sandbox.write_config(models, engine="/nowhere/llama-server")
        self.assertIn("/nowhere/llama-server", self.serve_in_vain(file))

    def test_engine_that_is_something_else(self):
        models = {"a": self.sandbox.fake_model()}
        for program in ("/bin/true", "/bin/false"):
            with self.subTest(program):
                file = self.sandbox.write_config(models, engine=program)
                self.assertIn(program if program == "/bin/false" else "llama-server",
                              self.serve_in_vain(file))

    # The address

    def test_taken_port(self):
        models = {"a": self.sandbox.fake_model()}
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            file = self.sandbox.write_config(models, {"listen": f"127.0.0.1:{port}"})
            message = self.serve_in_vain(file)
        self.assertIn(f"{port}", message)
        self.assertIn("taken", message)

    def test_two_servers_on_one_port(self):
        models = {"a": self.sandbox.fake_model()}
        first = self.sandbox.serve(models)
        other = {"state_dir": str(self.sandbox.directory / "other")}
        file = self.sandbox.write_config(models, {"listen": f"127.0.0.1:{first.port}", **other})
        self.assertIn(f"{first.port}", self.serve_in_vain(file))
        self.assertEqual(first.get("/health").status, 200)

    def test_port_is_free_again_at_once(self):
        models = {"a": self.sandbox.fake_model()}
        first = self.sandbox.serve(models)
        with first.connect() as connection:  # Its end is in TIME_WAIT on the server's side.
            connection.ask("GET", "/health")
            first.stop()
        second = self.sandbox.serve(models, {"listen": f"127.0.0.1:{first.port}"})
        self.assertEqual(second.get("/health").status, 200)

    def test_address_of_another_machine(self):
        models = {"a": self.sandbox.fake_model()}
        file = self.sandbox.write_config(models, {"listen": "192.0.2.1:0", "api_key": KEY})
        message = self.serve_in_vain(file)
        self.assertIn("192.0.2.1", message)
        self.assertNotIn(KEY, message)

    def test_open_address_without_a_key(self):
        models = {"a": self.sandbox.fake_model()}
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0"):
            with self.subTest(address):
                file = self.sandbox.write_config(models, {"listen": address})
                message = self.serve_in_vain(file)
                self.assertIn("api_key", message)
                self.assertIn(f"{file.name}:2", message)

    def test_open_address_on_the_command_line_without_a_key(self):
        file = self.sandbox.write_config({"a": self.sandbox.fake_model()})
        self.assertIn("api_key", self.serve_in_vain(file, "--listen", "0.0.0.0:0"))

    def test_short_key(self):
        models = {"a": self.sandbox.fake_model()}
        file = self.sandbox.write_config(models, {"api_key": "hunter2"})
        message = self.serve_in_vain(file)
        self.assertIn("api_key", message)
        self.assertNotIn("hunter2", message)

    def test_environment_of_the_tests_is_complete(self):
        # A test that fell back to some other program would prove nothing.
        self.assertTrue(os.access(YOKE, os.X_OK), YOKE)
        self.assertTrue(os.access(FAKE_ENGINE, os.X_OK), FAKE_ENGINE)


if __name__ == "__main__":
    unittest.main()
