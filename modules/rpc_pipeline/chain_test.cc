// Copies from worker to worker.
#include <algorithm>
#include <random>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc_pipeline/client_test_support.h"

namespace rpc_pipeline {
namespace {

using ::testing::IsEmpty;
using Fault = FakeWorker::Fault;

constexpr std::uint64_t kMega = std::uint64_t{1} << 20;
// What the kernel may hold on the way from a worker.
constexpr std::uint64_t kKernel = 32 * kMega;
constexpr std::uint64_t kBlock = BlockPool::kBlockSize;

// One that writes nothing else, which may go before data that is awaited.
Message fill_message(const WireTensor& tensor, std::uint8_t add) {
  Message message = step_message(tensor, add);
  message.fills = MemoryRange{tensor.data, tensor.data + size_of(tensor)};
  return message;
}

class ChainTest : public ::testing::Test {
  const Watchdog watchdog_;
};

class ChainSizes : public ChainTest, public ::testing::WithParamInterface<std::uint64_t> {};

TEST_P(ChainSizes, PassesATensorThroughFourWorkers) {
  const std::string data = much_noise(GetParam());
  FakeWorker workers[4];
  Client client;
  WireTensor tensors[4];
  for (std::size_t i = 0; i < 4; ++i) tensors[i] = workers[i].add_tensor(data.size());
  workers[0].set_content(tensors[0], data);
  for (std::size_t i = 0; i < 3; ++i) {
    chain(client.at(workers[i]), tensors[i], client.at(workers[i + 1]), tensors[i + 1]);
  }
  EXPECT_TRUE(read(client.at(workers[3]), tensors[3]) == data);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(workers[i].content(tensors[i]) == data) << i;
    EXPECT_EQ(workers[i].violation(), "");
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, ChainSizes,
                         ::testing::Values(0, 1, 255, kBlock - 1, kBlock, kBlock + 1, 3 * kMega + 7,
                                           24 * kMega));

TEST_F(ChainTest, NeitherTheCallerNorTheSourceWaitsForTheDestination) {
  FakeWorker source;
  FakeWorker destination;
  Client client;
  const std::string data = noise(kMega);
  const WireTensor from = source.add_tensor(kMega);
  const WireTensor to = destination.add_tensor(kMega);
  source.set_content(from, data);
  destination.fail_at(Command::kGraphCompute, Fault::kHold);
  client.at(destination).post(step_message(to, 0));
  ASSERT_TRUE(destination.wait_until_held());
  for (int i = 0; i < 5; ++i) {
    chain(client.at(source), from, client.at(destination), to);
    client.at(source).post(step_message(from, 1));
  }
  // The source has computed all five while the destination stands.
  EXPECT_TRUE(read(client.at(source), from));
  EXPECT_EQ(source.served(Command::kGraphCompute), 5U);
  EXPECT_EQ(destination.served(Command::kSetTensor), 0U);
  destination.release();
  std::string expected = data;
  for (int i = 0; i < 4; ++i) {
    for (char& c : expected) c = static_cast<char>(c * 3 + 1);
  }
  EXPECT_TRUE(read(client.at(destination), to) == expected);
}

TEST_F(ChainTest, TheDestinationWaitsForASourceThatComputes) {
  FakeWorker source;
  FakeWorker destination;
  Client client;
  const WireTensor from = source.add_tensor(5);
  const WireTensor to = destination.add_tensor(5);
  source.fail_at(Command::kGraphCompute, Fault::kHold);
  client.at(source).post(step_message(from, 7));
  chain(client.at(source), from, client.at(destination), to);
  client.at(destination).post(step_message(to, 1));
  std::string result;
  post_read(client.at(destination), to, result);
  ASSERT_TRUE(source.wait_until_held());
  EXPECT_EQ(destination.served(Command::kGraphCompute), 0U);
  source.release();
  EXPECT_TRUE(client.at(destination).wait_for_reads());
  EXPECT_EQ(result, std::string(5, 22));
}

// What the client has reaches the destination while the source still computes.
TEST_F(ChainTest, DataAtHandGoesBeforeDataThatIsAwaited) {
  FakeWorker source;
  FakeWorker destination;
  Client client;
  Endpoint& endpoint = client.at(destination);
  const WireTensor from = source.add_tensor(5);
  const WireTensor to = destination.add_tensor(5);
  const WireTensor other = destination.add_tensor(3);
  source.fail_at(Command::kGraphCompute, Fault::kHold);
  client.at(source).post(step_message(from, 7));
  chain(client.at(source), from, endpoint, to);
  endpoint.post(set_message(other, "\1\2\3"));
  endpoint.post(fill_message(other, 1));
  EXPECT_TRUE(eventually([&] { return destination.content(other) == "\4\7\12"; }));
  EXPECT_EQ(destination.content(to), std::string(5, 0));

  // Not before what it would be written over by, nor with what follows it.
  endpoint.post(fill_message(to, 2));
  endpoint.post(fill_message(other, 3));
  ASSERT_TRUE(source.wait_until_held());
  EXPECT_EQ(destination.served(Command::kGraphCompute), 1U);
  source.release();
  EXPECT_EQ(read(endpoint, to), std::string(5, 23));
  EXPECT_EQ(read(endpoint, other), "\17\30\41");
}

// Memory is bounded: a slow destination pauses the reading from the source.
TEST_F(ChainTest, HoldsNoMoreThanIsAllowed) {
  const FakeWorker::Options options{.buffer_size = 256 << 10};
  FakeWorker source(options);
  FakeWorker destination(options);
  Settings settings;
  settings.max_held = kMega;
  Client client(settings);
  const std::string data = much_noise(48 * kMega);
  const WireTensor from = source.add_tensor(data.size());
  const WireTensor to = destination.add_tensor(data.size());
  source.set_content(from, data);
  destination.fail_at(Command::kGraphCompute, Fault::kHold);
  client.at(destination).post(step_message(to, 0));
  ASSERT_TRUE(destination.wait_until_held());
  chain(client.at(source), from, client.at(destination), to);
  std::uint64_t before = 0;
  EXPECT_TRUE(eventually([&] {
    std::this_thread::sleep_for(100ms);
    const std::uint64_t sent = source.bytes_sent();
    return std::exchange(before, sent) == sent && sent > kMega;
  }));
  EXPECT_LE(source.bytes_sent(), kMega + kKernel);
  destination.release();
  EXPECT_TRUE(read(client.at(destination), to) == data);
  // Reading went on for what comes after, too.
  EXPECT_TRUE(read(client.at(source), from) == data);
}

TEST_F(ChainTest, WithinOneWorkerATensorMayBeLargerThanWhatIsHeld) {
  FakeWorker worker(FakeWorker::Options{.buffer_size = 128 << 10});
  Settings settings;
  settings.max_held = 64 << 10;
  settings.timeout = 5s;
  Client client(settings);
  const std::string data = much_noise(16 * kMega);
  const WireTensor from = worker.add_tensor(data.size());
  const WireTensor to = worker.add_tensor(data.size());
  worker.set_content(from, data);
  chain(client.at(worker), from, client.at(worker), to);
  EXPECT_TRUE(read(client.at(worker), to) == data);
  EXPECT_THAT(client.lines(), IsEmpty());
}

// Two threads that copy in opposite directions: each worker may be asked to send before it takes.
TEST_F(ChainTest, CopiesInOppositeDirectionsDoNotWaitForEachOther) {
  const FakeWorker::Options options{.buffer_size = 128 << 10};
  FakeWorker one(options);
  FakeWorker two(options);
  Settings settings;
  settings.max_held = 64 << 10;
  settings.max_queued = 64 << 10;
  settings.timeout = 10s;
  Client client(settings);
  constexpr std::uint64_t kSize = 10 * kMega;
  const std::string there = much_noise(kSize, 1);
  const std::string back = much_noise(kSize, 2);
  const WireTensor of_one[] = {one.add_tensor(kSize), one.add_tensor(kSize)};
  const WireTensor of_two[] = {two.add_tensor(kSize), two.add_tensor(kSize)};
  one.set_content(of_one[0], there);
  two.set_content(of_two[1], back);
  Endpoint& first = client.at(one);
  Endpoint& second = client.at(two);
  std::thread other([&] {
    for (int i = 0; i < 10; ++i) chain(second, of_two[1], first, of_one[1]);
  });
  for (int i = 0; i < 10; ++i) chain(first, of_one[0], second, of_two[0]);
  other.join();
  EXPECT_TRUE(read(second, of_two[0]) == there);
  EXPECT_TRUE(read(first, of_one[1]) == back);
  EXPECT_THAT(client.lines(), IsEmpty());
}

/// A thread's own tensors at each worker, and what they must hold when all is done in order.
class Script {
 public:
  Script(std::vector<FakeWorker*> workers, Client& client, std::uint64_t seed)
      : workers_(std::move(workers)), client_(client), random_(seed) {
    sizes_ = {1 + random_() % 1000, 1 + random_() % (3 * kBlock),
              random_() % 3 == 0 ? kMega : kBlock};
    for (FakeWorker* worker : workers_) {
      for (const std::uint64_t size : sizes_) {
        places_.push_back({worker, worker->add_tensor(size), std::string(size, '\0')});
      }
    }
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
    for (FakeWorker* worker : workers_) EXPECT_TRUE(client_.at(*worker).wait_for_reads());
    for (const auto& [read, expected] : reads_) EXPECT_TRUE(*read == expected);
    for (const Place& place : places_)
      EXPECT_TRUE(read(client_.at(*place.worker), place.tensor) == place.content);
  }

