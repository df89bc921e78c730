#include "model/unpickler.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <set>
#include <utility>
#include <variant>

#include "base/error.hpp"

namespace filo {
namespace {

constexpr std::size_t largest_memo = 1 << 24;

enum class Global { ordered_dict, rebuild_tensor, rebuild_parameter };

struct None {};
struct Mark {};
struct StorageType {
  std::string name;
};
struct Storage {
  std::string type, key;
  std::int64_t elements;
};
struct Object {  // a container, by its place in the arena: references may go in circles, ownership does not
  std::size_t index;
};

using Value = std::variant<None, Mark, bool, std::int64_t, double, std::string, Global, StorageType, Storage,
                           PickledTensor, Object>;

struct Container {
  enum class Kind { tuple, list, dictionary } kind;
  std::vector<Value> items;  // of a dictionary: key, value, key, value, ...
};

class Machine {
 public:
  Machine(std::string_view program, const std::string& where) : program_(program), where_(where) {}

  // Runs to the end; the value that is left.
  Value run() {
    for (;;) {
      const auto opcode = static_cast<unsigned char>(take(1)[0]);
      if (opcode == '.') return pop();
      step(opcode);
    }
  }

  const Container& container(const Value& value, Container::Kind kind, const char* what) const {
    const Object* object = std::get_if<Object>(&value);
    if (object == nullptr || arena_[object->index].kind != kind) fail("expected ", what);
    return arena_[object->index];
  }

  bool is_dictionary(const Value& value) const {
    const Object* object = std::get_if<Object>(&value);
    return object != nullptr && arena_[object->index].kind == Container::Kind::dictionary;
  }

  [[noreturn]] void fail(std::string_view problem, std::string_view rest = "") const {
    std::string message = "not a state dict: ";
    message.append(problem).append(rest).append(" (pickle, byte ").append(std::to_string(position_)).append(")");
    throw UsageError(where_, message);
  }

 private:
  std::string_view take(std::size_t count) {
    if (count > program_.size() - position_) fail("the pickle is cut short");
    const std::string_view bytes = program_.substr(position_, count);
    position_ += count;
    return bytes;
  }

  template <typename Number>
  Number number() {
    Number value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::string_view line() {
    const std::size_t end = program_.find('\n', position_);
    if (end == std::string_view::npos) fail("the pickle is cut short");
    const std::string_view text = take(end - position_);
    take(1);
    return text;
  }

  void push(Value value) { stack_.push_back(std::move(value)); }

  Value pop() {
    if (stack_.empty()) fail("the stack is empty");
    Value value = std::move(stack_.back());
    stack_.pop_back();
    return value;
  }

  // What was pushed since the last mark, which goes too.
  std::vector<Value> pop_to_mark() {
    const auto mark = std::find_if(stack_.rbegin(), stack_.rend(),
                                   [](const Value& value) { return std::holds_alternative<Mark>(value); });
    if (mark == stack_.rend()) fail("there is no mark");
    std::vector<Value> values(mark.base(), stack_.end());
    stack_.erase(mark.base() - 1, stack_.end());
    return values;
  }

  std::vector<Value> pop_many(std::size_t count) {
    std::vector<Value> values(count);
    for (std::size_t i = count; i > 0; --i) values[i - 1] = pop();
    return values;
  }

  void push_container(Container::Kind kind, std::vector<Value> items = {}) {
    arena_.push_back({kind, std::move(items)});
    push(Object{arena_.size() - 1});
  }

  void extend_top(Container::Kind kind, std::vector<Value> items, const char* what) {
    if (stack_.empty()) fail("the stack is empty");
    if (kind == Container::Kind::dictionary && items.size() % 2 != 0) fail("a dictionary's key has no value");
    const Object* object = std::get_if<Object>(&stack_.back());
    if (object == nullptr || arena_[object->index].kind != kind) fail("expected ", what);
    auto& target = arena_[object->index].items;
    std::ranges::move(items, std::back_inserter(target));
  }

  void remember(std::size_t key) {
    if (stack_.empty()) fail("the stack is empty");
    if (key >= largest_memo) fail("the memo is too large");
    memo_[key] = stack_.back();
  }

  void recall(std::size_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) fail("there is nothing in the memo at ", std::to_string(key));
    push(found->second);
  }

