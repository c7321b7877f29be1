"""Networks, and the graphs made of them."""
