// What a CUDA thread of the simulator runs on: a stack and, under TSan, a fiber of its own; and how to change from one
// to another, announced to the sanitizers.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(RDH_SIMT_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* clock);
void __tsan_release(void* clock);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
constexpr bool tsan = true;
#else
constexpr bool tsan = false;
inline void AnnotateIgnoreWritesBegin(const char*, int) {}
inline void AnnotateIgnoreWritesEnd(const char*, int) {}
inline void __tsan_acquire(void*) {}
inline void __tsan_release(void*) {}
#endif

#if defined(RDH_SIMT_ASAN)
extern "C" {
void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* saved, const void** bottom, size_t* size);
void __asan_unpoison_memory_region(const void* at, size_t size);
void __asan_poison_memory_region(const void* at, size_t size);
}
#else
inline void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
inline void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
inline void __asan_unpoison_memory_region(const void*, size_t) {}
inline void __asan_poison_memory_region(const void*, size_t) {}
#endif

// --- changing stacks: swapcontext would make two system calls each time ----------------------------------------------

#if defined(__x86_64__)
extern "C" void simt_switch(void** save, void* go_on);
asm(R"(
.text
.globl simt_switch
.hidden simt_switch
.type simt_switch, @function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch, .-simt_switch
)");
#endif

namespace simt {

struct Seat {
  const void* stack = nullptr;
  size_t bytes = 0;
  void* tsan_fiber = nullptr;
};

#if defined(__x86_64__)
struct Context {
  void* top = nullptr;
  void start(const Seat& seat, void (*entry)()) {
    void** at = reinterpret_cast<void**>(static_cast<char*>(const_cast<void*>(seat.stack)) + seat.bytes);
    *--at = nullptr;  // where a call would have left its return address
    *--at = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--at = nullptr;
    top = at;
  }
};
inline void change(Context& from, Context& to) { simt_switch(&from.top, to.top); }
#else
struct Context {
  ucontext_t context;
  void start(const Seat& seat, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = const_cast<void*>(seat.stack);
    context.uc_stack.ss_size = seat.bytes;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
};
inline void change(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
#endif

constexpr size_t stack_bytes = 256 << 10;  // touched only as far as it is used

inline Seat new_seat() {
  constexpr size_t page = 4096;  // below each stack, and traps
  void* memory =
      mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
    std::perror("simt: a stack");
    std::abort();
  }
  Seat seat = {static_cast<char*>(memory) + page, stack_bytes, nullptr};
#if defined(RDH_SIMT_TSAN)
  seat.tsan_fiber = __tsan_create_fiber(0);
#endif
  return seat;
}

// Kept for later launches. Whoever sits there next may know what its predecessor did, so under TSan a launch gives
// every thread of its grid a seat of its own.
class Seats {
 public:
  const Seat& operator[](size_t i) {
    while (all_.size() <= i) all_.push_back(new_seat());
    return all_[i];
  }
  void abandon() { all_.clear(); }  // with what a failed launch left on them

 private:
  std::vector<Seat> all_;
};

// From one context to another, which sits on `seat`; `left` is what ASan needs on the way back, null for good.
inline void change(Context& from, Context& to, const Seat& seat, void** left) {
  __sanitizer_start_switch_fiber(left, seat.stack, seat.bytes);
#if defined(RDH_SIMT_TSAN)
  __tsan_switch_to_fiber(seat.tsan_fiber, 1);  // 1: without ordering memory
#endif
  change(from, to);
}

// The first thing to do after a change; `left` is what that filled in, `from` what it came from.
inline void arrive(void* left, Seat* from) {
  __sanitizer_finish_switch_fiber(left, from ? &from->stack : nullptr, from ? &from->bytes : nullptr);
}

}  // namespace simt
