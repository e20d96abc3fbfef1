"""vLLM with a real model: `make test-vllm` installs it and runs this. It takes some minutes."""

import json
import os
import pathlib
import signal
import subprocess
import unittest

from harness import DATA_HOME, REAL_MODEL_FILE, E2eTest, chat_body, is_running, until

CACHE_HOME = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
WORK = CACHE_HOME / "yoke/test-vllm"
MODEL = WORK / "SmolLM2-135M-Instruct"
# What the conversion of the model wants besides what vLLM brings.
CONVERTER_PACKAGES = ("accelerate==1.15.0", "gguf==0.19.0")

# vLLM is ready after a minute where nothing else runs.
START_LIMIT_S = 400
REPLY_LIMIT_S = 120
STORY = "Tell me a long story about a ship."
QUESTION = "What is the capital of France? One word."
SHARED_MEMORY = pathlib.Path("/dev/shm")


def vllm_home():
    """The installed vLLM for the CPU."""
    found = sorted(DATA_HOME.glob("yoke/engines/vllm-*/cpu/engine.json"))
    assert found, "vLLM is not installed: run `make test-vllm`"
    return found[-1].parent


def make_model():
    """The starter model in HuggingFace format; made once."""
    if (MODEL / "model.safetensors").exists():
        return
    assert REAL_MODEL_FILE.exists(), f"{REAL_MODEL_FILE} is missing: run `make model`"
    python = vllm_home() / "bin/python3"
    packages = WORK / "packages"
    WORK.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade",
                    "--target", packages, *CONVERTER_PACKAGES], check=True, timeout=600)
    script = pathlib.Path(__file__).with_name("make_hf_model.py")
    subprocess.run([python, script, REAL_MODEL_FILE, MODEL], check=True, timeout=600,
                   env={**os.environ, "PYTHONPATH": str(packages), "PYTHONNOUSERSITE": "1"},
                   stderr=subprocess.PIPE)


def shared_memory():
    """The names of this user's files there."""
    names = set()
    for path in SHARED_MEMORY.iterdir():
        try:
            if path.stat().st_uid == os.getuid():
                names.add(path.name)
        except FileNotFoundError:
            pass
    return names


