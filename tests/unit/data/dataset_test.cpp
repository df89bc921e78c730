// Guards data/datasets/dataset.hpp: everything wrong is listed at once, nothing is half added.
#include "data/datasets/dataset.hpp"

#include "data/boxes.hpp"
#include "tests/unit/data/dataset_fixture.hpp"

namespace filo {
namespace {

using testing::HasSubstr;

TEST_F(DatasetTest, ListsEverythingThatIsWrongAtOnce) {
  write_mvtec();
  image("bottle/test/broken/001.png");  // no mask
  image("bottle/test/broken/002.png");
  image("bottle/ground_truth/broken/002_mask.png", 255, 9, 6);  // another size
  text("bottle/test/good/001.png", "no image");
  text("bottle/test/good/notes.txt", "no image either");
  image("bottle/ground_truth/broken/003_mask.png", 255);  // without an image
  fs::create_directories(root_ / "nut/train/good");       // no images
  const auto problems = problems_of({.format = DatasetFormat::mvtec});
  EXPECT_THAT(problems,
              testing::UnorderedElementsAre(
                  HasSubstr("bottle/test/broken/001.png: its mask is missing, expected "
                            "bottle/ground_truth/broken/001_mask.png"),
                  HasSubstr("bottle/ground_truth/broken/002_mask.png: is 9 x 6 pixels, expected its image's 8 x 6"),
                  HasSubstr("bottle/test/good/001.png: is not a PNG, JPEG, BMP or TIFF image"),
                  HasSubstr("bottle/test/good/notes.txt: is not an image"),
                  HasSubstr("bottle/ground_truth/broken/003_mask.png: is a mask without an image"),
                  HasSubstr("nut: holds no images")));
  EXPECT_THROW(add_dataset(folder_ / "workspace", "broken", root_, {.format = DatasetFormat::mvtec}), DatasetError);
  EXPECT_THAT(list_datasets(folder_ / "workspace"), testing::IsEmpty());
}

// What is wrong 60 times is one mistake: it must not bury the others.
TEST_F(DatasetTest, ManyProblemsOfOneKindAreToldOnceWithTheirNumber) {
  write_mvtec();
  for (int i = 100; i < 160; ++i) image("bottle/test/broken/" + std::to_string(i) + ".png");
  text("bottle/test/good/001.png", "no image");
  for (const char* size : {"9", "10", "11", "12"}) {
    image(std::string("bottle/test/broken/size") + size + ".png");
    image(std::string("bottle/ground_truth/broken/size") + size + "_mask.png", 255, std::stoi(size), 6);
  }
  EXPECT_EQ(
      message_of(),
      "dataset: " + root_.string() +
          ": 65 problems\n"
          "  60 times: the mask of a defect is missing\n"
          "    bottle/test/broken/100.png: its mask is missing, expected bottle/ground_truth/broken/100_mask.png\n"
          "    bottle/test/broken/101.png: its mask is missing, expected bottle/ground_truth/broken/101_mask.png\n"
          "    bottle/test/broken/102.png: its mask is missing, expected bottle/ground_truth/broken/102_mask.png\n"
          "    and 57 more\n"
          "  4 times: is ... x ... pixels, expected its image's ... x ...\n"
          "    bottle/ground_truth/broken/size10_mask.png: is 10 x 6 pixels, expected its image's 8 x 6\n"
          "    bottle/ground_truth/broken/size11_mask.png: is 11 x 6 pixels, expected its image's 8 x 6\n"
          "    bottle/ground_truth/broken/size12_mask.png: is 12 x 6 pixels, expected its image's 8 x 6\n"
          "    and 1 more\n"
          "  bottle/test/good/001.png: is not a PNG, JPEG, BMP or TIFF image\n"
          "with --masks optional, anomalous images without a mask are added too and count for image metrics only");
  try {
    scan_dataset(root_, {});
  } catch (const DatasetError& error) {
    EXPECT_EQ(error.problems().size(), 65u);
  }
}

TEST_F(DatasetTest, MasksAreNeededWhereAnyDefectHasOne) {
  image("cup/good/a.png");
  image("cup/chipped/b.png", 8);
  image("cup/chipped/c.png", 9);
  const Dataset labels = scan_dataset(root_, {});
  EXPECT_EQ(labels.classes.at("cup").anomalous, 2);
  EXPECT_EQ(labels.classes.at("cup").unmasked, 2);
  EXPECT_EQ(problems_of({.masks = MaskRule::required}).size(), 2u);

  image("cup/masks/chipped/c.png", 255);
  EXPECT_THAT(problems_of(), testing::ElementsAre("cup/chipped/b.png: its mask is missing, expected "
                                                  "cup/masks/chipped/b.png"));
  EXPECT_THAT(message_of(), HasSubstr("--masks optional"));
  EXPECT_EQ(scan_dataset(root_, {.masks = MaskRule::optional}).classes.at("cup").unmasked, 1);
  EXPECT_EQ(scan_dataset(root_, {.masks = MaskRule::none}).digest, labels.digest);
}

// The other layouts name masks: one that is named and not there is a mistake, whatever the rule, but for `none`.
TEST_F(DatasetTest, EveryLayoutTakesDefectsWithoutMasks) {
  write_mvtec();
  fs::remove_all(root_ / "bottle/ground_truth");
  const std::string digest = scan_dataset(root_, {}).digest;
  text("split_csv/1cls.csv",
       "object,split,label,image,mask\nbottle,train,normal,bottle/train/good/000.png,\n"
       "bottle,test,normal,bottle/test/good/000.png,\nbottle,test,anomaly,bottle/test/broken/000.png,\n");
  EXPECT_EQ(scan_dataset(root_, {}).digest, digest);
  EXPECT_THAT(problems_of({.masks = MaskRule::required}),
              testing::ElementsAre("split_csv/1cls.csv:4: the mask of bottle/test/broken/000.png is missing"));
  const auto meta = [&](const std::string& mask) {
    text("meta.json",
         R"({"train": {"bottle": [{"img_path": "bottle/train/good/000.png", "anomaly": 0}]}, "test": {"bottle":
      [{"img_path": "bottle/test/good/000.png", "anomaly": 0},
       {"img_path": "bottle/test/broken/000.png", "mask_path": ")" +
             mask + R"(", "anomaly": 1}]}})");
  };
  meta("");
  EXPECT_EQ(scan_dataset(root_, {}).format, DatasetFormat::meta);
  EXPECT_EQ(scan_dataset(root_, {}).digest, digest);
  meta("absent.png");
  EXPECT_THAT(problems_of({.masks = MaskRule::optional}),
              testing::ElementsAre("meta.json: test.bottle[1]: mask absent.png is missing"));
  EXPECT_EQ(scan_dataset(root_, {.masks = MaskRule::none}).digest, digest);
}

