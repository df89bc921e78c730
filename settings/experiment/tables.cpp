#include "settings/experiment/tables.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "settings/experiment/experiment.hpp"
#include "settings/schema.hpp"

namespace filo {
namespace {

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// `side`: "rows" or "columns", whose `key` varies or is "".
void check_side(const SourceValue& table, const std::string& shown, const std::string& side, const std::string& key,
                const VaryingValues& values, Problems& problems) {
  if (key.empty() || values.varies(key)) return;
  const SourceValue* place = table.find(side);
  problems.add(
      place == nullptr ? table : *place, shown + "." + side,
      "found " + in_quotes(key) + ", expected fold, name or the key of an axis" + did_you_mean(key, values.keys()));
}

// A row by its name alone: a point of `include:`, or a row that only the paper has.
TableRowSettings row_by_name(const SourceValue& written, const std::string& key, const Json& paper,
                             const VaryingValues& values, Problems& problems) {
  TableRowSettings row{.name = written.scalar, .where = {}, .note = ""};
  const auto names = values.labels("name");
  if (contains(names, row.name))
    row.where = Condition{.values = {{"name", row.name}}, .written = written};
  else if (!paper.is_object() || !paper.contains(row.name))
    problems.add(written, key,
                 "found " + in_quotes(row.name) +
                     ", expected the name of a point in `include:` or of a row in `paper:`" +
                     did_you_mean(row.name, names));
  return row;
}

// {name, where, note}; nothing after a complaint about its keys.
std::optional<TableRowSettings> row_by_condition(const SourceValue& written, const std::string& key,
                                                 const VaryingValues& values, Problems& problems) {
  const Schema schema = Schema::record({{"name", Schema::text(std::nullopt)},
                                        {"where", Schema::map(Schema::any(std::nullopt), Json())},
                                        {"note", Schema::text("")}});
  const Json entry = resolve(schema, written, key, problems);
  if (!entry.is_object() || !entry.contains("name")) return std::nullopt;
  TableRowSettings row{.name = entry.at("name"), .where = {}, .note = entry.at("note")};
  if (const SourceValue* where = written.find("where"); where != nullptr && !where->is_absent())
    row.where = read_condition(*where, key + ".where", values, problems);
  return row;
}

std::vector<TableRowSettings> read_named_rows(const SourceValue& written, const std::string& shown, const Json& paper,
                                              const VaryingValues& values, Problems& problems) {
  std::vector<TableRowSettings> rows;
  if (written.items.empty()) problems.add(written, shown, "found an empty list, expected at least one row");
  for (std::size_t i = 0; i < written.items.size(); ++i) {
    const SourceValue& item = written.items[i];
    const std::string key = shown + "[" + std::to_string(i) + "]";
    const std::optional<TableRowSettings> row = item.scalar.is_string()
                                                    ? row_by_name(item, key, paper, values, problems)
                                                    : row_by_condition(item, key, values, problems);
    if (!row) continue;
    for (const auto& other : rows)
      if (other.name == row->name)
        problems.add(item, key, "found the row " + in_quotes(row->name) + " twice, expected names that differ");
    rows.push_back(*row);
  }
  return rows;
}

// One value per metric; nothing after a complaint.
std::optional<std::vector<Json>> read_cell(const SourceValue& written, const std::string& shown, std::size_t metrics,
                                           Problems& problems) {
  const Json values = to_json(written);
  const bool sound =
      values.is_array() && values.size() == metrics && std::all_of(values.begin(), values.end(), [](const Json& value) {
        return value.is_null() || (value.is_number() && value >= 0 && value <= 100);
      });
  if (sound) return values.get<std::vector<Json>>();
  problems.add(written, shown,
               "found " + describe(written) + ", expected " + std::to_string(metrics) +
                   " values in per cent, one per metric (null: the paper has none)");
  return std::nullopt;
}

// Column -> values of one row of the paper; a table without columns has the column "".
std::map<std::string, std::vector<Json>> read_paper_row(const SourceValue& written, const std::string& shown,
                                                        const Table& table, const VaryingValues& values,
                                                        Problems& problems) {
  std::map<std::string, std::vector<Json>> cells;
  const auto add = [&](const std::string& column, const SourceValue& cell, const std::string& key) {
    if (auto read = read_cell(cell, key, table.metrics.size(), problems)) cells[column] = std::move(*read);
  };
  if (table.columns.empty()) {
    add("", written, shown);
    return cells;
  }
  if (written.kind != SourceValue::Kind::map) {
    problems.add(written, shown, "found " + describe(written) + ", expected {COLUMN: [a value per metric]}");
    return cells;
  }
  const auto columns = values.labels(table.columns);
  for (const auto& column : written.fields) {
    const std::string key = shown + "." + column.name;
    if (!contains(columns, column.name))
      problems.add(column.place(), key,
                   "found no such column, expected one of the table's" + did_you_mean(column.name, columns));
    add(column.name, column.value, key);
  }
  return cells;
}

decltype(Table::paper) read_paper(const SourceValue& written, const std::string& shown, const Table& table,
                                  const VaryingValues& values, Problems& problems) {
  decltype(Table::paper) paper;
  if (written.kind != SourceValue::Kind::map) {
    problems.add(written, shown, "found " + describe(written) + ", expected {ROW: {COLUMN: [a value per metric]}}");
    return paper;
  }
  std::vector<std::string> rows = values.labels(table.rows);
  for (const auto& row : table.named_rows) rows.push_back(row.name);
  for (const auto& row : written.fields) {
    const std::string key = shown + "." + row.name;
    if (!contains(rows, row.name))
      problems.add(row.place(), key, "found no such row, expected one of the table's" + did_you_mean(row.name, rows));
    auto cells = read_paper_row(row.value, key, table, values, problems);
    if (!cells.empty()) paper[row.name] = std::move(cells);
  }
  return paper;
}

void read_rows(const SourceValue& written, const std::string& shown, const Json& entry, const VaryingValues& values,
               Table& table, Problems& problems) {
  const Json& rows = entry.at("rows");
  if (rows.is_array()) {
    table.named_rows = read_named_rows(*written.find("rows"), shown + ".rows", entry.at("paper"), values, problems);
  } else if (rows.is_string()) {
    table.rows = rows;
    check_side(written, shown, "rows", table.rows, values, problems);
    if (table.rows == table.columns)
      problems.add(written, shown, "found the same rows and columns, expected two different ones");
  } else {
    const SourceValue& place = *written.find("rows");
    problems.add(place, shown + ".rows",
                 "found " + describe(place) + ", expected fold, the key of an axis or a list of rows");
  }
}

Table read_table(const SourceValue& written, const std::string& shown, const Json& entry, const VaryingValues& values,
                 Problems& problems) {
  Table table{.experiment = "",
              .title = entry.at("title"),
              .rows = "",
              .named_rows = {},
              .columns = entry.at("columns"),
              .metrics = entry.at("metrics"),
              .paper = {},
              .note = entry.at("note"),
              .experiment_note = ""};
  check_side(written, shown, "columns", table.columns, values, problems);
  read_rows(written, shown, entry, values, table, problems);
  if (const SourceValue* paper = written.find("paper"); paper != nullptr && !paper->is_absent())
    table.paper = read_paper(*paper, shown + ".paper", table, values, problems);
  return table;
}

}  // namespace

std::vector<Table> read_tables(const SourceValue& experiment, const Json& resolved, const VaryingValues& values,
                               Problems& problems) {
  std::vector<Table> tables;
  const Json& entries = resolved.at("tables");
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const SourceValue& written = experiment.find("tables")->items[i];
    Table table = read_table(written, "tables[" + std::to_string(i) + "]", entries[i], values, problems);
    table.experiment = resolved.at("name");
    table.experiment_note = resolved.at("note");
    tables.push_back(std::move(table));
  }
  return tables;
}

