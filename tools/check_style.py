#!/usr/bin/env python3
"""Checks the rules of the code that neither the compiler nor clang-tidy knows.

Coroutines:  no structured binding on a co_await expression (GCC leaks it when the frame is
             destroyed), no coroutine that is a lambda with captures (they die with the lambda).
Files:       a header opens with a comment and `#pragma once`; sizes are limited; no leftovers.
Errors:      docs/errors.md explains exactly the error codes that src/ defines.

usage: check_style.py [ROOT]
"""

from __future__ import annotations

import bisect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEADER_LINES = 150
SOURCE_LINES = 500
TEST_LINES = 800

SKIPPED_DIRECTORIES = {
    ".git", ".cache", ".mypy_cache", ".ruff_cache", "build", "node_modules", "testdata", "corpus",
    "__pycache__",
}  # fmt: skip
TEXT_SUFFIXES = {
    "", ".cc", ".cmake", ".h", ".js", ".json", ".md", ".mjs", ".py", ".sh", ".toml", ".ts", ".txt",
    ".yml",
}  # fmt: skip

LEFTOVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
# Directories of one developer's machine.
PRIVATE_PATH = re.compile(r"(?<![\w.~-])/(?:root|work)/")
TRAILING_SPACE = re.compile(r"[ \t]+$")

# A literal or comment, so that what is in it is not taken for code.
NOT_CODE = re.compile(
    r'R"(?P<mark>[^()\\ ]{0,16})\((?s:.*?)\)(?P=mark)"'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-zA-Z_])'(?:\\.|[^'\\\n])+'"
    r"|//[^\n]*"
    r"|/\*(?s:.*?)\*/"
)
BOUND_AWAIT = re.compile(r"\bauto\s*&{0,2}\s*\[[^\]]*\]\s*[=:({][^;]*?\bco_await\b")
COROUTINE_WORD = re.compile(r"\bco_(?:await|return|yield)\b")
AFTER_PARAMETERS = re.compile(r"(?:\s|mutable\b|noexcept\b|constexpr\b|->[^{;=]*)*\{")
CATCH_ALL = re.compile(r"\bcatch\s*\(\s*\.\.\.\s*\)\s*\{")
KEEPS_EXCEPTION = re.compile(r"\bthrow\b|\bcurrent_exception\b|\b(?:abort|terminate|_exit)\b")

ERROR_CODE = re.compile(r'\bErrorCode\s+k\w+\s*\{\s*"(\w+)"')
# An entry: the code begins a heading, a list item or a row of a table.
DOCUMENTED_CODE = re.compile(r"^(?:#+|[-*]|\|)\s*(?:\*\*)?`([a-z0-9_]+)`")


def without_literals(text: str) -> str:
    """The text with comments and literals blanked out, everything else at its place."""
    return NOT_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def closing(text: str, start: int) -> int:
    """The position of the bracket that closes the one at `start`, or the text's end."""
    opening, closed = text[start], {"(": ")", "[": "]", "{": "}", "<": ">"}[text[start]]
    depth = 0
    for position in range(start, len(text)):
        if text[position] == opening:
            depth += 1
        elif text[position] == closed:
            depth -= 1
            if depth == 0:
                return position
    return len(text)


def skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


@dataclass(frozen=True)
class Lambda:
    start: int
    captures: bool
    body: range


def lambdas_of(code: str) -> Iterator[Lambda]:
    for match in re.finditer(r"\[", code):
        start = match.start()
        before = code[:start].rstrip()
        word = re.search(r"\w+$", before)
        # A subscript or an attribute.
        if before.endswith((")", "]", "[")) or code.startswith("[[", start):
            continue
        if word and word[0] not in {"return", "co_return", "co_yield", "co_await"}:
            continue
        end = closing(code, start)
        position = skip_space(code, end + 1)
        for bracket in "<(":
            if code.startswith(bracket, position):
                position = skip_space(code, closing(code, position) + 1)
        if body := AFTER_PARAMETERS.match(code, position):
            brace = body.end() - 1
            captures = bool(code[start + 1 : end].strip())
            yield Lambda(start, captures, range(brace, closing(code, brace)))