TEST_F(DatasetTest, MaskRulesAreNamed) {
  EXPECT_EQ(mask_rule_from("auto"), MaskRule::automatic);
  EXPECT_EQ(mask_rule_from("none"), MaskRule::none);
  EXPECT_THROW(mask_rule_from("some"), UsageError);
}

// Good images alone are enough for few-shot memories; that nothing can be tested with them is the plan's to say.
TEST_F(DatasetTest, GoodImagesAloneAreADataSet) {
  image("cup/train/a.png");
  EXPECT_EQ(scan_dataset(root_, {}).classes.at("cup").train, 1);
  image("cup/train/nested/b.png");
  EXPECT_THAT(problems_of(), testing::ElementsAre("cup/train/nested: is a folder, expected an image"));
  fs::remove_all(root_ / "cup");

  image("nut/train/good/a.png");
  const Dataset train = scan_dataset(root_, {});
  EXPECT_EQ(train.format, DatasetFormat::mvtec);
  EXPECT_EQ(train.classes.at("nut").train, 1);
  EXPECT_EQ(train.classes.at("nut").test, 0);
  fs::remove_all(root_ / "nut");

  image("bolt/test/good/a.png");
  const Dataset test = scan_dataset(root_, {});
  EXPECT_EQ(test.format, DatasetFormat::mvtec);
  EXPECT_EQ(test.classes.at("bolt").anomalous, 0);
}

TEST_F(DatasetTest, EmptyOrAbsentFoldersAreErrors) {
  EXPECT_EQ(problems_of().size(), 1u);
  EXPECT_THROW(scan_dataset(root_ / "absent", {}), UsageError);
}

