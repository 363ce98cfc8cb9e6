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

// NaN where a value is not finite, else 0; `n` a multiple of the width.
template <class S>
double poison_of(const typename S::Real* values, int64_t n, int64_t rows, int64_t stride) {
  typename S::V sum = S::set(0);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < n; k += S::width) sum = S::fma(S::load(values + i * stride + k), S::set(0), sum);
  }
  double lanes[S::width] = {}, total = 0;
  S::add_to(lanes, sum);
  for (const double lane : lanes) total += lane;
  return total;
}

// Lanes [vector L::width, ...) of theta, `n` columns: theta becomes the derivative, and the values are added to those
// of the rows, similar pairs first, the others a panel behind.
template <class L, bool Weighted>
void evaluate_pairs(typename L::Real* theta, const uint64_t* words, int vector, int64_t n,
                    const typename L::Real (&weights)[2], double* values) {
  using V = typename L::V;
  using Formula = PairFormula<L>;
  V linear[2] = {L::set(0), L::set(0)}, product[2] = {L::set(0), L::set(0)};
  for (int64_t j = 0; j < n; ++j) {
    const auto similar = L::choice(words[j], vector);
    V e, positive, sigmoid;
    Formula::pair(L::flip(similar, L::load(theta + j * panel)), e, positive, sigmoid);
    if constexpr (Weighted) {
      const auto dissimilar = L::choice(~words[j], vector);
      product[1] = Formula::times_one_plus(product[1], L::keep(similar, e));
      linear[1] = L::add(linear[1], L::keep(similar, positive));
      product[0] = Formula::times_one_plus(product[0], L::keep(dissimilar, e));
      linear[0] = L::add(linear[0], L::keep(dissimilar, positive));
      sigmoid = L::mul(sigmoid, L::pick(similar, L::set(weights[1]), L::set(weights[0])));
    } else {
      product[0] = Formula::times_one_plus(product[0], e);
      linear[0] = L::add(linear[0], positive);
    }
    L::store(theta + j * panel, L::flip(similar, sigmoid));
  }
  if constexpr (Weighted) L::add_to(values, L::add(linear[1], Formula::log1p(product[1])));
  L::add_to(values + panel, L::add(linear[0], Formula::log1p(product[0])));
}

