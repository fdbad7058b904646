// Turns the training state into a checkpoint's snapshot and back, bit for bit.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "worker/checkpoint/checkpoint.h"
#include "worker/collective/communicator.h"
#include "worker/train/ema.h"
#include "worker/train/flat_state.h"
#include "worker/train/optimizer.h"

namespace cosub::train {

/// Names -> tensors of a vector laid out like FlatState::values(), with the integer buffers; on CPU. Shares
/// memory with `flat` where that is on CPU.
checkpoint::Tensors named_tensors(const FlatState& state, const at::Tensor& flat);

/// Fills snapshot.files: model, ema (when there is one), optimizer-0.
void add_tensors(checkpoint::Snapshot& snapshot, FlatState& state, Optimizer& optimizer, Ema* ema);

/// The reverse. DataError (`where`, tensor) when a tensor is missing or has another shape.
void restore_tensors(const checkpoint::Snapshot& snapshot, FlatState& state, Optimizer& optimizer, Ema* ema,
                     const std::string& where);

/// Collective. What the exchange of every rank keeps (TrainStep::kept), in rank 0's snapshot: exchange-R for
/// rank R, with lost.I.NAME for the I-th tensor's part of the parameter NAME. Nothing where nothing is kept.
void add_kept(checkpoint::Snapshot& snapshot, collective::Communicator& communicator, const FlatState& state,
              const std::vector<at::Tensor>& kept);

/// Collective, the reverse; `snapshot` is rank 0's, nullptr on the others and where there is none. On another
/// number of ranks than before, rank 0 gets the sum of all, which is what the gradients still lack; with
/// sync_batchnorm, whose groups round twice, all begin with zeros then, as on ranks that have nothing in the
/// snapshot. DataError (`where`, tensor) as restore_tensors, on all ranks alike.
void restore_kept(const checkpoint::Snapshot* snapshot, collective::Communicator& communicator,
                  const FlatState& state, const std::vector<at::Tensor>& kept, const std::string& where);

/// Collective: rank 0's parameters, buffers, moments and average to everybody.
void broadcast_state(collective::Communicator& communicator, FlatState& state, Optimizer* optimizer,
                     Ema* ema);

}  // namespace cosub::train
