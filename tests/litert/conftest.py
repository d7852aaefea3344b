import numpy as np
import pytest


@pytest.fixture(scope="session")
def images(made) -> np.ndarray:
    return np.load(made / "keras.npz")["images"]


@pytest.fixture(scope="session")
def keras_logits(made) -> np.ndarray:
    return np.load(made / "keras.npz")["logits"]
