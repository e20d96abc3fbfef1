#include "rpc_pipeline/endpoint.h"

#include <algorithm>
#include <atomic>
#include <latch>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc_pipeline/client_test_support.h"

namespace rpc_pipeline {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;
using Fault = FakeWorker::Fault;

constexpr std::uint64_t kMega = std::uint64_t{1} << 20;
// What the kernel may hold on the way to a worker whose buffers are small.
constexpr std::uint64_t kKernel = 8 * kMega;

class EndpointTest : public ::testing::Test {
  const Watchdog watchdog_;
};

TEST_F(EndpointTest, CallsGiveTheAnswer) {
  FakeWorker worker;
  Client client;
  Endpoint& endpoint = client.at(worker);
  DeviceCountReply devices{};
  Message count;
  count.command = Command::kDeviceCount;
  ASSERT_TRUE(endpoint.call(std::move(count), devices));
  EXPECT_EQ(devices.count, 1U);

  AllocReply buffer{};
  ASSERT_TRUE(endpoint.call(request(Command::kAllocBuffer, AllocRequest{0, 100}), buffer));
  NumberReply base{};
  ASSERT_TRUE(endpoint.call(request(Command::kBufferGetBase, BufferRequest{buffer.buffer}), base));
  WireTensor tensor{};
  tensor.buffer = buffer.buffer;
  tensor.data = base.value;
  tensor.ne[0] = 100;
  endpoint.post(request(Command::kBufferClear, ClearRequest{buffer.buffer, 'x'}));
  endpoint.post(set_message(tensor, "abc", 10));
  EXPECT_EQ(read(endpoint, tensor), std::string(10, 'x') + "abc" + std::string(87, 'x'));
  endpoint.post(request(Command::kMemsetTensor, MemsetRequest{tensor, 90, 10, 'y'}));
  EXPECT_EQ(read(endpoint, tensor)->substr(85), "xxxxxyyyyyyyyyy");
  EXPECT_EQ(worker.violation(), "");
  EXPECT_THAT(client.lines(), IsEmpty());
}

TEST_F(EndpointTest, AnAddressIsOneEndpoint) {
  FakeWorker worker;
  Client client;
  EXPECT_EQ(&client.at(worker), &client.at(worker));
  EXPECT_EQ(worker.served(Command::kHello), 1U);
}

TEST_F(EndpointTest, KeepsTheOrderOfEachThread) {
  constexpr std::uint64_t kThreads = 6;
  constexpr std::uint64_t kPosts = 300;
  FakeWorker workers[3];
  Client client;
  std::vector<std::thread> threads;
  WireTensor tensors[3];
  Endpoint* endpoints[3];
  for (std::size_t i = 0; i < 3; ++i) {
    tensors[i] = workers[i].add_tensor(2000);
    endpoints[i] = &client.at(workers[i]);
  }
  for (std::uint64_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::uint64_t i = 0; i < kPosts; ++i) {
        WireTensor tensor = tensors[i % 3];
        tensor.id = thread * kPosts + i;
        // Of all kinds: small ones that linger, larger ones, ones with an answer.
        if (i % 7 == 0) {
          EXPECT_TRUE(read(*endpoints[i % 3], tensor));
        } else {
          endpoints[i % 3]->post(set_message(tensor, std::string(i % 5 == 0 ? 2000 : 3, 'x')));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(read(*endpoints[i], tensors[i]));
  for (const FakeWorker& worker : workers) {
    std::vector<std::uint64_t> last(kThreads, 0);
    std::size_t count = 0;
    for (const auto& served : worker.served()) {
      if (served.command == Command::kHello || ++count > kThreads * kPosts / 3) continue;
      const std::uint64_t thread = served.tensor / kPosts;
      ASSERT_LT(thread, kThreads);
      EXPECT_LE(last[thread], served.tensor);
      last[thread] = served.tensor + 1;
    }
    EXPECT_EQ(count, kThreads * kPosts / 3 + 1);
  }
}

TEST_F(EndpointTest, PostsNeverWaitForAnswers) {
  FakeWorker worker;
  Client client;
  Endpoint& endpoint = client.at(worker);
  const WireTensor tensor = worker.add_tensor(50);
  worker.fail_at(Command::kGetTensor, Fault::kHold);
  std::vector<std::string> reads(500);
  for (std::size_t i = 0; i < reads.size(); ++i) {
    endpoint.post(set_message(tensor, std::string(50, static_cast<char>('a' + i % 26))));
    post_read(endpoint, tensor, reads[i]);
  }
  EXPECT_EQ(endpoint.reads(), reads.size());
  ASSERT_TRUE(worker.wait_until_held());
  EXPECT_EQ(worker.served(Command::kGetTensor), 0U);
  worker.release();
  ASSERT_TRUE(endpoint.wait_for_reads());
  for (std::size_t i = 0; i < reads.size(); ++i) {
    ASSERT_EQ(reads[i], std::string(50, static_cast<char>('a' + i % 26))) << i;
  }
}

TEST_F(EndpointTest, WaitsForTheFirstReadsOnly) {
  FakeWorker worker;
  Client client;
  Endpoint& endpoint = client.at(worker);
  const WireTensor tensor = worker.add_tensor(10);
  worker.fail_at(Command::kGetTensor, Fault::kHold, 2);
  std::string reads[3];
  for (std::string& read : reads) post_read(endpoint, tensor, read);
  EXPECT_TRUE(endpoint.wait_for_reads(2));
  EXPECT_EQ(reads[0], std::string(10, '\0'));
  EXPECT_EQ(reads[1], std::string(10, '\0'));
  ASSERT_TRUE(worker.wait_until_held());
  EXPECT_EQ(reads[2], "??????????");
  worker.release();
  EXPECT_TRUE(endpoint.wait_for_reads());
  EXPECT_EQ(reads[2], std::string(10, '\0'));
}

TEST_F(EndpointTest, NothingToWaitForIsNoWait) {
  FakeWorker worker;
  Client client;
  EXPECT_TRUE(client.at(worker).wait_for_reads());
  EXPECT_TRUE(client.at(worker).wait_for_reads(0));
}

TEST_F(EndpointTest, SmallDataLingersUntilItIsWanted) {
  FakeWorker worker;
  Client client;
  Endpoint& endpoint = client.at(worker);
  const WireTensor tensor = worker.add_tensor(100);
  endpoint.post(set_message(tensor, "abc"));
  endpoint.post(set_message(tensor, "def", 3));
  EXPECT_EQ(read(endpoint, tensor)->substr(0, 7), std::string("abcdef\0", 7));
  // Much of it goes by itself.
  const std::size_t before = worker.served().size();
  for (int i = 0; i < 300; ++i) endpoint.post(set_message(tensor, std::string(100, 'x')));
  EXPECT_TRUE(worker.wait_until_served(before + 100));
}

TEST_F(EndpointTest, SendsTheCallersDataBeforeItReturns) {
  FakeWorker worker;
  Client client;
  Endpoint& endpoint = client.at(worker);
  const WireTensor tensor = worker.add_tensor(9 * kMega);
  std::string data = much_noise(9 * kMega);
  const std::string copy = data;
  ASSERT_TRUE(endpoint.call(set_head(tensor, view(data))));
  data.assign(data.size(), 'x');
  EXPECT_TRUE(read(endpoint, tensor) == copy);
}

TEST_F(EndpointTest, TakesAnswersInAnyPieces) {
  for (const std::size_t piece : {1, 7, 8, 9, 4096}) {
    FakeWorker worker(FakeWorker::Options{.answer_piece = piece});
    Client client;
    Endpoint& endpoint = client.at(worker);
    const std::string content = noise(20'000 + piece);
    const WireTensor tensor = worker.add_tensor(content.size());
    worker.set_content(tensor, content);
    std::string reads[3];
    for (std::string& read : reads) post_read(endpoint, tensor, read);
    ASSERT_TRUE(endpoint.wait_for_reads());
    for (const std::string& read : reads) EXPECT_TRUE(read == content) << piece;
  }
}

TEST_F(EndpointTest, ReadsAnEmptyTensor) {
  FakeWorker worker;
  Client client;
  EXPECT_EQ(read(client.at(worker), worker.add_tensor(0)), "");
}

TEST_F(EndpointTest, APostWaitsWhileTooMuchIsQueued) {
  FakeWorker worker(FakeWorker::Options{.buffer_size = 256 << 10});
  Settings settings;
  settings.max_queued = kMega;
  Client client(settings);
  Endpoint& endpoint = client.at(worker);
  constexpr std::uint64_t kPiece = kMega / 4;
  constexpr std::uint64_t kPosts = 80;  // 20 MiB
  const WireTensor tensor = worker.add_tensor(kPiece * kPosts);
  worker.fail_at(Command::kGraphCompute, Fault::kHold);
  endpoint.post(step_message(tensor, 0));
  ASSERT_TRUE(worker.wait_until_held());

  std::atomic<std::uint64_t> posted = 0;
  std::thread poster([&] {
    for (; posted < kPosts; ++posted)
      endpoint.post(set_message(tensor, much_noise(kPiece, posted + 1), posted * kPiece));
  });
  std::uint64_t before = 0;
  // Until it stands still.
  EXPECT_TRUE(eventually([&] {
    std::this_thread::sleep_for(100ms);
    return std::exchange(before, posted.load()) == posted && posted > 0;
  }));
  EXPECT_LE(posted * kPiece, kMega + kPiece + kKernel);
  EXPECT_GE(posted * kPiece, kMega);
  worker.release();
  poster.join();
  const auto content = read(endpoint, tensor);
  ASSERT_TRUE(content);
  for (std::uint64_t i = 0; i < kPosts; ++i) {
    ASSERT_TRUE(content->compare(i * kPiece, kPiece, much_noise(kPiece, i + 1)) == 0) << i;
  }
}

TEST_F(EndpointTest, OneRequestMayBeLargerThanTheQueue) {
  FakeWorker worker;
  Settings settings;
  settings.max_queued = 1000;
  Client client(settings);
  const WireTensor tensor = worker.add_tensor(kMega);
  const std::string data = noise(kMega);
  for (int i = 0; i < 3; ++i) client.at(worker).post(set_message(tensor, data));
  EXPECT_TRUE(read(client.at(worker), tensor) == data);
}

TEST_F(EndpointTest, ThreadsThatCallGetTheirOwnAnswers) {
  FakeWorker workers[3];
  Client client;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 6; ++thread) {
    FakeWorker& worker = workers[thread % 3];
    Endpoint& endpoint = client.at(worker);
    threads.emplace_back([&endpoint, &worker, thread] {
      const WireTensor tensor = worker.add_tensor(1000);
      for (int i = 0; i < 100; ++i) {
        const std::string data = noise(1000, static_cast<std::uint64_t>(thread * 1000 + i));
        endpoint.post(set_message(tensor, data));
        if (i % 2 == 0) {
          EXPECT_TRUE(read(endpoint, tensor) == data);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(client.lines(), IsEmpty());
}

TEST_F(EndpointTest, AMissingReadIsReportedOnce) {
  FakeWorker worker;
  Client client;
  Endpoint& endpoint = client.at(worker);
  const WireTensor tensor = worker.add_tensor(10);
  std::string reads[2];
  worker.fail_at(Command::kGetTensor, Fault::kClose, 1);
  for (std::string& read : reads) post_read(endpoint, tensor, read);
  EXPECT_FALSE(endpoint.wait_for_reads());
  EXPECT_TRUE(endpoint.wait_for_reads());
  EXPECT_TRUE(endpoint.lost());
  EXPECT_EQ(reads[1], "??????????");

  // What is asked for later is missing as well.
  post_read(endpoint, tensor, reads[0]);
  EXPECT_FALSE(endpoint.wait_for_reads());
  EXPECT_TRUE(endpoint.wait_for_reads());
}

TEST_F(EndpointTest, ALostWorkerTakesRequestsAndDoesNothing) {
  FakeWorker worker;
  Client client;
  Endpoint& endpoint = client.at(worker);
  const WireTensor tensor = worker.add_tensor(10);
  worker.drop_client();
  EXPECT_EQ(read(endpoint, tensor), std::nullopt);
  EXPECT_TRUE(endpoint.lost());
  for (int i = 0; i < 100; ++i) endpoint.post(set_message(tensor, "abc"));
  EXPECT_EQ(read(endpoint, tensor), std::nullopt);
  EXPECT_FALSE(endpoint.call(set_head(tensor)));
  EXPECT_EQ(client.loop().endpoint(worker.address()), &endpoint);
  FakeWorker other;
  EXPECT_EQ(client.loop().endpoint(other.address()), nullptr);
  EXPECT_THAT(client.lines(), SizeIs(1));
}

}  // namespace
}  // namespace rpc_pipeline
