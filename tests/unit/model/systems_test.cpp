// Every system by the same assertions, and what is each one's own.
#include "model/systems/filo_release/boxes.hpp"
#include "model/systems/system.hpp"

#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <stdexcept>

#include "base/error.hpp"
#include "tiny_clip.hpp"

namespace filo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class EverySystem : public ::testing::TestWithParam<Profile> {
 protected:
  static void SetUpTestSuite() { clip_ = testing::tiny_clip(); }
  static void TearDownTestSuite() { clip_.reset(); }

  ModelSettings settings() const {
    ModelSettings made;
    made.profile = GetParam();
    made.image_size = 42;
    made.layers = {2, 3, 4};
    made.vv_from = 3;
    made.prompts.vectors = 3;
    made.mdci.kernels = {{1, 1}, {3, 3}};
    return made;
  }
  std::unique_ptr<System> system(const ModelSettings& made, std::uint64_t seed = 1) const {
    return make_system(made, testing::two_classes(), clip_, seed);
  }
  std::unique_ptr<System> system() const { return system(settings()); }
  static TrainingPhase phase(const System& system, const std::string& name) {
    for (const TrainingPhase& phase : system.training_phases({}))
      if (phase.name == name) return phase;
    throw std::runtime_error("no phase " + name);
  }

  ImageBatch batch(const std::vector<std::string>& classes = {"metal_nut", "pcb1", "metal_nut"}) const {
    torch::manual_seed(3);
    const auto images = static_cast<std::int64_t>(classes.size());
    ImageBatch made;
    made.global = torch::randn({images, 16});
    for (const int layer : {2, 3, 4}) made.qkv[layer] = torch::randn({images, 9, 24});
    for (const int layer : {3, 4}) made.vv[layer] = torch::randn({images, 9, 24});
    made.classes = classes;
    return made;
  }
  static ImageBatch one_image(const ImageBatch& from, std::int64_t image) {
    ImageBatch made;
    made.global = from.global.narrow(0, image, 1);
    for (const auto& [layer, tensor] : from.qkv) made.qkv[layer] = tensor.narrow(0, image, 1);
    for (const auto& [layer, tensor] : from.vv) made.vv[layer] = tensor.narrow(0, image, 1);
    made.classes = {from.classes[static_cast<std::size_t>(image)]};
    if (!from.boxes.empty()) made.boxes = {from.boxes[static_cast<std::size_t>(image)]};
    return made;
  }
  static std::string error_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  }

  static std::shared_ptr<const ClipModel> clip_;
};
std::shared_ptr<const ClipModel> EverySystem::clip_;
INSTANTIATE_TEST_SUITE_P(Profiles, EverySystem, ::testing::Values(Profile::paper, Profile::filo_release),
                         [](const auto& profile) {
                           return profile.param == Profile::paper ? "paper" : "filo_release";
                         });

TEST_P(EverySystem, Bf16StaysNearFloat32) {
  // Guards the path of train.precision: bf16, whose products have 8 bits of mantissa: near, and not the float32 one.
  ModelSettings unfiltered = settings();
  unfiltered.prompts.filter = false;  // a prompt at the filter's edge may fall on either side
  const auto made = system(unfiltered);
  const torch::NoGradGuard no_grad;
  const TrainingPhase main = phase(*made, "main");
  TrainingOptions options;
  const ForwardOutput exact = made->train_forward(main, batch(), options);
  options.precision = Precision::bf16;
  const ForwardOutput near = made->train_forward(main, batch(), options);
  EXPECT_GT((exact.text_abnormal * near.text_abnormal).sum(1).min().item<float>() /
                exact.text_abnormal.square().sum(1).max().item<float>(),
            0.999F);
  const double difference = (exact.maps_abnormal - near.maps_abnormal).abs().mean().item<double>();
  EXPECT_GT(difference, 0);
  EXPECT_LT(difference, 0.05);
}

TEST_P(EverySystem, ParametersAreAFunctionOfTheSeed) {
  // Guards reproducible first values, and that each parameter draws from a stream of its own.
  const auto first = system(settings(), 1), again = system(settings(), 1), other = system(settings(), 2);
  for (const auto& [name, tensor] : first->parameters()) {
    EXPECT_TRUE(tensor.is_leaf() && tensor.requires_grad()) << name;
    EXPECT_TRUE(torch::equal(tensor, again->parameters().at(name))) << name;
    const bool zero = name.find("offset") != std::string::npos;
    EXPECT_EQ(torch::equal(tensor, other->parameters().at(name)), zero) << name;
  }
}

