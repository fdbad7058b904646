// Products of bfloat16 matrices on Hopper whose last pass is GELU or the product with its slope, so that the
// hidden values of an MLP are written by the product that makes them and read by no kernel of their own. By
// CUTLASS 3 (warp-specialised pingpong kernels with the tensor memory accelerator), whose epilogues are trees
// of visitors.
#pragma once

#include <cutlass/cutlass.h>
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cute/tensor.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/epilogue/fusion/sm90_callbacks_tma_warpspecialized.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>

#include <stdexcept>

#include "worker/kernels/bias_gelu.cuh"

namespace cosub::kernels {

namespace fusion = cutlass::epilogue::fusion;

using Element = cutlass::bfloat16_t;
using RowMajor = cutlass::layout::RowMajor;
using ColumnMajor = cutlass::layout::ColumnMajor;
template <int kCount>
using Floats = cutlass::Array<float, kCount>;

/// A visitor that gives gelu(sum + bias) and has Store, its base, write the slope there.
template <class Store>
struct GeluVisitor : Store {
  using Store::Store;
  template <class Base>
  struct Callbacks : Base {
    CUTLASS_DEVICE explicit Callbacks(Base&& base) : Base(static_cast<Base&&>(base)) {}

    template <int kCount>
    CUTLASS_DEVICE Floats<kCount> visit(const Floats<kCount>& sums, int part, int m, int n,
                                        const Floats<kCount>& bias) {
      Floats<kCount> y, slope;
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kCount; ++i) {
        const float x = sums[i] + bias[i];
        const Normal normal = normal_at<Bf16>(x);
        y[i] = x * normal.below;
        slope[i] = normal.below + x * normal.density;
      }
      Base::visit(sums, part, m, n, slope);
      return y;
    }
  };
  template <bool kReferenceSource, class... Arguments>
  CUTLASS_DEVICE auto get_consumer_store_callbacks(
      const fusion::detail::ConsumerStoreArgs<Arguments...>& arguments) {
    auto base = Store::template get_consumer_store_callbacks<kReferenceSource>(arguments);
    return Callbacks<decltype(base)>(static_cast<decltype(base)&&>(base));
  }
};

/// A visitor that gives sum * slope and leaves each tile's sums over its lines in `sums` [tiles, n], in an
/// order that the shape alone decides. A warpgroup has the whole tile: a thread of every eight columns two
/// neighbours, of some lines.
template <class Tile, int kEpilogueColumns>
struct SlopeVisitor {
  static constexpr int kColumns = cute::size<1>(Tile{}), kLines = cute::size<0>(Tile{});
  static constexpr int kSums = kColumns / 4;  // of a thread

  struct SharedStorage {};
  struct Arguments {
    float* sums = nullptr;
  };
  using Params = Arguments;
  template <class Problem>
  static constexpr Params to_underlying_arguments(const Problem&, const Arguments& with, void*) {
    return with;
  }
  template <class Problem>
  static bool can_implement(const Problem&, const Arguments&) {
    return true;
  }
  template <class Problem>
  static std::size_t get_workspace_size(const Problem&, const Arguments&) {
    return 0;
  }
  template <class Problem>
  static cutlass::Status initialize_workspace(const Problem&, const Arguments&, void*, cudaStream_t,
                                              cutlass::CudaHostAdapter* = nullptr) {
    return cutlass::Status::kSuccess;
  }
  CUTLASS_HOST_DEVICE SlopeVisitor() {}
  CUTLASS_HOST_DEVICE SlopeVisitor(const Params& with, const SharedStorage&) : params(with) {}
  CUTLASS_DEVICE bool is_producer_load_needed() const { return false; }
  CUTLASS_DEVICE bool is_C_load_needed() const { return false; }
  template <class... Args>
  CUTLASS_DEVICE auto get_producer_load_callbacks(const fusion::detail::ProducerLoadArgs<Args...>&) {
    return fusion::detail::EmptyProducerLoadCallbacks{};
  }

