#include "service/http/message.hpp"

#include <algorithm>
#include <charconv>

namespace filo::http {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

std::optional<std::string> decode(std::string_view text, bool plus_is_blank) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    } else if (c == '+' && plus_is_blank) {
      c = ' ';
    }
    if (is_control(c)) return std::nullopt;
    decoded += c;
  }
  return decoded;
}

bool is_safe_segment(const std::string& segment) {
  return !segment.empty() && segment != "." && segment != ".." && segment.find_first_of("/\\") == std::string::npos;
}

template <typename Visit>
bool split(std::string_view text, char separator, const Visit& visit) {
  while (!text.empty()) {
    const auto end = text.find(separator);
    if (!visit(text.substr(0, end))) return false;
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return true;
}

bool parse_number(std::string_view text, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace

std::optional<Target> parse_target(std::string_view target) {
  if (!target.starts_with('/')) return std::nullopt;
  const auto question = target.find('?');
  const auto path = target.substr(1, question == std::string_view::npos ? question : question - 1);
  Target parsed;
  const bool sound = split(path, '/', [&](std::string_view text) {
    auto segment = decode(text, false);
    if (!segment || !is_safe_segment(*segment)) return false;
    parsed.segments.push_back(std::move(*segment));
    return true;
  });
  if (!sound || (!path.empty() && path.back() == '/')) return std::nullopt;
  if (question == std::string_view::npos) return parsed;
  const bool query_sound = split(target.substr(question + 1), '&', [&](std::string_view pair) {
    const auto equals = pair.find('=');
    const auto name = decode(pair.substr(0, equals), true);
    const auto value = equals == std::string_view::npos ? std::string() : decode(pair.substr(equals + 1), true);
    if (!name || !value) return false;
    parsed.query[*name] = *value;
    return true;
  });
  if (!query_sound) return std::nullopt;
  return parsed;
}

std::string Request::header(const std::string& lower_case_name) const {
  const auto found = headers.find(lower_case_name);
  return found == headers.end() ? "" : found->second;
}

std::string Request::query(const std::string& name) const {
  const auto found = target.query.find(name);
  return found == target.query.end() ? "" : found->second;
}

std::int64_t Request::number(const std::string& name, std::int64_t otherwise, std::int64_t least,
                             std::int64_t most) const {
  const auto found = target.query.find(name);
  if (found == target.query.end()) return otherwise;
  std::int64_t value = 0;
  const std::string& text = found->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
    throw Problem(400, name + ": expected a number from " + std::to_string(least) + " to " + std::to_string(most));
  return value;
}

Response json_response(const Json& value, int status) {
  return {.status = status,
          .content_type = "application/json",
          .body = value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"};
}

Response problem_response(int status, const std::string& detail) {
  const Json json = {{"title", reason_phrase(status)}, {"status", status}, {"detail", detail}};
  return {.status = status,
          .content_type = "application/problem+json",
          .body = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"};
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    default:
      return "Error";
  }
}

std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_range(const std::string& header, std::uint64_t size) {
  std::string_view text = header;
  if (!text.starts_with("bytes=") || text.find(',') != std::string_view::npos) return std::nullopt;
  text.remove_prefix(6);
  const auto dash = text.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto first_text = text.substr(0, dash), last_text = text.substr(dash + 1);
  std::uint64_t first = 0, last = size - 1;
  const auto refuse = [&] { return Problem(416, "expected a range within " + std::to_string(size) + " bytes"); };
  if (first_text.empty()) {
    std::uint64_t bytes = 0;
    if (!parse_number(last_text, bytes)) return std::nullopt;
    if (bytes == 0 || size == 0) throw refuse();
    first = size - std::min(bytes, size);
  } else {
    if (!parse_number(first_text, first) || (!last_text.empty() && !parse_number(last_text, last))) return std::nullopt;
    if (last < first && first < size) return std::nullopt;
    if (first >= size) throw refuse();
    last = std::min(last, size - 1);
  }
  return std::pair(first, last - first + 1);
}

void set_partial(Response& response, std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  response.status = 206;
  response.headers.emplace_back("Content-Range", "bytes " + std::to_string(offset) + "-" +
                                                     std::to_string(offset + length - 1) + "/" + std::to_string(size));
}

}  // namespace filo::http