 private:
  struct Place {
    FakeWorker* worker;
    WireTensor tensor;
    std::string content;
  };

  Place& any() { return places_[random_() % places_.size()]; }

  void step() {
    Place& place = any();
    Endpoint& endpoint = client_.at(*place.worker);
    switch (random_() % 10) {
      case 0:
        place.content = much_noise(place.content.size(), random_());
        return endpoint.post(set_message(place.tensor, place.content));
      case 1:
      case 2: {
        const auto add = static_cast<std::uint8_t>(random_());
        for (char& c : place.content) c = static_cast<char>(c * 3 + add);
        return endpoint.post(random_() % 2 == 0 ? step_message(place.tensor, add)
                                                : fill_message(place.tensor, add));
      }
      case 3: {
        reads_.emplace_back(std::make_unique<std::string>(), place.content);
        return post_read(endpoint, place.tensor, *reads_.back().first);
      }
      case 4:
        if (random_() % 8 == 0) {
          EXPECT_TRUE(read(endpoint, place.tensor) == place.content);
        }
        return;
      default: {
        const std::size_t kind = static_cast<std::size_t>(&place - places_.data()) % sizes_.size();
        Place& to = places_[random_() % workers_.size() * sizes_.size() + kind];
        if (&to == &place) return;
        chain(endpoint, place.tensor, client_.at(*to.worker), to.tensor);
        to.content = place.content;
      }
    }
  }

