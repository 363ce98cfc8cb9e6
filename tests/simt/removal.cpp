// Which call site a mutation test has taken out: SIMT_REMOVE of the environment. Compiled without sanitizers, as
// simt.cpp.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "simt.h"

namespace simt {

namespace {

struct Removal {
  std::string file;
  unsigned line = 0;
  Removed how = Removed::no;
};

Removal parse_removal() {
  const char* text = std::getenv("SIMT_REMOVE");
  if (text == nullptr || *text == 0) return {};
  char file[512], how[16];
  unsigned line = 0;
  if (std::sscanf(text, "%511[^:]:%u:%15s", file, &line, how) != 3) {
    std::fprintf(stderr, "simt: SIMT_REMOVE must be <end of path>:<line>:drop|plain, got %s\n", text);
    std::abort();
  }
  return {file, line, std::string(how) == "plain" ? Removed::plain : Removed::drop};
}

const Removal removal = parse_removal();

}  // namespace

Removed removed(Site site) {
  if (site.line() != removal.line) return Removed::no;
  const size_t length = std::strlen(site.file_name()), end = removal.file.size();
  if (length < end || removal.file != site.file_name() + (length - end)) return Removed::no;
  return removal.how;
}

}  // namespace simt
