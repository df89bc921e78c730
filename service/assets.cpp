#include <array>

#include "service/api.hpp"

namespace filo::embedded {
extern const std::string_view page, script, style, chart, icon, openapi;  // cmake/Embed.cmake
}

namespace filo::service {

const Asset* find_asset(std::string_view path) {
  static const std::array<Asset, 6> assets = {{{"/", "text/html; charset=utf-8", embedded::page},
                                               {"/app.js", "text/javascript; charset=utf-8", embedded::script},
                                               {"/style.css", "text/css; charset=utf-8", embedded::style},
                                               {"/chart.js", "text/javascript; charset=utf-8", embedded::chart},
                                               {"/icon.svg", "image/svg+xml", embedded::icon},
                                               {"/openapi.json", "application/json", embedded::openapi}}};
  for (const auto& asset : assets)
    if (asset.path == path) return &asset;
  return nullptr;
}

}  // namespace filo::service
