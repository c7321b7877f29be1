"""The offline optimiser: candidates for this machine, proved against eager fp32, timed, written as a bundle."""
