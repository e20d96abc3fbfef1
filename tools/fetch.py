"""What the set-up tools share: directories, pins, progress, checked downloads, package clients.

Downloads name no registry: npm and pip are asked, so mirrors and proxies set up for them hold here.
Everything that arrives is compared with a digest from pins.json before it is used.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

CHUNK = 1 << 18
SOCKET_TIMEOUT_S = 30.0
END_TIMEOUT_S = 5.0
LINK_TIMEOUT_S = 120.0
PACKAGE_TIMEOUT_S = 3600.0
MAX_FRUITLESS_ATTEMPTS = 6
TRY_AGAIN = "it was removed: try again, and if that does not help, ask whoever runs the mirror"
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class SetupError(Exception):
    """Ends a tool with exit code 1; the message says what to do next."""


class WrongBytes(SetupError):
    """What arrived is not what pins.json names."""


# ---- places ----


def data_home() -> Path:
    """Where engines and models are kept."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "yoke"


def cache_home() -> Path:
    """Where unfinished downloads and builds lie; it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yoke"


def load_pins(path: Path | None = None) -> dict[str, Any]:
    path = path or Path(__file__).with_name("pins.json")
    pins: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return pins


def require_space(directory: Path, need: int, what: str) -> None:
    """Fails early when the file system of `directory` has less than `need` bytes free."""
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < need:
        raise SetupError(
            f"{what} needs {size_text(need)} in {directory}, where {size_text(free)} are free: "
            "make room, or name another disk with XDG_CACHE_HOME or XDG_DATA_HOME"
        )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock, so that a second call of the same tool waits for the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another call of this tool is at work; waiting for it to finish ...", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# ---- what the user sees ----


def size_text(count: float) -> str:
    """A number of bytes in decimal units, as package managers print them."""
    for unit, digits in (("B", 0), ("kB", 0), ("MB", 1)):
        if count < 1000:
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def time_text(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


class Progress:
    """One refreshing line on a terminal; elsewhere a plain line every 10 percent."""

    def __init__(
        self,
        label: str,
        total: int,
        start: int = 0,
        show: Callable[[float], str] = size_text,
        with_rate: bool = True,
    ) -> None:
        self._label = label
        self._total = max(total, 1)
        self._start = start
        self._show = show
        self._with_rate = with_rate
        self._began = time.monotonic()
        self._drawn_at = 0.0
        self._tenth = start * 10 // self._total
        self._terminal = sys.stdout.isatty()

    def update(self, done: int) -> None:
        self._start = min(self._start, done)
        if self._terminal:
            now = time.monotonic()
            if now - self._drawn_at >= 0.2 or done >= self._total:
                self._drawn_at = now
                self._draw(done)
        elif done * 10 // self._total > self._tenth:
            self._tenth = done * 10 // self._total
            print(f"  {self._text(done)}", flush=True)

    def close(self) -> None:
        if self._drawn_at:
            print(flush=True)

    def _draw(self, done: int) -> None:
        filled = min(20, done * 20 // self._total)
        line = f"  [{'#' * filled}{'-' * (20 - filled)}] {self._text(done)}"
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\033[K{line[:width]}", end="", flush=True)

    def _text(self, done: int) -> str:
        percent = min(100, done * 100 // self._total)
        text = f"{percent:3d} %  {self._label}: {self._show(done)} of {self._show(self._total)}"
        spent = time.monotonic() - self._began
        gained = done - self._start
        if gained <= 0 or spent < 0.5:
            return text
        if self._with_rate:
            text += f", {self._show(gained / spent)}/s"
        if done < self._total:
            text += f", {time_text(spent * (self._total - done) / gained)} left"
        return text


# ---- digests ----


def digest_of(path: Path, algorithm: str) -> bytes:
    digest = hashlib.new(algorithm)
    with open(path, "rb") as handle:
        while block := handle.read(CHUNK):
            digest.update(block)
    return digest.digest()


def check_sha256(path: Path, expected: str) -> None:
    if digest_of(path, "sha256").hex() != expected:
        raise WrongBytes(f"{path.name} is not the file pinned by SHA-256 {expected}; {TRY_AGAIN}")


def check_integrity(path: Path, integrity: str) -> None:
    """Compares a file with an npm integrity string (`sha512-` and base64)."""
    algorithm, _, expected = integrity.partition("-")
    actual = base64.b64encode(digest_of(path, algorithm)).decode()
    if actual != expected:
        raise WrongBytes(f"{path.name} is not the file pinned by {integrity}; {TRY_AGAIN}")


# ---- processes ----


def run_logged(
    command: Sequence[str],
    log: Path,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> None:
    """Runs a command with its output in `log`; a failure names the log and quotes its end.

    The command has a session of its own, which ends with it, on a timeout and on Ctrl-C.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as sink:
        sink.write(f"$ {' '.join(command)}\n")
        sink.flush()
        with started(command, cwd, env) as process:
            expired = threading.Event()

            def expire() -> None:
                expired.set()
                end_session(process.pid)

            timer = threading.Timer(timeout_s, expire)
            timer.start()
            try:
                for line in process.stdout or ():
                    sink.write(line)
                    on_line(line)
                code = process.wait()
            finally:
                timer.cancel()
    if expired.is_set():
        raise SetupError(f"{command[0]} took longer than {time_text(timeout_s)}; log: {log}")
    if code != 0:
        raise SetupError(
            f"{command[0]} failed with exit code {code}:\n{tail(log)}\nFull log: {log}"
        )


