#!/usr/bin/env python3
"""Checks that the modules of src/ depend on each other only as they say they do.

src/LAYERS holds the modules from the lowest to the highest; DEPS of yoke_module() in a module's
CMakeLists.txt names those it uses. Includes have to agree with both.

What lies in modules/ is loaded by an engine and stands alone: it has its own headers, the standard
library's and the system's. The engine's headers are for the files in ggml_sources and ggml_headers
of its CMakeLists.txt.

usage: check_layers.py [ROOT]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
ENGINE_HEADER = re.compile(r"(ggml|gguf|llama)[^/]*\.h")
STANDARD_HEADER = re.compile(r"[a-z0-9_]+(\.h)?|(arpa|linux|net|netinet|sys)/[a-z0-9_]+\.h")
KEYWORDS = {"ROOT", "DEPS", "LIBS", "SOURCES", "HEADERS", "TESTS", "TEST_LIBS"}


@dataclass(frozen=True)
class Restriction:
    """A library that only some files may include."""

    prefix: str
    allowed: re.Pattern[str]
    where: str


RESTRICTIONS = (
    Restriction("boost/beast", re.compile(r"src/http/[^/]+\.cc"), "the sources of src/http"),
    Restriction(
        "toml++/", re.compile(r"src/config/([^/]+\.cc|toml_reader\.h)"), "src/config (toml_reader)"
    ),
    Restriction("CLI/", re.compile(r"src/cli/[^/]+\.cc"), "the sources of src/cli"),
    Restriction("spdlog/", re.compile(r"src/base/log\.cc"), "src/base/log.cc"),
)


@dataclass
class Module:
    """What a module's CMakeLists.txt says of it."""

    name: str
    cmake: Path
    deps: dict[str, int] = field(default_factory=dict)  # Name to line.
    names_in_cmake: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Include:
    line: int
    target: str
    quoted: bool


def includes_of(file: Path) -> Iterator[Include]:
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if match := INCLUDE.match(line):
            yield Include(number, match[2], match[1] == '"')


def read_layers(file: Path) -> dict[str, int]:
    """The modules in the file's order, each with its line."""
    layers: dict[str, int] = {}
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if name := line.partition("#")[0].strip():
            layers[name] = number
    return layers


def read_module(cmake: Path) -> Module | None:
    """None if there is no yoke_module() in the file."""
    module: Module | None = None
    keyword = ""
    inside = False
    names: set[str] = set()
    for number, line in enumerate(cmake.read_text().splitlines(), 1):
        code = line.partition("#")[0]
        if start := re.search(r"\byoke_module\(\s*(\w+)", code):
            module = Module(start[1], cmake, names_in_cmake=names)
            code = code[start.end() :]
            inside = True
        for word in re.findall(r"[^\s()]+|\)", code):
            names.add(word)
            if not inside or module is None:
                continue
            if word == ")":
                inside = False
            elif word in KEYWORDS:
                keyword = word
            elif keyword == "DEPS":
                module.deps[word] = number
    return module


def read_lists(cmake: Path) -> dict[str, set[str]]:
    """The values of set(NAME value...) in the file."""
    code = re.sub(r"#.*", "", cmake.read_text())
    return {name: set(words.split()) for name, words in re.findall(r"\bset\((\w+)([^()]*)\)", code)}


