"""Names of the tags of a promoted version in MLflow's registry: why it was promoted.

Those that decide how `opscore pull` runs the model have a prefix, which keeps them apart from the tags of people.
"""

# The mend where the champion cannot be compared, for the end of a sentence.
ANEW = "add --anew to the command to let the best candidate take its place"
# The beginning: `gate/<name>` says how the version passed that gate.
GATE = "gate/"
SCORE_PROFILE = "score_profile"
# The version before it.
REPLACED = "replaced"
# Why training times did not count.
TRAIN_TIME_NOTE = "train_time_note"
# The times that decided: the device, its runtime, and the number of threads.
OF_TARGET, OF_RUNTIME, OF_THREADS = "opscore.target", "opscore.runtime", "opscore.threads"
