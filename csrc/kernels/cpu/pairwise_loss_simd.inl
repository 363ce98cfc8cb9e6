// The pairwise loss at one level, written once over its lanes; included by pairwise_loss_kernel.cpp inside each target
// region, after simd_<level>.inl, simd_twice.inl, pairwise_loss_formula.inl and pairwise_loss_product.inl.

template <class Real, class T>
void widen_row(const T* from, int64_t n, Real* to) {
  for (int64_t k = 0; k < n; ++k) to[k] = static_cast<Real>(widen(from[k]));
}

template <class S, class T>
void load_row(const T* from, int64_t n, typename S::Real* to) {
  int64_t k = 0;
  if constexpr (requires { S::load(from); }) {
    for (; k + S::width <= n; k += S::width) S::store(to + k, S::load(from + k));
  }
  widen_row(from + k, n - k, to + k);
}

// Elements [first, first + n) of a matrix, in the arithmetic of S.
template <class S>
void load_elements(Element element, const void* from, int64_t first, int64_t n, typename S::Real* to) {
  switch (element) {
    case Element::f64:
      return load_row<S>(static_cast<const double*>(from) + first, n, to);
    case Element::bf16:
      return load_row<S>(static_cast<const BFloat16*>(from) + first, n, to);
    case Element::f16:
      return load_row<S>(static_cast<const Float16*>(from) + first, n, to);
    default:
      return load_row<S>(static_cast<const float*>(from) + first, n, to);
  }
}

template <class S>
constexpr Element own_element = sizeof(typename S::Real) == 4 ? Element::f32 : Element::f64;

// NaN where one of n values is not finite, else 0; n a multiple of the width.
template <class S>
double poison_of(const typename S::Real* values, int64_t n) {
  using V = typename S::V;
  const V zero = S::set(0);
  V sums[4] = {zero, zero, zero, zero};  // one would wait for itself
  int64_t k = 0;
  for (; k + 4 * S::width <= n; k += 4 * S::width) {
    for (int i = 0; i < 4; ++i) sums[i] = S::fma(S::load(values + k + i * S::width), zero, sums[i]);
  }
  for (; k < n; k += S::width) sums[0] = S::fma(S::load(values + k), zero, sums[0]);
  double lanes[S::width] = {}, total = 0;
  S::add_to(lanes, S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])));
  for (const double lane : lanes) total += lane;
  return total;
}

// Bits of floats, as many as a register of the level has: of vectors that it has not, the compiler makes poor code.
struct FloatBits {
  static constexpr int64_t lanes = F32::width;
  typedef int32_t V __attribute__((vector_size(4 * lanes), aligned(4), may_alias));
  typedef int8_t Bytes __attribute__((vector_size(lanes), may_alias));
  static constexpr int32_t infinite = 0x7F800000;

  static V load(const float* p) { return *reinterpret_cast<const V*>(p); }
  static V magnitude(V bits) { return bits & 0x7FFFFFFF; }
  static V sign(V bits) { return (bits >> 31) | 1; }  // 0 is 1, -0 is -1
  static bool any(V where) {
    int32_t found = 0;
    for (int64_t lane = 0; lane < lanes; ++lane) found |= where[lane];
    return found != 0;
  }
};

// The signs of the values of some rows are added to sums, -0 as -1 and 0 as 1; says at the end whether there was one of
// those, or one that is not finite. What a row would have to say for itself would cost more than the row.
template <class Real>
struct SignSums {
  bool zero = false, not_finite = false;

  void add(const Real* __restrict values, int64_t n, int32_t* __restrict sums) {
    for (int64_t k = 0; k < n; ++k) {
      sums[k] += std::signbit(values[k]) ? -1 : 1;
      zero |= values[k] == 0;
      not_finite |= !(std::fabs(values[k]) <= std::numeric_limits<Real>::max());
    }
  }
};

// The same in whole vectors, and what is left one by one.
struct FloatSignSums {
  using Bits = FloatBits;
  SignSums<float> rest;
  Bits::V least = Bits::V{} + Bits::infinite, most{};

  void add(const float* __restrict values, int64_t n, int32_t* __restrict sums) {
    int64_t k = 0;
    for (; k + Bits::lanes <= n; k += Bits::lanes) {
      const Bits::V bits = Bits::load(values + k), magnitude = Bits::magnitude(bits);
      *reinterpret_cast<Bits::V*>(sums + k) += Bits::sign(bits);
      least = magnitude < least ? magnitude : least;
      most = magnitude > most ? magnitude : most;
    }
    rest.add(values + k, n - k, sums + k);
  }
  SignSums<float> end() const {
    return {rest.zero || Bits::any(least == 0), rest.not_finite || Bits::any(most >= Bits::infinite)};
  }
};

// Rows and columns of a 64 x 64 matrix of bits change places: bit j of word i becomes bit i of word j.
template <int Distance = 32>
void transpose_bits(uint64_t (&words)[64]) {
  constexpr uint64_t mask = ~uint64_t{0} / ((uint64_t{1} << Distance) + 1);  // the lower half of every 2 Distance bits
  for (int first = 0; first < 64; first += 2 * Distance) {
    for (int i = first; i < first + Distance; ++i) {
      const uint64_t swapped = (words[i] >> Distance ^ words[i + Distance]) & mask;
      words[i] ^= swapped << Distance;
      words[i + Distance] ^= swapped;
    }
  }
  if constexpr (Distance > 1) transpose_bits<Distance / 2>(words);
}

// A tile of rows against a chunk of columns: the task of a thread.
template <class S, class W = Words>
class Task {
  using Real = typename S::Real;

