#!/usr/bin/env python3
"""Tests of engines from archives and directories, and of the one for CUDA. They need no network."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import platform
import stat
import sys
import tarfile
import tempfile
import unittest
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import engine_archive
import engine_tree
import fetch
import get_llama_cpp

SERVER = b"""#!/bin/sh
case $1 in
  --version) echo "version: 7123 (0123abc4)" ;;
  --list-devices) echo "Available devices:"; echo "$DEVICES" ;;
esac
"""


class EngineToolTest(unittest.TestCase):
    """A directory of its own with engines in it, and nothing printed."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = Path(scratch.name).resolve()
        self.engines = self.root / "engines"
        places = {
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "YOKE_ENGINE_DIR": str(self.engines),
            "DEVICES": "  ROCm0: A GPU (2048 MiB, 1024 MiB free)",
        }
        self.enterContext(mock.patch.dict(os.environ, places))
        self.output = io.StringIO()
        self.enterContext(contextlib.redirect_stdout(self.output))
        self.enterContext(contextlib.redirect_stderr(self.output))

    def call(self, *options: str | Path) -> int:
        return fetch.run_tool(lambda: get_llama_cpp.main([str(option) for option in options]))

    def take(self, source: Path, backend: str = "rocm") -> int:
        return self.call("--backend", backend, "--from", source)

    def installed(self) -> list[str]:
        if not self.engines.exists():
            return []
        return sorted(str(path.relative_to(self.engines)) for path in self.engines.glob("*/*"))


