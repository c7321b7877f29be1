"""`POST /serve?servable_identifier=PATH`, as torch-serving has it."""
