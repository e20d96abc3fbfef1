#!/usr/bin/env python3
"""Tests of the module's build and installation: a real compiler, and a llama.cpp of a few lines."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import engine_tree
import fetch
import get_llama_cpp
import llama_cpp_build
import rpc_module
from tools_test import ToolTest

CMAKE_LISTS = rpc_module.SOURCES / "CMakeLists.txt"
MODULE_CODE = """\
#include <cstdlib>
#include <cstring>
#include "ggml-rpc.h"
extern "C" const char* ggml_version();
extern "C" __attribute__((visibility("default"))) void* ggml_backend_init() { return nullptr; }
extern "C" __attribute__((visibility("default"))) int ggml_backend_score() {
  if (std::strcmp(ggml_version(), YOKE_GGML_VERSION) != 0) return 0;
  return std::getenv("YOKE_RPC_CLIENT") != nullptr ? 100 : 0;
}
__attribute__((visibility("default"))) int another_function() { return 1; }
"""
BASE_CODE = 'const char* ggml_version() { return "%s"; }\n'


def compile_base(directory: Path, version: str) -> None:
    code = directory / "base.c"
    code.write_text(BASE_CODE % version)
    library = directory / "libggml-base.so.0"
    command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{library.name}"]
    command += ["-o", str(library), str(code)]
    subprocess.run(command, check=True, timeout=60)
    (directory / "libggml-base.so").symlink_to(library.name)
    code.unlink()


def put_tree(tree: Path, version: str) -> None:
    """What the module needs of llama.cpp's source."""
    numbers = zip(("MAJOR", "MINOR", "PATCH"), version.split("."), strict=True)
    for directory in ("ggml/include", "ggml/src"):
        (tree / directory).mkdir(parents=True)
    lines = [f"set(GGML_VERSION_{part} {number})\n" for part, number in numbers]
    (tree / "ggml/CMakeLists.txt").write_text("".join(lines))
    (tree / "ggml/include/ggml-rpc.h").write_text("#pragma once\n")
    (tree / "ggml/src/ggml-impl.h").write_text("#pragma once\n")
    (tree / "ggml/src/ggml.c").write_text("int none;\n")
    (tree / "LICENSE").write_text("MIT\n")


class ModuleTest(ToolTest):
    """Engines for CPU and Vulkan without the module, and the module's sources."""

    GGML = "1.2.3"

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(mock.patch.object(platform, "machine", lambda: "x86_64"))
        self.pins = fetch.load_pins()["llama.cpp"] | {"ggml": self.GGML}
        self.enterContext(mock.patch.object(fetch, "load_pins", lambda: {"llama.cpp": self.pins}))
        self.release = self.root / f"engines/llama.cpp-{self.pins['version']}"
        self.cpu, self.vulkan = self.release / "cpu", self.release / "vulkan"
        self.put_engine(self.cpu)
        shutil.copytree(self.cpu, self.vulkan, symlinks=True)
        self.put_manifest(self.vulkan, "vulkan")
        self.sources = self.root / "modules/rpc_pipeline"
        self.put_sources()
        self.enterContext(mock.patch.object(rpc_module, "SOURCES", self.sources))
        # The compiler's own cache, as compilers may be wrappers that keep theirs in XDG_CACHE_HOME.
        self.enterContext(mock.patch.object(llama_cpp_build, "faster_tools", dict))
        self.fetched: list[str] = []
        self.enterContext(mock.patch.object(llama_cpp_build, "get_source", self.get_source))

    def put_engine(self, home: Path) -> None:
        home.mkdir(parents=True)
        (home / "llama-server").write_text("#!/bin/sh\n")
        (home / "libggml-rpc.so").write_text("the stock client")
        compile_base(home, self.GGML)
        self.put_manifest(home, "cpu")

    def put_manifest(self, home: Path, module: str) -> None:
        (home / "engine.json").unlink(missing_ok=True)
        manifest = {
            "name": "llama.cpp",
            "version": self.pins["version"],
            "commit": self.pins["commit"],
            "backend": module,
            "integrity": get_llama_cpp.integrity_of(self.pins, "prebuilt", module),
            "files": engine_tree.files_in(home),
        }
        engine_tree.write_manifest(home, manifest)

    def put_sources(self) -> None:
        """The real CMakeLists.txt, with an empty file for each that it names."""
        self.sources.mkdir(parents=True)
        shutil.copy(CMAKE_LISTS, self.sources)
        for name in re.findall(r"\w+\.(?:cc|h)\b", CMAKE_LISTS.read_text()):
            (self.sources / name).write_text("")
        (self.sources / "module.cc").write_text(MODULE_CODE)

    def get_source(self, job: llama_cpp_build.Job) -> None:
        self.fetched.append(str(job.source))
        put_tree(job.source, self.GGML)

    def call(self, *options: str) -> int:
        return fetch.run_tool(lambda: get_llama_cpp.main(options))

    def module_of(self, home: Path) -> Path:
        return home / rpc_module.MODULE

    def record_of(self, home: Path) -> dict[str, Any]:
        record: dict[str, Any] = engine_tree.read_manifest(home)["rpc_client"]
        return record

    def names_in(self, home: Path) -> set[str]:
        return {path.name for path in home.iterdir()}


