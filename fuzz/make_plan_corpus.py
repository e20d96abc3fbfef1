#!/usr/bin/env python3
"""Writes the seeds of fuzz_plan: make_plan_corpus.py DIRECTORY.

The header of a small model of each architecture, without data behind it. The first two bytes say how
fuzz_plan runs it.
"""
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/models"))

import gguf_writer
import make_model

VOCABULARY = 300  # As small as the tokenizers get.
RUNS = (0x0003, 0x0412, 0x0291)  # Flash attention or not, sequences, context, batch, GPUs.


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number, (name, (build, type_of, fields)) in enumerate(sorted(make_model.SMALL.items())):
        fields = fields | {"vocabulary": VOCABULARY}
        metadata, tensors = build(fields, type_of(fields["layers"]))
        header = gguf_writer.header(metadata, tensors)
        run = struct.pack("<H", RUNS[number % len(RUNS)])
        (directory / name).write_bytes(run + header)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
