"""Builds the pipelined RPC client and puts it into installed engines.

It is the module libggml-rpc-yoke.so, and libyoke-no-prefetch.so to be preloaded with it. Both are
built from modules/rpc_pipeline for the pinned release, and again when their sources or the compiler
have changed, while the engine stays as it is. For that the release's headers are kept beside its
engines. An engine works without them, so a build that fails is told and costs nothing else:
llama-server then loads its own client.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine_tree
import fetch
import llama_cpp_build
from engine_tree import say
from fetch import SetupError
from llama_cpp_build import NAME, Job

MODULE = "libggml-rpc-yoke.so"
FILES = (MODULE, "libyoke-no-prefetch.so")
STOCK_MODULE = "libggml-rpc.so"
BASE_LIBRARIES = ("libggml-base.so", "libggml-base.so.0")
SOURCES = Path(__file__).resolve().parent.parent / "modules" / "rpc_pipeline"
NOT_BUILT = re.compile(r"^fake_|_test\.cc$|test_support\.")
HEADERS = ("ggml/CMakeLists.txt", "ggml/include/*.h", "ggml/src/*.h", "LICENSE")
SOURCE_SPACE = 600_000_000
BUILD_TIMEOUT_S = 1800.0
LOAD = """\
import ctypes, sys
module = ctypes.CDLL(sys.argv[1])
module.ggml_backend_init
sys.exit(0 if module.ggml_backend_score() > 0 else "it refuses this engine")
"""


# ---- what is there ----


def module_directory(home: Path) -> Path | None:
    """Where llama-server finds its modules, or nothing if its RPC client is none of them."""
    program = home / (engine_tree.read_manifest(home).get("program") or "llama-server")
    directory = program.parent
    has_base = any((directory / name).exists() for name in BASE_LIBRARIES)
    return directory if has_base and (directory / STOCK_MODULE).exists() else None


def engines_of(release: Path, version: str) -> list[Path]:
    """The engines of that version in the release's directory that the module can be put into."""
    homes = sorted(release.glob("[!.]*")) if release.is_dir() else []
    return [
        home
        for home in homes
        if engine_tree.read_manifest(home).get("version") == version and module_directory(home)
    ]


def built_sources() -> list[Path]:
    files = [*SOURCES.glob("*.h"), *SOURCES.glob("*.cc"), SOURCES / "CMakeLists.txt"]
    return sorted(file for file in files if not NOT_BUILT.search(file.name))


def sources_digest() -> str:
    digest = hashlib.sha256()
    for file in built_sources():
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def lacking(homes: Sequence[Path]) -> list[Path]:
    """Those whose module is missing, or was made of other sources or by another compiler."""
    if not homes or not SOURCES.is_dir():
        return []
    sources = sources_digest()
    compiler = llama_cpp_build.compiler_text()
    return [home for home in homes if not is_current(home, sources, compiler)]


def is_current(home: Path, sources: str, compiler: str) -> bool:
    directory = module_directory(home)
    record = engine_tree.read_manifest(home).get("rpc_client")
    return (
        directory is not None
        and isinstance(record, dict)
        and record.get("sources") == sources
        and compiler in (record.get("compiler"), llama_cpp_build.NO_COMPILER)
        and sizes_of(directory) == record.get("files")
    )


def sizes_of(directory: Path) -> dict[str, int]:
    return {name: fetch.size_of(directory / name) for name in FILES}


# ---- the release's headers ----


def ggml_version(tree: Path) -> str:
    """What ggml_version() of a llama.cpp tree returns; empty if the tree does not tell."""
    try:
        text = (tree / "ggml/CMakeLists.txt").read_text(encoding="utf-8")
    except OSError:
        return ""
    lines = re.findall(r"^set\(GGML_VERSION_(MAJOR|MINOR|PATCH) (\d+)\)", text, re.MULTILINE)
    numbers = dict(lines)
    return ".".join(numbers.values()) if list(numbers) == ["MAJOR", "MINOR", "PATCH"] else ""


def headers_of(job: Job) -> Path:
    """Where the release's headers are kept: a part of its tree, in the tree's own layout."""
    return job.home.parent / f".headers-{job.commit[:12]}"


def keep_headers(job: Job, tree: Path) -> Path:
    """Copies what the module needs of the release's tree; they appear whole or not at all."""
    assert job.pins is not None
    if (version := ggml_version(tree)) != job.pins["ggml"]:
        raise SetupError(f"The source has ggml '{version}', and pins.json says {job.pins['ggml']}")
    kept = headers_of(job)
    with engine_tree.new_stage(kept.parent) as stage:
        for pattern in HEADERS:
            for file in tree.glob(pattern):
                target = stage / file.relative_to(tree)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
        engine_tree.put_in_place(stage, kept)
    return kept


