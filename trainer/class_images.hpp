// The images of a class as an evaluation takes them: which samples of the cache each is, and which rank looks at it
// when.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "data/images/tiles.hpp"
#include "data/shards/shard_reader.hpp"

namespace filo {

// An image, and its samples in the cache: itself, or its tiles.
struct EvaluatedImage {
  std::string path;                  // below the data set's root
  ImageSize size;                    // in pixels; of an image that is not cut [S, S]
  std::vector<Tile> tiles;           // one for each sample
  std::vector<std::size_t> samples;  // of the reader
};
// Of each class, in the reader's order, in which an image's samples stand together.
std::map<std::string, std::vector<EvaluatedImage>> images_by_class(const ShardReader& reader);

// Of the maps of a class: all of one size, the largest that an image of it needs. `side`: of a sample's map.
ImageSize map_size_of(const std::vector<EvaluatedImage>& images, const TilingSettings& tiling, int side);

// A rank's share, in rounds: in each, every rank has so many images at most, in so many batches of `most` samples at
// most, so that all may speak to each other at each batch.
struct Deal {
  struct Round {
    std::vector<std::size_t> places;                // of the images in the class
    std::vector<std::vector<std::size_t>> batches;  // of their samples, image after image
  };
  std::vector<Round> rounds;
  std::size_t images = 0;   // of a round, of all ranks together
  std::size_t batches = 0;  // of a round, on each rank
};
Deal deal(const std::vector<EvaluatedImage>& images, std::size_t most, std::size_t rank, std::size_t ranks);

}  // namespace filo
