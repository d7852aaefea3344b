import shutil
from pathlib import Path

from pipelines.device.subjects import of_files
from pipelines.system.places import new_folder


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
        assert labels == [str(made / "int8"), str(other / "int8")]

    def test_files_that_a_shorter_name_would_mix_up(self, made, tmp_path, monkeypatch):
        (tmp_path / "b").mkdir()
        for path in (tmp_path / "m.tflite", tmp_path / "b/m.tflite", tmp_path / "b/m.lite"):
            shutil.copy(made / "int8.tflite", path)
        monkeypatch.chdir(tmp_path / "b")
        subjects = of_files([Path("m.tflite"), Path("../m.tflite"), Path("m.lite")], None)
        assert [one.label for one in subjects] == ["m.tflite", "../m", "m.lite"]

    def test_folders_of_a_session_are_distinct(self, tmp_path):
        assert [new_folder(tmp_path, "a-m").name for _ in range(3)] == ["a-m", "a-m-2", "a-m-3"]
