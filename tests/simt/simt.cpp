// The scheduler of simt.h. Compiled without sanitizers (RDH_SIMT_ASAN and RDH_SIMT_TSAN only tell it to announce its
// fibers): what it does itself is not what they are to look at.

#include "simt.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "fiber.h"

#if defined(RDH_SIMT_TSAN)
extern "C" const char* __tsan_default_options() { return "halt_on_error=1"; }
#endif

namespace simt {

const Thread* self = nullptr;

namespace {

constexpr unsigned max_tsan_threads = 4096;  // of a launch: TSan keeps them all, and takes about 8,000
constexpr int max_copies = 128;              // that a thread may have in flight
constexpr int max_atomics = 32;              // whose order a thread remembers up to its next fence
constexpr size_t default_shared = 48 << 10, most_shared = 227 << 10;

struct Fiber : Thread {
  Context context;
  Seat seat = {};
  void* asan_stack = nullptr;
  int index = 0;
  bool ended = false;
  const unsigned* watched = nullptr;  // what it waits for changes from `seen`
  unsigned seen = 0;
  unsigned mask = 0;  // with whom, in a warp
  const char* what = "";
  Site site;
  AsyncCopy copies[max_copies];  // in flight: those from landed_copies on
  int issued_copies = 0, landed_copies = 0, committed_groups = 0;
  int groups[max_copies];  // a ring: where each committed group that has not landed ends in `copies`
  int first_group = 0;
  Site copies_from;
  bool fenced = false;
  int atomics = 0;  // those it met since its last fence, as far as there is room
  char* atomic_clocks[max_atomics];

