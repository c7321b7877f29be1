"""SnapServe and its peers under the same load, in interleaved rounds."""
