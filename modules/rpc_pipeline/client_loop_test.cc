#include "rpc_pipeline/client_loop.h"

#include <atomic>
#include <functional>
#include <future>
#include <ostream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc_pipeline/client_test_support.h"

namespace rpc_pipeline {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Clock = std::chrono::steady_clock;
using Fault = FakeWorker::Fault;

constexpr std::uint64_t kMega = std::uint64_t{1} << 20;

class ClientLoopTest : public ::testing::Test {
  const Watchdog watchdog_;
};

// Failures: a worker does something wrong while somebody waits

/// The worker that misbehaves, a healthy one, and one that waits for data of the first.
struct Scene {
  Client& client;
  FakeWorker& bad;
  FakeWorker& good;
  TempDir& dir;
  std::string into = std::string(3 * kMega, '?');
  std::string data = much_noise(12 * kMega);

  Endpoint& at_bad() const { return client.at(bad); }
  Endpoint& at_good() const { return client.at(good); }
};

bool wait_in_call(Scene& scene) {
  Message get = get_message(scene.bad.add_tensor(scene.into.size()), scene.into.size());
  get.into = reinterpret_cast<std::byte*>(scene.into.data());
  return scene.at_bad().call(std::move(get));
}

bool wait_for_read(Scene& scene) {
  post_read(scene.at_bad(), scene.bad.add_tensor(scene.into.size()), scene.into);
  return scene.at_bad().wait_for_reads();
}

bool wait_until_sent(Scene& scene) {
  return scene.at_bad().call(set_head(scene.bad.add_tensor(scene.data.size()), view(scene.data)));
}

// The requests own what they send, and more of them than may be queued.
bool wait_for_room(Scene& scene) {
  const WireTensor tensor = scene.bad.add_tensor(kMega);
  while (!scene.at_bad().lost())
    scene.at_bad().post(set_message(tensor, scene.data.substr(0, kMega)));
  return false;
}

bool wait_for_source(Scene& scene) {
  const WireTensor from = scene.bad.add_tensor(scene.into.size());
  const WireTensor to = scene.good.add_tensor(scene.into.size());
  chain(scene.at_bad(), from, scene.at_good(), to);
  return read(scene.at_good(), to).has_value();
}

// Larger than what is held and what the kernel takes.
bool wait_for_destination(Scene& scene) {
  const WireTensor from = scene.good.add_tensor(10 * kMega);
  const WireTensor to = scene.bad.add_tensor(10 * kMega);
  chain(scene.at_good(), from, scene.at_bad(), to);
  return read(scene.at_good(), from) && read(scene.at_bad(), to);
}

bool upload(Scene& scene, bool ask) {
  write_file(scene.dir.file("weights"), scene.data);
  const WireTensor tensor = scene.bad.add_tensor(scene.data.size());
  auto part = std::make_unique<Upload>();
  part->tensor = tensor;
  part->data = range_of(scene.dir.file("weights"), 0, scene.data.size());
  part->ask = ask;
  Message message;
  message.upload = std::move(part);
  scene.at_bad().post(std::move(message));
  return read(scene.at_bad(), tensor).has_value();
}

bool wait_behind_upload(Scene& scene) { return upload(scene, true); }
bool wait_behind_file(Scene& scene) { return upload(scene, false); }

struct Case {
  const char* name;
  bool (*wait)(Scene&);
  Command command;  ///< At which the worker does it.
  Fault fault;
  const char* reason;
};
std::ostream& operator<<(std::ostream& out, const Case& failure) { return out << failure.name; }

constexpr const char* kClosed =
    "(connection closed by the worker|Connection reset by peer|Broken pipe)";
constexpr const char* kNoAnswer = "no answer for [0-9]+ s";
constexpr const char* kTakesNone = "it took no data for [0-9]+ s";

constexpr Case kCases[] = {
    {"call_close", wait_in_call, Command::kGetTensor, Fault::kClose, kClosed},
    {"call_close_in_answer", wait_in_call, Command::kGetTensor, Fault::kCloseInAnswer, kClosed},
    {"call_reset", wait_in_call, Command::kGetTensor, Fault::kReset, kClosed},
    {"call_hold", wait_in_call, Command::kGetTensor, Fault::kHold, kNoAnswer},
    {"call_hold_in_answer", wait_in_call, Command::kGetTensor, Fault::kHoldInAnswer, kNoAnswer},
    {"call_longer", wait_in_call, Command::kGetTensor, Fault::kLonger,
     "reply of 3145729 bytes to GET_TENSOR"},
    {"call_shorter", wait_in_call, Command::kGetTensor, Fault::kShorter,
     "reply of 3145727 bytes to GET_TENSOR"},
    {"read_close", wait_for_read, Command::kGetTensor, Fault::kClose, kClosed},
    {"read_close_in_answer", wait_for_read, Command::kGetTensor, Fault::kCloseInAnswer, kClosed},
    {"read_reset", wait_for_read, Command::kGetTensor, Fault::kReset, kClosed},
    {"read_hold", wait_for_read, Command::kGetTensor, Fault::kHold, kNoAnswer},
    {"read_hold_in_answer", wait_for_read, Command::kGetTensor, Fault::kHoldInAnswer, kNoAnswer},
    {"read_longer", wait_for_read, Command::kGetTensor, Fault::kLonger, "reply of 3145729 bytes"},
    {"send_close", wait_until_sent, Command::kSetTensor, Fault::kCloseInBody, kClosed},
    {"send_hold", wait_until_sent, Command::kSetTensor, Fault::kHoldInBody, kTakesNone},
    {"room_close", wait_for_room, Command::kSetTensor, Fault::kCloseInBody, kClosed},
    {"room_reset", wait_for_room, Command::kSetTensor, Fault::kReset, kClosed},
    {"room_hold", wait_for_room, Command::kSetTensor, Fault::kHoldInBody, kTakesNone},
    {"source_close", wait_for_source, Command::kGetTensor, Fault::kClose, kClosed},
    {"source_close_in_answer", wait_for_source, Command::kGetTensor, Fault::kCloseInAnswer,
     kClosed},
    {"source_hold", wait_for_source, Command::kGetTensor, Fault::kHold, kNoAnswer},
    {"source_hold_in_answer", wait_for_source, Command::kGetTensor, Fault::kHoldInAnswer,
     kNoAnswer},
    {"source_shorter", wait_for_source, Command::kGetTensor, Fault::kShorter,
     "reply of 3145727 bytes"},
    {"destination_close", wait_for_destination, Command::kSetTensor, Fault::kCloseInBody, kClosed},
    {"destination_hold", wait_for_destination, Command::kSetTensor, Fault::kHoldInBody, kTakesNone},
    {"upload_close", wait_behind_upload, Command::kSetTensorHash, Fault::kClose, kClosed},
    {"upload_hold", wait_behind_upload, Command::kSetTensorHash, Fault::kHold,
     "no answer for [0-9]+ s .to SET_TENSOR_HASH"},
    {"upload_flag", wait_behind_upload, Command::kSetTensorHash, Fault::kBadFlag, "a flag of 7"},
    {"upload_longer", wait_behind_upload, Command::kSetTensorHash, Fault::kLonger,
     "reply of 2 bytes to SET_TENSOR_HASH"},
    {"upload_data_close", wait_behind_upload, Command::kSetTensor, Fault::kCloseInBody, kClosed},
    {"file_close", wait_behind_file, Command::kSetTensor, Fault::kCloseInBody, kClosed},
    {"file_hold", wait_behind_file, Command::kSetTensor, Fault::kHoldInBody, kTakesNone},
};

class Failures : public ClientLoopTest, public ::testing::WithParamInterface<Case> {};

TEST_P(Failures, EndAllWaitsWithOneLineThatNamesTheWorker) {
  const Case& failure = GetParam();
  FakeWorker bad(FakeWorker::Options{.buffer_size = 256 << 10});
  FakeWorker good(FakeWorker::Options{.buffer_size = 256 << 10});
  FakeWorker bystander;
  Settings settings = settings_with(300ms * kSlower);
  settings.names = {{bad.address(), "desk-2"}};
  settings.max_queued = 4 * kMega;
  settings.max_held = kMega;
  auto client = std::make_unique<Client>(settings);
  TempDir dir;
  Scene scene{*client, bad, good, dir};
  scene.at_bad();
  scene.at_good();
  Endpoint& third = client->at(bystander);
  bad.fail_at(failure.command, failure.fault);

  const auto begin = Clock::now();
  EXPECT_FALSE(failure.wait(scene));
  // Another thread's wait, at another worker that is well, ends too.
  std::string read_there;
  post_read(third, bystander.add_tensor(10), read_there);
  EXPECT_FALSE(third.wait_for_reads());
  EXPECT_LT(Clock::now() - begin, 20s);
  EXPECT_TRUE(scene.at_bad().lost() && scene.at_good().lost() && third.lost());
  EXPECT_EQ(read(third, bystander.add_tensor(10)), std::nullopt);

  const auto lines = client->lines();
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_THAT(lines[0], ContainsRegex("^worker lost: desk-2 .127.0.0.1:[0-9]+.: " +
                                      std::string(failure.reason)));
  EXPECT_EQ(client->loop().failure(), lines[0]);

  // Whatever the worker still sends, nothing is written to memory that nobody lends any more.
  scene.into.assign(scene.into.size(), '#');
  bad.release();
  client.reset();
  EXPECT_EQ(scene.into.find_first_not_of('#'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Cases, Failures, ::testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_F(ClientLoopTest, WaitsOfOtherThreadsEndToo) {
  FakeWorker bad;
  FakeWorker held;
  Client client(settings_with(30s));
  Endpoint& at_bad = client.at(bad);
  Endpoint& at_held = client.at(held);
  bad.fail_at(Command::kGetTensor, Fault::kHold);
  held.fail_at(Command::kGetTensor, Fault::kHold);
  std::string in_order;
  post_read(at_held, held.add_tensor(10), in_order);
  auto called =
      std::async(std::launch::async, [&] { return read(at_bad, bad.add_tensor(10)).has_value(); });
  auto waited = std::async(std::launch::async, [&] { return at_held.wait_for_reads(); });
  auto called_too = std::async(std::launch::async,
                               [&] { return read(at_held, held.add_tensor(10)).has_value(); });
  ASSERT_TRUE(bad.wait_until_held() && held.wait_until_held());
  bad.drop_client();
  EXPECT_FALSE(called.get() || waited.get() || called_too.get());
  EXPECT_THAT(client.lines(), SizeIs(1));
}

TEST_F(ClientLoopTest, NoticesAWorkerThatDiesWhileNothingIsAsked) {
  FakeWorker worker;
  FakeWorker other;
  Client client;
  client.at(other);
  Endpoint& endpoint = client.at(worker);
  EXPECT_TRUE(read(endpoint, worker.add_tensor(10)));
  worker.drop_client();
  EXPECT_TRUE(eventually([&] { return endpoint.lost(); }));
  EXPECT_TRUE(client.at(other).lost());
  EXPECT_THAT(client.lines(), ElementsAre("worker lost: " + worker.address() + " (" +
                                          worker.address() + "): connection closed by the worker"));
}

TEST_F(ClientLoopTest, BytesThatNobodyAskedForEndIt) {
  FakeWorker worker;
  Client client;
  Endpoint& endpoint = client.at(worker);
  const WireTensor tensor = worker.add_tensor(10);
  worker.fail_at(Command::kGetTensor, Fault::kUnasked);
  read(endpoint, tensor);
  EXPECT_TRUE(eventually([&] { return endpoint.lost(); }));
  EXPECT_THAT(client.lines(), ElementsAre(ContainsRegex("it sent bytes that nobody asked for$")));
}

TEST_F(ClientLoopTest, ACopyThatAWorkerRefusesEndsIt) {
  FakeWorker worker(FakeWorker::Options{.copies = false, .together = 2});
  Client client;
  Endpoint& endpoint = client.at(worker);
  const WireTensor tensor = worker.add_tensor(10);
  Message copy = request(Command::kCopyTensor, CopyTensorRequest{tensor, tensor});
  copy.reply_size = sizeof(FlagReply);
  copy.must_be_one = true;
  endpoint.post(std::move(copy));
  // The next answer comes with the refusal, and is of what was not copied.
  std::string result;
  post_read(endpoint, tensor, result);
  EXPECT_FALSE(endpoint.wait_for_reads());
  EXPECT_EQ(result, "??????????");
  EXPECT_THAT(client.lines(),
              ElementsAre(ContainsRegex("it refused to copy a tensor between its devices$")));
}

TEST_F(ClientLoopTest, CopiesWithinAWorkerNeedNoWait) {
  FakeWorker worker;
  Client client;
  const WireTensor from = worker.add_tensor(10);
  const WireTensor to = worker.add_tensor(10);
  worker.set_content(from, "0123456789");
  Message copy = request(Command::kCopyTensor, CopyTensorRequest{from, to});
  copy.reply_size = sizeof(FlagReply);
  copy.must_be_one = true;
  client.at(worker).post(std::move(copy));
  EXPECT_EQ(read(client.at(worker), to), "0123456789");
}

TEST_F(ClientLoopTest, CallersCanGiveUp) {
  FakeWorker worker;
  Settings settings;
  settings.names = {{worker.address(), "desk-2"}};
  Client client(settings);
  Endpoint& endpoint = client.at(worker);
  worker.fail_at(Command::kGetTensor, Fault::kHold);
  auto called = std::async(std::launch::async,
                           [&] { return read(endpoint, worker.add_tensor(10)).has_value(); });
  ASSERT_TRUE(worker.wait_until_held());
  client.loop().give_up(endpoint, "an alignment of 3");
  client.loop().give_up(endpoint, "an alignment of 5");
  EXPECT_FALSE(called.get());
  EXPECT_THAT(client.lines(),
              ElementsAre("worker lost: desk-2 (" + worker.address() + "): an alignment of 3"));
}

TEST_F(ClientLoopTest, EndsWithConnectionsOpen) {
  for (int i = 0; i < 20; ++i) {
    FakeWorker source;
    FakeWorker destination;
    std::string result;
    Client client;
    const WireTensor tensor = source.add_tensor(2 * kMega);
    if (i % 2 == 0) source.fail_at(Command::kGetTensor, Fault::kHold);
    chain(client.at(source), tensor, client.at(destination), destination.add_tensor(2 * kMega));
    post_read(client.at(source), tensor, result);
    for (int j = 0; j < i; ++j) client.at(source).post(set_message(tensor, "lingers"));
  }
}

TEST_F(ClientLoopTest, ThreadsMayAskForTheSameAndForOtherWorkers) {
  FakeWorker workers[4];
  Client client;
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      FakeWorker& worker = workers[thread % 4];
      EXPECT_TRUE(read(client.at(worker), worker.add_tensor(100)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const FakeWorker& worker : workers) EXPECT_EQ(worker.served(Command::kHello), 1U);
}

// Deadlines: who is not late

// Connecting to a worker that is silent must not hold up the others.
TEST_F(ClientLoopTest, WorkersGoOnWhileAnotherOneIsConnected) {
  FakeWorker worker;
  const FakeWorker silent(FakeWorker::Options{.greets = false});
  Settings settings = settings_with(500ms * kSlower);
  settings.connect_timeout = 700ms;
  Client client(settings);
  Endpoint& endpoint = client.at(worker);
  const WireTensor tensor = worker.add_tensor(10);
  std::atomic<bool> connecting = true;
  std::thread other([&] {
    EXPECT_EQ(client.loop().endpoint(silent.address()), nullptr);
    connecting = false;
  });
  int calls = 0;
  while (connecting) {
    EXPECT_TRUE(read(endpoint, tensor));
    if (connecting) ++calls;
    std::this_thread::sleep_for(1ms);
  }
  other.join();
  EXPECT_GE(calls, 10);
  EXPECT_EQ(client.loop().failure(), "");
}

TEST_F(ClientLoopTest, AnAnswerMayBeSlowWithinTheDeadline) {
  // 60 ms a piece, 900 ms in all.
  FakeWorker worker(FakeWorker::Options{.answer_piece = 50, .pause = 60ms});
  Client client(settings_with(600ms * kSlower));
  EXPECT_TRUE(read(client.at(worker), worker.add_tensor(700)));
  EXPECT_THAT(client.lines(), IsEmpty());
}

TEST_F(ClientLoopTest, ALongIdleTimeIsNoDelay) {
  FakeWorker worker;
  Client client(settings_with(300ms * kSlower));
  Endpoint& endpoint = client.at(worker);
  const WireTensor tensor = worker.add_tensor(10);
  worker.set_delay(Command::kGetTensor, 50ms);
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(read(endpoint, tensor));
    endpoint.post(step_message(tensor, 1));
    std::this_thread::sleep_for(500ms * kSlower);  // Longer than the deadline.
  }
  EXPECT_TRUE(read(endpoint, tensor));
  EXPECT_THAT(client.lines(), IsEmpty());
}

TEST_F(ClientLoopTest, AWorkerThatWaitsForAnotherIsNotLate) {
  FakeWorker source(FakeWorker::Options{.answer_piece = 7'000, .pause = 60ms});
  FakeWorker destination;
  Client client(settings_with(600ms * kSlower));
  const WireTensor from = source.add_tensor(100'000);
  const WireTensor to = destination.add_tensor(100'000);
  source.set_content(from, noise(100'000));
  chain(client.at(source), from, client.at(destination), to);
  EXPECT_TRUE(read(client.at(destination), to) == noise(100'000));
  EXPECT_THAT(client.lines(), IsEmpty());
}

// The source can't take data while it answers, and it answers no faster than the destination takes
// it.
TEST_F(ClientLoopTest, AWorkerWhoseAnswerIsHeldUpByAnotherIsNotLate) {
  FakeWorker source(FakeWorker::Options{.buffer_size = 128 << 10});
  FakeWorker destination(
      FakeWorker::Options{.read_piece = 256 << 10, .pause = 40ms, .buffer_size = 128 << 10});
  Settings settings = settings_with(700ms * kSlower);
  settings.max_held = 256 << 10;
  Client client(settings);
  const std::string data = much_noise(12 * kMega);
  const WireTensor from = source.add_tensor(data.size());
  const WireTensor to = destination.add_tensor(data.size());
  source.set_content(from, data);
  chain(client.at(source), from, client.at(destination), to);
  const WireTensor next = source.add_tensor(data.size());
  EXPECT_TRUE(client.at(source).call(set_head(next, view(data))));
  EXPECT_TRUE(read(client.at(source), next) == data);
  // Not asked before: what lies in its socket takes its time too.
  EXPECT_TRUE(eventually([&] { return destination.served(Command::kSetTensor) == 1; }));
  EXPECT_TRUE(read(client.at(destination), to) == data);
  EXPECT_THAT(client.lines(), IsEmpty());
}

}  // namespace
}  // namespace rpc_pipeline
