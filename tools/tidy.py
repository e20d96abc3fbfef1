#!/usr/bin/env python3
"""Runs clang-tidy over the sources of src/ and modules/ that a compile database names.

A source that was found clean is remembered in the user's cache by the content of everything that
can change the verdict, and not looked at again. tools/lint.sh prepares the database.

usage: tidy.py COMPILE_COMMANDS_JSON
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN = (ROOT / "src", ROOT / "modules")
TIDY = "clang-tidy-19"
# These hold nothing of ours: they compile Asio and Beast.
NOT_OURS = re.compile(r"_impl\.cc$")
OWN_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
LIMIT_S = 300  # For one source.
FORGET_AFTER_S = 60 * 24 * 3600


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "yoke" / "tidy"


def with_own_headers(source: Path) -> list[Path]:
    """The source and the headers of ours that it includes, directly or not."""
    found = {source}
    pending = [source]
    while pending:
        for target in OWN_INCLUDE.findall(pending.pop().read_text()):
            for header in (root / target for root in OWN):
                if header.is_file() and header not in found:
                    found.add(header)
                    pending.append(header)
    return sorted(found)


def key_of(source: Path, command: str, common: bytes) -> str:
    """Names the verdict on this source; the same in every checkout."""
    digest = hashlib.sha256(common)
    digest.update(command.replace(str(ROOT), "").encode())
    for file in with_own_headers(source):
        digest.update(f"\0{file.relative_to(ROOT)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def complaints_about(source: Path, database: Path) -> str:
    """What clang-tidy has to say, or nothing."""
    try:
        run = subprocess.run(
            [TIDY, "-p", str(database.parent), "--quiet", str(source)],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return f"{source}:1: {TIDY} was not done within {LIMIT_S} s\n"
    if run.returncode == 0:
        return ""
    return run.stdout or run.stderr


def forget_old(cache: Path) -> None:
    for verdict in cache.iterdir():
        if time.time() - verdict.stat().st_mtime > FORGET_AFTER_S:
            verdict.unlink(missing_ok=True)


def sources_of(database: Path) -> dict[Path, str]:
    """Our sources and how each is compiled."""
    commands = {}
    for entry in json.loads(database.read_text()):
        source = Path(entry["file"])
        if any(source.is_relative_to(root) for root in OWN) and not NOT_OURS.search(source.name):
            # The build directory differs from checkout to checkout and does not matter.
            command = entry["command"].split(" -o ")[0].replace(entry["directory"], "")
            commands[source] = command
    return commands


def main(database: Path) -> int:
    sources = sources_of(database)
    if not sources:
        print(f"tidy: {database} names no source of {ROOT}")
        return 1
    version = subprocess.run([TIDY, "--version"], capture_output=True, check=True).stdout
    common = version + (ROOT / ".clang-tidy").read_bytes()
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    forget_old(cache)

    verdicts = {source: cache / key_of(source, sources[source], common) for source in sources}
    unknown = [source for source in sources if not verdicts[source].exists()]
    print(f"tidy: {len(sources)} sources, {len(unknown)} of them new or changed", flush=True)

    def look_at(source: Path) -> bool:
        complaints = complaints_about(source, database)
        if complaints:
            print(complaints, flush=True)
            return False
        verdicts[source].touch()
        return True

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        clean = list(pool.map(look_at, unknown))
    for source in sources:
        if verdicts[source].exists():
            verdicts[source].touch()
    return 0 if all(clean) else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]).resolve()))
