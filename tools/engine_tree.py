"""The directory of an installed engine: <engines>/<name>-<version>/<backend>/ with its engine.json.

It appears whole or not at all: made under another name, checked, and then renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fetch
from fetch import SetupError

CHECK_TIMEOUT_S = 120.0
NO_DRIVERS = {name: "/dev/null" for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")}


def engines_home() -> Path:
    named = os.environ.get("YOKE_ENGINE_DIR")
    return Path(named) if named else fetch.data_home() / "engines"


def read_manifest(home: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((home / "engine.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def files_in(stage: Path) -> dict[str, int]:
    """The sizes of all files by their names, for the manifest."""
    return {
        str(path.relative_to(stage)): path.stat().st_size
        for path in sorted(stage.rglob("*"))
        if path.is_file()
    }


def write_manifest(stage: Path, manifest: Mapping[str, Any], name: str = "engine.json") -> None:
    """Last of all: it makes an engine of the directory."""
    with open(stage / name, "w", encoding="utf-8") as sink:
        sink.write(json.dumps(manifest, indent=2) + "\n")
        sink.flush()
        os.fsync(sink.fileno())


def change_manifest(home: Path, changes: Mapping[str, Any]) -> None:
    """Sets entries of an installed engine's manifest, and removes those that are None."""
    manifest = read_manifest(home) | dict(changes)
    kept = {name: value for name, value in manifest.items() if value is not None}
    new = f".engine.json.{os.getpid()}"
    write_manifest(home, kept, new)
    os.replace(home / new, home / "engine.json")


@contextlib.contextmanager
def new_stage(directory: Path) -> Iterator[Path]:
    """A directory to fill; what is not put in place is removed."""
    directory.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".new-", dir=directory))
    stage.chmod(0o755)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def put_in_place(stage: Path, home: Path) -> None:
    """Makes `stage` the engine's directory; a program that runs from the old one is not hurt."""
    home.parent.mkdir(parents=True, exist_ok=True)
    old = Path(tempfile.mkdtemp(prefix=".old-", dir=home.parent))
    if home.exists():
        os.rename(home, old / home.name)
    os.rename(stage, home)
    shutil.rmtree(old, ignore_errors=True)


def link_or_copy(origin: str, target: str) -> None:
    """One file under two names, or a copy where the file system has no hard links."""
    try:
        os.link(origin, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(origin, target)


def output_of(server: Path, *options: str, env: Mapping[str, str] | None = None) -> str:
    """What llama-server prints, started from elsewhere so that only its own directory counts."""
    command = [str(server), *options]
    try:
        done = subprocess.run(
            command,
            cwd="/",
            env=os.environ | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=CHECK_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"`{' '.join(command)}` gave no answer") from None
    except OSError as error:
        raise SetupError(f"`{' '.join(command)}` can't be started: {error.strerror}") from None
    if done.returncode != 0:
        raise SetupError(f"`{' '.join(command)}` failed:\n{done.stdout[:4000]}")
    return done.stdout


def load_problem(library: Path | str) -> str:
    """Why the dynamic linker can't load a library, or nothing."""
    load = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    command = [sys.executable, "-c", load, str(library)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return "it took too long"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return "" if done.returncode == 0 else lines[-1].removeprefix("OSError: ")


def say(text: str) -> None:
    print(text, flush=True)
