"""KV caches that outlive the engine: saved when it stops, restored when the same is asked again."""

import os
import subprocess
import sys
import unittest

from harness import REAL_LIMIT_S, E2eTest, until
from test_pull_faults import may_mount, mount

WORDS = "river stone cat green walk under seven lamp paper quickly bright engine".split()
# In tokens of the fake engine, which are words.
LONG = 1000
# The fake engine's bytes for a token, and for the rest of a file.
TOKEN_BYTES = 68
PAGE = 4096


def text(count, seed=1):
    """So many words, others for each seed."""
    value = seed
    words = []
    for _ in range(count):
        value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
        words.append(WORDS[(value >> 33) % len(WORDS)])
    return f"Text {seed}: " + " ".join(words)


def conversation(*messages):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(messages)]


class ContextsTest(E2eTest):
    def directory(self):
        return self.sandbox.directory / "state/yoke/contexts"

    def files(self):
        """Of the saved contexts."""
        return sorted(self.directory().glob("ctx-*.kv"))

    def forget_all(self):
        for file in self.directory().iterdir():
            file.unlink()

    def ask(self, yoke, *messages, model="chat", **fields):
        body = {"model": model, "messages": conversation(*messages), "seed": 1, "temperature": 0,
                **fields}
        reply = yoke.post("/v1/chat/completions", body, limit_s=REAL_LIMIT_S)
        self.assertEqual(reply.status, 200, reply)
        return reply.json()

    def cached(self, answer):
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    def unload(self, yoke, model="chat"):
        reply = yoke.post("/yoke/v1/unload", {"model": model}, limit_s=REAL_LIMIT_S)
        self.assertEqual(reply.status, 200, reply)
        until(lambda: not yoke.instance(model).get("pid"), f"{model} is unloaded", REAL_LIMIT_S)

    def lines(self, yoke, what):
        return [line for line in yoke.log().splitlines() if what in line]


