"""Names of files that leave the store. This module is shipped with served models: it imports nothing."""

MODEL = "model.tflite"
# The name inside the model's file, too.
LABELS = "labels.txt"
# Sensitivity of layers, for Google's Model Explorer.
EXPLORER = "model_explorer.json"
# Classifies image files with the model.
PROGRAM = "run.py"
