// A process's Prometheus page: prometheus-cpp's registry, served on a free (or given) port from a thread of
// its own. Construct once per process; families and metrics returned live as long as the object; updating
// them is thread-safe.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace cosub {

class Metrics {
 public:
  using Labels = std::map<std::string, std::string>;

  /// Serves http://ADDRESS:port()/metrics; `constant_labels` go onto every series. IoError when it cannot
  /// bind.
  Metrics(const std::string& address, std::uint16_t port, Labels constant_labels);
  ~Metrics();

  std::uint16_t port() const;
  prometheus::Counter& counter(const std::string& name, const std::string& help, const Labels& labels = {});
  prometheus::Gauge& gauge(const std::string& name, const std::string& help, const Labels& labels = {});
  prometheus::Histogram& histogram(const std::string& name, const std::string& help,
                                   std::vector<double> bounds, const Labels& labels = {});
  std::string text() const;  // the page itself

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cosub
