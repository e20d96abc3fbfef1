"""Reasoning models: a thought survives the death of its engine, as the answer behind it does.

SmolLM2 does not reason. A chat template that begins its answer with <think> makes llama-server take
what it says for a thought, and a budget of tokens ends that thought.
"""

import json
import os
import signal
import threading
import unittest

from harness import REAL_LIMIT_S, E2eTest, chat_body, until

TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.reasoning_content %}
{{- '<think>\\n' + message.reasoning_content + '</think>' }}
{%- endif -%}
{{ message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif -%}
"""
THOUGHT_TOKENS = 12
TOKENS = 48
QUESTION = {"temperature": 0, "max_tokens": TOKENS}


class Told:
    """What the events of one stream said."""

    def __init__(self, events):
        events = list(events)
        assert events[-1] == "[DONE]", events[-3:]
        self.events = [json.loads(event) for event in events[:-1]]
        choices = [choice for event in self.events for choice in event["choices"]]
        deltas = [choice["delta"] for choice in choices]
        self.thoughts = [delta.get("reasoning_content") or "" for delta in deltas]
        self.texts = [delta.get("content") or "" for delta in deltas]
        self.roles = sum("role" in delta for delta in deltas)
        self.reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
        self.ids = {event["id"] for event in self.events}

    @property
    def thought(self):
        return "".join(self.thoughts)

    @property
    def text(self):
        return "".join(self.texts)


class ReasoningTest(E2eTest):
    def setUp(self):
        super().setUp()
        template = self.sandbox.directory / "reasoning.jinja"
        template.write_text(TEMPLATE)
        self.yoke = self.sandbox.serve_real(
            backends=["cpu"], parallel=1, chat_template=str(template),
            extra_args=["--reasoning-budget", str(THOUGHT_TOKENS)])

    def body(self, **fields):
        return chat_body("smollm2", "Tell me about the sea.", **{**QUESTION, **fields})

    def stream(self, kill_after=None):
        """The whole stream; the engine is killed when so many events have arrived."""
        payloads = []
        fields = {"stream": True, "stream_options": {"include_usage": True}}
        with self.yoke.connect(limit_s=REAL_LIMIT_S) as connection:
            connection.send("POST", "/v1/chat/completions", self.body(**fields))
            for payload in connection.events():
                payloads.append(payload)
                if len(payloads) == kill_after:
                    os.kill(self.yoke.instance("smollm2")["pid"], signal.SIGKILL)
        return Told(payloads)

    def check_one_answer(self, told):
        """It reads as if one engine had given it: first all of the thought, then the text."""
        self.assertEqual(len(told.ids), 1)
        self.assertEqual(told.roles, 1)
        self.assertEqual(told.reasons, ["length"])
        self.assertEqual(told.events[-1]["usage"]["completion_tokens"], TOKENS)
        last_thought = max(at for at, thought in enumerate(told.thoughts) if thought)
        first_text = min(at for at, text in enumerate(told.texts) if text)
        self.assertLess(last_thought, first_text)
        for mark in ("<think>", "</think>", "<|im_"):
            self.assertNotIn(mark, told.thought + told.text)

    def continued(self):
        return self.yoke.metric('yoke_survived_total{how="continued"}')

    def test_thought_and_text_are_told_apart(self):
        told = self.stream()
        self.check_one_answer(told)
        self.assertIn("sea", told.thought)
        reply = self.yoke.post("/v1/chat/completions", self.body(), limit_s=REAL_LIMIT_S).json()
        message = reply["choices"][0]["message"]
        self.assertEqual(message["reasoning_content"].strip(), told.thought.strip())
        self.assertEqual(message["content"].strip(), told.text.strip())

    def test_killed_in_mid_thought_goes_on(self):
        uncut = self.stream()
        same = 0
        for count, kill_after in enumerate((3, 6), 1):
            cut = self.stream(kill_after)
            self.check_one_answer(cut)
            self.assertEqual(self.continued(), count)
            self.assertEqual(self.yoke.wait_for_state("smollm2", "ready")["restarts"], count)
            # What was said before the cut is not said again.
            begun = "".join(uncut.thoughts[:kill_after - 1])
            self.assertTrue(cut.thought.startswith(begun), (begun, cut.thought))
            self.assertEqual(cut.thought.count(begun), 1)
            same += cut.thought == uncut.thought and cut.text.startswith(uncut.text[:40])
        self.assertGreaterEqual(same, 1, "neither went on as the uncut answer")

    def test_killed_after_the_thought_goes_on_with_the_text(self):
        uncut = self.stream()
        first_text = min(at for at, text in enumerate(uncut.texts) if text)
        same = 0
        for count, kill_after in enumerate((first_text + 4, first_text + 12), 1):
            cut = self.stream(kill_after)
            self.check_one_answer(cut)
            self.assertEqual(self.continued(), count)
            # The whole thought is there, once, and none of it in the text.
            self.assertEqual(cut.thought, uncut.thought)
            begun = "".join(uncut.texts[:kill_after - 1])
            self.assertTrue(cut.text.startswith(begun), (begun, cut.text))
            same += cut.text.startswith(uncut.text)
            self.yoke.wait_for_state("smollm2", "ready", REAL_LIMIT_S)
        self.assertGreaterEqual(same, 1, "neither went on as the uncut answer")

    def test_whole_reply_is_asked_for_again(self):
        uncut = self.stream()
        replies = []

        def ask():
            replies.append(self.yoke.post("/v1/chat/completions", self.body(),
                                          limit_s=REAL_LIMIT_S))

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: self.yoke.instance("smollm2")["active_requests"], "the engine is at work")
        os.kill(self.yoke.instance("smollm2")["pid"], signal.SIGKILL)
        asking.join(REAL_LIMIT_S)
        self.assertEqual(replies[0].status, 200, replies[0])
        message = replies[0].json()["choices"][0]["message"]
        self.assertEqual(message["reasoning_content"].strip(), uncut.thought.strip())
        self.assertEqual(message["content"].strip(), uncut.text.strip())
        self.assertEqual(self.yoke.metric('yoke_survived_total{how="replayed"}'), 1)


if __name__ == "__main__":
    unittest.main()
