#include "worker/data/image/interpolate.h"

#include <stdexcept>

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/vector_clones.h"

#define COSUB_AVX2 __attribute__((target("avx2,fma")))

namespace cosub::data {
namespace {

/// Pixels are cut off, not rounded, so that an error moves one only where it passes a whole number. Of the
/// error, the rounded fractions of the point make at most 2.1e-4, the weights 2.3e-4, the two sums 2.4e-4
/// (their absolute weights add up to at most 1.5 each); Pillow's own is 1e-12.
constexpr float kDoubt = 0x1p-10f;

/// Where points lie between pixels: the offset of the first of 4 x 4 pixels and how far the point is beyond
/// the second in both directions. Shears and translations leave one of the two zero.
struct Places {
  static constexpr std::size_t kSize = 256;
  std::int32_t offset[kSize];
  float dx[kSize], dy[kSize];
  bool across = false, down = false;  // some dx, some dy is not zero
};

inline std::int32_t floor_of(double value) {
  const auto cut = static_cast<std::int32_t>(value);
  return cut - (value < cut ? 1 : 0);
}

COSUB_VECTOR_CLONES void find_places(const double* x, const double* y, std::size_t count, std::int32_t stride,
                                     Places& places) {
  int across = 0, down = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double column = x[i] - 0.5, row = y[i] - 0.5;
    const std::int32_t left = floor_of(column), top = floor_of(row);
    places.offset[i] = (top + 1) * stride + left + 1;
    places.dx[i] = static_cast<float>(column - left);
    places.dy[i] = static_cast<float>(row - top);
    across |= places.dx[i] != 0 ? 1 : 0;
    down |= places.dy[i] != 0 ? 1 : 0;
  }
  places.across = across != 0;
  places.down = down != 0;
}

/// The weights of 4 pixels in a row as polynomials of the fraction, the constant term first.
struct Polynomials {
  alignas(16) float terms[4][4];  // [power, pixel]
};
constexpr Polynomials kBilinear{{{0, 1, 0, 0}, {0, -1, 1, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}}};
constexpr Polynomials kBicubic{{{0, 1, 0, 0}, {-1, 0, 1, 0}, {2, -2, 1, -1}, {-1, 1, -1, 1}}};

/// Which of the 4 x 4 pixels have weights other than zero.
enum class Reach { kBoth, kAcross, kDown };  // all, the second row, the second column

template <Reach kReach>
class Kernel {
 public:
  COSUB_AVX2 Kernel(const Polynomials& polynomials, std::int64_t stride) : stride_(stride) {
    for (int i = 0; i < 4; ++i) {
      const __m128 term = _mm_load_ps(polynomials.terms[i]);
      terms_[i] = _mm256_set_m128(term, term);
    }
  }

  /// The pixel cut off after `kDoubt` was taken from it (low half) and added to it (high half).
  COSUB_AVX2 inline std::uint64_t operator()(const std::uint32_t* pixels, float dx, float dy) const {
    const __m256 at = _mm256_set_m128(_mm_set1_ps(dy), _mm_set1_ps(dx));
    __m256 weights = _mm256_fmadd_ps(terms_[3], at, terms_[2]);
    weights = _mm256_fmadd_ps(weights, at, terms_[1]);
    weights = _mm256_fmadd_ps(weights, at, terms_[0]);
    const __m128 value = kReach == Reach::kDown ? along_column(pixels + 1, _mm256_extractf128_ps(weights, 1))
                                                : along_rows(pixels, weights);
    const __m128 doubt = _mm_set1_ps(kDoubt);
    const __m128i low = _mm_cvttps_epi32(_mm_sub_ps(value, doubt));
    const __m128i high = _mm_cvttps_epi32(_mm_add_ps(value, doubt));
    const __m128i words = _mm_packs_epi32(low, high);
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_packus_epi16(words, words)));
  }

  /// Whether all pixels that count are one, as in a saturated sky: then so is the result.
  bool is_flat(const std::uint32_t* pixels) const {
    const std::uint32_t colour = middle(pixels);
    std::uint32_t differ = 0;
    for (int row = 0; row < 4; ++row) {
      if (kReach == Reach::kAcross && row != 1) continue;
      for (int i = 0; i < 4; ++i) {
        if (kReach == Reach::kDown && i != 1) continue;
        differ |= pixels[row * stride_ + i] ^ colour;
      }
    }
    return differ == 0;
  }

  std::uint32_t middle(const std::uint32_t* pixels) const { return pixels[stride_ + 1]; }

 private:
  COSUB_AVX2 inline __m128 along_column(const std::uint32_t* pixels, __m128 down) const {
    __m128 sum = _mm_mul_ps(_mm_permute_ps(down, 0x00), one_pixel(pixels));
    sum = _mm_fmadd_ps(_mm_permute_ps(down, 0x55), one_pixel(pixels + stride_), sum);
    sum = _mm_fmadd_ps(_mm_permute_ps(down, 0xaa), one_pixel(pixels + 2 * stride_), sum);
    return _mm_fmadd_ps(_mm_permute_ps(down, 0xff), one_pixel(pixels + 3 * stride_), sum);
  }

  /// Down first: pixels 0 and 1 of the rows, and pixels 2 and 3.
  COSUB_AVX2 inline __m128 along_rows(const std::uint32_t* pixels, __m256 weights) const {
    __m256 left, right;
    if constexpr (kReach == Reach::kAcross) {
      left = two_pixels(pixels + stride_);
      right = two_pixels(pixels + stride_ + 2);
    } else {
      const __m256 down = _mm256_permute2f128_ps(weights, weights, 0x11);
      const __m256 row_weights[4] = {_mm256_permute_ps(down, 0x00), _mm256_permute_ps(down, 0x55),
                                     _mm256_permute_ps(down, 0xaa), _mm256_permute_ps(down, 0xff)};
      left = _mm256_mul_ps(row_weights[0], two_pixels(pixels));
      right = _mm256_mul_ps(row_weights[0], two_pixels(pixels + 2));
      for (int row = 1; row < 4; ++row) {
        left = _mm256_fmadd_ps(row_weights[row], two_pixels(pixels + row * stride_), left);
        right = _mm256_fmadd_ps(row_weights[row], two_pixels(pixels + row * stride_ + 2), right);
      }
    }
    const __m256 across = _mm256_permute2f128_ps(weights, weights, 0x00);
    const __m256 first = _mm256_permutevar_ps(across, _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
    const __m256 second = _mm256_permutevar_ps(across, _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3));
    const __m256 halves = _mm256_fmadd_ps(right, second, _mm256_mul_ps(left, first));
    return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
  }

  COSUB_AVX2 static inline __m128 one_pixel(const std::uint32_t* pixel) {
    return _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(static_cast<int>(*pixel))));
  }
  COSUB_AVX2 static inline __m256 two_pixels(const std::uint32_t* pixels) {
    std::int64_t both;
    std::memcpy(&both, pixels, sizeof(both));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(both)));
  }

  __m256 terms_[4];
  std::int64_t stride_;
};

