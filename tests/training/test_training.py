import dataclasses
import math
import os
import time

import numpy as np
import pytest

from pipelines.datasets.base import Split
from pipelines.system import runtime
from pipelines.training.batch_norm import adapted, momentum_for
from pipelines.training.batches import augment, plain_batches, training_batches, validation_batches
from pipelines.training.trainer import Trainer, Training, _early_stopping, _schedule, still_rising
from tests.conftest import context, small_data

SETTINGS = Training(
    epochs=3,
    batch_size=16,
    optimizer="adam",
    learning_rate=1e-2,
    warmup_fraction=0.0,
    patience=5,
    mixed_precision=False,
)


@pytest.fixture(scope="module")
def tf_keras():
    import tf_keras

    return tf_keras


def linear(tf_keras, data):
    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input(data.image_shape)
    flat = tf_keras.layers.Flatten()(tf_keras.layers.Rescaling(1 / 255)(inputs))
    return tf_keras.Model(inputs, tf_keras.layers.Dense(len(data.class_names))(flat))


def trainer(settings: Training = SETTINGS, seen: list | None = None) -> Trainer:
    data, dataset = small_data()
    return Trainer(
        settings=settings,
        data=data,
        dataset=dataset,
        seed=0,
        on_epoch=lambda epoch, metrics: seen.append((epoch, metrics)) if seen is not None else None,
    )


@pytest.mark.parametrize(
    ("accuracies", "epochs", "images", "told"),
    [
        ([0.3, 0.5], 2, 200, "The last of 2 epochs still raised the validation accuracy by 20.0 points to 50.0%: "),
        # Two shares of 200 images differ by 9.8 points now and then.
        ([0.3, 0.45, 0.54], 3, 200, ""),
        (
            [0.3, 0.45, 0.54],
            3,
            2000,
            "The last of 3 epochs still raised the validation accuracy by 9.0 points to 54.0%",
        ),
        # Stopped early, so more epochs are there already.
        ([0.3, 0.5], 3, 200, ""),
        ([0.5, 0.3], 2, 200, ""),
        ([0.9], 1, 200, ""),
        # Without validation images.
        ([], 2, 0, ""),
        ([1.0, 1.0], 2, 200, ""),
    ],
)
def test_training_that_ends_while_rising_is_noted(accuracies: list[float], epochs: int, images: int, told: str) -> None:
    note = still_rising(accuracies, epochs=epochs, images=images)
    assert note is not None and note.startswith(told) if told else note is None


def test_fit_learns_reports_every_epoch_and_counts_time(tf_keras) -> None:
    seen: list = []
    it = trainer(dataclasses.replace(SETTINGS, epochs=8), seen)
    model = linear(tf_keras, it.data)
    it.fit(model)
    assert [epoch for epoch, _ in seen] == list(range(1, len(it.epochs) + 1))
    assert it.epochs[-1]["loss"] < 0.5 * it.epochs[0]["loss"]
    assert it.seconds > 0
    assert set(it.epochs[0]) == {
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
        "images_per_s",
        "seconds",
    }


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_learning_rate_follows_a_cosine_to_zero(tf_keras, optimizer: str) -> None:
    it = trainer(dataclasses.replace(SETTINGS, optimizer=optimizer, learning_rate=0.1, epochs=4, patience=9))
    it.fit(linear(tf_keras, it.data))
    rates = [metrics["learning_rate"] for metrics in it.epochs]
    # 240 images are 15 steps an epoch; the last of each is step k of 60: 0.1 * (1 + cos(pi k / 60)) / 2.
    assert rates == pytest.approx([0.0871572, 0.0526168, 0.0165435, 0.0000685], abs=1e-6)


def test_learning_rate_rises_before_the_cosine(tf_keras) -> None:
    it = trainer(dataclasses.replace(SETTINGS, learning_rate=0.1, warmup_fraction=0.2, epochs=4, patience=9))
    it.fit(linear(tf_keras, it.data))
    rates = [metrics["learning_rate"] for metrics in it.epochs]
    # Of 60 steps 12 rise; the last of each epoch is step k: 0.1 * (1 + cos(pi (k - 12) / 48)) / 2.
    assert rates == pytest.approx([0.0995722, 0.0721144, 0.025, 0.0001071], abs=1e-6)


@pytest.mark.parametrize(
    ("steps", "warmup", "first"),
    [
        (20, 4, [0.2, 0.4, 0.6, 0.8, 1.0]),
        # Too short for a tenth to be a step: the cosine begins at once, (1 + cos(pi / 4)) / 2.
        (4, 0, [1.0, 0.8535534]),
        (1, 0, [1.0]),
    ],
)
def test_warmup_rises_in_equal_parts(tf_keras, steps: int, warmup: int, first: list[float]) -> None:
    rates = _schedule(1.0, steps, warmup)
    assert [float(rates(step)) for step in range(len(first))] == pytest.approx(first)
    assert float(rates(steps)) == pytest.approx(0, abs=1e-6)


