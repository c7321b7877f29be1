"""The machine: cores, memory, processor, allocator, priorities."""
