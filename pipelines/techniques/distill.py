"""Knowledge distillation: a student learns from a teacher's outputs and from the labels.

Source: Hinton et al. 2015, arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.models import checkpoint
from pipelines.system import checks
from pipelines.system.names import class_name
from pipelines.techniques.base import Build, Candidate, Context, EffectError
from pipelines.techniques.source import SourceTechnique
from pipelines.training.batches import validation_batches

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class Distill(SourceTechnique):
    """Train the model like the baseline, on the labels and on a trained teacher's softened outputs.

    source: the teacher, a trained cell on the same classes, named by its model or its run. temperature: above 0; it
    softens both outputs, usually 2 to 10. alpha: weight of the teacher's outputs, in (0, 1]; the labels have the rest.

    Expected: the baseline's time and size, and some points more accuracy if the teacher is better. Training is slower
    by the teacher's forward pass, and the teacher's own training counts towards the total.
    """

    NAME = "distill"
    EFFECT = None

    temperature: float
    alpha: float

    def __post_init__(self) -> None:
        checks.number("technique.temperature", self.temperature, exclusive_minimum=0)
        checks.number("technique.alpha", self.alpha, exclusive_minimum=0, example=0.9)
        if self.alpha > 1:
            raise ValueError(
                f"technique.alpha must be a number, more than 0 and at most 1, got {self.alpha}: set for example "
                "technique.alpha=0.9"
            )
        if self.source.dataset is not None:
            raise ValueError(
                f"technique.source.dataset must be null, got {self.source.dataset.name}: a teacher must have the same "
                "classes; name it by its model or its run"
            )

    def check_source(self, model: Build, source: Build) -> None:
        """Raise ValueError where a teacher that is named by its run has other shapes; others are of this dataset."""
        if self.source.uri is None:
            return
        student, teacher = model(), source()
        if (teacher.input_shape, teacher.output_shape) != (student.input_shape, student.output_shape):
            raise ValueError(
                f"the teacher {teacher.name} takes {teacher.input_shape[1:]} and gives {teacher.output_shape[1:]}, the "
                f"student {student.input_shape[1:]} and {student.output_shape[1:]}: name a teacher that was trained on "
                "this dataset"
            )

    def check_source_classes(self, own: Sequence[str], source: Sequence[str]) -> None:
        """Raise ValueError where the teacher's classes, or their order, are others."""
        # Of an exported model that an earlier version wrote.
        source = [class_name(one) for one in source]
        if not source or list(own) == source:
            return
        what = f"{len(source)} classes"
        if len(own) == len(source):
            number = next(at for at, (one, other) in enumerate(zip(own, source, strict=True)) if one != other)
            what = f"class {number} named {source[number]!r} instead of {own[number]!r}"
        raise ValueError(
            f"the teacher must have the dataset's {len(own)} classes in its order, got {what}: name a teacher that was "
            "trained on this dataset"
        )

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Train the student."""
        assert context.source is not None  # the executor provides it
        student = candidate.model
        teacher = checkpoint.load(context.source.files.checkpoint)
        before = student.get_weights()
        context.trainer.fit(_distiller(student, teacher, self.temperature, self.alpha))
        if all(np.array_equal(old, new) for old, new in zip(before, student.get_weights(), strict=True)):
            raise EffectError(f"{student.name} must change in training, got equal weights")
        return replace(candidate, metrics={**candidate.metrics, **_agreement(student, teacher, context)})


def _distiller(student: tf_keras.Model, teacher: tf_keras.Model, temperature: float, alpha: float) -> tf_keras.Model:
    """A model with the student's outputs whose training step uses the teacher as well."""
    import tensorflow as tf
    import tf_keras

    class Distiller(tf_keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            # With the student's policy: Keras scales the loss of float16 by it.
            super().__init__(name=student.name, dtype=student.dtype_policy, autocast=False)
            self.student = student
            self.teacher_loss = tf_keras.metrics.Mean(name="teacher_loss")

        def call(self, images: Any, training: Any = None) -> Any:
            return self.student(images, training=training)

        def train_step(self, data: tuple[Any, Any]) -> dict[str, Any]:
            images, labels = data
            # A closure, not an attribute: the teacher's weights must not become this model's.
            softened = teacher(images, training=False) / temperature
            wanted = tf.nn.softmax(softened)
            with tf.GradientTape() as tape:
                logits = self.student(images, training=True)
                difference = tf.nn.log_softmax(softened) - tf.nn.log_softmax(logits / temperature)
                # Soft gradients shrink with the square of the temperature.
                soft = temperature**2 * tf.reduce_mean(tf.reduce_sum(wanted * difference, axis=-1))
                hard = self.compiled_loss(labels, logits)
                loss = alpha * soft + (1 - alpha) * hard + sum(self.losses)
            self.optimizer.minimize(loss, self.student.trainable_variables, tape=tape)
            self.compiled_metrics.update_state(labels, logits)
            self.teacher_loss.update_state(soft)
            return {metric.name: metric.result() for metric in self.metrics}

        def test_step(self, data: Any) -> dict[str, Any]:
            results: dict[str, Any] = super().test_step(data)
            results.pop(self.teacher_loss.name, None)
            return results

    return Distiller()


def _agreement(student: tf_keras.Model, teacher: tf_keras.Model, context: Context) -> Mapping[str, float]:
    """On the validation images: the fraction of equal predictions, and the teacher's accuracy."""
    validation = context.trainer.data.validation
    batches = validation_batches(validation, context.trainer.settings.batch_size)
    predicted = [model.predict(batches, verbose=0).argmax(axis=1) for model in (student, teacher)]
    return {
        "distill/teacher_agreement": float((predicted[0] == predicted[1]).mean()),
        "distill/teacher_val_accuracy": float((predicted[1] == validation.labels).mean()),
    }
