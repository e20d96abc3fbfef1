"""`yoke detect`: on this machine, on copies of others, and with libraries that misbehave."""

import fcntl
import json
import os
import pathlib
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import time
import unittest

from harness import YOKE, E2eTest

MACHINES = pathlib.Path(__file__).resolve().parent.parent / "machines"
sys.path.insert(0, str(MACHINES))
import machine_tree  # noqa: E402

FAKE_LIBRARIES = os.environ.get("FAKE_LIBRARIES", "")
GIB = 2**30
# Longer than a probe's limit of 10 seconds.
LIMIT_S = 30
GOAL_S = 0.3


class DetectTest(E2eTest):
    def run_detect(self, *arguments, **environment):
        return subprocess.run([YOKE, "detect", *arguments], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=LIMIT_S,
                              env=self.sandbox.environment(**environment))

    def text(self, *arguments, **environment):
        done = self.run_detect(*arguments, **environment)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def machine(self, *arguments, **environment):
        return json.loads(self.text("--json", *arguments, **environment))

    def unpack(self, name):
        root = self.sandbox.directory / name
        machine_tree.unpack(name, root)
        return root

    def detector(self, machine, source):
        return next(each for each in machine["detectors"] if each["source"] == source)

    def device(self, machine, identity):
        return next(device for device in machine["devices"] if device["id"] == identity)

    def verdict(self, device, backend):
        return next(each for each in device["backends"] if each["backend"] == backend)


class MachinesTest(DetectTest):
    """Copies of other machines' files."""

    def copy(self, name):
        return self.machine("--root", str(self.unpack(name)))

    def test_strix_halo(self):
        machine = self.copy("strix-halo-512m")
        [device] = machine["devices"]
        self.assertEqual(device["id"], "0000:c5:00.0")
        self.assertEqual(device["gfx"]["value"], "gfx1151")
        self.assertEqual((device["architecture"], device["architecture_name"]),
                         ("RDNA", "RDNA 3.5"))
        self.assertTrue(device["integrated"]["value"])
        memory = device["memory"]
        self.assertTrue(memory["unified"])
        self.assertEqual(memory["total"], 120.5 * GIB)
        self.assertEqual(memory["rocm_total"], 120 * GIB)
        self.assertLessEqual(memory["free"], memory["total"])
        self.assertEqual(memory["gtt_total"]["source"], "drm")
        self.assertTrue(self.verdict(device, "vulkan")["usable"])
        self.assertTrue(device["vllm"]["supported"])
        self.assertEqual(machine["host"]["cpu"]["cores"], 16)
        self.assertEqual([each["source"] for each in machine["detectors"]], ["kfd", "drm"])

    def test_strix_halo_with_a_large_carve_out(self):
        machine = self.copy("strix-halo-96g")
        [device] = machine["devices"]
        host = machine["host"]["memory"]["total"]
        self.assertLess(host, 32 * GIB)
        self.assertEqual(device["memory"]["total"], 96 * GIB + host)
        self.assertIn("105 GiB", " ".join(device["memory"]["notes"]))
        self.assertIn("AMDVLK", self.verdict(device, "vulkan")["reason"])
        self.assertIn("6.18.4", self.verdict(device, "rocm")["reason"])
        self.assertIn("usermod -aG render", " ".join(machine["notes"]))

    def test_discrete_cards(self):
        machine = self.copy("two-radeons")
        self.assertEqual([device["gfx"]["value"] for device in machine["devices"]],
                         ["gfx1100", "gfx1201"])
        for device in machine["devices"]:
            self.assertFalse(device["memory"]["unified"])
            self.assertEqual(device["memory"]["total"], device["memory"]["vram_total"]["value"])

    def test_data_centre(self):
        [device] = self.copy("mi300")["devices"]
        self.assertEqual((device["architecture_name"], device["gfx"]["value"]),
                         ("CDNA 3", "gfx942"))
        self.assertGreater(device["memory"]["total"], 190 * GIB)

    def test_nvidia(self):
        [device] = self.copy("nvidia")["devices"]
        self.assertEqual(device["vendor"], "NVIDIA")
        self.assertIn("RTX 4090", device["name"]["value"])
        self.assertEqual([each["backend"] for each in device["backends"]], ["vulkan", "cuda"])

    def test_laptop(self):
        nvidia, amd = self.copy("laptop-igpu-dgpu")["devices"]
        self.assertEqual((nvidia["vendor"], amd["vendor"]), ("NVIDIA", "AMD"))
        self.assertTrue(amd["memory"]["unified"])
        self.assertFalse(amd["vllm"]["supported"])

    def test_container(self):
        machine = self.copy("container-no-kfd")
        [device] = machine["devices"]
        self.assertEqual(machine["host"]["container"], "docker")
        self.assertEqual(machine["host"]["cpu"]["usable_threads"], 8)
        self.assertEqual(machine["host"]["memory"]["limit"], 32 * GIB)
        self.assertEqual(device["memory"]["total"], 32.5 * GIB)
        self.assertIn("--device /dev/kfd", self.verdict(device, "rocm")["reason"])
        self.assertIn("--device /dev/kfd", " ".join(machine["notes"]))

    def test_nothing(self):
        root = self.unpack("nothing")
        self.assertEqual(self.machine("--root", str(root))["devices"], [])
        self.assertIn("No GPU was found", self.text("--root", str(root)))

    def test_malformed_files(self):
        root = self.unpack("hostile")
        fifo = root / "sys/class/drm/card1/device/mem_info_vram_used"
        fifo.unlink()
        os.mkfifo(fifo)  # Whoever opens it to read waits for a writer.
        machine = self.machine("--root", str(root))
        notes = machine["host"]["notes"] + [note for each in machine["detectors"]
                                            for note in each["notes"]]
        self.assertIn("mem_info_vram_used", " ".join(notes))
        text = self.text("--root", str(root))
        self.assertNotRegex(text, r"[\x00-\x09\x0b-\x1f\x7f]")

    def test_wrong_root(self):
        done = self.run_detect("--root", str(self.sandbox.directory / "missing"))
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("missing", done.stderr)

    def test_fits_a_terminal(self):
        root = self.unpack("strix-halo-96g")
        main, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        with subprocess.Popen([YOKE, "detect", "--root", str(root)], stdout=terminal,
                              stdin=subprocess.DEVNULL,
                              env=self.sandbox.environment(TERM="xterm")) as process:
            os.close(terminal)
            text = b""
            while chunk := read_terminal(main):
                text += chunk
            self.assertEqual(process.wait(LIMIT_S), 0)
        os.close(main)
        lines = re.sub(r"\x1b\[\d*m", "", text.decode()).splitlines()
        self.assertGreater(len(lines), 20)
        self.assertLessEqual(max(len(line) for line in lines), 80)