TEST_F(DatasetTest, DigestDependsOnContentNotOnPlaceOrName) {
  write_mvtec();
  const std::string digest = scan_dataset(root_, {.format = DatasetFormat::mvtec}).digest;
  write_mvtec("moved/");
  EXPECT_EQ(scan_dataset(root_ / "moved", {.format = DatasetFormat::mvtec}).digest, digest);
  image("moved/bottle/ground_truth/broken/000_mask.png", 254);
  EXPECT_NE(scan_dataset(root_ / "moved", {.format = DatasetFormat::mvtec}).digest, digest);
}

TEST_F(DatasetTest, AddedDatasetsAreLoadedAsTheyWere) {
  write_mvtec();
  const fs::path workspace = folder_ / "workspace";
  const AddedDataset added = add_dataset(workspace, "demo", root_, {});
  EXPECT_FALSE(added.existed);
  EXPECT_EQ(to_json(load_dataset(workspace, "demo")), to_json(added.dataset));
  EXPECT_THAT(list_datasets(workspace), testing::ElementsAre("demo"));
  EXPECT_TRUE(add_dataset(workspace, "demo", root_, {}).existed);

  image("bottle/test/good/001.png", 50);
  EXPECT_THROW(add_dataset(workspace, "demo", root_, {}), UsageError);
  EXPECT_EQ(load_dataset(workspace, "demo").digest, added.dataset.digest);
}

TEST_F(DatasetTest, DefectsWithoutMasksAreLoadedAsTheyWere) {
  image("cup/good/a.png");
  image("cup/chipped/b.png", 8);
  const fs::path workspace = folder_ / "workspace";
  const AddedDataset added = add_dataset(workspace, "demo", root_, {});
  const Dataset loaded = load_dataset(workspace, "demo");
  EXPECT_EQ(to_json(loaded), to_json(added.dataset));
  EXPECT_EQ(loaded.images[0].mask, std::nullopt);
  EXPECT_EQ(to_json(loaded)["classes"]["cup"]["unmasked"], 1);
  EXPECT_TRUE(add_dataset(workspace, "demo", root_, {}).existed);
  EXPECT_THAT(verify_dataset(loaded), testing::IsEmpty());
}

// What older versions wrote: the digest is over the same content, so features and results stay good.
TEST_F(DatasetTest, DigestOfAMaskedDataSetIsAsItAlwaysWas) {
  DatasetImage good, bad;
  good.path = "a.png";
  bad.path = "b.png";
  good.class_name = bad.class_name = "cup";
  good.split = bad.split = "test";
  good.sha256 = "11";
  bad.sha256 = "22";
  bad.label = 1;
  bad.mask_sha256 = "33";
  EXPECT_EQ(dataset_digest({good, bad}), "ae9e6e290c9b7199a04ce1e80a968a1bb0b3752d0e62e698458f162aa14faf77");
}

// Guards features of other numbers under the same key: the range is part of what the data set is.
TEST_F(DatasetTest, TheRangeOfGreyIsPartOfTheDataSet) {
  image("cup/good/a.png");
  const ScanOptions ranged = {.grey16 = Grey16Range{.low = 0, .high = 4095}};
  EXPECT_THAT(problems_of(ranged), testing::ElementsAre(HasSubstr("holds no image of 16-bit grey")));
  // A grey TIFF of one pixel and 16 bits.
  text("cup/good/b.tif", std::string("II*\0\x08\0\0\0\x08\0"
                                     "\0\x01\x04\0\x01\0\0\0\x01\0\0\0\x01\x01\x04\0\x01\0\0\0\x01\0\0\0"
                                     "\x02\x01\x03\0\x01\0\0\0\x10\0\0\0\x03\x01\x03\0\x01\0\0\0\x01\0\0\0"
                                     "\x06\x01\x03\0\x01\0\0\0\x01\0\0\0\x11\x01\x04\0\x01\0\0\0\x6e\0\0\0"
                                     "\x16\x01\x04\0\x01\0\0\0\x01\0\0\0\x17\x01\x04\0\x01\0\0\0\x02\0\0\0"
                                     "\0\0\0\0\xff\x0f",
                                     112));
  EXPECT_EQ(decode_image(root_ / "cup/good/b.tif").pixels[0], 15);
  EXPECT_EQ(decode_image(root_ / "cup/good/b.tif", ranged.grey16).pixels[0], 255);

  const fs::path workspace = folder_ / "workspace";
  const Dataset plain = add_dataset(workspace, "plain", root_, {}).dataset;
  EXPECT_EQ(plain.digest, dataset_digest(plain.images));
  EXPECT_FALSE(to_json(plain).contains("grey16"));
  const Dataset dataset = add_dataset(workspace, "ranged", root_, ranged).dataset;
  EXPECT_NE(dataset.digest, plain.digest);
  EXPECT_EQ(load_dataset(workspace, "ranged").grey16, ranged.grey16);
  EXPECT_THROW(add_dataset(workspace, "ranged", root_, {}), UsageError);

  Json changed = to_json(dataset);
  changed["grey16"] = {0, 4094};
  EXPECT_THROW(dataset_from_json(changed, "ranged.json"), Error);
  for (const Json& bad : {Json{4095, 0}, Json{0}, Json("0:4095"), Json{-1, 5}, Json{0, 65536}}) {
    changed["grey16"] = bad;
    try {
      dataset_from_json(changed, "ranged.json");
      ADD_FAILURE() << bad;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("ranged.json: grey16: is "));
    }
  }
}

