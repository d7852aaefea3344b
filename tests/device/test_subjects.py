import shutil
from pathlib import Path

from pipelines.device.subjects import of_files


class TestSubjects:
    def test_the_first_file_is_the_reference_unless_named(self, made, monkeypatch):
        monkeypatch.chdir(made)
        paths = [Path("int8.tflite"), Path("float32.tflite")]
        assert [(one.label, one.reference) for one in of_files(paths, None)] == [
            ("int8", None),
            ("float32", ("int8", "litert")),
        ]
        assert [one.reference for one in of_files(paths, paths[1])] == [("float32", "litert"), None]
        assert of_files(paths, None)[0].path.is_absolute()

    def test_two_files_of_one_name(self, made, tmp_path):
        other = tmp_path / "b"
        other.mkdir()
        shutil.copy(made / "int8.tflite", other)
        labels = [one.label for one in of_files([made / "int8.tflite", other / "int8.tflite"], None)]
        assert labels == [str(made / "int8").strip("/"), str(other / "int8").strip("/")]
