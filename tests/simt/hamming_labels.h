// Labels of every form the Hamming kernels take, and which pairs share one.
#pragma once

#include "hamming_cases.h"

namespace hamming_cases {

// How the labels of a gallery come: class ids of so many bytes, bool rows, or planes.
enum class Form { bytes1 = 1, bytes2 = 2, bytes4 = 4, bytes8 = 8, rows, planes };

struct Labels {
  Form form;
  int64_t queries, gallery, classes;
  std::vector<int64_t> q_ids, g_ids;
  std::vector<uint8_t> q_rows, g_rows;
  DeviceArray<int64_t> q_ids_memory;
  DeviceArray<uint8_t> g_ids_memory, q_rows_memory, g_rows_memory;
  DeviceArray<uint64_t> g_planes_memory;

  Labels(Form form_, int64_t queries_, int64_t gallery_, int64_t classes_, Random& random)
      : form(form_),
        queries(queries_),
        gallery(gallery_),
        classes(classes_),
        q_ids(ids(queries, random)),
        g_ids(ids(gallery, random)),
        q_rows(rows(queries, random)),
        g_rows(rows(gallery, random)),
        q_ids_memory(q_ids),
        g_ids_memory(bytes_of_ids(), has_ids() ? static_cast<size_t>(form) : 0),  // aligned like one id
        q_rows_memory(q_rows, 1),
        g_rows_memory(form == Form::rows ? g_rows : std::vector<uint8_t>(), 1),
        g_planes_memory(planes()) {}

  bool has_ids() const { return form != Form::rows && form != Form::planes; }

  bool relevant(int64_t i, int64_t j) const {
    if (has_ids()) return q_ids[static_cast<size_t>(i)] == g_ids[static_cast<size_t>(j)];
    for (int64_t c = 0; c < classes; ++c) {
      if (q_rows[static_cast<size_t>(i * classes + c)] && g_rows[static_cast<size_t>(j * classes + c)]) return true;
    }
    return false;
  }

  rdh::HammingLabels view() const {
    using rdh::LabelKind;
    if (has_ids()) {
      const int bytes = static_cast<int>(form);
      return {LabelKind::class_ids, q_ids_memory.data(), g_ids_memory.data(), bytes, nullptr, nullptr, nullptr, 0};
    }
    const LabelKind kind = form == Form::rows ? LabelKind::multi_hot : LabelKind::planes;
    return {kind, nullptr, nullptr, 0, q_rows_memory.data(), g_rows_memory.data(), g_planes_memory.data(), classes};
  }

 private:
  // Those of 8 bytes are far apart, negative, or equal in half of their bits; all others fit in a byte.
  std::vector<int64_t> ids(int64_t n, Random& random) const {
    std::vector<int64_t> all;
    for (int64_t i = 0; i < n && has_ids(); ++i) {
      const int64_t k = static_cast<int64_t>(random() % static_cast<unsigned>(classes));
      all.push_back(form != Form::bytes8 ? k : k % 3 == 0 ? -k : k % 3 == 1 ? k << 32 : k);
    }
    return all;
  }

  std::vector<uint8_t> rows(int64_t n, Random& random) const {
    std::vector<uint8_t> all(static_cast<size_t>(has_ids() ? 0 : n * classes));
    for (uint8_t& label : all) label = random() % static_cast<unsigned>(classes + 1) < 2 ? 1 + random() % 2 : 0;
    return all;
  }

  std::vector<uint8_t> bytes_of_ids() const {
    std::vector<uint8_t> bytes;
    for (const int64_t id : g_ids) {
      for (int b = 0; b < static_cast<int>(form); ++b) bytes.push_back(static_cast<uint8_t>(id >> 8 * b));
    }
    return bytes;
  }

  std::vector<uint64_t> planes() const {
    if (form != Form::planes) return {};
    std::vector<uint64_t> words(static_cast<size_t>(rdh::plane_words(gallery, classes)));
    for (int64_t j = 0; j < gallery * classes; ++j) {
      const int64_t i = j / classes, c = j % classes;
      const int64_t at = ((8 * (i / 4096) + i / 64 % 8) * classes + c) * 8 + i / 512 % 8;
      if (g_rows[static_cast<size_t>(j)] != 0) words[static_cast<size_t>(at)] |= uint64_t{1} << i % 64;
    }
    return words;
  }
};

}  // namespace hamming_cases