@contextlib.contextmanager
def started(
    words: Sequence[str], cwd: Path | None, env: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[str]]:
    """A child in its own session, of which nothing is left when the block is."""
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError:
        raise SetupError(f"{words[0]} is missing: run `bash tools/setup.sh build engine`") from None
    with process:
        try:
            yield process
        finally:
            end_session(process.pid)


def end_session(session: int) -> None:
    """Ends all processes of a session: ninja gives each compiler a process group of its own."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        patience = time.monotonic() + END_TIMEOUT_S
        for pid in session_members(session):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        while session_members(session) and time.monotonic() < patience:
            time.sleep(0.02)


def session_members(session: int) -> list[int]:
    """The processes of a session that have not ended."""
    members: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                members.append(int(entry.name))
    return members


def tail(log: Path, lines: int = 20) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    return "\n".join("  " + line for line in text.splitlines()[-lines:])


# ---- downloads with resume ----


def download(
    url: str,
    part: Path,
    size: int,
    opener: urllib.request.OpenerDirector | None = None,
    label: str = "",
    pause_s: Callable[[int], float] = lambda fruitless: min(2.0**fruitless, 15.0),
) -> None:
    """Fetches `size` bytes into `part`, going on from what an earlier call left there.

    A cut is retried as long as bytes keep coming. The caller checks the digest.
    """
    opener = opener or url_opener()
    part.parent.mkdir(parents=True, exist_ok=True)
    held = size_of(part)
    progress = Progress(label or part.stem, size, held)
    fruitless = 0
    try:
        while held != size:
            try:
                fetch_rest(opener, url, part, size, progress)
                reason = "the connection was cut"
            except (OSError, http.client.HTTPException) as error:
                reason = retry_reason(error)
            fruitless = fruitless + 1 if size_of(part) <= held else 0
            held = size_of(part)
            if fruitless >= MAX_FRUITLESS_ATTEMPTS:
                raise SetupError(f"The download stopped at {size_text(held)} ({reason}): try again")
            if held != size:
                time.sleep(pause_s(fruitless))
    finally:
        progress.close()


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def retry_reason(error: Exception) -> str:
    """Why an attempt ended; an answer that another attempt would not change is raised."""
    if isinstance(error, urllib.error.HTTPError):
        if error.code not in RETRY_STATUS:
            raise SetupError(f"The server refused the download: {error.code} {error.reason}")
        return f"the server answered {error.code}"
    return str(getattr(error, "reason", error)) or type(error).__name__


def fetch_rest(
    opener: urllib.request.OpenerDirector, url: str, part: Path, size: int, progress: Progress
) -> None:
    """One request for what `part` lacks; returns at the end of the answer, complete or not."""
    held = size_of(part)
    if held > size:
        part.unlink()
        held = 0
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if held:
        request.add_header("Range", f"bytes={held}-")
    try:
        answer = opener.open(request, timeout=SOCKET_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part.unlink(missing_ok=True)  # The server's file is shorter than what is here.
        return
    with answer:
        resumed = resumes_at(answer, held)
        with open(part, "ab" if resumed else "wb") as sink:
            copy_body(answer, sink, held if resumed else 0, size, progress)


def resumes_at(answer: Any, held: int) -> bool:
    """Whether the answer continues at `held`; a server may ignore Range and send it all."""
    span = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
    return answer.status == 206 and span is not None and int(span[1]) == held


def copy_body(answer: Any, sink: BinaryIO, done: int, size: int, progress: Progress) -> None:
    while block := answer.read1(CHUNK):
        done += len(block)
        if done > size:
            raise WrongBytes(f"The server sends more than the pinned {size} bytes; {TRY_AGAIN}")
        sink.write(block)
        progress.update(done)


def url_opener() -> urllib.request.OpenerDirector:
    """Opens URLs with the proxy and the certificate authorities that pip is set up to use."""
    authorities = pip_setting("cert") or os.environ.get("REQUESTS_CA_BUNDLE")
    context = ssl.create_default_context(cafile=authorities)
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if proxy := pip_setting("proxy"):
        handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    return urllib.request.build_opener(*handlers)


# ---- package clients ----


def pip_command() -> list[str]:
    """This Python's pip, or the system's where this one has none."""
    for python in (sys.executable, "/usr/bin/python3"):
        if run_text([python, "-m", "pip", "--version"]):
            return [python, "-m", "pip"]
    raise SetupError("pip is missing: run `bash tools/setup.sh engine`")


def run_text(command: Sequence[str]) -> str:
    """The standard output of a short command, or nothing when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LINK_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def pip_setting(name: str) -> str:
    """A value of pip's configuration files or environment, or nothing."""
    if value := os.environ.get(f"PIP_{name.upper()}"):
        return value
    return run_text([*pip_command(), "config", "get", f"global.{name}"]).strip()


