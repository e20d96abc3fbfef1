#!/usr/bin/env python3
"""Thousands of requests of random length through RPC workers.

    soak.py [--requests 10000] [--workers 3,4] [--slots 4] [--client pipelined] [--seed N]

Requests run side by side, some of them are left by their client half way. Each has to be answered
in time, by as many tokens as asked for, from as many of the prompt as sent. Between rounds, with
nothing else running, known requests are repeated: the answers have to be those of the start, to the
last digit. Exits with 1 at the first hang, or when anything failed.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import random
import sys
import threading

import rpc_cluster
from rpc_cluster import SLOWNESS, TESTED, Cluster, completion_body, now, prompt_of

MODEL = "tiny-llama"
VOCABULARY = 512
REQUEST_LIMIT_S = 60 * SLOWNESS
ROUND = 200
LONGEST_PROMPT = 400
LONGEST_REPLY = 24
LEFT_SHARE = 0.05
CONTEXT = 1024  # Of a slot.
KNOWN = (7, 90, 300)
UBATCH = 64


@dataclasses.dataclass
class Tally:
    """What has become of the requests so far. Any thread may add to it."""
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    seconds: list = dataclasses.field(default_factory=list)
    left: int = 0
    problems: list = dataclasses.field(default_factory=list)
    hangs: int = 0

    def answered(self, seconds):
        with self.lock:
            self.seconds.append(seconds)

    def was_left(self):
        with self.lock:
            self.left += 1

    def failed(self, what, is_hang=False):
        with self.lock:
            self.problems.append(what)
            self.hangs += is_hang


def request(server, seed, tally):
    """One of random lengths; `seed` decides everything about it."""
    source = random.Random(seed)
    # Most are short, some fill several ubatches.
    length = int(LONGEST_PROMPT ** source.random()) + 1
    tokens = source.randint(1, LONGEST_REPLY)
    prompt = prompt_of(length, seed, VOCABULARY)
    began = now()
    try:
        if source.random() < LEFT_SHARE:
            leave(server, prompt)
            tally.was_left()
            return
        reply = server.complete(prompt, tokens, REQUEST_LIMIT_S, n_probs=0,
                                cache_prompt=source.random() < 0.5)
        tally.answered(now() - began)
        if (len(reply["tokens"]), reply["evaluated"]) != (tokens, length):
            tally.failed(f"{seed}: {tokens} of {length} tokens asked for, got {reply}")
    except TimeoutError:
        tally.failed(f"{seed}: no answer in {REQUEST_LIMIT_S} s", is_hang=True)
    except (OSError, EOFError, AssertionError) as problem:
        tally.failed(f"{seed}: {problem}")


def leave(server, prompt):
    """Asks for a stream and goes away after its first event."""
    with rpc_cluster.Connection(server.port, limit_s=REQUEST_LIMIT_S) as connection:
        connection.send("POST", "/completion", completion_body(prompt, 200, stream=True))
        for _ in connection.events():
            connection.reset()
            return


def known_answers(server):
    return [server.complete(prompt_of(length, "known", VOCABULARY), 8, REQUEST_LIMIT_S)
            for length in KNOWN]


def wait_until_idle(server):
    """Requests that were left may still run."""
    rpc_cluster.until(lambda: not any(slot["is_processing"]
                                      for slot in server.get("/slots").json()),
                      "all slots are free", REQUEST_LIMIT_S)


def soak(server, requests, slots, seed):
    tally = Tally()
    expected = known_answers(server)
    with concurrent.futures.ThreadPoolExecutor(slots + 1) as threads:
        for start in range(0, requests, ROUND):
            numbers = range(start, min(start + ROUND, requests))
            list(threads.map(lambda number: request(server, f"{seed} {number}", tally), numbers))
            if tally.hangs or not server.is_running():
                break
            try:
                wait_until_idle(server)
                if known_answers(server) != expected:
                    tally.failed(f"after {numbers[-1] + 1} requests a known one is answered "
                                 "otherwise")
            except (OSError, EOFError, AssertionError) as problem:
                tally.failed(f"a known request: {problem}")
    return tally


def summary(workers, tally, seconds):
    p50, p95 = rpc_cluster.quantiles(tally.seconds or [0], 0.5, 0.95)
    return (f"{workers} workers: {len(tally.seconds) + tally.left} requests in {seconds:.0f} s, "
            f"{tally.left} of them left; {len(tally.problems)} failures, {tally.hangs} hangs; "
            f"p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms, "
            f"max {max(tally.seconds or [0]) * 1000:.0f} ms")


def run(cluster, workers, options):
    """True if nothing failed."""
    endpoints = [cluster.worker(number).endpoint for number in range(workers)]
    server = cluster.serve(options.client, cluster.model(MODEL), endpoints, parallel=options.slots,
                           ctx_size=CONTEXT * options.slots, ubatch_size=UBATCH, cache_ram=0,
                           slots="")
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        server.wait_until_ready()
        began = now()
        tally = soak(server, options.requests, options.slots, options.seed)
        print(summary(workers, tally, now() - began), flush=True)
        if server.is_running() and not tally.hangs and server.stop() != 0:
            tally.failed(f"llama-server ended with {server.process.returncode}")
        if tally.problems:
            print("\n".join(tally.problems[:20]), file=sys.stderr)
            rpc_cluster.show_logs(cluster)
        return not tally.problems


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="for each number of workers")
    parser.add_argument("--workers", default="3,4", help="numbers of workers (%(default)s)")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--client", choices=(rpc_cluster.STOCK, rpc_cluster.PIPELINED),
                        default=TESTED)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with Cluster() as cluster:
        good = [run(cluster, int(count), options) for count in options.workers.split(",")]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
