// Guards data/datasets/layouts.hpp: every layout is read as published, and what is wrong with it is named by file and
// line.
#include "tests/unit/data/dataset_fixture.hpp"

namespace filo {
namespace {

using testing::HasSubstr;

using LayoutsTest = DatasetTest;

TEST_F(LayoutsTest, ReadsMvtecsLayout) {
  write_mvtec();
  text("bottle/license.txt", "not an image, not in an image folder");
  const Dataset dataset = scan_dataset(root_, {});
  EXPECT_EQ(dataset.format, DatasetFormat::mvtec);
  ASSERT_EQ(dataset.images.size(), 3u);
  EXPECT_EQ(dataset.classes.at("bottle").train, 1);
  EXPECT_EQ(dataset.classes.at("bottle").test, 2);
  EXPECT_EQ(dataset.classes.at("bottle").anomalous, 1);
  const DatasetImage& broken = dataset.images[0];
  EXPECT_EQ(broken.path, "bottle/test/broken/000.png");
  EXPECT_EQ(broken.mask, "bottle/ground_truth/broken/000_mask.png");
  EXPECT_EQ(broken.defect, "broken");
  EXPECT_EQ(broken.label, 1);
  EXPECT_EQ(broken.width, 8);
  EXPECT_EQ(broken.sha256.size(), 64u);
}

TEST_F(LayoutsTest, ImagesAndMasksOfMvtecsLayoutMayBeOfAnyFormat) {
  write_mvtec();
  image("bottle/test/broken/001.TIF", 5);
  image("bottle/ground_truth/broken/001_mask.tif", 255);
  EXPECT_EQ(scan_dataset(root_, {}).images[1].mask, "bottle/ground_truth/broken/001_mask.tif");
}

TEST_F(LayoutsTest, ReadsVisasLayout) {
  image("candle/Data/Images/Normal/0000.JPG");
  image("candle/Data/Images/Anomaly/000.JPG", 8);
  image("candle/Data/Masks/Anomaly/000.png", 1);
  text("split_csv/1cls.csv",
       "\xef\xbb\xbfobject,split,label,image,mask\r\n"
       "candle,train,normal,candle/Data/Images/Normal/0000.JPG,\r\n"
       "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\r\n");
  const Dataset dataset = scan_dataset(root_, {});
  EXPECT_EQ(dataset.format, DatasetFormat::visa);
  ASSERT_EQ(dataset.images.size(), 2u);
  EXPECT_EQ(dataset.images[0].mask, "candle/Data/Masks/Anomaly/000.png");
  EXPECT_EQ(dataset.images[1].split, "train");
}

TEST_F(LayoutsTest, VisaListsEveryUnusableLineWithItsNumber) {
  image("a.png");
  text("split_csv/1cls.csv",
       "object,split,label,image,mask\n"
       "candle,train,normal,a.png\n"
       "candle,valid,normal,a.png,\n"
       "candle,test,odd,a.png,\n"
       "candle,test,anomaly,a.png,absent_mask.png\n"
       "candle,test,normal,absent.png,\n"
       "candle,test,normal,../a.png,\n"
       "candle,test,\"normal,a.png,\n");
  EXPECT_THAT(problems_of(),
              testing::ElementsAre(HasSubstr("1cls.csv:2: has 4 fields, expected 5"),
                                   HasSubstr("1cls.csv:3: split is 'valid'"), HasSubstr("1cls.csv:4: label is 'odd'"),
                                   HasSubstr("1cls.csv:5: mask absent_mask.png is missing"),
                                   HasSubstr("1cls.csv:6: image absent.png is missing"),
                                   HasSubstr("1cls.csv:7: image: the path leads outside"),
                                   HasSubstr("1cls.csv:8: a quote is not closed")));
  text("split_csv/1cls.csv", "object,split,image,mask\n");
  EXPECT_THAT(problems_of(), testing::ElementsAre(HasSubstr("1cls.csv:1: has no column 'label'")));
}

TEST_F(LayoutsTest, MetaJsonGivesTheSameDigestAsTheLayoutItDescribes) {
  write_mvtec();
  const std::string digest = scan_dataset(root_, {.format = DatasetFormat::mvtec}).digest;
  const auto entry = [](const std::string& image, const std::string& mask, const std::string& specie, int anomaly) {
    return Json{{"img_path", image},
                {"mask_path", mask},
                {"cls_name", "bottle"},
                {"specie_name", specie},
                {"anomaly", anomaly}};
  };
  const Json meta = {
      {"train", {{"bottle", {entry("bottle/train/good/000.png", "", "", 0)}}}},
      {"test",
       {{"bottle",
         {entry("bottle/test/good/000.png", "", "good", 0),
          entry("bottle/test/broken/000.png", "bottle/ground_truth/broken/000_mask.png", "broken", 1)}}}}};
  text("meta.json", meta.dump());
  const Dataset dataset = scan_dataset(root_, {});
  EXPECT_EQ(dataset.format, DatasetFormat::meta);
  EXPECT_EQ(dataset.digest, digest);
}

TEST_F(LayoutsTest, MetaJsonProblemsNameTheKey) {
  image("a.png");
  text(
      "meta.json",
      R"({"test": {"nut": [{"img_path": "a.png"}, {"anomaly": 0}, {"img_path": "a.png", "anomaly": 0, "cls_name": "bolt"}, 5]},
                        "valid": {}})");
  EXPECT_THAT(problems_of(),
              testing::ElementsAre(HasSubstr("meta.json: test.nut[0].anomaly"), HasSubstr("test.nut[1].img_path"),
                                   HasSubstr("test.nut[2].cls_name: is 'bolt'"), HasSubstr("test.nut[3].img_path"),
                                   HasSubstr("meta.json: valid")));
}

// The same images as a folder and as a table, of either kind, are the same data set.
TEST_F(LayoutsTest, ReadsTables) {
  image("cup/good/a.png", 1);
  image("cup/train/b.png", 2);
  image("cup/chipped/c, \"old\".png", 3);
  image("cup/masks/chipped/c, \"old\".png", 255);
  const std::string digest = scan_dataset(root_, {}).digest;
  text("list.csv",
       "\xef\xbb\xbfid,image,label,mask,class,split,defect\r\n"
       "1,cup/good/a.png,Normal,,cup,test,\r\n"
       "2,cup/train/b.png,0,,cup,train,\r\n\r\n"
       "3,\"cup/chipped/c, \"\"old\"\".png\",1,\"cup/masks/chipped/c, \"\"old\"\".png\",cup,,chipped\r\n");
  const Dataset table = scan_dataset(root_, {.format = DatasetFormat::table});
  EXPECT_EQ(table.format, DatasetFormat::table);
  EXPECT_EQ(table.digest, digest);
  EXPECT_EQ(table.images[0].defect, "chipped");
  EXPECT_EQ(scan_dataset(root_, {}).format, DatasetFormat::folder);  // a table is taken only where it is asked for

  std::ofstream(folder_ / "list.jsonl")
      << R"({"image": "cup/good/a.png", "label": 0, "class": "cup", "mask": null, "id": [7]})"
      << "\n\n"
      << R"({"image": "cup/train/b.png", "label": "good", "class": "cup", "split": "train"})"
      << "\n"
      << R"({"image": "cup/chipped/c, \"old\".png", "label": "anomaly", "class": "cup", "defect": "chipped",)"
      << R"("mask": "cup/masks/chipped/c, \"old\".png"})";
  EXPECT_EQ(scan_dataset(root_, {.table = folder_ / "list.jsonl"}).digest, digest);
  EXPECT_THROW(scan_dataset(root_, {.format = DatasetFormat::visa, .table = folder_ / "list.jsonl"}), UsageError);
}

