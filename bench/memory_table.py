#!/usr/bin/env python3
"""Compares the memory that `yoke plan` foresees with what llama-server reports, as a table.

    memory_table.py YOKE [--only WORD]... [--models DIRECTORY]

Wants the engines that `yoke engine install` gets (CPU and Vulkan; the latter with Mesa's software
device, too), no GPU and no download: the models are made for it (tests/models/make_model.py), those
of true size as sparse files. All cases take some minutes. The exit code is 1 if a figure is off by
more than 2 % and 64 MiB.
"""

import argparse
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/models"))

import engine_memory  # noqa: E402
import memory_cases  # noqa: E402
from engine_memory import MIB  # noqa: E402

COLUMNS = ("model", "layout", "options", "device", "weights", "KV, state", "compute", "output",
           "total", "plan", "error", "")


def _cell(row, kind):
    """What the engine has, and how far the plan is off where that can be seen."""
    size = getattr(row.engine, kind) / MIB
    error = row.errors()[kind] / MIB
    # Sizes of weights and caches are whole MiB in what the engine prints.
    seen = abs(error) >= 1.5
    return f"{size:,.1f}" + (f" ({error:+,.1f})" if seen else "")


def _line(row):
    case = row.case
    error = row.errors()["total"]
    relative = 100 * error / row.engine.total if row.engine.total else 0.0
    cells = [case.model if case.kind == "true" else f"small {case.model}", case.layout.name,
             case.name or "8192 tokens", row.device,
             *(_cell(row, kind) for kind in memory_cases.KINDS),
             f"{row.engine.total / MIB:,.1f}", f"{row.plan.total / MIB:,.1f}",
             f"{error / MIB:+,.1f} ({relative:+.2f} %)", "" if row.is_within() else "**off**"]
    return "| " + " | ".join(cells) + " |"


def _wanted(case, words):
    text = f"{case.kind} {case.model} {case.layout.name} {case.name}"
    return all(word in text for word in words)


def _run(yoke, cases, models, directory):
    """Prints a line for each device of each case; returns all rows and how many cases failed."""
    rows = []
    failed = refused = 0
    for case in cases:
        try:
            found = memory_cases.compare(yoke, models, case, directory)
        except (memory_cases.Refused, engine_memory.EngineRefused) as error:
            failed += 1
            print(f"| {case.model} | {case.layout.name} | {case.name} | **{error}** |".replace(
                "\n", " "), flush=True)
            continue
        if found is None:
            refused += 1
            continue
        rows += found
        print("\n".join(map(_line, found)), flush=True)
    return rows, failed, refused


def _summary(rows, failed, refused):
    off = [row for row in rows if not row.is_within()]
    cases = len({id(row.case) for row in rows})
    lines = [f"{cases} cases, {len(rows)} devices: {len(off)} off by more than 2 % and 64 MiB. "
             f"{refused} more cases are refused by both, {failed} by one alone."]
    if rows:
        worst = max(rows, key=lambda row: abs(row.errors()["total"]))
        lines.append(f"The largest error of a device: {worst.errors()['total'] / MIB:+.1f} MiB "
                     f"({worst.case.model}, {worst.case.layout.name}, "
                     f"{worst.case.name or '8192 tokens'}, {worst.device}).")
        for kind in memory_cases.KINDS:
            worst = max(rows, key=lambda row: abs(row.errors()[kind]))
            lines.append(f"Of {kind}: {worst.errors()[kind] / MIB:+.1f} MiB "
                         f"({worst.case.model}, {worst.case.layout.name}, "
                         f"{worst.case.name or '8192 tokens'}, {worst.device}).")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("yoke", help="the program")
    parser.add_argument("--only", action="append", default=[],
                        help="only cases with this word in model, layout or options")
    parser.add_argument("--models", help="make the models here and leave them there")
    args = parser.parse_args()
    cases = [case for case in memory_cases.all_cases() if _wanted(case, args.only)]
    missing = {case.layout.backend for case in cases
               if engine_memory.find(case.layout.backend) is None}
    if missing:
        sys.exit(f"No engine for {', '.join(sorted(missing))} in "
                 f"{engine_memory.engines_directory()}: yoke engine install.")
    print("MiB; in brackets what the plan has more.\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    with tempfile.TemporaryDirectory(prefix="yoke-memory-") as directory:
        models = memory_cases.Models(args.models or directory)
        models.directory.mkdir(parents=True, exist_ok=True)
        rows, failed, refused = _run(args.yoke, cases, models, directory)
    print("\n" + _summary(rows, failed, refused))
    sys.exit(failed > 0 or not rows or not all(row.is_within() for row in rows))


if __name__ == "__main__":
    main()
