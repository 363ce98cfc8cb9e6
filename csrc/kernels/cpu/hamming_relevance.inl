// Relevance of the items of a slab to a query, as bits in the order of the planes, over any Bits. Included for every
// level, after hamming_adders.inl.

// Bit planes of the labels of one chunk, from rows of bytes. False where memory is missing.
inline bool make_label_planes(const uint8_t* rows, int64_t items, int64_t classes, uint64_t* planes) {
  const int64_t width = (classes + 63) / 64;
  Workspace memory;
  uint64_t* words = nullptr;
  memory.add(words, items * width);
  if (!memory.allocate()) return false;
  for (int64_t i = 0; i < items; ++i) {
    const uint8_t* row = rows + i * classes;
    for (int64_t word = 0; word < width; ++word) {
      const int64_t left = classes - 64 * word;
      if (left >= 64) {
        words[i * width + word] = Bits::nonzero(row + 64 * word);
      } else {
        alignas(64) uint8_t tail[64] = {};
        std::memcpy(tail, row + 64 * word, static_cast<size_t>(left));
        words[i * width + word] = Bits::nonzero(tail);
      }
    }
  }
  make_planes(reinterpret_cast<const uint8_t*>(words), items, 8 * width, classes, planes);
  return true;
}

// Eight words for a step and a lane of a chunk, one chunk behind the other.
class Relevance {
 public:
  // `order` has the queries of the task; `planes` those of all labels, where they are multi-hot; `sorted` says that the
  // items stand in another order.
  Relevance(const HammingLabels& labels, const HammingTask& task, const int64_t* order, const uint64_t* planes,
            const SortedSlab* sorted, uint8_t* tags, uint64_t* masks)
      : labels_(labels),
        task_(task),
        sorted_(sorted),
        planes_(planes == nullptr ? nullptr : planes + task.first_item / chunk_items * labels.classes * 64),
        tags_(tags),
        masks_(masks),
        numbers_(labels.kind == LabelKind::class_ids ? labels.q_ids : nullptr, order,
                 planes != nullptr || sorted != nullptr ? 0 : task.queries) {
    if (planes_ != nullptr || sorted_ != nullptr || numbers_.is_few()) return;
    numbers_.of_items(labels, task.first_item, task.items, tags);
    std::memset(tags + task.items, no_tag, static_cast<size_t>(task.chunks * chunk_items - task.items));
  }

  // Makes the masks those of a query. False: they are already.
  bool of(int64_t query) {
    if (planes_ == nullptr) {
      const int64_t id = labels_.q_ids[query];
      if (known_ && id == id_) return false;
      known_ = true;
      id_ = id;
      if (sorted_ != nullptr) {
        in_order(id);
        return true;
      }
      const uint8_t tag = numbers_.of_query(id);
      for (int64_t word = 0; word < task_.chunks * 64; ++word) {
        const int64_t first = word / 64 * chunk_items + word % 8 * 512 + word / 8 % 8 * 64;
        masks_[word] = numbers_.is_few() ? with_id(first, id) : Bits::equal(tags_ + first, tag);
      }
      return true;
    }
    const uint8_t* row = labels_.q_rows + query * labels_.classes;
    std::array<int64_t, 8> classes;  // so many in one go over the items
    size_t count = 0;
    bool first = true;
    const auto take_up = [&] {
      first ? take_up_classes<true>(classes.data(), count) : take_up_classes<false>(classes.data(), count);
      first = false;
      count = 0;
    };
    for (int64_t c = 0; c < labels_.classes; ++c) {
      if (row[c] == 0) continue;
      classes[count++] = c;
      if (count == classes.size()) take_up();
    }
    if (first || count > 0) take_up();
    return true;
  }

 private:
  // The masks, with the items of some classes. First: there is nothing in them yet.
  template <bool First>
  void take_up_classes(const int64_t* classes, size_t count) {
    for (int64_t step = 0; step < task_.chunks * 8; ++step) {
      const uint64_t* planes = planes_ + step * labels_.classes * 8;
      for (int64_t lane = 0; lane < 8; lane += Bits::words) {
        uint64_t* to = masks_ + step * 8 + lane;
        V mask = First ? Bits::zero() : Bits::load(to);
        for (size_t i = 0; i < count; ++i) mask = Bits::either(mask, Bits::load(planes + classes[i] * 8 + lane));
        Bits::store(to, mask);
      }
    }
  }

  // The masks of a slab in another order.
  void in_order(int64_t id) {
    std::memset(masks_, 0, static_cast<size_t>(task_.chunks * 64 * 8));
    const uint8_t key = SortedSlab::key_of(id);
    const int64_t begin = sorted_->first[key], end = sorted_->first[key + 1];
    const auto set = [&](int64_t i, uint64_t mask) {
      masks_[i / chunk_items * 64 + i / 64 % 8 * 8 + i / 512 % 8] |= mask;
    };
    if (sorted_->is_shared[key] != 0) {
      with_ids(labels_, task_.first_item, [&](const auto* ids) {
        for (int64_t i = begin; i < end; ++i) set(i, uint64_t{ids[sorted_->item[i]] == id} << (i % 64));
      });
    } else if (begin < end && sorted_->id[key] == id) {
      for (int64_t i = begin; i < end; i = i / 64 * 64 + 64) {
        const uint64_t from_begin = ~uint64_t{0} << (i % 64),
                       to_end = i / 64 < end / 64 ? 0 : ~uint64_t{0} << (end % 64);
        set(i, from_begin & ~to_end);
      }
    }
  }

  // Which of the 64 items from `first` on, as far as there are, have the class.
  uint64_t with_id(int64_t first, int64_t id) const {
    const int64_t at = task_.first_item + first, count = std::clamp<int64_t>(task_.items - first, 0, 64);
    return with_ids(labels_, at, [&](const auto* ids) { return with_id(ids, count, id); });
  }

  template <class T>
  static uint64_t with_id(const T* ids, int64_t count, int64_t id) {
    const T wanted = static_cast<T>(id);
    if (static_cast<int64_t>(wanted) != id) return 0;
    alignas(64) uint8_t same[64] = {};
    if (count == 64) {
      for (int i = 0; i < 64; ++i) same[i] = ids[i] == wanted;
    } else {
      for (int64_t i = 0; i < count; ++i) same[i] = ids[i] == wanted;
    }
    return Bits::nonzero(same);
  }

  const HammingLabels& labels_;
  const HammingTask& task_;
  const SortedSlab* sorted_;
  const uint64_t* planes_;
  uint8_t* tags_;
  uint64_t* masks_;
  Tags numbers_;
  bool known_ = false;
  int64_t id_ = 0;
};
