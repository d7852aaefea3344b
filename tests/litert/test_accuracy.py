import numpy as np
import pytest

from pipelines.litert.accuracy import accuracy, confusion_matrix, top_k_accuracy


class TestAccuracy:
    LOGITS = np.array([[3, 1, 2], [0, 5, 1], [1, 2, 9], [4, 3, 0]], np.float32)
    LABELS = np.array([0, 2, 2, 2])

    def test_by_hand(self):
        assert accuracy(self.LOGITS, self.LABELS) == 0.5
        assert [top_k_accuracy(self.LOGITS, self.LABELS, k) for k in (1, 2, 3, 5)] == [0.5, 0.75, 1.0, 1.0]
        matrix = confusion_matrix(self.LOGITS, self.LABELS, 3)
        assert matrix.dtype == np.int64
        assert matrix.tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 1]]

    def test_lower_class_comes_first_in_ties(self):
        logits = np.array([[1, 1, 0], [1, 1, 0]], np.float32)
        labels = np.array([0, 1])
        assert accuracy(logits, labels) == 0.5
        assert top_k_accuracy(logits, labels, 2) == 1.0
        assert confusion_matrix(logits, labels, 3).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("metric", [accuracy, top_k_accuracy, lambda a, b: confusion_matrix(a, b, 3)])
    def test_refuses_logits_that_are_not_finite(self, value, metric):
        logits = self.LOGITS.copy()
        logits[2, 0] = value
        with pytest.raises(ValueError, match="logits must be finite, got 1 of 4 images"):
            metric(logits, self.LABELS)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([0, 1, 2], "pass one label per row"),
            ([0, 1, 2, 3], "labels must be integers from 0 to 2, got int64 from 0 to 3"),
            ([0, 1, 2, -1], "labels must be integers from 0 to 2, got int64 from -1"),
            ([0.0, 1.0, 2.0, 0.0], "labels must be integers from 0 to 2, got float64"),
        ],
    )
    def test_refuses_other_labels(self, labels, message):
        with pytest.raises(ValueError, match=message):
            accuracy(self.LOGITS, np.array(labels))

    def test_refuses_other_sizes(self):
        with pytest.raises(ValueError, match="k must be 1 or more"):
            top_k_accuracy(self.LOGITS, self.LABELS, 0)
        with pytest.raises(ValueError, match="must have 4 columns, got 3"):
            confusion_matrix(self.LOGITS, self.LABELS, 4)
        with pytest.raises(ValueError, match="n of at least 1"):
            accuracy(self.LOGITS[:0], self.LABELS[:0])
