"""Bytes through the gateway: all of them, in order, as fast as the client takes them."""

import json
import socket
import time
import unittest

from harness import E2eTest, chat_body, content_of, fake_text, token, until
from http_client import Connection, request_bytes

MIB = 1 << 20


def big_stream(tokens, token_bytes, **fields):
    return chat_body("chat", stream=True, fake=f"tokens={tokens};token_bytes={token_bytes}",
                     **fields)


class StreamingTest(E2eTest):
    @classmethod
    def setUpClass(cls):
        sandbox = cls.shared_sandbox()
        cls.yoke = sandbox.serve({"chat": sandbox.fake_model("tokens=5"),
                                  "vectors": sandbox.fake_model(server_type="embedding")})
        cls.yoke.wait_for_state("chat", "ready")
        cls.yoke.wait_for_state("vectors", "ready")

    def stats(self):
        return self.yoke.engine_get("chat", "/fake/stats")

    def send(self, connection, **fields):
        connection.send("POST", "/v1/chat/completions", chat_body("chat", **fields))

    # What arrives

    def test_stream(self):
        with self.yoke.connect() as connection:
            self.send(connection, seed=1, stream=True)
            status, headers = connection.head()
            pieces = b"".join(connection.pieces(headers))
        self.assertEqual(status, 200)
        self.assertTrue(headers["content-type"].startswith("text/event-stream"))
        # Without it a proxy such as nginx would collect the stream.
        self.assertEqual(headers["x-accel-buffering"], "no")
        self.assertEqual(headers["cache-control"], "no-cache")
        self.assertTrue(pieces.endswith(b"data: [DONE]\n\n"))

    def test_tokens_arrive_one_by_one(self):
        with self.yoke.stream("chat", seed=1, fake="tokens=5;tokens_per_s=10") as events:
            times = [time.monotonic() for event in events if '"content"' in event]
        # 5 tokens in 400 ms; together they would come within a few.
        self.assertGreater(times[-1] - times[0], 0.3)

    def test_comments_of_the_engine_arrive_before_the_first_token(self):
        fields = {"stream": True, "fake": "prefill_ms=5000;ping_ms=50"}
        with self.yoke.connect(limit_s=3) as connection:
            self.send(connection, **fields)
            _, headers = connection.head()
            self.assertTrue(next(connection.pieces(headers)).startswith(b":"))

    def test_completions_and_embeddings(self):
        reply = self.yoke.post("/v1/completions", {"model": "chat", "prompt": "a", "seed": 3})
        self.assertEqual(reply.json()["choices"][0]["text"], fake_text(3, 5))
        reply = self.yoke.post("/v1/embeddings", {"model": "vectors", "input": ["a", "b"]})
        self.assertEqual([item["index"] for item in reply.json()["data"]], [0, 1])

    def test_engine_gets_the_body_as_it_was_sent(self):
        # Where the client asks for a stream with progress itself, Yoke has nothing to add.
        body = json.dumps(chat_body("chat", "\u00fc\U0001f42e", unknown=[1.50, None], stream=True,
                                    return_progress=True)).encode()
        body = body.replace(b"{", b"{ \n", 1)
        self.assertEqual(self.yoke.post("/v1/chat/completions", body).status, 200)
        stats = self.stats()
        self.assertEqual(stats["last_body_bytes"], len(body))

    def test_long_prompt(self):
        content = "x" * (8 * MIB)
        reply = self.yoke.chat("chat", content)
        self.assertEqual(reply.status, 200, reply)
        self.assertGreater(self.stats()["last_body_bytes"],
                           len(json.dumps(chat_body("chat", content))))

    def test_progress_of_the_prompt_is_for_those_who_ask(self):
        with self.yoke.stream("chat", seed=1) as events:
            self.assertFalse(any("prompt_progress" in event for event in events))
        with self.yoke.stream("chat", seed=1, return_progress=True) as events:
            self.assertTrue(any("prompt_progress" in event for event in events))

    def test_whole_text_completion(self):
        reply = self.yoke.post("/v1/completions", {"model": "chat", "prompt": "x", "seed": 2}).json()
        self.assertEqual(reply["object"], "text_completion")
        self.assertEqual(reply["choices"][0]["text"], fake_text(2, 5))
        self.assertEqual(reply["usage"]["completion_tokens"], 5)

    def test_request_in_chunks(self):
        body = json.dumps(chat_body("chat", seed=4)).encode()
        with self.yoke.connect() as connection:
            connection.send("POST", "/v1/chat/completions", headers={
                "Transfer-Encoding": "chunked", "Expect": "100-continue"})
            self.assertEqual(connection.read_until(b"\r\n\r\n"), b"HTTP/1.1 100 Continue")
            for byte in range(len(body)):
                connection.socket.sendall(b"1\r\n%b\r\n" % body[byte : byte + 1])
            connection.socket.sendall(b"0\r\n\r\n")
            self.assertEqual(connection.reply().text(), fake_text(4, 5))

    # Long answers

    def test_long_stream(self):
        with self.yoke.connect() as connection:
            connection.send("POST", "/v1/chat/completions",
                            big_stream(tokens=640, token_bytes=65536, seed=1))
            self.assertEqual(len(content_of(connection.events())), 40 * MIB)

    def test_long_reply(self):
        reply = self.yoke.chat("chat", seed=1, fake="tokens=320;token_bytes=65536")
        self.assertEqual(reply.status, 200)
        self.assertEqual(len(reply.text()), 20 * MIB)

    def test_many_small_tokens(self):
        with self.yoke.stream("chat", seed=8, fake="tokens=20000") as events:
            self.assertEqual(content_of(events), fake_text(8, 20000))

    # One connection, many requests

    def test_keep_alive(self):
        with self.yoke.connect() as connection:
            for seed in range(50):
                stream = seed % 2 == 0
                self.send(connection, seed=seed, stream=stream)
                text = content_of(connection.events()) if stream else connection.reply().text()
                self.assertEqual(text, fake_text(seed, 5))

    def test_pipelining(self):
        requests = b"".join(
            request_bytes("POST", "/v1/chat/completions",
                          chat_body("chat", seed=seed, stream=seed % 2 == 0))
            for seed in range(20))
        with self.yoke.connect() as connection:
            connection.socket.sendall(requests)
            for seed in range(20):
                text = (content_of(connection.events()) if seed % 2 == 0
                        else connection.reply().text())
                self.assertEqual(text, fake_text(seed, 5))

    def test_pipelining_while_an_answer_runs(self):
        with self.yoke.connect() as connection:
            self.send(connection, seed=1, stream=True, fake="tokens=10;tokens_per_s=20")
            events = connection.events()
            first = next(events)
            self.send(connection, seed=2)
            connection.send("GET", "/health")
            self.assertEqual(content_of([first, *events]), fake_text(1, 10))
            self.assertEqual(connection.reply().text(), fake_text(2, 5))
            self.assertEqual(connection.reply().json()["status"], "ok")

    def test_old_client(self):
        request = request_bytes("POST", "/v1/chat/completions",
                                chat_body("chat", seed=6, stream=True))
        with self.yoke.connect() as connection:
            connection.socket.sendall(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
            _, headers = connection.head()
            self.assertEqual(headers["connection"], "close")
            self.assertNotIn("transfer-encoding", headers)
            body = bytes(connection.buffer)
            while data := connection.socket.recv(65536):
                body += data
        self.assertTrue(body.endswith(b"data: [DONE]\n\n"))

    def test_head(self):
        with self.yoke.connect() as connection:
            connection.send("HEAD", "/health")
            status, headers = connection.head()
            self.assertEqual(status, 200)
            self.assertGreater(int(headers["content-length"]), 0)
            self.assertEqual(connection.ask("GET", "/health").status, 200)

    # Clients that leave

    def check_cancelled(self, begin, leave, **fields):
        before = self.stats()
        self.assertEqual(before["active"], 0)
        gone = self.yoke.metric("yoke_clients_gone_total")
        connection = self.yoke.connect()
        self.send(connection, **fields)
        begin(connection)
        until(lambda: self.stats()["active"] == 1, "the engine works on it", 5)
        leave(connection)
        until(lambda: self.stats()["active"] == 0, "the engine has stopped working", 1)
        self.assertEqual(self.stats()["cancelled"], before["cancelled"] + 1)
        connection.close()
        until(lambda: self.yoke.metric("yoke_clients_gone_total") == gone + 1,
              "the client is counted", 5)
        until(lambda: self.yoke.metric('yoke_requests_active{model="chat"}') == 0, "no request", 5)

    def test_client_that_leaves_before_the_first_token(self):
        for leave in (Connection.close, Connection.reset):
            for fields in ({"stream": True}, {"stream": False},
                           {"stream": True, "late_headers": True}):
                with self.subTest(leave.__name__, **fields):
                    late = int(fields.get("late_headers", False))
                    self.check_cancelled(
                        lambda _: None, leave, stream=fields["stream"],
                        fake=f"prefill_ms=60000;late_headers={late}")

    def test_client_that_leaves_after_pipelining(self):
        # The end of its stream lies behind a request that nobody reads yet.
        self.check_cancelled(lambda connection: self.send(connection), Connection.close,
                             stream=True, fake="prefill_ms=60000")

    def test_client_that_leaves_within_a_stream(self):
        self.check_cancelled(lambda connection: next(connection.events()), Connection.close,
                             stream=True, fake="tokens=100000;tokens_per_s=20")

    def test_client_that_leaves_between_tokens_far_apart(self):
        self.check_cancelled(lambda connection: next(connection.events()), Connection.close,
                             stream=True, fake="tokens=10;tokens_per_s=0.01")

    def test_client_that_leaves_without_reading(self):
        def wait_until_stuck(_):
            until(lambda: self.stats()["active"] == 1, "it runs")

        self.check_cancelled(wait_until_stuck, Connection.close, stream=True,
                             fake="tokens=100000;token_bytes=65536")

    # Backpressure

    def test_client_that_stops_reading(self):
        tokens, token_bytes = 2000, 65536  # 131 MB
        # A small window makes it hold the stream up early. Under ThreadSanitizer and on
        # a busy machine it lets 5 MB a second through.
        with self.yoke.connect(limit_s=150, receive_buffer=65536) as connection:
            memory = self.yoke.rss_bytes()
            connection.send("POST", "/v1/chat/completions",
                            big_stream(tokens, token_bytes, seed=9))
            events = connection.events()
            contents = (choices[0]["delta"].get("content")
                        for event in events if event != "[DONE]"
                        for choices in [json.loads(event)["choices"]] if choices)
            texts = (text for text in contents if text)
            self.assertTrue(next(texts).startswith(token(9, 0).strip()))

            self.assertLess(self.tokens_until_held_up() * token_bytes, 64 * MIB)
            time.sleep(1)
            self.assertLess(self.yoke.rss_bytes() - memory, 16 * MIB)

            count = 1
            for text in texts:
                self.assertTrue(text.startswith(token(9, count).strip()), text[:40])
                self.assertEqual(len(text), token_bytes)
                count += 1
            self.assertEqual(count, tokens)
            self.assertLess(self.yoke.rss_bytes() - memory, 16 * MIB)
            connection.send("GET", "/health")
            self.assertEqual(connection.reply().status, 200)

    def tokens_until_held_up(self):
        """How many tokens the engine got rid of before it had to wait for the client."""
        start = self.stats()["tokens_sent"]

        def sent():
            before = self.stats()["tokens_sent"]
            time.sleep(0.3)
            return before - start if self.stats()["tokens_sent"] == before > start else None

        return until(sent, "the engine is held up")

    def test_one_slow_client_holds_up_nobody(self):
        with self.yoke.connect(receive_buffer=65536) as slow:
            slow.send("POST", "/v1/chat/completions", big_stream(100000, 65536))
            slow.head()
            self.tokens_until_held_up()
            start = time.monotonic()
            for _ in range(20):
                self.assertEqual(self.yoke.chat("chat").status, 200)
            self.assertLess(time.monotonic() - start, 10)


class IdleConnectionTest(E2eTest):
    def test_many_idle_connections(self):
        yoke = self.sandbox.serve({"chat": self.sandbox.fake_model("tokens=5")})
        yoke.wait_for_state("chat", "ready")
        idle = []
        try:
            for _ in range(400):
                connection = socket.create_connection(("127.0.0.1", yoke.port), timeout=10)
                idle.append(connection)
            self.assertEqual(yoke.chat("chat", seed=1).text(), fake_text(1, 5))
        finally:
            for connection in idle:
                connection.close()


if __name__ == "__main__":
    unittest.main()
