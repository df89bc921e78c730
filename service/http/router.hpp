// Which handler answers which method and path.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "service/http/message.hpp"

namespace filo::http {

using Handler = std::function<Response(const Request&)>;

struct Route {
  std::string method;   // "GET" (answers HEAD too) or "POST"
  std::string pattern;  // "/things/{name}", and "{path*}" for all further segments, joined by "/"
  Handler handler;
  bool needs_token = true;
  // A token of the route's own, by the path's parameters, that it takes besides the server's. Null: none.
  std::function<std::string(const std::map<std::string, std::string>& parameters)> own_token{};
  bool quick = false;  // runs on the network's thread: must not read files
  std::size_t most_body_bytes = 16 << 10;
};

class Router {
 public:
  void add(Route route);

  struct Match {
    const Route* route = nullptr;  // null: none
    std::map<std::string, std::string> parameters{};
    std::string allow{};  // methods of the routes with this path, when it is the method that does not fit
  };
  Match match(const std::string& method, const std::vector<std::string>& segments) const;

  const std::vector<Route>& routes() const { return routes_; }

 private:
  std::vector<Route> routes_;
  std::vector<std::vector<std::string>> patterns_;  // segments of each route
};

}  // namespace filo::http
