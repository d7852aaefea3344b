"""What files are called that leave the store. It is shipped with served models: it imports nothing."""

MODEL = "model.tflite"
# Within the model's file too.
LABELS = "labels.txt"
