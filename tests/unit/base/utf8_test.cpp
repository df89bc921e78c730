#include "base/utf8.hpp"

#include <gtest/gtest.h>

#include "base/json.hpp"

namespace filo {
namespace {

bool json_takes(const std::string& text) {
  try {
    (void)Json(text).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

// Guards that what is let through goes into JSON, and that what JSON takes is let through: Latin-1, overlong forms,
// surrogates, characters cut in two are not.
TEST(Utf8, IsWhatJsonTakes) {
  for (const char* text :
       {"", "plain", "caf\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(is_utf8(text)) << printable(text);
    EXPECT_TRUE(json_takes(text)) << printable(text);
  }
  for (const char* text : {"caf\xe9", "\xc3", "\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                           "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xf0\x9f\x98"}) {
    EXPECT_FALSE(is_utf8(text)) << printable(text);
    EXPECT_FALSE(json_takes(text)) << printable(text);
  }
}

// Guards messages of one line about a name that holds anything.
TEST(Printable, EscapesWhatATerminalCannotShow) {
  EXPECT_EQ(printable("caf\xc3\xa9 a.png"), "caf\xc3\xa9 a.png");
  EXPECT_EQ(printable("caf\xe9/a\nb"), "caf\\xE9/a\\x0Ab");
}

}  // namespace
}  // namespace filo