TEST_P(EverySystem, EveryParameterIsTrainedInOneGroup) {
  // Guards that no parameter stays untrained, and none is trained twice.
  const auto made = system();
  std::multiset<std::string> grouped;
  for (const TrainingPhase& phase : made->training_phases({}))
    for (const ParameterGroup& group : phase.groups) grouped.insert(group.names.begin(), group.names.end());
  EXPECT_EQ(grouped.size(), made->parameters().size());
  for (const auto& [name, tensor] : made->parameters()) EXPECT_EQ(grouped.count(name), 1u) << name;
}

TEST_P(EverySystem, ParametersCarryTheirProfilesNames) {
  // Guards the names of FiLo's state dict, by which its checkpoints load.
  const auto made = system();
  const std::vector<std::string> expected =
      GetParam() == Profile::paper
          ? std::vector<std::string>{"prompts.normal.vectors", "prompts.abnormal.meta_net.linear2.bias",
                                     "linear.2.weight",        "mdci.4.3x3.weight",
                                     "mdci.3.1x1.offset.bias", "adapter.linear1.weight"}
          : std::vector<std::string>{"normal_prompt_learner.ctx", "abnormal_prompt_learner.meta_net.linear1.weight",
                                     "decoder_linear.fc.2.bias",  "decoder_cov.fc_33.1.weight",
                                     "decoder_cov.fc_11.0.bias",  "adapter.fc.0.weight",
                                     "adapter.fc.2.weight"};
  for (const auto& name : expected) EXPECT_TRUE(made->parameters().contains(name)) << name;
}

TEST_P(EverySystem, ABatchOfSeveralClassesEqualsItsImagesOneByOne) {
  // Guards ragged batches: prompts, positions and filtering of one image do not touch another's.
  const auto made = system();
  ImageBatch images = batch();
  images.boxes = {{{0, 0, 0.2f, 0.2f, 0.9f, {}}}, {}, {{0.7f, 0.7f, 1, 1, 0.5f, {}}, {0, 0.7f, 0.2f, 1, 0.6f, {}}}};
  const torch::NoGradGuard no_grad;
  const auto together = made->test_forward(images);
  for (std::int64_t image = 0; image < 3; ++image) {
    const auto alone = made->test_forward(one_image(images, image));
    EXPECT_TRUE(torch::allclose(together.text_abnormal[image], alone.text_abnormal[0], 1e-5, 1e-6));
    EXPECT_TRUE(torch::allclose(together.map[image], alone.map[0], 1e-4, 1e-5));
    EXPECT_TRUE(torch::allclose(together.score[image], alone.score[0], 1e-4, 1e-5));
    const auto& matches = together.prompts[static_cast<std::size_t>(image)];
    ASSERT_EQ(matches.size(), alone.prompts[0].size());
    for (std::size_t i = 0; i < matches.size(); ++i) EXPECT_EQ(matches[i].kept, alone.prompts[0][i].kept);
  }
}

TEST_P(EverySystem, TheSameInputGivesTheSameBits) {
  // Guards forward and gradients against a sum in changing order.
  const auto made = system();
  const TrainingPhase main = phase(*made, "main");
  const auto gradients = [&] {
    torch::autograd::variable_list parameters;
    for (const auto& [name, tensor] : made->parameters()) parameters.push_back(tensor);
    const auto output = made->train_forward(main, batch());
    return torch::autograd::grad({output.maps_abnormal.square().sum()}, parameters, {}, false, false, true);
  };
  const auto first = gradients(), second = gradients();
  for (std::size_t i = 0; i < first.size(); ++i) {
    ASSERT_EQ(first[i].defined(), second[i].defined());
    EXPECT_TRUE(!first[i].defined() || torch::equal(first[i], second[i]));
  }
}

TEST_P(EverySystem, StageMapsOfTheTwoTextsSumToOne) {
  // Guards the softmax and both normalisations.
  const auto output = system()->test_forward(batch());
  EXPECT_EQ(output.maps_normal.sizes(), (std::vector<std::int64_t>{3, 5, 42, 42}));
  EXPECT_TRUE(torch::allclose(output.maps_normal + output.maps_abnormal, torch::ones({3, 5, 42, 42}), 0, 1e-5));
}

