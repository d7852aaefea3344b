import pytest


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("tf_keras")
