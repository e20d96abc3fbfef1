#include "doctor/report.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

#include "doctor/checks.h"
#include "hardware/detect.h"
#include "hardware/test_support.h"

namespace yoke::doctor {
namespace {

using hardware::FakeRoot;

const Identity kIdentity{{"alice", "bo"}, {"frame.example.org", "frame"}};

TEST(Redact, TakesOutWhatIsNobodysBusiness) {
  const std::pair<const char*, const char*> cases[] = {
      {"/home/alice/models/x.gguf", "/home/[user]/models/x.gguf"},
      {"path=/home/carol", "path=/home/[user]"},
      {"alice@frame: bo's", "[user]@[host]: [user]'s"},
      {"host frame.example.org up", "host [host] up"},
      {"root=UUID=0f6a4c1e-7a55-4f0e-9d57-b0f1a6a9f4c2 ro", "root=UUID=[secret] ro"},
      {"root=PARTUUID=1234-AB rw", "root=PARTUUID=[secret] rw"},
      {"/dev/mapper/luks-0f6a4c1e-7a55-4f0e-9d57-b0f1a6a9f4c2", "/dev/mapper/luks-[uuid]"},
      {"/dev/disk/by-uuid/12AB-34CD", "/dev/disk/by-uuid/[uuid]"},
      {"GPU-8e1b0c3a-1111-2222-3333-444455556666", "GPU-[uuid]"},
      {"eth0 aa:bb:cc:dd:ee:0f up", "eth0 [mac] up"},
      {"from 192.168.1.20:8642", "from [ip]:8642"},
      {"from fe80::1ff:fe23:4567:890a on", "from [ip] on"},
      {"2001:db8:0:1:2:3:4:5", "[ip]"},
      {"api_key = \"abcdef0123456789\"", "api_key = \"[secret]\""},
      {"YOKE_API_KEY=abc", "YOKE_API_KEY=[secret]"},
      {"Authorization: Bearer abc.def", "Authorization: Bearer [secret]"},
      {"sk-proj-abcdefghijkl", "[key]"},
      {"hf_abcdefghijklmnop", "[key]"},
      {"0123456789abcdef0123456789abcdef", "[key]"},
      {"serial: 1234X", "serial: [secret]"},
      {"Serial Number: PF3X", "Serial Number: [secret]"},
  };
  for (const auto& [text, clean] : cases) EXPECT_EQ(redact(text, kIdentity), clean) << text;
}

TEST(Redact, LeavesWhatAReportIsFor) {
  for (const char* text :
       {"amdgpu 0000:c5:00.0: amdgpu: ring comp_1.1.0 timeout, signaled seq=125",
        "[   31.513163] [drm] GPU at 12:34:56", "kernel 6.18.9-200.fc43.x86_64",
        "driver 580.95.05, Vulkan 1.4.318.0", "ttm.pages_limit=31457280", "127.0.0.1:8642",
        "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json", "linux-firmware 20251125.gitd2d8dfe8",
        "amdgpu.lockup_timeout=10000,60000,10000,10000", "malice framework boot std::vector",
        "::", "KERNEL==\"card[0-9]*\"", "vk::Queue::submit: ErrorDeviceLost", ""}) {
    EXPECT_EQ(redact(text, kIdentity), text);
  }
}

TEST(Redact, TakesAnyBytes) {
  std::string all;
  for (int i = 0; i < 4096; ++i) all += static_cast<char>(i * 7 + i / 256);
  EXPECT_FALSE(redact(all, kIdentity).empty());
  for (const char* start : {"serial:", "api_key=", "bearer ", "sk-", "/home/", "a:b:c:d:e:f:1:2",
                            "0123456789abcdef0123456789abcde", "255.255.255.", "aa:bb:cc:dd:ee:"}) {
    EXPECT_NO_THROW(redact(start, kIdentity));
  }
}

TEST(ReadIdentity, FindsPeopleAndTheHost) {
  FakeRoot root;
  root.write("/etc/passwd",
             "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\n"
             "alice:x:1000:1000::/home/alice:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n");
  root.write("/etc/group", "render:x:105:alice,dora\n");
  root.write("/proc/sys/kernel/hostname", "frame.example.org\n");
  root.write("/etc/hostname", "debian\n");
  root.write("/etc/os-release", "ID=debian\n");
  const Identity identity = read_identity(root.files());
  EXPECT_EQ(identity.users, (std::vector<std::string>{"alice", "alice", "dora"}));
  EXPECT_EQ(identity.hosts, (std::vector<std::string>{"frame.example.org", "frame"}));
}

TEST(RelevantLines, AreTheNewestAboutGpus) {
  std::string log = "usb 1-1: new device\n";
  for (int i = 0; i < 300; ++i) log += "amdgpu 0000:c5:00.0: line " + std::to_string(i) + "\n";
  log += "NVRM: Xid\x1b[31m" + std::string(1000, 'x') + "\n";
  const auto lines = relevant_lines(log);
  ASSERT_EQ(lines.size(), 200u);
  EXPECT_EQ(lines.front(), "amdgpu 0000:c5:00.0: line 101");
  EXPECT_EQ(lines.back().size(), 500u);
  EXPECT_EQ(lines.back().find('\x1b'), std::string::npos);
}

// Everything that must not be in it, planted where a report reads.
TEST(MakeReport, HasNoSecrets) {
  FakeRoot root = FakeRoot::machine("strix-halo-96g");
  root.write("/etc/passwd", "alice:x:1000:1000::/home/alice:/bin/sh\n");
  root.write("/proc/sys/kernel/hostname", "frame\n");
  root.write("/proc/cmdline",
             "root=UUID=3e0c5a0e-3f4e-4f57-8a57-0d1f9d9b8f11 amdgpu.gttsize=107520 "
             "ip=10.9.8.7 token=hunter2hunter2 log=/home/alice/log\n");
  root.write("/etc/modprobe.d/alice.conf", "options ttm pages_limit=1\n");
  root.write("/etc/modprobe.d/yoke.conf", "# by alice, key: sk-proj-abcdefghijkl\n");
  root.write("/sys/devices/virtual/dmi/id/product_serial", "SERIAL1234\n");
  root.write("/var/log/dmesg",
             "[ 1.0] amdgpu on frame for alice, aa:bb:cc:dd:ee:0f\n[ 2.0] usb: secretdevice\n"
             "[ 3.0] nvidia: GPU-8e1b0c3a-1111-2222-3333-444455556666\n");
  const hardware::Machine machine = hardware::detect({.files = root.files()});
  const SystemState state = read_state(root.files(), machine);
  const auto report = make_report("0.1.0", machine, state, check(state, machine, {}),
                                  read_kernel_messages(root.files()), read_identity(root.files()));
  ASSERT_TRUE(report);
  for (const std::string& text : {boost::json::serialize(*report), report_text(*report)}) {
    for (const char* secret : {"alice", "3e0c5a0e", "10.9.8.7", "hunter2", "sk-proj", "SERIAL1234",
                               "aa:bb:cc", "8e1b0c3a", "secretdevice", "frame for"}) {
      EXPECT_EQ(text.find(secret), std::string::npos) << secret << " in\n" << text;
    }
    for (const char* wanted : {"amdgpu-gttsize", "107520", "[ 1.0] amdgpu on [host] for [user]",
                               "0000:c5:00.0", "6.17.0-14-generic", "20251125"}) {
      EXPECT_NE(text.find(wanted), std::string::npos) << wanted << " in\n" << text;
    }
  }
}

TEST(MakeReport, SaysWhyThereAreNoKernelMessages) {
  const KernelMessages messages = read_kernel_messages(FakeRoot().files());
  EXPECT_TRUE(messages.lines.empty());
  EXPECT_FALSE(messages.note.empty());
}

TEST(ToJson, CarriesEveryField) {
  Finding finding{.id = "a", .severity = Severity::kWarning, .title = "b", .found = "c"};
  finding.wanted = "d";
  finding.why = "e";
  finding.fix = "f";
  finding.reboot = true;
  finding.settings = {{Setting::Kind::kSysctl, "g", "h"}};
  EXPECT_EQ(boost::json::serialize(to_json(std::vector<Finding>{finding})),
            R"([{"id":"a","severity":"warning","title":"b","found":"c","wanted":"d","why":"e",)"
            R"("fix":"f","reboot":true,"fixable":true}])");
}

}  // namespace
}  // namespace yoke::doctor