def parent_of(pid):
    """0 if there is no such process. vLLM's processes overwrite the environment they came with."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def tree_of(root):
    """The process and all below it."""
    pids = [int(path.name) for path in pathlib.Path("/proc").iterdir() if path.name.isdigit()]
    parents = {pid: parent_of(pid) for pid in pids}
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


def name_of(pid):
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


def text_of(events):
    choices = [choice for event in events for choice in event.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


class VllmTest(E2eTest):
    @classmethod
    def setUpClass(cls):
        make_model()
        broken = WORK / "broken"
        broken.mkdir(exist_ok=True)
        (broken / "config.json").write_text("{}")
        cls.memory_before = shared_memory()
        cls.addClassCleanup(cls.check_shared_memory)
        cls.yoke = cls.shared_sandbox().serve(
            {"hf": {"model_path": str(MODEL), "n_ctx": 2048, "parallel": 4},
             "broken": {"model_path": str(broken)}}, engine=None)

    @classmethod
    def check_shared_memory(cls):
        """After Yoke has ended."""
        left = shared_memory() - cls.memory_before
        assert not left, f"left in /dev/shm: {left}"

    def setUp(self):
        super().setUp()
        self.instance = self.yoke.wait_for_state("hf", "ready", START_LIMIT_S)

    def _keep_logs(self):
        self.logs = [self.yoke.log()]

    def chat(self, **fields):
        return self.yoke.chat("hf", QUESTION, limit_s=REPLY_LIMIT_S, temperature=0, max_tokens=24,
                              **fields)

    def test_whole_reply(self):
        reply = self.chat()
        self.assertEqual(reply.status, 200, reply)
        self.assertIn("Paris", reply.text())
        self.assertEqual(reply.json()["model"], "hf")
        self.assertEqual(reply.json()["choices"][0]["finish_reason"], "stop")
        usage = reply.json()["usage"]
        self.assertGreater(usage["prompt_tokens"], 10)
        self.assertIn(usage["completion_tokens"], range(2, 25))
        self.assertEqual(usage["total_tokens"],
                         usage["prompt_tokens"] + usage["completion_tokens"])

    def test_stream(self):
        whole = self.chat()
        with self.yoke.stream("hf", QUESTION, limit_s=REPLY_LIMIT_S, temperature=0, max_tokens=24,
                              stream_options={"include_usage": True}) as events:
            events = list(events)
        self.assertEqual(events.pop(), "[DONE]")
        events = [json.loads(event) for event in events]
        self.assertEqual(text_of(events), whole.text())
        self.assertGreater(len(events), 4, "it came in one piece")
        self.assertEqual(len({event["id"] for event in events}), 1)
        usage = events[-1]["usage"]
        self.assertEqual({name: usage[name] for name in ("prompt_tokens", "completion_tokens")},
                         {name: whole.json()["usage"][name]
                          for name in ("prompt_tokens", "completion_tokens")})

    def test_requests_that_can_not_be_served(self):
        reply = self.yoke.post("/v1/embeddings", {"model": "hf", "input": "a cat"})
        self.check_error(reply, 400, "wrong_model_type")
        reply = self.yoke.chat("hf", "word " * 4000, limit_s=REPLY_LIMIT_S)
        self.check_error(reply, 400, "context_length_exceeded")
        self.assertEqual(self.yoke.instance("hf")["state"], "ready")

    def test_a_directory_that_is_no_model(self):
        self.check_error(self.yoke.chat("broken"), 503, "model_file_invalid")

    def test_nobody_else_is_answered(self):
        port = self.instance["port"]
        done = subprocess.run(["curl", "--silent", "--output", "/dev/null", "--write-out",
                               "%{http_code}", "--noproxy", "*", "-d", "{}",
                               f"http://127.0.0.1:{port}/v1/chat/completions"],
                              capture_output=True, text=True, timeout=30)
        self.assertEqual(done.stdout, "401")

    def test_front_end_killed_in_mid_stream(self):
        front_end = self.instance["pid"]
        tree = tree_of(front_end)
        names = {name_of(pid) for pid in tree}
        self.assertTrue(any(name.startswith("VLLM::Engine") for name in names), names)
        self.assertTrue(any(name.startswith("VLLM::Worker") for name in names), names)
        memory = shared_memory() - self.memory_before
        self.assertTrue(memory, "vLLM uses shared memory")

        body = chat_body("hf", STORY, stream=True, temperature=0,
                         max_tokens=300, ignore_eos=True, stream_options={"include_usage": True})
        with self.yoke.connect(limit_s=START_LIMIT_S + REPLY_LIMIT_S) as connection:
            connection.send("POST", "/v1/chat/completions", body)
            stream = connection.events()
            events = []
            while len(text_of(events)) < 40:
                events.append(json.loads(next(stream)))
            os.kill(front_end, signal.SIGKILL)
            rest = list(stream)

        self.check_end(events, rest)
        until(lambda: not any(is_running(pid) for pid in tree), "engine core and worker are gone")
        until(lambda: not memory & shared_memory(), "what it had in /dev/shm is gone")
        again = self.yoke.wait_for_state("hf", "ready", START_LIMIT_S)
        self.assertNotEqual(again["pid"], front_end)
        self.assertIn("Paris", self.chat().text())

    def check_end(self, events, rest):
        """The stream went on to its end as if nothing had been (docs/failover.md)."""
        self.assertEqual(rest.pop(), "[DONE]", rest[-1:])
        events = events + [json.loads(event) for event in rest]
        self.assertFalse([event for event in events if "error" in event])
        self.assertEqual(len({event["id"] for event in events}), 1)
        reasons = [choice["finish_reason"] for event in events for choice in event["choices"]]
        self.assertEqual([reason for reason in reasons if reason], ["length"])
        self.assertEqual(events[-1]["usage"]["completion_tokens"], 300)
        uncut = self.yoke.chat("hf", STORY, limit_s=REPLY_LIMIT_S, temperature=0, max_tokens=300,
                               ignore_eos=True)
        # Where the text was cut it may be split into other tokens, which may lead elsewhere.
        shared = os.path.commonprefix([uncut.text(), text_of(events)])
        self.assertGreater(len(shared), 40)


if __name__ == "__main__":
    unittest.main()
