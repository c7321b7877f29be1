"""Models on disk, and how they compute: bundles, images, networks, engines, the optimiser. No HTTP, no queue."""
