"""Parts on their own: the steps before the model, the queue, the accuracy of engines, memory."""
