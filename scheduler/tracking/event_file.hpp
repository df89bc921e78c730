// TensorBoard's event files, as tensorboard/summary/writer/record_writer.py and tensorflow/core/util/event.proto have
// them. A file is a row of records:
//
//   length   8 bytes, little-endian, of the data
//   crc      4 bytes, little-endian, masked CRC-32C of those 8 bytes
//   data     one Event in protobuf's wire format
//   crc      4 bytes, masked CRC-32C of the data
//
// The CRC is Castagnoli's (RFC 3720, B.4), masked as ((crc >> 15) | (crc << 17)) + 0xa282ead8. The first Event says
// "brain.Event:2".
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace filo {

std::uint32_t crc32c(std::string_view bytes);

// Whole records, to be put one after another. Times are seconds since 1970.
namespace event_record {
std::string version(double time);
// A scalar: one point of one curve. TensorBoard keeps 32 bits of it.
std::string scalar(const std::string& tag, double value, std::int64_t step, double time);
// Readers forget all that was told of `step` and later ones: training went on from before.
std::string restart(std::int64_t step, double time);
}  // namespace event_record

// Puts `records` at byte `at` of the file, which is made where it is not there, and cuts off what stood behind: what a
// process wrote and did not live to note. Throws Error.
void write_records(const std::filesystem::path& file, std::uint64_t at, std::string_view records);

}  // namespace filo