TEST_F(DatasetTest, NamesThatAreNoFileNamesAreRefused) {
  write_mvtec();
  for (const char* name : {"", "a/b", "..", ".hidden", "a b", "\xc3\xa4"})
    EXPECT_THROW(add_dataset(folder_ / "workspace", name, root_, {.format = DatasetFormat::mvtec}), UsageError) << name;
}

TEST_F(DatasetTest, UnknownDatasetNamesTheNearest) {
  write_mvtec();
  add_dataset(folder_ / "workspace", "generated", root_, {.format = DatasetFormat::mvtec});
  try {
    load_dataset(folder_ / "workspace", "generatd");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean generated"));
  }
}

TEST_F(DatasetTest, ARemovedDataSetLeavesItsImages) {
  write_mvtec();
  const fs::path workspace = folder_ / "workspace";
  const std::string digest = add_dataset(workspace, "demo", root_, {}).dataset.digest;
  EXPECT_THROW(remove_dataset(workspace, "dmeo"), UsageError);
  remove_dataset(workspace, "demo");
  EXPECT_THAT(list_datasets(workspace), testing::IsEmpty());
  EXPECT_THROW(remove_dataset(workspace, "demo"), UsageError);
  EXPECT_EQ(add_dataset(workspace, "demo", root_, {}).dataset.digest, digest);
}

