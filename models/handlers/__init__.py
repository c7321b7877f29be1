"""What handlers of model archives import under the name `ts`; provided in their own processes only.

The names are TorchServe's, so that its users' handlers run unchanged; the code is SnapServe's.
"""
