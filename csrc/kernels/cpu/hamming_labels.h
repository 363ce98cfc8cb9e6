// Which gallery items a query's labels ask for: what the levels of the Hamming ops share of it. Compiled for the
// baseline.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "common/parallel.h"
#include "common/workspace.h"
#include "kernels/cpu/hamming_problem.h"
#include "kernels/hamming.h"

namespace rdh::cpu {

constexpr uint8_t no_tag = 255;  // of an item whose label no query of the block has

// Calls use(the class ids of the gallery from item `first` on, as what they are).
template <class Use>
auto with_ids(const HammingLabels& labels, int64_t first, Use use) {
  switch (labels.g_id_bytes) {
    case 1:
      return use(static_cast<const uint8_t*>(labels.g_ids) + first);
    case 2:
      return use(static_cast<const int16_t*>(labels.g_ids) + first);
    case 4:
      return use(static_cast<const int32_t*>(labels.g_ids) + first);
    default:
      return use(static_cast<const int64_t*>(labels.g_ids) + first);
  }
}

// Queries of one class stand together, so that the items of the class are looked for once.
inline std::vector<int64_t> order_by_label(const HammingInputs& in, const HammingLabels& labels) {
  std::vector<int64_t> order(static_cast<size_t>(in.queries));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (labels.kind == LabelKind::class_ids) {
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return labels.q_ids[a] < labels.q_ids[b]; });
  }
  return order;
}

// A slab in another order, in which the items of a class stand together: most of it then has nothing that a query asks
// for. By a byte of the class id, or of its hash: classes may share one.
struct SortedSlab {
  static constexpr int keys = 256;

  uint32_t* item;      // [items] in the gallery's order, from the first of the slab
  uint32_t* first;     // [keys + 1] where the items of a key begin
  int64_t* id;         // [keys] their class id
  uint8_t* is_shared;  // [keys] whether others have the key, too

  static uint8_t key_of(int64_t id) {
    const auto word = static_cast<uint64_t>(id);
    return static_cast<uint8_t>(word < keys ? word : word * 0x9E3779B97F4A7C15u >> 56);
  }

  void sort(const HammingLabels& labels, int64_t first_item, int64_t items) const {
    with_ids(labels, first_item, [&](const auto* ids) {
      uint32_t counts[4][keys] = {};  // of a stream each: a count waits for its last change
      uint64_t bits = 0;              // that are set in any id
      const auto count = [&](int64_t i, int64_t stream) {
        bits |= static_cast<uint64_t>(static_cast<int64_t>(ids[i]));
        ++counts[stream][key_of(ids[i])];
      };
      const int64_t each = items / 4;
      for (int64_t i = 0; i < each; ++i) {
        for (int64_t stream = 0; stream < 4; ++stream) count(stream * each + i, stream);
      }
      for (int64_t i = 4 * each; i < items; ++i) count(i, 3);
      uint32_t before = 0;
      for (int key = 0; key < keys; ++key) {
        first[key] = before;
        is_shared[key] = 0;
        for (auto& count : counts) before += std::exchange(count[key], before);
      }
      first[keys] = before;
      const auto put = [&](int64_t i, int64_t stream) {
        item[counts[stream][key_of(ids[i])]++] = static_cast<uint32_t>(i);
      };
      for (int64_t i = 0; i < each; ++i) {
        for (int64_t stream = 0; stream < 4; ++stream) put(stream * each + i, stream);
      }
      for (int64_t i = 4 * each; i < items; ++i) put(i, 3);
      for (int key = 0; key < keys; ++key) {
        id[key] = first[key] < first[key + 1] ? static_cast<int64_t>(ids[item[first[key]]]) : 0;
      }
      if (bits < keys) return;  // every id is its own key
      for (int key = 0; key < keys; ++key) {
        for (uint32_t i = first[key]; i < first[key + 1]; ++i) is_shared[key] |= ids[item[i]] != ids[item[first[key]]];
      }
    });
  }
};

// Small numbers for the labels of a block of queries, and of the gallery items that have one of them; unless there are
// few labels.
class Tags {
 public:
  // The labels of the queries order[0 .. queries - 1], sorted.
  Tags(const int64_t* ids, const int64_t* order, int64_t queries) {
    for (int64_t i = 0; i < queries; ++i) {
      if (distinct_.empty() || distinct_.back() != ids[order[i]]) distinct_.push_back(ids[order[i]]);
    }
    if (is_few()) return;
    if (distinct_.front() >= 0 && distinct_.back() < direct) {
      table_.assign(direct, no_tag);
      for (size_t tag = 0; tag < distinct_.size(); ++tag) table_[distinct_[tag]] = static_cast<uint8_t>(tag);
      return;
    }
    keys_.assign(slots, 0);
    table_.assign(slots, no_tag);
    for (size_t tag = 0; tag < distinct_.size(); ++tag) {
      size_t slot = slot_of(distinct_[tag]);
      while (table_[slot] != no_tag) slot = (slot + 1) % slots;
      keys_[slot] = distinct_[tag];
      table_[slot] = static_cast<uint8_t>(tag);
    }
  }

  // So few labels that the items are better compared with each of them.
  bool is_few() const { return static_cast<int64_t>(distinct_.size()) <= few; }

  uint8_t of_query(int64_t id) const {
    return static_cast<uint8_t>(std::lower_bound(distinct_.begin(), distinct_.end(), id) - distinct_.begin());
  }

  void of_items(const HammingLabels& labels, int64_t first, int64_t items, uint8_t* tags) const {
    with_ids(labels, first, [&](const auto* ids) { of_items(ids, items, tags); });
  }

 private:
  static constexpr int64_t few = 4, direct = 1 << 16;
  static constexpr size_t slots = 1024;

  static size_t slot_of(int64_t id) { return (static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15u) >> 54; }

  template <class T>
  void of_items(const T* ids, int64_t items, uint8_t* tags) const {
    if (keys_.empty()) {
      for (int64_t i = 0; i < items; ++i) {
        const auto id = static_cast<uint64_t>(static_cast<int64_t>(ids[i]));
        tags[i] = id < static_cast<uint64_t>(direct) ? table_[id] : no_tag;
      }
    } else {
      for (int64_t i = 0; i < items; ++i) {
        const auto id = static_cast<int64_t>(ids[i]);
        size_t slot = slot_of(id);
        while (table_[slot] != no_tag && keys_[slot] != id) slot = (slot + 1) % slots;
        tags[i] = table_[slot];
      }
    }
  }

  std::vector<int64_t> distinct_, keys_;
  std::vector<uint8_t> table_;
};

// The planes of multi-hot labels of the gallery: those that were given, or made of rows.
class LabelPlanes {
 public:
  template <class Make>
  bool make(const HammingInputs& in, const HammingLabels& labels, Make make_chunk, const Parallel& parallel) {
    given_ = labels.kind == LabelKind::planes ? labels.g_planes : nullptr;
    if (labels.kind != LabelKind::multi_hot) return true;
    const int64_t chunks = chunks_of(in.gallery), words = labels.classes * 64;
    memory_.add(made_, chunks * words);
    return memory_.allocate() && run_all(parallel, chunks, [&](int64_t chunk) {
             const int64_t first = chunk * chunk_items;
             return make_chunk(labels.g_rows + first * labels.classes, std::min(chunk_items, in.gallery - first),
                               labels.classes, made_ + chunk * words);
           });
  }
  const uint64_t* get() const { return given_ != nullptr ? given_ : made_; }

 private:
  Workspace memory_;
  const uint64_t* given_ = nullptr;
  uint64_t* made_ = nullptr;
};

}  // namespace rdh::cpu
