"""Broken and hostile requests: each gets one clear error, and the server goes on."""

import json
import socket
import unittest

from harness import E2eTest, chat_body
from http_client import Connection, request_bytes

HUGE_BYTES = 100 << 20
PIECE = b"x" * (1 << 20)


class BadInputTest(E2eTest):
    @classmethod
    def setUpClass(cls):
        sandbox = cls.shared_sandbox()
        models = {"chat-model": sandbox.fake_model("tokens=3"),
                  "vectors": sandbox.fake_model(server_type="embedding")}
        cls.yoke = sandbox.serve(models)
        cls.yoke.wait_for_state("chat-model", "ready")
        cls.yoke.wait_for_state("vectors", "ready")

    def setUp(self):
        super().setUp()
        self.addCleanup(self._check_a_good_request)

    def _check_a_good_request(self):
        reply = self.yoke.chat("chat-model")
        self.assertEqual(reply.status, 200, reply)
        self.assertEqual(reply.json()["usage"]["completion_tokens"], 3)

    def ask(self, method, path, body=None, headers=()):
        with self.yoke.connect() as connection:
            return connection.ask(method, path, body, headers)

    def ask_raw(self, data):
        with self.yoke.connect() as connection:
            connection.socket.sendall(data)
            return connection.reply()

    # Too much

    def test_100_mb_body(self):
        with self.yoke.connect() as connection:
            connection.send("POST", "/v1/chat/completions",
                            headers={"Content-Length": str(HUGE_BYTES)})
            for _ in range(HUGE_BYTES // len(PIECE)):
                connection.socket.sendall(PIECE)
            self.check_error(connection.reply(), 413, "request_too_large", "max_request_size")
            self.assertTrue(connection.at_end())

    def test_100_mb_body_of_unknown_length(self):
        memory = self.yoke.rss_bytes()
        with self.yoke.connect() as connection:
            connection.send("POST", "/v1/chat/completions",
                            headers={"Transfer-Encoding": "chunked"})
            for _ in range(HUGE_BYTES // len(PIECE)):
                connection.socket.sendall(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
            self.check_error(connection.reply(), 413, "request_too_large")
        self.assertLess(self.yoke.rss_bytes() - memory, HUGE_BYTES)

    def test_body_that_waits_for_permission_is_never_asked_for(self):
        with self.yoke.connect() as connection:
            connection.send("POST", "/v1/chat/completions", headers={
                "Content-Length": str(HUGE_BYTES), "Expect": "100-continue"})
            self.check_error(connection.reply(), 413, "request_too_large")

    def test_header_bombs(self):
        bombs = {"one long line": {"X-Bomb": "x" * (1 << 20)},
                 "many lines": {f"X-Bomb-{i}": "x" * 50 for i in range(10_000)}}
        for name, headers in bombs.items():
            with self.subTest(name):
                reply = self.ask("GET", "/v1/models", headers=headers)
                self.check_error(reply, 431, "header_too_large")

    def test_endless_request_line(self):
        reply = self.ask("GET", "/" + "x" * (1 << 20))
        self.check_error(reply, 431, "header_too_large")

    # No JSON, or not what a request is

    def test_bodies_that_are_no_json_object(self):
        bodies = {"empty": b"", "text": b"hello", "cut": b'{"model": "chat-model"',
                  "two": b'{"model": "chat-model"} {}', "array": b"[]", "null": b"null",
                  "deep": b'{"a":' * 1000 + b"1" + b"}" * 1000, "nul": b'{"model": "a\0"}',
                  "no utf-8": b'{"model": "\xff\xfe"}'}
        for name, body in bodies.items():
            with self.subTest(name):
                reply = self.ask("POST", "/v1/chat/completions", body)
                self.check_error(reply, 400, "invalid_json")

    def test_position_of_a_mistake_is_told(self):
        reply = self.ask("POST", "/v1/chat/completions", b'{"model": oops}')
        self.check_error(reply, 400, "invalid_json", "at byte 10")

    def test_missing_model(self):
        reply = self.ask("POST", "/v1/chat/completions", {"messages": []})
        self.check_error(reply, 400, "model_required", "/v1/models")

    def test_model_that_is_no_string(self):
        for model in (5, None, ["chat-model"], {"name": "chat-model"}):
            with self.subTest(model=model):
                reply = self.ask("POST", "/v1/chat/completions", chat_body(model))
                self.assertEqual(reply.status, 400, reply)
                self.assertIn(reply.error()["code"], ("invalid_json", "model_required"))

    def test_wrong_model_names_the_nearest(self):
        reply = self.ask("POST", "/v1/chat/completions", chat_body("chat-modle"))
        self.check_error(reply, 404, "model_not_found", "'chat-modle'",
                         "Did you mean 'chat-model'?")

    def test_wrong_model_lists_those_there_are(self):
        reply = self.ask("POST", "/v1/chat/completions", chat_body("gpt-4o"))
        self.check_error(reply, 404, "model_not_found", "chat-model", "vectors")

    def test_model_name_that_would_break_a_reply(self):
        reply = self.ask("POST", "/v1/chat/completions", chat_body('"\r\nX: \u2028</script>'))
        self.check_error(reply, 404, "model_not_found")

    def test_wrong_kind_of_model(self):
        reply = self.ask("POST", "/v1/embeddings", {"model": "chat-model", "input": "a"})
        self.check_error(reply, 400, "wrong_model_type", "'chat-model'", "embedding")
        reply = self.ask("POST", "/v1/chat/completions", chat_body("vectors"))
        self.check_error(reply, 400, "wrong_model_type", "'vectors'", "llm")

    def test_the_engines_own_error_comes_through(self):
        reply = self.ask("POST", "/v1/chat/completions", b'{"model": "chat-model"}')
        self.assertEqual(reply.status, 400, reply)
        self.assertIn("messages", reply.json()["error"]["message"])

    # Wrong places

    def test_unknown_path(self):
        for path in ("/", "/v1", "/v1/nothing", "/V1/models", "/v1/models%2f", "/../etc/passwd"):
            with self.subTest(path):
                self.check_error(self.ask("GET", path), 404, "not_found", path)

    def test_unknown_model_page(self):
        reply = self.ask("GET", "/v1/models/nothing%20here")
        self.check_error(reply, 404, "model_not_found", "'nothing here'")

    def test_wrong_method(self):
        wrong = [("GET", "/v1/chat/completions"), ("PUT", "/v1/embeddings"),
                 ("POST", "/v1/models"), ("DELETE", "/v1/models/chat-model"), ("POST", "/health"),
                 ("POST", "/metrics"), ("POST", "/yoke/v1/instances"), ("GET", "/yoke/v1/load"),
                 ("GET", "/yoke/v1/unload"), ("DELETE", "/yoke/v1/pin"), ("PUT", "/yoke/v1/unpin"),
                 ("GET", "/yoke/v1/reload")]
        for method, path in wrong:
            with self.subTest(f"{method} {path}"):
                reply = self.ask(method, path)
                self.check_error(reply, 405, "method_not_allowed", path)
                self.assertNotIn(method, reply.headers["allow"].split(", "))

    # No HTTP

    def test_garbage(self):
        for data in (b"hello\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                     b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 and on\r\n\r\n",
                     b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
                     b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n"):
            with self.subTest(data):
                self.check_error(self.ask_raw(data), 400, "bad_request")

    def test_garbage_behind_a_good_request(self):
        good = request_bytes("POST", "/v1/chat/completions", chat_body("chat-model"))
        with self.yoke.connect() as connection:
            connection.socket.sendall(good + b"\0\1\2 garbage\r\n\r\n")
            self.assertEqual(connection.reply().status, 200)
            self.check_error(connection.reply(), 400, "bad_request")
            self.assertTrue(connection.at_end())

    def test_broken_chunks(self):
        head = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n")
        self.check_error(self.ask_raw(head + b"oops\r\n{}\r\n0\r\n\r\n"), 400, "bad_request")

    def test_two_lengths_are_refused(self):
        # Two readings of where a request ends are what request smuggling is made of.
        head = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        self.check_error(self.ask_raw(head), 400, "bad_request")
        head = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
                b"Content-Length: 3\r\n\r\n{} ")
        self.check_error(self.ask_raw(head), 400, "bad_request")

    def test_client_that_leaves_within_its_request(self):
        whole = request_bytes("POST", "/v1/chat/completions", chat_body("chat-model"))
        for size in (1, 10, whole.index(b"\r\n\r\n") + 6, len(whole) - 1):
            for leave in (Connection.close, Connection.reset):
                connection = self.yoke.connect()
                connection.socket.sendall(whole[:size])
                leave(connection)
        with self.yoke.connect() as connection:
            connection.socket.sendall(whole[:-1])
            connection.socket.shutdown(socket.SHUT_WR)
            self.assertTrue(connection.at_end())

    # Web pages that have no business here

    def test_pages_of_strangers(self):
        reply = self.ask("GET", "/v1/models", headers={"Origin": "https://evil.example"})
        self.check_error(reply, 403, "origin_not_allowed", "allowed_origins")
        reply = self.ask("GET", "/v1/models", headers={"Host": "evil.example:8642"})
        self.check_error(reply, 403, "host_not_allowed")

    def test_pages_of_this_machine(self):
        reply = self.ask("GET", "/v1/models", headers={"Origin": "http://localhost:3000"})
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.headers["access-control-allow-origin"], "http://localhost:3000")

    def test_error_is_not_counted_as_success(self):
        self.ask("POST", "/v1/chat/completions", b"hello")
        text = self.ask("GET", "/metrics").body.decode()
        self.assertRegex(text, r'yoke_requests_total\{route="chat_completions",code="400"\} [1-9]')
        self.assertEqual(json.loads(self.ask("GET", "/health").body)["status"], "ok")


if __name__ == "__main__":
    unittest.main()
