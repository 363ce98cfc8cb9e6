// What the levels of the Hamming ops share: what tasks read of the gallery, and how a call is cut into them. Compiled
// for the baseline.
#pragma once

// also for the files of the levels, which are inside a namespace
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "common/parallel.h"
#include "common/workspace.h"
#include "kernels/hamming.h"

namespace rdh::cpu {

constexpr int64_t query_block = 128;  // of a task; their distinct labels fit a byte

// Tasks add up carries in place of planes where they are for enough queries to pay for making them.
//
// A full adder over s, a and b does not depend on the query but for three flips of its inputs. So the first half of
// all adding is done once: bits are taken in pairs, and s is the parity of the bits before, of which the first is
// taken alone where K is odd. Flipping all three inputs flips sum and carry. That leaves, for each pair, four carries:
//   carry(s, a, b), carry(s, ~a, b), carry(s, a, ~b), carry(s, ~a, ~b),
// and one parity of all bits. 1 + 4 (K / 2) lines of 512 items, of which a query reads 1 + K / 2, and adds as many
// numbers of weight 2; in the place of the K lines of a step of planes, the parity last.
constexpr int64_t most_sliced_bits = 255;  // above, distances are counted one by one
constexpr int64_t carried_queries = 32;

inline bool is_carried(const HammingInputs& in) { return in.bits <= most_sliced_bits && in.queries >= carried_queries; }
inline int64_t lines_of_step(int64_t bits, bool carried) { return carried ? 1 + 4 * (bits / 2) : bits; }

// A task is a block of queries on a slab of the gallery, whose lines stay in the second-level cache: half a MiB of
// them, or one where slabs have to be put together again. The cuts depend on the shape alone, and slabs on K and the
// gallery alone.
enum class SlabSize : int64_t { half = 512, whole = 1024 };

struct HammingCut {
  int64_t slab_chunks, slabs, blocks;

  HammingCut(const HammingInputs& in, SlabSize size) : blocks((in.queries + query_block - 1) / query_block) {
    const int64_t chunks = chunks_of(in.gallery);
    const int64_t most = std::clamp<int64_t>(static_cast<int64_t>(size) / in.bits, 1, 64);
    slabs = (chunks + most - 1) / most;
    slab_chunks = slabs == 0 ? 1 : (chunks + slabs - 1) / slabs;
    slabs = (chunks + slab_chunks - 1) / slab_chunks;
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

constexpr int64_t words_at_once = int64_t{8} << 20;  // of lines that are made before they are asked for

// The lines of all slabs, made once for all blocks of queries, where they are not too many.
class SharedLines {
 public:
  // words_of_slab(inputs, chunks), and make_slab(inputs, task, its words) are those of a level.
  template <class Words, class Make>
  bool make(const HammingInputs& in, const HammingCut& cut, Words words_of_slab, Make make_slab,
            const Parallel& parallel) {
    words_ = words_of_slab(in, cut.slab_chunks);
    if (cut.blocks < 2 || words_ == 0 || cut.slabs * words_ > words_at_once) return true;
    memory_.add(lines_, cut.slabs * words_);
    if (!memory_.allocate()) return false;
    parallel(cut.slabs,
             [&](int64_t slab) { make_slab(in, HammingTask(in, cut, slab * cut.blocks), lines_ + slab * words_); });
    return true;
  }
  const uint64_t* of(int64_t slab) const { return lines_ == nullptr ? nullptr : lines_ + slab * words_; }

 private:
  Workspace memory_;
  uint64_t* lines_ = nullptr;
  int64_t words_ = 0;
};

// Few queries leave threads without work, unless the gallery is cut into parts, whose answers are put together.
struct HammingParts {
  int64_t slabs_each, count;

  HammingParts(const HammingCut& cut) {
    constexpr int64_t most = 16;
    const int64_t slabs = std::max<int64_t>(1, cut.slabs);
    const int64_t wanted = std::clamp<int64_t>(most / std::max<int64_t>(1, cut.blocks), 1, slabs);
    slabs_each = (slabs + wanted - 1) / wanted;
    count = (slabs + slabs_each - 1) / slabs_each;
  }
};

}  // namespace rdh::cpu
