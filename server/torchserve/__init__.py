"""What TorchServe's users have beside HTTP: config.properties, models named at the start, snapshots."""
