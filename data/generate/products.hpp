// What the generated products look like, and what can go wrong with them. Not for use elsewhere.
#pragma once

#include <string>
#include <vector>

#include "base/random.hpp"
#include "data/generate/canvas.hpp"

namespace filo::drawing {

// A piece fixed to the product's body; it can be missing or misplaced.
struct Component {
  Point center;
  float angle = 0;
  float reach = 0.1f;  // no point of the shape is farther from the centre
  Shape shape;         // in coordinates of its own: centred, not turned
  Paint paint;         // likewise
};

struct Product {
  Paint background;
  Shape body;
  Paint paint;
  std::vector<Component> components;
};

// One specimen: colours, print and wear vary with `random`.
Product make_product(const std::string& class_name, Random& random);

void draw_product(Canvas* canvas, const Product& product);
// Dust, hairlines, smudges, glare: what good products show too.
void draw_clutter(Canvas* canvas, const Product& product, Random& random);
// `kind`: one of generated_defects(). "missing" and "misplaced" change the product before it is drawn (change_product),
// the others are drawn on it.
void draw_defect(Canvas* canvas, const Product& product, const std::string& kind, Random& random);
// Takes components off or moves them; returns the shapes (in product space) that are defective, to be marked after
// drawing.
struct Change {
  Component socket;  // what is left where a piece should be
  bool moved = false;
  Component piece;  // where it is now, when moved
};
std::vector<Change> change_product(Product* product, const std::string& kind, Random& random);
void draw_changes(Canvas* canvas, const std::vector<Change>& changes, Random& random);

}  // namespace filo::drawing
