#include "supervisor/rpc_watch.h"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <stdlib.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/unique_fd.h"

namespace yoke::supervisor {
namespace {

using config::RpcClient;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kPipelinedLine =
    "load_backend: loaded RPC backend from /e/cpu/libggml-rpc-yoke.so";
constexpr std::string_view kStockLine =
    "load_backend: loaded RPC backend from /e/cpu/libggml-rpc.so";

TEST(RpcWatch, KnowsTheClientByTheLog) {
  RpcWatch watch("m", RpcClient::kPipelined);
  EXPECT_EQ(watch.client(), std::nullopt);
  EXPECT_FALSE(watch.see(kPipelinedLine));
  EXPECT_EQ(watch.client(), RpcClient::kPipelined);
  EXPECT_THAT(watch.why_other(), IsEmpty());
}

TEST(RpcWatch, SaysWhyTheModuleIsNotThere) {
  RpcWatch missing("m", RpcClient::kPipelined);
  missing.see(kStockLine);
  EXPECT_EQ(missing.client(), RpcClient::kStock);
  EXPECT_THAT(missing.why_other(), HasSubstr("no libggml-rpc-yoke.so beside it"));
  EXPECT_THAT(missing.why_other(), HasSubstr("`make engine`"));

  RpcWatch refused("m", RpcClient::kPipelined);
  refused.see("yoke-rpc: not loaded: built for ggml 0.25.1, this is ggml 0.26.0");
  refused.see(kStockLine);
  EXPECT_EQ(refused.client(), RpcClient::kStock);
  EXPECT_THAT(refused.why_other(), HasSubstr("this is ggml 0.26.0"));
}

TEST(RpcWatch, TheStockClientNeedsNoExcuseWhereItIsMeant) {
  RpcWatch watch("m", RpcClient::kStock);
  watch.see(kStockLine);
  EXPECT_EQ(watch.client(), RpcClient::kStock);
  EXPECT_THAT(watch.why_other(), IsEmpty());
}

TEST(RpcWatch, LooksAtWhatIsMapped) {
  RpcWatch watch("m", RpcClient::kPipelined);
  watch.look_at(::getpid());  // This test has neither.
  EXPECT_EQ(watch.client(), std::nullopt);
  watch.look_at(0);
  EXPECT_EQ(watch.client(), std::nullopt);

  std::string name = (std::filesystem::temp_directory_path() / "yoke-rpc-XXXXXX").string();
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  const std::filesystem::path module = std::filesystem::path(name) / "libggml-rpc.so";
  std::ofstream(module) << "a module";
  const UniqueFd file(::open(module.c_str(), O_RDONLY | O_CLOEXEC));
  void* const mapped = ::mmap(nullptr, 8, PROT_READ, MAP_PRIVATE, file.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  watch.look_at(::getpid());
  ::munmap(mapped, 8);
  std::filesystem::remove_all(name);
  EXPECT_EQ(watch.client(), RpcClient::kStock);
  EXPECT_THAT(watch.why_other(), HasSubstr("no libggml-rpc-yoke.so beside it"));
}

TEST(RpcWatch, NoticesALostWorker) {
  RpcWatch watch("m", RpcClient::kPipelined);
  EXPECT_TRUE(watch.see("0.1.2.3 E yoke-rpc: worker lost: desk-2 (127.0.0.1:1): gone"));
  EXPECT_TRUE(watch.see("yoke-rpc: cannot use worker desk-2 (127.0.0.1:1): gone"));
  EXPECT_FALSE(watch.see("srv  update_slots: all slots are idle"));
}

}  // namespace
}  // namespace yoke::supervisor
