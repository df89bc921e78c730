#include "data/generate/products.hpp"

#include <array>
#include <cassert>
#include <numbers>

namespace filo::drawing {

namespace {

constexpr float pi = std::numbers::pi_v<float>;

Rgb varied(Rgb color, Random& random, float amount) {
  const float brightness = 1 + uniform(random, -amount, amount);
  return {color.r * brightness * (1 + uniform(random, -amount, amount) / 3), color.g * brightness,
          color.b * brightness * (1 + uniform(random, -amount, amount) / 3)};
}

Paint plain(Rgb color) {
  return [color](Point) { return color; };
}

// A matt, grainy material.
Paint grainy(Rgb color, Random& random, float grain_per_unit, float strength) {
  const Noise noise(random.next());
  return [=](Point p) { return color * (1 + strength * noise.fractal(p.x * grain_per_unit, p.y * grain_per_unit, 3)); };
}

// Metal brushed along x (`circular`: around the centre).
Paint brushed(Rgb color, Random& random, bool circular, float strength) {
  const Noise fine(random.next()), coarse(random.next());
  const float glare = uniform(random, 0, 2 * pi);
  return [=](Point p) {
    const float angle = std::atan2(p.y, p.x), radius = length(p);
    const float grain = circular ? fine.value(radius * 60, angle * 3) : fine.value(p.x * 3, p.y * 60);
    const float sheen = circular ? 0.16f * std::cos(2 * (angle - glare)) : 0.08f * std::cos(3 * p.y + glare);
    return color * (1 + strength * grain + sheen + 0.05f * coarse.value(2 * p.x, 2 * p.y));
  };
}

// Woven or speckled table tops, cool colours.
Paint table_top(Random& random) {
  static constexpr std::array<Rgb, 5> tones = {{{0.16f, 0.18f, 0.21f},
                                                {0.62f, 0.66f, 0.69f},
                                                {0.30f, 0.37f, 0.43f},
                                                {0.78f, 0.80f, 0.80f},
                                                {0.24f, 0.33f, 0.31f}}};
  const Rgb tone = varied(tones[random.below(tones.size())], random, 0.12f);
  const Noise noise(random.next());
  const bool woven = chance(random, 0.5);
  const float pitch = uniform(random, 55, 90);
  return [=](Point p) {
    const float weave = woven ? 0.07f * std::sin(p.x * pitch) * std::sin(p.y * pitch) : 0.0f;
    return tone * (1 + 0.12f * noise.fractal(p.x * 9, p.y * 9, 4) + weave);
  };
}

Component component(Point center, float angle, float reach, Shape shape, Paint paint) {
  return {center, angle, reach, std::move(shape), std::move(paint)};
}

// A screw or rivet head with a slot.
Component screw(Point center, float radius, Random& random, Rgb color) {
  const float slot = uniform(random, 0, pi);
  const auto head = [radius](Point p) { return disc(p, radius); };
  const auto paint = [=](Point p) {
    const Point q = rotated(p, slot);
    const float groove = rectangle(q, radius * 0.75f, radius * 0.16f, 0.005f);
    const float dome =
        1.1f - 0.35f * (length(p) / radius) * (length(p) / radius) - 0.25f * dot(p, {0.6f, 0.8f}) / radius;
    return color * (groove < 0 ? 0.35f : dome);
  };
  return component(center, 0, radius, head, paint);
}

// A black plastic block with legs and a printed line.
Component chip(Point center, float angle, float half_width, float half_height, Random& random, Rgb color) {
  const int legs = std::max(2, static_cast<int>(half_width / 0.035f));
  const float print = uniform(random, 0.4f, 0.8f);
  const auto body = [=](Point p) { return rectangle(p, half_width, half_height, 0.02f); };
  const auto whole = [=](Point p) { return rectangle(p, half_width, half_height + 0.045f, 0.02f); };
  const auto paint = [=](Point p) {
    if (body(p) > 0) {
      const float phase = (p.x / half_width + 1) * 0.5f * static_cast<float>(legs);
      return std::abs(phase - std::floor(phase) - 0.5f) < 0.27f ? Rgb{0.72f, 0.75f, 0.77f} : Rgb{0.10f, 0.18f, 0.16f};
    }
    const bool text = std::abs(p.y) < half_height * 0.25f && std::abs(p.x) < half_width * print &&
                      std::sin(p.x * 160) > -0.2f && std::abs(p.y) > half_height * 0.07f;
    const bool notch = length(p - Point{-half_width, 0}) < 0.03f;
    return text ? Rgb{0.55f, 0.58f, 0.60f} : notch ? color * 0.5f : color;
  };
  return component(center, angle, length({half_width, half_height + 0.045f}), whole, paint);
}

Product washer(Random& random) {
  Product product;
  product.background = table_top(random);
  const float inner = uniform(random, 0.27f, 0.32f);
  product.body = [=](Point p) { return ring(p, inner, 0.82f); };
  product.paint = brushed(varied({0.60f, 0.63f, 0.66f}, random, 0.10f), random, true, 0.07f);
  const Rgb steel = varied({0.42f, 0.46f, 0.50f}, random, 0.1f);
  for (int i = 0; i < 4; ++i)
    product.components.push_back(
        screw(at_angle(pi / 4 + static_cast<float>(i) * pi / 2, 0.57f), 0.125f, random, steel));
  return product;
}

Product gear(Random& random) {
  Product product;
  product.background = table_top(random);
  const int teeth = 16;
  product.body = [=](Point p) {
    float distance = std::max(gear_wheel(p, 0.76f, teeth, 0.11f), -disc(p, 0.15f));
    for (int i = 0; i < 5; ++i)
      distance = std::max(distance, -disc(p - at_angle(static_cast<float>(i) * 2 * pi / 5 + pi / 5, 0.40f), 0.09f));
    return distance;
  };
  const Paint metal = brushed(varied({0.45f, 0.50f, 0.56f}, random, 0.1f), random, true, 0.06f);
  product.paint = [metal](Point p) {
    const float groove = std::abs(length(p) - 0.62f);
    return metal(p) * (groove < 0.015f ? 0.7f : length(p) < 0.26f ? 1.18f : 1.0f);
  };
  const Rgb bolt = varied({0.28f, 0.31f, 0.36f}, random, 0.1f);
  for (int i = 0; i < 5; ++i)
    product.components.push_back(screw(at_angle(static_cast<float>(i) * 2 * pi / 5, 0.46f), 0.105f, random, bolt));
  return product;
}

Product bracket(Random& random) {
  Product product;
  product.background = table_top(random);
  product.body = [](Point p) {
    const float upright = rectangle(p - Point{-0.42f, 0}, 0.34f, 0.84f, 0.10f);
    const float foot = rectangle(p - Point{0.02f, 0.50f}, 0.78f, 0.34f, 0.10f);
    const float brace = segment(p, {-0.25f, -0.30f}, {0.35f, 0.35f}, 0.16f);
    return std::max(std::min({upright, foot, brace}), -rectangle(p - Point{-0.42f, 0.02f}, 0.10f, 0.20f, 0.09f));
  };
  static constexpr std::array<Rgb, 3> paints = {{{0.22f, 0.38f, 0.58f}, {0.46f, 0.52f, 0.56f}, {0.20f, 0.46f, 0.47f}}};
  product.paint = grainy(varied(paints[random.below(paints.size())], random, 0.1f), random, 38, 0.10f);
  const Rgb steel = varied({0.66f, 0.69f, 0.71f}, random, 0.08f);
  for (const Point center : {Point{-0.42f, -0.60f}, Point{-0.42f, 0.55f}, Point{0.12f, 0.55f}, Point{0.57f, 0.55f}})
    product.components.push_back(screw(center, 0.13f, random, steel));
  return product;
}

Product dial(Random& random) {
  Product product;
  product.background = table_top(random);
  product.body = [](Point p) { return disc(p, 0.86f); };
  const Paint face = grainy(varied({0.84f, 0.86f, 0.86f}, random, 0.06f), random, 20, 0.03f);
  const Paint rim = brushed(varied({0.26f, 0.29f, 0.33f}, random, 0.1f), random, true, 0.08f);
  product.paint = [face, rim](Point p) {
    const float radius = length(p);
    if (radius > 0.74f) return rim(p);
    const float phase = (std::atan2(p.y, p.x) + pi) / (2 * pi) * 40;
    const int index = static_cast<int>(phase + 0.5f);
    const float off = std::abs(phase - static_cast<float>(index)) * radius * 0.157f;
    const bool major = index % 5 == 0;
    if (radius > (major ? 0.56f : 0.63f) && radius < 0.69f && off < (major ? 0.014f : 0.007f))
      return Rgb{0.08f, 0.10f, 0.13f};
    return face(p);
  };
  const Rgb dark = varied({0.16f, 0.20f, 0.30f}, random, 0.15f);
  const auto label = [](Point p) { return rectangle(p, 0.22f, 0.09f, 0.03f); };
  const auto print = [](Point p) {
    return std::abs(p.y) < 0.045f && std::sin(p.x * 90) > -0.1f && std::abs(p.x) < 0.18f ? Rgb{0.85f, 0.88f, 0.9f}
                                                                                         : Rgb{0.20f, 0.30f, 0.45f};
  };
  product.components.push_back(component({0, 0.36f}, 0, 0.24f, label, print));
  const float angle = uniform(random, -2.6f, -0.5f);
  const auto needle = [](Point p) {
    return std::min(segment(p, {-0.26f, 0}, {0.26f, 0}, 0.022f), disc(p - Point{-0.26f, 0}, 0.075f));
  };
  product.components.push_back(component(at_angle(angle, 0.26f), angle, 0.36f, needle, plain(dark)));
  for (const float x : {-0.40f, 0.40f})
    product.components.push_back(screw({x, 0.12f}, 0.085f, random, {0.5f, 0.53f, 0.56f}));
  return product;
}

Product relay_board(Random& random) {
  Product product;
  product.background = table_top(random);
  product.body = [](Point p) { return rectangle(p, 0.86f, 0.86f, 0.06f); };
  static constexpr std::array<Rgb, 3> masks = {{{0.08f, 0.36f, 0.24f}, {0.07f, 0.26f, 0.42f}, {0.10f, 0.40f, 0.32f}}};
  const Paint resin = grainy(varied(masks[random.below(masks.size())], random, 0.1f), random, 30, 0.06f);
  product.paint = [resin](Point p) {
    for (const Point hole : {Point{-0.76f, -0.76f}, Point{0.76f, -0.76f}, Point{-0.76f, 0.76f}, Point{0.76f, 0.76f}}) {
      const float distance = length(p - hole);
      if (distance < 0.07f) return distance < 0.04f ? Rgb{0.07f, 0.08f, 0.09f} : Rgb{0.70f, 0.73f, 0.74f};
    }
    const float lane = p.y * 14 + 0.6f * smooth_step(-0.1f, 0.1f, std::sin(p.x * 5));
    const bool trace =
        std::abs(lane - std::round(lane)) < 0.16f && std::sin(std::round(lane) * 12.9f) * 1.2f > p.x - 0.2f;
    return resin(p) * (trace ? 1.35f : 1.0f);
  };
  const Rgb black = varied({0.11f, 0.12f, 0.13f}, random, 0.15f), blue = varied({0.16f, 0.32f, 0.62f}, random, 0.1f);
  product.components.push_back(chip({-0.36f, -0.02f}, 0, 0.24f, 0.13f, random, black));
  product.components.push_back(chip({0.42f, 0.30f}, pi / 2, 0.22f, 0.12f, random, black));
  for (int i = 0; i < 3; ++i) {
    const auto box = [](Point p) { return rectangle(p, 0.15f, 0.16f, 0.02f); };
    const auto print = [blue](Point p) {
      return std::abs(p.x) < 0.1f && std::abs(std::abs(p.y) - 0.05f) < 0.016f ? blue * 1.9f : blue;
    };
    product.components.push_back(component({-0.46f + 0.44f * static_cast<float>(i), -0.54f}, 0, 0.22f, box, print));
  }
  for (int i = 0; i < 4; ++i) {
    const auto can = [](Point p) { return disc(p, 0.10f); };
    const auto top = [](Point p) {
      return length(p) > 0.085f ? Rgb{0.2f, 0.22f, 0.28f}
             : p.x > 0.04f      ? Rgb{0.25f, 0.28f, 0.34f}
                                : Rgb{0.74f, 0.77f, 0.79f};
    };
    product.components.push_back(component({-0.58f + 0.27f * static_cast<float>(i), 0.52f}, 0, 0.10f, can, top));
  }
  return product;
}

Product keypad(Random& random) {
  Product product;
  product.background = table_top(random);
  product.body = [](Point p) { return rectangle(p, 0.74f, 0.88f, 0.12f); };
  static constexpr std::array<Rgb, 3> cases = {{{0.20f, 0.22f, 0.25f}, {0.70f, 0.74f, 0.76f}, {0.34f, 0.40f, 0.50f}}};
  product.paint = grainy(varied(cases[random.below(cases.size())], random, 0.1f), random, 50, 0.07f);
  const Rgb key_color =
      varied(chance(random, 0.5) ? Rgb{0.86f, 0.88f, 0.88f} : Rgb{0.50f, 0.56f, 0.62f}, random, 0.06f);
  for (int row = 0; row < 4; ++row)
    for (int column = 0; column < 3; ++column) {
      const auto key = [](Point p) { return rectangle(p, 0.165f, 0.145f, 0.05f); };
      const int glyph = 3 * row + column;
      const auto paint = [=](Point p) {
        const bool bar = std::abs(p.x + 0.03f) < 0.016f && std::abs(p.y) < 0.07f;
        const bool top = (glyph & 1) != 0 && std::abs(p.y + 0.06f) < 0.014f && std::abs(p.x) < 0.05f;
        const bool middle = (glyph & 2) != 0 && std::abs(p.y) < 0.014f && std::abs(p.x) < 0.05f;
        const bool bottom = (glyph & 4) != 0 && std::abs(p.y - 0.06f) < 0.014f && std::abs(p.x) < 0.05f;
        return bar || top || middle || bottom ? Rgb{0.10f, 0.13f, 0.20f} : key_color * (1.04f - 0.5f * p.y);
      };
      product.components.push_back(component(
          {(static_cast<float>(column) - 1) * 0.43f, -0.57f + static_cast<float>(row) * 0.38f}, 0, 0.21f, key, paint));
    }
  return product;
}

Product display(Random& random) {
  Product product;
  product.background = table_top(random);
  product.body = [](Point p) { return rectangle(p, 0.90f, 0.74f, 0.08f); };
  const Paint frame = grainy(varied({0.24f, 0.26f, 0.29f}, random, 0.15f), random, 45, 0.06f);
  const Rgb glass = varied(chance(random, 0.5) ? Rgb{0.52f, 0.66f, 0.60f} : Rgb{0.30f, 0.45f, 0.62f}, random, 0.08f);
  const Noise noise(random.next());
  const std::uint64_t lit = random.next();
  product.paint = [=](Point p) {
    const float panel = rectangle(p - Point{0, -0.14f}, 0.76f, 0.44f, 0.03f);
    if (panel > 0) return frame(p) * (panel < 0.03f ? 0.6f : 1.0f);
    // Four digits of seven segments.
    const int digit = std::clamp(static_cast<int>((p.x + 0.76f) / 0.38f), 0, 3);
    const Point q = p - Point{-0.57f + 0.38f * static_cast<float>(digit), -0.14f};
    const std::array<std::array<Point, 2>, 7> segments = {{{{{-0.07f, -0.26f}, {0.07f, -0.26f}}},
                                                           {{{0.10f, -0.22f}, {0.10f, -0.04f}}},
                                                           {{{0.10f, 0.04f}, {0.10f, 0.22f}}},
                                                           {{{-0.07f, 0.26f}, {0.07f, 0.26f}}},
                                                           {{{-0.10f, 0.04f}, {-0.10f, 0.22f}}},
                                                           {{{-0.10f, -0.22f}, {-0.10f, -0.04f}}},
                                                           {{{-0.07f, 0}, {0.07f, 0}}}}};
    for (std::size_t i = 0; i < segments.size(); ++i)
      if (((lit >> (7 * static_cast<std::size_t>(digit) + i)) & 3) != 0 &&
          segment(q, segments[i][0], segments[i][1], 0.026f) < 0)
        return Rgb{0.08f, 0.11f, 0.15f};
    return glass * (1 + 0.04f * noise.fractal(4 * p.x, 4 * p.y, 2) + 0.10f * (p.x - p.y));
  };
  const Rgb key = varied({0.60f, 0.64f, 0.68f}, random, 0.1f);
  for (int i = 0; i < 5; ++i) {
    const auto button = [](Point p) { return rectangle(p, 0.125f, 0.09f, 0.04f); };
    const auto paint = [key](Point p) { return length(p) < 0.035f ? Rgb{0.2f, 0.26f, 0.36f} : key * (1 - 0.8f * p.y); };
    product.components.push_back(component({(static_cast<float>(i) - 2) * 0.33f, 0.52f}, 0, 0.155f, button, paint));
  }
  return product;
}

Product chip_tray(Random& random) {
  Product product;
  product.background = table_top(random);
  product.body = [](Point p) { return rectangle(p, 0.88f, 0.88f, 0.05f); };
  const Paint plastic =
      grainy(varied(chance(random, 0.5) ? Rgb{0.28f, 0.30f, 0.32f} : Rgb{0.66f, 0.70f, 0.72f}, random, 0.1f), random,
             55, 0.07f);
  product.paint = [plastic](Point p) {
    const auto cell = [](float v) {
      return v - 0.42f * (std::clamp(std::round(v / 0.42f - 0.5f), -2.0f, 1.0f) + 0.5f);
    };
    const float pocket = rectangle({cell(p.x), cell(p.y)}, 0.18f, 0.18f, 0.02f);
    return plastic(p) * (pocket < -0.02f ? 0.62f : pocket < 0 ? 0.45f : 1.0f);
  };
  const Rgb black = varied({0.14f, 0.15f, 0.17f}, random, 0.1f);
  for (int row = 0; row < 4; ++row)
    for (int column = 0; column < 4; ++column)
      product.components.push_back(
          chip({(static_cast<float>(column) - 1.5f) * 0.42f, (static_cast<float>(row) - 1.5f) * 0.42f}, 0, 0.125f,
               0.085f, random, black));
  return product;
}

void draw_component(Canvas* canvas, const Component& piece) {
  const Point shadow = {0.018f, 0.024f};
  canvas->shade(piece.center + shadow, piece.reach + 0.06f, [&](Point p, Rgb below) {
    const float distance = piece.shape(rotated(p - piece.center - shadow, -piece.angle));
    return below * (1 - 0.45f * (1 - smooth_step(-0.01f, 0.05f, distance)));
  });
  canvas->shade(piece.center, piece.reach, [&](Point p, Rgb below) {
    const Point own = rotated(p - piece.center, -piece.angle);
    const float distance = piece.shape(own);
    const float cover = canvas->coverage(distance);
    if (cover <= 0) return below;
    const float edge = 0.82f + 0.18f * smooth_step(0, 0.02f, -distance);
    return mix(below, piece.paint(own) * edge, cover);
  });
}

// A point on the product at least `margin` inside its outline where there is one.
Point point_on(const Product& product, Random& random, float margin) {
  Point best;
  float best_distance = 1e9f;
  for (int attempt = 0; attempt < 60; ++attempt) {
    const Point p = {uniform(random, -0.8f, 0.8f), uniform(random, -0.8f, 0.8f)};
    const float distance = product.body(p);
    if (distance < -margin) return p;
    if (distance < best_distance) {
      best_distance = distance;
      best = p;
    }
  }
  return best;
}

using Polyline = std::vector<Point>;

float distance_to(const Polyline& line, Point p) {
  float best = 1e9f;
  for (std::size_t i = 1; i < line.size(); ++i) best = std::min(best, segment(p, line[i - 1], line[i], 0));
  return best;
}

Polyline walk(Point from, float heading, float total, int steps, float wander, Random& random) {
  Polyline line = {from};
  for (int i = 0; i < steps; ++i) {
    heading += uniform(random, -wander, wander);
    line.push_back(line.back() + at_angle(heading, total / static_cast<float>(steps)));
  }
  return line;
}

// A line that stays on the product for most of its way, centred on a point of it.
Polyline line_on(const Product& product, float total, int steps, float wander, Random& random) {
  Polyline best;
  int best_inside = -1;
  for (int attempt = 0; attempt < 25; ++attempt) {
    const float heading = uniform(random, 0, 2 * pi);
    const Point middle = point_on(product, random, 0.05f);
    Polyline line = walk(middle - at_angle(heading, total / 2), heading, total, steps, wander, random);
    int inside = 0;
    for (const Point p : line) inside += product.body(p) < -0.02f ? 1 : 0;
    if (inside > best_inside) {
      best_inside = inside;
      best = std::move(line);
    }
  }
  return best;
}

float clip_to(const Canvas& canvas, const Product& product, Point p) { return canvas.coverage(product.body(p)); }

// Corrosion, primer, glue: the warm, rough colours that show where a surface is damaged.
Rgb corroded(const Noise& noise, Point p, Rgb tone) {
  return tone * (1 + 0.55f * noise.fractal(p.x * 26, p.y * 26, 3));
}

Rgb corrosion_tone(Random& random) {
  static constexpr std::array<Rgb, 4> tones = {
      {{0.47f, 0.23f, 0.09f}, {0.38f, 0.20f, 0.11f}, {0.56f, 0.34f, 0.13f}, {0.42f, 0.28f, 0.12f}}};
  return varied(tones[random.below(tones.size())], random, 0.15f);
}

void draw_scratch(Canvas* canvas, const Product& product, Random& random) {
  const Polyline line = line_on(product, uniform(random, 0.9f, 1.4f), 9, 0.14f, random);
  const float half_width = uniform(random, 0.020f, 0.028f);
  const Noise noise(random.next());
  const Rgb bare = varied({0.90f, 0.82f, 0.70f}, random, 0.06f), primer = corrosion_tone(random);
  canvas->mark({}, 2, [&](Point p, Rgb) -> Canvas::Mark {
    const float width = half_width * (1 + 0.25f * noise.value(p.x * 12, p.y * 12));
    const float distance = distance_to(line, p);
    if (distance > 2 * width) return {};
    const float inside = canvas->coverage(distance - width) * clip_to(*canvas, product, p);
    const Rgb color =
        distance < 0.45f * width ? bare * (1 + 0.2f * noise.value(p.x * 70, p.y * 70)) : corroded(noise, p, primer);
    return {color, inside * 0.95f, inside};
  });
}

void draw_crack(Canvas* canvas, const Product& product, Random& random) {
  std::vector<Polyline> lines = {line_on(product, uniform(random, 0.8f, 1.2f), 14, 0.75f, random)};
  const int branches = 2 + static_cast<int>(random.below(2));
  for (int i = 0; i < branches; ++i) {
    const Point from = lines[0][2 + random.below(lines[0].size() - 4)];
    lines.push_back(walk(from, uniform(random, 0, 2 * pi), uniform(random, 0.25f, 0.45f), 6, 0.7f, random));
  }
  const float half_width = uniform(random, 0.017f, 0.024f);
  const Noise noise(random.next());
  const Rgb tone = corrosion_tone(random);
  canvas->mark({}, 2, [&](Point p, Rgb) -> Canvas::Mark {
    float distance = 1e9f;
    for (const Polyline& line : lines) distance = std::min(distance, distance_to(line, p));
    if (distance > 3 * half_width) return {};
    const float inside = canvas->coverage(distance - half_width) * clip_to(*canvas, product, p);
    const Rgb color = distance < 0.5f * half_width ? Rgb{0.05f, 0.03f, 0.03f} : corroded(noise, p, tone * 0.55f);
    return {color, inside * 0.95f, inside};
  });
}

void draw_spots(Canvas* canvas, const Product& product, Random& random) {
  const int count = 2 + static_cast<int>(random.below(3));
  const Point middle = point_on(product, random, 0.12f);
  const Rgb tone = corrosion_tone(random) * uniform(random, 0.45f, 1.0f);
  for (int i = 0; i < count; ++i) {
    Point center = middle;
    for (int attempt = 0; i > 0 && attempt < 20; ++attempt) {
      center = middle + Point{uniform(random, -0.35f, 0.35f), uniform(random, -0.35f, 0.35f)};
      if (product.body(center) < -0.08f) break;
    }
    const float radius = uniform(random, 0.065f, 0.11f);
    const Noise noise(random.next());
    canvas->mark(center, radius * 1.5f, [&](Point p, Rgb) -> Canvas::Mark {
      const float distance = disc(p - center, radius * (1 + 0.2f * noise.fractal(p.x * 16, p.y * 16, 2)));
      const float inside = canvas->coverage(distance) * clip_to(*canvas, product, p);
      return {corroded(noise, p, tone), inside * 0.93f, inside};
    });
  }
}

void draw_stain(Canvas* canvas, const Product& product, Random& random) {
  const float radius = uniform(random, 0.19f, 0.30f);
  const Point center = point_on(product, random, 0.6f * radius);
  const Noise noise(random.next());
  const Rgb tone = corrosion_tone(random) * 1.25f;
  canvas->mark(center, radius * 1.7f, [&](Point p, Rgb below) -> Canvas::Mark {
    const float distance = disc(p - center, radius * (1 + 0.45f * noise.fractal(p.x * 4.5f, p.y * 4.5f, 3)));
    const float inside = canvas->coverage(distance) * clip_to(*canvas, product, p);
    const float rim = 1 - 0.35f * (1 - smooth_step(0, 0.05f, -distance));
    const Rgb color = mix(below, corroded(noise, p, tone), 0.62f + 0.3f * noise.fractal(p.x * 8, p.y * 8, 2));
    return {color * rim, inside, inside};
  });
}

void draw_dent(Canvas* canvas, const Product& product, Random& random) {
  const float radius = uniform(random, 0.15f, 0.23f), stretch = uniform(random, 0.7f, 1.0f),
              turn = uniform(random, 0, pi);
  const Point center = point_on(product, random, 0.6f * radius);
  const Noise noise(random.next());
  const Rgb tone = corrosion_tone(random);
  canvas->mark(center, radius * 1.2f, [&](Point p, Rgb below) -> Canvas::Mark {
    const Point q = rotated(p - center, turn);
    const float share = length({q.x, q.y / stretch}) / radius;
    const float inside = canvas->coverage((share - 1) * radius * stretch) * clip_to(*canvas, product, p);
    const float slope = dot(p - center, {0.6f, 0.8f}) / radius;  // the light comes from the upper left
    const float shade = 0.75f + 0.75f * slope * smooth_step(0.1f, 0.6f, share);
    const float worn = 0.30f + 0.40f * smooth_step(0.55f, 0.95f, share) + 0.35f * noise.fractal(p.x * 22, p.y * 22, 3);
    return {mix(below * shade, corroded(noise, p, tone), std::clamp(worn, 0.0f, 0.9f)), inside, inside};
  });
}

}  // namespace

Product make_product(const std::string& class_name, Random& random) {
  if (class_name == "washer") return washer(random);
  if (class_name == "gear") return gear(random);
  if (class_name == "bracket") return bracket(random);
  if (class_name == "dial") return dial(random);
  if (class_name == "relay_board") return relay_board(random);
  if (class_name == "keypad") return keypad(random);
  if (class_name == "display") return display(random);
  assert(class_name == "chip_tray");
  return chip_tray(random);
}

void draw_product(Canvas* canvas, const Product& product) {
  const Point shadow = {0.035f, 0.05f};
  canvas->shade({}, 3, [&](Point p, Rgb) {
    const float distance = product.body(p);
    const float cover = canvas->coverage(distance);
    Rgb color;
    if (cover < 1)
      color = product.background(p) * (1 - 0.5f * (1 - smooth_step(-0.02f, 0.09f, product.body(p - shadow))));
    if (cover <= 0) return color;
    float edge = 1;
    if (distance > -0.05f) {  // a bevel, lit from the upper left
      const float step = 0.01f;
      const Point slope = {product.body({p.x + step, p.y}) - distance, product.body({p.x, p.y + step}) - distance};
      edge = 1 - 0.35f * dot(slope, {0.6f, 0.8f}) / step * smooth_step(-0.05f, 0, distance);
    }
    return mix(color, product.paint(p) * edge, cover);
  });
  for (const Component& piece : product.components) draw_component(canvas, piece);
}

void draw_clutter(Canvas* canvas, const Product& product, Random& random) {
  const auto anywhere = [&] { return Point{uniform(random, -0.95f, 0.95f), uniform(random, -0.95f, 0.95f)}; };
  const auto blend = [&](Point center, float reach, Rgb tone, const auto& alpha) {
    canvas->shade(center, reach, [&](Point p, Rgb below) { return mix(below, tone, alpha(p)); });
  };
  for (std::uint64_t i = 4 + random.below(10); i > 0; --i) {  // dust
    const Point center = anywhere();
    const float radius = uniform(random, 0.006f, 0.02f), strength = uniform(random, 0.3f, 0.8f);
    const float grey = chance(random, 0.5) ? 0.9f : 0.12f;
    blend(center, radius, {grey, grey, grey},
          [&](Point p) { return strength * canvas->coverage(disc(p - center, radius)); });
  }
  for (std::uint64_t i = random.below(4); i > 0; --i) {  // fibres and hairlines: thin, neutral
    const Polyline line = walk(anywhere(), uniform(random, 0, 2 * pi), uniform(random, 0.2f, 0.6f), 6, 0.5f, random);
    const float grey = chance(random, 0.5) ? 0.85f : 0.15f, strength = uniform(random, 0.25f, 0.6f);
    blend(line[3], 0.7f, {grey, grey, grey},
          [&](Point p) { return strength * canvas->coverage(distance_to(line, p) - 0.004f); });
  }
  for (std::uint64_t i = random.below(3); i > 0; --i) {  // smudges: large, faint
    const Point center = anywhere();
    const float radius = uniform(random, 0.12f, 0.3f), grey = chance(random, 0.5) ? 0.8f : 0.2f,
                strength = uniform(random, 0.08f, 0.2f);
    const Noise noise(random.next());
    blend(center, radius * 1.5f, {grey, grey, grey}, [&](Point p) {
      return strength * (1 - smooth_step(-0.08f, 0.05f,
                                         disc(p - center, radius * (1 + 0.4f * noise.fractal(4 * p.x, 4 * p.y, 2)))));
    });
  }
  if (chance(random, 0.5)) {  // an inspector's mark: clean, bright ink
    static constexpr std::array<Rgb, 3> inks = {{{0.12f, 0.25f, 0.75f}, {0.75f, 0.10f, 0.35f}, {0.05f, 0.05f, 0.07f}}};
    const Point center = point_on(product, random, 0.06f);
    const Rgb ink = inks[random.below(inks.size())];
    const float radius = uniform(random, 0.035f, 0.06f);
    blend(center, radius, ink, [&](Point p) {
      return 0.85f * canvas->coverage(ring(p - center, 0.5f * radius, radius)) * clip_to(*canvas, product, p);
    });
  }
  if (chance(random, 0.6)) {  // glare
    const Point center = anywhere();
    const float radius = uniform(random, 0.2f, 0.5f), strength = uniform(random, 0.1f, 0.3f);
    blend(center, radius, {1, 1, 1},
          [&](Point p) { return strength * (1 - smooth_step(0, radius, length(p - center))); });
  }
}

void draw_defect(Canvas* canvas, const Product& product, const std::string& kind, Random& random) {
  if (kind == "scratch") draw_scratch(canvas, product, random);
  if (kind == "crack") draw_crack(canvas, product, random);
  if (kind == "spot") draw_spots(canvas, product, random);
  if (kind == "stain") draw_stain(canvas, product, random);
  if (kind == "dent") draw_dent(canvas, product, random);
}

std::vector<Change> change_product(Product* product, const std::string& kind, Random& random) {
  std::vector<Change> changes;
  if (kind != "missing" && kind != "misplaced") return changes;
  const std::size_t index = random.below(product->components.size());
  Change change;
  change.socket = product->components[index];
  change.moved = kind == "misplaced";
  if (change.moved) {
    change.piece = change.socket;
    change.piece.angle += (chance(random, 0.5) ? 1.0f : -1.0f) * uniform(random, 0.5f, 1.1f);
    const float away = change.piece.reach * uniform(random, 0.7f, 1.1f);
    change.piece.center = change.piece.center + at_angle(uniform(random, 0, 2 * pi), away);
  }
  product->components.erase(product->components.begin() + static_cast<std::ptrdiff_t>(index));
  changes.push_back(std::move(change));
  return changes;
}

void draw_changes(Canvas* canvas, const std::vector<Change>& changes, Random& random) {
  for (const Change& change : changes) {
    const Noise noise(random.next());
    const Rgb glue = corrosion_tone(random) * 1.1f;
    const Component& socket = change.socket;
    canvas->mark(socket.center, socket.reach, [&](Point p, Rgb below) -> Canvas::Mark {
      const float distance = socket.shape(rotated(p - socket.center, -socket.angle));
      const float inside = canvas->coverage(distance);
      const float rim = 0.55f + 0.45f * smooth_step(0, 0.03f, -distance);
      const float patches = smooth_step(-0.35f, 0.1f, noise.fractal(p.x * 9, p.y * 9, 2));
      return {mix(below * 0.6f, corroded(noise, p, glue), 0.35f + 0.6f * patches) * rim, inside, inside};
    });
    if (!change.moved) continue;
    draw_component(canvas, change.piece);
    canvas->mark(change.piece.center, change.piece.reach, [&](Point p, Rgb below) -> Canvas::Mark {
      return {below, 0, canvas->coverage(change.piece.shape(rotated(p - change.piece.center, -change.piece.angle)))};
    });
  }
}

}  // namespace filo::drawing