class ArchiveTest(EngineToolTest):
    HOME = "llama.cpp-7123/rocm"

    def tar(self, files: Mapping[str, bytes], *more: tarfile.TarInfo) -> Path:
        path = self.root / "release.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                member.mode = 0o755 if name.endswith("llama-server") else 0o644
                archive.addfile(member, io.BytesIO(content))
            for member in more:
                archive.addfile(member)
        return path

    @staticmethod
    def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = target
        return member

    RELEASE: Mapping[str, bytes] = {
        "release/build/bin/llama-server": SERVER,
        "release/build/bin/libllama.so.1": b"library",
        "release/README": b"text",
    }

    def expect_refused(self, source: Path, said: str) -> None:
        self.assertEqual(self.take(source), 1, said)
        self.assertIn(said, self.output.getvalue())
        self.assertEqual(self.installed(), [])
        self.assertEqual(list(self.engines.glob(".*")), [])

    def test_a_release_keeps_its_layout(self) -> None:
        archive = self.tar(
            self.RELEASE, self.link("release/build/bin/libllama.so", "libllama.so.1")
        )
        self.assertEqual(self.take(archive), 0, self.output.getvalue())
        self.assertEqual(self.installed(), [self.HOME])
        home = self.engines / self.HOME
        manifest = engine_tree.read_manifest(home)
        self.assertEqual(manifest["name"], "llama.cpp")
        self.assertEqual(manifest["version"], "7123")
        self.assertEqual(manifest["commit"], "0123abc4")
        self.assertEqual(manifest["backend"], "rocm")
        self.assertEqual(manifest["program"], "release/build/bin/llama-server")
        self.assertEqual(manifest["files"]["release/README"], len(b"text"))
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        self.assertEqual(manifest["integrity"], {"archive": f"sha256:{digest}"})
        binaries = home / "release/build/bin"
        self.assertEqual((binaries / "libllama.so").read_bytes(), b"library")
        self.assertTrue(os.access(binaries / "llama-server", os.X_OK))
        self.assertEqual(stat.S_IMODE((home / "release/README").stat().st_mode), 0o644)
        self.assertEqual(stat.S_IMODE(home.stat().st_mode), 0o755)
        self.assertNotIn("Note", self.output.getvalue())

    def test_a_zip_archive_without_permissions(self) -> None:
        path = self.root / "release.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("bin/llama-server"), SERVER)
            link = zipfile.ZipInfo("bin/libllama.so")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "llama-server")
        self.assertEqual(self.take(path, "cuda"), 0, self.output.getvalue())
        home = self.engines / "llama.cpp-7123/cuda"
        self.assertTrue((home / "bin/libllama.so").is_symlink())
        self.assertTrue(os.access(home / "bin/llama-server", os.X_OK))
        self.assertIn("finds no CUDA device here", self.output.getvalue())

    def test_a_directory_is_copied(self) -> None:
        source = self.root / "own"
        (source / "lib").mkdir(parents=True)
        (source / "llama-server").write_bytes(SERVER)
        (source / "llama-server").chmod(0o755)
        (source / "lib/libx.so").write_bytes(b"x")
        (source / "libx.so").symlink_to("lib/libx.so")
        (source / "engine.json").write_text("{}")
        self.assertEqual(self.take(source), 0, self.output.getvalue())
        home = self.engines / self.HOME
        self.assertEqual((home / "libx.so").read_bytes(), b"x")
        self.assertFalse((home / "llama-server").samefile(source / "llama-server"))
        self.assertEqual(engine_tree.read_manifest(home)["program"], "llama-server")
        self.assertNotIn("integrity", engine_tree.read_manifest(home))

    def test_a_newer_one_takes_the_place_of_the_old(self) -> None:
        self.take(self.tar(self.RELEASE))
        self.assertEqual(self.take(self.tar({"llama-server": SERVER})), 0)
        self.assertEqual(self.installed(), [self.HOME])
        names = sorted(path.name for path in (self.engines / self.HOME).iterdir())
        self.assertEqual(names, ["engine.json", "llama-server"])

    def test_nothing_is_written_outside(self) -> None:
        for name in ("../evil", "/evil", "a/../../evil", "..\\evil"):
            with self.subTest(name):
                archive = self.tar({"llama-server": SERVER, name: b"evil"})
                self.expect_refused(archive, "which would lie outside")
                self.assertEqual(list(self.root.rglob("evil")), [])

    def test_no_link_leads_outside(self) -> None:
        outside = self.root / "outside"
        outside.write_text("mine")
        chain = [self.link("a/b/c/up", "../../.."), self.link("far", "a/b/c/up/../outside")]
        for links in (
            [self.link("x", str(outside))],
            [self.link("x", "../outside")],
            [self.link("d/x", "../../../outside")],
            chain,
        ):
            with self.subTest(links[-1].linkname):
                self.expect_refused(self.tar({"llama-server": SERVER}, *links), "outside")

    def test_nothing_is_written_through_a_link(self) -> None:
        target = self.root / "target"
        target.mkdir()
        path = self.root / "release.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(self.link("dir", str(target)))
            member = tarfile.TarInfo("dir/llama-server")
            member.size = len(SERVER)
            archive.addfile(member, io.BytesIO(SERVER))
        self.assertEqual(self.take(path), 1)
        self.assertEqual(list(target.iterdir()), [])
        self.assertEqual(self.installed(), [])

    def test_no_link_is_made_through_a_link_that_leads_out(self) -> None:
        for links in (
            [self.link("d", ".."), self.link("d/evil/x", "y")],
            # The second one bends the first.
            [self.link("p", "q/.."), self.link("q", "."), self.link("p/evil/x", "y")],
        ):
            with self.subTest(links[0].linkname):
                self.expect_refused(self.tar({"llama-server": SERVER}, *links), "outside")
                self.assertEqual(list(self.root.rglob("evil")), [])

    def test_hard_links_stay_inside(self) -> None:
        inside = self.link("bin/llama-server", "llama-server", tarfile.LNKTYPE)
        self.assertEqual(self.take(self.tar({"llama-server": SERVER}, inside)), 0)
        outside = self.link("x", "../../outside", tarfile.LNKTYPE)
        (self.root / "outside").write_text("mine")
        self.assertEqual(self.take(self.tar({"llama-server": SERVER}, outside)), 1)

    def test_devices_and_doubles_are_refused(self) -> None:
        fifo = tarfile.TarInfo("pipe")
        fifo.type = tarfile.FIFOTYPE
        self.expect_refused(self.tar({"llama-server": SERVER}, fifo), "no file, directory or link")
        path = self.root / "twice.tar"
        with tarfile.open(path, "w") as archive:
            for _ in range(2):
                archive.addfile(tarfile.TarInfo("llama-server"), io.BytesIO())
        self.expect_refused(path, "twice")

    def test_sizes_and_numbers_are_limited(self) -> None:
        archive = self.tar({"llama-server": SERVER, "zeros": bytes(1 << 20)})
        with mock.patch.object(engine_archive, "MAX_BYTES", 1 << 19):
            self.expect_refused(archive, "unpacks to more than")
        with mock.patch.object(engine_archive, "MAX_FILES", 1):
            self.expect_refused(archive, "more than 1 entries")

    def test_what_is_no_archive_is_refused(self) -> None:
        for content in (b"", b"PK\x03\x04", b"\x1f\x8b\x08\x00broken", b"text"):
            with self.subTest(content):
                path = self.root / "file"
                path.write_bytes(content)
                self.expect_refused(path, str(path))
        self.expect_refused(self.root / "none", "no such file")

    def test_a_cut_archive_installs_nothing(self) -> None:
        whole = self.tar(self.RELEASE | {"data": os.urandom(100_000)})
        cut = self.root / "cut.tar.gz"
        cut.write_bytes(whole.read_bytes()[:50_000])
        self.expect_refused(cut, "can't be unpacked")

    def test_it_must_hold_one_server(self) -> None:
        self.expect_refused(self.tar({"README": b""}), "holds no program llama-server")
        both = self.tar({"a/llama-server": SERVER, "b/llama-server": SERVER})
        self.expect_refused(both, "holds a/llama-server and b/llama-server")

    def test_one_that_does_not_start_is_not_installed(self) -> None:
        broken = b"#!/bin/sh\necho libamdhip64.so.7 is missing; exit 127\n"
        self.expect_refused(self.tar({"llama-server": broken}), "libamdhip64.so.7 is missing")
        self.assertIn("libraries installed that rocm needs", self.output.getvalue())
        silent = b"#!/bin/sh\nexit 0\n"
        self.expect_refused(self.tar({"llama-server": silent}), "told no version")
        self.expect_refused(self.tar({"llama-server": b"\x7fELF"}), "can't be started")

    def test_a_version_is_no_path(self) -> None:
        evil = b'#!/bin/sh\necho "version: ../../evil (x)"\n'
        self.expect_refused(self.tar({"llama-server": evil}), "told no version")

    def test_engines_are_not_made_of_all_engines(self) -> None:
        self.engines.mkdir()
        self.expect_refused(self.root, "holds Yoke's engines themselves")

    def test_the_options_must_fit(self) -> None:
        for options in (("--backend", "rocm"), ("--from", "x"), ("--backend", "metal")):
            with self.subTest(options), self.assertRaises(SystemExit) as caught:
                get_llama_cpp.main(list(options))
            self.assertEqual(caught.exception.code, 2)
        self.assertIn("llama_server_rocm", self.output.getvalue())


