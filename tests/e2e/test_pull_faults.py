"""`yoke pull` when something goes wrong: servers, connections, its own end, the disk."""

import contextlib
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from harness import die_with_parent, until
from pull_case import LIMIT_S, MB, Faults, PullTestCase, gguf


def may_mount():
    """As root, of the machine or of a namespace of its own: see the end of this file."""
    with tempfile.TemporaryDirectory() as directory:
        mounted = mount("-t", "tmpfs", "tmpfs", directory)
        if mounted:
            subprocess.run(["umount", "-l", directory], check=True)
        return mounted


def mount(*arguments):
    return shutil.which("mount") is not None and subprocess.run(
        ["mount", *arguments], capture_output=True, check=False).returncode == 0


class SmallDisk:
    def __init__(self, directory, size):
        self.directory = pathlib.Path(directory)
        self.size = size
        self.ballast = self.directory / "ballast"
        self.mounted = mount("-t", "tmpfs", "-o", f"size={size + MB}", "tmpfs", directory)
        if self.mounted:
            self.ballast.write_bytes(bytes(MB))

    def confined(self):
        """Options of Popen for who shall not write more."""
        def confine():
            die_with_parent()
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))

        return {} if self.mounted else {"preexec_fn": confine}

    def fill(self, pid):
        """While that process writes."""
        if not self.mounted:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, 4096))
            return
        with contextlib.suppress(OSError), open(self.ballast, "ab", 0) as file:
            while True:
                file.write(bytes(4096))

    def grow(self):
        self.ballast.unlink(missing_ok=True)

    def close(self):
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.directory)], check=True)


class ServersTest(PullTestCase):
    def test_wait_as_the_server_asks(self):
        for fault in ({"retry_after": "1"}, {"retry_after": "date:2"},
                      {"rate_limit": '"resolvers";r=0;t=1'}):
            with self.subTest(**fault):
                shutil.rmtree(self.models, ignore_errors=True)
                self.hub.faults = Faults(status=429, status_times=1, **fault)
                began = time.monotonic()
                self.check_tiny(self.get())
                self.assertGreaterEqual(time.monotonic() - began, 0.9)

    def test_a_server_that_asks_for_too_long(self):
        self.hub.faults = Faults(status=429, status_times=100, retry_after="86400")
        self.check_failure(self.pull(), "no more requests", "HF_TOKEN")

    def test_errors_of_servers_pass(self):
        self.hub.faults = Faults(status=503, status_times=3, api_status=502, api_status_times=2)
        self.check_tiny(self.get())
        self.assertTrue(any("502" in note for note in self.notes()), self.notes())

    def test_a_wrong_byte(self):
        self.hub.faults = Faults(wrong_byte=True)
        self.check_failure(self.pull(), "damaged", "removed")
        self.check_nothing_partial()
        self.assertEqual(list(self.models.rglob("*.gguf")), [])
        self.hub.faults = Faults()
        self.check_tiny(self.get())

    def test_a_server_without_ranges(self):
        self.hub.faults = Faults(no_ranges=True)
        self.check_tiny(self.get())
        shutil.rmtree(self.models)
        self.hub.faults = Faults(no_ranges=True, cut_at_random=3)
        self.check_tiny(self.get())

    def test_a_server_that_says_nothing_of_the_file(self):
        self.hub.plain["/a.gguf"] = self.content
        for faults in (Faults(no_ranges=True, no_etag=True, no_length=True), Faults(no_etag=True)):
            shutil.rmtree(self.models, ignore_errors=True)
            self.hub.faults = faults
            self.check_file(self.get(f"{self.hub.files_url}/a.gguf")["path"], self.content)

    def test_a_server_that_always_cuts(self):
        self.hub.faults = Faults(cut_always=True)
        self.check_tiny(self.get())
        shutil.rmtree(self.models)
        self.hub.faults = Faults(cut_always=True, no_ranges=True)
        self.check_failure(self.pull(), "cut")

    def test_a_stalled_connection(self):
        self.hub.faults = Faults(stall=2)
        self.check_tiny(self.get())
        self.assertEqual(self.hub.faults.stall, 0)

    def test_a_change_while_it_was_cut(self):
        self.cut_in_the_middle()
        changed = gguf(8 * MB, 5)
        self.hub.put("org/tiny-GGUF", "tiny-Q4_K_M.gguf", changed)
        self.check_file(self.get()["path"], changed)
        self.assertTrue(any("changed at its source" in note for note in self.notes()), self.notes())

    def test_two_at_once(self):
        self.hub.faults = Faults(bytes_per_second=MB)
        with self.start("hf:org/tiny-GGUF") as first:
            until(lambda: list(self.models.rglob("*.part")), "the first one writes")
            self.check_failure(self.pull(), "models")
            first.send_signal(signal.SIGINT)
            first.communicate(timeout=LIMIT_S)