TEST_P(EverySystem, PhaseTwoTrainsTheAdapterAlone) {
  // Guards what phase two's gradient may reach: the adapter by the logits, nothing by the texts.
  const auto made = system();
  const auto output = made->train_forward(phase(*made, "adapter"), batch());
  EXPECT_FALSE(output.text_normal.requires_grad());
  EXPECT_FALSE(output.maps_normal.defined());
  output.logits.sum().backward();
  for (const auto& [name, tensor] : made->parameters()) {
    EXPECT_EQ(tensor.grad().defined(), name.starts_with("adapter")) << name;
  }
}

TEST_P(EverySystem, WhatIsFrozenIsComputedOnceAnImage) {
  // Guards phase two on vectors: the pass with frozen_vectors() gives the logits of the pass without.
  const auto made = system();
  const TrainingPhase adapter = phase(*made, "adapter");
  ImageBatch images = batch();
  const torch::Tensor expected = made->train_forward(adapter, images).logits;
  const torch::Tensor frozen = made->frozen_vectors(adapter)(images);
  EXPECT_EQ(frozen.sizes(), (std::vector<std::int64_t>{3, adapter.frozen_width}));
  if (adapter.frozen_width > 0) images.frozen = frozen;
  EXPECT_TRUE(torch::equal(made->train_forward(adapter, images).logits, expected));
}

TEST_P(EverySystem, AnImagesFrozenVectorIsTheSameWhicheverImagesCameBefore) {
  // Guards equal bits on any number of ranks and after any stop: fixed prompts and CoOp's are held from image to image,
  // and are encoded for the first one that asks.
  for (const PromptMethod method : {PromptMethod::cocoop, PromptMethod::coop}) {
    if (GetParam() == Profile::filo_release && method != PromptMethod::cocoop) continue;
    ModelSettings changed = settings();
    changed.prompts.method = method;
    ImageBatch images = batch({"metal_nut", "metal_nut", "metal_nut"});
    const std::vector<Box> boxes = {
        {0, 0, 0.2f, 0.2f, 0.9f, {}}, {0.4f, 0.4f, 0.6f, 0.6f, 0.9f, {}}, {0.8f, 0.8f, 1, 1, 0.9f, {}}};
    images.boxes = {{boxes[0]}, boxes, {boxes[1], boxes[2]}};
    std::vector<torch::Tensor> first;
    for (std::vector<std::int64_t> order = {0, 1, 2}; order[0] < 3; std::ranges::for_each(
             order, [](auto& i) { ++i; })) {
      const auto made = system(changed);  // has encoded nothing yet
      const FrozenVectors frozen = made->frozen_vectors(phase(*made, "adapter"));
      std::vector<torch::Tensor> found(3);
      for (const std::int64_t image : order)
        found[static_cast<std::size_t>(image % 3)] = frozen(one_image(images, image % 3));
      if (first.empty()) first = found;
      for (std::size_t image = 0; image < 3; ++image)
        EXPECT_TRUE(torch::equal(found[image], first[image])) << "image " << image << ", begun with " << order[0];
    }
  }
}

TEST_P(EverySystem, LossesAreThoseThatItsPhasesName) {
  // Guards what the loop sums and reports: a total that is differentiable, a term for each name, their sum.
  const auto made = system();
  const torch::Tensor masks = (torch::rand({3, 42, 42}) < 0.1).to(torch::kFloat32);
  const torch::Tensor labels = torch::tensor({1, 1, 0}, torch::kInt64);
  for (const TrainingPhase& phase : made->training_phases({})) {
    const Losses losses = made->losses(phase, made->train_forward(phase, batch()), masks, labels);
    ASSERT_EQ(losses.terms.size(), phase.loss_terms.size()) << phase.name;
    EXPECT_TRUE(losses.total.requires_grad()) << phase.name;
    torch::Tensor sum = torch::zeros({});
    for (const torch::Tensor& term : losses.terms) sum = sum + term;
    if (!losses.terms.empty()) {
      EXPECT_TRUE(torch::allclose(losses.total, sum)) << phase.name;
    }
  }
}