class CudaTest(EngineToolTest):
    """Adding the CUDA engine to a CPU engine that is there."""

    CPU_SERVER = b"""#!/bin/sh
        echo "version: 0.5.0 (build 1, commit 0123456)"
        echo "loaded CPU backend from here"
        echo "Available devices:"
    """

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(mock.patch.object(platform, "machine", lambda: "x86_64"))
        self.pins: dict[str, Any] = {
            "version": "0.5.0",
            "release": "v0.5.0",
            "commit": "0123456789",
            "source": self.pin("source"),
            "modules": {
                "cpu-x86_64": self.pin("cpu"),
                "cuda-x86_64": self.pin("cuda", "bins/libggml-cuda.so"),
                "cuda12-x86_64": self.pin("ext", "bins/fallback/libggml-cuda.so"),
            },
        }
        self.enterContext(mock.patch.object(fetch, "load_pins", lambda: {"llama.cpp": self.pins}))
        self.enterContext(mock.patch.object(fetch, "npm_pack", self.npm_pack))
        self.cpu = self.engines / "llama.cpp-0.5.0/cpu"
        self.put_cpu_engine()

    def pin(self, package: str, member: str = "") -> dict[str, Any]:
        digest = base64.b64encode(hashlib.sha512(package.encode()).digest()).decode()
        return {
            "package": package,
            "version": "1.0.0",
            "size": 1,
            "integrity": f"sha512-{digest}",
            "member": member,
        }

    def npm_pack(self, pin: dict[str, Any], directory: Path, log: Path) -> Path:
        path = self.root / f"{pin['package']}.tgz"
        with tarfile.open(path, "w:gz") as archive:
            content = f"module of {pin['package']}".encode()
            member = tarfile.TarInfo(pin["member"])
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return path

    def put_cpu_engine(self) -> None:
        self.cpu.mkdir(parents=True)
        (self.cpu / "llama-server").write_bytes(self.CPU_SERVER)
        (self.cpu / "llama-server").chmod(0o755)
        manifest = {
            "name": "llama.cpp",
            "version": "0.5.0",
            "commit": "0123456789",
            "backend": "cpu",
            "integrity": get_llama_cpp.integrity_of(self.pins, "prebuilt"),
            "files": {"llama-server": len(self.CPU_SERVER)},
        }
        (self.cpu / "engine.json").write_text(json.dumps(manifest))

    def with_libraries(self, *present: str) -> int:
        def problem(library: Path | str) -> str:
            return "" if str(library) in present else f"no {library}"

        with mock.patch.object(engine_tree, "load_problem", problem):
            return self.call("--backend", "cuda")

    def module(self) -> str:
        return (self.cpu.with_name("cuda") / "libggml-cuda.so").read_text()

    def test_is_the_cpu_engine_and_the_module_for_the_cuda_that_is_installed(self) -> None:
        self.assertEqual(self.with_libraries("libcudart.so.12"), 0, self.output.getvalue())
        self.assertEqual(self.module(), "module of ext")
        manifest = engine_tree.read_manifest(self.cpu.with_name("cuda"))
        self.assertEqual(manifest["backend"], "cuda")
        self.assertEqual(manifest["modules"], ["libggml-cuda.so"])
        self.assertIn("cuda12", manifest["integrity"])
        server = self.cpu.with_name("cuda") / "llama-server"
        self.assertTrue(server.samefile(self.cpu / "llama-server"))
        self.assertFalse((self.cpu / "libggml-cuda.so").exists())
        self.assertEqual(self.installed(), ["llama.cpp-0.5.0/cpu", "llama.cpp-0.5.0/cuda"])

    def test_another_cuda_makes_another(self) -> None:
        self.with_libraries("libcudart.so.12")
        self.assertEqual(self.with_libraries("libcudart.so.13"), 0)
        self.assertEqual(self.module(), "module of cuda")

    def test_without_cuda_it_says_what_is_missing(self) -> None:
        self.assertEqual(self.with_libraries(), 0)
        self.assertEqual(self.module(), "module of cuda")
        self.assertIn("CUDA 13 engine finds no GPU yet", self.output.getvalue())
        self.assertIn("libcublas.so.13", self.output.getvalue())

    def test_the_user_may_choose(self) -> None:
        self.assertEqual(self.call("--backend", "cuda", "--cuda", "12"), 0)
        self.assertEqual(self.module(), "module of ext")

    def test_there_is_none_for_other_processors(self) -> None:
        args = get_llama_cpp.parse_arguments(["--backend", "cuda"])
        with mock.patch.object(platform, "machine", lambda: "aarch64"):
            jobs = get_llama_cpp.wanted_jobs(args, self.pins)
        self.assertEqual([job.backend for job in jobs], ["cpu"])
        self.assertIn("no CUDA engine for aarch64", self.output.getvalue())

    def test_the_pins_name_both(self) -> None:
        modules = json.loads(Path(get_llama_cpp.__file__).with_name("pins.json").read_text())
        for name in ("cuda-x86_64", "cuda12-x86_64"):
            pin = modules["llama.cpp"]["modules"][name]
            self.assertTrue(pin["integrity"].startswith("sha512-"))
            self.assertTrue(pin["member"].endswith("libggml-cuda.so"))


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    unittest.main()
