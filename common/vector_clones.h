// For loops over arrays that the compiler turns into vectors: a function marked so is compiled for the
// baseline, for AVX2 with FMA and for AVX-512, and the loader takes the best that the processor has. All give
// the same bits where the file is compiled without contraction of a * b + c and no loop sums floats. A marked
// function is no template, and what it calls is inline.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define COSUB_VECTOR_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define COSUB_VECTOR_CLONES
#endif
