// What the levels of the Hamming ops share: how a call is cut into tasks, and which gallery items a query's labels ask
// for. Compiled for the baseline.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/parallel.h"
#include "common/workspace.h"
#include "kernels/hamming.h"

namespace rdh::cpu {

constexpr int64_t query_block = 128;  // of a task; their distinct labels fit a byte
constexpr uint8_t no_tag = 255;       // of an item whose label no query of the block has

// A task is a block of queries on a slab of the gallery, whose planes stay in the second-level cache. The cuts depend
// on the shape alone.
struct HammingCut {
  int64_t slab_chunks, slabs, blocks;

  HammingCut(const HammingInputs& in)
      : slab_chunks(std::clamp<int64_t>(1024 / in.bits, 1, 64)),
        slabs((chunks_of(in.gallery) + slab_chunks - 1) / slab_chunks),
        blocks((in.queries + query_block - 1) / query_block) {
    slab_chunks = std::min(slab_chunks, std::max<int64_t>(1, chunks_of(in.gallery)));
  }
  int64_t tasks() const { return slabs * blocks; }
  int64_t slab_items() const { return slab_chunks * chunk_items; }
};

// The part of the call that is a task's.
struct HammingTask {
  int64_t slab, first_item, items, chunks;
  int64_t first_query, queries;

  HammingTask(const HammingInputs& in, const HammingCut& cut, int64_t index)
      : slab(index / cut.blocks),
        first_item(slab * cut.slab_items()),
        items(std::min(cut.slab_items(), in.gallery - first_item)),
        chunks(chunks_of(items)),
        first_query(index % cut.blocks * query_block),
        queries(std::min(query_block, in.queries - first_query)) {}
};

// Few queries leave threads without work, unless the gallery is cut into parts, whose answers are put together. A part
// is some of the groups, of which there are up to 16 whatever the queries are: sums over a group are the same for all
// cuts into parts.
struct HammingParts {
  int64_t slabs_of_group, groups, slabs_each, count;

  HammingParts(const HammingCut& cut) {
    constexpr int64_t most = 16;
    slabs_of_group = std::max<int64_t>(1, (cut.slabs + most - 1) / most);
    groups = std::max<int64_t>(1, (cut.slabs + slabs_of_group - 1) / slabs_of_group);
    const int64_t wanted = std::clamp<int64_t>(most / std::max<int64_t>(1, cut.blocks), 1, groups);
    slabs_each = slabs_of_group * ((groups + wanted - 1) / wanted);
    count = std::max<int64_t>(1, (cut.slabs + slabs_each - 1) / slabs_each);
  }
};

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
    switch (labels.g_id_bytes) {
      case 1:
        return of_items(static_cast<const uint8_t*>(labels.g_ids) + first, items, tags);
      case 2:
        return of_items(static_cast<const int16_t*>(labels.g_ids) + first, items, tags);
      case 4:
        return of_items(static_cast<const int32_t*>(labels.g_ids) + first, items, tags);
      default:
        return of_items(static_cast<const int64_t*>(labels.g_ids) + first, items, tags);
    }
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
