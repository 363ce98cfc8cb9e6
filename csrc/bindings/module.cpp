// rdh_ext._C: build facts and the CPU level. Knows no torch, so it imports where torch is broken too.

#include <dlfcn.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "common/cpu_level.h"

namespace py = pybind11;

namespace {

const std::vector<std::string> level_names = {"scalar", "avx2", "avx512", "avx512vpopcntdq"};

// The level belongs to the op library; this module reaches it through the C functions that the library exports.
struct OpLibrary {
  int (*supported)() = nullptr;
  int (*active)() = nullptr;
  int (*force)(int) = nullptr;
};

OpLibrary library;

void attach(const std::string& path) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (handle == nullptr) throw std::runtime_error("rdh_ext: " + path + " is not loaded");
  OpLibrary found;
  found.supported = reinterpret_cast<int (*)()>(dlsym(handle, "rdh_ext_supported_cpu_level"));
  found.active = reinterpret_cast<int (*)()>(dlsym(handle, "rdh_ext_active_cpu_level"));
  found.force = reinterpret_cast<int (*)(int)>(dlsym(handle, "rdh_ext_force_cpu_level"));
  dlclose(handle);  // gives back the count that dlopen added; the library stays loaded
  if (!found.supported || !found.active || !found.force) {
    throw std::runtime_error("rdh_ext: " + path + " exports no CPU level; build _C and _ops_cpu together");
  }
  library = found;
}

std::vector<std::string> supported_cpu_levels() {
  const int top = library.supported ? library.supported() : rdh_ext_supported_cpu_level();
  return {level_names.begin(), level_names.begin() + top + 1};
}

std::string active_cpu_level() { return level_names[library.active ? library.active() : rdh_ext_active_cpu_level()]; }

void force_cpu_level(const std::string& name) {
  int level = -1;
  if (!name.empty()) {
    for (size_t i = 0; i < level_names.size(); ++i) {
      if (level_names[i] == name) level = static_cast<int>(i);
    }
    if (level < 0)
      throw py::value_error("force_cpu_level: level must be '' or one of scalar, avx2, avx512, avx512vpopcntdq, got '" +
                            name + "'");
  }
  if (!library.force) throw std::runtime_error("rdh_ext: the CPU op library is not loaded, there is nothing to force");
  if (!library.force(level)) throw py::value_error("force_cpu_level: this CPU cannot run '" + name + "'");
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Build information of rdh_ext and the CPU level of its kernels.";
  m.def(
      "build_facts", [] { return std::string(RDH_EXT_BUILD_FACTS); },
      "JSON: what was compiled, with what, and why not more");
  m.def("attach", &attach, py::arg("path"), "Use the CPU level of the op library loaded from `path`");
  m.def("supported_cpu_levels", &supported_cpu_levels, "Levels this CPU can run, lowest first");
  m.def("active_cpu_level", &active_cpu_level, "The level in use");
  m.def("force_cpu_level", &force_cpu_level, py::arg("name"), "Force a level for the whole process; '' ends it");
}