/// Points of one row of the result, at most Places::kSize.
struct Run {
  const BorderedPixels& pixels;
  Resampling resampling;
  const double *x, *y;
  std::size_t count;
};

template <int kChannels, Reach kReach>
COSUB_AVX2 void interpolate_places(const Run& run, const Places& places, std::uint8_t* out) {
  constexpr std::uint32_t kMask = kChannels == 1 ? 0xff : 0xffffff;
  const Kernel<kReach> kernel(run.resampling == Resampling::kBilinear ? kBilinear : kBicubic,
                              run.pixels.stride());
  const std::uint32_t* first = run.pixels.around(-1, -1);
  for (std::size_t i = 0; i < run.count; ++i, out += kChannels) {
    const std::uint32_t* corner = first + places.offset[i];
    const std::uint64_t both = kernel(corner, places.dx[i], places.dy[i]);
    auto pixel = static_cast<std::uint32_t>(both);
    if (((pixel ^ static_cast<std::uint32_t>(both >> 32)) & kMask) != 0) {
      if (!kernel.is_flat(corner)) {
        interpolate_exactly(run.pixels, run.resampling, run.x[i], run.y[i], out);
        continue;
      }
      pixel = kernel.middle(corner);
    }
    for (int c = 0; c < kChannels; ++c) out[c] = static_cast<std::uint8_t>(pixel >> (8 * c));
  }
}

template <int kChannels>
void interpolate_run(const Run& run, std::uint8_t* out) {
  Places places;
  find_places(run.x, run.y, run.count, static_cast<std::int32_t>(run.pixels.stride()), places);
  if (!places.down) {
    interpolate_places<kChannels, Reach::kAcross>(run, places, out);
  } else if (!places.across) {
    interpolate_places<kChannels, Reach::kDown>(run, places, out);
  } else {
    interpolate_places<kChannels, Reach::kBoth>(run, places, out);
  }
}

}  // namespace

bool has_fast_interpolation() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

void interpolate_fast(const BorderedPixels& pixels, Resampling resampling, const Points& points,
                      std::uint8_t* out) {
  const auto channels = static_cast<std::size_t>(pixels.channels());
  const auto interpolate_some = channels == 1 ? interpolate_run<1> : interpolate_run<3>;
  for (std::size_t i = 0; i < points.x.size(); i += Places::kSize) {
    const std::size_t count = std::min(Places::kSize, points.x.size() - i);
    interpolate_some({pixels, resampling, points.x.data() + i, points.y.data() + i, count},
                     out + i * channels);
  }
}

}  // namespace cosub::data

#else

namespace cosub::data {

bool has_fast_interpolation() {
  return false;
}

void interpolate_fast(const BorderedPixels&, Resampling, const Points&, std::uint8_t*) {
  throw std::logic_error("interpolate_fast: not on this processor");
}

}  // namespace cosub::data

#endif
