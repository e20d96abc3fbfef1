"""The API key: asked for everywhere, and told nowhere."""

import pathlib
import subprocess
import unittest

from harness import YOKE, E2eTest, chat_body, until

KEY = "sk-e2e-3a7c0b9d5f1e2846"
GETS = ("/health", "/metrics", "/v1/models", "/v1/models/chat", "/yoke/v1/instances",
        "/yoke/v1/logs", "/yoke/v1/logs?follow=true", "/", "/nothing")
POSTS = {"/v1/chat/completions": chat_body("chat"),
         "/v1/completions": {"model": "chat", "prompt": "a"},
         "/v1/embeddings": {"model": "vectors", "input": "a"},
         "/yoke/v1/load": {"model": "chat"}, "/yoke/v1/pin": {"model": "chat"},
         "/yoke/v1/unpin": {"model": "chat"}, "/yoke/v1/reload": {}}


class ApiKeyTest(E2eTest):
    @classmethod
    def setUpClass(cls):
        cls.shared = cls.shared_sandbox()
        models = {"chat": cls.shared.fake_model("tokens=3"),
                  "vectors": cls.shared.fake_model(server_type="embedding")}
        cls.yoke = cls.shared.serve(models, {"listen": "0.0.0.0:0", "api_key": KEY})
        cls.headers = {"Authorization": f"Bearer {KEY}"}
        until(lambda: cls.yoke.get("/health", cls.headers).json()["models"]
              == {"chat": "ready", "vectors": "ready"}, "all ready")

    def test_nothing_without_the_key(self):
        wrong = {"none": {}, "wrong": {"Authorization": "Bearer sk-e2e-wrong-key-of-some-length"},
                 "prefix": {"Authorization": f"Bearer {KEY[:-1]}"},
                 "longer": {"Authorization": f"Bearer {KEY}x"},
                 "basic": {"Authorization": f"Basic {KEY}"}, "bare": {"Authorization": KEY},
                 "empty": {"Authorization": "Bearer "}, "other header": {"X-Api-Key": "x"},
                 "local": {"Host": "localhost", "X-Forwarded-For": "127.0.0.1"}}
        for name, headers in wrong.items():
            for path in GETS:
                with self.subTest(name, path=path):
                    reply = self.yoke.get(path, headers)
                    self.check_error(reply, 401, "invalid_api_key", "Authorization")
                    self.assertIn("Bearer", reply.headers["www-authenticate"])
            for path, body in {**POSTS, "/yoke/v1/unload": {"model": "chat"}}.items():
                with self.subTest(name, path=path):
                    self.check_error(self.yoke.post(path, body, headers), 401, "invalid_api_key")

    def test_everything_with_the_key(self):
        for path in GETS[:6]:
            with self.subTest(path):
                self.assertEqual(self.yoke.get(path, self.headers).status, 200)
        for path, body in POSTS.items():
            with self.subTest(path):
                self.assertEqual(self.yoke.post(path, body, self.headers).status, 200)
        self.assertEqual(self.yoke.get("/nothing", self.headers).status, 404)

    def test_other_ways_to_send_it(self):
        for headers in ({"X-Api-Key": KEY}, {"authorization": f"bearer {KEY}"}):
            with self.subTest(headers):
                self.assertEqual(self.yoke.get("/v1/models", headers).status, 200)

    def test_any_host_name_with_the_key(self):
        headers = {**self.headers, "Host": "llm.example.org"}
        self.assertEqual(self.yoke.get("/v1/models", headers).status, 200)

    def test_key_is_told_nowhere(self):
        self.yoke.post("/v1/chat/completions", POSTS["/v1/chat/completions"], self.headers)
        self.yoke.get("/v1/models", {"Authorization": f"Bearer {KEY}x"})
        self.yoke.get(f"/v1/models?key={KEY}")
        for path in ("/yoke/v1/logs", "/yoke/v1/instances", "/metrics"):
            self.assertNotIn(KEY.encode(), self.yoke.get(path, self.headers).body)
        self.assertNotIn(KEY, self.yoke.log())

        children = [pid for pid in self.yoke.left_over() if pid != self.yoke.pid]
        self.assertEqual(len(children), 3, "two engines and the guard")
        for pid in (*children, self.yoke.pid):
            for file in ("cmdline", "environ"):
                text = pathlib.Path(f"/proc/{pid}/{file}").read_bytes()
                self.assertNotIn(KEY.encode(), text, f"{file} of process {pid}")

    def test_command_line_takes_the_key(self):
        key_file = self.sandbox.directory / "key"
        key_file.write_text(KEY + "\n")

        def ps(*arguments, **environment):
            return subprocess.run(
                [YOKE, "ps", "--url", self.yoke.url, *arguments], capture_output=True, text=True,
                timeout=20, env=self.sandbox.environment(**environment))

        self.assertEqual(ps("--api-key-file", str(key_file)).returncode, 0)
        self.assertEqual(ps(YOKE_API_KEY=KEY).returncode, 0)
        refused = ps()
        self.assertEqual(refused.returncode, 1, refused)
        self.assertIn("--api-key-file", refused.stderr)


class ApiKeyFileTest(E2eTest):
    def test_key_in_a_file(self):
        (self.sandbox.directory / "api.key").write_text(KEY + "\n")
        (self.sandbox.directory / "api.key").chmod(0o600)
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model()}, {"api_key_file": "api.key"})
        self.assertEqual(yoke.get("/health").status, 401)
        self.assertEqual(yoke.get("/health", {"Authorization": f"Bearer {KEY}"}).status, 200)
        self.assertNotIn("chmod", yoke.log())

    def test_warning_about_a_file_that_others_can_read(self):
        (self.sandbox.directory / "api.key").write_text(KEY)
        (self.sandbox.directory / "api.key").chmod(0o644)
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model()}, {"api_key_file": "api.key"})
        self.assertIn("chmod 600", yoke.log())


if __name__ == "__main__":
    unittest.main()
