"""Makes an engine of a llama.cpp release archive, or of a directory, that the user names.

Such archives hold llama-server and its libraries for a backend that Yoke has no packages of, as
ROCm. They come from anywhere, so nothing in one can write outside the engine's directory, and its
size is limited.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

import engine_tree
import fetch
import rpc_module
from engine_tree import say
from fetch import SetupError

NAME = "llama.cpp"
PROGRAM = "llama-server"
MAX_FILES = 50_000
MAX_BYTES = 16 << 30
# A backend's devices in --list-devices.
DEVICE_NAMES = {"vulkan": "Vulkan", "rocm": "ROCm", "cuda": "CUDA"}


class Tree:
    """A directory that is filled with entries of other people's making.

    Links are made last, so that nothing is ever written through one, and none leads out.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0
        self.left = MAX_BYTES
        self.links: list[tuple[Path, str]] = []

    def path_of(self, name: str) -> Path:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or "\0" in name:
            raise SetupError(f"it has the entry '{name}', which would lie outside")
        self.count += 1
        if self.count > MAX_FILES:
            raise SetupError(f"it has more than {MAX_FILES} entries")
        return self.root / parts

    def add_directory(self, name: str) -> None:
        self.path_of(name).mkdir(parents=True, exist_ok=True)

    def add_file(self, name: str, content: IO[bytes], executable: bool) -> None:
        path = self.path_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as sink:
            # Counted as they come: what an archive says about sizes need not be true.
            while chunk := content.read(fetch.CHUNK):
                self.left -= len(chunk)
                if self.left < 0:
                    raise SetupError(f"it unpacks to more than {fetch.size_text(MAX_BYTES)}")
                sink.write(chunk)
        path.chmod(0o755 if executable else 0o644)

    def add_link(self, name: str, target: str) -> None:
        self.links.append((self.path_of(name), target))

    def add_hard_link(self, name: str, target: str) -> None:
        path, origin = self.path_of(name), self.path_of(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(origin, path)

    def finish(self) -> None:
        for path, target in self.links:
            # An earlier link may stand for one of the directories.
            parent = path.parent.resolve()
            self.check_inside(parent, path, target)
            parent.mkdir(parents=True, exist_ok=True)
            link = parent / path.name
            link.symlink_to(target)
            self.check_inside(link.resolve(), path, target)
        for path, target in self.links:
            self.check_inside(path.resolve(), path, target)

    def check_inside(self, place: Path, path: Path, target: str) -> None:
        if os.path.isabs(target) or not place.is_relative_to(self.root.resolve()):
            raise SetupError(f"its link {path.name} leads to {target}, outside")


def unpack(source: Path, root: Path) -> None:
    """Puts the archive's, or the directory's, content into `root`, or raises SetupError."""
    tree = Tree(root)
    try:
        reader_of(source)(source, tree)
        tree.finish()
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise SetupError(f"{source} can't be unpacked: {error}") from error
    except FileExistsError as error:
        raise SetupError(f"{source} has one entry twice: {error.filename}") from error
    except OSError as error:
        raise SetupError(f"{source} can't be unpacked: {error}") from error
    except SetupError as error:
        raise SetupError(f"{source} is not taken: {error}") from error


def reader_of(source: Path) -> Callable[[Path, Tree], None]:
    if source.is_dir():
        return read_directory
    if not source.is_file():
        raise SetupError("there is no such file or directory")
    if zipfile.is_zipfile(source):
        return read_zip
    if tarfile.is_tarfile(source):
        return read_tar
    raise SetupError("it is neither a directory nor a tar or zip archive")


def read_tar(source: Path, tree: Tree) -> None:
    with tarfile.open(source) as archive:
        for member in archive:
            if member.isdir():
                tree.add_directory(member.name)
            elif member.issym():
                tree.add_link(member.name, member.linkname)
            elif member.islnk():
                tree.add_hard_link(member.name, member.linkname)
            elif member.isfile() and (content := archive.extractfile(member)) is not None:
                with content:
                    tree.add_file(member.name, content, bool(member.mode & 0o111))
            else:
                raise SetupError(f"its entry '{member.name}' is no file, directory or link")


def read_zip(source: Path, tree: Tree) -> None:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                tree.add_directory(info.filename)
            elif stat.S_ISLNK(mode):
                with archive.open(info) as content:
                    tree.add_link(info.filename, content.read(4096).decode(errors="replace"))
            else:
                with archive.open(info) as content:
                    tree.add_file(info.filename, content, bool(mode & 0o111))


def read_directory(source: Path, tree: Tree) -> None:
    for directory, directories, files in os.walk(source):
        for name in [*directories, *files]:
            path = Path(directory) / name
            entry = str(path.relative_to(source))
            info = path.lstat()
            if stat.S_ISLNK(info.st_mode):
                tree.add_link(entry, os.readlink(path))
            elif stat.S_ISDIR(info.st_mode):
                tree.add_directory(entry)
            elif stat.S_ISREG(info.st_mode):
                with open(path, "rb") as content:
                    tree.add_file(entry, content, bool(info.st_mode & 0o111))
            else:
                raise SetupError(f"{path} is no file, directory or link")


def find_server(root: Path) -> Path:
    """The program, relative to `root`: the one that lies highest."""
    found = sorted(
        (path.relative_to(root) for path in root.rglob(PROGRAM) if path.is_file()),
        key=lambda path: (len(path.parts), path),
    )
    if not found:
        raise SetupError(f"it holds no program {PROGRAM}")
    if len(found) > 1 and len(found[0].parts) == len(found[1].parts):
        raise SetupError(f"it holds {found[0]} and {found[1]}: name a directory with one of them")
    return found[0]


def version_of(text: str) -> tuple[str, str]:
    """Version and commit as `--version` tells them: "version: 0.5.0 (build 1, commit de3ff81)"."""
    said = re.search(r"version: ([A-Za-z0-9][A-Za-z0-9._+-]{0,63})(?: \((.{0,100})\))?", text)
    if said is None:
        raise SetupError(f"{PROGRAM} told no version:\n{text[:1000]}")
    commit = re.search(r"\b[0-9a-f]{7,40}\b", said[2] or "")
    return said[1], commit[0] if commit else ""


def install_archive(source: Path, backend: str, dest: Path) -> Path:
    """Installs what `source` holds as the engine of `backend`; gives its directory."""
    if source.is_dir() and dest.resolve().is_relative_to(source.resolve()):
        raise SetupError(f"{source} holds Yoke's engines themselves: name the directory of one")
    say(f"Taking the engine for {backend} from {source}")
    with engine_tree.new_stage(dest) as stage:
        unpack(source, stage)
        try:
            program = find_server(stage)
        except SetupError as error:
            raise SetupError(f"{source} is not taken: {error}") from error
        server = stage / program
        for name in ("engine.json", *rpc_module.FILES):  # Of another engine of Yoke's.
            (server.parent / name).unlink(missing_ok=True)
        server.chmod(0o755)  # Some archives know no permissions.
        try:
            version, commit = version_of(engine_tree.output_of(server, "--version"))
        except SetupError as error:
            hint = f"Are the libraries installed that {backend} needs?"
            raise SetupError(f"{error}\n{hint}") from error
        manifest = {
            "name": NAME,
            "version": version,
            "commit": commit,
            "backend": backend,
            "program": str(program),
            "origin": source.name,
            "files": engine_tree.files_in(stage),
        }
        if source.is_file():
            manifest["integrity"] = {"archive": f"sha256:{fetch.digest_of(source, 'sha256').hex()}"}
        engine_tree.write_manifest(stage, manifest)
        home = dest / f"{NAME}-{version}" / backend
        engine_tree.put_in_place(stage, home)
    tell_devices(home / program, backend)
    return home


def tell_devices(server: Path, backend: str) -> None:
    name = DEVICE_NAMES.get(backend)
    if name is None:
        return
    try:
        listed = engine_tree.output_of(server, "--list-devices")
    except SetupError as error:
        say(f"Note: it could not be asked for its devices. {error}")
        return
    if not re.search(rf"^\s+{name}\d+:", listed, re.MULTILINE):
        say(f"Note: it finds no {name} device here; `yoke doctor` says what one would lack.")
