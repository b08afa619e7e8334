"""Models on NVIDIA GPUs: TensorRT builds and runs, pycuda holds memory and streams, cuda-bindings captures graphs."""
