// Weights that go to workers by their hash or from their file.
#include <filesystem>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc_pipeline/client_test_support.h"
#include "rpc_pipeline/weight_hashes.h"

namespace rpc_pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::Optional;
using Fault = FakeWorker::Fault;

std::uint64_t hash_of(const std::string& text) { return fnv1a(view(text)); }

Message upload_message(const WireTensor& tensor, FileRange range, bool ask = true) {
  auto upload = std::make_unique<Upload>();
  upload->tensor = tensor;
  upload->data = std::move(range);
  upload->ask = ask;
  Message message;
  message.command = Command::kSetTensor;
  message.upload = std::move(upload);
  return message;
}

class UploadsTest : public ::testing::Test {
 protected:
  UploadsTest() { settings_.hashes = dir_.file("hashes"); }

  /// Commands and `keep`, without the handshake.
  static std::vector<std::pair<Command, bool>> seen(const FakeWorker& worker) {
    std::vector<std::pair<Command, bool>> commands;
    for (const auto& served : worker.served()) {
      if (served.command != Command::kHello) commands.emplace_back(served.command, served.keep);
    }
    return commands;
  }

  FileRange weights(const std::string& content, const std::string& name = "model.gguf") {
    write_file(dir_.file(name), content);
    return range_of(dir_.file(name), 0, content.size());
  }

  const Watchdog watchdog_;
  const TempDir dir_;
  Settings settings_;
  FakeWorker worker_;
};

constexpr auto kAsk = std::pair(Command::kSetTensorHash, false);
constexpr auto kKeep = std::pair(Command::kSetTensor, true);
constexpr auto kData = std::pair(Command::kSetTensor, false);
constexpr auto kGet = std::pair(Command::kGetTensor, false);

