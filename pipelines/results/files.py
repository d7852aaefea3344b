"""Names of files that leave the store. This module is shipped with served models: it imports nothing."""

MODEL = "model.tflite"
# The name inside the model's file, too.
LABELS = "labels.txt"
# Classifies image files with the model.
PROGRAM = "run.py"