def read_terminal(descriptor):
    """Nothing at the end, which Linux reports as an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


@unittest.skipUnless(FAKE_LIBRARIES, "FAKE_LIBRARIES does not name the tests' libraries")
class LibrariesTest(DetectTest):
    """Stand-ins for the vendors' libraries, under a copy of a Strix Halo machine."""

    def with_libraries(self, kind="current", **environment):
        root = self.unpack("strix-halo-512m")
        place = root / "usr/lib"
        place.mkdir(parents=True, exist_ok=True)
        for library in (pathlib.Path(FAKE_LIBRARIES) / kind).glob("lib*.so*"):
            shutil.copy(library, place)
        return self.machine("--root", str(root), "--load-libraries", **environment)

    def test_all_answer(self):
        machine = self.with_libraries()
        self.assertEqual([each["source"] for each in machine["detectors"]],
                         ["amd-smi", "nvml", "hip", "cuda", "vulkan", "kfd", "drm"])
        self.assertEqual({each["outcome"] for each in machine["detectors"]}, {"found"})
        device = self.device(machine, "0000:c5:00.0")
        self.assertEqual(device["name"]["value"], "AMD Radeon 8060S Graphics")
        self.assertEqual(device["seen_by"], ["amd-smi", "vulkan", "kfd", "drm"])
        self.assertEqual({each["driver"] for each in device["vulkan_drivers"]},
                         {"RADV", "AMDVLK"})
        self.assertEqual(device["memory"]["total"], 120.5 * GIB)
        self.assertIn("AMD_VULKAN_ICD=RADV", self.verdict(device, "vulkan")["reason"])
        software = [device for device in machine["devices"] if device["software"]]
        self.assertEqual(machine["devices"][-1:], software)

    def test_they_are_not_loaded_unless_asked_for(self):
        root = self.unpack("strix-halo-512m")
        place = root / "usr/lib"
        place.mkdir(parents=True)
        shutil.copy(pathlib.Path(FAKE_LIBRARIES) / "current/libvulkan.so.1", place)
        machine = self.machine("--root", str(root))
        self.assertEqual([each["source"] for each in machine["detectors"]], ["kfd", "drm"])

    def test_one_crashes(self):
        machine = self.with_libraries(FAKE_HIP="crash", FAKE_VULKAN="abort")
        for source in ("hip", "vulkan"):
            crashed = self.detector(machine, source)
            self.assertEqual(crashed["outcome"], "failed")
            self.assertIn("crashed", crashed["detail"])
        self.assertEqual(self.detector(machine, "amd-smi")["outcome"], "found")
        device = self.device(machine, "0000:c5:00.0")
        self.assertFalse(self.verdict(device, "vulkan")["usable"])

    def test_one_prints(self):
        machine = self.with_libraries(FAKE_AMD_SMI="print", FAKE_NVML="print")
        self.assertEqual(self.detector(machine, "amd-smi")["outcome"], "found")
        self.assertEqual(self.detector(machine, "nvml")["outcome"], "found")

    def test_one_hangs(self):
        begin = time.monotonic()
        machine = self.with_libraries(FAKE_NVML="hang")
        self.assertLess(time.monotonic() - begin, 15)
        self.assertEqual(self.detector(machine, "nvml")["outcome"], "failed")
        self.assertEqual(self.detector(machine, "cuda")["outcome"], "found")

    def test_error_codes(self):
        machine = self.with_libraries(FAKE_HIP="error", FAKE_CUDA="error")
        for source in ("hip", "cuda"):
            self.assertEqual(self.detector(machine, source)["outcome"], "failed")
            self.assertIn("did not start", self.detector(machine, source)["detail"])

    def check_other_version(self, kind):
        machine = self.with_libraries(kind)
        device = self.device(machine, "0000:c5:00.0")
        self.assertIn("amd-smi", device["seen_by"])
        self.assertEqual(device["memory"]["total"], 120.5 * GIB)

    def test_old_versions(self):
        self.check_other_version("old")

    def test_versions_to_come(self):
        self.check_other_version("new")

    def test_without_any_function_of_use(self):
        machine = self.with_libraries("lacking")
        outcomes = {each["source"]: each["outcome"] for each in machine["detectors"]}
        self.assertEqual(outcomes["drm"], "found")
        for source in ("amd-smi", "nvml", "hip", "cuda", "vulkan"):
            self.assertEqual(outcomes[source], "failed", source)