def pip_link(package: str, filename: str) -> str:
    """The address pip would fetch a file from, or nothing when pip does not tell.

    `pip index versions` reads the index only, and with -vv prints every link it found there.
    """
    listing = run_text([*pip_command(), "index", "versions", "-vv", package])
    found = re.search(rf"Found link (https?://[^\s#]+/{re.escape(filename)})(?:#\S*)? ", listing)
    return found[1] if found and "****" not in found[1] else ""


def npm_pack(pin: Mapping[str, Any], directory: Path, log: Path) -> Path:
    """Fetches a pinned npm package with `npm pack` and checks it; one that is there is kept."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = pin["package"].lstrip("@").replace("/", "-")
    archive = directory / f"{stem}-{pin['version']}.tgz"
    if not archive.exists():
        scratch = directory / "npm"
        command = ["npm", "pack", f"{pin['package']}@{pin['version']}", "--ignore-scripts"]
        command += ["--loglevel=error", "--cache", str(scratch / "cache")]
        command += ["--pack-destination", str(scratch)]
        scratch.mkdir(exist_ok=True)
        run_logged(command, log, PACKAGE_TIMEOUT_S, cwd=scratch)
        os.replace(scratch / archive.name, archive)
        shutil.rmtree(scratch)
    try:
        check_integrity(archive, pin["integrity"])
    except WrongBytes:
        archive.unlink()
        raise
    return archive


# ---- the tools' frame ----


def run_tool(main: Callable[[], None]) -> int:
    """Runs a tool's main function and turns how it ended into an exit code."""

    def terminated(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, terminated)
    try:
        main()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0