// A tile of rows against a chunk of columns: the task of a thread.
template <class S>
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
    if (!allocate_labels()) return false;
    read_row_labels();
    for (int64_t column = begin_; column < end_; column += block) {
      const int64_t n = std::min(block, end_ - column);
      read_similarity(column, n, words_.get());
      leave_out_diagonal(column, n);
      for (int64_t i = 0; i < panels_ * block; ++i) {
        if (i % block < n) sums_.similar_pairs += __builtin_popcountll(words_.get()[i]);
      }
    }
    return true;
  }

  bool run() {
    if (!allocate_labels() || !allocate()) return false;
    read_row_labels();
    pack_rows();
    int64_t blocks = 0;
    for (int64_t column = begin_; column < end_; column += block) {
      const int64_t n = std::min(block, end_ - column);
      read_similarity(column, n, words_.get());
      if (asymmetric()) read_transposed(column, n);
      leave_out_diagonal(column, n);
      load_columns(column, n);
      for (int64_t p = 0; p < panels_; ++p) run_panel(p, column, n);
      if (++blocks % narrow_blocks == 0) widen_gradient();
    }
    widen_gradient();
    for (int64_t i = 0; i < rows_; ++i) {
      const double* lanes = values_.get() + i / panel * 2 * panel + i % panel;
      sums_.similar += lanes[0];
      sums_.dissimilar += lanes[panel];
    }
    return true;
  }

 private:
  int64_t panel_rows(int64_t p) const { return std::min(panel, rows_ - p * panel); }
  // an explicit matrix need not be symmetric: the role of the column then has another S
  bool asymmetric() const { return params_.with_itself && inputs_.similarity == Similarity::matrix; }

  bool allocate_labels() {
    const int64_t classes = inputs_.similarity == Similarity::class_ids ? problem_.dense_classes : inputs_.classes;
    return words_.allocate(tile_panels * block) && transposed_.allocate(asymmetric() ? tile_panels * block : 0) &&
           planes_.allocate_zeros(inputs_.similarity == Similarity::matrix ? 0 : classes * tile_panels);
  }

  bool allocate() {
    const int64_t signs = problem_.counts_agreement() ? problem_.sign_bits() : 0;
    return packed_.allocate(panels_ * bits_ * panel) && theta_.allocate(block * panel) &&
           kept_.allocate(asymmetric() ? block * panel : 0) && columns_.allocate(block * padded_) &&
           gradient_.allocate_zeros(rows_ * padded_) && values_.allocate_zeros(2 * panels_ * panel) &&
           signs_.allocate(block * signs) && agreeing_.allocate((panel + 1) * signs);
  }

  // planes_[c]: the rows of class c, as bits
  void read_row_labels() {
    uint64_t* planes = planes_.get();
    for (int64_t i = 0; i < rows_; ++i) {
      const uint64_t bit = uint64_t{1} << i % panel;
      if (inputs_.similarity == Similarity::class_ids) {
        planes[problem_.row_class[first_row_ + i] * tile_panels + i / panel] |= bit;
      } else if (inputs_.similarity == Similarity::multi_hot) {
        const uint8_t* labels = inputs_.row_labels + (first_row_ + i) * inputs_.classes;
        for (int64_t c = 0; c < inputs_.classes; ++c) {
          if (labels[c] != 0) planes[c * tile_panels + i / panel] |= bit;
        }
      }
    }
  }

  // words[p block + j]: the rows of panel p that are similar to column j, as bits
  void read_similarity(int64_t column, int64_t n, uint64_t* words) const {
    const uint64_t* planes = planes_.get();
    for (int64_t j = 0; j < n; ++j) {
      if (inputs_.similarity == Similarity::class_ids) {
        const int64_t c = problem_.column_class[column + j];
        for (int64_t p = 0; p < panels_; ++p) words[p * block + j] = c < 0 ? 0 : planes[c * tile_panels + p];
      } else if (inputs_.similarity == Similarity::multi_hot) {
        uint64_t any[tile_panels] = {};
        const int64_t classes = inputs_.classes, first = (column + j) * classes, last = params_.columns * classes;
        for (int64_t c = 0; c < classes; c += 64) {
          uint64_t set = label_word(first + c, std::min<int64_t>(64, classes - c), last);
          for (; set != 0; set &= set - 1) {
            const uint64_t* plane = planes + (c + __builtin_ctzll(set)) * tile_panels;
            for (int64_t p = 0; p < tile_panels; ++p) any[p] |= plane[p];
          }
        }
        for (int64_t p = 0; p < panels_; ++p) words[p * block + j] = any[p];
      }
    }
    if (inputs_.similarity == Similarity::matrix) {
      for (int64_t p = 0; p < panels_; ++p) {
        uint64_t rows[panel] = {};
        for (int64_t i = 0; i < panel_rows(p); ++i) rows[i] = matrix_word(first_row_ + p * panel + i, column, n);
        transpose_bits(rows);
        std::memcpy(words + p * block, rows, static_cast<size_t>(n) * sizeof *words);
      }
    }
  }

  // words_, of S with its rows and columns changed: those are consecutive
  void read_transposed(int64_t column, int64_t n) const {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t p = 0; p < panels_; ++p) {
        transposed_.get()[p * block + j] = matrix_word(column + j, first_row_ + p * panel, panel_rows(p));
      }
    }
  }

  // `n` labels from `first` on; nothing behind `last` is read
  uint64_t label_word(int64_t first, int64_t n, int64_t last) const {
    const uint8_t* labels = inputs_.column_labels + first;
    const uint64_t wanted = n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
    if (first + 64 <= last) return nonzero_bytes(labels) & wanted;
    uint8_t padded[64] = {};
    std::memcpy(padded, labels, static_cast<size_t>(n));
    return nonzero_bytes(padded);
  }

  uint64_t matrix_word(int64_t i, int64_t column, int64_t n) const {
    uint64_t word = 0;
    if (inputs_.matrix_bytes == 1 && inputs_.matrix_column == 1 && n == 64 && !inputs_.matrix_floating) {
      return nonzero_bytes(static_cast<const uint8_t*>(inputs_.matrix) + i * inputs_.matrix_row + column);
    }
    for (int64_t j = 0; j < n; ++j) word |= static_cast<uint64_t>(is_similar(inputs_, i, column + j)) << j;
    return word;
  }

  // The pair (i, i) counts as dissimilar, and set_diagonal makes it an easy one.
  void leave_out_diagonal(int64_t column, int64_t n) const {
    if (params_.with_diagonal) return;
    for (int64_t j = std::max(column, first_row_); j < std::min(column + n, first_row_ + rows_); ++j) {
      const int64_t i = j - first_row_, at = i / panel * block + j - column;
      words_.get()[at] &= ~(uint64_t{1} << i % panel);
      if (asymmetric()) transposed_.get()[at] &= ~(uint64_t{1} << i % panel);
    }
  }

  void set_diagonal(int64_t p, int64_t column, int64_t n, Real value) const {
    if (params_.with_diagonal) return;
    const int64_t first = first_row_ + p * panel;
    for (int64_t j = std::max(column, first); j < std::min(column + n, first + panel_rows(p)); ++j) {
      theta_.get()[(j - column) * panel + j - first] = value;
    }
  }

  // Rows as columns, times scale: packed_[p][k][i].
  void pack_rows() {
    const Real scale = static_cast<Real>(params_.scale);
    Buffer<Real>& row = columns_;
    for (int64_t i = 0; i < panels_ * panel; ++i) {
      Real* to = packed_.get() + i / panel * bits_ * panel + i % panel;
      if (i < rows_) {
        for (int64_t k = bits_; k < padded_; ++k) row.get()[k] = 0;
        load_elements<S>(inputs_.h_element, inputs_.h, (first_row_ + i) * bits_, bits_, row.get());
        if (chunk_ == 0) sums_.poison += poison_of<S>(row.get(), padded_, 1, 0);
      }
      for (int64_t k = 0; k < bits_; ++k) to[k * panel] = i < rows_ ? scale * row.get()[k] : 0;
    }
  }

  // Columns in the arithmetic of S, padded with zeros, without a copy where they are so already.
  void load_columns(int64_t column, int64_t n) {
    if (inputs_.v_element == own_element<S> && bits_ == padded_) {
      v_ = static_cast<const Real*>(inputs_.v) + column * bits_;
    } else {
      for (int64_t j = 0; j < n; ++j) {
        Real* row = columns_.get() + j * padded_;
        load_elements<S>(inputs_.v_element, inputs_.v, (column + j) * bits_, bits_, row);
        for (int64_t k = bits_; k < padded_; ++k) row[k] = 0;
      }
      v_ = columns_.get();
    }
    if (tile_ == 0 && !params_.with_itself) sums_.poison += poison_of<S>(v_, padded_, n, padded_);
    if (problem_.counts_agreement()) {
      const int64_t width = problem_.sign_bits();
      for (int64_t j = 0; j < n; ++j) {
        int8_t* signs = signs_.get() + j * width;
        for (int64_t k = 0; k < bits_; ++k) {
          signs[k] = static_cast<int8_t>((v_[j * padded_ + k] > 0) - (v_[j * padded_ + k] < 0));
        }
        for (int64_t k = bits_; k < width; ++k) signs[k] = 0;
      }
    }
  }

  void run_panel(int64_t p, int64_t column, int64_t n) {
    const int64_t rows = panel_rows(p), vectors = (rows + S::width - 1) / S::width;
    Real* theta = theta_.get();
    product<S, false>({v_, padded_, 1, packed_.get() + p * bits_ * panel, panel, theta, panel, bits_}, n, vectors);
    set_diagonal(p, column, n, static_cast<Real>(-1e30));
    if (asymmetric()) std::memcpy(kept_.get(), theta, static_cast<size_t>(n * panel) * sizeof(Real));
    if (params_.balanced) {
      evaluate<true>(p, n, vectors);
    } else {
      evaluate<false>(p, n, vectors);
    }
    set_diagonal(p, column, n, 0);
    if (asymmetric()) mix_transposed(p, n);
    if (params_.need_grad) {
      Real* gradient = gradient_.get() + p * panel * padded_;
      product<S, true>({theta, 1, panel, v_, padded_, gradient, padded_, n}, rows, padded_ / S::width);
    }
    if (problem_.counts_agreement()) count_agreement(p, n);
  }

  // theta_ becomes the derivative, and the values are added up per row.
  template <bool Weighted>
  void evaluate(int64_t p, int64_t n, int64_t vectors) {
    const uint64_t* words = words_.get() + p * block;
    double* values = values_.get() + 2 * p * panel;
    const Real weights[2] = {static_cast<Real>(problem_.dissimilar_weight), static_cast<Real>(problem_.similar_weight)};
    int64_t i = 0;
    for (; i + 2 <= vectors; i += 2) {
      evaluate_pairs<Twice<S>, Weighted>(theta_.get() + i * S::width, words, static_cast<int>(i / 2), n, weights,
                                         values + i * S::width);
    }
    if (i < vectors) {
      evaluate_pairs<S, Weighted>(theta_.get() + i * S::width, words, static_cast<int>(i), n, weights,
                                  values + i * S::width);
    }
  }

  // G / 2 = (P_ij + P_ji) / 2 where the two S differ; elsewhere it is P already.
  void mix_transposed(int64_t p, int64_t n) {
    for (int64_t j = 0; j < n; ++j) {
      const uint64_t mine = words_.get()[p * block + j], other = transposed_.get()[p * block + j];
      for (uint64_t differ = mine ^ other; differ != 0; differ &= differ - 1) {
        const int64_t at = j * panel + __builtin_ctzll(differ);
        const double sigmoid = 1 / (1 + std::exp(-static_cast<double>(kept_.get()[at])));
        const double sum = problem_.similar_weight * (sigmoid - 1) + problem_.dissimilar_weight * sigmoid;
        theta_.get()[at] = static_cast<Real>(sum / 2);
      }
    }
  }

  // sum_j S_ij sign v_jk of a block: the signs of a column go to the rows that are similar to it, or, where those are
  // many, to all rows but those that are not. Up to 48 columns in bytes.
  void count_agreement(int64_t p, int64_t n) {
    const int64_t rows = panel_rows(p), width = problem_.sign_bits();
    const uint64_t existing = rows == 64 ? ~uint64_t{0} : (uint64_t{1} << rows) - 1;
    int8_t *sums = agreeing_.get(), *all = sums + panel * width;
    std::memset(sums, 0, static_cast<size_t>((panel + 1) * width));
    for (int64_t j = 0; j < n; ++j) {
      const int8_t* signs = signs_.get() + j * width;
      uint64_t similar = words_.get()[p * block + j];
      if (2 * __builtin_popcountll(similar) <= rows) {
        for (; similar != 0; similar &= similar - 1)
          add_signs<1>(sums + __builtin_ctzll(similar) * width, signs, width);
      } else {
        add_signs<1>(all, signs, width);
        for (similar = ~similar & existing; similar != 0; similar &= similar - 1) {
          add_signs<-1>(sums + __builtin_ctzll(similar) * width, signs, width);
        }
      }
    }
    for (int64_t i = 0; i < rows; ++i) {
      int32_t* to = problem_.agreeing + (chunk_ * params_.rows + first_row_ + p * panel + i) * bits_;
      for (int64_t k = 0; k < bits_; ++k) to[k] += sums[i * width + k] + all[k];
    }
  }

  template <int Sign>
  static void add_signs(int8_t* to, const int8_t* signs, int64_t width) {
    for (int64_t k = 0; k < width; k += 64) {
      for (int64_t i = k; i < k + 64; ++i) to[i] = static_cast<int8_t>(to[i] + Sign * signs[i]);
    }
  }

  void widen_gradient() {
    if (!params_.need_grad) return;
    for (int64_t i = 0; i < rows_; ++i) {
      double* to = problem_.gradient + (chunk_ * params_.rows + first_row_ + i) * bits_;
      Real* from = gradient_.get() + i * padded_;
      for (int64_t k = 0; k < bits_; ++k) to[k] += from[k];
      for (int64_t k = 0; k < padded_; ++k) from[k] = 0;
    }
  }

  const Problem& problem_;
  const PairwiseParams& params_;
  const PairwiseInputs& inputs_;
  TaskSums& sums_;
  int64_t tile_, chunk_, first_row_, rows_, panels_, begin_, end_, bits_, padded_;
  const Real* v_ = nullptr;  // [columns of the block, padded_]
  Buffer<Real> packed_, theta_, kept_, columns_, gradient_;
  Buffer<double> values_;  // [panels_, 2, panel]: of similar and of dissimilar pairs
  Buffer<uint64_t> words_, transposed_, planes_;
  Buffer<int8_t> signs_, agreeing_;
};

