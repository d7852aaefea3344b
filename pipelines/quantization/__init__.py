"""Exported models in fewer bits: from a `.tflite` file of float32 to one that is quantized."""
