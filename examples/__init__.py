"""Examples: they use what SnapServe offers, and nothing that serves imports them."""
