"""libyoke-no-prefetch.so: what is mapped is not read before it is touched, and nothing else changes.

The environment names the library: NO_PREFETCH. The engine is that of `make engine`.
"""

import ctypes.util
import json
import os
import pathlib
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests/models"))
import architectures
import gguf_writer

LIBRARY = pathlib.Path(os.environ.get("NO_PREFETCH", "libyoke-no-prefetch.so")).absolute()
DATA_HOME = pathlib.Path(os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share")
LIMIT_S = 120
# Nearly all of it is experts, and a token needs 2 of 128.
MODEL = {
    "layers": 2, "embedding": 256, "heads": 8, "kv_heads": 2, "head_length": 64,
    "feed_forward": 768, "expert_feed_forward": 512, "experts": 128, "experts_used": 2,
    "vocabulary": 1024, "context": 4096,
}

# What the tests' programs begin with: calls of the C library as any program makes them.
CALLS = """
import ctypes, mmap, os, subprocess, sys
LIBC = ctypes.CDLL(None, use_errno=True)
FAILED = ctypes.c_void_p(-1).value
MAP_POPULATE, WILLNEED, RANDOM, DONTNEED = 0x8000, 3, 1, 4
PAGE = mmap.PAGESIZE

def map_memory(fd, size, flags, offset=0):
    call = getattr(LIBC, os.environ.get("MMAP", "mmap"))
    call.restype = ctypes.c_void_p
    return call(None, ctypes.c_size_t(size), mmap.PROT_READ, flags, fd, ctypes.c_long(offset))

def advise(address, size, advice):
    return LIBC.posix_madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), advice)

def resident(address, size):
    pages = (ctypes.c_ubyte * (-(-size // PAGE)))()
    assert LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages) == 0
    return sum(page & 1 for page in bytes(pages))

def open_file():
    return os.open(sys.argv[1], os.O_RDONLY), os.path.getsize(sys.argv[1])
"""

SIZE = 64 << 20


def environment(preloaded, **more):
    names = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return names | ({"LD_PRELOAD": str(LIBRARY)} if preloaded else {}) | more


class CallsTest(unittest.TestCase):
    def setUp(self):
        # Beside the library: temporary directories are often in memory, where nothing is read.
        directory = self.enterContext(tempfile.TemporaryDirectory(dir=LIBRARY.parent))
        self.file = pathlib.Path(directory) / "sparse"
        with self.file.open("wb") as file:
            file.truncate(SIZE)

    def run_program(self, program, preloaded=True, **more):
        done = subprocess.run([sys.executable, "-c", CALLS + program, self.file], timeout=LIMIT_S,
                              capture_output=True, text=True, env=environment(preloaded, **more))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.strip()

    def test_a_mapping_is_not_populated(self):
        program = """
fd, size = open_file()
address = map_memory(fd, size, mmap.MAP_SHARED | MAP_POPULATE)
print(resident(address, size))
"""
        pages = SIZE // resource.getpagesize()
        for function in ("mmap", "mmap64"):
            with self.subTest(function):
                self.assertEqual(self.run_program(program, MMAP=function), "0")
        self.assertEqual(self.run_program(program, preloaded=False), str(pages))

    def test_advice_to_read_all_is_ignored(self):
        program = """
fd, size = open_file()
address = map_memory(fd, size, mmap.MAP_SHARED)
assert advise(address, size, WILLNEED) == 0
print(resident(address, size))
"""
        self.assertEqual(self.run_program(program), "0")
        self.assertGreater(int(self.run_program(program, preloaded=False)), 0)

    def test_a_mapping_holds_what_the_file_does(self):
        self.file.write_bytes(os.urandom(5 * resource.getpagesize()))
        self.run_program("""
fd, size = open_file()
flags = mmap.MAP_SHARED | MAP_POPULATE
assert ctypes.string_at(map_memory(fd, size, flags), size) == open(sys.argv[1], "rb").read()
assert ctypes.string_at(map_memory(fd, PAGE, flags, 3 * PAGE), PAGE) == os.pread(fd, PAGE, 3 * PAGE)
""")

    def test_memory_without_a_file_is_populated(self):
        program = """
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_POPULATE
for fd in (-1, open_file()[0]):
    print(resident(map_memory(fd, 100 * PAGE, flags), 100 * PAGE))
"""
        self.assertEqual(self.run_program(program), "100\n100")

    def test_other_advice_and_errors_are_as_ever(self):
        program = """
fd, size = open_file()
address = map_memory(fd, size, mmap.MAP_SHARED)
ctypes.set_errno(77)
print(advise(address, size, RANDOM), advise(address, size, DONTNEED), advise(address, size, 99),
      advise(address + 1, size, RANDOM), advise(PAGE, PAGE, RANDOM), ctypes.get_errno())
for arguments in ((99, size, mmap.MAP_SHARED | MAP_POPULATE), (fd, 0, mmap.MAP_SHARED),
                  (fd, size, mmap.MAP_SHARED | MAP_POPULATE, 1)):
    print(map_memory(*arguments) == FAILED, ctypes.get_errno())
with open("/proc/self/smaps") as maps:
    flags = maps.read().split(sys.argv[1])[1].split("VmFlags:")[1].splitlines()[0]
print("rr" in flags.split())
"""
        answers = self.run_program(program)
        self.assertEqual(answers, self.run_program(program, preloaded=False))
        self.assertTrue(answers.endswith("True"), answers)

    def test_programs_that_are_started_do_without_it(self):
        program = 'print(os.environ.get("LD_PRELOAD"))\n'
        started = f"print(subprocess.check_output([sys.executable, '-c', {'import os; ' + program!r}],"
        started += " text=True).strip())\n"
        self.assertEqual(self.run_program(started), "None")
        # With another library it stays: that one may be wanted everywhere.
        both = f"{LIBRARY} {ctypes.util.find_library('m')}"
        self.assertEqual(self.run_program(started, LD_PRELOAD=both), both)


class ServerTest(unittest.TestCase):
    """llama-server with a model of which hardly anything is touched."""

    def setUp(self):
        engines = sorted(DATA_HOME.glob("yoke/engines/llama.cpp-*/cpu/llama-server"))
        self.assertTrue(engines, "no engine: make engine")
        self.server = engines[-1]
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.model = pathlib.Path(directory).resolve() / "model.gguf"
        gguf_writer.write(self.model, *architectures.qwen3moe(MODEL, lambda name, layer: "Q8_0"), 0)

    def ask(self, port, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data,
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=LIMIT_S) as reply:
            return json.load(reply)

    def wait_until_ready(self, process, port):
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                self.ask(port, "/health")
                return
            except (urllib.error.URLError, ConnectionError):
                self.assertIsNone(process.poll(), "llama-server ended")
                self.assertLess(time.monotonic(), deadline, "llama-server is not ready")
                time.sleep(0.05)

    def resident_share(self, process):
        maps = pathlib.Path(f"/proc/{process.pid}/smaps").read_text(encoding="utf-8")
        self.assertIn(str(self.model), maps)
        sizes = re.findall(rf"{re.escape(str(self.model))}\nSize: +(\d+) kB.*?\nRss: +(\d+) kB",
                           maps, re.DOTALL)
        return sum(int(rss) for _, rss in sizes) / sum(int(size) for size, _ in sizes)

    def load(self, preloaded):
        """Share of the model that is in the server's memory when it is ready, and an answer."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [self.server, "--model", self.model, "--host", "127.0.0.1", "--port", str(port),
                   "--load-mode", "mmap", "--no-warmup", "--ctx-size", "512", "--parallel", "1",
                   "--threads", "1", "--no-repack"]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(command, env=environment(preloaded), stdout=log,
                                       stderr=subprocess.STDOUT)
            try:
                self.wait_until_ready(process, port)
                share = self.resident_share(process)
                answer = self.ask(port, "/completion", {
                    "prompt": "The capital of France is", "n_predict": 8, "temperature": 0,
                    "n_probs": 3})
            finally:
                process.terminate()
                process.wait(timeout=30)
            log.seek(0)
            self.assertNotIn(b"madvise", log.read())
        return share, (answer["content"], answer["completion_probabilities"])

    def test_a_model_is_read_as_it_is_used(self):
        share, answer = self.load(preloaded=False)
        self.assertGreater(share, 0.9)
        lazy_share, lazy_answer = self.load(preloaded=True)
        self.assertLess(lazy_share, 0.5)
        self.assertTrue(answer[1])
        self.assertEqual(lazy_answer, answer)


if __name__ == "__main__":
    unittest.main()
