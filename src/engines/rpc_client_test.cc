#include "engines/rpc_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/test_support.h"

namespace yoke::engines {
namespace {

using config::LoadOptions;
using config::RpcClient;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Key;
using testing::Not;
using testing::Pair;

EngineInstall install_in(const std::filesystem::path& dir, const std::string& backend = "cpu") {
  return {.version = "0.5.0", .backend = backend, .dir = dir, .server = dir / "llama-server"};
}

LoadOptions with_workers() {
  LoadOptions options;
  options.rpc_servers = {{"127.0.0.1:50052", "desk-2"}, {"127.0.0.1:50053", "127.0.0.1:50053"}};
  return options;
}

TEST(RpcEnvironment, TellsTheModuleItsWorkers) {
  LoadOptions options = with_workers();
  options.rpc_timeout = std::chrono::seconds(30);
  EXPECT_THAT(
      rpc_environment(install_in("/nowhere"), options, "/state/h.txt"),
      ElementsAre(
          Pair("YOKE_RPC_CLIENT", "pipelined"),
          Pair("YOKE_RPC_WORKERS", "127.0.0.1:50052=desk-2,127.0.0.1:50053=127.0.0.1:50053"),
          Pair("YOKE_RPC_TIMEOUT_MS", "30000"), Pair("YOKE_RPC_HASHES", "/state/h.txt")));
  EXPECT_THAT(rpc_environment(install_in("/nowhere"), options, ""),
              Not(Contains(Key("YOKE_RPC_HASHES"))));
}

TEST(RpcEnvironment, IsEmptyForOtherModelsAndTheStockClient) {
  EXPECT_THAT(rpc_environment(install_in("/nowhere"), LoadOptions{}, "/h"), IsEmpty());
  LoadOptions stock = with_workers();
  stock.rpc_client = RpcClient::kStock;
  EXPECT_THAT(rpc_environment(install_in("/nowhere"), stock, "/h"), IsEmpty());
}

TEST(RpcEnvironment, OfServersInExtraArgsOnlyTheClientIsKnown) {
  LoadOptions options;
  options.extra_args = {"--rpc", "127.0.0.1:50052"};
  EXPECT_THAT(rpc_environment(install_in("/nowhere"), options, "/h"),
              ElementsAre(Pair("YOKE_RPC_CLIENT", "pipelined")));
}

TEST(RpcEnvironment, PreloadsTheLibraryWhereNothingIsComputedHere) {
  const ScratchDir dir;
  const std::string library = dir.write("libyoke-no-prefetch.so", "").string();
  LoadOptions options = with_workers();
  EXPECT_THAT(rpc_environment(install_in(dir.path()), options, ""),
              Contains(Pair("LD_PRELOAD", library)));
  const EnvironmentGuard guard("LD_PRELOAD", "/lib/other.so");
  EXPECT_THAT(rpc_environment(install_in(dir.path()), options, ""),
              Contains(Pair("LD_PRELOAD", library + ":/lib/other.so")));
  EXPECT_THAT(rpc_environment(install_in(dir.path(), "vulkan"), options, ""),
              Not(Contains(Key("LD_PRELOAD"))));
  options.n_gpu_layers = 10;
  EXPECT_THAT(rpc_environment(install_in(dir.path()), options, ""),
              Not(Contains(Key("LD_PRELOAD"))));
}

TEST(RpcHashFile, IsOfTheModelAsItIs) {
  const ScratchDir dir;
  LoadOptions options = with_workers();
  options.model_path = dir.write("m.gguf", "12345");
  const std::filesystem::path file = rpc_hash_file("/state", options);
  EXPECT_EQ(file.parent_path(), "/state");
  EXPECT_THAT(file.filename().string(), testing::MatchesRegex("m\\.gguf-5--?[0-9]+\\.txt"));
  dir.write("m.gguf", "123456");
  EXPECT_NE(rpc_hash_file("/state", options), file);
  EXPECT_THAT(rpc_hash_file("", options).string(), IsEmpty());
  options.rpc_client = RpcClient::kStock;
  EXPECT_THAT(rpc_hash_file("/state", options).string(), IsEmpty());
}

TEST(LostWorker, IsReadFromTheLinesOfBothClients) {
  const auto lost = lost_worker(
      "0.12.345.678 E yoke-rpc: worker lost: desk-2 (127.0.0.1:50053): no answer for 120 s\r");
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->who, "desk-2 (127.0.0.1:50053)");
  EXPECT_EQ(lost->reason, "no answer for 120 s");
  EXPECT_TRUE(lost->was_there);

