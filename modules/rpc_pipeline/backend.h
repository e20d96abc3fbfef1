// A stream of work for a worker's device, and its events, as ggml knows them.
#pragma once

#include "ggml-backend-impl.h"

namespace rpc_pipeline {

struct RemoteDevice;

/// A backend that ggml frees. Any number may exist for a device; they share its worker's one queue.
ggml_backend_t make_backend(RemoteDevice& device);

ggml_backend_event_t make_event(ggml_backend_dev_t device);
void free_event(ggml_backend_dev_t device, ggml_backend_event_t event);
void synchronize_event(ggml_backend_dev_t device, ggml_backend_event_t event);

}  // namespace rpc_pipeline
