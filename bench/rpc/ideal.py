"""The shortest time that a pipeline of stages can take for a prompt, from measured stage times.

A prompt of U ubatches goes through the stages one ubatch after the other. A stage works on one
ubatch at a time and in their order, so with t[i][u] as the time of stage i for ubatch u

    finish(i, u) = max(finish(i - 1, u), finish(i, u - 1)) + t[i][u]

and the prompt is done at finish(last stage, last ubatch). Transfers cost nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Seconds of an ubatch. Attention makes them grow with its place u in the prompt: a + b*u."""

    a: float
    b: float

    def at(self, ubatch: int) -> float:
        return self.a + self.b * ubatch

    def total(self, ubatches: int) -> float:
        return ubatches * self.a + ubatches * (ubatches - 1) / 2 * self.b

    @staticmethod
    def fitted(fewer: int, seconds_of_fewer: float, more: int, seconds_of_more: float) -> Cost:
        """From the times of two prompts, in ubatches."""
        of_one = seconds_of_fewer / fewer
        b = (seconds_of_more / more - of_one) / ((more - fewer) / 2)
        return Cost(of_one - b * (fewer - 1) / 2, b)

    @staticmethod
    def that_grows(growth: float, ubatches: int, seconds: float) -> Cost:
        """`growth`: b / a; `seconds`: of all ubatches."""
        unit = Cost(1, growth).total(ubatches)
        return Cost(seconds / unit, growth * seconds / unit)


def makespan(times: Sequence[Sequence[float]]) -> float:
    """`times[i][u]`: seconds of stage i for ubatch u."""
    finished = [0.0] * len(times[0])  # By the stage before.
    for stage in times:
        free = 0.0
        for ubatch, seconds in enumerate(stage):
            free = max(finished[ubatch], free) + seconds
            finished[ubatch] = free
    return finished[-1]


def prompt_seconds(stages: Sequence[Cost], ubatches: int) -> float:
    return makespan([[stage.at(ubatch) for ubatch in range(ubatches)] for stage in stages])


def split_evenly(layers: int, workers: int) -> list[int]:
    """The first ones get what is left over: the last one has the output."""
    return [layers // workers + (number < layers % workers) for number in range(workers)]
