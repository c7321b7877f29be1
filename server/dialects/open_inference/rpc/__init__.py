"""The Open Inference Protocol over gRPC. Needs the extra `grpc`; imported only where there is a --grpc-port."""