 public:
  Task(const Problem& problem, int64_t index)
      : problem_(problem), params_(problem.params), inputs_(problem.inputs), sums_(problem.sums[index]) {
    tile_ = index / problem.chunks;
    chunk_ = index % problem.chunks;
    first_row_ = tile_ * panel * tile_panels;
    rows_ = std::min(panel * tile_panels, params_.rows - first_row_);
    panels_ = (rows_ + panel - 1) / panel;
    begin_ = std::min(params_.columns, chunk_ * problem.chunk_columns);
    end_ = std::min(params_.columns, begin_ + problem.chunk_columns);
    bits_ = params_.bits;
    padded_ = round_up_to(bits_, S::width);
    sums_ = {0, 0, 0, 0};
  }

  // The number of similar pairs alone, for the weights.
  bool count() {
    if (!allocate(true)) return false;
    read_row_labels();
    for (int64_t column = begin_; column < end_; column += block) {
      const int64_t n = std::min(block, end_ - column);
      read_similarity(column, n, words_);
      leave_out_diagonal(column, n);
      for (int64_t i = 0; i < panels_ * block; ++i) {
        if (i % block < n) sums_.similar_pairs += __builtin_popcountll(words_[i]);
      }
    }
    return true;
  }

  bool run() {
    if (!allocate(false)) return false;
    read_row_labels();
    const Real* packed = reinterpret_cast<const Real*>(problem_.packed) + first_row_ * bits_;
    int64_t blocks = 0;
    for (int64_t column = begin_; column < end_; column += block) {
      const int64_t n = std::min(block, end_ - column);
      read_similarity(column, n, words_);
      if (asymmetric()) read_transposed(column, n);
      leave_out_diagonal(column, n);
      load_columns(column, n);
      prefetch(column + block);
      if (tile_ == 0 && problem_.error_aware() && !threes_hold_) sum_signs(column, n);
      for (int64_t p = 0; p < panels_; ++p) run_panel(p, packed + p * panel * bits_, column, n);
      fresh_ = false;
      if (++blocks % narrow_blocks != 0) continue;
      if (problem_.counts_agreement()) total_counts();
      if (!problem_.narrow) widen_gradient();
    }
    if (problem_.counts_agreement() && blocks % narrow_blocks != 0) total_counts();
    if (blocks == 0 && params_.need_grad) {
      clear_gradient();
    } else if (!fresh_ && !problem_.narrow) {
      widen_gradient();
    }
    for (int64_t i = 0; i < rows_; ++i) {
      const double* lanes = values_ + i / panel * 2 * panel + i % panel;
      sums_.similar += lanes[0];
      sums_.dissimilar += lanes[panel];
    }
    return true;
  }

 private:
  int64_t panel_rows(int64_t p) const { return std::min(panel, rows_ - p * panel); }
  // an explicit matrix need not be symmetric: the role of the column then has another S
  bool asymmetric() const { return params_.with_itself && inputs_.similarity == Similarity::matrix; }

  // Everything, or what counting pairs needs.
  bool allocate(bool to_count) {
    const int64_t classes = inputs_.classes;
    int64_t planes = 0;
    if (inputs_.similarity == Similarity::class_ids) planes = problem_.dense_classes;
    if (inputs_.similarity == Similarity::multi_hot) planes = few_classes() ? 4 * round_up_to(classes, 4) : classes;
    memory_.add(words_, tile_panels * block);
    memory_.add(transposed_, asymmetric() ? tile_panels * block : 0);
    memory_.add(planes_, planes * tile_panels, true);
    if (!to_count) {
      const int64_t signs = problem_.counts_agreement() ? problem_.sign_bits() : 0;
      memory_.add(theta_, block * panel);
      memory_.add(kept_, asymmetric() ? block * panel : 0);
      memory_.add(columns_, block * padded_);
      memory_.add(gradient_, problem_.narrow ? 0 : rows_ * padded_);
      memory_.add(values_, 2 * panels_ * panel, true);
      memory_.add(subsets_, block / 4 * 16 * signs);
      if constexpr (W::exist) {
        memory_.add(threes_, W::threes * 16 * signs / 64);
        memory_.add(signs_, signs);
        memory_.add(counts_, panels_ * W::planes * signs, true);
        memory_.add(similar_, problem_.counts_agreement() ? panels_ * panel : 0, true);
      }
    }
    if (!memory_.allocate()) return false;
    gradient_stride_ = padded_;
    if (problem_.narrow) {
      gradient_stride_ = problem_.gradient_stride();
      gradient_ = static_cast<Real*>(problem_.gradient) + (chunk_ * params_.rows + first_row_) * gradient_stride_;
    }
    return true;
  }

  // planes_: the rows of a class as bits, for all panels. Where multi-hot labels have few classes, the rows that have
  // one of a subset of four classes: then each four is looked up, whatever an item has. Of such a four, all panels of a
  // subset are together, or all subsets of a panel, of which words choose theirs.
  typedef uint64_t Panels __attribute__((vector_size(8 * tile_panels), may_alias));
  static constexpr int64_t subset_step = W::exist ? 1 : tile_panels;
  bool few_classes() const { return inputs_.classes <= 128; }
  int64_t plane_of(int64_t c, int64_t p) const {
    if (!few_classes()) return c * tile_panels + p;
    return c / 4 * 16 * tile_panels + (int64_t{1} << c % 4) * subset_step + p * (W::exist ? 16 : 1);
  }