class LayerCheck:
    """Collects what is wrong below `root` in `problems`, one line each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.src = root / "src"
        self.problems: list[str] = []
        self.layers = read_layers(self.src / "LAYERS")
        self.order = list(self.layers)

    def run(self) -> list[str]:
        directories = sorted(path.name for path in self.src.iterdir() if path.is_dir())
        for name in self.order:
            if name not in directories:
                self.report(self.src / "LAYERS", self.layers[name], f"there is no src/{name}")
        for name in directories:
            self.check_module(name)
        for file in self.sources(self.root / "tests"):
            self.check_restrictions(file)
        for cmake in sorted(self.root.glob("modules/*/CMakeLists.txt")):
            self.check_engine_module(cmake)
        return self.problems

    def report(self, file: Path, line: int, message: str) -> None:
        self.problems.append(f"{file.relative_to(self.root)}:{line}: {message}")

    @staticmethod
    def sources(directory: Path) -> list[Path]:
        return sorted(path for path in directory.rglob("*") if path.suffix in {".h", ".cc"})

    def check_module(self, name: str) -> None:
        cmake = self.src / name / "CMakeLists.txt"
        if name not in self.layers:
            self.report(self.src / "LAYERS", 1, f"the module {name} is missing")
            return
        module = read_module(cmake) if cmake.exists() else None
        if module is None or module.name != name:
            self.report(cmake, 1, f"there is no yoke_module({name} ...) here")
            return
        self.check_deps(module)
        used = set()
        for file in self.sources(self.src / name):
            self.check_restrictions(file)
            self.check_listed(module, file)
            used |= self.check_includes(module, file)
        for dep, line in module.deps.items():
            if dep in self.layers and dep not in used:
                self.report(cmake, line, f"{name} never includes {dep}: take it out of DEPS")

    def check_deps(self, module: Module) -> None:
        own = self.order.index(module.name)
        for dep, line in module.deps.items():
            if dep not in self.layers:
                self.report(module.cmake, line, f"DEPS names {dep}, which is not in src/LAYERS")
            elif self.order.index(dep) >= own:
                self.report(
                    module.cmake,
                    line,
                    f"{module.name} must not depend on {dep}, which does not stand above it in "
                    "src/LAYERS",
                )

    def check_includes(self, module: Module, file: Path) -> set[str]:
        """The other modules that the file uses."""
        used = set()
        for include in includes_of(file):
            target = include.target.partition("/")[0]
            if not include.quoted:
                if target in self.layers and (self.src / include.target).exists():
                    self.report(file, include.line, f'write "{include.target}", with quotes')
                continue
            if not (self.src / include.target).is_file() or target not in self.layers:
                self.report(
                    file,
                    include.line,
                    f'there is no src/{include.target}: includes are written "module/file.h"',
                )
            elif target != module.name:
                used.add(target)
                if target not in module.deps:
                    self.report(
                        file,
                        include.line,
                        f"{module.name} includes {include.target}, but {target} is not in the DEPS "
                        f"of {module.cmake.relative_to(self.root)}",
                    )
        return used

    def check_restrictions(self, file: Path) -> None:
        path = file.relative_to(self.root).as_posix()
        for include in includes_of(file):
            for rule in RESTRICTIONS:
                if include.target.startswith(rule.prefix) and not rule.allowed.fullmatch(path):
                    self.report(
                        file, include.line, f"only {rule.where} may include <{include.target}>"
                    )

    def check_listed(self, module: Module, file: Path) -> None:
        """What CMake is not told of is neither built nor checked. Headers of tests need no check."""
        if file.name.endswith("test_support.h"):
            return
        name = file.relative_to(module.cmake.parent).as_posix()
        if name not in module.names_in_cmake:
            self.report(file, 1, f"is not named in {module.cmake.relative_to(self.root)}")

    def check_engine_module(self, cmake: Path) -> None:
        lists = read_lists(cmake)
        with_engine = lists.get("ggml_sources", set()) | lists.get("ggml_headers", set())
        of_tests = lists.get("core_tests", set())
        for file in self.sources(cmake.parent):
            if not any(file.name in names for names in lists.values()):
                self.report(file, 1, f"is not named in {cmake.relative_to(self.root)}")
                continue
            for include in includes_of(file):
                if file.name in of_tests and not include.quoted:
                    continue
                if problem := self.problem_of(file, include, with_engine):
                    self.report(file, include.line, problem)

    def problem_of(self, file: Path, include: Include, with_engine: set[str]) -> str:
        """What is wrong with an include in modules/, or nothing."""
        target = include.target
        module, _, name = target.rpartition("/")
        own = module == file.parent.name
        if ENGINE_HEADER.fullmatch(target) or (own and name in with_engine):
            if file.name not in with_engine:
                return f"only ggml_sources and ggml_headers may include {target}"
        elif include.quoted:
            if not own or not (file.parent / name).is_file():
                return f"there is no modules/{target}"
        elif not STANDARD_HEADER.fullmatch(target):
            return f"<{target}> is not there where engines are built"
        return ""


def main(arguments: list[str]) -> int:
    root = Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve()
    problems = LayerCheck(root).run()
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
