// What is in the program of web/, Chart.js and openapi.json: CMakeLists.txt lists the files.
#pragma once

#include <span>
#include <string_view>

namespace filo::service {

struct Asset {
  std::string_view path;        // of its address: "/", "/app.js", "/js/dom.js"
  std::string_view media_type;  // "text/javascript; charset=utf-8"
  std::string_view bytes;
};

std::span<const Asset> assets();

// Null when nothing has this path.
const Asset* find_asset(std::string_view path);

}  // namespace filo::service