// The file has other bytes than the worker's cache, so it would be seen if it were read.
TEST_F(UploadsTest, AKnownHashThatTheWorkerHasNeedsNoFile) {
  const std::string cached = noise(100'000, 5);
  const FileRange range = weights(noise(100'000, 6));
  WeightHashes(settings_.hashes).add(range, hash_of(cached));
  worker_.cache(hash_of(cached), cached);
  Client client(settings_);
  const WireTensor tensor = worker_.add_tensor(100'000);
  client.at(worker_).post(upload_message(tensor, range));
  EXPECT_TRUE(read(client.at(worker_), tensor) == cached);
  EXPECT_THAT(seen(worker_), ElementsAre(kAsk, kGet));
}

TEST_F(UploadsTest, AKnownHashThatTheWorkerLacksIsSentAndKept) {
  const std::string data = much_noise(3'000'000);
  const FileRange range = weights(data);
  WeightHashes(settings_.hashes).add(range, hash_of(data));
  Client client(settings_);
  const WireTensor tensor = worker_.add_tensor(data.size());
  client.at(worker_).post(upload_message(tensor, range));
  EXPECT_TRUE(read(client.at(worker_), tensor) == data);
  EXPECT_THAT(seen(worker_), ElementsAre(kAsk, kKeep, kGet));
  EXPECT_TRUE(worker_.has_cached(hash_of(data)));
}

TEST_F(UploadsTest, AnUnknownHashIsComputedAndNoted) {
  const std::string data = much_noise(2'500'000);
  const FileRange range = weights(data);
  worker_.cache(hash_of(data), data);
  {
    Client client(settings_);
    const WireTensor tensor = worker_.add_tensor(data.size());
    client.at(worker_).post(upload_message(tensor, range));
    EXPECT_TRUE(read(client.at(worker_), tensor) == data);
    EXPECT_THAT(seen(worker_), ElementsAre(kAsk, kGet));
  }
  EXPECT_THAT(WeightHashes(settings_.hashes).find(range), Optional(hash_of(data)));
}

TEST_F(UploadsTest, SmallWeightsAreNotAskedForNorKept) {
  const std::string data = much_noise(70'000);
  const FileRange range = weights(data);
  Client client(settings_);
  const WireTensor tensor = worker_.add_tensor(data.size());
  client.at(worker_).post(upload_message(tensor, range, false));
  client.at(worker_).post(upload_message(worker_.add_tensor(0), {range.file, 5, 0}, false));
  EXPECT_TRUE(read(client.at(worker_), tensor) == data);
  EXPECT_THAT(seen(worker_), ElementsAre(kData, kData, kGet));
}

TEST_F(UploadsTest, APartOfAFileGoesToAPartOfATensor) {
  const std::string data = much_noise(10'000);
  FileRange range = weights(data);
  range.offset = 1234;
  range.size = 100;
  Client client(settings_);
  const WireTensor tensor = worker_.add_tensor(300);
  Message message = upload_message(tensor, range);
  message.upload->offset = 50;
  client.at(worker_).post(std::move(message));
  EXPECT_EQ(read(client.at(worker_), tensor),
            std::string(50, '\0') + data.substr(1234, 100) + std::string(150, '\0'));
}

TEST_F(UploadsTest, NothingOvertakesAnUploadNorDoesItOvertake) {
  const std::string data = much_noise(1'500'000);
  const FileRange range = weights(data);
  Client client(settings_);
  Endpoint& endpoint = client.at(worker_);
  const WireTensor tensor = worker_.add_tensor(data.size());
  for (const bool ask : {true, false}) {
    worker_.fail_at(ask ? Command::kSetTensorHash : Command::kSetTensor, Fault::kHoldInBody,
                    ask ? 0 : 1);
    std::string reads[3];
    endpoint.post(set_message(tensor, std::string(data.size(), 'a')));
    post_read(endpoint, tensor, reads[0]);
    endpoint.post(upload_message(tensor, range, ask));
    post_read(endpoint, tensor, reads[1]);
    endpoint.post(set_message(tensor, std::string(data.size(), 'b')));
    post_read(endpoint, tensor, reads[2]);
    ASSERT_TRUE(worker_.wait_until_held());
    worker_.release();
    ASSERT_TRUE(endpoint.wait_for_reads());
    EXPECT_TRUE(reads[0] == std::string(data.size(), 'a'));
    EXPECT_TRUE(reads[1] == data);
    EXPECT_TRUE(reads[2] == std::string(data.size(), 'b'));
  }
}

// Uploads may overtake one another; each reaches its own tensor.
TEST_F(UploadsTest, ManyGoToSeveralWorkersAtOnce) {
  FakeWorker workers[3];
  std::mt19937_64 random(1);
  const std::string data = much_noise(4'000'000);
  const FileRange whole = weights(data);
  WeightHashes known(settings_.hashes);
  struct Piece {
    FakeWorker* worker;
    WireTensor tensor;
    FileRange range;
  };
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < 120; ++i) {
    FakeWorker& worker = workers[i % 3];
    const std::uint64_t size = random() % (i % 4 == 0 ? 1'000'000 : 60'000);
    const FileRange range{whole.file, random() % (data.size() - size), size};
    const std::string content = data.substr(range.offset, size);
    if (random() % 2 == 0) known.add(range, hash_of(content));
    if (random() % 3 == 0) worker.cache(hash_of(content), content);
    pieces.push_back({&worker, worker.add_tensor(size), range});
  }
  Client client(settings_);
  for (const Piece& piece : pieces) {
    client.at(*piece.worker)
        .post(upload_message(piece.tensor, piece.range, piece.range.size > 20'000));
  }
  for (const Piece& piece : pieces) {
    const auto content = read(client.at(*piece.worker), piece.tensor);
    ASSERT_TRUE(content && *content == data.substr(piece.range.offset, piece.range.size));
  }
  EXPECT_THAT(client.lines(), IsEmpty());
}

TEST_F(UploadsTest, AFileThatBecameShorterEndsTheClientWithOneLine) {
  const FileRange range = weights(much_noise(3'000'000));
  std::filesystem::resize_file(range.file->path, 1'000'000);
  for (const bool ask : {true, false}) {
    FakeWorker worker;
    Client client(settings_);
    const WireTensor tensor = worker.add_tensor(range.size);
    client.at(worker).post(upload_message(tensor, range, ask));
    EXPECT_EQ(read(client.at(worker), tensor), std::nullopt);
    const std::string line = "cannot read weights: " + range.file->path;
    EXPECT_THAT(client.lines(), ElementsAre(ask ? line : line + ": the file became shorter"));
  }
}

TEST_F(UploadsTest, TheClientMayEndWhileHashesAreComputed) {
  const FileRange range = weights(much_noise(8'000'000));
  for (int i = 0; i < 5; ++i) {
    Client client;
    for (int j = 0; j < 4; ++j) {
      const FileRange part{range.file, 0, range.size - static_cast<std::uint64_t>(i * 4 + j)};
      client.at(worker_).post(upload_message(worker_.add_tensor(range.size), part));
    }
    if (i % 2 == 0) client.loop().give_up(client.at(worker_), "it is not wanted any more");
  }
}

}  // namespace
}  // namespace rpc_pipeline