class ThisMachineTest(DetectTest):
    def cpu_names(self):
        return set(re.findall(r"^model name\s*: (.+)$", pathlib.Path("/proc/cpuinfo").read_text(),
                              re.M))

    def test_processor(self):
        cpu = self.machine()["host"]["cpu"]
        self.assertIn(cpu["name"], self.cpu_names())
        self.assertEqual(cpu["threads"], os.cpu_count())
        flags = pathlib.Path("/proc/cpuinfo").read_text()
        self.assertEqual(cpu["avx2"], bool(re.search(r"\bavx2\b", flags)))
        self.assertIn(cpu["name"], self.text())

    def test_memory(self):
        memory = self.machine("--no-bandwidth")["host"]["memory"]
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.assertAlmostEqual(memory["total"] / pages, 1, delta=0.01)

    def test_bandwidth(self):
        measured = self.machine()["host"]["cpu"]["memory_bandwidth"]
        self.assertTrue(1e9 < measured < 1e13, measured)
        self.assertIsNone(self.machine("--no-bandwidth")["host"]["cpu"]["memory_bandwidth"])

    def software(self, *arguments):
        found = [device for device in self.machine("--no-bandwidth", *arguments)["devices"]
                 if device["software"]]
        self.assertTrue(found, "Mesa's lavapipe is missing: tools/setup.sh installs it")
        return found[0]

    def test_software_vulkan_is_listed_but_not_offered(self):
        device = self.software()
        self.assertEqual(device["vulkan_drivers"][0]["driver"], "lavapipe")
        verdict = self.verdict(device, "vulkan")
        self.assertFalse(verdict["usable"])
        self.assertIn("--software", verdict["reason"])
        self.assertIn("software", self.text("--no-bandwidth"))

    def test_software_vulkan_is_offered_where_asked_for(self):
        self.assertTrue(self.verdict(self.software("--software"), "vulkan")["usable"])

    def test_time(self):
        """The best of several, as other programs may want the cores too."""
        if [device for device in self.machine()["devices"] if not device["software"]]:
            self.skipTest("this machine has a GPU")
        times = []
        for _ in range(8):
            begin = time.monotonic()
            self.text()
            times.append(time.monotonic() - begin)
        self.assertLess(min(times), GOAL_S)


if __name__ == "__main__":
    unittest.main()
