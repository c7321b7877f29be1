"""What an operator sees: metrics, logs, sockets, signals."""
