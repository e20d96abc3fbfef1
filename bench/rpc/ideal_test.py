#!/usr/bin/env python3
"""Tests ideal.py."""

import unittest

from ideal import Cost, makespan, prompt_seconds, split_evenly


class CostTest(unittest.TestCase):
    def test_fit_finds_the_line_behind_two_totals(self) -> None:
        cost = Cost(1.25, 0.125)
        found = Cost.fitted(4, cost.total(4), 8, cost.total(8))
        self.assertAlmostEqual(found.a, cost.a)
        self.assertAlmostEqual(found.b, cost.b)

    def test_total_is_the_sum_of_the_ubatches(self) -> None:
        cost = Cost(2, 3)
        self.assertEqual(cost.total(5), sum(cost.at(ubatch) for ubatch in range(5)))

    def test_growth_and_total_tell_it_too(self) -> None:
        cost = Cost(1.25, 0.125)
        found = Cost.that_grows(cost.b / cost.a, 8, cost.total(8))
        self.assertAlmostEqual(found.a, cost.a)
        self.assertAlmostEqual(found.b, cost.b)


class MakespanTest(unittest.TestCase):
    def test_one_stage_does_all_in_turn(self) -> None:
        self.assertEqual(makespan([[1, 2, 3]]), 6)

    def test_equal_stages_fill_and_drain_once(self) -> None:
        self.assertEqual(makespan([[1] * 8] * 4), 8 + 3)

    def test_the_slowest_stage_sets_the_pace(self) -> None:
        self.assertEqual(makespan([[1] * 4, [3] * 4, [1] * 4]), 1 + 4 * 3 + 1)

    def test_ubatches_that_grow(self) -> None:
        # The second stage waits for each ubatch: 1, then 1 + 2 + 4, and ends after its own 4.
        self.assertEqual(makespan([[1, 2, 4], [1, 2, 4]]), 11)

    def test_prompt(self) -> None:
        self.assertEqual(prompt_seconds([Cost(1, 0), Cost(1, 0)], 8), 9)


class SplitTest(unittest.TestCase):
    def test_the_first_get_what_is_left_over(self) -> None:
        self.assertEqual([split_evenly(17, workers) for workers in (1, 2, 3, 4)],
                         [[17], [9, 8], [6, 6, 5], [5, 4, 4, 4]])


if __name__ == "__main__":
    unittest.main()