def pinned_tree(job: Job) -> Path:
    """The kept headers. For an engine of before they were kept, its source is fetched again."""
    kept = headers_of(job)
    if (kept / "ggml/include/ggml-rpc.h").exists():
        return kept
    if llama_cpp_build.head_of(job.source) == job.commit:
        return keep_headers(job, job.source)
    work = job.work.with_name(f"{NAME}-{job.version}-headers")
    fetch.require_space(work, SOURCE_SPACE, f"The source of {NAME}")
    fetching = replace(job, work=work, source=work / "source")
    llama_cpp_build.get_source(fetching)
    keep_headers(job, fetching.source)
    shutil.rmtree(work, ignore_errors=True)
    return kept


# ---- building ----


@contextlib.contextmanager
def built(tree: Path, engine: Path, job: Job) -> Iterator[Path]:
    """A directory with what was built for that engine; it is removed afterwards."""
    say(f"Building the pipelined RPC client for {NAME} {job.version} (log: {job.log})")
    job.work.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rpc-module-", dir=job.work.parent) as scratch:
        options = llama_cpp_build.faster_tools() | {
            "LLAMA_CPP_SOURCE": str(tree),
            "LLAMA_CPP_ENGINE": str(engine),
        }
        configure = ["cmake", "-S", str(SOURCES), "-B", scratch, "-G", "Ninja"]
        configure += [f"-D{name}={value}" for name, value in options.items()]
        environment = llama_cpp_build.build_environment(Path(scratch))
        for command in (configure, ["ninja", "-C", scratch, "-j", str(job.jobs)]):
            fetch.run_logged(command, job.log, BUILD_TIMEOUT_S, env=environment)
        yield Path(scratch)


def check_module(module: Path) -> None:
    """Loads the module as llama-server would, beside the engine's libraries."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(module)],
            env=os.environ | {"YOKE_RPC_CLIENT": "pipelined"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=engine_tree.CHECK_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise SetupError("it does not load in time") from None
    if done.returncode != 0:
        raise SetupError(done.stderr.strip()[-1000:] or f"exit code {done.returncode}")


def put(home: Path, origin: Path, record: dict[str, Any]) -> None:
    """Puts files that work there beside the engine's modules, and notes what they are."""
    directory = module_directory(home)
    assert directory is not None
    # Renamed in the end, so that a process keeps what it runs with. No names of modules to ggml.
    new = {name: directory / f".{os.getpid()}-{name}" for name in FILES}
    try:
        for name, file in new.items():
            shutil.copyfile(origin / name, file)
            file.chmod(0o755)
            if problem := engine_tree.load_problem(file):
                raise SetupError(problem)
        check_module(new[MODULE])
        for name, file in new.items():
            os.replace(file, directory / name)
    finally:
        for file in new.values():
            file.unlink(missing_ok=True)
    engine_tree.change_manifest(home, {"rpc_client": record | {"files": sizes_of(directory)}})


def drop(home: Path) -> None:
    """An old module is worse than none: what Yoke expects of it is what these sources do."""
    if "rpc_client" in engine_tree.read_manifest(home):
        engine_tree.change_manifest(home, {"rpc_client": None})
    if directory := module_directory(home):
        for name in FILES:
            (directory / name).unlink(missing_ok=True)


def install(homes: Sequence[Path], tree: Callable[[], Path], job: Job) -> None:
    """Brings the module of all `homes`, which are of one release, up to date."""
    todo = lacking(homes)
    if not todo:
        return
    try:
        if done := [home for home in homes if home not in todo]:
            origin = module_directory(done[0])
            assert origin is not None
            put_into(todo, origin, engine_tree.read_manifest(done[0])["rpc_client"])
        else:
            build_into(todo, tree, job)
    except (SetupError, OSError) as error:
        for home in todo:
            give_up(home, error)


def build_into(homes: Sequence[Path], tree: Callable[[], Path], job: Job) -> None:
    job = replace(job, log=job.log.with_name(f"{NAME}-{job.version}-rpc-module.log"))
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job.log.write_text("", encoding="utf-8")
    headers = tree()
    engine = module_directory(homes[0])
    assert engine is not None
    record: dict[str, Any] = {
        "ggml": ggml_version(headers),
        "sources": sources_digest(),  # Before they are read: what changes meanwhile is built again.
        "compiler": llama_cpp_build.compiler_text(),
    }
    with built(headers, engine, job) as origin:
        put_into(homes, origin, record)


def put_into(homes: Sequence[Path], origin: Path, record: dict[str, Any]) -> None:
    for home in homes:
        try:
            put(home, origin, record)
        except (SetupError, OSError) as error:
            give_up(home, error)


def give_up(home: Path, error: Exception) -> None:
    say(f"Note: {home} goes without the pipelined RPC client, llama.cpp's own is used.\n{error}")
    with contextlib.suppress(OSError):
        drop(home)