  int lane() const { return index % 32; }
  int warp() const { return index / 32; }
};

struct Group {  // lanes that meet
  bool used = false;
  unsigned mask = 0, arrived = 0, left = 0, complete = 0;
  const char* what = nullptr;
  uint64_t values[32];
  char* clock = nullptr;
};

struct Array {  // of shared memory
  const void* key;
  char *memory, *data;
  size_t bytes;
};

struct AtomicClock {
  const void* atomic;
  char* clock;
};

struct Run {  // one launch
  const Launch* launch = nullptr;
  void (*body)(const void*) = nullptr;
  const void* closure = nullptr;
  unsigned threads = 0, ended = 0;  // of the block
  Group groups[32][32];
  unsigned waiting = 0, generation = 0, votes[2] = {0, 0};  // of the barrier
  Site barrier_site;
  char* barrier_clocks[2] = {nullptr, nullptr};
  char *start_clock = nullptr, *end_clock = nullptr;
  std::vector<AtomicClock> atomics;
  std::vector<Array> arrays;
  size_t static_bytes = 0;
  std::vector<void*> kept;  // memory that TSan must not see twice
  size_t seated = 0;
  bool failed = false;
};

std::vector<Fiber> fibers;
Context scheduler;
Seat scheduler_seat;
Seats seats;
Fiber* running = nullptr;
Run* current = nullptr;
std::mutex one_launch;

int failure_count = 0;
char failure_text[1024] = "";
cudaError_t last_error = cudaSuccess;

enum class Order { forward, reverse, random };
Order order = Order::forward;
uint64_t seed = 0, random_state = 0;

char* new_clock() { return tsan ? static_cast<char*>(std::malloc(1)) : nullptr; }

void shuffle(std::vector<unsigned>& items) {
  std::iota(items.begin(), items.end(), 0u);
  if (order == Order::reverse) std::reverse(items.begin(), items.end());
  if (order != Order::random) return;
  for (size_t i = items.size(); i > 1; --i) {
    random_state ^= random_state << 13;  // xorshift64
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    std::swap(items[i - 1], items[random_state % i]);
  }
}

// --- fibers ----------------------------------------------------------------------------------------------------------

void to_scheduler(Fiber& fiber, bool for_good) {
  change(fiber.context, scheduler, scheduler_seat, for_good ? nullptr : &fiber.asan_stack);
  arrive(fiber.asan_stack, &scheduler_seat);
}

void resume(Fiber& fiber) {
  void* asan_stack = nullptr;
  running = &fiber;
  self = &fiber;
  change(scheduler, fiber.context, fiber.seat, &asan_stack);
  arrive(asan_stack, nullptr);
  running = nullptr;
}

void wait_for_change(Fiber& fiber, const unsigned& watched, const char* what, unsigned mask, Site site) {
  fiber.watched = &watched;
  fiber.seen = watched;
  fiber.what = what;
  fiber.mask = mask;
  fiber.site = site;
  to_scheduler(fiber, false);
  fiber.watched = nullptr;
}

void vreport(Site site, const char* format, va_list arguments) {
  char message[700], place[200] = "";
  std::vsnprintf(message, sizeof message, format, arguments);
  if (running != nullptr) {
    const Fiber& f = *running;
    std::snprintf(place, sizeof place, "block (%u, %u, %u), thread (%u, %u, %u): ", f.block.x, f.block.y, f.block.z,
                  f.thread.x, f.thread.y, f.thread.z);
  }
  std::snprintf(failure_text, sizeof failure_text, "%s:%u: %s%s", site.file_name(), site.line(), place, message);
  std::fprintf(stderr, "simt: %s\n", failure_text);
  ++failure_count;
}

__attribute__((format(printf, 2, 3))) void report(Site site, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vreport(site, format, arguments);
  va_end(arguments);
}

void end_of_thread(Fiber& f) {
  Run& run = *current;
  if (f.issued_copies != f.landed_copies) {
    fail(f.copies_from, "cp.async: the thread ended and had not waited for this copy");
  }
  f.ended = true;
  ++run.ended;
  if (run.waiting != 0) {
    fail(run.barrier_site, "the thread ended, and %u threads wait at this barrier", run.waiting);
  }
  for (const Group& group : run.groups[f.warp()]) {
    if (group.used && !group.complete && (group.mask >> f.lane() & 1) != 0) {
      fail(f.site, "the thread ended, and lanes %08x wait for it in %s(%08x)", group.arrived, group.what, group.mask);
    }
  }
}

void entry() {
  arrive(nullptr, &scheduler_seat);
  __tsan_acquire(current->start_clock);
  current->body(current->closure);
  end_of_thread(*running);
  __tsan_release(current->end_clock);
  to_scheduler(*running, true);
  std::abort();
}

void prepare(Fiber& f, unsigned index, uint3 block) {
  Run& run = *current;
  const dim3 t = run.launch->threads;
  f.index = static_cast<int>(index);
  f.thread = {index % t.x, index / t.x % t.y, index / t.x / t.y};
  f.block = block;
  f.threads = t;
  f.blocks = run.launch->blocks;
  f.ended = false;
  f.watched = nullptr;
  f.issued_copies = f.landed_copies = f.committed_groups = f.atomics = 0;
  f.fenced = false;
  f.seat = seats[tsan ? run.seated++ : index];
  __asan_unpoison_memory_region(f.seat.stack, f.seat.bytes);  // a thread that failed left its frames there
  f.context.start(f.seat, entry);
}

// --- blocks ----------------------------------------------------------------------------------------------------------

void poison(Array& array) { std::memset(array.data, 0xFF, array.bytes); }

// Aligned as asked and no better, as an array on a device may be, so that wider accesses show.
Array& new_array(const void* key, size_t bytes, size_t alignment) {
  Run& run = *current;
  void* memory = nullptr;
  alignment = std::max(alignment, sizeof(void*));
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);  // the memory is the block's, not of the thread that comes first
  if (posix_memalign(&memory, 2 * alignment, alignment + std::max<size_t>(bytes, 1)) != 0) std::abort();
  char* data = static_cast<char*>(memory) + alignment;
  run.arrays.push_back({key, static_cast<char*>(memory), data, bytes});
  poison(run.arrays.back());
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  __asan_poison_memory_region(memory, alignment);
  return run.arrays.back();
}

void release(Array& array) {
  __asan_unpoison_memory_region(array.memory, static_cast<size_t>(array.data - array.memory));
  std::free(array.memory);
}

void start_block() {
  Run& run = *current;
  run.waiting = run.ended = run.votes[0] = run.votes[1] = 0;
  if (tsan) {  // other blocks have used this memory, without any order: give it away
    for (Array& array : run.arrays) run.kept.push_back(array.memory);
    for (char*& clock : run.barrier_clocks) {
      if (clock != nullptr) run.kept.push_back(clock);
      clock = new_clock();
    }
    run.arrays.clear();
    run.static_bytes = 0;
  }
  for (Array& array : run.arrays) poison(array);
  if (run.launch->dynamic_bytes != 0 && run.arrays.empty()) new_array(nullptr, run.launch->dynamic_bytes, 16);
}

void report_standstill() {
  std::string who;
  int shown = 0;
  for (unsigned i = 0; i < current->threads && shown < 4; ++i) {
    const Fiber& f = fibers[i];
    if (f.ended) continue;
    char text[300];
    std::snprintf(text, sizeof text, "%s thread %u in %s(%08x) at %s:%u", shown ? ";" : "", i, f.what, f.mask,
                  f.site.file_name(), f.site.line());
    who += text;
    ++shown;
  }
  const auto waiting =
      std::find_if(fibers.begin(), fibers.begin() + current->threads, [](const Fiber& f) { return !f.ended; });
  report(waiting->site, "lanes that never arrive: nothing can go on:%s", who.c_str());
  last_error = cudaErrorLaunchFailure;
  current->failed = true;
}

void run_block(uint3 block) {
  Run& run = *current;
  start_block();
  for (unsigned i = 0; i < run.threads; ++i) prepare(fibers[i], i, block);
  std::vector<unsigned> turn(run.threads);
  while (run.ended < run.threads) {
    bool moved = false;
    shuffle(turn);
    for (const unsigned i : turn) {
      Fiber& f = fibers[i];
      if (f.ended || (f.watched != nullptr && *f.watched == f.seen)) continue;
      moved = true;
      resume(f);
      if (run.failed) return;
    }
    if (!moved) return report_standstill();
  }
}

struct OptIn {
  const void* function;
  size_t bytes;
};
std::vector<OptIn> opted_in;

size_t allowed_shared(const void* function) {
  for (const OptIn& entry : opted_in) {
    if (entry.function == function) return std::max(entry.bytes, default_shared);
  }
  return default_shared;
}

bool shape_is_possible(const Launch& l) {
  const dim3 b = l.blocks, t = l.threads;
  const bool grid = b.x >= 1 && b.x <= 0x7FFFFFFFu && b.y >= 1 && b.y <= 65535 && b.z >= 1 && b.z <= 65535;
  const bool block =
      t.x >= 1 && t.x <= 1024 && t.y >= 1 && t.y <= 1024 && t.z >= 1 && t.z <= 64 && uint64_t{t.x} * t.y * t.z <= 1024;
  if (!grid || !block) {
    report(l.site, "launch: no device takes a grid of (%u, %u, %u) blocks of (%u, %u, %u) threads", b.x, b.y, b.z, t.x,
           t.y, t.z);
    last_error = cudaErrorInvalidConfiguration;
    return false;
  }
  if (l.dynamic_bytes > allowed_shared(l.function)) {
    report(l.site, "launch: %zu bytes of dynamic shared memory, allowed are %zu; see cudaFuncSetAttribute",
           l.dynamic_bytes, allowed_shared(l.function));
    last_error = cudaErrorInvalidValue;
    return false;
  }
  if (tsan && uint64_t{b.x} * b.y * b.z * t.x * t.y * t.z > max_tsan_threads) {
    report(l.site, "launch: under TSan at most %u threads; make the grid smaller", max_tsan_threads);
    last_error = cudaErrorInvalidConfiguration;
    return false;
  }
  return true;
}

// Names of the instances that ran, for the test that all of them do.
void note_instance(const char* function) {
  static std::FILE* const file = [] {
    const char* path = std::getenv("SIMT_INSTANCES");
    return path ? std::fopen(path, "a") : nullptr;
  }();
  static std::vector<const char*> noted;
  if (file == nullptr || std::find(noted.begin(), noted.end(), function) != noted.end()) return;
  noted.push_back(function);
  std::fprintf(file, "%s\n", function);
  std::fflush(file);
}

void run_blocks() {
  Run& run = *current;
  const dim3 grid = run.launch->blocks;
  std::vector<unsigned> turn(size_t{grid.x} * grid.y * grid.z);
  shuffle(turn);
  for (const unsigned i : turn) {
    run_block({i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y});
    if (run.failed) return;
  }
}

}  // namespace

