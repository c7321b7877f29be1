"""Other ways to serve the same model, each as a small program with an environment of its own."""
