"""The machine, the process and the checks that all packages share."""
