"""For tests with several models in one memory: models of a size, and a look at which engines live."""

import collections
import contextlib
import pathlib
import re
import sys
import threading

from harness import is_running

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "models"))
import architectures  # noqa: E402
import gguf_writer  # noqa: E402

MIB = 2**20


def write_sized(file, mib):
    """A model whose weights take that much, as a sparse file: a true header and no weights."""
    width, layers, heads, kv_heads, length = 1024, 4, 8, 2, 128
    attention = 2 * width * length * (heads + kv_heads)
    weights = mib * MIB * 32 // 34 // layers  # Q8_0: 34 bytes for 32 numbers.
    feed_forward = (weights - attention) // (3 * width) // 32 * 32
    numbers = {"layers": layers, "embedding": width, "heads": heads, "kv_heads": kv_heads,
               "head_length": length, "feed_forward": feed_forward, "vocabulary": 512,
               "context": 8192}
    gguf_writer.write_sparse(file, *architectures.llama(numbers, lambda name, layer: "Q8_0"))


def write_random(file, layers, width, feed_forward, vocabulary):
    """A model that an engine can compute, with weights drawn by lot."""
    numbers = {"layers": layers, "embedding": width, "heads": width // 64, "kv_heads": 2,
               "head_length": 64, "feed_forward": feed_forward, "vocabulary": vocabulary,
               "context": 8192}
    gguf_writer.write(file, *architectures.llama(numbers, lambda name, layer: "Q8_0"))


def children_of(pid):
    """Its child processes."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def engines_of(yoke):
    """The living engines by model, also those that are about to end: {name: [pid]}."""
    found = collections.defaultdict(list)
    for pid in children_of(yoke.pid):
        with contextlib.suppress(OSError):
            arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            if "--alias" in arguments and is_running(pid):
                found[arguments[arguments.index("--alias") + 1]].append(pid)
    return found


def resident_bytes(pid):
    """Of a process and its descendants; shared pages count in parts (PSS)."""
    with contextlib.suppress(OSError):
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        if found := re.search(r"^Pss:\s+(\d+) kB", rollup, re.M):
            return int(found[1]) * 1024 + sum(map(resident_bytes, children_of(pid)))
    return 0


class Watch:
    """Calls `look` all the time, every `interval_s`, until the end of its block."""

    def __init__(self, look, interval_s):
        self.look, self.interval_s = look, interval_s
        self.samples = 0
        self.problem = None
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.ending.wait(self.interval_s):
            try:
                self.look()
            except Exception as problem:  # Shown at the end of the block.
                self.problem = problem
                return
            self.samples += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        if self.problem is not None:
            raise self.problem


class EngineWatch(Watch):
    """Which engines were there at once."""

    def __init__(self, yoke):
        super().__init__(self._look_at_engines, 0.003)
        self.yoke = yoke
        self.seen = set()  # Of tuples of models' names, one for each process.

    def _look_at_engines(self):
        engines = engines_of(self.yoke)
        self.seen.add(tuple(sorted(name for name, pids in engines.items() for _ in pids)))
