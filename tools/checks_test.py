#!/usr/bin/env python3
"""Tests of the checks: each rule lets good code pass and reports a violation at its line."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import check_layers
import check_style

TOOLS = Path(__file__).resolve().parent


class TreeTest(unittest.TestCase):
    """A test with a source tree of its own."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name).resolve()

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def expect(self, problems: list[str], *parts: str) -> None:
        """One problem, with all these parts in it."""
        self.assertEqual(len(problems), 1, problems)
        for part in parts:
            self.assertIn(part, problems[0])


class LayersTest(TreeTest):
    def setUp(self) -> None:
        super().setUp()
        self.write("src/LAYERS", "# Lowest first.\nbase\nio  # Asio\nhttp\n")
        self.write("src/base/CMakeLists.txt", "yoke_module(base\n  HEADERS a.h)\n")
        self.write("src/base/a.h", "#pragma once\n#include <string>\n")
        self.write(
            "src/io/CMakeLists.txt",
            "yoke_module(io\n  DEPS base\n  SOURCES b.cc $<TARGET_OBJECTS:x>\n  HEADERS b.h)\n",
        )
        self.write("src/io/b.h", '#include "base/a.h"\n')
        self.write("src/io/b.cc", '#include "io/b.h"\n')
        self.write(
            "src/http/CMakeLists.txt",
            "yoke_module(http\n  DEPS base\n       io\n  SOURCES c.cc)\ntarget_x(http io)\n",
        )
        self.write(
            "src/http/c.cc",
            '#include <boost/beast/http.hpp>\n#include "base/a.h"\n#include "io/b.h"\n',
        )

    def problems(self) -> list[str]:
        return check_layers.LayerCheck(self.root).run()

    def test_a_good_tree_passes(self) -> None:
        self.assertEqual(self.problems(), [])

    def test_the_program_exits_with_1_and_names_file_and_line(self) -> None:
        self.write("src/base/a.h", '#pragma once\n#include "io/b.h"\n')
        run = subprocess.run(
            [sys.executable, TOOLS / "check_layers.py", self.root], capture_output=True, text=True
        )
        self.assertEqual(run.returncode, 1)
        self.assertIn("src/base/a.h:2: base includes io/b.h", run.stdout)

    def test_an_include_beyond_deps(self) -> None:
        self.write("src/base/a.h", '#pragma once\n#include "io/b.h"\n')
        self.expect(self.problems(), "src/base/a.h:2:", "io is not in the DEPS of")

    def test_a_dep_on_a_higher_module(self) -> None:
        self.write("src/base/CMakeLists.txt", "yoke_module(base\n  DEPS io\n  HEADERS a.h)\n")
        self.write("src/base/a.h", '#pragma once\n#include "io/b.h"\n')
        self.expect(self.problems(), "src/base/CMakeLists.txt:2:", "must not depend on io")

    def test_a_dep_that_is_no_module(self) -> None:
        self.write("src/base/CMakeLists.txt", "yoke_module(base\n  DEPS oi\n  HEADERS a.h)\n")
        self.expect(self.problems(), "src/base/CMakeLists.txt:2:", "oi")

    def test_an_unused_dep(self) -> None:
        self.write("src/http/c.cc", '#include "base/a.h"\n')
        self.expect(self.problems(), "src/http/CMakeLists.txt:3:", "never includes io")

    def test_a_directory_that_is_not_in_layers(self) -> None:
        self.write("src/extra/x.cc", "")
        self.expect(self.problems(), "src/LAYERS", "extra")

    def test_a_layer_without_a_directory(self) -> None:
        self.write("src/LAYERS", "base\nio\nghost\nhttp\n")
        self.expect(self.problems(), "src/LAYERS:3:", "src/ghost")

    def test_a_module_without_yoke_module(self) -> None:
        self.write("src/base/CMakeLists.txt", "add_library(base a.cc)\n")
        self.expect(self.problems(), "src/base/CMakeLists.txt:1:", "no yoke_module(base")

    def test_an_include_without_its_module(self) -> None:
        self.write("src/io/b.cc", '#include "b.h"\n')
        self.expect(self.problems(), "src/io/b.cc:1:", '"module/file.h"')

    def test_an_own_header_in_angle_brackets(self) -> None:
        self.write("src/io/b.cc", "#include <base/a.h>\n")
        self.expect(self.problems(), "src/io/b.cc:1:", 'write "base/a.h"')

    def test_beast_outside_http(self) -> None:
        self.write("src/io/b.cc", '#include "io/b.h"\n# include <boost/beast/core.hpp>\n')
        self.expect(self.problems(), "src/io/b.cc:2:", "only the sources of src/http")

    def test_beast_in_a_header_of_http(self) -> None:
        self.write("src/http/CMakeLists.txt", "yoke_module(http SOURCES c.h DEPS io)\n")
        self.write("src/http/c.h", '#include "io/b.h"\n#include <boost/beast/core.hpp>\n')
        (self.root / "src/http/c.cc").unlink()
        self.expect(self.problems(), "src/http/c.h:2:", "boost/beast")

    def test_libraries_of_one_module_in_another(self) -> None:
        for library in ("toml++/toml.h", "CLI/App.hpp", "spdlog/spdlog.h"):
            with self.subTest(library):
                self.write("src/io/b.cc", f"#include <{library}>\n")
                self.expect(self.problems(), "src/io/b.cc:1:", library)

    def test_a_file_that_cmake_does_not_know(self) -> None:
        self.write("src/io/forgotten_test.cc", "")
        self.expect(self.problems(), "src/io/forgotten_test.cc:1:", "is not named in")

    def write_engine_module(self, file: str, includes: str) -> None:
        self.write(
            "modules/rpc/CMakeLists.txt",
            "set(core_sources a.cc\n  a.h)  # b.cc\nset(core_tests a_test.cc a_test_support.h)\n"
            "set(ggml_sources g.cc)\nset(ggml_headers g.h)\n",
        )
        self.write("modules/rpc/a.h", "#include <sys/socket.h>\n#include <netinet/tcp.h>\n")
        self.write("modules/rpc/a.cc", '#include "rpc/a.h"\n#include <vector>\n')
        self.write("modules/rpc/a_test.cc", '#include "rpc/a.h"\n#include <gtest/gtest.h>\n')
        self.write("modules/rpc/a_test_support.h", "#include <gmock/gmock.h>\n")
        self.write("modules/rpc/g.h", "#include <ggml-backend.h>\n")
        self.write("modules/rpc/g.cc", '#include "rpc/g.h"\n#include "ggml.h"\n')
        self.write(f"modules/rpc/{file}", includes)

    def test_a_good_module_of_an_engine_passes(self) -> None:
        self.write_engine_module("a.h", "#include <cstddef>\n")
        self.assertEqual(self.problems(), [])

    def test_the_includes_of_a_module_of_an_engine(self) -> None:
        for file, include, problem in (
            ("a.cc", '"ggml.h"', "only ggml_sources and ggml_headers"),
            ("a.cc", "<gguf.h>", "only ggml_sources and ggml_headers"),
            ("a.h", '"rpc/g.h"', "only ggml_sources and ggml_headers"),
            ("a.cc", '"base/a.h"', "there is no modules/base/a.h"),
            ("g.cc", '"a.h"', "there is no modules/a.h"),
            ("g.cc", "<fmt/format.h>", "not there where engines are built"),
            ("b.cc", "<vector>", "is not named in modules/rpc/CMakeLists.txt"),
        ):
            with self.subTest(file=file, include=include):
                self.write_engine_module(file, f"#include {include}\n")
                self.expect(self.problems(), f"modules/rpc/{file}:1:", problem)
                (self.root / "modules/rpc" / file).unlink()


