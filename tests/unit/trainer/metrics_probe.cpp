// metrics_probe SCORES LABELS HEIGHT WIDTH COUNT [LIMIT]: raw float32 scores, u8 labels; prints the metrics as JSON.
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/json.hpp"
#include "trainer/metrics.hpp"

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  try {
    const std::string score_bytes = filo::read_file(argv[1]), label_bytes = filo::read_file(argv[2]);
    std::vector<float> scores(score_bytes.size() / sizeof(float));
    std::memcpy(scores.data(), score_bytes.data(), scores.size() * sizeof(float));
    const std::vector<std::uint8_t> labels(label_bytes.begin(), label_bytes.end());
    const filo::Metrics metrics = filo::binary_metrics(scores, labels);
    const double limit = argc > 6 ? std::atof(argv[6]) : 0.3;
    std::cout << filo::Json{{"auroc", metrics.auroc},
                            {"ap", metrics.ap},
                            {"f1_max", metrics.f1_max},
                            {"aupro", filo::aupro(scores, labels, std::stoul(argv[3]), std::stoul(argv[4]),
                                                  std::stoul(argv[5]), limit)}}
              << "\n";
    return 0;
  } catch (const filo::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