def capturing_coroutines(code: str) -> Iterator[int]:
    """Where a lambda with captures begins that is itself a coroutine."""
    lambdas = list(lambdas_of(code))
    found = set()
    for word in COROUTINE_WORD.finditer(code):
        around = [each for each in lambdas if word.start() in each.body]
        innermost = min(around, key=lambda each: len(each.body), default=None)
        if innermost and innermost.captures:
            found.add(innermost.start)
    yield from sorted(found)


def swallowing_catches(code: str) -> Iterator[int]:
    for match in CATCH_ALL.finditer(code):
        body = code[match.end() - 1 : closing(code, match.end() - 1)]
        if not KEEPS_EXCEPTION.search(body):
            yield match.start()


def opens_properly(text: str) -> bool:
    """A comment that says what the header is, then #pragma once."""
    lines = text.splitlines()
    code = next((line for line in lines if line.strip() and not line.startswith("//")), "")
    return bool(lines) and lines[0].startswith("// ") and code == "#pragma once"


class StyleCheck:
    """Collects what is wrong below `root` in `problems`, one line each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []

    def run(self) -> list[str]:
        for file in self.text_files(self.root):
            text = file.read_text()
            self.check_lines(file, text)
            if file.suffix in {".h", ".cc"}:
                self.check_code(file, text)
        self.check_errors_page()
        return self.problems

    def text_files(self, directory: Path) -> Iterator[Path]:
        for path in sorted(directory.iterdir()):
            if path.is_dir() and not path.is_symlink():
                built = (path / "CMakeCache.txt").exists()
                if path.name not in SKIPPED_DIRECTORIES and not built:
                    yield from self.text_files(path)
            elif path.is_file() and path.suffix in TEXT_SUFFIXES:
                yield path

    def report(self, file: Path, line: int, message: str) -> None:
        self.problems.append(f"{file.relative_to(self.root)}:{line}: {message}")

    def check_lines(self, file: Path, text: str) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            if match := LEFTOVER.search(line):
                self.report(file, number, f"{match[0]} is left over: do it or file an issue")
            if match := PRIVATE_PATH.search(line):
                self.report(file, number, f"{match[0]} is a directory of one machine")
            if TRAILING_SPACE.search(line):
                self.report(file, number, "white space at the end of the line")

    def check_code(self, file: Path, text: str) -> None:
        code = without_literals(text)
        starts = [0, *(match.end() for match in re.finditer("\n", code))]

        def line_of(position: int) -> int:
            return bisect.bisect_right(starts, position)

        for match in BOUND_AWAIT.finditer(code):
            self.report(
                file,
                line_of(match.start()),
                "structured binding on co_await: name the result first, then bind it by reference",
            )
        for position in capturing_coroutines(code):
            self.report(
                file,
                line_of(position),
                "this lambda captures and is a coroutine: its captures may die before it. Pass "
                "them as parameters",
            )
        for position in swallowing_catches(code):
            self.report(file, line_of(position), "catch (...) swallows the exception")
        if file.suffix == ".h" and not opens_properly(text):
            self.report(
                file, 1, "a header opens with a comment on what it is, then #pragma once"
            )
        self.check_size(file, len(text.splitlines()))

    def check_size(self, file: Path, lines: int) -> None:
        in_tests = file.relative_to(self.root).parts[0] == "tests" or file.stem.endswith("_test")
        limit = SOURCE_LINES
        if file.suffix == ".h":
            limit = HEADER_LINES
        elif in_tests:
            limit = TEST_LINES
        if lines > limit:
            self.report(file, limit + 1, f"has {lines} lines; {limit} is the limit. Split it")

    def check_errors_page(self) -> None:
        page = self.root / "docs" / "errors.md"
        if not page.exists():
            return
        documented: dict[str, int] = {}
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if match := DOCUMENTED_CODE.match(line):
                documented.setdefault(match[1], number)
        defined: set[str] = set()
        for file in self.text_files(self.root / "src"):
            if file.suffix not in {".h", ".cc"} or file.stem.endswith("_test"):
                continue
            text = file.read_text()
            for match in ERROR_CODE.finditer(text):
                defined.add(match[1])
                if match[1] not in documented:
                    line = text.count("\n", 0, match.start()) + 1
                    self.report(file, line, f"docs/errors.md does not explain `{match[1]}`")
        for code, line in documented.items():
            if code not in defined:
                self.report(page, line, f"no ErrorCode in src is called `{code}`")


def main(arguments: list[str]) -> int:
    root = Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve()
    problems = StyleCheck(root).run()
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
