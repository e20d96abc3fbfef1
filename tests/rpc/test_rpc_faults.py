"""Workers that die, stall or answer nonsense, at each stage of a model's life.

Whatever happens, there is one line of log that names the worker; whoever asked gets an error in
time, and before it only tokens that a healthy cluster gives; llama-server ends when it is told to.

RPC_MATRIX=full breaks many more replies, and strikes at random moments.
"""

import contextlib
import json
import os
import random
import re
import signal
import socket
import struct
import time
import unittest

import faulty_link
import rpc_cluster
from faulty_link import DOWN, UP, FaultyLink
from rpc_cluster import (
    SLOWNESS,
    TESTED,
    Cluster,
    Connection,
    completion_body,
    prompt_of,
    until,
)

FULL = os.environ.get("RPC_MATRIX") == "full"
TIMEOUT_S = 3
CONNECT_TIMEOUT_S = 2
# Until an error has to be seen: what the client waits for, and what a busy machine adds.
LIMIT_S = (TIMEOUT_S + 7) * SLOWNESS
NAME = "desk-2"
NAMES = ("desk-1", NAME, "desk-3")
LOST, UNUSABLE = "worker lost", "cannot use worker"
LINE = re.compile(
    r"^(?:[\d.]+ \w )?yoke-rpc: (worker lost|cannot use worker):? (\S+) \((\S+)\): (.+)",
    re.MULTILINE)
TOKENS = 40
PROMPT = prompt_of(900, 1)  # Several ubatches.
# After so many tokens a fault in decode strikes.
SEEN = 3
HELLO = bytes([14]) + struct.pack("<Q", 24) + bytes(24)


class FaultTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.close)
        cls.model = cls.cluster.model("llama")
        with cls.link_to_second() as link, cls.served(link) as server:
            cls.uploaded = dict(link.passed)
            cls.load_replies = link.replies
            cls.healthy = cls.ask(server).tokens
            cls.prefilled = link.passed[UP] - cls.uploaded[UP]
            assert server.stop() == 0
        assert len(cls.healthy) == TOKENS, cls.healthy

    @classmethod
    @contextlib.contextmanager
    def link_to_second(cls):
        with FaultyLink(cls.cluster.worker(1).port) as link:
            yield link

    @classmethod
    @contextlib.contextmanager
    def started(cls, link, timeout_s=TIMEOUT_S, model=None):
        """A llama-server with three workers, the second behind `link`."""
        endpoints = [cls.cluster.worker(0).endpoint, link.endpoint, cls.cluster.worker(2).endpoint]
        names = ",".join(f"{endpoint}={name}"
                         for endpoint, name in zip(endpoints, NAMES, strict=True))
        environment = {"YOKE_RPC_WORKERS": names,
                       "YOKE_RPC_TIMEOUT_MS": str(int(timeout_s * SLOWNESS * 1000)),
                       "YOKE_RPC_CONNECT_TIMEOUT_MS": str(int(CONNECT_TIMEOUT_S * SLOWNESS * 1000))}
        server = cls.cluster.serve(TESTED, model or cls.model, endpoints, environment=environment,
                                   cache_ram=0)
        try:
            yield server
        finally:
            server.kill()

    @classmethod
    @contextlib.contextmanager
    def served(cls, link, **options):
        with cls.started(link, **options) as server:
            yield server.wait_until_ready()

    class Reply:
        """What a client saw of a reply."""

        def __init__(self):
            self.tokens, self.error, self.finished = [], None, False

    @classmethod
    def ask(cls, server, strike=None, tokens=TOKENS):
        """A streamed reply to PROMPT. `strike` is called after a few tokens."""
        seen = cls.Reply()
        with Connection(server.port, limit_s=LIMIT_S * 3) as connection:
            body = completion_body(PROMPT, tokens, stream=True)
            connection.send("POST", "/completion", body)
            status, headers = connection.head()
            if status != 200:
                seen.error = b"".join(connection.pieces(headers)).decode()
                return seen
            with contextlib.suppress(EOFError, ConnectionResetError):
                for event in connection.payloads(headers):
                    cls.take(seen, json.loads(event))
                    if strike is not None and len(seen.tokens) >= SEEN:
                        strike()
                        strike = None
        return seen

    @staticmethod
    def take(seen, event):
        if "error" in event:
            seen.error = event["error"]
        else:
            seen.tokens += event.get("tokens", [])
            seen.finished = seen.finished or event.get("stop", False)

    # What has to hold

    def check_line(self, server, link, kinds, reason):
        lines = LINE.findall(server.log())
        self.assertEqual(len(lines), 1, lines)
        kind, name, endpoint, text = lines[0]
        self.assertIn(kind, kinds)
        self.assertEqual((name, endpoint), (NAME, link.endpoint))
        self.assertRegex(text, reason)

    def check_ended(self, server, began):
        """It could not load the model: it has ended by itself, in time."""
        code = server.process.wait(max(LIMIT_S - (time.monotonic() - began), 0.1))
        self.assertNotIn(-code, (signal.SIGSEGV, signal.SIGBUS), server.log()[-2000:])
        self.assertNotEqual(code, 0)

    def check_failed(self, server, reply):
        """The model had been loaded: an error, no false token, and it can still be ended."""
        self.assertFalse(reply.finished, "the reply is whole")
        self.assertEqual(reply.tokens, self.healthy[:len(reply.tokens)])
        if server.is_running():
            self.assertIsNotNone(reply.error, "no error was told")
            again = self.ask(server)
            self.assertEqual(again.tokens, [])
            self.assertIsNotNone(again.error, "the next request got no error")
            server.stop()

    @contextlib.contextmanager
    def within_limit(self):
        began = time.monotonic()
        yield
        self.assertLess(time.monotonic() - began, LIMIT_S)

    @contextlib.contextmanager
    def case(self, name):
        with self.subTest(name):
            try:
                yield
            except Exception:
                rpc_cluster.show_logs(self.cluster)
                raise

    # Stages

    def in_load(self, prepare, reason, kinds=(LOST,)):
        """`prepare(link)` sets the fault up. llama-server has to end."""
        with self.link_to_second() as link:
            prepare(link)
            began = time.monotonic()
            with self.started(link) as server:
                self.check_ended(server, began)
                self.check_line(server, link, kinds, reason)

    def in_prefill(self, prepare, reason):
        with self.link_to_second() as link, self.served(link) as server:
            prepare(link)
            with self.within_limit():
                reply = self.ask(server)
            self.check_failed(server, reply)
            self.check_line(server, link, (LOST,), reason)

    def in_decode(self, strike, reason):
        struck = []
        with self.link_to_second() as link, self.served(link) as server:
            reply = self.ask(server, lambda: (strike(link), struck.append(time.monotonic())))
            self.assertLess(time.monotonic() - struck[0], LIMIT_S)
            self.check_failed(server, reply)
            self.check_line(server, link, (LOST,), reason)

    def worker_behind(self, link):
        return next(worker for worker in self.cluster.workers if worker.port == link.worker_port)

    def kill(self, link):
        self.worker_behind(link).kill()

    def freeze(self, link):
        worker = self.worker_behind(link)
        worker.signal(signal.SIGSTOP)
        self.addCleanup(worker.kill)
        # The next case gets a worker of its own.
        self.cluster.pool.pop(next(key for key, each in self.cluster.pool.items()
                                   if each is worker), None)


CLOSED = r"clos|reset|Broken pipe|Connection"
SILENT = r"no answer|no progress|take|stall|timed out"
NONSENSE = r"bytes|reply|length"