class InstallTest(ModuleTest):
    def test_engines_of_before_get_the_module_and_nothing_else_changes(self) -> None:
        before = {home: self.names_in(home) for home in (self.cpu, self.vulkan)}
        self.assertEqual(self.call(), 0, self.output.getvalue())
        self.assertEqual(len(self.fetched), 1)
        self.assertFalse(Path(self.fetched[0]).exists())
        for home, names in before.items():
            self.assertEqual(self.names_in(home) - names, set(rpc_module.FILES))
            self.assertEqual(self.record_of(home)["ggml"], self.GGML)
            sizes = {name: (home / name).stat().st_size for name in rpc_module.FILES}
            self.assertEqual(self.record_of(home)["files"], sizes)
            module = get_llama_cpp.is_installed(home, self.pins, "prebuilt", home.name)
            self.assertTrue(module, f"{home} counts as broken")
        self.assertEqual(self.output.getvalue().count("Building the pipelined"), 1)

    def test_the_module_is_what_llama_server_looks_for(self) -> None:
        self.assertEqual(self.call("--backend", "cpu"), 0, self.output.getvalue())
        path = self.module_of(self.cpu)
        self.assertTrue(os.access(path, os.X_OK))
        exported = subprocess.run(
            ["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True
        ).stdout
        names = {line.split()[-1] for line in exported.splitlines()}
        self.assertEqual(names, {"ggml_backend_init", "ggml_backend_score"})
        dynamic = subprocess.run(
            ["readelf", "-d", path], capture_output=True, text=True, check=True
        ).stdout
        self.assertIn("RUNPATH)            Library runpath: [$ORIGIN]", dynamic)
        needed = set(re.findall(r"\[(lib[^]]*)\]", dynamic)) - {path.name}
        self.assertLessEqual(
            needed,
            {"libggml-base.so.0", "libstdc++.so.6", "libgcc_s.so.1", "libc.so.6", "libm.so.6"},
        )
        self.assertIn("libggml-base.so.0", needed)
        # Without the variable, which the tests do not set, it leaves the work to the stock client.
        self.assertEqual(ctypes.CDLL(str(path)).ggml_backend_score(), 0)

    def test_the_headers_are_kept(self) -> None:
        self.call()
        kept = self.release / f".headers-{self.pins['commit'][:12]}"
        files = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
        self.assertEqual(
            files,
            {"LICENSE", "ggml/CMakeLists.txt", "ggml/include/ggml-rpc.h", "ggml/src/ggml-impl.h"},
        )
        self.assertEqual(self.names_in(self.release), {"cpu", "vulkan", kept.name})

    def test_a_second_call_builds_nothing(self) -> None:
        self.call()
        before = self.module_of(self.cpu).stat()
        with mock.patch.object(fetch, "run_logged", side_effect=AssertionError("no command")):
            self.assertEqual(self.call(), 0)
        self.assertEqual(self.module_of(self.cpu).stat(), before)

    def test_two_calls_at_once_build_it_once(self) -> None:
        calls = [threading.Thread(target=get_llama_cpp.main, args=([],)) for _ in range(2)]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        self.assertEqual(self.output.getvalue().count("Building the pipelined"), 1)
        self.assertEqual(rpc_module.lacking([self.cpu, self.vulkan]), [])

    def test_an_engine_that_comes_later_gets_a_copy(self) -> None:
        shutil.rmtree(self.vulkan)
        self.call("--backend", "cpu")
        shutil.copytree(
            self.cpu, self.vulkan, symlinks=True, ignore=shutil.ignore_patterns(*rpc_module.FILES)
        )
        self.put_manifest(self.vulkan, "vulkan")
        with mock.patch.object(fetch, "run_logged", side_effect=AssertionError("no command")):
            self.assertEqual(self.call(), 0, self.output.getvalue())
        self.assertEqual(
            self.module_of(self.vulkan).read_bytes(), self.module_of(self.cpu).read_bytes()
        )

    def test_engines_of_other_releases_and_without_modules_are_left_alone(self) -> None:
        other = self.release.with_name("llama.cpp-0.4.9") / "cpu"
        static = self.release / "rocm"
        shutil.copytree(self.cpu, other, symlinks=True)
        shutil.copytree(self.cpu, static, symlinks=True)
        (static / "libggml-rpc.so").unlink()
        self.call()
        self.assertFalse(self.module_of(other).exists())
        self.assertFalse(self.module_of(static).exists())
        self.assertTrue(self.module_of(self.cpu).exists())

    def test_an_engine_of_an_archive_has_it_beside_its_program(self) -> None:
        rocm = self.release / "rocm"
        shutil.copytree(self.cpu, rocm / "bin", symlinks=True)
        (rocm / "bin/engine.json").unlink()
        version = self.pins["version"]
        manifest = {"name": "llama.cpp", "version": version, "program": "bin/llama-server"}
        engine_tree.write_manifest(rocm, manifest)
        self.call()
        self.assertTrue((rocm / "bin" / rpc_module.MODULE).exists())
        self.assertEqual(self.record_of(rocm)["ggml"], self.GGML)

    def test_an_archive_of_the_release_gets_it_and_another_does_not(self) -> None:
        archive = self.root / "archive"
        shutil.copytree(self.cpu, archive, symlinks=True)
        (archive / rpc_module.MODULE).write_text("of another engine")
        for version, gets_it in ((self.pins["version"], True), ("0.4.9", False)):
            with self.subTest(version):
                said = f"version: {version} (build 1, commit 0123456)"
                (archive / "llama-server").write_text(f"#!/bin/sh\necho '{said}'\n")
                code = self.call("--backend", "rocm", "--from", str(archive))
                self.assertEqual(code, 0, self.output.getvalue())
                home = self.release.with_name(f"llama.cpp-{version}") / "rocm"
                self.assertEqual(self.names_in(home) & set(rpc_module.FILES) != set(), gets_it)
                self.assertEqual("rpc_client" in engine_tree.read_manifest(home), gets_it)

    def test_a_build_of_the_engine_keeps_the_headers(self) -> None:
        shutil.rmtree(self.release)

        def fill_home(job: llama_cpp_build.Job, *_: Any) -> None:
            self.put_engine(job.home)

        with (
            mock.patch.object(llama_cpp_build, "build"),
            mock.patch.object(llama_cpp_build, "check_portable"),
            mock.patch.object(get_llama_cpp, "fill_home", fill_home),
        ):
            self.assertEqual(self.call("--backend", "cpu"), 0, self.output.getvalue())
        self.assertEqual(len(self.fetched), 1)
        self.assertFalse(Path(self.fetched[0]).exists())
        self.assertTrue(self.module_of(self.cpu).exists())

    def test_without_the_modules_sources_nothing_is_done(self) -> None:
        shutil.rmtree(self.sources)
        self.assertEqual(self.call(), 0)
        self.assertFalse(self.module_of(self.cpu).exists())
        self.assertNotIn("Note", self.output.getvalue())


class ChangeTest(ModuleTest):
    def test_changed_sources_are_built_again_without_a_download(self) -> None:
        self.call()
        first = self.record_of(self.cpu)["sources"]
        before = self.module_of(self.cpu).stat().st_ino
        source = self.sources / "module.cc"
        source.write_text(source.read_text() + "// Changed.\n")
        self.assertEqual(self.call(), 0, self.output.getvalue())
        self.assertEqual(len(self.fetched), 1)
        self.assertNotEqual(self.record_of(self.cpu)["sources"], first)
        self.assertEqual(self.record_of(self.vulkan), self.record_of(self.cpu))
        # A file of its own: what runs with the old one is not hurt.
        self.assertNotEqual(self.module_of(self.cpu).stat().st_ino, before)

    def lacks(self) -> bool:
        return bool(rpc_module.lacking([self.cpu]))

    def test_what_makes_it_out_of_date(self) -> None:
        self.call("--backend", "cpu")
        self.assertFalse(self.lacks())
        for name, counts in (("wire_test.cc", False), ("fake_worker.h", False), ("new.h", True)):
            with self.subTest(name):
                (self.sources / name).write_text("// New.\n")
                self.assertEqual(self.lacks(), counts)
                (self.sources / name).unlink()
        for compiler, counts in (("c++ 99", True), (llama_cpp_build.NO_COMPILER, False)):
            with (
                self.subTest(compiler),
                mock.patch.object(llama_cpp_build, "compiler_text", lambda text=compiler: text),
            ):
                self.assertEqual(self.lacks(), counts)
        for name in rpc_module.FILES:
            with self.subTest(name):
                content = (self.cpu / name).read_bytes()
                (self.cpu / name).write_bytes(content + b"!")
                self.assertTrue(self.lacks())
                (self.cpu / name).unlink()
                self.assertTrue(self.lacks())
                (self.cpu / name).write_bytes(content)
                self.assertFalse(self.lacks())


class FailureTest(ModuleTest):
    def check_stock_client(self) -> None:
        """The engines are as they were, and the user is told."""
        for home in (self.cpu, self.vulkan):
            self.assertNotIn("rpc_client", json.loads((home / "engine.json").read_text()))
            self.assertFalse([name for name in self.names_in(home) if "yoke" in name])
            self.assertFalse([name for name in self.names_in(home) if name.startswith(".")])
            self.assertIn(f"{home} goes without the pipelined RPC client", self.output.getvalue())

    def test_sources_that_do_not_compile(self) -> None:
        (self.sources / "module.cc").write_text("this is no C++\n")
        self.assertEqual(self.call(), 0)
        self.check_stock_client()
        self.assertIn("this is no C++", self.output.getvalue())
        self.assertIn("rpc-module.log", self.output.getvalue())
        (self.sources / "module.cc").write_text(MODULE_CODE)
        self.assertEqual(self.call(), 0)
        self.assertTrue(self.module_of(self.vulkan).exists())

    def test_a_module_of_older_sources_does_not_stay(self) -> None:
        self.call()
        (self.sources / "module.cc").write_text("this is no C++\n")
        self.assertEqual(self.call(), 0)
        self.check_stock_client()

    def test_no_network(self) -> None:
        error = fetch.SetupError("npm failed with exit code 1")
        with mock.patch.object(llama_cpp_build, "get_source", side_effect=error):
            self.assertEqual(self.call(), 0)
        self.check_stock_client()
        self.assertIn("npm failed", self.output.getvalue())

    def test_a_source_of_another_ggml_than_pinned(self) -> None:
        self.pins["ggml"] = "1.2.4"
        self.assertEqual(self.call(), 0)
        self.check_stock_client()
        self.assertIn(
            "The source has ggml '1.2.3', and pins.json says 1.2.4", self.output.getvalue()
        )

    def test_an_engine_that_the_module_refuses(self) -> None:
        for name in rpc_module.BASE_LIBRARIES:
            (self.vulkan / name).unlink()
        compile_base(self.vulkan, "1.2.2")
        self.put_manifest(self.vulkan, "vulkan")
        self.assertEqual(self.call(), 0, self.output.getvalue())
        self.assertTrue(self.module_of(self.cpu).exists())
        self.assertFalse(self.module_of(self.vulkan).exists())
        self.assertIn("it refuses this engine", self.output.getvalue())

    def test_an_engine_that_cannot_be_written_to(self) -> None:
        with mock.patch.object(rpc_module, "put", side_effect=PermissionError("not yours")):
            self.assertEqual(self.call(), 0)
        self.check_stock_client()


class SourceTreeTest(ModuleTest):
    """A llama.cpp tree of the user's own."""

    def setUp(self) -> None:
        super().setUp()
        self.tree = self.root / "tree"
        self.home = self.root / "engines/llama.cpp-unversioned/cpu"
        self.enterContext(mock.patch.object(get_llama_cpp, "install", self.install))

    def install(self, job: llama_cpp_build.Job) -> None:
        self.assertEqual(job.home, self.home)
        self.put_engine(self.home)
        engine_tree.change_manifest(self.home, {"version": job.version})

    def test_of_the_pinned_ggml_gets_the_module(self) -> None:
        put_tree(self.tree, self.GGML)
        (self.tree / "CMakeLists.txt").write_text("")
        self.assertEqual(self.call("--source", str(self.tree)), 0, self.output.getvalue())
        self.assertTrue(self.module_of(self.home).exists())
        self.assertEqual(self.fetched, [])

    def test_of_another_ggml_does_not(self) -> None:
        put_tree(self.tree, "1.3.0")
        (self.tree / "CMakeLists.txt").write_text("")
        self.assertEqual(self.call("--source", str(self.tree)), 0, self.output.getvalue())
        self.assertFalse(self.module_of(self.home).exists())
        self.assertIn(
            "has ggml 1.3.0, and the pipelined RPC client is for 1.2.3", self.output.getvalue()
        )


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    unittest.main()
