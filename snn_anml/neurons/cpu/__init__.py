"""The fused scans on the CPU: C++, compiled on first use."""
