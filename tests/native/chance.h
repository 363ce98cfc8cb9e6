// Chance for the tests of this folder: the same for a seed.
#pragma once

#include <initializer_list>
#include <random>

class Random {
 public:
  explicit Random(unsigned seed) : bits_(seed) {}
  int below(int n) { return static_cast<int>(bits_() % static_cast<unsigned>(n)); }
  bool one_in(int n) { return below(n) == 0; }
  template <class T>
  T pick(std::initializer_list<T> from) {
    return from.begin()[below(static_cast<int>(from.size()))];
  }
  double value() { return one_in(11) ? 0.0 : normal_(bits_); }

 private:
  std::mt19937 bits_;
  std::normal_distribution<double> normal_;
};