void run(const Launch& launch, void (*body)(const void*), const void* closure) {
  const std::lock_guard<std::mutex> lock(one_launch);
  if (!shape_is_possible(launch)) return;
  note_instance(launch.kernel);
  const auto state = std::make_unique<Run>();
  Run& run = *state;
  current = &run;
  run.launch = &launch;
  run.body = body;
  run.closure = closure;
  run.threads = launch.threads.x * launch.threads.y * launch.threads.z;
  run.start_clock = new_clock();
  run.end_clock = new_clock();
  if (fibers.size() < run.threads) fibers.resize(run.threads);
  random_state = seed * 0x9E3779B97F4A7C15u + 0x2545F4914F6CDD1Du;
#if defined(RDH_SIMT_TSAN)
  scheduler_seat.tsan_fiber = __tsan_get_current_fiber();
#endif
  __tsan_release(run.start_clock);
  run_blocks();
  __tsan_acquire(run.end_clock);
  if (tsan && run.failed) seats.abandon();
  for (Array& array : run.arrays) release(array);
  for (void* memory : run.kept) std::free(memory);
  for (AtomicClock& entry : run.atomics) std::free(entry.clock);
  for (char* clock : {run.barrier_clocks[0], run.barrier_clocks[1], run.start_clock, run.end_clock}) std::free(clock);
  self = nullptr;
  current = nullptr;
}

