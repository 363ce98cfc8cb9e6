// The contract of CUDA kernel code: with these macros, and with PTX in common/ptx.cuh only, one source is compiled by
// nvcc for the device and by g++ for the simulator of tests/simt, which runs it without a GPU. csrc/README.md explains.
#pragma once

#if defined(__CUDACC__)

// A shared array or, with empty dimensions, a shared object: SHARED(float, tile, [32][33]); SHARED(int, last, );
#define SHARED(type, name, dimensions) __shared__ type name dimensions

// A pointer to the dynamic shared memory of the launch, aligned to 16 bytes. One per kernel; carve it up from there.
#define DYN_SMEM(type, name)                                     \
  extern __shared__ __align__(16) unsigned char rdh_dyn_smem_[]; \
  type* const name = reinterpret_cast<type*>(rdh_dyn_smem_)

// LAUNCH((kernel<float, 256>), grid, block, dynamic_shared_bytes, stream, arguments...); the kernel in parentheses.
#define LAUNCH(kernel, grid, block, smem, stream, ...) kernel<<<(grid), (block), (smem), (stream)>>>(__VA_ARGS__)

#elif defined(RDH_SIMT)

#define SHARED(type, name, dimensions)                          \
  using name##_shared_type = type dimensions;                   \
  static const char name##_shared_key = 0;                      \
  name##_shared_type& name = *static_cast<name##_shared_type*>( \
      ::simt::shared_array(&name##_shared_key, sizeof(name##_shared_type), alignof(name##_shared_type)))
#define DYN_SMEM(type, name) type* const name = static_cast<type*>(::simt::dynamic_shared())
#define LAUNCH(kernel, grid, block, smem, stream, ...) \
  ::simt::launch<kernel>((grid), (block), (smem), (stream), ::simt::Site::current() __VA_OPT__(, ) __VA_ARGS__)

#else
#error "kernels are compiled by nvcc, or by g++ with -include simt.h (tests/simt)"
#endif