TEST_P(EverySystem, LoadingNamesEveryWrongTensorAndChangesNothing) {
  // Guards checkpoints of another model: missing, extra, misshaped and NaN, all in one message.
  auto made = system();
  TensorMap given;
  for (const auto& [name, tensor] : made->parameters()) given[name] = torch::ones_like(tensor);
  auto name = given.begin();
  const std::string missing = (name++)->first, misshaped = (name++)->first, nan = (name++)->first;
  given.erase(missing);
  given[misshaped] = torch::ones({1, 2, 3});
  given[nan] = given[nan] * NAN;
  given["surplus"] = torch::ones({4});
  EXPECT_THAT(error_of([&] { made->load_parameters(given, "file"); }),
              AllOf(HasSubstr("file"), HasSubstr(missing), HasSubstr(misshaped), HasSubstr("[1, 2, 3]"), HasSubstr(nan),
                    HasSubstr("surplus")));
  const auto untouched = system();
  for (const auto& [key, tensor] : made->parameters())
    EXPECT_TRUE(torch::equal(tensor, untouched->parameters().at(key)));
  given.clear();
  for (const auto& [key, tensor] : made->parameters()) given[key] = torch::ones_like(tensor);
  made->load_parameters(given, "file");
  for (const auto& [key, tensor] : made->parameters()) EXPECT_TRUE(torch::equal(tensor, torch::ones_like(tensor)));
}

TEST_P(EverySystem, BadInputIsNamed) {
  // Guards every check of a batch.
  const auto made = system();
  const auto message = [&](const std::function<void(ImageBatch&)>& damage) {
    ImageBatch damaged = batch();
    damage(damaged);
    return error_of([&] { made->test_forward(damaged); });
  };
  EXPECT_THAT(message([](ImageBatch& b) { b.qkv.erase(3); }), HasSubstr("qkv.3"));
  EXPECT_THAT(message([](ImageBatch& b) {
                b.vv[4] = torch::zeros({3, 9, 23});
              }),
              AllOf(HasSubstr("vv.4"), HasSubstr("24")));
  EXPECT_THAT(message([](ImageBatch& b) { b.global = torch::zeros({2, 16}); }), HasSubstr("global"));
  EXPECT_THAT(message([](ImageBatch& b) { b.global[0][0] = NAN; }), HasSubstr("global"));
  EXPECT_THAT(message([](ImageBatch& b) { b.classes[1] = "gear"; }), HasSubstr("gear"));
  EXPECT_THAT(message([](ImageBatch& b) { b.boxes = {{}, {}}; }), HasSubstr("boxes"));
  EXPECT_THAT(message([](ImageBatch& b) {
                b.boxes = {{}, {{0.5f, 0.1f, 0.2f, 0.3f, 1, {}}}, {}};
              }),
              HasSubstr("image 1"));
  EXPECT_THAT(message([](ImageBatch& b) {
                b.boxes = {{}, {{0.5f, 0.1f, 120, 0.3f, 1, {}}}, {}};
              }),
              HasSubstr("outside"));
}

TEST_P(EverySystem, BadSettingsAreNamed) {
  // Guards what the schema cannot know: the tower's depth and patch.
  const auto message = [&](const std::function<void(ModelSettings&)>& damage) {
    ModelSettings damaged = settings();
    damage(damaged);
    return error_of([&] { system(damaged); });
  };
  EXPECT_THAT(message([](ModelSettings& s) { s.image_size = 43; }), HasSubstr("image_size"));
  EXPECT_THAT(message([](ModelSettings& s) { s.layers = {2, 5}; }), HasSubstr("layers"));
  EXPECT_THAT(message([](ModelSettings& s) { s.layers = {2, 2}; }), HasSubstr("twice"));
  EXPECT_THAT(message([](ModelSettings& s) { s.mdci.kernels = {{2, 3}}; }), HasSubstr("odd"));
}

class FiloPlusPlus : public EverySystem {};
INSTANTIATE_TEST_SUITE_P(Profiles, FiloPlusPlus, ::testing::Values(Profile::paper),
                         [](const auto&) { return "paper"; });

TEST_P(FiloPlusPlus, FreshDeformableKernelsArePlainOnes) {
  // Guards the zero-initialised offsets.
  ModelSettings plain = settings();
  plain.mdci.deformable = false;
  const auto a = system()->test_forward(batch()), b = system(plain)->test_forward(batch());
  EXPECT_TRUE(torch::allclose(a.maps_abnormal, b.maps_abnormal, 1e-4, 1e-5));
}

