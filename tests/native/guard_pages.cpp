// For LD_PRELOAD: while it is switched on, every block of aligned memory (tensors, and workspaces of kernels) ends
// where a page begins that nobody may touch, and freed blocks may not be touched either. Anything else goes to malloc.

#include <dlfcn.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace {

constexpr size_t page = 4096, arena_pages = size_t{1} << 24;  // 64 GiB of addresses, which cost nothing

std::atomic<bool> is_on{false};
std::atomic<size_t> next_page{0}, blocks{0};
size_t* pages_of = nullptr;  // of the block that begins with a page
char* arena = nullptr;

template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

void* map(size_t bytes, int protection) {
  return mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

void* guarded(size_t alignment, size_t bytes) {
  const size_t size = (bytes + alignment - 1) / alignment * alignment, pages = (size + page - 1) / page;
  const size_t first = next_page.fetch_add(pages + 1);
  if (alignment > page || first + pages >= arena_pages) return nullptr;
  char* start = arena + first * page;
  if (pages > 0 && mprotect(start, pages * page, PROT_READ | PROT_WRITE) != 0) return nullptr;
  pages_of[first] = pages;
  ++blocks;
  return start + pages * page - size;
}

}  // namespace

extern "C" {

// Returns how many blocks have been guarded so far.
size_t guard_pages(int on) {
  if (arena == nullptr) {
    pages_of = static_cast<size_t*>(map(arena_pages * sizeof(size_t), PROT_READ | PROT_WRITE));
    arena = static_cast<char*>(map(arena_pages * page, PROT_NONE));
  }
  is_on = on != 0;
  return blocks;
}

int posix_memalign(void** pointer, size_t alignment, size_t bytes) {
  if (!is_on) return real<int(void**, size_t, size_t)>("posix_memalign")(pointer, alignment, bytes);
  *pointer = guarded(alignment, bytes);
  return *pointer == nullptr ? ENOMEM : 0;
}

void* aligned_alloc(size_t alignment, size_t bytes) {
  if (!is_on) return real<void*(size_t, size_t)>("aligned_alloc")(alignment, bytes);
  return guarded(alignment, bytes);
}

void free(void* pointer) {
  static auto* const real_free = real<void(void*)>("free");
  const auto* at = static_cast<char*>(pointer);
  if (arena == nullptr || at < arena || at >= arena + arena_pages * page) return real_free(pointer);
  const size_t first = static_cast<size_t>(at - arena) / page;
  if (pages_of[first] > 0) madvise(arena + first * page, pages_of[first] * page, MADV_DONTNEED);
  if (pages_of[first] > 0) mprotect(arena + first * page, pages_of[first] * page, PROT_NONE);
}
}