template <class S>
bool count_task(const Problem& problem, int64_t index) {
  return Task<S>(problem, index).count();
}

template <class S>
bool run_task(const Problem& problem, int64_t index) {
  return Task<S>(problem, index).run();
}

// Sums of signs over columns, per class, and how many are not 0: 64 bits of the codes.
template <class S>
bool sum_signs(const Problem& problem, int64_t index) {
  using Real = typename S::Real;
  const PairwiseParams& p = problem.params;
  const int64_t first = 64 * index, bits = std::min<int64_t>(64, p.bits - first), width = problem.sign_bits();
  const bool direct = problem.inputs.v_element == own_element<S> && bits == 64;
  alignas(64) Real copy[64] = {};
  alignas(64) int32_t nonzero[64] = {};
  for (int64_t j = 0; j < p.columns; ++j) {
    const int64_t at = j * p.bits + first;
    if (!direct) load_elements<S>(problem.inputs.v_element, problem.inputs.v, at, bits, copy);
    const Real* values = direct ? static_cast<const Real*>(problem.inputs.v) + at : copy;
    const int64_t found = problem.column_class == nullptr ? -1 : problem.column_class[j];
    int32_t* sums = problem.class_sums + (found < 0 ? problem.dense_classes : found) * width + first;
    for (int64_t k = 0; k < 64; ++k) {
      const int32_t positive = values[k] > 0, negative = values[k] < 0;
      sums[k] += positive - negative;
      nonzero[k] += positive | negative;
    }
  }
  std::memcpy(problem.nonzero + first, nonzero, sizeof nonzero);
  return true;
}

