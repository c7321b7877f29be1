"""Pictures on their way to the model: the cost of each step, the agreement of scaled decoding, memory."""
