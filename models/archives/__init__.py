"""Model archives of TorchServe: `.mar`, `.tar.gz` and unpacked folders."""
