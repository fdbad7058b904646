#include "common/metrics.h"

#include <fmt/format.h>
#include <prometheus/exposer.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <exception>

#include "common/error.h"

namespace cosub {
namespace {

std::unique_ptr<prometheus::Exposer> bind(const std::string& address, std::uint16_t port) {
  // civetweb takes IPv6 addresses in brackets, as a URL does.
  const bool is_ipv6 = address.find(':') != std::string::npos && !address.starts_with('[');
  const std::string where =
      is_ipv6 ? fmt::format("[{}]:{}", address, port) : fmt::format("{}:{}", address, port);
  try {
    return std::make_unique<prometheus::Exposer>(where, /*num_threads=*/1);
  } catch (const std::exception&) {  // civetweb's text names neither address nor reason
    throw IoError(
        fmt::format("cannot serve metrics on {}: the port is taken or the address is not one of this host; "
                    "choose another port (0 takes any free one)",
                    where));
  }
}

}  // namespace

struct Metrics::Impl {
  Impl(const std::string& address, std::uint16_t port, Labels labels)
      : registry(std::make_shared<prometheus::Registry>()),
        exposer(bind(address, port)),
        constant_labels(std::move(labels)) {
    exposer->RegisterCollectable(registry);
  }

  std::shared_ptr<prometheus::Registry> registry;
  std::unique_ptr<prometheus::Exposer> exposer;
  Labels constant_labels;
};

Metrics::Metrics(const std::string& address, std::uint16_t port, Labels constant_labels)
    : impl_(std::make_unique<Impl>(address, port, std::move(constant_labels))) {}

Metrics::~Metrics() = default;

std::uint16_t Metrics::port() const {
  return static_cast<std::uint16_t>(impl_->exposer->GetListeningPorts().at(0));
}

prometheus::Counter& Metrics::counter(const std::string& name, const std::string& help,
                                      const Labels& labels) {
  return prometheus::BuildCounter()
      .Name(name)
      .Help(help)
      .Labels(impl_->constant_labels)
      .Register(*impl_->registry)
      .Add(labels);
}

prometheus::Gauge& Metrics::gauge(const std::string& name, const std::string& help, const Labels& labels) {
  return prometheus::BuildGauge()
      .Name(name)
      .Help(help)
      .Labels(impl_->constant_labels)
      .Register(*impl_->registry)
      .Add(labels);
}

prometheus::Histogram& Metrics::histogram(const std::string& name, const std::string& help,
                                          std::vector<double> bounds, const Labels& labels) {
  return prometheus::BuildHistogram()
      .Name(name)
      .Help(help)
      .Labels(impl_->constant_labels)
      .Register(*impl_->registry)
      .Add(labels, std::move(bounds));
}

std::string Metrics::text() const {
  return prometheus::TextSerializer().Serialize(impl_->registry->Collect());
}

}  // namespace cosub