class EndsTest(PullTestCase):
    """Whatever ends a pull, the next one goes on."""

    def check_going_on(self):
        before = self.hub.sent("files")
        self.check_tiny(self.get())
        self.assertLess(self.hub.sent("files") - before, len(self.content) - MB)
        self.assertTrue(any("going on" in note for note in self.notes()), self.notes())

    def test_interrupt_and_go_on(self):
        self.check_failure(self.cut_in_the_middle(signal.SIGINT), "Interrupted", "again", code=130)
        self.check_going_on()

    def test_termination_and_go_on(self):
        self.check_failure(self.cut_in_the_middle(signal.SIGTERM), "Interrupted", code=130)
        self.check_going_on()

    def test_kill_and_go_on(self):
        self.cut_in_the_middle()
        self.check_going_on()

    def test_damaged_state_begins_anew(self):
        self.cut_in_the_middle()
        for damage in (b"", b"{", b'{"bytes":1}', b"\xff",
                       b'{"bytes":-1,"mark":"x","done":[[5,1]]}'):
            with self.subTest(damage=damage):
                models = self.sandbox.directory / f"damaged-{damage.hex()}"
                shutil.copytree(self.models, models)
                next(models.rglob("*.part.json")).write_bytes(damage)
                self.check_file(self.get(models=models)["path"], self.content)
                self.check_nothing_partial(models)

    def test_killed_at_random_points(self):
        """Each pull is killed twice and then completed, until 50 have been killed."""
        chance = random.Random(6)
        began = time.monotonic()
        self.get(models=self.models / "warm")
        usual = time.monotonic() - began
        killed = 0
        for number in range(50):
            if killed >= 50:
                break
            models = self.models / str(number)
            for _ in range(2):
                with self.start("hf:org/tiny-GGUF", models=models) as process:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(chance.uniform(0, usual))
                    process.kill()
                    process.communicate(timeout=LIMIT_S)
                killed += process.returncode == -signal.SIGKILL
            self.check_file(self.get(models=models)["path"], self.content)
            self.check_nothing_partial(models)
            shutil.rmtree(models)
        self.assertGreaterEqual(killed, 50)

    def test_cut_at_random_points(self):
        """Five connections of each pull are cut: 50 points in all."""
        for number in range(10):
            models = self.models / str(number)
            self.hub.faults = Faults(cut_at_random=5)
            self.check_file(self.get(models=models)["path"], self.content)
            self.assertEqual(self.hub.faults.cut_at_random, 0)
            self.check_nothing_partial(models)
            shutil.rmtree(models)


class FullDiskTest(PullTestCase):
    @contextlib.contextmanager
    def small_disk(self, size):
        """Yields a disk of that size, or where none can be mounted, files of that size at most."""
        disk = SmallDisk(tempfile.mkdtemp(prefix="disk-", dir=self.sandbox.directory), size)
        try:
            yield disk
        finally:
            disk.close()

    def test_a_full_disk_of_any_size(self):
        content = gguf(200_000, 9)
        self.hub.put("org/small-GGUF", "small-Q4_0.gguf", content)
        ends = set()
        for size in range(4096, 480_000, 16_384):
            with self.subTest(size=size), self.small_disk(size) as disk:
                done = self.pull("hf:org/small-GGUF", models=disk.directory, **disk.confined())
                ends.add(done.returncode)
                if done.returncode != 0:
                    self.check_failure(done)
                    self.assertRegex(done.stderr, "(?i)space|missing|full|too large")
                    disk.grow()
                model = self.get("hf:org/small-GGUF", models=disk.directory)
                self.check_file(model["path"], content)
                self.check_nothing_partial(disk.directory)
        self.assertEqual(ends, {0, 1})

    def test_a_disk_that_fills_meanwhile(self):
        with self.small_disk(24 * MB) as disk:
            self.hub.faults = Faults(bytes_per_second=MB // 2)
            with self.start("hf:org/tiny-GGUF", models=disk.directory) as process:
                until(lambda: list(disk.directory.rglob("*.part")), "it writes")
                disk.fill(process.pid)
                output, errors = process.communicate(timeout=LIMIT_S)
            self.hub.faults = Faults()
            done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
            self.check_failure(done)
            self.assertRegex(done.stderr, "space|too large")
            disk.grow()
            self.check_file(self.get(models=disk.directory)["path"], self.content)

    def test_a_limit_on_the_size_of_files(self):
        for limit in (0, 1, 4096, 100_000, 5 * MB):
            with self.subTest(limit=limit):
                def confine(most=limit):
                    die_with_parent()
                    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

                shutil.rmtree(self.models, ignore_errors=True)
                done = self.pull(preexec_fn=confine)
                self.assertEqual(done.returncode, 1, done)
                self.check_tiny(self.get())

    def test_too_little_space_is_said_first(self):
        entries = self.hub.tree("org/tiny-GGUF")
        entries[0]["size"] = entries[0]["lfs"]["size"] = 10**18  # More than any disk has.
        self.hub.trees["org/tiny-GGUF"] = entries
        self.check_failure(self.pull(), "1000000.0 TB", "are missing", "--models")
        self.assertLess(self.hub.sent("files"), 2 * MB)
        self.assertEqual(list(self.models.rglob("*.gguf*")), [])


if __name__ == "__main__":
    own_namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if not may_mount() and subprocess.run([*own_namespace, "true"], check=False).returncode == 0:
        if "YOKE_TEST_NAMESPACE" not in os.environ:
            os.environ["YOKE_TEST_NAMESPACE"] = "1"
            os.execvp(own_namespace[0], [*own_namespace, sys.executable, *sys.argv])
    unittest.main()