  std::string string(const Value& value, const char* what) const {
    const std::string* text = std::get_if<std::string>(&value);
    if (text == nullptr) fail(what, " is not a string");
    return *text;
  }

  std::int64_t size(const Value& value, const char* what) const {
    const std::int64_t* count = std::get_if<std::int64_t>(&value);
    if (count == nullptr || *count < 0) fail(what, " is not a whole number >= 0");
    return *count;
  }

  std::vector<std::int64_t> sizes(const Value& value, const char* what) const {
    std::vector<std::int64_t> result;
    for (const Value& item : container(value, Container::Kind::tuple, what).items) result.push_back(size(item, what));
    return result;
  }

  void push_global(std::string_view module, std::string_view name) {
    static constexpr std::string_view storage = "Storage";
    if (module == "collections" && name == "OrderedDict") return push(Global::ordered_dict);
    if (module == "torch._utils" && name == "_rebuild_tensor_v2") return push(Global::rebuild_tensor);
    if (module == "torch._utils" && name == "_rebuild_parameter") return push(Global::rebuild_parameter);
    if (module == "torch" && name.ends_with(storage)) return push(StorageType{std::string(name)});
    throw UsageError(where_, "its pickle asks for " + std::string(module) + "." + std::string(name) +
                                 ", which no state dict needs: refused, nothing was run");
  }

  // ("storage", type, key, device, elements)
  void push_storage() {
    const Value identity = pop();
    const auto& items = container(identity, Container::Kind::tuple, "a storage's tuple").items;
    if (items.size() != 5 || string(items[0], "a storage's kind") != "storage")
      fail("expected a storage of five parts");
    const StorageType* type = std::get_if<StorageType>(&items[1]);
    if (type == nullptr) fail("a storage's type is not one");
    push(Storage{type->name, string(items[2], "a storage's key"), size(items[4], "a storage's size")});
  }

  void reduce() {
    const Value arguments = pop();
    const Value callee = pop();
    const auto items = container(arguments, Container::Kind::tuple, "arguments").items;
    const Global* global = std::get_if<Global>(&callee);
    if (global == nullptr) fail("a call of something that cannot be called");
    switch (*global) {
      case Global::ordered_dict:
        if (!items.empty()) fail("an OrderedDict with arguments");
        return push_container(Container::Kind::dictionary);
      case Global::rebuild_parameter:
        if (items.empty() || !std::holds_alternative<PickledTensor>(items[0])) fail("a parameter without a tensor");
        return push(items[0]);
      case Global::rebuild_tensor:
        return push(tensor(items));
    }
  }

  // (storage, offset, shape, strides, requires_grad, hooks[, metadata])
  PickledTensor tensor(const std::vector<Value>& items) const {
    const Storage* storage = items.size() < 6 ? nullptr : std::get_if<Storage>(&items[0]);
    if (storage == nullptr) fail("a tensor without a storage");
    PickledTensor tensor{storage->type,
                         storage->key,
                         storage->elements,
                         size(items[1], "a tensor's offset"),
                         sizes(items[2], "a tensor's shape"),
                         sizes(items[3], "a tensor's strides")};
    if (tensor.shape.size() != tensor.strides.size()) fail("a tensor's shape and strides differ in length");
    return tensor;
  }

  // Little-endian two's complement of any length that fits.
  void push_long(std::size_t bytes) {
    if (bytes > sizeof(std::int64_t)) fail("a number does not fit into 64 bits");
    const std::string_view digits = take(bytes);
    std::uint64_t value = bytes > 0 && (digits.back() & 0x80) ? ~std::uint64_t{0} : 0;
    std::memcpy(&value, digits.data(), bytes);
    push(static_cast<std::int64_t>(value));
  }

