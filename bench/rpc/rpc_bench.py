#!/usr/bin/env python3
"""Measures the pipelined RPC client against the stock one and against the ideal.

    rpc_bench.py [throughput]   prefill and decode through 1 to 4 CPU workers
    rpc_bench.py upload         loading through workers with caches, over a limited link
    rpc_bench.py masks          a long prompt over a limited link, and what its masks cost
    rpc_bench.py round-trips    what a token costs in messages and round trips
    rpc_bench.py gpu            prefill and decode through workers on GPUs (Vulkan)

--help behind each tells its options. It needs `make engine`; throughput, upload and masks need root. A
missed goal is reported but is no failure, because it also depends on the machine.
"""

from __future__ import annotations

import argparse
import signal
import sys

import gpu_table
import masks
import round_trips
import throughput
import upload

COMMANDS = {"throughput": throughput, "upload": upload, "masks": masks,
            "round-trips": round_trips, "gpu": gpu_table}


def main() -> None:
    arguments = sys.argv[1:]
    name = "throughput"
    if arguments and arguments[0] in COMMANDS:
        name = arguments.pop(0)
    elif arguments and arguments[0] in ("-h", "--help"):
        sys.exit(__doc__.strip())
    parser = argparse.ArgumentParser(prog=f"rpc_bench.py {name}",
                                     description=COMMANDS[name].__doc__)
    COMMANDS[name].add_arguments(parser)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("rpc_bench: stopped"))  # And cleaned up.
    COMMANDS[name].main(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
