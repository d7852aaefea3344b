"""The colours of ImageNet's photographs, red, green, blue, with which networks were trained.

Source: Keras's `imagenet_utils.preprocess_input`, modes "torch" and "caffe".
"""

# Of pixels in [0, 1].
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
# Of pixels in [0, 255], by Caffe.
CAFFE_MEAN = (123.68, 116.779, 103.939)
