from pathlib import Path

import numpy as np
import pytest

from pipelines.litert.exported_model import ExportedModel, _codes, tensor_dtypes


class TestExportedModel:
    @pytest.mark.slow
    def test_float32_matches_keras(self, made, images, keras_logits):
        exported_model = ExportedModel(made / "float32.tflite")
        assert (exported_model.image_shape, exported_model.classes) == ((8, 8, 3), 10)
        assert exported_model.input_dtype == np.float32
        logits = exported_model.logits(images)
        assert logits.shape == (60, 10) and logits.dtype == np.float32
        np.testing.assert_allclose(logits, keras_logits, atol=1e-4)
        assert (logits.argmax(axis=1) == keras_logits.argmax(axis=1)).all()

    @pytest.mark.parametrize("dtype", ["uint8", "int8"])
    def test_quantized_is_near_keras(self, made, images, keras_logits, dtype):
        exported_model = ExportedModel(made / f"{dtype}.tflite")
        assert exported_model.input_dtype == dtype
        logits = exported_model.logits(images)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, keras_logits, atol=0.03 * np.ptp(keras_logits))

    def test_uint8_and_int8_inputs_are_equivalent(self, made, images):
        one, other = (ExportedModel(made / f"{dtype}.tflite").logits(images) for dtype in ("uint8", "int8"))
        np.testing.assert_allclose(one, other, atol=1e-6)

    def test_threads_do_not_change_the_answer(self, made, images):
        path = made / "float32.tflite"
        assert np.array_equal(ExportedModel(path).logits(images), ExportedModel(path, threads=2).logits(images))

    def test_logits_of_no_image(self, made, images):
        assert ExportedModel(made / "float32.tflite").logits(images[:0]).shape == (0, 10)

    @pytest.mark.parametrize(
        "image",
        [np.zeros((8, 8, 3), np.float32), np.zeros((8, 9, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8)],
    )
    def test_refuses_other_images(self, made, image):
        with pytest.raises(ValueError, match=r"must be uint8 of shape \(8, 8, 3\), got .*: pass raw RGB"):
            ExportedModel(made / "float32.tflite").query(image)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "bad.tflite must be a .tflite file, got no such file"),
            (b"", "bad.tflite must be a TFLite flatbuffer"),
            (b"garbage" * 100, "bad.tflite must be a TFLite flatbuffer"),
        ],
    )
    @pytest.mark.parametrize("load", [ExportedModel, tensor_dtypes])
    def test_refuses_other_files(self, tmp_path, content, message, load):
        path = tmp_path / "bad.tflite"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load(path)

    @pytest.mark.parametrize("name", ["flat", "gray"])
    def test_refuses_models_without_rgb_input(self, made, name):
        with pytest.raises(ValueError, match=rf"{name}.tflite must have one input \(1, h, w, 3\)"):
            ExportedModel(made / f"{name}.tflite")

    def test_tensor_dtypes_show_the_effect_of_quantization(self, made):
        assert set(tensor_dtypes(made / "float32.tflite")) == {"float32", "int32"}
        counts = tensor_dtypes(made / "int8.tflite")
        assert counts["float32"] == 0
        assert counts["int8"] > 0
        assert tensor_dtypes(made / "uint8.tflite")["uint8"] == 2


class TestCodes:
    @pytest.mark.parametrize(
        ("dtype", "scale", "zero_point", "expected"),
        [
            ("int8", 1.0, -128, {0: -128, 100: -28, 255: 127}),
            ("uint8", 0.5, 0, {0: 0, 100: 200, 255: 255}),  # 510 is clipped
            ("uint8", 2.0, 10, {0: 10, 1: 11, 3: 12, 255: 138}),  # halves away from zero
            ("int16", 0.25, 0, {1: 4, 255: 1020}),
        ],
    )
    def test_by_hand(self, dtype, scale, zero_point, expected):
        codes = _codes(Path("x"), np.dtype(dtype), scale, zero_point)
        assert codes is not None and codes.dtype == dtype
        assert {pixel: int(codes[pixel]) for pixel in expected} == expected

    @pytest.mark.parametrize(("dtype", "scale"), [("int8", 0.0), ("float64", 0.0), ("int32", 1.0)])
    def test_refuses_other_inputs(self, dtype, scale):
        with pytest.raises(ValueError, match=r"the input of x.tflite must be float32 or quantized"):
            _codes(Path("x.tflite"), np.dtype(dtype), scale, 0)