class StyleTest(TreeTest):
    def problems(self) -> list[str]:
        return check_style.StyleCheck(self.root).run()

    def check_source(self, code: str) -> list[str]:
        self.write("src/io/x.cc", code)
        return self.problems()

    def test_good_files_pass(self) -> None:
        self.write("src/io/x.h", "// What it is.\n// And more.\n#pragma once\n\nint f();\n")
        self.write("docs/page.md", "See /usr/bin and https://example.org/work/x.\n")
        self.assertEqual(self.problems(), [])

    def test_the_program_exits_with_1_and_names_file_and_line(self) -> None:
        self.write("src/io/x.cc", "int a;\nint b; \n")
        run = subprocess.run(
            [sys.executable, TOOLS / "check_style.py", self.root], capture_output=True, text=True
        )
        self.assertEqual(run.returncode, 1)
        self.assertEqual(run.stdout, "src/io/x.cc:2: white space at the end of the line\n")

    def test_structured_binding_on_co_await(self) -> None:
        for code in (
            "auto [a, b] = co_await f();",
            "const auto& [a, b] =\n    co_await f();",
            "auto&& [a] = std::move(co_await f());",
            "auto [a, b]{co_await f()};",
            "for (auto& [a, b] : co_await f()) {}",
        ):
            with self.subTest(code):
                self.expect(self.check_source("\n" + code), "src/io/x.cc:2:", "structured binding")

    def test_structured_binding_on_a_named_result(self) -> None:
        self.assertEqual(
            self.check_source("auto r = co_await f();\nauto& [a, b] = r;\nco_await g();\n"), []
        )

    def test_coroutine_lambda_with_captures(self) -> None:
        for code in (
            "auto f = [&]() -> io::Task<void> { co_return; };",
            "spawn([this] -> Task { co_await g(); });",
            "spawn([x = 1](int a) mutable noexcept -> io::Task<Result<void>> { co_await g(a); });",
            "spawn([=]<class T>(T a) { if (a) { co_yield a; } });",
            "auto f = [] { return [&a]() -> Task { co_await a; }; };",
            "return [a]() -> Task { co_return; };",
        ):
            with self.subTest(code):
                self.expect(self.check_source("\n" + code), "src/io/x.cc:2:", "this lambda")

    def test_lambdas_that_may_be(self) -> None:
        for code in (
            "auto f = [](int a) -> io::Task<void> { co_await g(a); };",
            "auto f = [x] { return x; };",
            "auto f = [x] { spawn([]() -> Task { co_return; }); return x; };",
            "Task f() { auto g = [&] { return 1; }; co_await h(a[i], g); }",
            "[[nodiscard]] Task f() { co_return; }",
            'auto f = [x] { log("co_await"); /* co_await */ };  // co_await',
        ):
            with self.subTest(code):
                self.assertEqual(self.check_source(code), [])

    def test_raw_strings_and_digit_separators_are_no_code(self) -> None:
        text = 'auto a = R"x("auto [a] = co_await b)x"; int n = 1\'000; char c = \'"\';\n'
        self.assertEqual(self.check_source(text), [])
        self.expect(self.check_source(text + "auto [a] = co_await b;\n"), "src/io/x.cc:2:")

    def test_catch_all(self) -> None:
        self.expect(self.check_source("try {} catch (...) { n = 1; }"), "swallows")
        self.assertEqual(
            self.check_source("try {} catch (...) { error = std::current_exception(); }"), []
        )

    def test_opening_of_a_header(self) -> None:
        for text in (
            "#pragma once\n",
            "// What it is.\nint f();\n",
            "// What it is.\n#ifndef X\n#define X\n#endif\n",
            "",
        ):
            with self.subTest(text):
                self.write("src/io/x.h", text)
                self.expect(self.problems(), "src/io/x.h:1:", "#pragma once")

    def test_sizes(self) -> None:
        limits = {"src/io/x.cc": 500, "src/io/x_test.cc": 800, "tests/a/x.cc": 800}
        for path, limit in limits.items():
            with self.subTest(path):
                self.write(path, "int a;\n" * limit)
                self.assertEqual(self.problems(), [])
                self.write(path, "int a;\n" * (limit + 1))
                self.expect(self.problems(), f"{path}:{limit + 1}:", f"{limit} is the limit")
                (self.root / path).unlink()
        header = "// What it is.\n#pragma once\n"
        self.write("src/io/x.h", header + "int a;\n" * 148)
        self.assertEqual(self.problems(), [])
        self.write("src/io/x.h", header + "int a;\n" * 149)
        self.expect(self.problems(), "src/io/x.h:151:", "150 is the limit")

    def test_leftovers(self) -> None:
        for word in ("TO" "DO", "FIX" "ME"):
            with self.subTest(word):
                self.write("docs/page.md", f"Fine.\nWrite this ({word}).\n")
                self.expect(self.problems(), "docs/page.md:2:", word)

    def test_directories_of_one_machine(self) -> None:
        for directory in ("root", "work"):
            with self.subTest(directory):
                self.write("tools/x.sh", f"cd /{directory}/main\n")
                self.expect(self.problems(), "tools/x.sh:1:", f"/{directory}/")

    def test_built_files_are_not_looked_at(self) -> None:
        self.write("build/release/x.cc", "int a; \n")
        self.write("out/CMakeCache.txt", "")
        self.write("out/x.cc", "int a; \n")
        self.write("src/io/testdata/log.txt", "line \n")
        self.assertEqual(self.problems(), [])

    def test_error_codes_and_their_page(self) -> None:
        self.write("src/io/x.cc", 'constexpr ErrorCode kGone{"gone"};\nErrorCode kBad{"bad_day"};\n')
        self.write("src/io/x_test.cc", 'ErrorCode kOdd{"only_in_a_test"};\n')
        self.assertEqual(self.problems(), [])  # Without a page there is nothing to compare.
        self.write("docs/errors.md", "# Errors, as `this`\n| `gone` | left |\n### `bad_day`\n`x`\n")
        self.assertEqual(self.problems(), [])
        self.write("docs/errors.md", "- `gone`\n")
        self.expect(self.problems(), "src/io/x.cc:2:", "`bad_day`")
        self.write("docs/errors.md", "- `gone`\n- `bad_day`\n- `imagined`\n")
        self.expect(self.problems(), "docs/errors.md:3:", "`imagined`")


if __name__ == "__main__":
    unittest.main()
