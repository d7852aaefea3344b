import pytest

from pipelines.models import complexity


def network(keras, *layers, shape=(8, 8, 4)):
    return keras.Sequential([keras.layers.Input(shape), *layers])


CASES = {
    # name: (layers, multiply-accumulates, parameters), all computed by hand for an image of 8x8x4
    "same": (lambda k: [k.Conv2D(6, 3, padding="same")], 8 * 8 * 3 * 3 * 4 * 6, 3 * 3 * 4 * 6 + 6),
    "strided": (lambda k: [k.Conv2D(6, 3, strides=2, padding="same")], 4 * 4 * 3 * 3 * 4 * 6, 222),
    "valid": (lambda k: [k.Conv2D(6, 3, use_bias=False)], 6 * 6 * 3 * 3 * 4 * 6, 216),
    "grouped": (
        lambda k: [k.Conv2D(6, 3, groups=2, padding="same")],
        8 * 8 * 3 * 3 * 2 * 6,
        3 * 3 * 2 * 6 + 6,
    ),
    "depthwise": (
        lambda k: [k.DepthwiseConv2D(3, depth_multiplier=2, padding="same")],
        8 * 8 * 3 * 3 * 4 * 2,
        3 * 3 * 4 * 2 + 8,
    ),
    "separable": (
        lambda k: [k.SeparableConv2D(6, 3, padding="same")],
        8 * 8 * (3 * 3 * 4 + 4 * 6),
        3 * 3 * 4 + 4 * 6 + 6,
    ),
    "dense": (lambda k: [k.Flatten(), k.Dense(5)], 256 * 5, 256 * 5 + 5),
    "dense by position": (lambda k: [k.Dense(5)], 8 * 8 * 4 * 5, 25),
    "normalization": (lambda k: [k.BatchNormalization(), k.ReLU(), k.MaxPooling2D()], 0, 16),
    "not counted": (lambda k: [k.Conv2DTranspose(6, 3)], 0, 3 * 3 * 4 * 6 + 6),
}


@pytest.mark.parametrize("case", CASES)
def test_counts(keras, case: str) -> None:
    layers, macs, parameters = CASES[case]
    model = network(keras, *layers(keras.layers))
    assert complexity.macs(model) == macs
    assert complexity.parameters(model) == parameters == model.count_params()


def test_frozen_weights_count(keras) -> None:
    model = network(keras, keras.layers.Conv2D(6, 3))
    model.trainable = False
    assert complexity.parameters(model) == 222


def test_unknown_size_is_refused(keras) -> None:
    model = network(keras, keras.layers.Conv2D(6, 3, name="first"), shape=(None, None, 4))
    with pytest.raises(ValueError, match="fixed image size, layer first"):
        complexity.macs(model)


def test_kernels_are_named_by_layer(keras) -> None:
    model = network(
        keras,
        keras.layers.SeparableConv2D(2, 1, name="a"),
        keras.layers.Dense(3, name="b"),
        keras.layers.BatchNormalization(),
    )
    assert set(complexity.kernels(model)) == {"a/depthwise_kernel", "a/pointwise_kernel", "b/kernel"}


def test_kernels_are_those_that_the_file_lists(keras) -> None:
    # A transposed convolution is another operator there, and so are those of one's own.
    model = network(keras, keras.layers.Conv2DTranspose(2, 3, name="up"), keras.layers.Conv2D(2, 1, name="one"))
    assert set(complexity.kernels(model)) == {"one/kernel"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("application", "published"),
    [
        ("ResNet50", 23_587_712),
        ("VGG16", 14_714_688),
        ("MobileNetV2", 2_257_984),
        ("EfficientNetB0", 4_049_571),
    ],
)
def test_published_parameters(keras, application: str, published: int) -> None:
    build = getattr(keras.applications, application)
    model = build(include_top=False, weights=None, input_tensor=keras.layers.Input((224, 224, 3)))
    assert complexity.parameters(model) == published
    if application == "ResNet50":
        # He et al. 2016 give 3.8e9 for one that strides in the first 1x1 convolutions, as Keras's does.
        assert complexity.macs(model) == pytest.approx(3.86e9, rel=0.01)


@pytest.mark.parametrize(
    ("layer", "counted"),
    [
        (lambda k: k.Conv2D(4, 3), True),
        # Weights of two axes that are no kernels.
        (lambda k: k.PReLU(), True),
        # Kernels of kinds that are not counted.
        (lambda k: k.Conv2DTranspose(4, 3), False),
        (lambda k: k.TimeDistributed(k.Dense(3)), False),
    ],
    ids=["Conv2D", "PReLU", "Conv2DTranspose", "TimeDistributed"],
)
def test_whether_all_kernels_are_counted(keras, layer, counted: bool) -> None:
    assert complexity.counts_all(network(keras, layer(keras.layers))) == counted
