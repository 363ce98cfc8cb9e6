// Memory of a CPU kernel beside what its caller gave it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace rdh::cpu {

inline int64_t round_up_to(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Arrays in one block of memory, each aligned to a cache line: small calls are all allocation otherwise.
class Workspace {
 public:
  Workspace() = default;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() { std::free(memory_); }

  // Promises `pointer` n elements, zeros or uninitialised, as soon as allocate() has been called; at most 16 of them.
  template <class T>
  void add(T*& pointer, int64_t n, bool zeros = false) {
    parts_[count_++] = {&pointer, round_up_to(n * static_cast<int64_t>(sizeof(T)), 64), zeros};
  }

  // False where there is no memory.
  bool allocate() {
    int64_t bytes = 64;
    for (int i = 0; i < count_; ++i) bytes += parts_[i].bytes;
    memory_ = static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes)));
    if (memory_ == nullptr) return false;
    char* next = memory_;
    for (int i = 0; i < count_; ++i) {
      std::memcpy(parts_[i].pointer, &next, sizeof next);
      if (parts_[i].zeros) std::memset(next, 0, static_cast<size_t>(parts_[i].bytes));
      next += parts_[i].bytes;
    }
    return true;
  }

 private:
  struct Part {
    void* pointer;  // to a pointer of some type
    int64_t bytes;
    bool zeros;
  };
  Part parts_[16];
  int count_ = 0;
  char* memory_ = nullptr;
};

}  // namespace rdh::cpu
