// Weights on their way to a worker: the larger ones by hash first, since it may have them cached.

#include <memory>
#include <utility>

#include "rpc_pipeline/client_loop.h"
#include "rpc_pipeline/connection.h"

namespace rpc_pipeline {

void Connection::start(std::unique_ptr<Upload> upload) {
  if (!upload->ask) return enqueue_data(*upload, false);
  ++open_uploads_;
  if (const auto known = loop_.hashes_.find(upload->data)) return ask(std::move(upload), *known);
  const std::uint64_t id = next_upload_++;
  const FileRange range = upload->data;
  hashing_.emplace(id, std::move(upload));
  loop_.hash(*this, id, range);
}

void Connection::on_hash(std::uint64_t upload, std::optional<std::uint64_t> hash) {
  const auto found = hashing_.find(upload);
  if (found == hashing_.end()) return;
  auto hashed = std::move(found->second);
  hashing_.erase(found);
  if (!hash) return loop_.fail("cannot read weights: " + hashed->data.file->path);
  ask(std::move(hashed), *hash);
  send();
}

void Connection::ask(std::unique_ptr<Upload> upload, std::uint64_t hash) {
  SetTensorHashRequest body{};
  body.tensor = upload->tensor;
  body.offset = upload->offset;
  body.hash = hash;
  Message message = request(Command::kSetTensorHash, body);
  message.reply_size = sizeof(FlagReply);
  message.upload = std::move(upload);
  message.upload_part = true;
  enqueue(std::move(message));
}

void Connection::on_asked(std::unique_ptr<Upload> upload, std::uint8_t flag) {
  --open_uploads_;
  if (flag == 0) enqueue_data(*upload, true);
  admit();
  send();
}

void Connection::enqueue_data(Upload& upload, bool keep) {
  SetTensorHead body{};
  body.tensor = upload.tensor;
  body.keep = keep ? 1 : 0;
  body.offset = upload.offset;
  Message message = request(Command::kSetTensor, body);
  message.file = std::move(upload.data);
  message.upload_part = true;
  enqueue(std::move(message));
}

}  // namespace rpc_pipeline
