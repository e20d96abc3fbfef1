"""A long prompt through CPU workers over a limited link: what the attention masks cost when they
are sent whole, and as what they are made of."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import models
from ideal import split_evenly
from link import enter_namespace, limit_link
from throughput import spread, table
from workers import PIPELINED, STOCK, Run, clients_of, engine_directory, fail, say_load, workers

WHOLE = "pipelined, masks whole"
# A layer for each of four workers, so that the two cores of this bench are not all that is waited
# for.
MODEL = models.CPU_LLAMA | {"layers": 4, "feed_forward": 1024}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mbit", type=int, default=1000,
                        help="of the link that all workers share, Mbit/s (%(default)s)")
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, nargs="+", default=[4096, 16384], metavar="TOKENS")
    parser.add_argument("--ubatch", type=int, default=512, help="tokens (%(default)s)")
    parser.add_argument("--engine", type=Path, help="its directory")


@dataclass
class Found:
    rate: list[float] = field(default_factory=list)  # Tokens/s.
    sent: list[float] = field(default_factory=list)  # MB over the link for a prompt, both ways.


def link_mb() -> float:
    """What has passed the namespace's loopback."""
    (line,) = (line for line in Path("/proc/net/dev").read_text().splitlines()
               if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0]) / 1e6


def measure(run: Run, found: Found) -> None:
    """The first prompt of two warms up, which costs the link as much, and so does a load, of which
    a run with a short prompt tells how much."""
    short = Run(**{**vars(run), "prompt": 16})
    before = link_mb()
    short.seconds()
    load = link_mb() - before
    seconds = statistics.median(run.seconds())
    prompts = run.repetitions + 1
    found.rate.append(run.prompt / seconds)
    found.sent.append((link_mb() - before - 2 * load) / prompts)


def main(options: argparse.Namespace) -> None:
    enter_namespace()
    limit_link(options.mbit)
    engine = options.engine or engine_directory("cpu")
    if PIPELINED not in clients_of(engine, stock_only=False):
        fail("no pipelined client")
    say_load()
    ways = {STOCK: (STOCK, {}), WHOLE: (PIPELINED, {"YOKE_RPC_MASKS": "whole"}),
            PIPELINED: (PIPELINED, {})}
    results = {(prompt, way): Found() for prompt in options.prompt for way in ways}
    with (tempfile.TemporaryDirectory(prefix="yoke-bench-") as directory,
          workers(engine, options.workers, pinned=True) as started):
        file = Path(directory) / "model.gguf"
        models.write_llama(file, MODEL)
        for number in range(options.rounds):
            turns = list(ways) if number % 2 == 0 else list(ways)[::-1]
            for prompt in options.prompt:
                for way in turns:
                    client, environment = ways[way]
                    run = Run(engine, file, [one.endpoint for one in started], client, prompt,
                              ubatch=options.ubatch, repetitions=1,
                              split=split_evenly(MODEL["layers"], options.workers),
                              environment=environment)
                    measure(run, results[prompt, way])
    rows = []
    for (prompt, way), found in results.items():
        ratios = [own / stock for own, stock in
                  zip(found.rate, results[prompt, STOCK].rate, strict=True)]
        rows.append([str(prompt), way, f"{statistics.median(found.sent):.0f}",
                     f"{statistics.median(found.rate):.0f}", spread(ratios, 2)])
    print(f"\n{options.workers} workers, link of {options.mbit} Mbit/s, medians of "
          f"{options.rounds} rounds")
    table(["prompt", "client", "MB over the link", "tokens/s", "to stock"], rows)
