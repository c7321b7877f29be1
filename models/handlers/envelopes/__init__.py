"""Envelopes: JSON around the content of requests and answers that handlers do not see."""