  void read_row_labels() {
    uint64_t* planes = planes_;
    for (int64_t i = 0; i < rows_; ++i) {
      const uint64_t bit = uint64_t{1} << i % panel;
      if (inputs_.similarity == Similarity::class_ids) {
        planes[problem_.row_class[first_row_ + i] * tile_panels + i / panel] |= bit;
      } else if (inputs_.similarity == Similarity::multi_hot) {
        const int64_t classes = inputs_.classes, first = (first_row_ + i) * classes, last = params_.rows * classes;
        for (int64_t c = 0; c < classes; c += 64) {
          uint64_t set = label_word(inputs_.row_labels, first + c, std::min<int64_t>(64, classes - c), last);
          for (; set != 0; set &= set - 1) planes[plane_of(c + __builtin_ctzll(set), i / panel)] |= bit;
        }
      }
    }
    if (inputs_.similarity != Similarity::multi_hot || !few_classes()) return;
    const uint64_t* end = planes + (inputs_.classes + 3) / 4 * 16 * tile_panels;
    for (; planes != end; planes += 16 * subset_step) {
      for (int64_t subset = 3; subset < 16; ++subset) {
        const uint64_t *rest = planes + (subset & (subset - 1)) * subset_step,
                       *one = planes + (subset & -subset) * subset_step;
        for (int64_t p = 0; p < subset_step; ++p) planes[subset * subset_step + p] |= rest[p] | one[p];
      }
    }
  }

  // words[p block + j]: the rows of panel p that are similar to column j, as bits
  void read_similarity(int64_t column, int64_t n, uint64_t* words) const {
    const uint64_t* planes = planes_;
    if (inputs_.similarity == Similarity::class_ids) {
      const int32_t* classes = problem_.column_class + column;
      const int64_t panels = panels_;
      for (int64_t p = 0; p < panels; ++p) {
        for (int64_t j = 0; j < n; ++j) {
          words[p * block + j] = classes[j] < 0 ? 0 : planes[classes[j] * tile_panels + p];
        }
      }
    } else if (inputs_.similarity == Similarity::multi_hot) {
      const int64_t classes = inputs_.classes, last = params_.columns * classes;
      if (W::exist && few_classes()) return look_up_labels(column, n, words);
      for (int64_t j = 0; j < n; ++j) {
        Panels any{};
        for (int64_t c = 0; c < classes; c += 64) {
          const int64_t labels = std::min<int64_t>(64, classes - c);
          add_rows_of(label_word(inputs_.column_labels, (column + j) * classes + c, labels, last), labels, c, any);
        }
        for (int64_t p = 0; p < panels_; ++p) words[p * block + j] = any[p];
      }
    } else {
      for (int64_t p = 0; p < panels_; ++p) {
        uint64_t rows[64] = {};
        for (int64_t i = 0; i < panel_rows(p); ++i) rows[i] = matrix_word(first_row_ + p * panel + i, column, n);
        transpose(rows);
        std::memcpy(words + p * block, rows, static_cast<size_t>(n) * sizeof *words);
      }
    }
  }

  // read_similarity of few classes, eight columns at a time.
  void look_up_labels(int64_t column, int64_t n, uint64_t* words) const {
    if constexpr (W::exist) {
      const int64_t classes = inputs_.classes, last = params_.columns * classes;
      alignas(64) uint64_t labels[2 * block] = {};
      for (int64_t j = 0; j < n; ++j) {
        for (int64_t c = 0; c < classes; c += 64) {
          const int64_t first = (column + j) * classes + c;
          labels[c / 64 * block + j] =
              label_word(inputs_.column_labels, first, std::min<int64_t>(64, classes - c), last);
        }
      }
      constexpr decltype(&W::template rows_of<1>) of_panels[] = {W::template rows_of<1>, W::template rows_of<2>,
                                                                 W::template rows_of<3>, W::template rows_of<4>};
      static_assert(tile_panels == 4 && block % W::lanes == 0);
      for (int64_t j = 0; j < n; j += W::lanes) {
        of_panels[panels_ - 1](labels + j, block, (classes + 3) / 4, planes_, words + j, block);
      }
    }
  }

  // The rows that have one of the `classes`, bits of a word of `labels` labels that begins at class `first`.
  void add_rows_of(uint64_t classes, int64_t labels, int64_t first, Panels& any) const {
    if (few_classes()) {
      const uint64_t* subsets = planes_ + 4 * first * tile_panels;
      for (int64_t c = 0; c < labels; c += 4, classes >>= 4, subsets += 16 * tile_panels) {
        any |= *reinterpret_cast<const Panels*>(subsets + (classes & 15) * tile_panels);
      }
    } else {
      for (; classes != 0; classes &= classes - 1) {
        any |= *reinterpret_cast<const Panels*>(planes_ + plane_of(first + __builtin_ctzll(classes), 0));
      }
    }
  }

  static void transpose(uint64_t (&words)[64]) {
    if constexpr (W::exist) {
      W::transpose(words);
    } else {
      transpose_bits(words);
    }
  }

