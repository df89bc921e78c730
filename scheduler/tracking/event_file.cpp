#include "scheduler/tracking/event_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/error.hpp"
#include "base/files.hpp"

namespace filo {
namespace {

constexpr std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78U : 0);
    table[byte] = crc;
  }
  return table;
}

template <typename Number>
void put_fixed(std::string& bytes, Number number) {
  for (std::size_t i = 0; i < sizeof number; ++i) bytes += static_cast<char>((number >> (8 * i)) & 0xff);
}

void put_varint(std::string& bytes, std::uint64_t number) {
  for (; number >= 0x80; number >>= 7) bytes += static_cast<char>((number & 0x7f) | 0x80);
  bytes += static_cast<char>(number);
}

enum WireType { varint = 0, fixed64 = 1, delimited = 2, fixed32 = 5 };

void put_key(std::string& bytes, unsigned field, WireType type) { put_varint(bytes, field << 3 | type); }

void put_bytes(std::string& bytes, unsigned field, std::string_view value) {
  put_key(bytes, field, delimited);
  put_varint(bytes, value.size());
  bytes += value;
}

std::uint32_t masked_crc(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

std::string framed(const std::string& data) {
  std::string record;
  put_fixed(record, static_cast<std::uint64_t>(data.size()));
  put_fixed(record, masked_crc(record));
  record += data;
  put_fixed(record, masked_crc(data));
  return record;
}

// message Event { double wall_time = 1; int64 step = 2; oneof what { string file_version = 3; Summary summary = 5;
// SessionLog session_log = 7; } }
std::string event(double time, std::int64_t step) {
  std::string bytes;
  put_key(bytes, 1, fixed64);
  put_fixed(bytes, std::bit_cast<std::uint64_t>(time));
  if (step != 0) {
    put_key(bytes, 2, varint);
    put_varint(bytes, static_cast<std::uint64_t>(step));
  }
  return bytes;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static constexpr auto table = crc_table();
  std::uint32_t crc = 0xffffffffU;
  for (const char byte : bytes) crc = table[(crc ^ static_cast<unsigned char>(byte)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

std::string event_record::version(double time) {
  std::string bytes = event(time, 0);
  put_bytes(bytes, 3, "brain.Event:2");
  return framed(bytes);
}

// message Summary { repeated Value value = 1; }  message Value { string tag = 1; float simple_value = 2; }
std::string event_record::scalar(const std::string& tag, double value, std::int64_t step, double time) {
  std::string one;
  put_bytes(one, 1, tag);
  put_key(one, 2, fixed32);
  put_fixed(one, std::bit_cast<std::uint32_t>(static_cast<float>(value)));
  std::string summary;
  put_bytes(summary, 1, one);
  std::string bytes = event(time, step);
  put_bytes(bytes, 5, summary);
  return framed(bytes);
}

// message SessionLog { enum SessionStatus { START = 1; } SessionStatus status = 1; }
std::string event_record::restart(std::int64_t step, double time) {
  std::string log;
  put_key(log, 1, varint);
  put_varint(log, 1);
  std::string bytes = event(time, step);
  put_bytes(bytes, 7, log);
  return framed(bytes);
}

void write_records(const std::filesystem::path& path, std::uint64_t at, std::string_view records) {
  const FileDescriptor file = open_file(path, O_WRONLY | O_CREAT);
  if (ftruncate(file.get(), static_cast<off_t>(at)) != 0 || lseek(file.get(), 0, SEEK_END) < 0)
    throw Error("tracking: " + path.string(), std::string("cannot be written: ") + std::strerror(errno));
  write_all(file.get(), records, path);
}

}  // namespace filo
