"""Knowledge distillation: a student learns a teacher's answers beside the labels.

Source: Hinton et al. 2015, arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.system import checks
from pipelines.techniques.base import Candidate, Context, EffectError
from pipelines.techniques.source import Learner
from pipelines.training.batches import plain_batches

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class Distill(Learner):
    """Train the model as the baseline is trained, on the labels and on a trained teacher's softened answers.

    source: the teacher, a trained cell on the same classes: by its model, or by its run. temperature: above 0; it
    softens both answers, usually 2 to 10. alpha: weight of the teacher's answers in (0, 1], the labels have the rest.

    Expected: no change in the exported model's time or size against its baseline, accuracy up by some points where the
    teacher is the better one. Training takes longer by the teacher's forward pass, and the teacher's own training
    counts into the total.
    """

    NAME = "distill"
    EFFECT = None

    temperature: float
    alpha: float

    def __post_init__(self) -> None:
        """Check every field."""
        checks.number("technique.temperature", self.temperature, exclusive_minimum=0)
        checks.number("technique.alpha", self.alpha, exclusive_minimum=0)
        if self.alpha > 1:
            raise ValueError(f"technique.alpha must be a number, more than 0 and at most 1, got {self.alpha}: set 0.9")
        if self.source.dataset is not None:
            raise ValueError(
                f"technique.source.dataset must be null, got {self.source.dataset.name}: a teacher must know the same "
                "classes; name it by its model or its run"
            )

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Train the student. Raises ValueError where the teacher's answers or images are of another form."""
        import tf_keras

        assert context.source is not None  # the cell sees to it
        student = candidate.model
        teacher = tf_keras.models.load_model(context.source.files.checkpoint, compile=False)
        if (teacher.input_shape, teacher.output_shape) != (student.input_shape, student.output_shape):
            raise ValueError(
                f"the teacher {context.source.result.name} takes {teacher.input_shape[1:]} and gives "
                f"{teacher.output_shape[1:]}, the student {student.input_shape[1:]} and {student.output_shape[1:]}: "
                "name a teacher that was trained on this dataset"
            )
        before = student.get_weights()
        context.trainer.fit(_distiller(student, teacher, self.temperature, self.alpha))
        if all(np.array_equal(old, new) for old, new in zip(before, student.get_weights(), strict=True)):
            raise EffectError(f"{student.name} was to be trained and has not changed")
        return replace(candidate, metrics={**candidate.metrics, **_agreement(student, teacher, context)})


def _distiller(student: tf_keras.Model, teacher: tf_keras.Model, temperature: float, alpha: float) -> tf_keras.Model:
    """A model that answers as the student does and whose training step asks the teacher too."""
    import tensorflow as tf
    import tf_keras

    class Distiller(tf_keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name=student.name)
            self.student = student
            self.teacher_loss = tf_keras.metrics.Mean(name="teacher_loss")

        def call(self, images: Any, training: Any = None) -> Any:
            return self.student(images, training=training)

        def train_step(self, data: tuple[Any, Any]) -> dict[str, Any]:
            images, labels = data
            # A closure, not an attribute: the teacher's weights are none of this model's.
            softened = teacher(images, training=False) / temperature
            wanted = tf.nn.softmax(softened)
            with tf.GradientTape() as tape:
                logits = self.student(images, training=True)
                difference = tf.nn.log_softmax(softened) - tf.nn.log_softmax(logits / temperature)
                # Soft gradients shrink with the square of the temperature.
                soft = temperature**2 * tf.reduce_mean(tf.reduce_sum(wanted * difference, axis=-1))
                loss = alpha * soft + (1 - alpha) * self.compiled_loss(labels, logits)
            self.optimizer.minimize(loss, self.student.trainable_variables, tape=tape)
            self.compiled_metrics.update_state(labels, logits)
            self.teacher_loss.update_state(soft)
            return {metric.name: metric.result() for metric in self.metrics}

        def test_step(self, data: Any) -> dict[str, Any]:
            results = super().test_step(data)
            return {name: value for name, value in results.items() if name != self.teacher_loss.name}

    return Distiller()


def _agreement(student: tf_keras.Model, teacher: tf_keras.Model, context: Context) -> Mapping[str, float]:
    """On the validation images: how often the student answers as the teacher does, and the teacher's accuracy."""
    validation = context.trainer.data.validation
    answers = [model.predict(plain_batches(validation), verbose=0).argmax(axis=1) for model in (student, teacher)]
    return {
        "distill/teacher_agreement": float((answers[0] == answers[1]).mean()),
        "distill/teacher_val_accuracy": float((answers[1] == validation.labels).mean()),
    }
