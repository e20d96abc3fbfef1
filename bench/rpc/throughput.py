"""Prefill and decode through N CPU workers of equal speed: the stock client, the pipelined client,
and the ideal for the split."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import models
from ideal import Cost, ModelCost, prompt_seconds, split_evenly
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
DECODE_PASSES = 4  # In a round: they are short.
FEWER_LAYERS, BETWEEN = 5, 9  # Of the models that tell what a layer costs, and check it.


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
    parser.add_argument("--engine", type=Path, help="its directory")
    parser.add_argument("--stock-only", action="store_true",
                        help="stock against stock: how noisy the method is")
    parser.add_argument("--verbose", action="store_true", help="show each round")


@dataclass
class Pair:
    """Tokens/s of both clients in one round."""

    stock: float
    other: float
    workers_cpu_s: float = 0  # For a prompt, with the other client.


@dataclass
class Round:
    prefill: dict[int, Pair] = field(default_factory=dict)
    decode: dict[int, list[Pair]] = field(default_factory=dict)


class Bench:
    def __init__(self, options: argparse.Namespace, clients: list[str], engine: Path,
                 directory: Path, own: Groups, started: list[Worker]) -> None:
        self.options = options
        self.clients = clients
        self.engine = engine
        self.groups = own
        self.workers = started
        self.alone: dict[tuple[int, int], list[float]] = {}  # Seconds of one worker, by layers
        self.files: dict[int, Path] = {}                     # and tokens of the prompt.
        for layers in (FEWER_LAYERS, BETWEEN, LAYERS):
            self.files[layers] = directory / f"{layers}.gguf"
            models.write_llama(self.files[layers], models.CPU_LLAMA | {"layers": layers})

    def run(self, count: int, client: str = STOCK, layers: int = LAYERS, *, prompt: int = 0,
            tokens: int = 0) -> Run:
        return Run(self.engine, self.files[layers], [one.endpoint for one in self.workers[:count]],
                   client, prompt, tokens, self.options.ubatch, self.options.repetitions,
                   split_evenly(layers, count), own=self.groups.controller)

    def check_split(self, count: int) -> None:
        run = self.run(count, prompt=16)
        run.more = ["-v"]
        wanted = [f"RPC{worker}" for worker, layers in enumerate(run.split)
                  for _ in range(layers)]
        if run.layers_on()[:LAYERS] != wanted:
            fail(f"llama.cpp did not split {LAYERS} layers as {run.split}")

    def quota(self, cores: float | None) -> None:
        self.groups.hold_workers_to(cores, round(1000 * self.options.period_ms))

    def measure(self, count: int, layers: int, prompt: int, client: str = STOCK) -> float:
        seconds = self.run(count, client, layers, prompt=prompt).seconds()
        if count == 1 and client == STOCK:
            self.alone.setdefault((layers, prompt), []).extend(seconds)
        return statistics.median(seconds)

    def measure_stages(self) -> None:
        whole = self.options.prompt
        for layers, prompt in ((FEWER_LAYERS, whole // 2), (FEWER_LAYERS, whole), (BETWEEN, whole),
                               (LAYERS, whole // 2), (LAYERS, whole)):
            self.measure(1, layers, prompt)

    def cost(self, layers: int) -> Cost:
        """Of an ubatch on one worker."""
        whole, ubatches = self.options.prompt, self.options.prompt // self.options.ubatch
        return Cost.fitted(ubatches // 2, statistics.median(self.alone[layers, whole // 2]),
                           ubatches, statistics.median(self.alone[layers, whole]))

    def model(self) -> ModelCost:
        """From all that has been measured so far."""
        return ModelCost.of(FEWER_LAYERS, self.cost(FEWER_LAYERS), LAYERS, self.cost(LAYERS))

    def between(self) -> float:
        """What the model between takes, measured against computed."""
        ubatches = self.options.prompt // self.options.ubatch
        return (statistics.median(self.alone[BETWEEN, self.options.prompt])
                / self.model().model(BETWEEN).total(ubatches))

    def prefill(self, count: int, client: str) -> tuple[float, float]:
        """Tokens/s, and the CPU time of all workers for a prompt."""
        before = sum(worker.cpu_s() for worker in self.workers)
        seconds = self.measure(count, LAYERS, self.options.prompt, client)
        used = sum(worker.cpu_s() for worker in self.workers) - before
        return self.options.prompt / seconds, used / (self.options.repetitions + 1)

    def decode(self, count: int, client: str) -> float:
        run = self.run(count, client, tokens=self.options.decode)
        return self.options.decode / statistics.median(run.seconds())

    def decode_pair(self, count: int, turns: list[int]) -> Pair:
        rates = {turn: self.decode(count, self.clients[turn]) for turn in turns}
        return Pair(rates[0], rates[1])

    def round(self, number: int) -> Round:
        """The clients take turns, and the first of a round is the second of the next."""
        turns = [0, 1] if number % 2 == 0 else [1, 0]
        self.quota(self.options.quota)
        self.measure_stages()
        result = Round()
        for count in self.options.workers:
            found = {turn: self.prefill(count, self.clients[turn]) for turn in turns}
            result.prefill[count] = Pair(found[0][0], found[1][0], found[1][1])
        self.quota(None)
        for count in self.options.workers:
            result.decode[count] = [self.decode_pair(count, turns if again % 2 else turns[::-1])
                                    for again in range(DECODE_PASSES)]
        return result

    def ideal(self, count: int) -> float:
        """Tokens/s."""
        stages = self.model().stages(split_evenly(LAYERS, count))
        ubatches = self.options.prompt // self.options.ubatch
        return self.options.prompt / prompt_seconds(stages, ubatches)


# Report

def spread(values: list[float], digits: int = 3) -> str:
    return (f"{statistics.median(values):.{digits}f} "
            f"({min(values):.{digits}f} to {max(values):.{digits}f})")


def least_to_most(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def middle(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}"


def table(head: list[str], rows: list[list[str]]) -> None:
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def report(bench: Bench, rounds: list[Round]) -> bool:
    """Each ratio to stock is that of the same round."""
    other = "stock again" if bench.options.stock_only else "pipelined"
    met = True
    rows = []
    for count in bench.options.workers:
        pairs = [one.prefill[count] for one in rounds]
        ideal = bench.ideal(count)
        of_ideal = [pair.other / ideal for pair in pairs]
        of_stock = [pair.other / pair.stock for pair in pairs]
        alone = [one.prefill[min(bench.options.workers)].workers_cpu_s for one in rounds]
        cpu = [pair.workers_cpu_s / one for pair, one in zip(pairs, alone, strict=True)]
        met = met and (count == 1 or statistics.median(of_ideal) >= OF_IDEAL)
        met = met and statistics.median(of_stock) >= OF_STOCK
        rows.append([str(count), "+".join(map(str, split_evenly(LAYERS, count))), f"{ideal:.1f}",
                     middle([pair.stock for pair in pairs]), middle([pair.other for pair in pairs]),
                     spread(of_ideal), spread(of_stock), f"{statistics.median(cpu):.3f}"])
    print(f"\nPrefill, tokens/s, medians of {len(rounds)} rounds (ratios: median, least to most)")
    table(["workers", "layers", "ideal", "stock", other, f"{other} / ideal", f"{other} / stock",
           "CPU time of all workers"], rows)

    rows = []
    for count in bench.options.workers:
        pairs = [pair for one in rounds for pair in one.decode[count]]
        of_stock = [pair.other / pair.stock for pair in pairs]
        met = met and statistics.median(of_stock) >= OF_STOCK
        rows.append([str(count), middle([pair.stock for pair in pairs]),
                     middle([pair.other for pair in pairs]), spread(of_stock)])
    print("\nDecode, tokens/s, without quotas")
    table(["workers", "stock", other, f"{other} / stock"], rows)

    last = bench.options.prompt // bench.options.ubatch - 1
    model = bench.model()
    print(f"\nAlone, a layer takes {1000 * model.layer.a:.1f} ms of the first ubatch and "
          f"{1000 * model.layer.at(last):.1f} ms of the last, what is not a layer "
          f"{1000 * model.rest.a:.1f} and {1000 * model.rest.at(last):.1f} ms. A model of "
          f"{BETWEEN} layers, measured against computed: {bench.between():.3f}. One worker took "
          f"{least_to_most(bench.alone[LAYERS, bench.options.prompt])} s for the whole prompt.")
    return met


def show(bench: Bench, number: int, result: Round) -> None:
    def shown(count: int, pairs: list[Pair]) -> str:
        return f"{count}: " + " ".join(f"{pair.stock:.1f} {pair.other:.1f}" for pair in pairs)

    prefill = ", ".join(shown(count, [pair]) for count, pair in result.prefill.items())
    decode = ", ".join(shown(count, pairs) for count, pairs in result.decode.items())
    ideals = " ".join(f"{bench.ideal(count):.1f}" for count in result.prefill)
    print(f"round {number}: prefill {prefill}; ideal {ideals}; "
          f"decode {decode}; check {bench.between():.3f}", flush=True)


def main(options: argparse.Namespace) -> None:
    engine = options.engine or engine_directory("cpu")
    clients = (clients_of(engine, options.stock_only) * 2)[:2]
    say_load()
    if options.prompt % (2 * options.ubatch) != 0:
        fail("a prompt has to be an even number of ubatches")
    most = max(options.workers)
    with (tempfile.TemporaryDirectory(prefix="yoke-bench-") as directory, groups(most) as own,
          workers(engine, most, own=own.workers, pinned=True) as started):
        bench = Bench(options, clients, engine, Path(directory), own, started)
        for count in options.workers:
            bench.check_split(count)
        rounds = []
        for number in range(options.rounds):
            rounds.append(bench.round(number))
            if options.verbose:
                show(bench, number, rounds[-1])
        met = report(bench, rounds)
    print(f"\nGoal of {OF_IDEAL} of the ideal from 2 workers on, and never under {OF_STOCK} of "
          f"stock: {'met' if met else 'MISSED'}")
