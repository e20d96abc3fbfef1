#include "config/rpc_servers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Texts = std::vector<std::string>;

std::string refusal(const Texts& texts) {
  const auto parsed = parse_rpc_servers(texts);
  if (parsed) return "accepted";
  EXPECT_EQ(parsed.error().code, kInvalidArgument);
  return parsed.error().text();
}

TEST(ParseRpcServers, TakesAddressesWithAndWithoutNames) {
  const auto parsed = parse_rpc_servers(Texts{"127.0.0.1:50052", "desk-2=127.0.0.1:50053",
                                              "desk_3.lan=localhost:1", "127.9.0.1:65535"});
  ASSERT_TRUE(parsed) << parsed.error().text();
  EXPECT_THAT(*parsed, ElementsAre(RpcServer{"127.0.0.1:50052", "127.0.0.1:50052"},
                                   RpcServer{"127.0.0.1:50053", "desk-2"},
                                   RpcServer{"127.0.0.1:1", "desk_3.lan"},
                                   RpcServer{"127.9.0.1:65535", "127.9.0.1:65535"}));
}

TEST(ParseRpcServers, OtherMachinesAreReachedThroughATunnel) {
  for (const std::string host : {"desk-2", "192.168.1.5", "0.0.0.0", "8.8.8.8", "example.org"}) {
    const std::string text = refusal({host + ":50052"});
    EXPECT_THAT(text, HasSubstr("neither keys nor encryption")) << host;
    EXPECT_THAT(text, HasSubstr("ssh -N -L 50052:127.0.0.1:50052 " + host)) << host;
  }
  // ggml's protocol is spoken over IPv4.
  EXPECT_THAT(refusal({"[::1]:50052"}), HasSubstr("write \"127.0.0.1:50052\""));
  EXPECT_THAT(refusal({"desk-2=192.168.1.5:50052"}), HasSubstr("ssh -N -L"));
}

TEST(ParseRpcServers, RefusesWhatIsNoAddress) {
  for (const std::string text :
       {"", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:50052x",
        "127.0.0.1:-1", "desk-2=", "=", "desk-2"}) {
    EXPECT_THAT(refusal({text}), HasSubstr("is no address of an RPC server")) << text;
  }
  // What llama-server would take for two.
  EXPECT_NE(refusal({"127.0.0.1:50052,127.0.0.1:50053"}), "accepted");
}

TEST(ParseRpcServers, RefusesWhatIsNoName) {
  for (const std::string& name : Texts{"", "a b", "a,b", "a(b)", std::string(65, 'a')}) {
    EXPECT_THAT(refusal({name + "=127.0.0.1:50052"}), HasSubstr("is no name")) << name;
  }
}

TEST(ParseRpcServers, RefusesOneThatIsThereTwice) {
  EXPECT_THAT(refusal({"a=127.0.0.1:50052", "b=localhost:50052"}),
              HasSubstr("'a' and 'b=localhost:50052' are the same"));
  EXPECT_THAT(refusal({"a=127.0.0.1:50052", "a=127.0.0.1:50053"}), HasSubstr("are the same"));
}

TEST(ParseRpcServers, TakesFifteenAtMost) {
  Texts texts;
  for (std::size_t i = 0; i < kMaxRpcServers; ++i) {
    texts.push_back("127.0.0.1:" + std::to_string(50000 + i));
  }
  EXPECT_TRUE(parse_rpc_servers(texts));
  texts.emplace_back("127.0.0.1:60000");
  EXPECT_THAT(refusal(texts), HasSubstr("15 at most"));
}

}  // namespace
}  // namespace yoke::config