bool set_order(const char* text) {
  const std::string name = text;
  if (name != "forward" && name != "reverse" && name.rfind("random:", 0) != 0) return false;
  order = name == "forward" ? Order::forward : name == "reverse" ? Order::reverse : Order::random;
  seed = order == Order::random ? std::strtoull(name.c_str() + 7, nullptr, 10) : 0;
  return true;
}

int failures() { return failure_count; }
const char* last_failure() { return failure_text; }

void fail(Site site, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vreport(site, format, arguments);
  va_end(arguments);
  last_error = cudaErrorLaunchFailure;
  current->failed = true;
  to_scheduler(*running, true);
  std::abort();  // nobody comes back here
}

// --- memory ----------------------------------------------------------------------------------------------------------

void* shared_array(const void* key, size_t bytes, size_t alignment, Site site) {
  Run& run = *current;
  for (Array& array : run.arrays) {
    if (array.key == key) return array.data;
  }
  run.static_bytes += bytes;
  const size_t together = run.static_bytes + run.launch->dynamic_bytes;
  const size_t allowed = allowed_shared(run.launch->function) > default_shared ? most_shared : default_shared;
  if (run.static_bytes > default_shared || together > allowed) {
    fail(site, "%zu bytes of static and %zu of dynamic shared memory; allowed are %zu and together %zu",
         run.static_bytes, run.launch->dynamic_bytes, default_shared, allowed);
  }
  return new_array(key, bytes, alignment).data;
}

void* dynamic_shared(Site site) {
  Run& run = *current;
  if (run.launch->dynamic_bytes == 0) fail(site, "DYN_SMEM in a kernel that is launched with none");
  return shared_array(nullptr, run.launch->dynamic_bytes, 16, site);
}

void cp_async_issue(const AsyncCopy& copy, Site site) {
  Fiber& f = *running;
  const auto address = [](const void* p) { return reinterpret_cast<uintptr_t>(p); };
  if ((address(copy.to) | address(copy.from)) % static_cast<uintptr_t>(copy.bytes) != 0) {
    fail(site, "cp.async: both addresses must be multiples of %d", copy.bytes);
  }
  const char* to = static_cast<const char*>(copy.to);
  const bool shared = std::any_of(current->arrays.begin(), current->arrays.end(),
                                  [&](const Array& a) { return to >= a.data && to + copy.bytes <= a.data + a.bytes; });
  if (!shared) fail(site, "cp.async: the destination is not shared memory");
  if (f.committed_groups == 0 && f.issued_copies == f.landed_copies) f.issued_copies = f.landed_copies = 0;
  if (f.issued_copies == max_copies) fail(site, "cp.async: more than %d copies in flight", max_copies);
  f.copies[f.issued_copies++] = copy;
  f.copies_from = site;
}

void cp_async_commit(Site site) {
  if (removed(site) != Removed::no) return;
  Fiber& f = *running;
  if (f.committed_groups == max_copies) fail(site, "cp.async: more than %d groups in flight", max_copies);
  f.groups[(f.first_group + f.committed_groups++) % max_copies] = f.issued_copies;
}

const AsyncCopy* cp_async_landed(int groups_in_flight, int& count, Site site) {
  Fiber& f = *running;
  count = 0;
  const int landing = f.committed_groups - groups_in_flight;
  if (removed(site) != Removed::no || landing <= 0) return nullptr;
  const AsyncCopy* first = f.copies + f.landed_copies;
  count = f.groups[(f.first_group + landing - 1) % max_copies] - f.landed_copies;
  f.landed_copies += count;
  f.first_group = (f.first_group + landing) % max_copies;
  f.committed_groups = groups_in_flight;
  return first;
}

// --- meetings --------------------------------------------------------------------------------------------------------

int lane() { return running->lane(); }