def test_best_epoch_is_restored(tf_keras) -> None:
    # A rate this high makes accuracy jump up and down, and patience 1 stops early.
    it = trainer(dataclasses.replace(SETTINGS, learning_rate=2.0, epochs=12, patience=2))
    model = linear(tf_keras, it.data)
    it.fit(model)
    best = max(metrics["val_accuracy"] for metrics in it.epochs)
    _, restored = model.evaluate(plain_batches(it.data.validation, 64), verbose=0)
    assert restored == pytest.approx(best)


def test_lowest_loss_decides_between_equal_accuracies(tf_keras) -> None:
    model = tf_keras.Sequential([tf_keras.layers.Dense(1, use_bias=False, input_shape=(1,))])
    stopping = _early_stopping(patience=2)
    stopping.set_model(model)
    stopping.on_train_begin()
    epochs = [(0.90, 0.5), (0.98, 0.4), (0.98, 0.3), (0.98, 0.35), (0.97, 0.1), (0.99, 0.9)]
    for epoch, (accuracy, loss) in enumerate(epochs):
        model.set_weights([np.full((1, 1), epoch)])
        stopping.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": loss})
        if model.stop_training:
            break
    stopping.on_train_end()
    assert stopping.stopped_epoch == 4
    assert model.get_weights()[0].item() == 2


def test_infinite_loss_ends_training_with_a_reason(tf_keras) -> None:
    it = trainer(dataclasses.replace(SETTINGS, optimizer="sgd", learning_rate=1e38))
    with pytest.raises(
        FloatingPointError, match=r"became (nan|inf) in epoch \d.*lower training.learning_rate \(now 1e\+38\)"
    ):
        it.fit(linear(tf_keras, it.data))
    with pytest.raises(FloatingPointError, match=r"lower technique.learning_rate \(now 2e\+38\)"):
        it.fit(linear(tf_keras, it.data), learning_rate=2e38)


def test_store_that_answers_late_is_no_training(tf_keras) -> None:
    it = trainer(SETTINGS)
    it.on_epoch = lambda *_: time.sleep(1)
    started = time.perf_counter()
    it.fit(linear(tf_keras, it.data), epochs=2)
    took = time.perf_counter() - started
    assert it.epochs[-1]["seconds"] <= it.seconds <= took - 2


def test_validation_batches_fit_where_training_does() -> None:
    data, _ = small_data()
    for of_training, expected in ((64, 60), (8, 32), (2, 8)):
        images, _ = next(iter(validation_batches(data.validation, of_training)))
        assert len(images) == expected


def test_equal_seeds_give_equal_batches() -> None:
    data, dataset = small_data()
    augmented = dataclasses.replace(dataset, horizontal_flip=True, max_shift=1)

    def pixels(seed: int) -> np.ndarray:
        return np.concatenate([x.numpy() for x, _ in training_batches(data.train, augmented, 16, seed)])

    assert np.array_equal(pixels(0), pixels(0))
    assert not np.array_equal(pixels(0), pixels(1))


def test_epoch_has_each_image_once_in_a_new_order() -> None:
    data, dataset = small_data()
    batches = training_batches(data.train, dataset, 16, seed=0)
    first, second = ([x.numpy() for x, _ in batches] for _ in range(2))
    together = np.concatenate(first).astype(np.uint8)
    flat = together.reshape(len(together), -1)
    assert sorted(map(bytes, flat)) == sorted(map(bytes, data.train.images.reshape(len(flat), -1)))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


def test_short_training_reaches_the_moving_statistics(tf_keras) -> None:
    it = trainer(dataclasses.replace(SETTINGS, epochs=1))
    inputs = tf_keras.Input(it.data.image_shape)
    normalization = tf_keras.layers.BatchNormalization()
    pooled = tf_keras.layers.GlobalAveragePooling2D()(normalization(inputs))
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(10)(pooled))
    it.fit(model)  # 15 steps; at Keras's momentum the mean would have gone 14% of the way from 0
    channels = it.data.train.images.reshape(-1, 3).mean(axis=0)
    assert np.allclose(normalization.moving_mean, channels, rtol=0.1)
    assert normalization.momentum == 0.99


@pytest.mark.parametrize(
    ("steps_per_epoch", "epochs", "momentum"),
    [
        # A hundredth is left after an epoch of 57 steps; after 44 where it is shorter, or after all there are.
        (57, 10, 0.92239),
        (15, 10, 0.90063),
        (15, 1, 0.73564),
        (1000, 3, 0.99541),
    ],
)
def test_statistics_follow_within_an_epoch(steps_per_epoch: int, epochs: int, momentum: float) -> None:
    assert momentum_for(steps_per_epoch, epochs) == pytest.approx(momentum, abs=1e-5)


@pytest.mark.parametrize(("adapt", "momentum"), [(True, 0.9), (False, 0.99)])
def test_batch_norm_is_adapted_unless_switched_off(adapt: bool, momentum: float) -> None:
    import tf_keras

    seen: list[float] = []
    it = context(epochs=1)
    it.trainer.settings = dataclasses.replace(it.trainer.settings, adapt_batch_norm=adapt)
    layers = [tf_keras.layers.Flatten(), tf_keras.layers.BatchNormalization(), tf_keras.layers.Dense(10)]
    model = tf_keras.Sequential([tf_keras.layers.Input((8, 8, 3)), *layers])
    look = tf_keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: seen.append(model.layers[1].momentum))
    it.trainer.fit(model, callbacks=[look])
    assert seen[0] <= momentum + 0.001 and (seen[0] == 0.99) is not adapt
    assert model.layers[1].momentum == 0.99