  // words_, of S with its rows and columns changed: those are consecutive
  void read_transposed(int64_t column, int64_t n) const {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t p = 0; p < panels_; ++p) {
        transposed_[p * block + j] = matrix_word(column + j, first_row_ + p * panel, panel_rows(p));
      }
    }
  }

  // `n` labels from `first` on; nothing behind `last` is read
  static uint64_t label_word(const uint8_t* labels, int64_t first, int64_t n, int64_t last) {
    labels += first;
    const uint64_t wanted = n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
    if (first + 64 <= last) return nonzero_bytes(labels) & wanted;
    uint8_t padded[64] = {};
    std::memcpy(padded, labels, static_cast<size_t>(n));
    return nonzero_bytes(padded);
  }

  // Bit j: S of row i and column `column` + j, n of them.
  uint64_t matrix_word(int64_t i, int64_t column, int64_t n) const {
    if (inputs_.matrix_column == 1) {
      const char* from = static_cast<const char*>(inputs_.matrix);
      from += (i * inputs_.matrix_row + column) * inputs_.matrix_bytes;
      switch (inputs_.matrix_bytes) {
        case 1:
          return nonzero_elements<uint8_t>(from, n);
        case 2:
          return nonzero_elements<uint16_t>(from, n);
        case 4:
          return nonzero_elements<uint32_t>(from, n);
        case 8:
          return nonzero_elements<uint64_t>(from, n);
      }
    }
    uint64_t word = 0;
    for (int64_t j = 0; j < n; ++j) word |= static_cast<uint64_t>(is_similar(inputs_, i, column + j)) << j;
    return word;
  }

  template <class Word>
  uint64_t nonzero_elements(const char* from, int64_t n) const {
    const Word sign = inputs_.matrix_floating ? static_cast<Word>(Word{1} << (8 * sizeof(Word) - 1)) : Word{0};
    const Word counted = static_cast<Word>(~sign);
    uint8_t bytes[64] = {};
    for (int64_t j = 0; j < n; ++j) {
      Word element;
      std::memcpy(&element, from + j * static_cast<int64_t>(sizeof element), sizeof element);
      bytes[j] = (element & counted) != 0;
    }
    return nonzero_bytes(bytes);
  }

  // The pair (i, i) counts as dissimilar, and set_diagonal makes it an easy one.
  void leave_out_diagonal(int64_t column, int64_t n) const {
    if (params_.with_diagonal) return;
    for (int64_t j = std::max(column, first_row_); j < std::min(column + n, first_row_ + rows_); ++j) {
      const int64_t i = j - first_row_, at = i / panel * block + j - column;
      words_[at] &= ~(uint64_t{1} << i % panel);
      if (asymmetric()) transposed_[at] &= ~(uint64_t{1} << i % panel);
    }
  }

  void set_diagonal(int64_t p, int64_t column, int64_t n, Real value) const {
    if (params_.with_diagonal) return;
    const int64_t first = first_row_ + p * panel;
    for (int64_t j = std::max(column, first); j < std::min(column + n, first + panel_rows(p)); ++j) {
      theta_[(j - column) * panel + j - first] = value;
    }
  }

  // Columns in the arithmetic of S, padded with zeros, without a copy where they are so already.
  void load_columns(int64_t column, int64_t n) {
    if (inputs_.v_element == own_element<S> && bits_ == padded_) {
      v_ = static_cast<const Real*>(inputs_.v) + column * bits_;
    } else {
      for (int64_t j = 0; j < n; ++j) {
        Real* row = columns_ + j * padded_;
        load_elements<S>(inputs_.v_element, inputs_.v, (column + j) * bits_, bits_, row);
        for (int64_t k = bits_; k < padded_; ++k) row[k] = 0;
      }
      v_ = columns_;
    }
    if (tile_ == 0 && !params_.with_itself && !problem_.error_aware()) sums_.poison += poison_of<S>(v_, n * padded_);
    if (problem_.counts_agreement()) {
      threes_hold_ = sum_threes(n);
      if (!threes_hold_) sum_subsets(n);
    }
  }

  // Sums of signs per class of the columns, how many are not 0, and whether one is not finite.
  void sum_signs(int64_t column, int64_t n) {
    const int64_t width = problem_.sign_bits(), bits = bits_;
    const int32_t* classes = problem_.column_class == nullptr ? nullptr : problem_.column_class + column;
    int32_t* all = problem_.class_sums + chunk_ * (problem_.dense_classes + 1) * width;
    int32_t* nonzero = problem_.nonzero + chunk_ * width;
    const auto sums_of = [&](int64_t j) {
      return all + (classes == nullptr || classes[j] < 0 ? problem_.dense_classes : classes[j]) * width;
    };
    SignSums<Real> signs;
    const auto add_to = [&](auto& to) {
      if (bits == 64) {  // known to the compiler
        for (int64_t j = 0; j < n; ++j) to.add(v_ + j * padded_, 64, sums_of(j));
      } else {
        for (int64_t j = 0; j < n; ++j) to.add(v_ + j * padded_, bits, sums_of(j));
      }
    };
    if constexpr (std::is_same_v<Real, float>) {
      FloatSignSums floats;
      add_to(floats);
      signs = floats.end();
    } else {
      add_to(signs);
    }
    for (int64_t k = 0; k < bits; ++k) nonzero[k] += static_cast<int32_t>(n);
    if (signs.not_finite) sums_.poison = std::numeric_limits<double>::quiet_NaN();
    if (!signs.zero) return;
    for (int64_t j = 0; j < n; ++j) {
      int32_t* sums = sums_of(j);
      for (int64_t k = 0; k < bits; ++k) {
        if (v_[j * padded_ + k] != 0) continue;
        sums[k] -= std::signbit(v_[j * padded_ + k]) ? -1 : 1;
        --nonzero[k];
      }
    }
  }

  // The columns of the next block come from memory while this one is worked on.
  void prefetch(int64_t column) const {
    if (v_ == columns_) return;
    const char* from = reinterpret_cast<const char*>(static_cast<const Real*>(inputs_.v) + column * bits_);
    const int64_t bytes = std::min(block, end_ - column) * bits_ * static_cast<int64_t>(sizeof(Real));
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 3);
  }

  void run_panel(int64_t p, const Real* packed, int64_t column, int64_t n) {
    const int64_t rows = panel_rows(p), vectors = (rows + S::width - 1) / S::width;
    Real* theta = theta_;
    product<S, false>({v_, padded_, 1, packed, panel, theta, panel, bits_}, n, vectors);
    set_diagonal(p, column, n, static_cast<Real>(-1e30));
    if (asymmetric()) std::memcpy(kept_, theta, static_cast<size_t>(n * panel) * sizeof(Real));
    if (params_.balanced) {
      evaluate<true>(p, n, vectors);
    } else {
      evaluate<false>(p, n, vectors);
    }
    set_diagonal(p, column, n, 0);
    if (asymmetric()) mix_transposed(p, n);
    if (params_.need_grad) {
      Real* gradient = gradient_ + p * panel * gradient_stride_;
      const Operands<S> operands{theta, 1, panel, v_, padded_, gradient, gradient_stride_, n};
      if (fresh_) {
        product<S, false>(operands, rows, padded_ / S::width);
      } else {
        product<S, true>(operands, rows, padded_ / S::width);
      }
    }
    if (problem_.counts_agreement()) count_agreement(p, n);
  }

  // theta_ becomes the derivative, and the values are added up per row.
  template <bool Weighted>
  void evaluate(int64_t p, int64_t n, int64_t vectors) {
    const uint64_t* words = words_ + p * block;
    double* values = values_ + 2 * p * panel;
    const Real weights[2] = {static_cast<Real>(problem_.dissimilar_weight), static_cast<Real>(problem_.similar_weight)};
    int64_t i = 0;
    for (; i + 2 <= vectors; i += 2) {
      evaluate_pairs<Twice<S>, Weighted>(theta_ + i * S::width, words, static_cast<int>(i / 2), n, weights,
                                         values + i * S::width);
    }
    if (i < vectors) {
      evaluate_pairs<S, Weighted>(theta_ + i * S::width, words, static_cast<int>(i), n, weights, values + i * S::width);
    }
  }

  // G / 2 = (P_ij + P_ji) / 2 where the two S differ; elsewhere it is P already.
  void mix_transposed(int64_t p, int64_t n) {
    for (int64_t j = 0; j < n; ++j) {
      const uint64_t mine = words_[p * block + j], other = transposed_[p * block + j];
      for (uint64_t differ = mine ^ other; differ != 0; differ &= differ - 1) {
        const int64_t at = j * panel + __builtin_ctzll(differ);
        const double sigmoid = 1 / (1 + std::exp(-static_cast<double>(kept_[at])));
        const double sum = problem_.similar_weight * (sigmoid - 1) + problem_.dissimilar_weight * sigmoid;
        theta_[at] = static_cast<Real>(sum / 2);
      }
    }
  }

  // Sums of the signs of every subset of four columns, of a block's twelve fours: subsets_[64 bits][four][subset][bit].
  void sum_subsets(int64_t n) const {
    for (int64_t first = 0; first < bits_; first += 64) {
      int8_t* sums = subsets_ + first * (block * 4);
      const int64_t bits = std::min<int64_t>(64, bits_ - first);
      bool zero = true;
      if constexpr (std::is_same_v<Real, float>) {
        if (bits == 64) zero = narrow_signs(v_ + first, n, sums);
      }
      for (int64_t j = 0; zero && j < n; ++j) signs_of(v_ + j * padded_ + first, bits, sums + subset_of(j));
      for (int64_t j = n; j < block; ++j) std::memset(sums + subset_of(j), 0, 64);
      for (int64_t j = 0; j < block; j += 4, sums += 16 * 64) {
        std::memset(sums, 0, 64);
        for (int64_t subset = 3; subset < 16; ++subset) {
          const int64_t rest = subset & (subset - 1);
          if (rest != 0) add_bytes(sums + rest * 64, sums + (subset & -subset) * 64, sums + subset * 64);
        }
      }
    }
  }

  // where the subset of column j alone has its sums
  static int64_t subset_of(int64_t j) { return (j / 4 * 16 + (int64_t{1} << j % 4)) * 64; }

  // The signs of 64 bits of n columns, where no value is 0; else true.
  bool narrow_signs(const float* values, int64_t n, int8_t* sums) const {
    using Bits = FloatBits;
    Bits::V least = Bits::V{} + 1;
    for (int64_t j = 0; j < n; ++j, values += padded_) {
      int8_t* to = sums + subset_of(j);
      for (int64_t k = 0; k < 64; k += Bits::lanes) {
        const Bits::V bits = Bits::load(values + k), magnitude = Bits::magnitude(bits);
        least = magnitude < least ? magnitude : least;
        *reinterpret_cast<Bits::Bytes*>(to + k) = __builtin_convertvector(Bits::sign(bits), Bits::Bytes);
      }
    }
    return Bits::any(least == 0);
  }

  static void signs_of(const Real* __restrict values, int64_t n, int8_t* __restrict to) {
    for (int64_t k = 0; k < n; ++k) to[k] = static_cast<int8_t>((values[k] > 0) - (values[k] < 0));
    for (int64_t k = n; k < 64; ++k) to[k] = 0;
  }

  static void add_bytes(const int8_t* __restrict a, const int8_t* __restrict b, int8_t* __restrict to) {
    for (int64_t k = 0; k < 64; ++k) to[k] = static_cast<int8_t>(a[k] + b[k]);
  }

  // sum_j S_ij sign v_jk of a block, for every row: a look-up for each four columns, whatever is similar.
  void count_agreement(int64_t p, int64_t n) const {
    uint64_t rows[64] = {};
    std::memcpy(rows, words_ + p * block, static_cast<size_t>(n) * sizeof *rows);
    transpose(rows);
    if (threes_hold_) return count_threes(p, rows);
    const int64_t stride = problem_.padded_bits(), count = panel_rows(p);
    for (int64_t first = 0; first < bits_; first += 64) {
      int32_t* to = problem_.agreeing + (chunk_ * params_.rows + first_row_ + p * panel) * stride + first;
      const int8_t* subsets = subsets_ + first * (block * 4);
      const int64_t bits = std::min<int64_t>(64, bits_ - first);
      for (int64_t i = 0; i < count; ++i, to += stride) look_up(rows[i], subsets, bits, to);
    }
  }

  static void look_up(uint64_t similar, const int8_t* subsets, int64_t bits, int32_t* __restrict to) {
    typedef int8_t Bytes __attribute__((vector_size(64), aligned(64), may_alias));
    Bytes sum{};  // at most 48
    similar = similar << 6 | similar >> 58;
#pragma GCC unroll 12
    for (int64_t four = 0; four < block / 4; ++four) {
      const uint64_t at = (four == 0 ? similar : similar >> (4 * four)) & 0x3C0;
      sum += *reinterpret_cast<const Bytes*>(subsets + four * 1024 + at);
    }
    alignas(64) int8_t sums[64];
    std::memcpy(sums, &sum, sizeof sums);
    if (bits == 64) {
      for (int64_t k = 0; k < 64; ++k) to[k] += sums[k];
    } else {
      for (int64_t k = 0; k < bits; ++k) to[k] += sums[k];
    }
  }

  // The same for a block without zeros, where the sum is sum_j S_ij - 2 sum_j S_ij [v_jk < 0], and counted in words:
  // the tables of negative ones of each three columns. False where there are zeros; else it does what sum_signs does,
  // too.
  bool sum_threes(int64_t n) {
    if constexpr (W::exist) {
      bool finite = true;
      for (int64_t first = 0; first < bits_; first += 64) {
        if (!W::negative_of_threes(v_ + first, padded_, n, std::min<int64_t>(64, bits_ - first),
                                   threes_ + first / 64 * W::threes * 16, signs_ + first, finite)) {
          return false;
        }
      }
      if (tile_ != 0) return true;
      const int64_t width = problem_.sign_bits();
      int32_t *sums = problem_.class_sums + chunk_ * width, *nonzero = problem_.nonzero + chunk_ * width;
      for (int64_t k = 0; k < bits_; ++k) sums[k] += signs_[k];
      for (int64_t k = 0; k < bits_; ++k) nonzero[k] += static_cast<int32_t>(n);
      if (!finite) sums_.poison = std::numeric_limits<double>::quiet_NaN();
      return true;
    } else {
      return false;
    }
  }

  // counts_[panel][64 bits][8 rows][plane][row], similar_[panel][row]: enough for as many columns as total_counts waits
  // for.
  void count_threes(int64_t p, const uint64_t* rows) const {
    if constexpr (W::exist) {
      static_assert(block * narrow_blocks <= W::most_counted);
      for (int64_t i = 0; i < panel; ++i) similar_[p * panel + i] += __builtin_popcountll(rows[i]);
      const int64_t count = panel_rows(p), signs = problem_.sign_bits();
      for (int64_t first = 0; first < bits_; first += 64) {
        const uint64_t* tables = threes_ + first / 64 * W::threes * 16;
        uint64_t* counts = counts_ + (p * signs + first) * W::planes;
        for (int64_t i = 0; i < count; i += W::lanes) W::count(rows + i, tables, counts + i * W::planes);
      }
    }
  }

  // What has been counted goes to the sums.
  void total_counts() const {
    if constexpr (W::exist) {
      const int64_t stride = problem_.padded_bits(), signs = problem_.sign_bits();
      for (int64_t i = 0; i < rows_; ++i) {
        for (int64_t first = 0; first < bits_; first += 64) {
          int32_t* to = problem_.agreeing + (chunk_ * params_.rows + first_row_ + i) * stride + first;
          const int64_t bits = std::min<int64_t>(64, bits_ - first);
          const int64_t at = (i / panel * signs + first + i % panel / W::lanes * W::lanes) * W::planes;
          int16_t sums[64];
          W::total(counts_ + at + i % W::lanes, similar_[i], sums);
          if (bits == 64) {
            for (int64_t k = 0; k < 64; ++k) to[k] += sums[k];
          } else {
            for (int64_t k = 0; k < bits; ++k) to[k] += sums[k];
          }
        }
      }
      std::memset(counts_, 0, static_cast<size_t>(panels_ * W::planes * signs) * sizeof *counts_);
      std::memset(similar_, 0, static_cast<size_t>(panels_ * panel) * sizeof *similar_);
    }
  }

  // What has been summed in the storage type goes to double, and the next block of columns begins anew.
  void widen_gradient() {
    if (!params_.need_grad) return;
    const int64_t stride = problem_.gradient_stride(), padded = std::min(padded_, stride);
    double* to = static_cast<double*>(problem_.gradient) + (chunk_ * params_.rows + first_row_) * stride;
    for (int64_t i = 0; i < rows_; ++i, to += stride) {
      add_row(gradient_ + i * padded_, padded, widened_, to);
    }
    widened_ = fresh_ = true;
  }

  static void add_row(const Real* __restrict from, int64_t n, bool add, double* __restrict to) {
    if (add) {
      for (int64_t k = 0; k < n; ++k) to[k] += from[k];
    } else {
      for (int64_t k = 0; k < n; ++k) to[k] = from[k];
    }
  }

  // Of a chunk without columns.
  void clear_gradient() {
    const int64_t stride = problem_.gradient_stride(), element = problem_.narrow ? sizeof(Real) : sizeof(double);
    char* to = static_cast<char*>(problem_.gradient) + (chunk_ * params_.rows + first_row_) * stride * element;
    std::memset(to, 0, static_cast<size_t>(rows_ * stride * element));
  }

  const Problem& problem_;
  const PairwiseParams& params_;
  const PairwiseInputs& inputs_;
  TaskSums& sums_;
  int64_t tile_, chunk_, first_row_, rows_, panels_, begin_, end_, bits_, padded_, gradient_stride_ = 0;
  bool fresh_ = true, widened_ = false;  // gradient_ holds nothing; the sums in double hold something
  const Real* v_ = nullptr;              // [columns of the block, padded_]
  Workspace memory_;
  Real *theta_ = nullptr, *kept_ = nullptr, *columns_ = nullptr, *gradient_ = nullptr;
  double* values_ = nullptr;  // [panels_, 2, panel]: of similar and of dissimilar pairs
  uint64_t *words_ = nullptr, *transposed_ = nullptr, *planes_ = nullptr;
  int8_t* subsets_ = nullptr;
  bool threes_hold_ = false;  // what count_agreement needs of the block is in threes_, not in subsets_
  uint64_t *threes_ = nullptr, *counts_ = nullptr;
  int32_t *similar_ = nullptr, *signs_ = nullptr;
};

