"""Models on disk: bundles and bare files."""
