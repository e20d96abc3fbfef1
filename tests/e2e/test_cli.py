"""The commands that talk to a server: ps, logs, run."""

import http.server
import json
import os
import pty
import re
import select
import signal
import socket
import socketserver
import subprocess
import threading
import time
import unittest

from harness import REAL_LIMIT_S, YOKE, E2eTest

QUESTION = "What is the capital of France? One word."


class CliTest(E2eTest):
    @classmethod
    def setUpClass(cls):
        cls.yoke = cls.shared_sandbox().serve_real()

    def command(self, *arguments, url=None, **options):
        environment = self.sandbox.environment(YOKE_URL=url or self.yoke.url)
        options.setdefault("stdin", subprocess.DEVNULL)
        if "input" in options:
            del options["stdin"]
        return subprocess.run([YOKE, *arguments], capture_output=True, text=True,
                              timeout=REAL_LIMIT_S, env=environment, **options)

    def output_of(self, *arguments, **options):
        done = self.command(*arguments, **options)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def check_failure(self, done, code, *mentions):
        """The exit code, and one sentence or two on standard error."""
        self.assertEqual(done.returncode, code, done)
        self.assertEqual(done.stdout, "")
        self.assertLessEqual(len(done.stderr.strip().splitlines()), 2, done.stderr)
        for mention in mentions:
            self.assertIn(mention, done.stderr)

    # ps

    def test_ps(self):
        head, row, empty, memory = self.output_of("ps").splitlines()
        self.assertEqual(head.split(), ["MODEL", "STATE", "BACKEND", "MEMORY", "CONTEXT",
                                        "REQUESTS", "LAST", "USED", "NEXT"])
        self.assertRegex(row, r"^smollm2 +ready +cpu +(\S+ of )?\S+ [MG]iB +2048 +0 ")
        self.assertEqual(empty, "")
        self.assertRegex(memory, r"^system memory: .* of \S+ GiB for models$")

    def test_ps_wide(self):
        head, row, *_ = self.output_of("ps", "--wide").splitlines()
        instance = self.yoke.instance("smollm2")
        self.assertEqual(head.split()[:5], ["MODEL", "STATE", "ENGINE", "BACKEND", "PID"])
        self.assertRegex(row, rf"^smollm2 +ready +llama\.cpp \S+ +cpu +{instance['pid']} "
                              rf"+{instance['port']} ")

    def test_ps_json(self):
        body = json.loads(self.output_of("ps", "--json"))
        self.assertEqual([i["model"] for i in body["instances"]], ["smollm2"])
        self.assertEqual(body["instances"][0]["pid"], self.yoke.instance("smollm2")["pid"])

    # logs

    def test_logs(self):
        lines = self.output_of("logs", "smollm2", "-n", "1000").splitlines()
        self.assertTrue(any("model loaded" in line for line in lines), lines[-20:])
        self.assertEqual(len(self.output_of("logs", "smollm2", "--tail", "3").splitlines()), 3)

    def test_logs_json(self):
        lines = [json.loads(line) for line in self.output_of("logs", "--json").splitlines()]
        self.assertEqual({line["model"] for line in lines}, {"smollm2"})

    def test_logs_of_an_unknown_model(self):
        self.check_failure(self.command("logs", "smollm3"), 1, "smollm3", "smollm2")

    def test_logs_follow_until_interrupted(self):
        process = subprocess.Popen([YOKE, "logs", "-f", "-n", "1", "--url", self.yoke.url],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=self.sandbox.environment())
        try:
            self.assertIn("smollm2", process.stdout.readline())
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=10)
            self.assertEqual((process.returncode, errors), (130, ""))
        finally:
            process.kill()
            process.communicate()

    # run

    def test_run(self):
        answer = self.output_of("run", "smollm2", QUESTION, "--temperature", "0",
                                "--max-tokens", "16")
        self.assertIn("Paris", answer)
        self.assertTrue(answer.endswith("\n"))

    def test_run_with_standard_input(self):
        answer = self.output_of("run", "smollm2", "--temperature", "0", "--max-tokens", "16",
                                input=QUESTION + "\n")
        self.assertIn("Paris", answer)

    def test_run_with_an_unknown_model(self):
        self.check_failure(self.command("run", "smolm2", "hi"), 1, "smolm2", "smollm2")

    def test_run_with_wrong_settings(self):
        for arguments in (["--temperature", "hot"], ["--max-tokens", "-1"], ["--no-such"]):
            with self.subTest(arguments):
                done = self.command("run", "smollm2", "hi", *arguments)
                self.check_failure(done, 2, arguments[0].lstrip("-").replace("-", "_")
                                   if arguments[0] != "--no-such" else "--no-such")

    def test_interrupt_ends_an_answer(self):
        process = subprocess.Popen(
            [YOKE, "run", "smollm2", "Tell a very long story.", "--url", self.yoke.url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.sandbox.environment())
        try:
            self.assertTrue(process.stdout.read(1))
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)
            self.assertEqual(process.returncode, 130)
        finally:
            process.kill()
            process.communicate()

    def test_conversation(self):
        main, terminal = pty.openpty()
        process = subprocess.Popen(
            [YOKE, "run", "smollm2", "--url", self.yoke.url, "--temperature", "0",
             "--max-tokens", "16"], stdin=terminal, stdout=terminal, stderr=terminal,
            env=self.sandbox.environment(), start_new_session=True)
        os.close(terminal)
        try:
            seen = read_until(main, ">>> ")
            self.assertIn("/help", seen)
            os.write(main, b"/help\n")
            self.assertIn("/exit", read_until(main, ">>> "))
            os.write(main, QUESTION.encode() + b"\n")
            self.assertIn("Paris", read_until(main, ">>> "))
            os.write(main, b"/exit\n")
            self.assertEqual(process.wait(10), 0)
        finally:
            process.kill()
            process.wait()
            os.close(main)

    # Mistakes

    def test_no_server(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        for command in (["ps"], ["logs"], ["run", "smollm2", "hi"], ["load", "smollm2"],
                        ["unload", "smollm2"], ["pin", "smollm2"], ["reload"]):
            with self.subTest(command):
                self.check_failure(self.command(*command, url=url), 1, url, "yoke serve", "--url")

    def test_url_that_is_none(self):
        for url in ("https://localhost:1", "http://", "ftp://a", "not a url"):
            with self.subTest(url):
                self.check_failure(self.command("ps", url=url), 2, url)

    def test_url_of_something_else(self):
        # An engine speaks HTTP too, but not Yoke's own API; it asks for a key that only Yoke has.
        url = f"http://127.0.0.1:{self.yoke.instance('smollm2')['port']}"
        self.check_failure(self.command("ps", url=url), 1, url, "API key")
        with socketserver.TCPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as other:
            thread = threading.Thread(target=other.handle_request)
            thread.start()
            url = f"http://127.0.0.1:{other.server_address[1]}"
            self.check_failure(self.command("ps", url=url), 1, url, "--url")
            thread.join()

    def test_misspelt_command(self):
        self.check_failure(self.command("serv"), 2, "'serv'", "yoke serve")

    def test_no_command(self):
        self.check_failure(self.command(), 2, "yoke --help")

    def test_help_and_version(self):
        for command in ("serve", "run", "ps", "load", "unload", "pin", "unpin", "reload", "logs"):
            self.assertIn(command, self.output_of("--help"))
            self.assertIn("--", self.output_of(command, "--help"))
        self.assertRegex(self.output_of("--version"), r"^yoke \d+\.\d+\.\d+\n$")


def read_until(terminal, mark):
    """What comes from the terminal up to `mark`, without control sequences."""
    text = ""
    deadline = time.monotonic() + REAL_LIMIT_S
    while mark not in text:
        if not select.select([terminal], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise AssertionError(f"no {mark!r} in {text!r}")
        raw = os.read(terminal, 4096).decode(errors="replace")
        text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", raw)
    return text


if __name__ == "__main__":
    unittest.main()