// The gradient of a panel of rows out of those of the chunks, and its quantization.
template <class S>
class Finish {
  using Real = typename S::Real;

 public:
  Finish(const Problem& problem, const PairwiseFactors& factors, double poison, void* gradient, int64_t index)
      : problem_(problem), params_(problem.params), poison_(poison), gradient_(static_cast<Real*>(gradient)) {
    pair_ = factors.pair * params_.scale * (params_.with_itself ? 2 : 1);
    bit_ = factors.bit * params_.eta;
    first_ = index * panel;
    rows_ = std::min(panel, params_.rows - first_);
    padded_ = round_up_to(params_.bits, 2 * S::width);
  }

  bool run(double& quantization) {
    if (!row_.allocate_zeros(padded_) || !slope_.allocate(padded_) || !lanes_.allocate_zeros(padded_)) return false;
    if (!total_.allocate_zeros(padded_) || !gradient_row_.allocate(padded_)) return false;
    if (problem_.error_aware()) add_totals();
    for (int64_t i = first_; i < first_ + rows_; ++i) {
      quantize(i);
      if (params_.need_grad) add_gradient(i);
    }
    quantization = 0;
    for (int64_t k = 0; k < params_.bits; ++k) quantization += lanes_.get()[k];
    return true;
  }

 private:
  void add_totals() {
    const int64_t width = problem_.sign_bits();
    for (int64_t c = 0; c <= problem_.dense_classes; ++c) {
      for (int64_t k = 0; k < params_.bits; ++k) total_.get()[k] += problem_.class_sums[c * width + k];
    }
  }