class LoadFaultTest(FaultTest):
    def test_refused(self):
        with self.case("refused"):
            self.in_load(lambda link: link.refuse(), "refused", (UNUSABLE,))

    def test_handshake(self):
        for name, prepare, reason in (
                ("protocol 6.0", lambda link: link.change_reply(0, faulty_link.saying(6, 0)),
                 r"6\.0.*7\.0"),
                ("protocol 8.0", lambda link: link.change_reply(0, faulty_link.saying(8, 0)),
                 r"8\.0.*7\.0"),
                ("length", lambda link: link.change_reply(0, faulty_link.too_long), "."),
                ("huge", lambda link: link.change_reply(0, faulty_link.huge), "."),
                ("garbage", lambda link: link.change_reply(0, faulty_link.garbage), "."),
                ("cut", lambda link: link.when_passed(DOWN, 5, link.cut), CLOSED),
                ("silence", lambda link: link.stall(DOWN), SILENT),
                ("frozen worker", self.freeze, SILENT)):
            with self.case(name):
                self.in_load(prepare, reason, (UNUSABLE,))

    def test_worker_serves_another(self):
        with (self.case("busy"), self.link_to_second() as link,
              socket.create_connection(("127.0.0.1", link.worker_port)) as other):
            other.sendall(HELLO)
            self.assertTrue(other.recv(1))
            began = time.monotonic()
            with self.started(link) as server:
                self.check_ended(server, began)
                self.check_line(server, link, (UNUSABLE,), "another client")

    def test_number_of_devices(self):
        for name, count in (("none", 0), ("four thousand millions", 2**32 - 1)):
            with self.case(name):
                self.in_load(lambda link, count=count: link.change_reply(
                    1, faulty_link.saying(*struct.pack("<I", count))), ".", (LOST, UNUSABLE))

    def test_upload(self):
        half = self.uploaded[UP] // 2
        for name, action, reason in (
                ("cut", lambda link: link.cut, CLOSED),
                ("reset", lambda link: link.reset, CLOSED),
                ("stall", lambda link: link.stall, SILENT),
                ("kill", lambda link: lambda: self.kill(link), CLOSED),
                ("freeze", lambda link: lambda: self.freeze(link), SILENT)):
            with self.case(name):
                self.in_load(lambda link, action=action: link.when_passed(UP, half, action(link)),
                             reason)

    def test_replies(self):
        """Those that come while a model is loaded."""
        numbers = range(1, self.load_replies) if FULL else (1, self.load_replies // 2)
        changes = ((faulty_link.too_long, faulty_link.too_short, faulty_link.huge,
                    faulty_link.empty, faulty_link.garbage) if FULL else (faulty_link.huge,))
        for number in numbers:
            for change in changes:
                with self.case(f"{change.__name__} {number}"):
                    self.in_load(lambda link, number=number, change=change:
                                 link.change_reply(number, change), NONSENSE, (LOST, UNUSABLE))


class PrefillFaultTest(FaultTest):
    def test_connection(self):
        part = self.prefilled // 3
        for name, action, reason in (
                ("cut", lambda link: link.cut, CLOSED),
                ("stall", lambda link: link.stall, SILENT),
                ("kill", lambda link: lambda: self.kill(link), CLOSED),
                ("freeze", lambda link: lambda: self.freeze(link), SILENT)):
            with self.case(name):
                self.in_prefill(lambda link, action=action: link.when_passed(
                    UP, part, action(link)), reason)

    def test_replies(self):
        kinds = [faulty_link.too_long, faulty_link.too_short, faulty_link.huge, faulty_link.garbage]
        if FULL:
            kinds.append(faulty_link.empty)
        for number, change in enumerate(kinds):
            with self.case(change.__name__):
                self.in_prefill(lambda link, number=number, change=change:
                                link.change_reply(number % 3, change), NONSENSE)

    def test_healthy_workers_live(self):
        """A worker ends if its client goes while it sends; that must not become of the others, if
        llama-server is left alone until they are done."""
        for tenths in (2, 5, 8):
            with self.case(f"at {tenths} tenths"), self.link_to_second() as link:
                healthy = [self.cluster.worker(0), self.cluster.worker(2)]
                with self.served(link) as server:
                    link.when_passed(UP, self.prefilled * tenths // 10, link.cut)
                    reply = self.ask(server)
                    self.assertTrue(all(worker.is_free() for worker in healthy))
                    self.check_failed(server, reply)

    def test_reply_ends_early(self):
        with self.case("within a reply"):
            self.in_prefill(lambda link: link.when_passed(DOWN, 2000, link.cut), CLOSED)
        with self.case("silence within a reply"):
            self.in_prefill(lambda link: link.when_passed(
                DOWN, 2000, lambda: link.stall(DOWN)), SILENT)


class DecodeFaultTest(FaultTest):
    def test_connection(self):
        for name, strike, reason in (
                ("cut", lambda link: link.cut(), CLOSED),
                ("reset", lambda link: link.reset(), CLOSED),
                ("stall", lambda link: link.stall(), SILENT),
                ("kill", self.kill, CLOSED),
                ("freeze", self.freeze, SILENT)):
            with self.case(name):
                self.in_decode(strike, reason)

    def test_replies(self):
        for change in (faulty_link.too_short, faulty_link.huge):
            with self.case(change.__name__):
                self.in_decode(lambda link, change=change: link.change_reply(1, change), NONSENSE)

    def test_while_idle(self):
        """A worker dies when nothing is asked: the next request gets the error."""
        with self.case("idle"), self.link_to_second() as link, self.served(link) as server:
            self.kill(link)
            with self.within_limit():
                reply = self.ask(server)
            self.check_failed(server, reply)
            self.check_line(server, link, (LOST,), CLOSED)

    def test_several_slots(self):
        """One fault, an error for each of several clients."""
        with self.case("slots"), self.link_to_second() as link, self.served(link) as server:
            with contextlib.ExitStack() as stack:
                asking = [stack.enter_context(Connection(server.port, limit_s=LIMIT_S * 3))
                          for _ in range(3)]
                for connection in asking:
                    connection.send("POST", "/completion", completion_body(PROMPT, 400))
                link.when_passed(UP, self.prefilled, link.cut)
                statuses = [connection.reply().status for connection in asking]
            self.assertEqual(statuses, [500] * 3)
            self.check_line(server, link, (LOST,), CLOSED)
            server.stop()

    @unittest.skipUnless(FULL, "in the full matrix")
    def test_random_moments(self):
        source = random.Random(1)
        whole = self.uploaded[UP] + 3 * self.prefilled
        for number in range(60):
            at = source.randrange(whole)
            name = source.choice(("cut", "stall", "kill", "freeze"))
            with self.case(f"{number}: {name} at byte {at}"):
                self.at_byte(at, name)

    def at_byte(self, at, name):
        with self.link_to_second() as link:
            actions = {"cut": link.cut, "stall": link.stall, "kill": lambda: self.kill(link),
                       "freeze": lambda: self.freeze(link)}
            link.when_passed(UP, at, lambda: (link.struck.set(), actions[name]()))
            with self.started(link) as server:
                with contextlib.suppress(AssertionError):
                    server.wait_until_ready()
                while server.is_running() and not link.struck.is_set():
                    with contextlib.suppress(OSError, EOFError):
                        reply = self.ask(server)
                        if reply.error is None:
                            self.assertEqual(reply.tokens, self.healthy)
                if server.is_running():
                    with self.within_limit():
                        until(lambda: not server.is_running() or self.ask(server).error, "an error",
                              LIMIT_S)
                self.check_line(server, link, (LOST, UNUSABLE), ".")
                server.stop()


class SlowLinkTest(FaultTest):
    """Not fast is no fault."""

    def healthy_through(self, model, **properties):
        with self.link_to_second() as link:
            for name, value in properties.items():
                setattr(link, name, value)
            with self.served(link, timeout_s=30, model=model) as server:
                reply = server.complete(prompt_of(200, 2, 512), 8)
                self.assertEqual(server.stop(), 0)
                self.assertEqual(LINE.findall(server.log()), [])
                return reply

    def test_slow_links(self):
        model = self.cluster.model("tiny-llama")
        expected = self.healthy_through(model)
        for properties in ({"piece": 1}, {"rate": 500_000}, {"delay_s": 0.005}):
            with self.case(str(properties)):
                self.assertEqual(self.healthy_through(model, **properties), expected)


if __name__ == "__main__":
    unittest.main()