class FakeEngineTest(ContextsTest):
    def serve(self, script="tokens=4", contexts=(), rewrite=True, env=(), **options):
        """`rewrite`: whether the model's file is a new one, which has other contexts."""
        file = self.sandbox.directory / "chat.gguf"
        model = {"model_path": str(file), **options}
        if rewrite:
            model = self.sandbox.fake_model(script, name="chat", **options)
        yoke = self.sandbox.serve({"chat": model}, env=env,
                                  tables={"contexts": {"save_after": "1h", **dict(contexts)}})
        yoke.wait_for_state("chat", "ready")
        return yoke

    def stats(self, yoke):
        return yoke.engine_get("chat", "/fake/stats")

    def test_a_conversation_goes_on_after_an_unload(self):
        yoke = self.serve()
        first = self.ask(yoke, text(LONG))
        self.assertEqual(self.cached(first), 0)
        said = first["choices"][0]["message"]["content"]
        self.unload(yoke)
        self.assertEqual(len(self.files()), 1)
        second = self.ask(yoke, text(LONG), said, "And now?")
        # All but what is new: the question and the marks of the turns.
        self.assertGreater(self.cached(second), LONG)
        stats = self.stats(yoke)
        self.assertLess(stats["prefilled_tokens"], 20)
        self.assertEqual(stats["restores"], 1)
        self.assertEqual(len(self.lines(yoke, "Model chat: saved a context of")), 1)
        self.assertEqual(len(self.lines(yoke, "Model chat: restored a context of")), 1)

        # In its slot it needs no help.
        self.assertGreater(self.cached(self.ask(yoke, text(LONG), said, "Why?")), LONG)
        self.assertEqual(self.stats(yoke)["restores"], 1)

        # The longer one takes the place of the first.
        self.unload(yoke)
        self.assertEqual(len(self.files()), 1)

    def test_after_yoke_was_stopped_and_started(self):
        yoke = self.serve()
        self.ask(yoke, text(LONG))
        yoke.stop()
        self.assertEqual(len(self.files()), 1)
        yoke = self.serve(rewrite=False)
        self.assertGreater(self.cached(self.ask(yoke, text(LONG), "yes", "More?")), LONG)

    def test_when_nothing_was_asked_for_a_while(self):
        yoke = self.serve(contexts={"save_after": "100ms"})
        self.ask(yoke, text(LONG))
        until(self.files, "the context is saved")
        self.assertEqual(yoke.instance("chat")["state"], "ready")
        # So a process that is killed takes nothing along.
        pid = yoke.instance("chat")["pid"]
        os.kill(pid, 9)
        until(lambda: yoke.instance("chat")["pid"] not in (pid, None)
              and yoke.instance("chat")["state"] == "ready", "the engine is back")
        self.assertGreater(self.cached(self.ask(yoke, text(LONG), "yes", "More?")), LONG)

    def test_a_conversation_that_others_pushed_out_of_the_slots(self):
        yoke = self.serve("tokens=4;ram_cache=1;slots=2")
        for seed in (1, 2, 3):
            self.ask(yoke, text(LONG, seed))
            self.ask(yoke, "Make a title for this chat, please.")
        self.unload(yoke)
        self.assertEqual(len(self.files()), 3)
        for seed in (3, 1, 2):
            self.assertGreater(self.cached(self.ask(yoke, text(LONG, seed), "yes", "More?")), LONG)
        self.assertEqual(self.stats(yoke)["restores"], 3)

    def test_for_completions(self):
        yoke = self.serve()

        def complete(prompt):
            body = {"model": "chat", "prompt": prompt}
            return self.cached(yoke.post("/v1/completions", body).json())

        self.assertEqual(complete(text(LONG)), 0)
        self.unload(yoke)
        self.assertGreater(complete(text(LONG) + " and more"), LONG)

    def test_short_ones_and_other_beginnings_are_left_alone(self):
        yoke = self.serve()
        self.ask(yoke, text(100))
        self.unload(yoke)
        self.assertEqual(self.files(), [])
        self.ask(yoke, text(LONG))
        self.unload(yoke)
        self.assertLess(self.cached(self.ask(yoke, text(LONG, seed=2))), 10)
        self.assertEqual(self.stats(yoke)["restores"], 0)
        self.assertEqual(self.stats(yoke)["foreign_restores"], 0)

    def test_not_for_another_file_build_or_cache_type(self):
        yoke = self.serve()
        self.ask(yoke, text(LONG))
        yoke.stop()

        def check_unused(script="", **options):
            settings.write_text(settings_before + script)
            yoke = self.serve(rewrite=False, **options)
            self.assertLess(self.cached(self.ask(yoke, text(LONG))), 10)
            stats = self.stats(yoke)
            self.assertEqual(stats["restores"] + stats["foreign_restores"], 0)
            self.assertEqual(len(self.lines(yoke, "1 saved context of another model file")), 1)
            # Not to have two for the next check.
            yoke.destroy()
            yoke.stopped = True

        settings = self.sandbox.directory / "chat.gguf.fake"
        settings_before = settings.read_text()
        check_unused(cache_type_k="q8_0")
        check_unused(env={"FAKE_ENGINE_SCRIPT": "version=4001"})
        file = self.sandbox.directory / "chat.gguf"
        weights, times = file.read_bytes(), file.stat()
        file.write_bytes(weights + b"others")
        check_unused(";model_seed=2")
        # The first one is there still, for whom it was saved.
        file.write_bytes(weights)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        settings.write_text(settings_before)
        yoke = self.serve(rewrite=False)
        self.assertGreater(self.cached(self.ask(yoke, text(LONG), "yes", "More?")), LONG)

    def test_the_directory_has_a_limit(self):
        yoke = self.serve(contexts={"max_size": f"{int(2.5 * LONG * TOKEN_BYTES)}"})
        for seed in range(4):
            self.ask(yoke, text(LONG, seed))
            self.unload(yoke)
            size = sum(file.stat().st_size for file in self.files())
            self.assertLessEqual(size, 2.5 * LONG * TOKEN_BYTES)
        self.assertEqual(len(self.files()), 2)
        self.assertLess(self.cached(self.ask(yoke, text(LONG, 0), "yes", "More?")), 10)
        self.assertGreater(self.cached(self.ask(yoke, text(LONG, 3), "yes", "More?")), LONG)

    def test_none_are_kept_if_they_may_have_no_space(self):
        yoke = self.serve(contexts={"max_size": "0"})
        self.ask(yoke, text(LONG))
        self.unload(yoke)
        self.assertFalse(self.directory().exists() and self.files())
        self.assertEqual(self.cached(self.ask(yoke, text(LONG))), 0)

    def test_saves_that_fail_harm_nothing(self):
        for how in ("short", "error", "crash"):
            with self.subTest(how=how):
                yoke = self.serve(f"tokens=4;save_failure={how}")
                self.ask(yoke, text(LONG))
                self.unload(yoke)
                self.assertEqual(list(self.directory().iterdir()), [])
                self.assertEqual(len(self.lines(yoke, "a context could not be saved")), 1)
                self.assertEqual(self.cached(self.ask(yoke, text(LONG), "yes", "More?")), 0)
                yoke.stop()

    def test_files_that_an_engine_refuses_are_given_to_it_once(self):
        for how in ("error", "crash"):
            with self.subTest(how=how):
                yoke = self.serve(f"tokens=4;restore_failure={how}")
                self.ask(yoke, text(LONG))
                self.unload(yoke)
                self.assertEqual(self.cached(self.ask(yoke, text(LONG), "yes", "More?")), 0)
                self.assertEqual(self.files(), [])
                self.assertEqual(len(self.lines(yoke, "could not be restored and is removed")), 1)
                yoke.stop()
                self.forget_all()

    def test_files_that_were_changed_are_not_given_to_an_engine(self):
        yoke = self.serve()
        for change in ("cut", "rewritten"):
            with self.subTest(change=change):
                self.ask(yoke, text(LONG, len(change)))
                yoke.stop()
                file = self.files()[-1]
                if change == "cut":
                    os.truncate(file, file.stat().st_size - 1)
                else:
                    file.write_bytes(file.read_bytes())
                yoke = self.serve()
                self.assertEqual(self.files(), [])
                self.assertEqual(len(self.lines(yoke, "is of no use and is removed")), 1)

    def test_the_disk_fills_at_any_byte_of_a_save(self):
        directory = self.directory()
        directory.mkdir(parents=True)
        whole = (LONG + 9) * TOKEN_BYTES + 36  # With the text's name, the roles and the reply.
        for size in (1, 2, 3, whole // PAGE - 1, whole // PAGE, whole // PAGE + 1,
                     whole // PAGE + 2, 2 * whole // PAGE):
            with self.subTest(pages=size):
                if not mount("-t", "tmpfs", "-o", f"size={size * PAGE}", "tmpfs", str(directory)):
                    self.skipTest("nobody may mount a small disk here")
                try:
                    yoke = self.serve()
                    self.ask(yoke, text(LONG))
                    self.unload(yoke)
                    answer = self.ask(yoke, text(LONG), "yes", "More?")
                    failed = len(self.lines(yoke, "a context could not be saved"))
                    # Either it is there, or one line says why it is not.
                    self.assertEqual(failed, 0 if self.cached(answer) > LONG else 1)
                    self.assertEqual(failed, 1 - len(self.files()))
                    self.assertEqual(failed, int(size * PAGE < whole))
                    self.assertEqual(list(directory.glob("*.part")), [])
                finally:
                    for yoke in self.sandbox.servers:
                        yoke.destroy()
                    subprocess.run(["umount", "-l", str(directory)], check=True)


class RealEngineTest(ContextsTest):
    def test_the_answer_is_that_of_an_engine_that_never_stopped(self):
        """Also when another conversation came between."""
        prompt = text(1800)
        asked = {"model": "smollm2", "max_tokens": 16}

        def turns(yoke, between):
            first = self.ask(yoke, prompt, **asked)
            said = first["choices"][0]["message"]["content"]
            self.assertGreater(first["usage"]["prompt_tokens"], 1800)
            self.ask(yoke, "Make a title for this chat, please.", **asked)
            between(yoke)
            second = self.ask(yoke, prompt, said, "What is the last word of it?", **asked)
            return said, second

        kept_said, kept = turns(self.serve(), lambda yoke: None)
        said, restored = turns(self.serve(), lambda yoke: self.unload(yoke, "smollm2"))
        self.assertEqual(said, kept_said)
        self.assertEqual(restored["usage"]["prompt_tokens"], kept["usage"]["prompt_tokens"])
        self.assertGreater(self.cached(kept), 1800)
        self.assertGreater(self.cached(restored), 1800)
        self.assertEqual(restored["choices"], kept["choices"])

    def test_the_tokens_are_those_that_the_engine_computes(self):
        """Of messages with all that a request may have."""
        yoke = self.serve()
        tools = [{"type": "function", "function": {
            "name": "look", "description": text(300, 3), "parameters": {"type": "object"}}}]
        system = {"role": "system", "content": text(300, 4)}
        user = {"role": "user", "content": [{"type": "text", "text": "Look <|im_end|> é 한국어"}]}
        body = {"model": "smollm2", "messages": [system, user], "tools": tools, "max_tokens": 4,
                "temperature": 0, "stream": False}
        first = yoke.post("/v1/chat/completions", body, limit_s=REAL_LIMIT_S).json()
        count = first["usage"]["prompt_tokens"]
        self.assertGreater(count, 300)
        self.unload(yoke, "smollm2")
        again = yoke.post("/v1/chat/completions", body, limit_s=REAL_LIMIT_S).json()
        self.assertEqual(self.cached(again), count - 1)

        prompt = text(400, 5)
        yoke.post("/v1/completions", {"model": "smollm2", "prompt": prompt, "max_tokens": 2},
                  limit_s=REAL_LIMIT_S)
        self.unload(yoke, "smollm2")
        answer = yoke.post("/v1/completions",
                           {"model": "smollm2", "prompt": prompt, "max_tokens": 2},
                           limit_s=REAL_LIMIT_S).json()
        self.assertEqual(self.cached(answer), answer["usage"]["prompt_tokens"] - 1)

    def serve(self):
        return self.sandbox.serve_real(n_ctx=4096)


if __name__ == "__main__":
    own_namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if not may_mount() and subprocess.run([*own_namespace, "true"], check=False).returncode == 0:
        if "YOKE_TEST_NAMESPACE" not in os.environ:
            os.environ["YOKE_TEST_NAMESPACE"] = "1"
            os.execvp(own_namespace[0], [*own_namespace, sys.executable, *sys.argv])
    unittest.main()
