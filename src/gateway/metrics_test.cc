#include "gateway/metrics.h"

#include <memory>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::gateway {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

TEST(Metrics, CountsByRouteAndStatusOverAllThreads) {
  const auto metrics = std::make_unique<Metrics>();
  std::vector<std::thread> threads;
  for (int i = 0; i < 20; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 100; ++n) metrics->count_request(RouteKind::kChat, 200);
      metrics->count_request(RouteKind::kOther, 404);
      metrics->count_chunk(10);
    });
  }
  for (auto& thread : threads) thread.join();
  const std::string text = metrics->text({});
  EXPECT_THAT(text,
              HasSubstr("yoke_requests_total{route=\"chat_completions\",code=\"200\"} 2000\n"));
  EXPECT_THAT(text, HasSubstr("yoke_requests_total{route=\"other\",code=\"404\"} 20\n"));
  EXPECT_THAT(text, HasSubstr("yoke_relayed_bytes_total 200\n"));
  EXPECT_THAT(text, Not(HasSubstr("code=\"500\"")));
}

TEST(Metrics, TheHistogramIsCumulative) {
  const auto metrics = std::make_unique<Metrics>();
  metrics->count_first_byte(20ms);
  metrics->count_first_byte(200ms);
  metrics->count_first_byte(1h);
  const std::string text = metrics->text({});
  EXPECT_THAT(text, HasSubstr("yoke_first_byte_seconds_bucket{le=\"0.01\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("yoke_first_byte_seconds_bucket{le=\"0.025\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("yoke_first_byte_seconds_bucket{le=\"300\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("yoke_first_byte_seconds_bucket{le=\"+Inf\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("yoke_first_byte_seconds_count 3\n"));
}

TEST(Metrics, CountsWhatBecameOfModels) {
  const auto metrics = std::make_unique<Metrics>();
  supervisor::RouteTable table;
  supervisor::Route route;
  route.model = "chat";
  route.state = supervisor::InstanceState::kReady;
  route.restarts = 1;
  route.loads = 5;
  route.evictions = 3;
  route.planned_bytes = 2000;
  route.held_bytes = 1500;
  route.load->active_requests = 2;
  table.routes.push_back(route);
  const std::string text = metrics->text(table);
  EXPECT_THAT(text, HasSubstr("yoke_instance_ready{model=\"chat\",state=\"ready\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("yoke_instance_restarts_total{model=\"chat\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("yoke_model_loads_total{model=\"chat\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("yoke_model_evictions_total{model=\"chat\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("memory_bytes{model=\"chat\",kind=\"planned\"} 2000\n"));
  EXPECT_THAT(text, HasSubstr("memory_bytes{model=\"chat\",kind=\"held\"} 1500\n"));
  EXPECT_THAT(text, HasSubstr("yoke_requests_active{model=\"chat\"} 2\n"));
}

TEST(Metrics, EscapesModelNames) {
  const auto metrics = std::make_unique<Metrics>();
  supervisor::RouteTable table;
  supervisor::Route route;
  route.model = "a\"b\\c";
  table.routes.push_back(route);
  EXPECT_THAT(metrics->text(table), HasSubstr("{model=\"a\\\"b\\\\c\"} 0\n"));
}

}  // namespace
}  // namespace yoke::gateway