TEST_P(FiloPlusPlus, WithCoOpTextsOfOneClassDifferOnlyByTheFilter) {
  // Guards that CoOp's prompts do not see the image.
  ModelSettings coop = settings();
  coop.prompts.method = PromptMethod::coop;
  coop.prompts.filter = false;
  const auto output = system(coop)->test_forward(batch());
  EXPECT_TRUE(torch::equal(output.text_normal[0], output.text_normal[2]));
  EXPECT_FALSE(torch::allclose(output.text_normal[0], output.text_normal[1]));
}

// How often layers were normalised while `action` ran in this thread: none is outside the text tower.
int layer_norms(const std::function<void()>& action) {
  static thread_local int count;
  count = 0;
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& function) -> std::unique_ptr<at::ObserverContext> {
        if (std::string(function.name()) == "aten::layer_norm") ++count;
        return nullptr;
      }).scopes({at::RecordScope::FUNCTION}));
  action();
  at::removeCallback(handle);
  return count;
}

TEST_P(FiloPlusPlus, TextsThatDoNotSeeTheImageAreEncodedOnceAClassForPhaseTwo) {
  // Guards a quarter of an hour at ViT-L before phase two: CoOp's and fixed prompts are the same for all images.
  for (const PromptMethod method : {PromptMethod::coop, PromptMethod::none, PromptMethod::cocoop}) {
    ModelSettings changed = settings();
    changed.prompts.method = method;
    const auto made = system(changed);
    const FrozenVectors frozen = made->frozen_vectors(phase(*made, "adapter"));
    const ImageBatch images = batch({"metal_nut", "pcb1", "metal_nut", "pcb1"});
    for (std::int64_t image = 0; image < 4; ++image) {
      const int norms = layer_norms([&] { frozen(one_image(images, image)); });
      if (image < 2 || method == PromptMethod::cocoop) {
        EXPECT_GT(norms, 0) << "image " << image;
      } else {
        EXPECT_EQ(norms, 0) << "image " << image;
      }
    }
  }
}

TEST_P(FiloPlusPlus, BoxesPickThePositionsAndSuppressTheRest) {
  // Guards equation 4's suppression, and prompts at the boxes' positions only.
  ImageBatch images = batch({"metal_nut"});
  images.boxes = {{{0, 0, 0.5f, 0.5f, 1, {}}}};
  TestingOptions options;
  options.gaussian_sigma = 0;
  ModelSettings changed = settings();
  changed.boxes.suppression = 1;
  const auto whole = system(changed)->test_forward(images, options).map[0];
  changed.boxes.suppression = 0.5;
  const auto output = system(changed)->test_forward(images, options);
  EXPECT_TRUE(torch::equal(output.map[0].narrow(0, 0, 21).narrow(1, 0, 21), whole.narrow(0, 0, 21).narrow(1, 0, 21)));
  EXPECT_TRUE(torch::allclose(output.map[0].narrow(0, 21, 21), whole.narrow(0, 21, 21) * 0.5));
  for (const auto& match : output.prompts[0]) EXPECT_EQ(match.prompt.position, match.prompt.abnormal ? 0 : -1);
}

TEST_P(FiloPlusPlus, CutsBoxesAtTheEdges) {
  // Guards a detector's boxes that lie over an edge: their part in the image counts, and nothing of the rest.
  ModelSettings settings_here = settings();
  settings_here.boxes.suppression = 0.5;
  const auto made = system(settings_here);
  const auto output = [&](const std::vector<Box>& boxes) {
    ImageBatch images = batch({"metal_nut"});
    images.boxes = {boxes};
    return made->test_forward(images);
  };
  const auto cut = output({{0.6f, 0, 1, 0.5f, 1, {}}});
  const auto over = output({{0.6f, -0.9f, 1.8f, 0.5f, 1, {}}});
  EXPECT_TRUE(torch::equal(over.map, cut.map));
  EXPECT_TRUE(torch::equal(over.text_abnormal, cut.text_abnormal));
  EXPECT_TRUE(torch::equal(output({{1.1f, 0, 1.5f, 1, 1, {}}}).map, output({}).map));
}

