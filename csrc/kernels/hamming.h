// What the Hamming ops share: packed codes, labels, and bit planes of both.
//
// Codes are contiguous rows of `bytes` bytes; bit k of a row lies in byte k / 8 at place k % 8, and the places behind
// the last bit are equal in all rows.
//
// Bit planes are the same bits the other way round: bit k of 4,096 items (a chunk) is 64 words. Bit k of item i is
//   planes[((8 * (i / 4096) + i / 64 % 8) * bits + k) * 8 + i / 512 % 8] >> (i % 64) & 1,
// so the eight words of a register belong to eight runs of 512 items each: a count over registers is, lane by lane, a
// count along the gallery. Places behind the last item are 0.
#pragma once

#include <cstdint>

namespace rdh {

constexpr int64_t chunk_items = 4096;

inline int64_t chunks_of(int64_t items) { return (items + chunk_items - 1) / chunk_items; }
// Words of the planes of so many items with so many bits.
inline int64_t plane_words(int64_t items, int64_t bits) { return chunks_of(items) * bits * 64; }

struct HammingInputs {
  const uint8_t *q, *g;    // [queries, bytes], [gallery, bytes]
  const uint64_t* planes;  // of g with `bits` bits, or null; they save the CPU to make them
  int64_t queries, gallery, bytes;
  int64_t bits;  // 1 to 4096, at most 8 bytes; distances are 0 to bits
};

// Two items are relevant to each other when their class ids are equal, or when they share a label.
enum class LabelKind { class_ids, multi_hot, planes };

struct HammingLabels {
  LabelKind kind;
  const int64_t* q_ids;
  const void* g_ids;  // integers of g_id_bytes: uint8, int16, int32 or int64
  int g_id_bytes;
  const uint8_t *q_rows, *g_rows;  // bytes [rows, classes] of which all but 0 is 1; q_rows for `planes`, too
  const uint64_t* g_planes;        // bit planes of the gallery's labels
  int64_t classes;
};

}  // namespace rdh
