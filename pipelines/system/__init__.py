"""The machine, the process and the checks that every room shares."""