TEST_P(FiloPlusPlus, AnImageThatIsItsOwnMemoryAddsNoDistance) {
  // Guards equations 5 to 7: M = M^vl / 2 then.
  const auto made = system();
  const ImageBatch images = batch({"metal_nut"});
  FewShotMemory memory;
  memory.add("metal_nut", images.qkv);
  TestingOptions options;
  const auto without = made->test_forward(images).map;
  options.memory = &memory;
  EXPECT_TRUE(torch::allclose(made->test_forward(images, options).map, without / 2, 0, 1e-5));
  options.memory = nullptr;
  FewShotMemory other;
  other.add("pcb1", images.qkv);
  options.memory = &other;
  EXPECT_THAT(error_of([&] { made->test_forward(images, options); }), HasSubstr("metal_nut"));
}

TEST_P(FiloPlusPlus, RanksDescriptionsByTheirNearestPrompt) {
  // Guards the answer to "which anomaly".
  const auto output = system()->test_forward(batch());
  const auto ranked = rank_descriptions(output.prompts[0]);
  ASSERT_EQ(ranked.size(), 3u);
  double best = -1;
  for (const auto& match : output.prompts[0]) best = match.prompt.abnormal ? std::max(best, match.similarity) : best;
  EXPECT_EQ(ranked[0].similarity, best);
  EXPECT_GE(ranked[1].similarity, ranked[2].similarity);
  EXPECT_EQ(ranked[0].position, "center");
}

class FiloRelease : public EverySystem {};
INSTANTIATE_TEST_SUITE_P(Profiles, FiloRelease, ::testing::Values(Profile::filo_release),
                         [](const auto&) { return "filo_release"; });

TEST_P(FiloRelease, ReadsPositionsAsFiloDoes) {
  // Guards the best box (the last of equals at two decimals), whole-pixel thirds with gaps, and the centre without a
  // box.
  const auto positions = [&](const std::vector<Box>& boxes) {
    ImageBatch images = batch({"pcb1"});
    images.boxes = {boxes};
    std::set<int> found;
    const auto output = system()->test_forward(images);
    for (const auto& match : output.prompts[0]) found.insert(match.prompt.position);
    found.erase(-1);
    return found;
  };
  EXPECT_EQ(positions({}), (std::set<int>{4}));
  EXPECT_EQ(positions({{0, 0, 0.2f, 0.2f, 0.359f, {}}, {0.8f, 0.8f, 1, 1, 0.351f, {}}}), (std::set<int>{8}));
  EXPECT_EQ(positions({{0, 0, 0.2f, 0.2f, 0.36f, {}}, {0.8f, 0.8f, 1, 1, 0.351f, {}}}), (std::set<int>{0}));
  // Of 42 pixels the thirds are 0..14, 15..27 and 28..41: a centre at 14.5 is in none.
  EXPECT_EQ(positions({{0, 0, 29.0f / 42, 29.0f / 42, 0.5f, {}}}).size(), 9u);
}

TEST_P(FiloRelease, DropsBoxesWhosePhraseMatchesNothing) {
  // Guards the published test's choice of boxes: a description or a general word in the phrase, case told apart; a box
  // whose phrase is not told stays.
  const std::vector<std::string> phrases = {"bent edge", "Uneven texture"};
  const auto stays = [&](std::optional<std::string> phrase) {
    return !filo_release_matches({{0, 0, 0.2f, 0.2f, 0.5f, std::move(phrase)}}, phrases).empty();
  };
  EXPECT_TRUE(stays("a bent edge"));
  EXPECT_TRUE(stays("broken thing"));
  EXPECT_TRUE(stays("Uneven texture"));
  EXPECT_TRUE(stays(std::nullopt));
  EXPECT_FALSE(stays("uneven texture"));
  EXPECT_FALSE(stays("bent"));
  EXPECT_FALSE(stays(""));
}

TEST_P(FiloRelease, HasNoFixedTemplate) {
  // Guards that `fixed_template` belongs to the paper only.
  const auto output = system()->test_forward(batch());
  for (const auto& match : output.prompts[0]) EXPECT_EQ(match.prompt.family, PromptFamily::learnable);
}

TEST_P(FiloRelease, HasNoFewShotBranch) {
  // Guards against numbers that the published model cannot have.
  FewShotMemory memory;
  TestingOptions options;
  options.memory = &memory;
  EXPECT_THAT(error_of([&] { system()->test_forward(batch(), options); }), HasSubstr("shots"));
}

}  // namespace
}  // namespace filo
