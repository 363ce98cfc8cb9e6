// Average precision of whole rankings from histograms, in the mean over the orders of tied items.
#pragma once

#include <cstdint>

#include "common/parallel.h"

namespace rdh::cpu {

// histogram [queries, bins, 2]: items, relevant items; out [queries]. Whatever the counts are, nothing else is read.
void average_precision(const int64_t* histogram, int64_t queries, int64_t bins, double* out, const Parallel& parallel);

}  // namespace rdh::cpu