template <class S>
bool count_task(const Problem& problem, int64_t index) {
  return Task<S>(problem, index).count();
}

template <class S>
bool run_task(const Problem& problem, int64_t index) {
  return Task<S>(problem, index).run();
}

template <int64_t Rows, class Real>
void transpose_rows(const Real* __restrict from, int64_t padded, Real scale, int64_t bits, Real* __restrict to) {
  for (int64_t k = 0; k < bits; ++k) {
    for (int64_t i = 0; i < Rows; ++i) to[k * panel + i] = scale * from[i * padded + k];
  }
}

// A panel of rows as columns, times scale, with rows of zeros at the end: problem.packed[p][k][i].
template <class S>
bool pack_rows(const Problem& problem, int64_t index) {
  using Real = typename S::Real;
  constexpr int64_t group = 8;
  const PairwiseParams& p = problem.params;
  const int64_t first = index * panel, padded = round_up_to(p.bits, S::width);
  const Real scale = static_cast<Real>(p.scale);
  Workspace memory;
  Real* rows = nullptr;
  memory.add(rows, group * padded);
  if (!memory.allocate()) return false;
  Real* to = reinterpret_cast<Real*>(problem.packed) + first * p.bits;
  double poison = 0;
  for (int64_t i = 0; i < panel; i += group) {
    for (int64_t r = 0; r < group; ++r) {
      const int64_t row = first + i + r, loaded = row < p.rows ? p.bits : 0;
      if (loaded > 0)
        load_elements<S>(problem.inputs.h_element, problem.inputs.h, row * p.bits, loaded, rows + r * padded);
      for (int64_t k = loaded; k < padded; ++k) rows[r * padded + k] = 0;
    }
    poison += poison_of<S>(rows, group * padded);
    transpose_rows<group>(rows, padded, scale, p.bits, to + i);
  }
  problem.poison[index] = poison;
  return true;
}

