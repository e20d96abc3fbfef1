"""yoke doctor on copies of other machines' files, and what --fix and --undo do to them."""

import json
import os
import pathlib
import pty
import stat
import subprocess
import sys
import tempfile
import unittest

from harness import YOKE, E2eTest

MACHINES = pathlib.Path(__file__).resolve().parent.parent / "machines"
sys.path.insert(0, str(MACHINES))

import machine_tree  # noqa: E402

LIMIT_S = 30
OS_RELEASE = {
    "ubuntu": "ID=ubuntu\nID_LIKE=debian\n",
    "fedora": "ID=fedora\n",
    "arch": "ID=arch\n",
}


def snapshot(root):
    """Name, kind, permissions and content of everything below `root`."""
    found = {}
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            path = pathlib.Path(directory) / name
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            if path.is_symlink():
                content = os.readlink(path)
            found[str(path.relative_to(root))] = (status.st_mode, content)
    return found


class DoctorTest(E2eTest):
    def unpack(self, machine):
        root = pathlib.Path(tempfile.mkdtemp(prefix=f"{machine}-", dir=self.sandbox.directory))
        machine_tree.unpack(machine, root)
        return root

    def fresh_box(self, distribution):
        """A Strix Halo with 128 GB as it comes, which gives the GPU half of the memory."""
        root = self.unpack("strix-halo-512m")
        (root / "etc/modprobe.d/ttm.conf").unlink()
        (root / "etc/default/grub").unlink()
        (root / "var/lib").mkdir(parents=True, exist_ok=True)
        for path, content in {
            "etc/os-release": OS_RELEASE[distribution],
            "proc/cmdline": "quiet\n",
            "proc/sys/kernel/osrelease": "7.0.0\n",
            "sys/module/ttm/parameters/pages_limit": "16400000\n",
            "sys/module/amdgpu/parameters/lockup_timeout": "\n",
        }.items():
            (root / path).write_text(content)
        if distribution == "ubuntu":
            (root / "etc/default/grub").write_text("")
        return root

    def doctor(self, root, *arguments):
        return subprocess.run([YOKE, "doctor", "--root", str(root), *arguments], text=True,
                              capture_output=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL,
                              env=self.sandbox.environment())

    def output_of(self, *arguments):
        done = self.doctor(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def findings(self, root):
        document = json.loads(self.doctor(root, "--json").stdout)
        return {finding["id"]: finding for finding in document["findings"]}

    # Looking

    def test_a_good_machine_ends_with_0(self):
        text = self.output_of(self.unpack("strix-halo-512m"))
        self.assertRegex(text, r"(?m)^ok +Memory that the GPU may map .* 120 GiB of 125\.1 GiB$")
        self.assertIn(" 0 warnings, 0 blocking.", text)
        self.assertNotIn("\x1b", text)

    def test_a_device_that_cant_be_used_ends_with_1(self):
        done = self.doctor(self.unpack("strix-halo-96g"))
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("yoke: A device can't be used: Access to /dev/dri/renderD128.", done.stderr)
        self.assertRegex(done.stdout, r"(?m)^blocking +Access to /dev/dri/renderD128 ")
        self.assertRegex(done.stdout, r"(?m)^  fix     sudo usermod -aG render,video")

    def test_json_names_every_field(self):
        findings = self.findings(self.unpack("strix-halo-96g"))
        gttsize = findings["amdgpu-gttsize"]
        self.assertEqual(gttsize["severity"], "warning")
        self.assertIn("105 GiB", gttsize["found"])
        self.assertEqual(set(gttsize), {"id", "severity", "title", "found", "wanted", "why", "fix",
                                        "reboot", "fixable"})

    def test_every_machine_is_examined(self):
        for tree in sorted(MACHINES.glob("*.tree")):
            with self.subTest(tree.stem):
                done = self.doctor(self.unpack(tree.stem))
                self.assertIn(done.returncode, (0, 1), done)
                self.assertIn("STATE", done.stdout)

    def test_report_names_nobody(self):
        root = self.unpack("strix-halo-96g")
        (root / "etc/passwd").write_text("alice:x:1000:1000::/home/alice:/bin/sh\n")
        (root / "proc/sys/kernel/hostname").write_text("frame\n")
        (root / "var/log").mkdir(parents=True, exist_ok=True)
        (root / "var/log/dmesg").write_text("amdgpu: alice on frame at 10.1.2.3 by hf_abcdefghijk\n")
        for form in ([], ["--json"]):
            text = self.output_of(root, "--report", *form)
            for secret in ("alice", "frame at", "10.1.2.3", "hf_abc", "3e0c5a0e"):
                self.assertNotIn(secret, text)
            self.assertIn("amdgpu: [user] on [host] at [ip] by [key]", text)
            self.assertIn("kernel-cwsr", text)

    # Mending

    def test_120_gib_for_the_gpu_is_one_command(self):
        commands = {"ubuntu": "update-initramfs -u -k all", "arch": "mkinitcpio -P",
                    "fedora": "dracut --force --regenerate-all"}
        for distribution, command in commands.items():
            with self.subTest(distribution):
                root = self.fresh_box(distribution)
                before = snapshot(root)
                text = self.output_of(root, "--fix", "--gpu-memory", "120GiB", "--yes")
                self.assertIn("+options ttm pages_limit=31457280\n", text)
                self.assertIn(f"Would run: {command}\n", text)
                written = (root / "etc/modprobe.d/yoke.conf").read_text()
                self.assertIn("\noptions ttm pages_limit=31457280\n", written)
                self.assertIn("\noptions amdgpu lockup_timeout=10000,60000,10000,10000\n", written)
                changed = snapshot(root)
                for again in ([], ["--gpu-memory", "120GiB"]):
                    text = self.output_of(root, "--fix", "--yes", *again)
                    self.assertIn("There is nothing to write", text)
                    self.assertEqual(snapshot(root), changed)
                self.assertIn("Reboot", self.findings(root)["ttm-pages-limit"]["fix"])
                self.output_of(root, "--undo", "--yes")
                self.assertEqual(snapshot(root), before)

    def test_too_much_for_the_gpu_is_refused(self):
        root = self.fresh_box("fedora")
        before = snapshot(root)
        for size, reason in {"124GiB": "would leave the system", "200GiB": "more than the",
                             "lots": "lots"}.items():
            done = self.doctor(root, "--fix", "--gpu-memory", size, "--yes")
            self.assertNotEqual(done.returncode, 0, size)
            self.assertIn(reason, done.stderr)
        self.assertEqual(snapshot(root), before)
        done = self.doctor(self.unpack("nvidia"), "--fix", "--gpu-memory", "16GiB", "--yes")
        self.assertIn("No AMD APU", done.stderr)

    def test_it_asks_first(self):
        root = self.fresh_box("fedora")
        before = snapshot(root)
        done = self.doctor(root, "--fix")
        self.assertEqual(done.returncode, 2, done)
        self.assertIn("--yes", done.stderr)
        self.assertEqual(snapshot(root), before)
        for answer, changes in {"n": False, "": False, "y": True}.items():
            self.assertIn("Make these changes? [y/N]", self.answer(root, answer))
            self.assertEqual(snapshot(root) != before, changes, answer)

    def answer(self, root, answer):
        """`--fix` with that answer typed on a terminal; what it printed."""
        master, slave = pty.openpty()
        try:
            os.write(master, (answer + "\n").encode())
            done = subprocess.run([YOKE, "doctor", "--root", str(root), "--fix"], stdin=slave,
                                  capture_output=True, text=True, timeout=LIMIT_S,
                                  env=self.sandbox.environment())
        finally:
            os.close(master)
            os.close(slave)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def test_undo_leaves_what_others_wrote(self):
        root = self.fresh_box("ubuntu")
        self.output_of(root, "--fix", "--gpu-memory", "100GiB", "--yes")
        file = root / "etc/modprobe.d/yoke.conf"
        file.write_text("options ttm pages_limit=7\n")
        done = self.doctor(root, "--undo", "--yes")
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("Somebody changed /etc/modprobe.d/yoke.conf", done.stderr)
        self.assertEqual(file.read_text(), "options ttm pages_limit=7\n")
        self.output_of(root, "--undo", "--yes", "--force")
        self.assertFalse(file.exists())
        kept = root / "var/lib/yoke/doctor/kept/etc_modprobe.d_yoke.conf.1"
        self.assertEqual(kept.read_text(), "options ttm pages_limit=7\n")

    def test_undo_without_a_fix(self):
        root = self.fresh_box("arch")
        before = snapshot(root)
        self.assertEqual(self.output_of(root, "--undo"), "There is nothing to take back.\n")
        self.assertEqual(snapshot(root), before)

    def test_a_container_is_sent_to_its_host(self):
        done = self.doctor(self.unpack("container-no-kfd"), "--fix", "--yes")
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("on the host", done.stderr)

    def test_options_that_dont_go_together(self):
        for arguments in (["--fix", "--undo"], ["--yes"], ["--gpu-memory", "1GiB"],
                          ["--json", "--fix"], ["--report", "--undo"]):
            done = self.doctor("/", *arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    unittest.main()
