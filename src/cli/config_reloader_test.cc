#include "cli/config_reloader.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "io/context_pool.h"
#include "io/sleep.h"
#include "io/task_group.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using gateway::ReloadReport;
using supervisor::Reload;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* kModel = "[models.a]\nmodel_path = \"/a.gguf\"\n";
constexpr const char* kKey = "api_key = \"0123456789abcdef-secret\"\n";

// What the parts of Yoke were given.
struct Targets {
  std::vector<config::Config> models;
  std::vector<config::ServerConfig> servers;
  std::optional<Error> refusal;  // Of the models.
  Reload report;
  std::chrono::milliseconds takes{0};
  std::atomic<int> at_once = 0;
  int most_at_once = 0;
};

io::Task<Result<Reload>> take(Targets& targets, config::Config config) {
  const int at_once = ++targets.at_once;
  targets.most_at_once = std::max(targets.most_at_once, at_once);
  co_await io::sleep_for(targets.takes);
  --targets.at_once;
  if (targets.takes == 1h) co_return fail(kCancelled, "It was not that long.");
  if (targets.refusal) co_return fail(*targets.refusal);
  targets.models.push_back(std::move(config));
  co_return targets.report;
}

class ConfigReloaderTest : public testing::Test {
 protected:
  ConfigReloaderTest() {
    std::string pattern = (fs::temp_directory_path() / "yoke-reload-XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
    options_.config_file = (dir_ / "yoke.toml").string();
  }
  ~ConfigReloaderTest() override {
    end();
    fs::remove_all(dir_);
    log::set_level(log::Level::kInfo);
  }

  // At once, so that nobody reads half of it.
  void write(const std::string& text) const {
    std::ofstream(dir_ / "new") << text;
    fs::rename(dir_ / "new", options_.config_file);
  }

  // A Yoke that runs with the file as it is.
  void start() {
    auto running = read_config(options_);
    ASSERT_TRUE(running) << running.error().text();
    log::set_level(running->server.log_level);
    ReloadTargets targets{
        .models = [this](config::Config next) { return take(targets_, std::move(next)); },
        .server = [this](const config::ServerConfig& next) { targets_.servers.push_back(next); }};
    reloader_.emplace(context_.get_executor(), options_, std::move(*running), std::move(targets));
    tasks_.spawn(reloader_->run());
    thread_ = std::thread([this] { context_.run(); });
  }

  // As a signal does it: everything is cancelled, and comes to its end.
  void end() {
    if (!thread_.joinable()) return;
    boost::asio::post(context_, [this] { tasks_.cancel(); });
    thread_.join();
    context_.restart();
  }

  std::future<Result<ReloadReport>> ask() {
    return boost::asio::co_spawn(others_.at(0), reloader_->reload(), boost::asio::use_future);
  }

  Result<ReloadReport> reload() { return ask().get(); }

  // What is logged while the new file is taken over.
  std::string log_of(const std::string& text) {
    write(text);
    testing::internal::CaptureStderr();
    const auto report = reload();
    std::string log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(report.has_value(), log.find("stays as it was") == std::string::npos) << log;
    EXPECT_LE(std::ranges::count(log, '\n'), 1) << log;
    return log;
  }

  // Nothing was given to anybody, and the log says why in one line.
  Error refused(const std::string& text) {
    const std::size_t before = targets_.models.size();
    const std::string log = log_of(text);
    const auto report = reload();
    EXPECT_FALSE(report) << text;
    EXPECT_EQ(targets_.models.size(), before) << text;
    EXPECT_EQ(targets_.servers.size(), before) << text;
    if (report) return {kInternal, "no error"};
    std::string said = report.error().text();
    std::ranges::replace(said, '\n', ' ');
    EXPECT_THAT(log, HasSubstr("error"));
    EXPECT_THAT(log, HasSubstr("The configuration stays as it was: " + said + "\n"));
    return report.error();
  }

  fs::path dir_;
  ServeOptions options_;
  Targets targets_;
  boost::asio::io_context context_;
  io::TaskGroup tasks_{context_.get_executor()};
  std::optional<ConfigReloader> reloader_;
  std::thread thread_;
  io::ContextPool others_{1};
};

TEST_F(ConfigReloaderTest, EverybodyGetsTheNewFile) {
  write(kModel);
  start();
  write(std::string("[server]\nidle_timeout = \"7s\"\n") + kKey + kModel +
        "[models.b]\nmodel_path = \"/b.gguf\"\n");
  targets_.report = {.added = {"b"}, .removed = {"c"}, .restarted = {"d"}, .changed = {"e"}};
  testing::internal::CaptureStderr();
  const auto report = reload();
  const std::string log = testing::internal::GetCapturedStderr();
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_THAT(report->models.added, ElementsAre("b"));
  EXPECT_THAT(report->models.removed, ElementsAre("c"));
  EXPECT_THAT(report->models.restarted, ElementsAre("d"));
  EXPECT_THAT(report->models.changed, ElementsAre("e"));
  EXPECT_THAT(report->needs_restart, IsEmpty());
  ASSERT_EQ(targets_.models.size(), 1u);
  EXPECT_EQ(targets_.models[0].models.size(), 2u);
  ASSERT_EQ(targets_.servers.size(), 1u);
  EXPECT_EQ(targets_.servers[0].idle_timeout, 7s);
  EXPECT_EQ(targets_.servers[0].api_key, "0123456789abcdef-secret");
  EXPECT_THAT(log, HasSubstr("Reloaded the configuration: added b; removed c; restarted d; changed "
                             "e; took over [server] api_key, [server] idle_timeout.\n"));
  EXPECT_THAT(log, Not(HasSubstr("secret")));
}

TEST_F(ConfigReloaderTest, AFileThatOnlyWasTouchedIsNoNews) {
  write(kModel);
  start();
  EXPECT_EQ(log_of(kModel), "");
  const std::string debug = std::string("[server]\nlog_level = \"debug\"\n") + kModel;
  EXPECT_THAT(log_of(debug), HasSubstr("took over [server] log_level."));
  EXPECT_THAT(log_of(debug), HasSubstr("Reloaded the configuration: nothing changed."));
}

TEST_F(ConfigReloaderTest, SomeThingsNeedARestart) {
  write(kModel);
  start();
  const std::string text = std::string(
                               "[server]\nlisten = \"127.0.0.1:9\"\nthreads = 2\n"
                               "idle_timeout = \"1s\"\n[contexts]\nmax_size = \"0\"\n") +
                           kModel;
  EXPECT_THAT(log_of(text), HasSubstr("took over [server] idle_timeout; needs a restart of yoke "
                                      "serve: [server] listen, [server] threads, [contexts] "
                                      "max_size.\n"));
  ASSERT_EQ(targets_.models.size(), 1u);
  EXPECT_EQ(targets_.models[0].server.port, 8642);
  EXPECT_EQ(targets_.models[0].server.threads, 0u);
  EXPECT_EQ(targets_.models[0].contexts, config::ContextsConfig{});
  EXPECT_EQ(targets_.servers[0].idle_timeout, 1s);
  // For as long as it is not done.
  EXPECT_THAT(reload().value().needs_restart,
              ElementsAre("[server] listen", "[server] threads", "[contexts] max_size"));
  write(kModel);
  EXPECT_THAT(reload().value().needs_restart, IsEmpty());
}

TEST_F(ConfigReloaderTest, ABadFileChangesNothing) {
  write(kModel);
  start();
  EXPECT_EQ(refused("[server").code, config::kConfigInvalid);
  const Error mistakes = refused(std::string("[server]\nthreads = -1\nidle = 1\n") + kModel);
  EXPECT_THAT(mistakes.message, HasSubstr("yoke.toml:2: 'threads' in [server]: -1 is not between"));
  EXPECT_THAT(mistakes.message, HasSubstr("yoke.toml:3: unknown key 'idle' in [server]."));
  EXPECT_EQ(refused("").code, config::kConfigInvalid);
  fs::remove(options_.config_file);
  EXPECT_EQ(reload().error().code, config::kConfigNotFound);
  const std::string unknown = std::string("[server]\nmodel_dir = \"") + dir_.string() +
                              "\"\n[models.b]\nmodel = \"nothing\"\n";
  const Error model = refused(unknown);
  EXPECT_EQ(model.code, config::kConfigInvalid);
  EXPECT_THAT(model.message, HasSubstr("yoke.toml:3: "));
  // And a good one is taken after all that.
  write(kModel);
  EXPECT_TRUE(reload());
}

TEST_F(ConfigReloaderTest, WhatTheModelsRefuseChangesNothing) {
  write(kModel);
  start();
  targets_.refusal = Error{kIo, "no engine", "Install one."};
  const std::string next = std::string("[server]\nidle_timeout = \"1s\"\n") + kModel;
  EXPECT_EQ(refused(next).message, "no engine");
  targets_.refusal.reset();
  EXPECT_THAT(log_of(next), HasSubstr("took over [server] idle_timeout"));
}

TEST_F(ConfigReloaderTest, NothingIsExposedWithoutAKey) {
  write(kModel);
  start();
  EXPECT_EQ(refused(std::string("[server]\nlisten = \"0.0.0.0:1\"\n") + kModel).code,
            config::kApiKeyRequired);
}

TEST_F(ConfigReloaderTest, AnExposedServerKeepsAKey) {
  write(std::string("[server]\nlisten = \"0.0.0.0:1\"\n") + kKey + kModel);
  start();
  // The new address would do without, but it is not the one that is listened on.
  EXPECT_EQ(refused(kModel).code, config::kApiKeyRequired);
  write(std::string("[server]\napi_key = \"another-0123456789\"\n") + kModel);
  EXPECT_THAT(reload().value().needs_restart, ElementsAre("[server] listen"));
  ASSERT_EQ(targets_.servers.size(), 1u);
  EXPECT_EQ(targets_.servers[0].api_key, "another-0123456789");
  EXPECT_EQ(targets_.servers[0].host, "0.0.0.0");
}

TEST_F(ConfigReloaderTest, TheCommandLineStaysInForce) {
  write(std::string("[server]\nlisten = \"127.0.0.1:1\"\n") + kModel);
  options_.listen = "127.0.0.1:2";
  options_.log_level = "warning";
  start();
  write(std::string("[server]\nlisten = \"127.0.0.1:3\"\nlog_level = \"debug\"\n") + kModel);
  const auto report = reload();
  ASSERT_TRUE(report);
  EXPECT_THAT(report->needs_restart, IsEmpty());
  EXPECT_EQ(targets_.models[0].server.port, 2);
  EXPECT_FALSE(log::enabled(log::Level::kInfo));
  EXPECT_TRUE(log::enabled(log::Level::kWarning));
}

TEST_F(ConfigReloaderTest, TheLogLevelIsTakenOver) {
  write(kModel);
  start();
  write(std::string("[server]\nlog_level = \"error\"\n") + kModel);
  EXPECT_TRUE(reload());
  EXPECT_FALSE(log::enabled(log::Level::kWarning));
  write(kModel);
  EXPECT_TRUE(reload());
  EXPECT_TRUE(log::enabled(log::Level::kInfo));
}

TEST_F(ConfigReloaderTest, WarnsOnlyOfWhatIsNew) {
  write(kModel);
  start();
  write(std::string("[server]\n") + kKey + kModel);
  fs::permissions(options_.config_file, fs::perms::owner_all | fs::perms::others_read);
  testing::internal::CaptureStderr();
  EXPECT_TRUE(reload());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("chmod 600"));
  testing::internal::CaptureStderr();
  EXPECT_TRUE(reload());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

// However many ask: each gets the outcome of one that began after it asked.
TEST_F(ConfigReloaderTest, OneAtATime) {
  write(kModel);
  start();
  targets_.takes = 20ms;
  std::vector<std::future<Result<ReloadReport>>> asked;
  for (int i = 0; i < 200; ++i) {
    write(std::string("[server]\nmax_request_size = \"") + std::to_string(2000 + i) + "\"\n" +
          kModel);
    asked.push_back(ask());
  }
  for (auto& report : asked) EXPECT_TRUE(report.get());
  end();
  EXPECT_EQ(targets_.most_at_once, 1);
  EXPECT_EQ(targets_.models.size(), targets_.servers.size());
  EXPECT_LT(targets_.models.size(), 20u);
  EXPECT_EQ(targets_.servers.back().max_request_bytes, 2199u);
}

TEST_F(ConfigReloaderTest, WhoWaitsAtTheEndIsTold) {
  write(kModel);
  start();
  targets_.takes = 1h;
  auto first = ask();
  auto second = ask();
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (targets_.at_once == 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  end();
  for (auto* asked : {&first, &second}) {
    const auto report = asked->get();
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, supervisor::kShuttingDown);
  }
  EXPECT_THAT(targets_.servers, IsEmpty());
}

TEST(ReadConfig, TakesTheOptionsBeforeTheFile) {
  const fs::path file = fs::temp_directory_path() / ("yoke-read-" + std::to_string(::getpid()));
  std::ofstream(file) << kModel;
  ServeOptions options{.config_file = file.string(), .log_level = "error", .listen = "[::1]:5"};
  const auto config = read_config(options);
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->server.host, "::1");
  EXPECT_EQ(config->server.port, 5);
  EXPECT_EQ(config->server.log_level, log::Level::kError);
  options.listen = "0.0.0.0:5";
  EXPECT_EQ(read_config(options).error().code, config::kApiKeyRequired);
  options.listen = "everywhere";
  EXPECT_EQ(read_config(options).error().code, kInvalidArgument);
  options = {.config_file = file.string(), .log_level = "loud", .listen = {}};
  EXPECT_EQ(read_config(options).error().code, kInvalidArgument);
  fs::remove(file);
}

}  // namespace
}  // namespace yoke::cli
