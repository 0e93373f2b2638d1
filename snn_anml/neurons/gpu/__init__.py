"""The fused scans on CUDA devices: Triton kernels, compiled on first use."""
