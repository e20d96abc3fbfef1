// Sends a matrix whose rows are mostly alike (an attention mask, compact_matrix.h) as the few bytes
// that it is made of, and a small graph that spreads them out at the worker. For a long prompt
// masks are most of what goes to the workers: 32 MiB for each at 32,768 tokens and ubatches of 512.
#pragma once

#include <cstddef>

struct ggml_tensor;

namespace rpc_pipeline {

struct RemoteBuffer;
struct RemoteDevice;

/// Allocates the scratch and sees whether the device spreads out a sample as it shall. Waits for
/// the worker. To be called before anything is computed; does nothing the second time.
void prepare_fills(RemoteDevice& device);

/// True if the tensor's data was queued this way. False if it is to be sent as it is: small, of
/// another type, or not such a matrix. `data` is all of the tensor's; it is copied.
bool fill_tensor(const RemoteBuffer& buffer, const ggml_tensor* tensor, const void* data,
                 std::size_t size);

}  // namespace rpc_pipeline