  struct Callbacks : fusion::detail::EmptyConsumerStoreCallbacks {
    CUTLASS_DEVICE Callbacks(float* of_tile, int of_group, int columns)
        : to(of_tile), thread(of_group), num_columns(columns) {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kSums; ++i) sums[i] = 0;
    }
    template <int kCount>
    CUTLASS_DEVICE Floats<kCount> visit(const Floats<kCount>& product, int /*part*/, int /*m*/, int n,
                                        const cutlass::Array<Element, kCount>& slope) {
      Floats<kCount> d;
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kCount; ++i) {
        d[i] = product[i] * static_cast<float>(slope[i]);
        sums[n * (kEpilogueColumns / 4) + i / 4 * 2 + i % 2] += d[i];
      }
      return d;
    }
    /// Two lanes keep half of what each has, with the other's added. (A loop over the halves would put sums
    /// into memory.)
    template <int kHalf>
    CUTLASS_DEVICE void fold(int lane, int distance) {
      const bool upper = (lane & distance) != 0;
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kHalf; ++i) {
        const float low = sums[i], high = sums[i + kHalf];
        const float given = __shfl_xor_sync(0xffffffffu, upper ? low : high, distance);
        sums[i] = (upper ? high : low) + given;
      }
    }
    template <class Buffer, class Sync, class Values>
    CUTLASS_DEVICE void reduce(Buffer&& buffer, const Sync& sync, int /*m*/, int /*n*/, bool is_last,
                               Values) {
      if (!is_last) return;
      const int lane = thread % kWarp;
      fold<kSums / 2>(lane, 16);
      fold<kSums / 4>(lane, 8);
      fold<kSums / 8>(lane, 4);
      float* const shared = reinterpret_cast<float*>(cute::raw_pointer_cast(buffer.data()));
      sync();
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kSums / 8; ++i) {
        const int which =
            (lane >> 4 & 1) * (kSums / 2) + (lane >> 3 & 1) * (kSums / 4) + (lane >> 2 & 1) * (kSums / 8) + i;
        shared[thread / kWarp * kColumns + which / 2 * 8 + lane % 4 * 2 + which % 2] = sums[i];
      }
      sync();
      constexpr int kThreads = 128, kWarps = kThreads / kWarp;
      for (int column = thread; column < num_columns; column += kThreads) {
        float sum = 0;
        for (int warp = 0; warp < kWarps; ++warp) sum += shared[warp * kColumns + column];
        to[column] = sum;
      }
      sync();
    }

    float* to;
    int thread, num_columns;  // of the warpgroup; of the tile, as far as there are any
    float sums[kSums];
  };
  template <bool kReferenceSource, class... Args>
  CUTLASS_DEVICE auto get_consumer_store_callbacks(const fusion::detail::ConsumerStoreArgs<Args...>& with) {
    const auto [m, n, k, l] = with.problem_shape_mnkl;
    const auto [tile_m, tile_n, tile_k, tile_l] = with.tile_coord_mnkl;
    const int left = tile_m * kLines < m ? n - tile_n * kColumns : 0;
    return Callbacks(params.sums + static_cast<std::int64_t>(tile_m) * n + tile_n * kColumns, with.thread_idx,
                     left < kColumns ? left : kColumns);
  }

  Params params;
};

/// Tiles of 128 x 128, two blocks of a cluster below each other; the fastest of eight shapes tried for DeiT
/// III's MLPs. kSourceStages, kResultStages: how many parts of a tile of what is read or written there lie in
/// shared memory.
template <bool kHasSource, int kSourceStages, int kResultStages>
struct ProductShape {
  using Tile = cute::Shape<cute::_128, cute::_128, cute::_64>;
  using Cluster = cute::Shape<cute::_2, cute::_1, cute::_1>;
  using Schedule = cutlass::gemm::KernelTmaWarpSpecializedPingpong;
  using EpilogueTile = cute::Shape<cute::_64, cute::_32>;
  using Policy = cutlass::epilogue::Sm90TmaWarpSpecialized<kSourceStages, kResultStages, 64 * 32 / 128,
                                                           kHasSource, !kHasSource>;
  static constexpr int kStages = kResultStages;
};
using GeluShape = ProductShape<false, 4, 4>;
using SlopeShape = ProductShape<true, 4, 2>;

template <class Shape, class Source, class LayoutB, class Tree>
struct FusedProduct {
  using Epilogue = typename cutlass::epilogue::collective::detail::Sm90TmaBuilderImpl<
      typename Shape::Tile, typename Shape::EpilogueTile, float, float, Source, RowMajor, 8, Element,
      RowMajor, 8, Tree, typename Shape::Policy>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Element, RowMajor, 8, Element, LayoutB, 8, float,
      typename Shape::Tile, typename Shape::Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(
          sizeof(typename Epilogue::SharedStorage))>,
      typename Shape::Schedule>::CollectiveOp;
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<cutlass::gemm::kernel::GemmUniversal<
      cute::Shape<int, int, int, int>, Mainloop, Epilogue, cutlass::gemm::PersistentScheduler>>;
  using Arguments = typename Gemm::Arguments;