  const auto unusable = lost_worker(
      "yoke-rpc: cannot use worker desk-2 (127.0.0.1:50053): it speaks protocol 6.1, this client "
      "7.0");
  ASSERT_TRUE(unusable);
  EXPECT_EQ(unusable->who, "desk-2 (127.0.0.1:50053)");
  EXPECT_EQ(unusable->reason, "it speaks protocol 6.1, this client 7.0");
  EXPECT_FALSE(unusable->was_there);

  const auto refused = lost_worker("/g/ggml-rpc.cpp:547: Failed to connect to 127.0.0.1:50052");
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->who, "127.0.0.1:50052");
  const auto silent = lost_worker("ggml-rpc.cpp:550: RPC handshake failed for 127.0.0.1:50052");
  ASSERT_TRUE(silent);
  EXPECT_EQ(silent->who, "127.0.0.1:50052");
  const auto crashed =
      lost_worker("ggml-rpc.cpp:566: Remote RPC server crashed or returned malformed response");
  ASSERT_TRUE(crashed);
  EXPECT_EQ(crashed->who, "");
  EXPECT_FALSE(lost_worker("main: server is listening on http://127.0.0.1:50052"));
}

TEST(LostWorker, IsDescribedWithWhatToDo) {
  EXPECT_EQ(describe({"desk-2 (127.0.0.1:50053)", "connection closed by the worker", true}),
            "The worker desk-2 (127.0.0.1:50053) is lost: connection closed by the worker. See "
            "that its machine, its ggml-rpc-server and the tunnel to it are up.");
  EXPECT_THAT(describe({"x", "", false}), HasSubstr("The worker x can't be used. "));
  EXPECT_THAT(describe({"", "gone", true}), HasSubstr("A worker is lost: gone. "));
}

TEST(LostWorker, OnlyTheModulesEngineLivesOn) {
  EXPECT_TRUE(says_worker_is_missing("yoke-rpc: worker lost: a (127.0.0.1:1): gone"));
  EXPECT_TRUE(says_worker_is_missing("yoke-rpc: cannot use worker a (127.0.0.1:1): gone"));
  EXPECT_FALSE(says_worker_is_missing("yoke-rpc: not loaded: built for another"));
  EXPECT_FALSE(says_worker_is_missing("Remote RPC server crashed or returned malformed response"));
}

TEST(LoadedRpcClient, IsTheModuleInTheLogOrTheMap) {
  const std::string dir = "/e/llama.cpp-0.5.0/cpu/";
  EXPECT_EQ(
      loaded_rpc_client("load_backend: loaded RPC backend from " + dir + "libggml-rpc-yoke.so"),
      RpcClient::kPipelined);
  EXPECT_EQ(loaded_rpc_client("load_backend: loaded RPC backend from " + dir + "libggml-rpc.so"),
            RpcClient::kStock);
  const std::string stock = "7f5a r-xp 00000000 08:01 9 " + dir + "libggml-rpc.so\n";
  const std::string yoke = "7f5b r-xp 00000000 08:01 8 " + dir + "libggml-rpc-yoke.so\n";
  EXPECT_EQ(loaded_rpc_client(yoke), RpcClient::kPipelined);
  EXPECT_EQ(loaded_rpc_client(stock), RpcClient::kStock);
  EXPECT_EQ(loaded_rpc_client(yoke + stock), RpcClient::kStock);
  EXPECT_EQ(loaded_rpc_client("7f5b r-xp 00000000 08:01 8 /lib/libc.so.6\n"), std::nullopt);
}

TEST(WhyRpcClientRefused, IsItsOwnReason) {
  EXPECT_EQ(why_rpc_client_refused(
                "0.00.001.002 W yoke-rpc: not loaded: built for ggml 0.25.1, this is ggml 0.26.0"),
            "built for ggml 0.25.1, this is ggml 0.26.0");
  EXPECT_EQ(why_rpc_client_refused("yoke-rpc: worker lost: x"), std::nullopt);
}

}  // namespace
}  // namespace yoke::engines
