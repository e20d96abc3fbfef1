"""Prefill and decode through N CPU workers of equal speed: the stock client, the pipelined client,
and the ideal for the split."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import models
from ideal import Cost, prompt_seconds, split_evenly
from link import enter_namespace, limit_link
from workers import (
    STOCK,
    Groups,
    Run,
    Worker,
    clients_of,
    engine_directory,
    fail,
    groups,
    say_load,
    workers,
)

OF_IDEAL = 0.90
OF_STOCK = 0.98  # Not slower: what the stock client differs from itself by on a quiet machine.
LAYERS = models.CPU_LLAMA["layers"]
KEPT_BUSY = 0.8  # Of all cores, by workers.
DECODE_PASSES = 4  # In a round: they are short.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3, 4], metavar="N")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=2,
                        help="of each measurement of a round, after one that warms up")
    parser.add_argument("--quota", type=float, default=0.4,
                        help="of a core for each worker in prefill (%(default)s)")
    parser.add_argument("--period-ms", type=float, default=10, help="of the quota (%(default)s)")
    parser.add_argument("--prompt", type=int, default=2048, help="tokens (%(default)s)")
    parser.add_argument("--ubatch", type=int, default=256, help="tokens (%(default)s)")
    parser.add_argument("--decode", type=int, default=64, help="tokens (%(default)s)")
    parser.add_argument("--mbit", type=int, help="of a link that all workers share, Mbit/s; "
                        "without it the loopback as it is")
    parser.add_argument("--engine", type=Path, help="its directory")
    parser.add_argument("--stock-only", action="store_true",
                        help="stock against stock: how noisy the method is")
    parser.add_argument("--verbose", action="store_true", help="show each round")


@dataclass
class Prefill:
    """What one run of llama-bench gave."""

    rate: float         # Tokens/s.
    cpu_s: list[float]  # That each worker used for a prompt.


@dataclass
class Round:
    """Of both clients, in the order of Bench.clients."""

    growth: float  # Of an ubatch's time with its place: b / a.
    prefill: dict[int, list[Prefill]] = field(default_factory=dict)
    decode: dict[int, list[list[float]]] = field(default_factory=dict)  # Tokens/s, of each pass.


class Bench:
    def __init__(self, options: argparse.Namespace, clients: list[str], engine: Path,
                 file: Path, own: Groups, started: list[Worker]) -> None:
        self.options = options
        self.clients = clients
        self.engine = engine
        self.file = file
        self.groups = own
        self.workers = started
        self.load_s: dict[tuple[int, str], list[float]] = {}
        models.write_llama(file, models.CPU_LLAMA)

    def run(self, cluster: list[Worker], client: str, *, prompt: int = 0, tokens: int = 0) -> Run:
        return Run(self.engine, self.file, [one.endpoint for one in cluster],
                   client, prompt, tokens, self.options.ubatch, self.options.repetitions,
                   split_evenly(LAYERS, len(cluster)), own=self.groups.controller)

    def try_split(self, count: int, client: str) -> None:
        """Fails if llama.cpp splits otherwise. What the workers use for next to no prompt is what
        a load costs them."""
        cluster = self.workers[:count]
        before = cpu_s(cluster)
        run = self.run(cluster, client, prompt=16)
        run.more = ["-v"]
        wanted = [f"RPC{worker}" for worker, layers in enumerate(run.split)
                  for _ in range(layers)]
        if run.layers_on()[:LAYERS] != wanted:
            fail(f"llama.cpp did not split {LAYERS} layers as {run.split}")
        self.load_s[count, client] = differences(before, cpu_s(cluster))

    def quota(self, cores: float | None) -> None:
        self.groups.hold_workers_to(cores, round(1000 * self.options.period_ms))

    def prefill(self, cluster: list[Worker], client: str, prompt: int) -> Prefill:
        before = cpu_s(cluster)
        seconds = statistics.median(self.run(cluster, client, prompt=prompt).seconds())
        used = differences(self.load_s[len(cluster), client], differences(before, cpu_s(cluster)))
        return Prefill(prompt / seconds, [one / (self.options.repetitions + 1) for one in used])

    def prefill_pair(self, count: int, turns: list[int]) -> list[Prefill]:
        """At the same time, each with workers of its own, if there are cores for that: then both
        have the same machine, whose speed changes."""
        prompt = self.options.prompt
        own = [self.workers[:count], self.workers[:count]]
        at_once = fits_twice(count, self.options.quota)
        if at_once:
            last = last_side_by_side(count)
            own[turns[1]] = self.workers[last - count:last]
        with ThreadPoolExecutor(2 if at_once else 1) as pool:
            found = {turn: pool.submit(self.prefill, own[turn], self.clients[turn], prompt)
                     for turn in turns}
            return [found[0].result(), found[1].result()]

    def growth(self) -> float:
        """From a prompt and half of it, by one worker."""
        whole, ubatches = self.options.prompt, self.options.prompt // self.options.ubatch
        half_s, whole_s = (self.prefill(self.workers[:1], STOCK, prompt).cpu_s[0]
                           for prompt in (whole // 2, whole))
        cost = Cost.fitted(ubatches // 2, half_s, ubatches, whole_s)
        return cost.b / cost.a

    def decode(self, count: int, client: str) -> float:
        run = self.run(self.workers[:count], client, tokens=self.options.decode)
        return self.options.decode / statistics.median(run.seconds())

    def round(self, number: int) -> Round:
        """The clients take turns, and the first of a round is the second of the next."""
        turns = [0, 1] if number % 2 == 0 else [1, 0]
        self.quota(self.options.quota)
        result = Round(self.growth())
        for count in self.options.workers:
            result.prefill[count] = self.prefill_pair(count, turns)
        self.quota(None)
        for count in self.options.workers:
            passes = result.decode.setdefault(count, [])
            for again in range(DECODE_PASSES):
                rates = {turn: self.decode(count, self.clients[turn])
                         for turn in (turns if again % 2 else turns[::-1])}
                passes.append([rates[0], rates[1]])
        return result

    def ideal(self, run: Prefill, growth: float) -> float:
        """Tokens/s, of workers that are never idle while there is something to do: a second of a
        worker's CPU time takes it 1 / quota seconds."""
        ubatches = self.options.prompt // self.options.ubatch
        stages = [Cost.that_grows(growth, ubatches, cpu / self.options.quota) for cpu in run.cpu_s]
        return self.options.prompt / prompt_seconds(stages, ubatches)


