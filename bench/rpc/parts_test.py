#!/usr/bin/env python3
"""Tests the parts of the benches that need no engine."""

import bisect
import itertools
import tempfile
import unittest
from pathlib import Path

from ideal import split_evenly
from round_trips import COMMANDS, Requests, Traffic
from upload import LinkLog
from workers import Group, tensor_split


def layers_by_llama_cpp(shares: list[float], layers: int) -> list[int]:
    """How many of so many layers each worker gets, the output not counted."""
    ends = [end / sum(shares) for end in itertools.accumulate(shares)]
    owners = [bisect.bisect_right(ends, layer / (layers + 1)) for layer in range(layers)]
    return [owners.count(worker) for worker in range(len(shares))]


class TensorSplitTest(unittest.TestCase):
    def test_gives_the_layers_that_were_asked_for(self) -> None:
        for layers, workers in itertools.product((4, 5, 17, 32, 61), (2, 3, 4)):
            wanted = split_evenly(layers, workers)
            self.assertEqual(layers_by_llama_cpp(tensor_split(wanted), layers), wanted)


class GroupTest(unittest.TestCase):
    def written(self, version: int, cores: float | None) -> dict[str, str]:
        with tempfile.TemporaryDirectory() as directory:
            group = Group(Path(directory) / "group", version)
            group.prefer()
            group.let_children_divide()
            group.hold_to(cores, 10000)
            return {file.name: file.read_text() for file in group.path.iterdir()}

    def test_version_1(self) -> None:
        self.assertEqual(self.written(1, 0.4), {
            "cpu.shares": "262144", "cpu.cfs_period_us": "10000", "cpu.cfs_quota_us": "4000"})
        self.assertEqual(self.written(1, None)["cpu.cfs_quota_us"], "-1")

    def test_version_2(self) -> None:
        self.assertEqual(self.written(2, 0.4), {
            "cpu.weight": "10000", "cgroup.subtree_control": "+cpu", "cpu.max": "4000 10000"})
        self.assertEqual(self.written(2, None)["cpu.max"], "max 10000")


class RequestsTest(unittest.TestCase):
    STREAM = b"".join(bytes([COMMANDS.index(name)]) + len(data).to_bytes(8, "little") + data
                      for name, data in (("HELLO", b"x" * 24), ("DEVICE_COUNT", b""),
                                         ("SET_TENSOR", bytes(300)), ("GET_TENSOR", b"y" * 9)))

    def test_counts_however_the_stream_is_cut(self) -> None:
        for size in (1, 8, 9, 10, 33, len(self.STREAM)):
            requests = Requests()
            for start in range(0, len(self.STREAM), size):
                requests.take(self.STREAM[start:start + size])
            self.assertEqual(requests.counts, {"HELLO": 1, "DEVICE_COUNT": 1, "SET_TENSOR": 1,
                                               "GET_TENSOR": 1})

    def test_a_turn_is_an_answer_after_something_was_sent(self) -> None:
        traffic = Traffic()
        for received in (False, False, True, True, False, True):
            (traffic.to_client if received else traffic.to_worker)(b"")
        self.assertEqual(traffic.turns, 2)


class LinkLogTest(unittest.TestCase):
    def test_the_rate_is_that_of_the_upload(self) -> None:
        """A second of silence, ten with 100 bytes each, a second of silence."""
        log = LinkLog()
        log.points = [(0.0, 50), *[(1.0 + n / 10, 50 + 10 * n) for n in range(101)], (12.0, 1050)]
        self.assertEqual(log.bytes(), 1000)
        self.assertAlmostEqual(log.rate(), 100)


if __name__ == "__main__":
    unittest.main()
