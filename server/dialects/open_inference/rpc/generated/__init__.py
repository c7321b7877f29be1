"""Made of `open_inference.proto` by scripts/generate_grpc.py."""