// Sums of signs of the chunks, per class and in all: into those of the first one.
inline bool merge_signs(const Problem& problem) {
  const int64_t width = problem.sign_bits(), chunk = (problem.dense_classes + 1) * width;
  for (int64_t c = 1; c < problem.chunks; ++c) {
    for (int64_t i = 0; i < chunk; ++i) problem.class_sums[i] += problem.class_sums[c * chunk + i];
    for (int64_t k = 0; k < width; ++k) problem.nonzero[k] += problem.nonzero[c * width + k];
  }
  for (int64_t i = 0; i < chunk; i += width) {
    for (int64_t k = 0; k < width; ++k) problem.total_signs[k] += problem.class_sums[i + k];
  }
  return true;
}

// The gradient of a panel of rows out of those of the chunks, and its quantization, in double: bits in lanes, and for
// each vector of bits all rows, so that sums stay in registers.
template <class S>
class Finish {
  using Real = typename S::Real;
  using D = F64;
  using V = typename D::V;

 public:
  Finish(const Problem& problem, const PairwiseFactors& factors, double poison, void* gradient, int64_t index)
      : problem_(problem), params_(problem.params), poison_(poison), gradient_(static_cast<Real*>(gradient)) {
    pair_ = factors.pair * params_.scale * (params_.with_itself ? 2 : 1);
    bit_ = factors.bit * params_.eta;
    first_ = index * panel;
    rows_ = std::min(panel, params_.rows - first_);
    bits_ = params_.bits;
    padded_ = round_up_to(bits_, 32);  // a multiple of all widths, twice
  }

