// RecentPrompts: the long prompts that an engine was asked lately, the newest of each conversation.
// llama-server moves a conversation to its cache in memory when another one begins, and tells
// nobody; only who asks the same again gets at it. One thread at a time.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace yoke::contexts {

struct RecentPrompt {
  RecentPrompt(std::string path, std::string text)
      : target(std::move(path)), body(std::move(text)) {}
  std::string target;  // The request's path.
  std::string body;
};

class RecentPrompts {
 public:
  // Takes the place of a prompt that this one goes on with, and says whether there was one. Short
  // and huge ones are passed over.
  bool add(std::string_view target, const std::string& body);

  // Those that were not taken before, the newest first.
  std::vector<std::shared_ptr<const RecentPrompt>> take();

 private:
  struct Place {
    std::shared_ptr<const RecentPrompt> prompt;
    bool taken = false;
  };

  std::deque<Place> places_;  // The newest last.
  std::size_t bytes_ = 0;     // Of all bodies.
};

}  // namespace yoke::contexts