Json to_json(const Table& table) {
  Json json = {{"experiment", table.experiment},
               {"title", table.title},
               {"rows", table.rows},
               {"columns", table.columns},
               {"metrics", table.metrics},
               {"note", table.note},
               {"experiment_note", table.experiment_note}};
  if (!table.named_rows.empty()) json["rows"] = Json::array();
  for (const auto& row : table.named_rows) {
    Json entry = {{"name", row.name}, {"note", row.note}};
    if (row.where) entry["where"] = row.where->values;
    json["rows"].push_back(entry);
  }
  json["paper"] = Json::object();
  for (const auto& [row, columns] : table.paper) {
    if (table.columns.empty())
      json["paper"][row] = columns.begin()->second;
    else
      json["paper"][row] = columns;
  }
  return json;
}

Table table_from_json(const Json& json) {
  Table table{.experiment = json.at("experiment"),
              .title = json.at("title"),
              .rows = "",
              .named_rows = {},
              .columns = json.at("columns"),
              .metrics = json.at("metrics"),
              .paper = {},
              .note = json.at("note"),
              .experiment_note = json.at("experiment_note")};
  if (json.at("rows").is_string()) table.rows = json.at("rows");
  if (json.at("rows").is_array())
    for (const auto& entry : json.at("rows")) {
      TableRowSettings row{.name = entry.at("name"), .where = {}, .note = entry.at("note")};
      if (entry.contains("where"))
        row.where = Condition{.values = entry.at("where").get<std::map<std::string, Json>>()};
      table.named_rows.push_back(std::move(row));
    }
  for (const auto& [row, columns] : json.at("paper").items()) {
    if (columns.is_array()) {
      table.paper[row][""] = columns.get<std::vector<Json>>();
      continue;
    }
    for (const auto& [column, values] : columns.items()) table.paper[row][column] = values.get<std::vector<Json>>();
  }
  return table;
}

}  // namespace filo