  std::vector<FakeWorker*> workers_;
  Client& client_;
  std::mt19937_64 random_;
  std::vector<std::uint64_t> sizes_;
  std::vector<Place> places_;
  std::vector<std::pair<std::unique_ptr<std::string>, std::string>> reads_;
};

class RandomChains : public ChainTest, public ::testing::WithParamInterface<unsigned> {};

// Whatever is copied where, by one thread or by several: it ends, and gives what doing one thing
// after the other gives. Buffers are small so that all waits occur.
TEST_P(RandomChains, EndWithWhatOneAfterTheOtherGives) {
  const unsigned seed = GetParam();
  std::mt19937_64 random(seed);
  std::vector<std::unique_ptr<FakeWorker>> owned;
  std::vector<FakeWorker*> workers;
  for (unsigned i = 0; i < 2 + seed % 4; ++i) {
    FakeWorker::Options options;
    if (random() % 2 == 0) options.buffer_size = 128 << 10;
    if (random() % 4 == 0) options.answer_piece = 10'000;
    owned.push_back(std::make_unique<FakeWorker>(options));
    workers.push_back(owned.back().get());
    if (random() % 3 == 0) workers.back()->set_delay(Command::kGraphCompute, 1ms);
  }
  Settings settings;
  settings.max_held = std::uint64_t{16} << (10 + random() % 8);
  settings.max_queued = std::uint64_t{4} << (10 + random() % 10);
  settings.timeout = 60s;
  Client client(settings);
  for (FakeWorker* worker : workers) client.at(*worker);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < (seed % 3 == 0 ? 1 : 3); ++i) {
    threads.emplace_back([&, i] { Script(workers, client, seed * 100 + i).run(60); });
  }
  for (std::thread& thread : threads) thread.join();
  for (FakeWorker* worker : workers) EXPECT_EQ(worker->violation(), "");
  EXPECT_THAT(client.lines(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomChains, ::testing::Range(0U, 9U));

}  // namespace
}  // namespace rpc_pipeline