  /// [m, k] by k, n columns, to `result`; the tree's arguments and the source are the caller's.
  static Arguments arguments(std::int64_t m, std::int64_t n, std::int64_t k, const void* a, const void* b,
                             void* result) {
    Arguments made{};
    made.mode = cutlass::gemm::GemmUniversalMode::kGemm;
    made.problem_shape = {static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1};
    made.mainloop.ptr_A = static_cast<const Element*>(a);
    made.mainloop.ptr_B = static_cast<const Element*>(b);
    cute::get<0>(made.mainloop.dA) = k;
    if constexpr (cute::is_same_v<LayoutB, RowMajor>)
      cute::get<1>(made.mainloop.dB) = n;
    else
      cute::get<0>(made.mainloop.dB) = k;
    made.epilogue.ptr_D = static_cast<Element*>(result);
    cute::get<0>(made.epilogue.dD) = n;
    made.hw_info.sm_count = static_cast<int>(num_multiprocessors());
    return made;
  }

  static void run(const char* name, const Arguments& with, Stream stream) {
    Gemm gemm;
    cutlass::Status status = Gemm::can_implement(with);
    if (status == cutlass::Status::kSuccess)
      status = gemm.initialize(with, nullptr, static_cast<cudaStream_t>(stream));
    if (status == cutlass::Status::kSuccess) status = gemm.run(static_cast<cudaStream_t>(stream));
    if (status != cutlass::Status::kSuccess)
      throw std::runtime_error(std::string("CUDA kernel ") + name + ": " +
                               cutlass::cutlassGetStatusString(status));
  }
};

inline void run_gelu_product(const GeluProduct& a, Stream stream) {
  using Stride = cutlass::detail::TagToStrideC_t<RowMajor>;
  namespace builder = cutlass::epilogue::collective::detail;
  using EpilogueTile = GeluShape::EpilogueTile;
  using Slope = fusion::Sm90AuxStore<
      GeluShape::kStages, EpilogueTile, Element, cutlass::FloatRoundStyle::round_to_nearest, Stride,
      decltype(builder::sm90_get_epilogue_smem_swizzle_layout_atom<Stride, Element, EpilogueTile>()),
      decltype(builder::sm90_get_smem_store_op_for_accumulator<Stride, Element, EpilogueTile>()), 8, false>;
  using Bias = fusion::Sm90RowBroadcast<0, GeluShape::Tile, float, float,
                                        cute::Stride<cute::_0, cute::_1, cute::_0>, 4, false>;
  using Product = FusedProduct<GeluShape, void, ColumnMajor, fusion::Sm90EVT<GeluVisitor<Slope>, Bias>>;
  if (a.m == 0) return;
  auto with = Product::arguments(a.m, a.n, a.k, a.a, a.b, a.y);
  Stride stride{};
  cute::get<0>(stride) = a.n;
  with.epilogue.thread = {{a.bias, 0, {}}, {static_cast<Element*>(a.slope), stride}};
  Product::run("gelu_product", with, stream);
}

inline void run_slope_product(const SlopeProduct& a, Stream stream) {
  using Tile = SlopeShape::Tile;
  static_assert(cute::size<0>(Tile{}) == kProductLines);
  constexpr int kEpilogueColumns = cute::size<1>(SlopeShape::EpilogueTile{});
  using Tree = fusion::Sm90EVT<SlopeVisitor<Tile, kEpilogueColumns>, fusion::Sm90SrcFetch<Element>>;
  using Product = FusedProduct<SlopeShape, Element, RowMajor, Tree>;
  if (a.m > 0) {
    auto with = Product::arguments(a.m, a.n, a.k, a.a, a.b, a.d_x);
    with.epilogue.thread = {{}, {a.scratch}};
    with.epilogue.ptr_C = static_cast<const Element*>(a.slope);
    cute::get<0>(with.epilogue.dC) = a.n;
    Product::run("slope_product", with, stream);
  }
  launch_totals(a.scratch, product_tiles(a.m), a.n, 1, stream, a.d_bias);
}

}  // namespace cosub::kernels
