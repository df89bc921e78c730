#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "service/assets.hpp"
#include "settings/metrics.hpp"

namespace filo::service {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Of our own making: not Chart.js, and not the API's description.
std::vector<Asset> page_files() {
  std::vector<Asset> files;
  for (const Asset& asset : assets())
    if (asset.path != "/chart.js" && asset.path != "/openapi.json") files.push_back(asset);
  return files;
}

TEST(Assets, HaveTheTypesThatABrowserAsksFor) {
  EXPECT_EQ(find_asset("/")->media_type, "text/html; charset=utf-8");
  EXPECT_EQ(find_asset("/style.css")->media_type, "text/css; charset=utf-8");
  EXPECT_EQ(find_asset("/js/pages/stage.js")->media_type, "text/javascript; charset=utf-8");
  EXPECT_EQ(find_asset("/icon.svg")->media_type, "image/svg+xml");
  EXPECT_EQ(find_asset("/openapi.json")->media_type, "application/json");
  EXPECT_THAT(std::string(find_asset("/chart.js")->bytes.substr(0, 300)), HasSubstr("Chart.js"));
  EXPECT_EQ(find_asset("/js/absent.js"), nullptr);
}

TEST(Assets, ThePageTakesNothingFromElsewhere) {
  for (const Asset& file : page_files()) {
    const std::string text(file.bytes);
    EXPECT_GT(text.size(), 200u) << file.path;
    if (file.path != "/icon.svg") {  // which names its own XML dialect
      EXPECT_THAT(text, Not(HasSubstr("http://"))) << file.path;
    }
    EXPECT_THAT(text, Not(HasSubstr("https://"))) << file.path;
    EXPECT_THAT(text, Not(HasSubstr("innerHTML = "))) << file.path << ": text from the server must not become markup";
  }
}

// Guards against a module that is missing in CMakeLists.txt: the page would stay empty.
TEST(Assets, WhatAModuleImportsIsThere) {
  const std::regex import_line(R"(^import .* from '(.*)';$)", std::regex::multiline);
  int imports = 0;
  for (const Asset& file : page_files()) {
    const std::string text(file.bytes);
    for (std::sregex_iterator each(text.begin(), text.end(), import_line), end; each != end; ++each, ++imports) {
      const auto target = (std::filesystem::path(file.path).parent_path() / (*each)[1].str()).lexically_normal();
      EXPECT_NE(find_asset(target.string()), nullptr) << file.path << " imports " << (*each)[1];
    }
  }
  EXPECT_GT(imports, 40);
}

// Guards the one list of metrics: the page, which has it in its own language, shows them in the same words and order.
TEST(Assets, ThePageNamesTheMetricsAsTheProgramDoes) {
  std::string list = "export const METRIC_TITLES = {\n";
  for (const auto& [name, title] : known_metrics()) {
    const std::string quote = name.find('.') == std::string::npos ? "" : "'";
    list += "  " + quote + name + quote + ": '" + title + "',\n";
  }
  EXPECT_THAT(std::string(find_asset("/js/format.js")->bytes), HasSubstr(list + "};\n"));
}

TEST(Assets, EveryFileOfThePageIsBuiltIn) {
  const std::filesystem::path web = std::filesystem::path(FILO_SOURCE_DIR) / "service/web";
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(web)) {
    const std::string name = entry.path().lexically_relative(web).generic_string();
    if (!entry.is_regular_file() || name.starts_with('.') || name == "index.html") continue;
    EXPECT_NE(find_asset("/" + name), nullptr) << name;
    ++files;
  }
  EXPECT_EQ(files + 1, page_files().size());
}

TEST(Assets, ModulesStayShort) {
  for (const Asset& file : page_files())
    EXPECT_LE(std::count(file.bytes.begin(), file.bytes.end(), '\n'), 200) << file.path;
}

}  // namespace
}  // namespace filo::service
