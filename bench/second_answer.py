#!/usr/bin/env python3
"""Measures what a saved context is worth: the time to the first token of a second answer over a long
prompt, after the model was unloaded and loaded again, against that of reading the prompt anew:
python3 bench/second_answer.py PROGRAM

PROGRAM is yoke; it needs `make engine model`. The goal is at most 10 % of the first answer's time.
A missed goal is reported but is no failure, because it also depends on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODEL = "smollm2"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GOAL = 0.10
N_CTX = 16384
LIMIT_S = 900
STOP_LIMIT_S = 60
BUSY = 0.5  # Load per core from which the figures say little.
WORDS = ("the of river stone cat green walk under seven lamp paper quickly bright engine memory "
         "house").split()


def until(condition: Callable[[], object], what: str) -> object:
    deadline = time.monotonic() + LIMIT_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"second_answer: after {LIMIT_S} s still not: {what}")
        time.sleep(0.01)
    return value


@dataclass
class Answer:
    ms: float  # From the request to the first token.
    prompt: int  # Tokens.
    cached: int  # Of those.
    text: str


@dataclass
class Round:
    first: Answer
    loaded: Answer  # The second answer from a model that is ready.
    unloaded: Answer  # The third, where the model has to be loaded first.


class Yoke:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        listening = until(lambda: re.search(r"listens on http://\S+:(\d+)", self.text()), "it runs")
        self.port = int(listening[1])

    def text(self) -> str:
        if self.process.poll() is not None:
            sys.exit(f"second_answer: yoke ended:\n{self.log.read_text()}")
        return self.log.read_text()

    def post(self, path: str, body: dict) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            sys.exit(f"second_answer: {path}: {response.status} {response.read()[:500]}")
        return response

    def load(self) -> None:
        self.post("/yoke/v1/load", {"model": MODEL, "wait": True}).read()

    def unload(self) -> None:
        self.post("/yoke/v1/unload", {"model": MODEL}).read()
        until(lambda: self.state() not in ("ready", "draining"), "the model is unloaded")

    def state(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        with contextlib.closing(connection):
            connection.request("GET", "/yoke/v1/instances")
            return json.load(connection.getresponse())["instances"][0]["state"]

    def ask(self, messages: list[dict]) -> Answer:
        body = {"model": MODEL, "messages": messages, "stream": True, "temperature": 0,
                "max_tokens": 16, "stream_options": {"include_usage": True}}
        begin = time.monotonic()
        first_ms, said, usage = 0.0, "", {}
        for line in self.post("/v1/chat/completions", body):
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            for choice in event.get("choices", []):
                if piece := choice["delta"].get("content"):
                    first_ms = first_ms or (time.monotonic() - begin) * 1000
                    said += piece
        if not first_ms:
            sys.exit("second_answer: an answer had no token")
        return Answer(first_ms, usage["prompt_tokens"],
                      usage["prompt_tokens_details"]["cached_tokens"], said)


@contextlib.contextmanager
def serving(program: Path, directory: Path, threads: int):
    config = directory / "yoke.toml"
    config.write_text(f"""[server]
listen = "127.0.0.1:0"
[models.{MODEL}]
model_path = "{MODEL_FILE}"
n_ctx = {N_CTX}
threads = {threads}
""")
    log = directory / "yoke.log"
    environment = {**os.environ, "XDG_STATE_HOME": str(directory / "state")}
    with open(log, "wb") as output:
        process = subprocess.Popen([program, "serve", "--config", config], env=environment,
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield Yoke(process, log)
    finally:
        process.terminate()
        process.wait(STOP_LIMIT_S)


def run_round(yoke: Yoke, words: int, seed: int) -> Round:
    """Each with a text of its own, so that the first answer has to read all of it."""
    chooser = random.Random(seed)
    text = " ".join(chooser.choice(WORDS) for _ in range(words))
    messages = [{"role": "user", "content": f"Text {seed}: {text}\nWhat is it about?"}]

    def follow(answer: Answer, question: str) -> None:
        messages.append({"role": "assistant", "content": answer.text})
        messages.append({"role": "user", "content": question})

    yoke.load()
    first = yoke.ask(messages)
    yoke.unload()
    yoke.load()
    follow(first, "Which word comes last?")
    loaded = yoke.ask(messages)
    yoke.unload()
    follow(loaded, "And the one before?")
    return Round(first, loaded, yoke.ask(messages))


def show_round(number: int, each: Round) -> None:
    print(f"| {number} | {each.first.prompt} tokens | {each.first.ms:,.0f} ms "
          f"| {each.loaded.ms:,.0f} ms ({each.loaded.ms / each.first.ms:.1%}) "
          f"| {each.loaded.cached} of {each.loaded.prompt} "
          f"| {each.unloaded.ms:,.0f} ms ({each.unloaded.ms / each.first.ms:.1%}) |", flush=True)


def show_medians(rounds: list[Round]) -> float:
    """The larger of the two ratios."""
    first = statistics.median(each.first.ms for each in rounds)
    loaded = statistics.median(each.loaded.ms for each in rounds)
    unloaded = statistics.median(each.unloaded.ms for each in rounds)
    print(f"| median | | {first:,.0f} ms | {loaded:,.0f} ms ({loaded / first:.1%}) | "
          f"| {unloaded:,.0f} ms ({unloaded / first:.1%}) |")
    return max(loaded, unloaded) / first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=7900, help="of the prompt (default: 7900)")
    parser.add_argument("--threads", type=int, default=1, help="of the engine (default: 1)")
    options = parser.parse_args()
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if load > BUSY:
        print(f"The machine is busy (load {load:.1f} per core): the figures say little.")
    with tempfile.TemporaryDirectory(prefix="yoke-bench-") as directory:
        with serving(options.program.resolve(), Path(directory), options.threads) as yoke:
            print("| round | prompt | first answer | second, model loaded | of it cached "
                  "| third, with the load |\n|---|---|---|---|---|---|", flush=True)
            rounds = []
            for number in range(1, options.rounds + 1):
                rounds.append(run_round(yoke, options.words, number))
                show_round(number, rounds[-1])
            lines = re.findall(r"(?:saved|restored) a context of .*", yoke.text())
    ratio = show_medians(rounds)
    print("\n".join(["", *lines, ""]))
    verdict = "reached" if ratio <= GOAL else "missed"
    print(f"Goal {verdict}: {ratio:.1%} of the first answer's time, and at most {GOAL:.0%} is asked.")


if __name__ == "__main__":
    main()
