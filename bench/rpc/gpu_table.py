"""Prefill and decode through workers on GPUs (Vulkan), one or more on each: the stock client and
the pipelined one in turn. Models are made on the spot. Once the time is up no further run begins,
and the table shows what there is."""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import models
from ideal import split_evenly
from throughput import OF_STOCK, spread, table
from workers import PIPELINED, STOCK, Run, clients_of, engine_directory, fail, say_load, workers

PREFILL_GOAL, DECODE_GOAL = 4.5, 2.6  # Times stock, with four workers.
GOAL_WORKERS = 4
IN_MEMORY = Path("/dev/shm")
ROOM = 1 << 30  # To leave free.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--devices", type=int, nargs="+", default=[0, 1], metavar="N",
                        help="of Vulkan; workers go to them in turn (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    parser.add_argument("--models", nargs="+", default=list(models.GPU_LLAMAS),
                        choices=[*models.GPU_LLAMAS, "tiny"], metavar="NAME",
                        help=f"{', '.join(models.GPU_LLAMAS)}, or tiny to try the bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=3, help="in a round")
    parser.add_argument("--limit-s", type=float, default=540, help="of the whole (%(default)s)")
    parser.add_argument("--prompt", type=int, default=8192)
    parser.add_argument("--ubatch", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--split", choices=["even", "memory"], default="even",
                        help="of the layers; memory: llama.cpp's own, by the devices' free memory")
    parser.add_argument("--directory", type=Path,
                        help="for the models (in memory if there is room, else the temporary one)")
    parser.add_argument("--engine", type=Path, help="its directory")
    parser.add_argument("--stock-only", action="store_true")


@dataclass
class Rates:
    """Tokens/s, one for each repetition; of the repetitions of a round the median counts."""

    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)


def numbers_of(model: str) -> models.Numbers:
    return models.GPU_LLAMAS.get(model, models.CPU_LLAMA)


Results = dict[tuple[str, int, str], Rates]


@dataclass
class Bench:
    options: argparse.Namespace
    engine: Path
    directory: Path
    clients: list[str]
    begin: float
    longest_s: float = 0  # Of all runs so far.

    def is_time_up(self) -> bool:
        return time.monotonic() + self.longest_s > self.begin + self.options.limit_s

    def file(self, model: str) -> Path:
        return self.directory / f"{model}.gguf"

    def make_models(self) -> None:
        for name in self.options.models:
            started = time.monotonic()
            models.write_llama(self.file(name), numbers_of(name))
            size = self.file(name).stat().st_size
            print(f"{name}: {size / 1e9:.2f} GB in {time.monotonic() - started:.1f} s", flush=True)

    def split(self, model: str, workers: int) -> list[int]:
        layers = numbers_of(model)["layers"]
        return split_evenly(layers, workers) if self.options.split == "even" else []

    def measure(self, model: str, endpoints: list[str], client: str, rates: Rates) -> None:
        begin = time.monotonic()
        own = [f"RPC{number}" for number in range(len(endpoints))]  # No GPU of the client's own.
        run = Run(self.engine, self.file(model), endpoints, client, prompt=self.options.prompt,
                  tokens=self.options.decode, ubatch=self.options.ubatch,
                  repetitions=self.options.repetitions, more=["-dev", "/".join(own)],
                  split=self.split(model, len(endpoints)))
        if client == PIPELINED:  # Loads are not what is measured here.
            run.environment = {"YOKE_RPC_HASHES": str(self.directory / f"{model}.hashes")}
        found = []
        for test in run.tests():
            rate = statistics.median(test["samples_ts"][1:])
            (rates.prefill if test["n_prompt"] else rates.decode).append(rate)
            found.append(f"{'prefill' if test['n_prompt'] else 'decode'} {rate:.1f}")
        took = time.monotonic() - begin
        self.longest_s = max(self.longest_s, took)
        print(f"{time.monotonic() - self.begin:4.0f} s: {model}, {len(endpoints)} workers, "
              f"{client}: {', '.join(found)}, in {took:.1f} s", flush=True)

    def rounds(self, endpoints: list[str]) -> Results:
        results: Results = {(model, count, client): Rates() for model in self.options.models
                            for count in self.options.workers for client in self.clients}
        for number in range(self.options.rounds):
            turns = self.clients if number % 2 == 0 else self.clients[::-1]
            for model in self.options.models:
                for count in self.options.workers:
                    for client in turns:
                        if self.is_time_up():
                            return results
                        rates = results[model, count, client]
                        self.measure(model, endpoints[:count], client, rates)
        return results


def directory_for(bytes_: int) -> Path:
    for directory in (IN_MEMORY, Path(tempfile.gettempdir())):
        if directory.is_dir() and shutil.disk_usage(directory).free > bytes_ + ROOM:
            return directory
    fail(f"no room for models of {bytes_ / 1e9:.1f} GB: tell --directory")
    return IN_MEMORY


def check_devices(logs: list[Path]) -> None:
    for log in logs:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()
                 if line.startswith("ggml_vulkan: 0 = ")]
        if not lines:
            fail(f"a worker found no device of Vulkan:\n{log.read_text()[-1000:]}")
        print(f"{log.stem}: {lines[-1]}", flush=True)


def report(bench: Bench, results: Results) -> None:
    met = True
    for what, goal in (("prefill", PREFILL_GOAL), ("decode", DECODE_GOAL)):
        rows = []
        for model in bench.options.models:
            for count in bench.options.workers:
                rates = [getattr(results[model, count, client], what) for client in bench.clients]
                if not all(rates):
                    continue
                row = [model, str(count), *[f"{statistics.median(one):.1f}" for one in rates]]
                if len(rates) > 1:
                    ratios = [other / stock for stock, other in zip(*rates, strict=False)]
                    row.append(spread(ratios, 2))
                    wanted = goal if count == GOAL_WORKERS else OF_STOCK
                    met = met and statistics.median(ratios) >= wanted
                rows.append([*row, str(min(map(len, rates)))])
        ratio = [f"{PIPELINED} / {STOCK}"] if len(bench.clients) > 1 else []
        if not rows:
            continue
        print(f"\n{what.capitalize()}, tokens/s")
        table(["model", "workers", *bench.clients, *ratio, "rounds"], rows)
    print(f"\nGoal of {PREFILL_GOAL} times stock in prefill and {DECODE_GOAL} in decode with "
          f"{GOAL_WORKERS} workers, and never under {OF_STOCK} of stock: "
          f"{'met' if met else 'MISSED'}")


def main(options: argparse.Namespace) -> None:
    begin = time.monotonic()
    engine = options.engine or engine_directory("vulkan")
    clients = clients_of(engine, options.stock_only)
    say_load()
    most = max(options.workers)
    devices = options.devices
    environments = [{"GGML_VK_VISIBLE_DEVICES": str(devices[number % len(devices)])}
                    for number in range(most)]
    room = sum(models.size_of(numbers_of(model)) for model in options.models)
    directory = options.directory or directory_for(room)
    with tempfile.TemporaryDirectory(prefix="yoke-bench-", dir=directory) as name:
        bench = Bench(options, engine, Path(name), clients, begin)
        bench.make_models()
        logs = [bench.directory / f"worker {number}.log" for number in range(most)]
        with workers(engine, most, threads=4, environments=environments, logs=logs) as started:
            check_devices(logs)
            report(bench, bench.rounds([worker.endpoint for worker in started]))