  bool run(double& quantization) {
    memory_.add(h_, rows_ * padded_);
    memory_.add(slope_, params_.quantization == Quantization::log_cosh ? rows_ * padded_ : 0);
    memory_.add(sums_, padded_, true);
    if (!memory_.allocate()) return false;
    load_rows();
    switch (params_.quantization) {
      case Quantization::none:
        finish<Quantization::none>();
        break;
      case Quantization::l2:
        finish<Quantization::l2>();
        break;
      case Quantization::error_aware:
        finish<Quantization::error_aware>();
        break;
      case Quantization::log_cosh:
        log_cosh();
        finish<Quantization::log_cosh>();
        break;
    }
    quantization = 0;
    for (int64_t k = 0; k < bits_; ++k) quantization += sums_[k];
    return true;
  }

 private:
  void load_rows() {
    const Element element = problem_.inputs.h_element;
    if (element == own_element<S> && bits_ == padded_) {
      x_ = static_cast<const Real*>(problem_.inputs.h) + first_ * bits_;
      return;
    }
    for (int64_t i = 0; i < rows_; ++i) {
      load_elements<S>(element, problem_.inputs.h, (first_ + i) * bits_, bits_, h_ + i * padded_);
      for (int64_t k = bits_; k < padded_; ++k) h_[i * padded_ + k] = 0;
    }
    x_ = h_;
  }

  // sign(x), and its magnitude: 0 where x is 0 or NaN
  template <class L>
  static void sign(typename L::V x, typename L::V& b, typename L::V& magnitude) {
    magnitude = L::select(L::greater(L::abs(x), L::set(0)), L::set(1), L::set(0));
    b = L::with_sign(magnitude, x);
  }