  // The term of a row goes to lanes_, its derivative to slope_.
  void quantize(int64_t i) {
    const int64_t bits = params_.bits;
    Real *x = row_.get(), *slope = slope_.get();
    double* lanes = lanes_.get();
    if (params_.quantization == Quantization::none) {
      for (int64_t k = 0; k < bits; ++k) slope[k] = 0;
      return;
    }
    load_elements<S>(problem_.inputs.h_element, problem_.inputs.h, i * bits, bits, x);
    if (params_.quantization == Quantization::log_cosh) {
      using L = Twice<S>;
      for (int64_t k = 0; k < padded_; k += L::width) {
        typename L::V value, tanh;
        const auto v = L::load(x + k);
        PairFormula<L>::log_cosh(L::sub(L::abs(v), L::set(1)), value, tanh);
        L::add_to(lanes + k, value);
        L::store(slope + k, L::mul(tanh, sign_of<L>(v)));
      }
      return;
    }
    const double* selected = nullptr;
    if (problem_.error_aware()) {
      select(i);
      selected = selected_row();
    }
    for (int64_t k = 0; k < bits; ++k) {
      const double value = x[k], distance = value - ((value > 0) - (value < 0));
      const double weight = selected == nullptr ? 1 : selected[k];
      lanes[k] += weight * distance * distance;
      slope[k] = static_cast<Real>(2 * weight * distance);
    }
  }