TEST_F(DatasetTest, AChangedDescriptionIsRefused) {
  write_mvtec();
  const Json good =
      to_json(add_dataset(folder_ / "workspace", "demo", root_, {.format = DatasetFormat::mvtec}).dataset);
  const auto message = [](const Json& json) -> std::string {
    try {
      dataset_from_json(json, "demo.json");
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message(good), "accepted");
  Json changed = good;
  changed["images"][0]["label"] = 0;
  EXPECT_THAT(message(changed), HasSubstr("demo.json: digest"));
  changed = good;
  changed["images"][1]["path"] = "../../etc/passwd";
  EXPECT_THAT(message(changed), HasSubstr("images[1]: path"));
  changed = good;
  changed["images"][1]["width"] = "8";
  EXPECT_THAT(message(changed), HasSubstr("images[1]: width"));
  changed = good;
  changed.erase("root");
  EXPECT_THAT(message(changed), HasSubstr("root: is missing"));
  EXPECT_THAT(message(Json::array()), HasSubstr("is not an object"));
}

TEST_F(DatasetTest, VerifyListsEveryFileThatChanged) {
  write_mvtec();
  const Dataset dataset = scan_dataset(root_, {.format = DatasetFormat::mvtec});
  EXPECT_THAT(verify_dataset(dataset), testing::IsEmpty());
  image("bottle/test/good/000.png", 99);
  fs::remove(root_ / "bottle/train/good/000.png");
  text("bottle/ground_truth/broken/000_mask.png", "broken");
  std::vector<std::string> found;
  for (const DatasetProblem& problem : verify_dataset(dataset)) found.push_back(problem.path + ": " + problem.reason);
  EXPECT_THAT(found, testing::UnorderedElementsAre(
                         HasSubstr("test/good/000.png: has changed"), HasSubstr("train/good/000.png: no such file"),
                         HasSubstr("000_mask.png: has changed"), HasSubstr("000_mask.png: is not a PNG")));
}

TEST(BoxesTest, PositionIsTheRegionOfTheCentre) {
  EXPECT_EQ(position_name(position_of({0, 0, 0.2f, 0.2f, 1, ""})), "top left");
  EXPECT_EQ(position_name(position_of({0.4f, 0.4f, 0.6f, 0.6f, 1, ""})), "center");
  EXPECT_EQ(position_name(position_of({0.9f, 0.9f, 1, 1, 1, ""})), "bottom right");
  EXPECT_EQ(position_name(position_of({0.7f, 0.3f, 1, 0.5f, 1, ""})), "right");
  EXPECT_EQ(position_name(position_of({0, 0, 1, 1, 1, ""})), "center");
}

// Guards a detector's boxes over the edges.
TEST(BoxesTest, AreCutToTheImage) {
  const auto cut =
      cut_to_image({{-0.2f, 0.5f, 0.5f, 1.5f, 0.5f}, {-0.5f, 0, -0.1f, 1, 0.5f}, {0.1f, 0.2f, 0.3f, 0.4f, 1}});
  ASSERT_EQ(cut.size(), 2u);
  EXPECT_EQ(cut[0].x0, 0);
  EXPECT_EQ(cut[0].y1, 1);
  EXPECT_EQ(cut[0].x1, 0.5f);
  EXPECT_EQ(cut[1].x0, 0.1f);
}

TEST(BoxesTest, FileIsReadBackAndBadBoxesNameTheirIndex) {
  const Json good =
      Json::parse(R"({"a.png": [{"box": [0.1, 0.2, 0.3, 0.4], "score": 0.5, "phrase": "crack"}], "b.png": []})");
  const auto boxes = boxes_from_json(good, "boxes.json");
  EXPECT_EQ(boxes.at("a.png")[0].phrase, "crack");
  EXPECT_EQ(boxes_from_json(to_json(boxes), "again").size(), 2u);
  // What is not told is not the empty text.
  const auto phrase = [](const char* more) {
    const Json list = Json::parse(R"([{"box": [0.1, 0.2, 0.3, 0.4], "score": 0.5)" + std::string(more) + "}]");
    return boxes_from_json(to_json(boxes_from_json({{"a.png", list}}, "boxes.json")), "again").at("a.png")[0].phrase;
  };
  EXPECT_EQ(phrase(""), std::nullopt);
  EXPECT_EQ(phrase(R"(, "phrase": "")"), "");
  for (const char* bad : {R"([0.3, 0.2, 0.1, 0.4])", R"([10, 20, 130, 40])", R"([0.1, 0.2, 0.3])",
                          R"([0.1, null, 0.3, 0.4])", R"([-1.1, 0.2, 0.3, 0.4])", R"("box")"}) {
    Json json = good;
    json["a.png"].push_back({{"box", Json::parse(bad)}, {"score", 0.5}});
    try {
      boxes_from_json(json, "boxes.json");
      ADD_FAILURE() << bad;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("boxes.json: a.png[1]")) << bad;
    }
  }
}

// Guards finding the same photo in another file: its pixels have one digest; data sets without it are read.
TEST_F(DatasetTest, PixelsHaveADigestOfTheirOwn) {
  image("bottle/good/grey.png", 9);
  write_png(root_ / "bottle/good/colour.png", Image(8, 6, 3, 9));
  write_png(root_ / "bottle/good/turned.png", Image(6, 8, 3, 9));
  const Dataset dataset = scan_dataset(root_, {});
  ASSERT_EQ(dataset.images.size(), 3u);
  const auto& [colour, grey, turned] = std::tie(dataset.images[0], dataset.images[1], dataset.images[2]);
  EXPECT_NE(colour.sha256, grey.sha256);
  EXPECT_EQ(colour.pixels_sha256, grey.pixels_sha256);
  EXPECT_NE(colour.pixels_sha256, turned.pixels_sha256);
  Json json = to_json(dataset);
  EXPECT_EQ(dataset_from_json(json, "test").images[1].pixels_sha256, grey.pixels_sha256);
  json["images"][1].erase("pixels_sha256");
  EXPECT_EQ(dataset_from_json(json, "test").images[1].pixels_sha256, "");
}

}  // namespace
}  // namespace filo
