#include "service/http/router.hpp"

#include <sstream>

namespace filo::http {
namespace {

bool is_parameter(const std::string& segment) { return segment.starts_with('{'); }
bool takes_the_rest(const std::string& segment) { return segment.ends_with("*}"); }

bool fits(const std::vector<std::string>& pattern, const std::vector<std::string>& segments,
          std::map<std::string, std::string>& parameters) {
  parameters.clear();
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (i >= segments.size()) return false;
    if (takes_the_rest(pattern[i])) {
      std::string& rest = parameters[pattern[i].substr(1, pattern[i].size() - 3)];
      for (; i < segments.size(); ++i) rest += (rest.empty() ? "" : "/") + segments[i];
      return true;
    }
    if (is_parameter(pattern[i]))
      parameters[pattern[i].substr(1, pattern[i].size() - 2)] = segments[i];
    else if (pattern[i] != segments[i])
      return false;
  }
  return pattern.size() == segments.size();
}

}  // namespace

void Router::add(Route route) {
  std::vector<std::string> segments;
  std::istringstream pattern(route.pattern.substr(1));
  for (std::string segment; std::getline(pattern, segment, '/');) segments.push_back(segment);
  patterns_.push_back(std::move(segments));
  routes_.push_back(std::move(route));
}

Router::Match Router::match(const std::string& method, const std::vector<std::string>& segments) const {
  Match match;
  const std::string wanted = method == "HEAD" ? "GET" : method;
  for (std::size_t i = 0; i < routes_.size(); ++i) {
    if (!fits(patterns_[i], segments, match.parameters)) continue;
    if (routes_[i].method == wanted) {
      match.route = &routes_[i];
      match.allow.clear();
      return match;
    }
    match.allow += (match.allow.empty() ? "" : ", ") + routes_[i].method + (routes_[i].method == "GET" ? ", HEAD" : "");
  }
  match.parameters.clear();
  return match;
}

}  // namespace filo::http