def test_batch_norm_inside_a_model_of_its_own_step_is_adapted() -> None:
    """As that of a student under distillation."""
    import tf_keras

    class Outer(tf_keras.Model):  # type: ignore[misc]
        def __init__(self, inner: tf_keras.Model) -> None:
            super().__init__()
            self.inner = inner

    normalization = tf_keras.layers.BatchNormalization()
    inner = tf_keras.Sequential([tf_keras.layers.Input((8, 8, 3)), normalization])
    with adapted(Outer(inner), 0.9):
        assert normalization.momentum == 0.9
    assert normalization.momentum == 0.99


def test_autotuner_does_not_delay_the_end_of_an_epoch() -> None:
    # Its thread's sleep doubles, and an iterator's end waits for it: 5.6 s of steps took 10.2 s.
    data, dataset = small_data()
    for batches in (training_batches(data.train, dataset, 16, seed=0), plain_batches(data.test, 16)):
        assert batches.options().autotune.enabled is False


@pytest.mark.parametrize(
    ("images", "size", "expected"),
    [
        (65, 64, [33, 32]),
        (129, 64, [43, 43, 43]),
        (64, 64, [64]),
        (10, 64, [10]),
        (9, 2, [2, 2, 2, 2, 1]),
        (4097, 64, [64] * 2 + [63] * 63),
    ],
)
def test_no_few_images_are_left_for_the_last_batch(images: int, size: int, expected: list[int]) -> None:
    split = Split(images=np.zeros((images, 8, 8, 3), np.uint8), labels=np.zeros(images, np.int64))
    _, dataset = small_data()
    batches = list(training_batches(split, dataset, size, seed=0))
    assert [len(y) for _, y in batches] == expected and len(batches) == math.ceil(images / size)


def test_labels_stay_with_their_images() -> None:
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    split = Split(images=images, labels=np.arange(40))
    _, dataset = small_data()
    for x, y in training_batches(split, dataset, 7, seed=3):
        assert np.array_equal(x.numpy()[:, 0, 0, 0], y.numpy())


def test_augmentation_mirrors_and_shifts() -> None:
    import tensorflow as tf

    image = np.arange(5 * 5 * 3, dtype=np.uint8).reshape(5, 5, 3)
    images = np.repeat(image[None], 400, axis=0)
    seed = tf.constant([1, 2], tf.int64)
    mirrored = augment(images, True, 0, seed).numpy()
    as_is = (mirrored == image).all(axis=(1, 2, 3))
    turned = (mirrored == image[:, ::-1]).all(axis=(1, 2, 3))
    assert (as_is ^ turned).all()
    assert 140 < turned.sum() < 260
    shifted = augment(images, False, 2, seed).numpy()
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    allowed = {padded[r : r + 5, c : c + 5].tobytes() for r in range(5) for c in range(5)}
    assert {one.tobytes() for one in shifted} == allowed
    assert np.array_equal(augment(images, False, 0, seed), images)


def test_augmentation_shifts_the_mirrored_image() -> None:
    import tensorflow as tf

    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    both = augment(np.repeat(image[None], 900, axis=0), True, 2, tf.constant([1, 2], tf.int64)).numpy()
    padded = [np.pad(one, ((2, 2), (2, 2), (0, 0)), mode="reflect") for one in (image, image[:, ::-1])]
    allowed = {one[r : r + 4, c : c + 6].tobytes() for one in padded for r in range(5) for c in range(5)}
    assert {one.tobytes() for one in both} == allowed


def test_onednn_cannot_change_once_tensorflow_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow  # noqa: F401

    monkeypatch.setitem(os.environ, "TF_ENABLE_ONEDNN_OPTS", "1")
    with pytest.raises(RuntimeError, match="TF_ENABLE_ONEDNN_OPTS=0: run this cell in a process of its own"):
        runtime.prepare(onednn=False, deterministic=False)


def test_batches_from_a_file_equal_those_from_memory(tmp_path) -> None:
    data, dataset = small_data()
    dataset = dataclasses.replace(dataset, horizontal_flip=True, max_shift=2)
    np.save(tmp_path / "images.npy", np.concatenate([data.test.images, data.train.images]))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")[len(data.test) :]
    in_file = dataclasses.replace(data.train, images=mapped)
    for batches in (lambda split: training_batches(split, dataset, 32, seed=3), lambda split: plain_batches(split, 64)):
        held, lying = batches(data.train), batches(in_file)
        assert held.element_spec == lying.element_spec
        for _ in range(2):
            for (x, y), (other_x, other_y) in zip(held, lying, strict=True):
                assert np.array_equal(x, other_x) and np.array_equal(y, other_y)