Votes barrier(bool vote, Site site) {
  Run& run = *current;
  Fiber& f = *running;
  const int all = static_cast<int>(run.threads);
  if (removed(site) != Removed::no) return {vote, all};
  if (run.ended != 0) fail(site, "barrier: %u threads of the block ended before it", run.ended);
  if (run.waiting == 0) run.barrier_site = site;
  if (site.line() != run.barrier_site.line() || std::strcmp(site.file_name(), run.barrier_site.file_name()) != 0) {
    fail(site, "divergent barrier: other threads wait at %s:%u", run.barrier_site.file_name(), run.barrier_site.line());
  }
  const unsigned parity = run.generation % 2;  // one thread may be at the next barrier before all have left this one
  run.votes[parity] += vote;
  char* clock = run.barrier_clocks[parity];
  __tsan_release(clock);
  if (++run.waiting == run.threads) {
    run.waiting = 0;
    run.votes[1 - parity] = 0;
    ++run.generation;
  } else {
    wait_for_change(f, run.generation, "__syncthreads", 0xFFFFFFFFu, site);
  }
  __tsan_acquire(clock);
  return {static_cast<int>(run.votes[parity]), all};
}

// What was written before a fence is seen after a fence by whoever, in between, met an atomic after the writer did.
void fence(Site site) {
  if (removed(site) != Removed::no) return;
  Fiber& f = *running;
  f.fenced = true;
  for (int i = 0; i < f.atomics; ++i) __tsan_acquire(f.atomic_clocks[i]);
  f.atomics = 0;
}

#if defined(RDH_SIMT_TSAN)
void order_by_fences(const void* atomic) {
  Run& run = *current;
  Fiber& f = *running;
  auto found = std::find_if(run.atomics.begin(), run.atomics.end(),
                            [=](const AtomicClock& entry) { return entry.atomic == atomic; });
  if (found == run.atomics.end()) {
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    run.atomics.push_back({atomic, new_clock()});
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    found = run.atomics.end() - 1;
  }
  if (f.fenced) __tsan_release(found->clock);
  f.atomic_clocks[f.atomics++ % max_atomics] = found->clock;
  f.atomics = std::min(f.atomics, max_atomics);
}
#endif

const uint64_t* meet(unsigned mask, uint64_t value, const char* what, bool orders_memory, Site site) {
  Run& run = *current;
  Fiber& f = *running;
  const unsigned own = 1u << f.lane();
  if ((mask & own) == 0) fail(site, "%s: lane %d is not in its own mask %08x", what, f.lane(), mask);
  for (unsigned i = 0; i < 32; ++i) {
    if ((mask >> i & 1) == 0) continue;
    const unsigned other = static_cast<unsigned>(f.warp()) * 32 + i;
    if (other >= run.threads) fail(site, "%s(%08x): lane %u does not exist in this block", what, mask, i);
    if (fibers[other].ended) fail(site, "%s(%08x): lane %u has ended", what, mask, i);
  }
  Group* group = nullptr;
  for (Group& g : run.groups[f.warp()]) {
    if (g.used && !g.complete && g.mask == mask && (g.arrived & own) == 0 && std::strcmp(g.what, what) == 0) group = &g;
  }
  if (group == nullptr) {
    group = std::find_if(std::begin(run.groups[f.warp()]), std::end(run.groups[f.warp()]),
                         [](const Group& g) { return !g.used; });
    group->used = true;
    group->mask = mask;
    group->arrived = group->left = group->complete = 0;
    group->what = what;
    group->clock = orders_memory ? new_clock() : nullptr;
  }
  group->arrived |= own;
  group->values[f.lane()] = value;
  if (group->clock) __tsan_release(group->clock);
  f.site = site;
  if (group->arrived == mask) {
    group->complete = 1;
  } else {
    wait_for_change(f, group->complete, what, mask, site);
  }
  if (group->clock) __tsan_acquire(group->clock);
  group->left |= own;
  if (group->left == mask) {
    std::free(group->clock);
    group->clock = nullptr;
    group->used = false;
  }
  return group->values;
}

}  // namespace simt

// --- the little of the runtime that launchers use --------------------------------------------------------------------

#define SIMT_EXPORT __attribute__((visibility("default")))

extern "C" {

// for simt_ops/__init__.py
SIMT_EXPORT int simt_set_order(const char* order) { return simt::set_order(order); }
SIMT_EXPORT const char* simt_last_failure() { return simt::failure_text; }

cudaError_t cudaGetLastError() {
  const cudaError_t error = simt::last_error;
  simt::last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : simt::failure_text; }

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<size_t>(value) > simt::most_shared) {
    return cudaErrorInvalidValue;
  }
  simt::opted_in.insert(simt::opted_in.begin(), {function, static_cast<size_t>(value)});
  return cudaSuccess;
}

}  // extern "C"