  template <class L>
  static typename L::V sign_of(typename L::V v) {
    const auto zero = L::set(0), one = L::set(1);
    const auto nonzero =
        L::select(L::greater_equal(L::abs(v), L::set(std::numeric_limits<Real>::denorm_min())), one, zero);
    return L::with_sign(nonzero, v);
  }

  const double* selected_row() const { return gradient_row_.get(); }

  // How many columns select each bit of a row.
  void select(int64_t i) {
    const int64_t bits = params_.bits, width = problem_.sign_bits();
    const bool of_classes = problem_.inputs.similarity == Similarity::class_ids;
    const Real* x = row_.get();
    const double left_out = params_.with_diagonal ? 0 : 1;
    double* selected = gradient_row_.get();
    for (int64_t k = 0; k < bits; ++k) selected[k] = 0;
    if (of_classes) {
      const int32_t* sums = problem_.class_sums + problem_.row_class[i] * width;
      for (int64_t k = 0; k < bits; ++k) selected[k] = sums[k] - left_out * ((x[k] > 0) - (x[k] < 0));
    } else {
      for (int64_t c = 0; c < problem_.chunks; ++c) {
        const int32_t* sums = problem_.agreeing + (c * params_.rows + i) * bits;
        for (int64_t k = 0; k < bits; ++k) selected[k] += sums[k];
      }
    }
    const int32_t* nonzero = problem_.nonzero;
    const double* total = total_.get();
    for (int64_t k = 0; k < bits; ++k) {
      const double b = (x[k] > 0) - (x[k] < 0), own = left_out * b;
      const double agreement = 2 * selected[k] - (total[k] - own);
      selected[k] = 0.5 * (b * b * (nonzero[k] - left_out * b * b) + b * agreement);
    }
  }

  void add_gradient(int64_t i) {
    const int64_t bits = params_.bits;
    double* sum = gradient_row_.get();
    for (int64_t k = 0; k < bits; ++k) sum[k] = poison_ + bit_ * slope_.get()[k];
    for (int64_t c = 0; c < problem_.chunks; ++c) {
      const double* from = problem_.gradient + (c * params_.rows + i) * bits;
      for (int64_t k = 0; k < bits; ++k) sum[k] += pair_ * from[k];
    }
    Real* to = gradient_ + i * bits;
    for (int64_t k = 0; k < bits; ++k) to[k] = static_cast<Real>(sum[k]);
  }

  const Problem& problem_;
  const PairwiseParams& params_;
  double poison_, pair_, bit_;
  Real* gradient_;
  int64_t first_, rows_, padded_;
  Buffer<Real> row_, slope_;
  Buffer<double> lanes_, total_, gradient_row_;
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
  return {count_task<S>, run_task<S>, sum_signs<S>, finish_rows<S>, scale_row<S>};
}

Kernels kernels(bool wide) { return wide ? kernels_for<F64>() : kernels_for<F32>(); }