  void log_cosh() {
    using L = Twice<S>;
    for (int64_t at = 0; at < rows_ * padded_; at += L::width) {
      typename L::V value, tanh, b, magnitude;
      const auto x = L::load(x_ + at);
      PairFormula<L>::log_cosh(L::sub(L::abs(x), L::set(1)), value, tanh);
      sign<L>(x, b, magnitude);
      L::add_to(sums_ + at % padded_, value);
      L::store(slope_ + at, L::mul(tanh, b));
    }
  }

  template <Quantization Kind>
  void finish() {
    for (int64_t k = 0; k < bits_; k += D::width) {
      if (params_.with_diagonal) {
        finish_bits<Kind, false>(k);
      } else {
        finish_bits<Kind, true>(k);
      }
    }
  }

  // A vector of bits of all rows. A row's bit is selected by b (similar - total / 2) + |b| nonzero / 2 columns.
  template <Quantization Kind, bool LeaveOut>
  void finish_bits(int64_t first_bit) {
    constexpr bool error_aware = Kind == Quantization::error_aware;
    const bool of_classes = problem_.inputs.similarity == Similarity::class_ids;
    const V half = D::set(0.5), pair = D::set(pair_), poison = D::set(poison_);
    const V bit = D::set(Kind == Quantization::log_cosh ? bit_ : 2 * bit_);
    // a pair (i, i) that is left out is similar in the sums of classes, and not there in those of tasks
    const V own = D::set(of_classes ? 0.5 : -0.5);
    const V half_total = error_aware ? D::mul(half, D::load(problem_.total_signs + first_bit)) : half;
    const V half_nonzero = error_aware ? D::mul(half, D::load(problem_.nonzero + first_bit)) : half;
    const int64_t stride = problem_.padded_bits(), chunk = params_.rows * stride, sign_bits = problem_.sign_bits();
    const int64_t rows = rows_, padded = padded_, chunks = problem_.chunks;
    const int32_t *row_class = problem_.row_class + first_, *class_sums = problem_.class_sums + first_bit;
    const int32_t* agreeing = problem_.agreeing + first_ * stride + first_bit;
    const int64_t gradient_stride = problem_.gradient_stride(), gradient_chunk = params_.rows * gradient_stride;
    const auto gradient_of = [&, narrow = problem_.narrow, sums = problem_.gradient,
                              first = first_ * gradient_stride + first_bit](int64_t at) {
      return narrow ? D::load(static_cast<const Real*>(sums) + first + at)
                    : D::load(static_cast<const double*>(sums) + first + at);
    };
    const Real *x_row = x_ + first_bit, *slope_row = slope_ + first_bit;
    Real* to = gradient_ == nullptr ? nullptr : gradient_ + first_ * bits_ + first_bit;
    V sum = D::set(0);
    for (int64_t i = 0; i < rows; ++i) {
      V slope = D::set(0);  // over two for squares
      if constexpr (Kind == Quantization::log_cosh) slope = D::load(slope_row + i * padded);
      if constexpr (Kind == Quantization::l2 || error_aware) {
        const V x = D::load(x_row + i * padded);
        V b, magnitude;
        sign<D>(x, b, magnitude);
        const V distance = D::sub(x, b);
        slope = distance;
        if constexpr (error_aware) {
          V similar;  // sum_j S_ij sign v_jk
          if (of_classes) {
            similar = D::load(class_sums + row_class[i] * sign_bits);
          } else {
            similar = D::load(agreeing + i * stride);
            for (int64_t c = 1; c < chunks; ++c) similar = D::add(similar, D::load(agreeing + c * chunk + i * stride));
          }
          V excess = D::sub(similar, half_total), existing = half_nonzero;
          if constexpr (LeaveOut) {
            excess = D::fnma(own, b, excess);
            existing = D::fnma(half, magnitude, existing);
          }
          slope = D::mul(D::fma(magnitude, existing, D::mul(b, excess)), distance);
        }
        sum = D::fma(slope, distance, sum);
      }
      if (to == nullptr) continue;
      V gradient = gradient_of(i * gradient_stride);
      for (int64_t c = 1; c < chunks; ++c) {
        gradient = D::add(gradient, gradient_of(c * gradient_chunk + i * gradient_stride));
      }
      gradient = D::fma(bit, slope, D::fma(pair, gradient, poison));
      if (first_bit + D::width <= bits_) {
        D::store(to + i * bits_, gradient);
      } else {
        Real last[D::width];
        D::store(last, gradient);
        std::memcpy(to + i * bits_, last, static_cast<size_t>(bits_ - first_bit) * sizeof(Real));
      }
    }
    if constexpr (Kind != Quantization::log_cosh) D::store(sums_ + first_bit, sum);
  }

  const Problem& problem_;
  const PairwiseParams& params_;
  double poison_, pair_, bit_;
  Real* gradient_;
  const Real* x_ = nullptr;
  int64_t first_, rows_, bits_, padded_;
  Workspace memory_;
  Real *h_ = nullptr, *slope_ = nullptr;
  double* sums_ = nullptr;
};

template <class S>
bool finish_rows(const Problem& problem, const PairwiseFactors& factors, double poison, void* gradient, int64_t index) {
  return Finish<S>(problem, factors, poison, gradient, index).run(problem.quantization[index]);
}

template <class S>
void scale_row(const void* from_, double factor, void* to_, int64_t n) {
  using Real = typename S::Real;
  const Real* from = static_cast<const Real*>(from_);
  Real* to = static_cast<Real*>(to_);
  for (int64_t i = 0; i < n; ++i) to[i] = from[i] * static_cast<Real>(factor);
}

template <class S>
constexpr Kernels kernels_for() {
  return {count_task<S>, pack_rows<S>, run_task<S>, merge_signs, finish_rows<S>, scale_row<S>};
}

Kernels kernels(bool wide) { return wide ? kernels_for<F64>() : kernels_for<F32>(); }