def fits_twice(count: int, quota: float) -> bool:
    return 2 * count * quota <= KEPT_BUSY * len(os.sched_getaffinity(0))


def last_side_by_side(count: int) -> int:
    """The workers that a second client needs beside so many begin with one on the first core."""
    cores = len(os.sched_getaffinity(0))
    return -(-count // cores) * cores + count


def cpu_s(cluster: list[Worker]) -> list[float]:
    return [worker.cpu_s() for worker in cluster]


def differences(before: list[float], after: list[float]) -> list[float]:
    return [late - early for early, late in zip(before, after, strict=True)]


# Report

def spread(values: list[float], digits: int = 3) -> str:
    return (f"{statistics.median(values):.{digits}f} "
            f"({min(values):.{digits}f} to {max(values):.{digits}f})")


def middle(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}"


def table(head: list[str], rows: list[list[str]]) -> None:
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def report(bench: Bench, rounds: list[Round]) -> bool:
    """Each ratio is that of one round."""
    other = "stock again" if bench.options.stock_only else "pipelined"
    growth = statistics.median([one.growth for one in rounds])
    met = True
    rows = []
    for count in bench.options.workers:
        stock, own = ([one.prefill[count][turn] for one in rounds] for turn in (0, 1))
        of_ideal = [[run.rate / bench.ideal(run, growth) for run in runs] for runs in (stock, own)]
        of_stock = [late.rate / early.rate for early, late in zip(stock, own, strict=True)]
        cpu = [sum(late.cpu_s) / sum(early.cpu_s) for early, late in zip(stock, own, strict=True)]
        met = met and (count == 1 or statistics.median(of_ideal[1]) >= OF_IDEAL)
        met = met and statistics.median(of_stock) >= OF_STOCK
        rows.append([str(count), "+".join(map(str, split_evenly(LAYERS, count))),
                     middle([run.rate for run in stock]), middle([run.rate for run in own]),
                     middle([bench.ideal(run, growth) for run in own]),
                     spread(of_ideal[0]), spread(of_ideal[1]), spread(of_stock), spread(cpu)])
    print(f"\nPrefill, tokens/s, medians of {len(rounds)} rounds (ratios: median, least to most)")
    table(["workers", "layers", "stock", other, "ideal", "stock / ideal", f"{other} / ideal",
           f"{other} / stock", "CPU time of all workers, to stock"], rows)

    rows = []
    for count in bench.options.workers:
        passes = [one for each in rounds for one in each.decode[count]]
        of_stock = [late / early for early, late in passes]
        met = met and statistics.median(of_stock) >= OF_STOCK
        rows.append([str(count), middle([early for early, _ in passes]),
                     middle([late for _, late in passes]), spread(of_stock)])
    print("\nDecode, tokens/s, without quotas")
    table(["workers", "stock", other, f"{other} / stock"], rows)

    last = bench.options.prompt // bench.options.ubatch - 1
    print(f"\nThe last ubatch takes {1 + growth * last:.2f} times the first.")
    return met


def show(bench: Bench, number: int, result: Round) -> None:
    prefill = ", ".join(
        f"{count}: " + " ".join(f"{run.rate:.1f} (ideal {bench.ideal(run, result.growth):.1f})"
                                for run in runs)
        for count, runs in result.prefill.items())
    decode = ", ".join(
        f"{count}: " + " ".join(f"{early:.1f} {late:.1f}" for early, late in passes)
        for count, passes in result.decode.items())
    print(f"round {number}: prefill {prefill}; growth {result.growth:.3f}; decode {decode}",
          flush=True)


def main(options: argparse.Namespace) -> None:
    if options.mbit is not None:
        enter_namespace()
        limit_link(options.mbit)
    engine = options.engine or engine_directory("cpu")
    clients = (clients_of(engine, options.stock_only) * 2)[:2]
    say_load()
    if options.prompt % (2 * options.ubatch) != 0:
        fail("a prompt has to be an even number of ubatches")
    most = max(last_side_by_side(count) if fits_twice(count, options.quota) else count
               for count in options.workers)
    with (tempfile.TemporaryDirectory(prefix="yoke-bench-") as directory, groups(most) as own,
          workers(engine, most, own=own.workers, pinned=True) as started):
        bench = Bench(options, clients, engine, Path(directory) / "model.gguf", own, started)
        for count in sorted({1, *options.workers}):
            for client in clients:
                bench.try_split(count, client)
        rounds = []
        for number in range(options.rounds):
            rounds.append(bench.round(number))
            if options.verbose:
                show(bench, number, rounds[-1])
        met = report(bench, rounds)
    print(f"\nGoal of {OF_IDEAL} of the ideal from 2 workers on, and never under {OF_STOCK} of "
          f"stock: {'met' if met else 'MISSED'}")