  // Over 60 lines: one case an opcode, read as a table.
  void step(unsigned char opcode) {
    using Kind = Container::Kind;
    switch (opcode) {
      case 0x80:  // PROTO
        if (const auto protocol = number<std::uint8_t>(); protocol < 2 || protocol > 5) fail("unknown protocol");
        return;
      case 0x95:
        take(8);
        return;  // FRAME
      case '(':
        return push(Mark{});
      case 'N':
        return push(None{});
      case 0x88:
        return push(true);
      case 0x89:
        return push(false);
      case 'J':
        return push(std::int64_t{number<std::int32_t>()});
      case 'K':
        return push(std::int64_t{number<std::uint8_t>()});
      case 'M':
        return push(std::int64_t{number<std::uint16_t>()});
      case 0x8a:
        return push_long(number<std::uint8_t>());
      case 'G':
        take(8);
        return push(0.0);  // BINFLOAT: no state dict's structure needs its value
      case 'X':
        return push(std::string(take(number<std::uint32_t>())));
      case 0x8c:
        return push(std::string(take(number<std::uint8_t>())));
      case '}':
        return push_container(Kind::dictionary);
      case ']':
        return push_container(Kind::list);
      case ')':
        return push_container(Kind::tuple);
      case 't':
        return push_container(Kind::tuple, pop_to_mark());
      case 0x85:
        return push_container(Kind::tuple, pop_many(1));
      case 0x86:
        return push_container(Kind::tuple, pop_many(2));
      case 0x87:
        return push_container(Kind::tuple, pop_many(3));
      case 'a':
        return extend_top(Kind::list, pop_many(1), "a list");
      case 'e':
        return extend_top(Kind::list, pop_to_mark(), "a list");
      case 's':
        return extend_top(Kind::dictionary, pop_many(2), "a dictionary");
      case 'u':
        return extend_top(Kind::dictionary, pop_to_mark(), "a dictionary");
      case 'q':
        return remember(number<std::uint8_t>());
      case 'r':
        return remember(number<std::uint32_t>());
      case 0x94:
        return remember(memo_.size());
      case 'h':
        return recall(number<std::uint8_t>());
      case 'j':
        return recall(number<std::uint32_t>());
      case 'Q':
        return push_storage();
      case 'R':
        return reduce();
      case 'c': {
        const std::string_view module = line();
        return push_global(module, line());
      }
      case 0x93: {  // STACK_GLOBAL
        const std::string name = string(pop(), "a name");
        return push_global(string(pop(), "a module"), name);
      }
      case 'b':  // BUILD: an OrderedDict's attributes (_metadata); they are dropped
        pop();
        if (stack_.empty() || !is_dictionary(stack_.back())) fail("attributes of something that has none");
        return;
      default:
        fail("a state dict needs no opcode ", std::to_string(opcode));
    }
  }

  std::string_view program_;
  std::string where_;
  std::size_t position_ = 0;
  std::vector<Value> stack_;
  std::vector<Container> arena_;
  std::map<std::size_t, Value> memo_;
};

}  // namespace

std::vector<PickledEntry> read_pickled_state_dict(std::string_view pickle, std::string_view section,
                                                  const std::string& where) {
  Machine machine(pickle, where);
  const Value root = machine.run();
  const auto entries_of = [&](const Value& value) -> const std::vector<Value>& {
    return machine.container(value, Container::Kind::dictionary, "a dictionary of tensors").items;
  };
  const std::vector<Value>* entries = &entries_of(root);
  for (std::size_t i = 0; i + 1 < entries->size(); i += 2) {
    const std::string* key = std::get_if<std::string>(&(*entries)[i]);
    if (key != nullptr && *key == section) {
      entries = &entries_of((*entries)[i + 1]);
      break;
    }
  }
  std::vector<PickledEntry> result;
  std::set<std::string> names;
  for (std::size_t i = 0; i + 1 < entries->size(); i += 2) {
    const std::string* name = std::get_if<std::string>(&(*entries)[i]);
    if (name == nullptr) throw UsageError(where, "not a state dict: a name is not a string");
    if (!names.insert(*name).second) throw UsageError(where + ": " + *name, "is there twice");
    const PickledTensor* tensor = std::get_if<PickledTensor>(&(*entries)[i + 1]);
    result.push_back({*name, tensor == nullptr ? std::nullopt : std::optional(*tensor)});
  }
  return result;
}

}  // namespace filo
