#include "common/metrics.h"

#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <signal.h>

#include <optional>
#include <thread>

#include "common/http.h"
#include "common/process.h"

namespace cosub {
namespace {

/// A thread that takes no signal: those are for the threads of the program.
std::thread quiet_thread(boost::asio::io_context& context) {
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread([&context] {
    name_thread("metrics");
    context.run();
  });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace

// Served by our own http::Server: prometheus-cpp's exposer (civetweb) needs two seconds to end, at each
// worker's exit.
struct Metrics::Impl {
  Impl(const std::string& address, std::uint16_t port, Labels labels)
      : constant_labels(std::move(labels)),
        server(std::in_place, boost::asio::make_strand(context.get_executor()), address, port,
               [this](const http::Request& request) { return answer(request); }),
        thread(quiet_thread(context)) {}
  ~Impl() {
    context.stop();
    thread.join();
    server.reset();
  }

  http::Response answer(const http::Request& request) const;
  std::string text() const { return prometheus::TextSerializer().Serialize(registry.Collect()); }

  prometheus::Registry registry;
  Labels constant_labels;
  boost::asio::io_context context{1};
  std::optional<http::Server> server;
  std::thread thread;
};

http::Response Metrics::Impl::answer(const http::Request& request) const {
  if (request.target != "/metrics") return {404, "only /metrics is here\n", "text/plain"};
  if (request.method != "GET") return {405, "only GET is allowed\n", "text/plain"};
  return {200, text(), "text/plain; version=0.0.4; charset=utf-8"};
}

Metrics::Metrics(const std::string& address, std::uint16_t port, Labels constant_labels)
    : impl_(std::make_unique<Impl>(address, port, std::move(constant_labels))) {}

Metrics::~Metrics() = default;

std::uint16_t Metrics::port() const {
  return impl_->server->port();
}

prometheus::Counter& Metrics::counter(const std::string& name, const std::string& help,
                                      const Labels& labels) {
  return prometheus::BuildCounter()
      .Name(name)
      .Help(help)
      .Labels(impl_->constant_labels)
      .Register(impl_->registry)
      .Add(labels);
}

prometheus::Gauge& Metrics::gauge(const std::string& name, const std::string& help, const Labels& labels) {
  return prometheus::BuildGauge()
      .Name(name)
      .Help(help)
      .Labels(impl_->constant_labels)
      .Register(impl_->registry)
      .Add(labels);
}

prometheus::Histogram& Metrics::histogram(const std::string& name, const std::string& help,
                                          std::vector<double> bounds, const Labels& labels) {
  return prometheus::BuildHistogram()
      .Name(name)
      .Help(help)
      .Labels(impl_->constant_labels)
      .Register(impl_->registry)
      .Add(labels, std::move(bounds));
}

std::string Metrics::text() const {
  return impl_->text();
}

}  // namespace cosub