TEST_F(LayoutsTest, TablesNeedNoMoreThanImagesAndLabels) {
  image("a.png", 1);
  image("b.png", 2);
  text("list.csv", "image,label\na.png,ok\nb.png,nok\n");
  const Dataset dataset = scan_dataset(root_, {.format = DatasetFormat::table});
  ASSERT_EQ(dataset.images.size(), 2u);
  EXPECT_EQ(dataset.images[1].class_name, "object");
  EXPECT_EQ(dataset.images[1].split, "test");
  EXPECT_EQ(dataset.images[1].defect, "anomaly");
  EXPECT_EQ(dataset.classes.at("object").unmasked, 1);
}

TEST_F(LayoutsTest, TablesListEveryUnusableLineWithItsNumber) {
  image("a.png");
  const ScanOptions options = {.format = DatasetFormat::table};
  EXPECT_THAT(problems_of(options), testing::ElementsAre(HasSubstr("holds no table")));
  text("list.csv",
       "image,label,mask,split,defect\n"
       "a.png,0\n"
       "absent.png,0,,,\n"
       "../a.png,0,,,\n"
       "a.png,maybe,,,\n"
       "a.png,1,absent.png,,\n"
       "a.png,0,,valid,\n"
       "a.png,1,,,good\n"
       ",0,,,\n"
       "\"a.png,0,,,\n");
  EXPECT_THAT(
      problems_of(options),
      testing::ElementsAre(
          HasSubstr("list.csv:2: has 2 fields, expected 5"), HasSubstr("list.csv:3: image absent.png is missing"),
          HasSubstr("list.csv:4: image: the path leads outside"), HasSubstr("list.csv:5: label is 'maybe'"),
          HasSubstr("list.csv:6: mask absent.png is missing"), HasSubstr("list.csv:7: split is 'valid'"),
          HasSubstr("list.csv:8: defect is 'good'"), HasSubstr("list.csv:9: image: the path is empty"),
          HasSubstr("list.csv:10: a quote is not closed")));
  text("list.csv", "image,lable,mask,mask\na.png,0,,\n");
  EXPECT_THAT(problems_of(options),
              testing::ElementsAre(HasSubstr("list.csv:1: has no column 'label', expected image,label[,mask]"),
                                   HasSubstr("list.csv:1: has a column 'lable'"),
                                   HasSubstr("list.csv:1: has the column 'mask' twice")));
  text("list.jsonl", "");
  EXPECT_THAT(problems_of(options), testing::ElementsAre(HasSubstr("holds several tables (list.csv, list.jsonl)")));
  text("list.jsonl",
       "{\"image\": \"a.png\", \"label\": 0\n[]\n{\"image\": \"a.png\"}\n{\"image\": 7, \"label\": true}\n");
  EXPECT_THAT(problems_of({.table = root_ / "list.jsonl"}),
              testing::ElementsAre(HasSubstr("list.jsonl:1: is no JSON object"), HasSubstr("list.jsonl:2: is no JSON"),
                                   HasSubstr("list.jsonl:3: has no column 'label'"),
                                   HasSubstr("list.jsonl:4: label is neither text nor a whole number")));
  EXPECT_THAT(problems_of({.table = root_ / "absent.csv"}), testing::ElementsAre(HasSubstr("absent.csv: is no file")));
}

TEST_F(LayoutsTest, ReadsPlainFoldersWithMasksInEitherPlace) {
  image("cup/good/a.png");
  image("cup/train/b.png");
  image("cup/chipped/c.bmp", 9);
  image("masks/cup/chipped/c_mask.png", 255);
  image("cup/stained/d.png", 10);
  image("cup/masks/stained/d.png", 255);
  const Dataset dataset = scan_dataset(root_, {});
  EXPECT_EQ(dataset.format, DatasetFormat::folder);
  ASSERT_EQ(dataset.classes.size(), 1u);
  EXPECT_EQ(dataset.classes.at("cup").train, 1);
  EXPECT_EQ(dataset.classes.at("cup").test, 3);
  EXPECT_EQ(dataset.images[0].mask, "masks/cup/chipped/c_mask.png");
}

}  // namespace
}  // namespace filo
